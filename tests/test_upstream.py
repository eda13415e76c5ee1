"""What one upstream call does to keys, money and memory, fault by fault."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.calls import Answer, FormField, Outgoing, one_line
from gateway.errors import (
    AllowanceError,
    BadKeyError,
    BrokenAnswerError,
    BusyUpstreamError,
    GatewayError,
    MisconfiguredError,
    NoAccessError,
    RateLimitedError,
    RefusedError,
    RejectedError,
    UnreachableError,
    UpstreamError,
    UpstreamTimeoutError,
)
from gateway.exchange import Http
from gateway.options import Secret
from gateway.retrying import retry_after, until_reset
from gateway.upstream import Upstream
from gateway.verdict import classify, error_words
from tests.fake_upstream import FakeUpstream

QUICK = Http(connect=2, first_byte=0.3, total=0.5, limit=2**20)
FIRST, SECOND = Secret("sk-canary-first-000000"), Secret("sk-canary-second-11111")


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Counting:
    """A report that counts."""

    def __init__(self) -> None:
        self.sent = 0

    def sending(self) -> None:
        self.sent += 1

    def progress(self, done: float, note: str = "") -> None: ...

    def partial(self, image: Any) -> None: ...

    def used(self, usage: Any) -> None: ...

    def noted(self, note: str) -> None: ...


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Upstream]]:
    """Make upstreams that are closed afterwards."""
    made: list[Upstream] = []

    def one(*keys: Secret, http: Http = QUICK, **options: Any) -> Upstream:
        made.append(Upstream(http, keys, **options))
        return made[-1]

    yield one
    for upstream in made:
        await upstream.close()


def post(fake: FakeUpstream, **more: Any) -> Outgoing:
    return Outgoing("POST", f"{fake.base}/v1/images/generations", **{"json": {"prompt": "a cat"}, **more})


async def test_call_bears_the_key_and_no_surprises(fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """Identity encoding, no cookies, our own name, the JSON as orjson writes it."""
    fake.headers = {"Set-Cookie": "a=1"}
    upstream = make(FIRST)
    fake.mode, fake.error = "body", {}
    await upstream.send(post(fake))
    await upstream.send(post(fake))

    assert fake.last.key == FIRST
    assert fake.last.body == b'{"prompt":"a cat"}'
    assert fake.last.headers["Accept-Encoding"] == "identity"
    assert "Cookie" not in fake.last.headers
    assert "Python" not in fake.last.headers["User-Agent"]


@pytest.mark.parametrize("length", [10, 2**17])
async def test_a_mark_at_the_start_of_an_answer_is_no_part_of_it(
    fake: FakeUpstream, make: Callable[..., Upstream], length: int
) -> None:
    """Some servers begin UTF-8 with one; the picture behind it is paid for all the same."""
    fake.mode, fake.error = "body", b'\xef\xbb\xbf{"data": "' + b"a" * length + b'"}'
    answer = await make(FIRST).send(post(fake))

    assert answer.json() == {"data": "a" * length}


async def test_form_arrives_as_written(fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """Names, file names and bytes survive, hostile ones too, and equal forms are equal byte for byte."""
    form = (
        FormField("prompt", 'ein "Kätzchen"\r\n--x'),
        FormField("image", b"\x89PNG\r\n--\0", 'a"\r\nX-Evil: 1.png', "image/png"),
    )
    outgoing = post(fake, json=None, form=form)
    await make().send(outgoing)

    assert fake.last.fields == {"prompt": 'ein "Kätzchen"\r\n--x'}
    assert [(name, kind, content) for name, _, kind, content in fake.last.files] == [
        ("image", "image/png", b"\x89PNG\r\n--\0")
    ]
    assert fake.last.body == outgoing.body()


async def test_keys_take_turns_over_calls(fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """Round robin, not always the first."""
    upstream = make(FIRST, SECOND)
    for _ in range(4):
        await upstream.send(post(fake))

    assert [call.key for call in fake.calls] == [FIRST, SECOND, FIRST, SECOND]


@pytest.mark.parametrize(("cheap", "used"), [(True, [FIRST, SECOND]), (False, [FIRST])])
async def test_only_cheap_calls_are_made_again_where_the_upstream_failed(
    cheap: bool, used: list[Secret], fake: FakeUpstream, make: Callable[..., Upstream]
) -> None:
    """Another key may reach another machine; what may be billed is not tried twice."""
    fake.mode = "status:500"

    with pytest.raises(BusyUpstreamError, match="500"):
        await make(FIRST, SECOND, cheap=cheap).send(post(fake))
    assert [call.key for call in fake.calls] == used


async def test_all_keys_refused(fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """Each is tried once; afterwards nothing is sent at all."""
    fake.mode = "echo:401"
    upstream = make(FIRST, SECOND)
    with pytest.raises(BadKeyError):
        await upstream.send(post(fake))
    with pytest.raises(BadKeyError) as raised:
        await upstream.send(post(fake))

    assert len(fake.calls) == 2
    assert raised.value.sent is False
    assert upstream.health() == {"keys": 2, "usable": 0, "refused": 2, "resting": 0, "back": 600}


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("0", 1), ("7.5", 7.5), ("date", 60), ("soon", 5), ("", 5), ("-3", 5), ("1e999", 5), ("9999999", 86400)],
)
async def test_rate_limit_rests_the_key(
    header: str, seconds: float, fake: FakeUpstream, make: Callable[..., Upstream]
) -> None:
    """For Retry-After as seconds or date, kept within reason; garbage means a few seconds."""
    clock = Clock()
    fake.mode = f"limited:{header}"
    upstream = make(FIRST, clock=clock)
    with pytest.raises(RateLimitedError) as raised:
        await upstream.send(post(fake))

    assert raised.value.retry_after == pytest.approx(seconds, abs=2)
    fake.mode = "ok"
    with pytest.raises(RateLimitedError) as raised:
        await upstream.send(post(fake))
    assert (len(fake.calls), raised.value.sent) == (1, False)
    clock.now += seconds + 2
    assert (await upstream.send(post(fake))).status == 200


async def test_soonest_key_decides_when_to_come_back(fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """With all keys resting the caller is told the shortest wait, not the last one."""
    fake.keys = {FIRST: "limited:9", SECOND: "limited:600"}
    with pytest.raises(RateLimitedError) as raised:
        await make(FIRST, SECOND, clock=Clock()).send(post(fake))

    assert raised.value.retry_after == pytest.approx(9)


async def test_limited_key_beside_a_refused_one(fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """The caller hears of the key that comes back, whichever was tried last."""
    fake.keys = {FIRST: "limited:9", SECOND: "echo:401"}
    with pytest.raises(RateLimitedError) as raised:
        await make(FIRST, SECOND, clock=Clock()).send(post(fake))

    assert raised.value.retry_after == pytest.approx(9)


@pytest.mark.parametrize("order", [(FIRST, SECOND), (SECOND, FIRST)])
async def test_limited_key_beside_one_that_may_not_use_the_model(
    order: tuple[Secret, Secret], fake: FakeUpstream, make: Callable[..., Upstream]
) -> None:
    """The caller hears of the key that comes back, also from the calls meanwhile; what is barred never comes back."""
    fake.keys = {FIRST: "limited:9", SECOND: "status:403"}
    fake.error = {"error": {"message": "no", "code": "model_not_found"}}
    upstream = make(*order, clock=Clock())
    for _ in range(3):
        with pytest.raises(RateLimitedError) as raised:
            await upstream.send(post(fake))
        assert raised.value.retry_after == pytest.approx(9)

    fake.keys = {FIRST: "status:403", SECOND: "status:403"}
    with pytest.raises(NoAccessError) as barred:
        await make(*order).send(post(fake))
    assert barred.value.retry_after is None


async def test_used_up_allowance_rests_the_key_for_long(fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """Trying again in a second is pointless."""
    clock = Clock()
    fake.keys = {FIRST: "status:402"}
    upstream = make(FIRST, SECOND, clock=clock)
    await upstream.send(post(fake))
    clock.now += 3599
    await upstream.send(post(fake))

    assert [call.key for call in fake.calls] == [FIRST, SECOND, SECOND]
    assert upstream.health()["resting"] == 1


async def test_account_of_several_keys_rests_whole(fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """Where keys share the allowance the second is not even tried."""
    fake.mode = "status:402"
    with pytest.raises(AllowanceError):
        await make(FIRST, SECOND, one_account=True).send(post(fake))

    assert len(fake.calls) == 1


async def test_canary_never_shows(
    fake: FakeUpstream, make: Callable[..., Upstream], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither errors nor logs hold a key, even when the upstream says it aloud."""
    caplog.set_level("DEBUG")
    seen = ""
    for mode in ("echo:401", "echo:400", "echo:500", "reset", "html"):
        fake.mode = mode
        upstream = make(FIRST, private={"X-Extra": "Bearer canary-private"})
        try:
            answer = await upstream.send(post(fake))
            answer.json()
        except GatewayError as error:
            seen += f"{error} {error!r} {error.as_json()}"

    assert "canary" not in seen + caplog.text
    assert fake.last.headers["X-Extra"] == "Bearer canary-private"


@pytest.mark.parametrize("mode", ["hang", "hang_in_body", "drip"])
async def test_deadlines_hold(mode: str, fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """A silent upstream, one that stops in the middle, one that drips: each is left at the deadline, once."""
    fake.mode = mode
    report = Counting()
    started = time.monotonic()
    with pytest.raises(UpstreamTimeoutError) as raised:
        await make(http=Http(connect=0.1, first_byte=0.1, total=0.3)).send(post(fake), report)

    assert time.monotonic() - started < 1
    assert (len(fake.calls), report.sent) == (1, 1)
    assert (raised.value.sent, raised.value.billed, raised.value.retryable) == (True, None, False)


@pytest.mark.parametrize(("report", "told"), [(Counting(), True), (None, False)])
async def test_a_bill_is_spoken_of_where_there_may_be_one(
    report: Counting | None, told: bool, fake: FakeUpstream, make: Callable[..., Upstream]
) -> None:
    """A storage or a moderation that does not answer has nothing to do with paid pictures."""
    for mode in ("hang", "reset"):
        fake.mode = mode
        with pytest.raises(UpstreamError) as raised:
            await make(http=Http(connect=0.1, first_byte=0.1, total=0.3)).send(post(fake), report)

        assert ("billed" in raised.value.message) is told


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://nobody.invalid/", "host name"),
        ("http://127.0.0.1:1/", "no connection"),
        ("http://", "URL"),
    ],
)
async def test_unreachable(url: str, words: str, make: Callable[..., Upstream]) -> None:
    """What was never sent may be tried elsewhere; nobody is told addresses."""
    report = Counting()
    with pytest.raises(UnreachableError) as raised:
        await make(FIRST).send(Outgoing("POST", url, json={}), report)

    assert words in raised.value.message
    assert "127.0.0.1" not in raised.value.message
    assert (raised.value.sent, raised.value.billed, report.sent) == (False, False, 0)


async def test_tls_where_there_is_none(fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """A failed handshake sent nothing."""
    with pytest.raises(UnreachableError):
        await make().send(Outgoing("POST", fake.base.replace("http:", "https:"), json={}))

    assert not fake.calls


@pytest.mark.parametrize("mode", ["big", "endless", "endless:junk", "bomb"])
async def test_too_much_is_cut(mode: str, fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """100 MB, endless, or packed tight: reading stops at the limit, and memory stays."""
    fake.mode = mode
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BrokenAnswerError):
        await make(http=Http(connect=1, first_byte=2, total=5)).send(post(fake))

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 1024
    assert fake.sent < 30 * 2**20


async def test_gzip_that_nobody_asked_for_is_read(fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """Some proxies pack whatever passes."""
    fake.mode = "gzip"

    assert (await make().send(post(fake))).json()["data"]


async def test_redirect_is_not_followed(fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """A key must not wander to where an answer points."""
    fake.mode = f"redirect:{fake.base}/elsewhere"
    with pytest.raises(BrokenAnswerError) as raised:
        await make(FIRST).send(post(fake))

    assert len(fake.calls) == 1
    assert fake.base not in raised.value.message


@pytest.mark.parametrize("mode", ["headers:many", "headers:long", "headers:torn"])
async def test_absurd_headers(mode: str, fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """What is not HTTP is a broken answer, and nothing of it is reflected."""
    fake.mode = mode
    with pytest.raises(BrokenAnswerError) as raised:
        await make().send(post(fake))

    assert "canary" not in raised.value.message
    assert len(raised.value.message) < 200


async def test_pieces_are_watched_as_they_come(fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """A stream is seen while it arrives; an error body is not."""
    seen: list[bytes] = []
    answer = await make().send(post(fake), watch=seen.append)

    assert b"".join(seen) == answer.body
    fake.mode = "status:500"
    seen.clear()
    with pytest.raises(BusyUpstreamError):
        await make().send(post(fake), watch=seen.append)
    assert not seen


async def test_follow_up_bears_the_key_of_its_job(fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """Another account does not know the job."""
    upstream = make(FIRST, SECOND)
    answer = await upstream.send(post(fake))
    for _ in range(3):
        await upstream.send(post(fake), after=answer)

    assert [call.key for call in fake.calls] == [FIRST] * 4


@pytest.mark.parametrize("value", ["tok-123456789 ", "Bearer tok-123456789", " tok-123456789"])
async def test_a_header_with_white_space_hides_itself_and_nothing_else(
    value: str, fake: FakeUpstream, make: Callable[..., Upstream]
) -> None:
    """Variables often end with it; an empty text would stand between all letters of an error."""
    fake.mode, fake.error = "status:400", {"error": {"message": "bad token tok-123456789 in v1"}}
    upstream = make(
        private={"X-Token": value.strip(), "X-Version": "1"} if "\n" in value else {"X-Token": value, "V": "1"}
    )
    with pytest.raises(RejectedError, match=r"^rejected the request \(HTTP 400: bad token \S+ in v1\)$") as raised:
        await upstream.send(post(fake))

    assert "123456789" not in raised.value.message


@pytest.mark.parametrize("key", ["a\nb", "a\rb", "schlüssel", "a\0"])
def test_key_that_cannot_be_sent_is_refused_at_start(key: str) -> None:
    """Else the first paying customer would find it."""
    with pytest.raises(ValueError, match="key") as raised:
        Upstream(Http(), [Secret(key)])

    assert key not in str(raised.value)


def says(status: int, body: bytes = b"", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"Content-Type": "application/json", **named}, body)


OPENAI = b'{"error":{"message":"%s","type":"%s","code":"%s"}}'


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (says(200, b"{}"), None),
        (says(204), None),
        (says(302), BrokenAnswerError),
        (says(400), RejectedError),
        (says(400, OPENAI % (b"no", b"invalid_request_error", b"unknown_parameter")), RejectedError),
        (says(400, OPENAI % (b"no", b"image_generation_user_error", b"moderation_blocked")), RefusedError),
        (says(400, OPENAI % (b"no", b"invalid_request_error", b"content_policy_violation")), RefusedError),
        (says(400, OPENAI % (b"rejected by our safety system", b"x", b"y")), RefusedError),
        (says(400, OPENAI % (b"limit", b"x", b"billing_hard_limit_reached")), AllowanceError),
        (
            says(400, b'{"error":{"code":"contentFilter","message":"no","inner_error":{"code":"x"}}}'),
            RefusedError,
        ),
        (
            says(400, b'{"error":{"code":"x","message":"no","inner_error":{"code":"ResponsibleAIPolicyViolation"}}}'),
            RefusedError,
        ),
        (says(401), BadKeyError),
        (says(401, b'"Invalid token"'), BadKeyError),
        (says(402), AllowanceError),
        (says(403), BadKeyError),
        (says(403, b'{"detail":"User is locked. Reason: Exhausted balance."}'), AllowanceError),
        (says(403, b'{"error":{"code":403,"message":"requires moderation","metadata":{}}}'), RefusedError),
        (says(403, b'{"code":"x","error":"Content violates usage guidelines. Team: t"}'), RefusedError),
        (says(403, b'{"error":"Failed check: SAFETY_CHECK_TYPE_CSAM"}'), RefusedError),
        (says(403, b'{"error":{"code":403,"message":"no","metadata":{"flagged_input":"x"}}}'), RefusedError),
        (says(403, b'{"error":{"code":403,"message":"no","metadata":{"provider_name":"x"}}}'), BadKeyError),
        (says(403, b"<!DOCTYPE html><title>Attention Required!</title>"), MisconfiguredError),
        (says(403, b"error code: 1020\n"), MisconfiguredError),
        (says(403, b"error code: 1020 for this key"), BadKeyError),
        (
            says(403, b'{"error":"Your team has either used all available credits or reached its limit"}'),
            AllowanceError,
        ),
        (says(403, b'{"detail":"Not enough credits"}'), AllowanceError),
        (says(401, b"<html>no</html>"), BadKeyError),
        (says(400, b'{"code":"x","error":"Incorrect API key provided: xx"}'), BadKeyError),
        (says(400, OPENAI % (b"no", b"x", b"invalid_api_key")), BadKeyError),
        (says(404), MisconfiguredError),
        (says(405), MisconfiguredError),
        (says(408), BusyUpstreamError),
        (says(409), BusyUpstreamError),
        (says(413), RejectedError),
        (says(418), RejectedError),
        (says(422, b'{"detail":[{"loc":["body"],"msg":"bad size","type":"value_error"}]}'), RejectedError),
        (says(422, b'{"detail":[{"msg":"no","type":"content_policy_violation"}]}'), RefusedError),
        (says(422, b'{"error":{"message":"NSFW content detected"}}'), RefusedError),
        (says(425), BusyUpstreamError),
        (says(429), RateLimitedError),
        (says(429, OPENAI % (b"no", b"insufficient_quota", b"insufficient_quota")), AllowanceError),
        (says(451), RefusedError),
        (says(500), BusyUpstreamError),
        (says(503), BusyUpstreamError),
        (says(504), UpstreamTimeoutError),
        (says(524, b"<html>524: A timeout occurred</html>"), UpstreamTimeoutError),
        (says(529), BusyUpstreamError),
        (says(599), BusyUpstreamError),
    ],
)
def test_status_and_words_make_the_class(answer: Answer, kind: type[GatewayError] | None) -> None:
    """The table of error classes, row by row."""
    assert type(classify(answer)) is (kind or type(None))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error":{"message":"it broke"}}', "it broke"),
        (b'{"error":"it broke"}', "it broke"),
        (b'{"errors":[{"code":5006,"message":"AiError: bad"}],"success":false}', "AiError: bad"),
        (b'{"detail":"it broke"}', "it broke"),
        (b'{"detail":{"error":"it broke"}}', "it broke"),
        (b'{"detail":[{"loc":["body"],"msg":"bad size"}]}', "bad size"),
        (b'{"code":"x","error":"it broke"}', "it broke"),
        (b'{"code":20012,"message":"it broke","data":null}', "it broke"),
        (b'{"title":"Payment","detail":"it broke","status":402}', "it broke"),
        (b'"Invalid token"', "Invalid token"),
        (b"", ""),
        (b"<!DOCTYPE html><script>x</script>", "an HTML page"),
        (b"{broken", ""),
        (b'{"error":{"message":"a\\nb\\u0000c\\u202ed"}}', "a b c d"),
        (b'{"error":{"message":"key sk-abc123def456 is bad"}}', "key … is bad"),
        (b'{"error":{"message":"Authorization: Bearer abc.def was wrong"}}', "Authorization: … was wrong"),
        (b'{"error":17}', ""),
        (b"[[[[[[[[[1]]]]]]]]]", ""),
    ],
)
def test_words_of_the_upstream_are_found(body: bytes, words: str) -> None:
    """Wherever an API puts them: one line, no control characters, no secrets, no page."""
    assert error_words(says(400, body)) == words


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "an empty body"),
        (b" <HTML>", "an HTML page"),
        (b"[1,2]", "a JSON list"),
        (b' {"a": 1}', "a JSON object"),
        (b'{"a": 1', "broken or cut JSON (7 bytes)"),
        (b"[1,2,", "broken or cut JSON (5 bytes)"),
        (b"fine", "4 bytes of text/plain"),
    ],
)
def test_a_body_is_called_what_it_is(body: bytes, kind: str) -> None:
    """JSON of an unexpected form is not called broken."""
    assert Answer(200, {"Content-Type": "text/plain; charset=utf-8"}, body).kind() == kind


def test_long_words_are_cut() -> None:
    """A megabyte of complaint is a line."""
    assert len(error_words(says(400, b'{"error":"' + b"very long " * 100_000 + b'"}'))) == 300


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-reset-requests": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-reset-requests": "20ms"}, 1),
        ({"x-ratelimit-reset": "17"}, 17),
        ({"X-RateLimit-Reset": "1700000042"}, 42),
        ({"X-RateLimit-Reset": "1700000042000"}, 42),
        ({"x-ratelimit-reset": "1600000000"}, 1),
        ({"x-ratelimit-reset": "soon"}, None),
        ({"x-ratelimit-reset": ""}, None),
        ({"x-ratelimit-reset": "nan"}, None),
        ({"x-ratelimit-reset": "9" * 400}, None),
        ({"x-ratelimit-reset": "2026-11-28T10:00:00Z", "x-ratelimit-reset-b": "3s"}, 3),
        ({"x-ratelimit-reset-a": "9s", "x-ratelimit-remaining-a": "0", "x-ratelimit-reset-b": "3s"}, 9),
        ({"x-ratelimit-reset-a": "9s", "x-ratelimit-remaining-a": "4", "x-ratelimit-reset-b": "3s"}, 3),
        ({"x-ratelimit-reset-a": "9s", "x-ratelimit-remaining-a": "4"}, None),
    ],
)
def test_the_end_of_a_limit_is_a_time_to_come_back(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, a span, or a moment; only what is used up counts."""
    assert until_reset(Answer(429, headers), now=1_700_000_000) == seconds


@pytest.mark.parametrize(
    ("status", "told", "seconds"), [(429, "4", 4), (429, "soon", 9), (429, "", 9), (402, "", None), (503, "", None)]
)
def test_retry_after_says_it_best(status: int, told: str, seconds: float | None) -> None:
    """The end of a limit is neither that of an allowance nor that of an outage."""
    error = classify(Answer(status, {"x-ratelimit-reset": "9", "Retry-After": told}))

    assert error is not None
    assert error.retry_after == seconds


@pytest.mark.parametrize("mode", ["cut", "endless", "silent", "drip"])
async def test_an_error_whose_body_fails_is_still_that_error(mode: str, aiohttp_server: Any) -> None:
    """The status says that nothing was drawn, and whose turn is next."""

    async def fail(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=429, headers={"Content-Type": "text/html", "Retry-After": "7"})
        await response.prepare(request)
        await response.write(b"<html>" + b"x" * (100_000 if mode == "endless" else 10))
        assert request.transport is not None
        if mode == "cut":
            request.transport.abort()
        with suppress(ConnectionError):
            for _ in range({"silent": 1, "drip": 20}.get(mode, 0)):
                await asyncio.sleep(2 if mode == "silent" else 0.1)
                await response.write(b"x")
        return response

    app = web.Application()
    app.router.add_post("/", fail)
    server = await aiohttp_server(app)
    upstream = Upstream(QUICK)
    try:
        with pytest.raises(RateLimitedError) as raised:
            await upstream.send(Outgoing("POST", str(server.make_url("/"))), Counting())
    finally:
        await upstream.close()

    assert (raised.value.retry_after, raised.value.billed) == (7, False)
    assert "an HTML page" in raised.value.message


def test_dates_in_the_past_mean_now() -> None:
    """A clock that is behind must not make a wait of minus an hour."""
    answer = says(429, Retry_After=formatdate(1_000_000, usegmt=True))

    assert retry_after(answer, now=1_003_600) == 1
    assert retry_after(says(429, retry_after_ms="1500")) == 1.5


def test_own_secrets_are_masked_wherever_they_stand() -> None:
    """Even short ones that look like words."""
    assert one_line("the key hunter2 is wrong", ["hunter2"]) == "the key … is wrong"


async def test_a_handshake_follows_no_redirect(fake: FakeUpstream):
    """A websocket is opened where the configuration says, or not at all."""
    upstream = Upstream(QUICK, [FIRST])
    fake.mode = f"redirect:{fake.base}/trap"
    await upstream.open()
    with pytest.raises(aiohttp.ClientError, match="not followed"):
        await upstream.session.ws_connect(f"{fake.base}/ws", headers={"Authorization": f"Bearer {FIRST}"})
    await upstream.close()

    assert [call.path for call in fake.calls] == ["/ws"]


async def test_a_key_in_the_words_of_an_answer_is_taken_out(fake: FakeUpstream):
    """Notes, states and revised prompts pass through many hands; the key is gone before the first."""
    upstream = Upstream(QUICK, [FIRST, Secret("1")], classify=lambda answer: None)
    fake.mode = "echo:211"
    answer = await upstream.send(Outgoing("GET", f"{fake.base}/v1/1"))
    await upstream.close()

    assert answer.status == 211
    assert answer.json()["error"]["message"] == "Incorrect API key provided: ***"


async def test_bytes_that_are_no_text_are_kept_as_they_are(fake: FakeUpstream, make: Callable[..., Upstream]) -> None:
    """A storage's answer may begin with what would be white space in JSON."""
    fake.mode, fake.picture = "type:application/octet-stream", b"\n \t raw"
    answer = await make().send(Outgoing("GET", f"{fake.base}/files/x"))

    assert answer.body == b"\n \t raw"
