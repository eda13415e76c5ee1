"""Every HTTP backend through the same tests; a new one is one more param."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from gateway_plugins.backends.chat_images import ChatImages
from gateway_plugins.backends.cloudflare import Cloudflare
from gateway_plugins.backends.openai_images import OpenAIImages

from gateway import (
    AllowanceError,
    BadKeyError,
    BrokenAnswerError,
    BusyUpstreamError,
    GatewayError,
    Http,
    Image,
    Keys,
    RateLimitedError,
    RefusedError,
    Secret,
    UnreachableError,
    UpstreamError,
    UpstreamTimeoutError,
)
from tests.fake_upstream import FakeUpstream
from tests.plugins.backends.contract import CANARY, Remembered, asking

QUICK = Http(connect=2, first_byte=0.2, total=0.4, limit=2**20)
KEYS: Keys = (CANARY, Secret("sk-second-0123456789abcdef"))


@dataclass
class Case:
    """How to make a backend that speaks to the fake, a model of it, and whether the fake draws by default."""

    make: Callable[..., Any]
    model: str
    words: str | None = None


def _cloudflare(base: str, **options: Any) -> Any:
    return Cloudflare(account_id="acc", base_url=f"{base}/client/v4", **options)


def _dialect(name: str) -> Callable[..., Any]:
    return lambda base, **options: OpenAIImages(dialect=name, base_url=f"{base}/v1", **options)  # type: ignore[arg-type]  # a name of the table


PNG_LINK = "![image](https://cdn.example/cat.png)"
CASES = {
    "cloudflare": Case(_cloudflare, "@cf/black-forest-labs/flux-1-schnell"),
    "cloudflare-bytes": Case(_cloudflare, "@cf/leonardo/phoenix-1.0"),
    "cloudflare-form": Case(_cloudflare, "@cf/black-forest-labs/flux-2-klein-4b"),
    "openai": Case(_dialect("openai"), "gpt-image-2"),
    "siliconflow": Case(_dialect("siliconflow"), "black-forest-labs/FLUX.1-schnell"),
    "together": Case(_dialect("together"), "black-forest-labs/FLUX.1-schnell"),
    "fireworks": Case(_dialect("fireworks"), "flux-1-schnell-fp8"),
    "xai": Case(_dialect("xai"), "grok-2-image"),
    "chat": Case(lambda base, **o: ChatImages(base_url=f"{base}/v1", **o), "gemini-image", words=PNG_LINK),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest, fake: FakeUpstream) -> Case:
    """One backend after the other."""
    chosen: Case = request.param
    if chosen.words:
        fake.words = chosen.words
    return chosen


@pytest.fixture
async def backend(case: Case, fake: FakeUpstream) -> AsyncIterator[Any]:
    """The backend of the case, open."""
    async with case.make(fake.base, keys=KEYS, http=QUICK) as made:
        yield made


async def test_makes_the_number_of_pictures_asked(backend: Any, case: Case, fake: FakeUpstream) -> None:
    """A healthy upstream gives as many pictures as the capabilities say that one call can have."""
    count = min(2, backend.capabilities(case.model).count)
    images = await backend.generate(asking(case.model, n=count), Remembered())

    assert len(images) == count
    assert all(isinstance(image, Image) and (image.data or image.url) for image in images)
    assert len(fake.paid()) == 1


async def test_reports_that_it_sends_before_bytes_go_out(backend: Any, case: Case) -> None:
    """Whoever cancels must know whether the call is paid."""
    report = Remembered()
    await backend.generate(asking(case.model), report)

    assert report.sent == 1


async def test_what_explain_shows_is_what_is_sent(backend: Any, case: Case, fake: FakeUpstream) -> None:
    """The body is the same byte for byte, and the URL too."""
    request = asking(case.model, prompt='a "cat" 猫\n& more')
    outgoing = backend.outgoing(request)
    await backend.generate(request, Remembered())

    assert fake.last.body == outgoing.body()
    assert outgoing.url.startswith(fake.base + fake.last.path)
    assert CANARY not in repr(outgoing)


FAULTS: dict[str, type[GatewayError]] = {
    "status:400": UpstreamError,
    "status:404": UpstreamError,
    "status:402": AllowanceError,
    "status:413": UpstreamError,
    "status:422": UpstreamError,
    "status:500": BusyUpstreamError,
    "status:503": BusyUpstreamError,
    "status:529": BusyUpstreamError,
    "echo:401": BadKeyError,
    "echo:403": BadKeyError,
    "echo:400": UpstreamError,
    "echo:500": BusyUpstreamError,
    "limited:7": RateLimitedError,
    "limited:": RateLimitedError,
    "limited:soon": RateLimitedError,
    "refuse": RefusedError,
    "html": BrokenAnswerError,
    "html:502": BusyUpstreamError,
    "reset": BrokenAnswerError,
    "reset:0": BrokenAnswerError,
    "reset:100": BrokenAnswerError,
    "hang": UpstreamTimeoutError,
    "hang_in_body": UpstreamTimeoutError,
    "drip": UpstreamTimeoutError,
    "big": BrokenAnswerError,
    "endless": BrokenAnswerError,
    "endless:junk": BrokenAnswerError,
    "bomb": BrokenAnswerError,
    "redirect": BrokenAnswerError,
    "headers:many": BrokenAnswerError,
    "headers:long": BrokenAnswerError,
    "headers:torn": BrokenAnswerError,
}
ONCE_PER_KEY = (BadKeyError, RateLimitedError, AllowanceError)


@pytest.mark.parametrize("mode", FAULTS)
async def test_fault_becomes_its_error(mode: str, backend: Any, case: Case, fake: FakeUpstream) -> None:
    """Each fault has its class, costs no more calls than the rules allow, and shows no key and no foreign page."""
    fake.mode = mode
    with pytest.raises(GatewayError) as raised:
        await backend.generate(asking(case.model), Remembered())
    error = raised.value

    assert isinstance(error, FAULTS[mode])
    assert len(fake.paid()) <= (len(KEYS) if isinstance(error, ONCE_PER_KEY) else 1)
    for secret in (*KEYS, "canary", "script", "169.254"):
        assert secret not in str(error)
        assert secret not in repr(error)


@pytest.mark.parametrize("mode", ["hang", "drip", "reset", "reset:100"])
async def test_after_sending_nothing_is_repeated(mode: str, backend: Any, case: Case, fake: FakeUpstream) -> None:
    """A call that may be billed is neither retried nor offered to another key."""
    fake.mode = mode
    with pytest.raises(UpstreamError) as raised:
        await backend.generate(asking(case.model), Remembered())

    assert len(fake.paid()) == 1
    assert (raised.value.sent, raised.value.billed, raised.value.retryable) == (True, None, False)
    assert backend.health() == {"keys": 2, "usable": 2, "refused": 0, "resting": 0}


@pytest.mark.parametrize("mode", ["status:400", "refuse", "status:500"])
async def test_faults_of_the_call_burn_no_key(mode: str, backend: Any, case: Case, fake: FakeUpstream) -> None:
    """Bad input, refusals and server errors say nothing about the key: one call, both keys stay."""
    fake.mode = mode
    with pytest.raises(GatewayError):
        await backend.generate(asking(case.model), Remembered())

    assert len(fake.paid()) == 1
    assert backend.health()["usable"] == 2


async def test_nothing_listens(case: Case, unused_tcp_port: int) -> None:
    """A refused connection was not sent, so that another target may be tried."""
    report = Remembered()
    async with case.make(f"http://127.0.0.1:{unused_tcp_port}", keys=KEYS, http=QUICK) as backend:
        with pytest.raises(UnreachableError) as raised:
            await backend.generate(asking(case.model), report)

    assert (raised.value.sent, raised.value.billed, raised.value.retryable) == (False, False, True)
    assert report.sent == 0


@pytest.mark.parametrize("mode", ["echo:401", "limited:7"])
async def test_second_key_takes_over(mode: str, backend: Any, case: Case, fake: FakeUpstream) -> None:
    """A refused or limited key is left out, and the next one draws."""
    fake.keys[CANARY] = mode
    images = await backend.generate(asking(case.model), Remembered())
    await backend.generate(asking(case.model), Remembered())

    assert images
    assert [call.key for call in fake.paid()] == [KEYS[0], KEYS[1], KEYS[1]]
    assert backend.health()["usable"] == 1


GARBAGE: list[bytes] = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"[1, 2]",
    b'"text"',
    b"true",
    b"17",
    b"NaN",
    b'{"result": NaN}',
    b'{"result": null}',
    b'{"result": []}',
    b'{"result": {"image": null}, "success": true}',
    b'{"result": {"image": 17}, "success": true}',
    b'{"result": {"image": ""}, "success": true}',
    b'{"result": {"image": "====" }, "success": true}',
    b'{"result": {"image": "not base64!" }, "success": true}',
    b'{"result": {"image": {"b64": "AAAA"}}, "success": true}',
    b'{"data": null}',
    b'{"data": {}}',
    b'{"data": []}',
    b'{"data": [null]}',
    b'{"data": [[]]}',
    b'{"data": [{"b64_json": null}]}',
    b'{"data": [{"b64_json": 17, "url": 18}]}',
    b'{"data": [{"b64_json": ""}]}',
    b'{"data": [{"b64_json": "A"}]}',
    b'{"data": [{"b64_json": "AA-*"}]}',
    b'{"data": [{"url": ["https://x"]}]}',
    b'{"images": null}',
    b'{"images": [{"url": null}]}',
    b'{"images": [{"url": {}}]}',
    b'{"images": {"url": "https://x"}}',
    b'{"choices": null}',
    b'{"choices": []}',
    b'{"choices": [null]}',
    b'{"choices": [{"message": null}]}',
    b'{"choices": [{"message": {"content": null}}]}',
    b'{"choices": [{"message": {"content": 17}}]}',
    b'{"choices": [{"message": {"content": ""}}]}',
    b'{"choices": [{"message": {"images": [{"image_url": null}]}}]}',
    b'{"choices": [{"message": {"images": [{"image_url": {"url": "data:image/png;base64,!!"}}]}}]}',
    b"[" * 100 + b"]" * 100,
    b"[" * 100_000,
    b'{"a":' * 2000 + b"1" + b"}" * 2000,
    b"\xef\xbb\xbf{}",
    '{"data": []}'.encode("utf-16"),
    b"\xff\xfe\x00",
    b'{"data": [{"b64_json": "AAAA"',
    b'{"success": true,',
    b"{'data': []}",
    b"data: [DONE]",
    b"event: ping\n\n",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"%PDF-1.7",
    b"PK\x03\x04",
    b"OK",
    b"Internal Server Error",
    b"\0" * 1000,
    b"9" * 10_000,
    b'{"n": ' + b"9" * 5000 + b"}",
    b'{"error": "it broke"}',
    b'{"error": {"message": "it broke"}}',
]


async def test_garbage_with_200_is_a_broken_answer(backend: Any, case: Case, fake: FakeUpstream) -> None:
    """A 200 is not success: what holds no picture is told in a short line and paid for once at most."""
    fake.mode = "body"
    for garbage in GARBAGE:
        fake.error = garbage
        fake.calls.clear()
        with pytest.raises((BrokenAnswerError, RefusedError, BusyUpstreamError)) as raised:
            await backend.generate(asking(case.model), Remembered())

        assert len(fake.paid()) == 1, garbage[:60]
        assert len(str(raised.value)) < 400


async def test_json_sent_as_plain_text_is_read(backend: Any, case: Case, fake: FakeUpstream) -> None:
    """The declared type is a claim that proves nothing."""
    fake.mode = "text"

    assert await backend.generate(asking(case.model), Remembered())


async def test_connection_closed_between_calls_does_no_harm(backend: Any, case: Case, fake: FakeUpstream) -> None:
    """An upstream that closes after each answer gets each call exactly once."""
    fake.mode = "closing"
    for _ in range(3):
        await backend.generate(asking(case.model), Remembered())

    assert len(fake.paid()) == 3


async def test_options_can_be_written_as_yaml(case: Case, fake: FakeUpstream) -> None:
    """Every field has a type that the configuration can check."""
    from pydantic import TypeAdapter

    made = case.make(fake.base, keys=KEYS)

    assert TypeAdapter(type(made)).json_schema()
    assert CANARY not in repr(made)
    assert orjson.dumps(made.health())
