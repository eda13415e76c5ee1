"""What holds for one endpoint that draws holds for all: hostile bodies, words, names and clients, and late failures."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.errors import BrokenAnswerError, RefusedError
from tests.canaries import OTHER_KEY
from tests.gateways import Answered, Gateway, start
from tests.painters import HELD, PICTURE, holding, painter
from tests.test_app import raw, statuses

LINK = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
TOOLS = [{"type": "image_generation"}]
PATHS = {
    "chat": "/v1/chat/completions",
    "generations": "/v1/images/generations",
    "edits": "/v1/images/edits",
    "variations": "/v1/images/variations",
    "responses": "/v1/responses",
}
WORDS = {"chat": "messages", "generations": "prompt", "edits": "prompt", "variations": "prompt", "responses": "input"}
"""Under which field each of them has the words."""
NEW = {"model": "held"}


def body_of(name: str, words: object = "a red fox", **more: Any) -> dict[str, Any]:
    """Give the call of an endpoint with these words."""
    own = {
        "chat": {"messages": [{"role": "user", "content": words}]},
        "generations": {"prompt": words},
        "edits": {"prompt": words, "image": LINK},
        "variations": {"prompt": words, "image": LINK},
        "responses": {"input": words, "tools": TOOLS},
    }[name]
    return {**NEW, **own, **more}


@pytest.fixture
async def gateway(aiohttp_server: Any, tmp_path: Path) -> Gateway:
    """A gateway that draws after a moment, and reads bodies neither large nor slow."""
    more = "server: {max_body: 400kB, body_timeout: 300ms, public_url: https://gw.example/x}\n"
    return await start(aiohttp_server, holding(more, options=", delay: 10ms"), tmp_path, types=HELD)


async def call(gateway: Gateway, name: str, words: object = "a red fox", **more: Any) -> Answered:
    return await gateway.post(PATHS[name], body_of(name, words, **more))


async def goes_on(gateway: Gateway, name: str) -> None:
    """Nothing was drawn so far, and a good call works."""
    assert not painter(gateway).requests
    assert (await call(gateway, name)).status == 200


# Bodies -----------------------------------------------------------------------------------------------------------

BROKEN = {
    "nothing": b"",
    "half": b'{"prompt": "x"',
    "byte order mark": b'\xef\xbb\xbf{"prompt":"x"}',
    "utf-16": '{"prompt":"x"}'.encode("utf-16"),
    "latin-1": '{"prompt":"café"}'.encode("latin-1"),
    "two values": b"{}{}",
    "NaN": b'{"prompt":"x","n":NaN}',
    "too large a number": b'{"prompt":"x","n":1e400}',
    "5,000 digits": b'{"prompt":"x","seed":' + b"9" * 5_000 + b"}",
    "lone surrogate": b'{"prompt":"\\ud800","input":"\\ud800"}',
    "1,025 deep": b'{"prompt":' + b"[" * 1_025 + b"]" * 1_025 + b"}",
    "100,000 deep": b'{"prompt":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a list": b"[]",
    "null": b"null",
}


@pytest.mark.parametrize("name", PATHS)
async def test_what_is_no_json_object_is_a_400(gateway: Gateway, name: str) -> None:
    """At once, in OpenAI's form, readable for a page of another origin."""
    for case, body in BROKEN.items():
        began = time.monotonic()
        headers = {"Content-Type": "application/json", "Origin": "https://app.example"}
        answer = await gateway.post(PATHS[name], data=body, headers=headers)

        assert answer.status == 400, (case, answer.text)
        assert answer.error["code"] in {"invalid_json", "invalid_value"}, case
        assert answer.headers["Access-Control-Allow-Origin"], case
        assert time.monotonic() - began < 1, case
    await goes_on(gateway, name)


@pytest.mark.parametrize("name", PATHS)
async def test_the_last_of_repeated_keys_counts(gateway: Gateway, name: str) -> None:
    """The same one on every path: a model that is not there, then one that is; and the other way round."""
    good = json.dumps(body_of(name)).encode()
    headers = {"Content-Type": "application/json"}
    first = await gateway.post(PATHS[name], data=b'{"model":"nobody",' + good[1:], headers=headers)
    last = await gateway.post(PATHS[name], data=good[:-1] + b',"model":"nobody"}', headers=headers)

    assert (first.status, last.status) == (200, 404)
    assert last.error["code"] == "model_not_found"


@pytest.mark.parametrize("name", PATHS)
async def test_the_declared_type_decides(gateway: Gateway, name: str) -> None:
    """What is declared as no JSON, or as JSON in another charset than UTF-8, is refused."""
    good = json.dumps(body_of(name)).encode()
    for kind, status in (
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/jsonp", 415),
        ("multipart/form-data; boundary=x", 400 if name in {"edits", "variations"} else 415),
        ("multipart/form-data", 400 if name in {"edits", "variations"} else 415),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=no-such-charset", 415),
        ("application/json", 200),
    ):
        answer = await gateway.post(PATHS[name], data=good, headers={"Content-Type": kind})

        assert answer.status == status, (kind, answer.text)
        assert status == 200 or answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("name", PATHS)
async def test_the_limit_of_the_body_holds_however_it_comes(gateway: Gateway, name: str) -> None:
    """At the limit it is read, above it refused: plain, in chunks, and unpacked."""

    async def parts() -> Any:
        for _ in range(60):
            yield b"x" * 10_000

    json_type = {"Content-Type": "application/json"}
    packed = {**json_type, "Content-Encoding": "gzip"}
    at = await gateway.post(PATHS[name], data=b"x" * 400_000, headers=json_type)
    above = await gateway.post(PATHS[name], data=b"x" * 400_001, headers=json_type)
    chunked = await gateway.post(PATHS[name], data=parts(), headers=json_type)
    bomb = await gateway.post(PATHS[name], data=gzip.compress(b" " * 50_000_000), headers=packed)
    small = await gateway.post(PATHS[name], data=gzip.compress(json.dumps(body_of(name)).encode()), headers=packed)

    assert [answer.status for answer in (at, above, chunked, bomb)] == [400, 413, 413, 413]
    assert above.error["code"] == "request_too_large"
    assert small.status == 200


def head(gateway: Gateway, name: str, *lines: str, version: str = "1.1", key: str = "") -> str:
    """Write the head of a call by hand."""
    first = f"POST {PATHS[name]} HTTP/{version}\r\nHost: evil.example\r\nAuthorization: Bearer {key or gateway.key}\r\n"
    return first + "Content-Type: application/json\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n"


@pytest.mark.parametrize("name", PATHS)
async def test_a_body_that_stalls_is_a_408(gateway: Gateway, name: str) -> None:
    """Announced and begun, and then nothing: the connection is given back."""
    got = await raw(gateway, head(gateway, name, "Content-Length: 500") + '{"prompt"', seconds=3)

    assert statuses(got) == [408], got
    assert b'"code":"request_timeout"' in got
    assert not painter(gateway).requests


@pytest.mark.parametrize("name", PATHS)
async def test_who_asks_comes_before_the_body(gateway: Gateway, name: str) -> None:
    """A wrong key is a 401 without a byte of the body; an expectation nobody knows is a 417."""
    wrong = await raw(gateway, head(gateway, name, "Expect: 100-continue", "Content-Length: 18", key=OTHER_KEY + "x"))
    odd = await raw(gateway, head(gateway, name, "Expect: foo", "Content-Length: 18"))

    assert (statuses(wrong), statuses(odd)) == ([401], [417])
    assert not painter(gateway).requests


# Words, values and names --------------------------------------------------------------------------------------------

REFUSED = {
    "nothing": "",
    "white space": " \n\t\u3000",
    "zero width": "\u200b\u200d\ufeff",
    "a NUL": "a\0fox",
    "a control character": "a\x08fox",
    "an escape sequence": "a \x1b[31mfox",
    "one too long": "x" * 32_001,
    "a third of a megabyte": "x" * 350_000,
    "a number": 7,
    "true": True,
    "an object": {"text": "x"},
}
DRAWN = {
    "one letter": "x",
    "the longest": "x" * 32_000,
    "combining marks": "e" + "\u0301" * 5_000,
    "written backwards": "\u202egnp.exe",
    "line separators": "a\u2028b\u2029c",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈",
    "markup": "](javascript:alert(1)) <script> {url} %s",
}


@pytest.mark.parametrize("name", PATHS)
async def test_words_that_cannot_be_drawn_are_a_400_that_names_their_field(gateway: Gateway, name: str) -> None:
    """Streamed or not: before any backend, and never within a stream. A variation needs no words."""
    for case, words in REFUSED.items():
        if name == "variations" and case == "nothing":
            continue
        for streamed in (False, True):
            answer = await call(gateway, name, words, stream=streamed)

            assert answer.status == 400, (case, answer.text[:300])
            assert answer.error["param"] == WORDS[name], (case, answer.text)
            assert len(answer.body) < 1_000
    await goes_on(gateway, name)


@pytest.mark.parametrize("name", PATHS)
async def test_all_other_words_are_drawn_as_they_are(gateway: Gateway, name: str) -> None:
    """Of every script and of any form."""
    for case, words in DRAWN.items():
        answer = await call(gateway, name, words)

        assert answer.status == 200, (case, answer.text[:300])
        assert painter(gateway).requests[-1].prompt.split() == words.split(), case


WRONG: list[tuple[str, Any]] = [
    ("n", 0), ("n", -1), ("n", 11), ("n", True), ("n", [1]), ("n", 10**30),
    ("size", "0x0"), ("size", "99999x1"), ("size", "１０２４x1024"), ("size", 7), ("size", {}), ("size", "-1x64"),
    ("size", "1x1"), ("size", "7x7"), ("size", "1024x15"), ("size", "8193x16"),
    ("seed", -2), ("seed", 2**63), ("seed", "x"), ("steps", 0), ("guidance", -1), ("strict", "perhaps"),
    ("stream", "yes"), ("stream", 1), ("model", 5), ("model", ["held"]), ("quality", 5), ("output_compression", 101),
]  # fmt: skip


@pytest.mark.parametrize("name", PATHS)
async def test_wrong_values_are_a_400_that_names_the_field(gateway: Gateway, name: str) -> None:
    """Of the body, and of the image tool. What chat clients send besides breaks no call: `stream` and `model` count."""
    for field, value in WRONG:
        if name == "chat" and field not in {"stream", "model"}:
            continue
        more: dict[str, Any] = {field: value}
        if name == "responses" and field not in {"stream", "model"}:
            more = {"tools": [{"type": "image_generation", **more}]}
        answer = await call(gateway, name, **more)

        assert answer.status == 400, (field, value, answer.text)
        assert answer.error["param"] in {field, "tools"}, (field, value, answer.text)
    await goes_on(gateway, name)


async def test_a_chat_call_tells_what_it_could_not_read(gateway: Gateway) -> None:
    """It is drawn without, and the receipt says so; with ``strict`` it is refused."""
    for field, value in WRONG:
        if field in {"stream", "model", "n", "strict"}:
            continue
        answer = await call(gateway, "chat", **{field: value})
        refused = await call(gateway, "chat", **{field: value, "strict": True})
        dropped = answer.json["gateway"]["receipt"]["dropped"]

        assert answer.status == 200, (field, value, answer.text)
        assert field in {change["name"] for change in dropped}, (field, value, dropped)
        assert refused.status == 400, (field, value)


SIZES = ("64X64", " 64x64", "64x64 ", "64 x 64", "64*64", "64×64", "064x064", "+64x64", "64x64\n", "AUTO", " ", "016:9")


@pytest.mark.parametrize("name", [name for name in PATHS if name != "chat"])
async def test_a_size_is_exact_or_none(gateway: Gateway, name: str) -> None:
    """What is written otherwise than the API has it may be meant otherwise."""
    for size in SIZES:
        sized = {"tools": [{**TOOLS[0], "size": size}]} if name == "responses" else {"size": size}
        answer = await call(gateway, name, **sized)

        assert (answer.status, answer.error["param"]) == (400, "size"), (size, answer.text)
    assert not painter(gateway).requests


async def test_a_size_that_chat_cannot_read_is_told_in_the_receipt(gateway: Gateway) -> None:
    """Chat clients send what they like: the picture comes without."""
    for size in SIZES:
        answer = await call(gateway, "chat", size=size)

        assert answer.status == 200, answer.text
        assert "size" in {change["name"] for change in answer.json["gateway"]["receipt"]["dropped"]}, size


async def test_an_error_names_the_field_as_it_was_sent(gateway: Gateway) -> None:
    """By the other names that the field has for it, in the message too; refused by ``strict`` or at once."""
    for sent, value, own in (
        ("num_inference_steps", -1, "steps"),
        ("num_steps", "many", "steps"),
        ("guidance_scale", "much", "guidance"),
        ("cfg_scale", 1000, "guidance"),
        ("image_size", "big", "size"),
        ("image_size", "100:1", "size"),
        ("image_size", "9999x9999", "size"),
        ("random_seed", "x", "seed"),
        ("safety_identifier", 5, "user"),
        ("safety_identifier", "x" * 501, "user"),
    ):
        answer = await call(gateway, "generations", **{sent: value})
        own_name = await call(gateway, "generations", **{sent: value, own: value})

        assert (answer.status, answer.error["param"]) == (400, sent), answer.text
        assert sent in answer.error["message"]
        assert own_name.error["param"] == own
    strict = await call(gateway, "generations", num_inference_steps=20, strict=True)
    assert (strict.status, strict.error["param"]) == (400, "num_inference_steps")
    assert "num_inference_steps would be dropped" in strict.error["message"]


async def test_a_null_under_our_own_name_hides_no_value(gateway: Gateway) -> None:
    """Null equals absent: the other spelling counts."""
    answer = await call(gateway, "generations", seed=None, random_seed=7)

    assert answer.status == 200, answer.text
    assert painter(gateway).requests[-1].seed == 7


@pytest.mark.parametrize("name", PATHS)
async def test_an_unknown_model_is_a_404_streamed_or_not(gateway: Gateway, name: str) -> None:
    """It is told which there are, and no backend's name."""
    for streamed in (False, True):
        answer = await call(gateway, name, model="nobody", stream=streamed)

        assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
        assert "held" in answer.error["message"]
        assert "painter" not in answer.text
    await goes_on(gateway, name)


@pytest.mark.parametrize("name", [name for name in PATHS if name != "responses"])
async def test_links_begin_with_the_configured_address(gateway: Gateway, name: str) -> None:
    """Whatever host was asked; the place of a job too."""
    form = {} if name == "chat" else {"response_format": "url"}
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher"}
    answer = await gateway.post(PATHS[name], body_of(name, **form), headers=headers)
    later = await gateway.post(PATHS[name], body_of(name), headers={**headers, "Prefer": "respond-async"})

    assert "https://gw.example/x/image/" in answer.text
    assert later.headers["Location"].startswith("https://gw.example/x/v1/jobs/")
    assert "evil.example" not in f"{answer.text}{later.text}{later.headers}"


# Failures once a stream has begun ------------------------------------------------------------------------------------

FAULTS = {
    "the backend's plugin breaks": (RuntimeError("/srv/secret is broken"), "plugin_contract"),
    "the upstream breaks off": (BrokenAnswerError("broke off", code="upstream_bad_response"), "upstream_bad_response"),
    "the upstream refuses": (RefusedError("not this"), "content_policy_violation"),
    "the storage breaks": (None, None),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", PATHS)
async def test_a_late_failure_is_told_in_the_stream_which_ends_well(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, name: str, fault: str
) -> None:
    """An error in OpenAI's form as the last that is said; no second status line, no silence, no made-up success."""
    error, code = FAULTS[fault]
    if error:
        painter(gateway).faults.append(error)
    else:

        async def broken(*_: object) -> None:
            raise OSError("/srv/secret is full")

        (storage,) = gateway.runtime.storages.values()
        monkeypatch.setattr(storage, "put", broken)
    answer = await call(gateway, name, stream=True)
    told = [chunk for chunk in answer.chunks() if chunk != "[DONE]"]

    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert b"HTTP/1." not in answer.body
    assert "secret" not in answer.text
    if error is None and "error" not in told[-1]:
        # A picture that is in the answer itself needs no storage.
        assert name in {"generations", "edits", "variations", "responses"}
        assert "completed" in told[-1]["type"]
        return
    if name == "responses":
        assert told[-1]["type"] == "response.failed"
        assert told[-1]["response"]["status"] == "failed"
        assert told[-1]["response"]["error"]["message"]
        # The codes there are OpenAI's few; the gateway's own stands in its field.
        assert code in {told[-1]["response"]["gateway"]["error"]["code"], None}
    else:
        found = told[-1]["error"]
        assert {"message", "type", "code", "param"} <= set(found)
        assert found["request_id"] == answer.headers["x-request-id"]
        assert code in {found["code"], None}
    assert answer.text.endswith("data: [DONE]\n\n") == (name == "chat")
    assert "chat.completion" not in json.dumps(told[-1])


# Clients of another kind ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", PATHS)
async def test_http_1_0_gets_an_answer_without_chunks_that_the_end_of_the_connection_ends(
    gateway: Gateway, name: str, streamed: bool
) -> None:
    """As old proxies speak it."""
    body = json.dumps(body_of(name, stream=streamed))
    got = await raw(gateway, head(gateway, name, f"Content-Length: {len(body)}", version="1.0") + body, seconds=5)
    top, _, content = got.partition(b"\r\n\r\n")

    assert statuses(got) == [200], got
    assert b"transfer-encoding" not in top.lower()
    if streamed:
        assert b"connection: close" in top.lower()
        assert content.startswith((b"data: {", b"event: "))
        assert content.endswith(b"\n\n")
    else:
        assert json.loads(content)


@pytest.mark.parametrize("name", PATHS)
async def test_what_is_accepted_does_not_decide_what_is_streamed(gateway: Gateway, name: str) -> None:
    """The field ``stream`` alone does, as OpenAI has it."""
    accepts = ["application/json", "text/event-stream", "text/html;q=0.9", "image/png", ""]
    for accept in accepts:
        for streamed in (False, True):
            answer = await gateway.post(PATHS[name], body_of(name, stream=streamed), headers={"Accept": accept})
            kind = "text/event-stream" if streamed else "application/json"

            assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, kind)


@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("name", PATHS)
async def test_any_other_method_is_a_405(gateway: Gateway, name: str, method: str) -> None:
    """With the right one in Allow; HEAD draws nothing."""
    answer = await gateway.ask(method, PATHS[name], json=body_of(name), headers={"Origin": "https://app.example"})

    assert answer.status == 405
    assert "POST" in answer.headers["Allow"].split(", ")
    assert answer.headers["Access-Control-Allow-Origin"]
    assert answer.headers["Vary"] == "Origin"
    assert method == "HEAD" or answer.error["code"] == "method_not_allowed"
    assert not painter(gateway).requests


@pytest.mark.parametrize("name", PATHS)
async def test_a_path_that_is_nearly_right_is_a_404(gateway: Gateway, name: str) -> None:
    """A slash too many, another case, a step further."""
    for path in (f"{PATHS[name]}/", PATHS[name].upper(), f"{PATHS[name]}/x", PATHS[name].replace("/v1", "/v2")):
        answer = await gateway.post(path, body_of(name))

        assert (answer.status, answer.error["code"]) == (404, "path_not_found"), path
    assert not painter(gateway).requests


@pytest.mark.parametrize("name", PATHS)
async def test_every_answer_bears_the_request_s_id_and_no_versions(gateway: Gateway, name: str) -> None:
    """Plain, streamed, refused; a good id of the client's is kept."""
    good, bad = {"X-Request-Id": "abcd-1234"}, {"X-Request-Id": "a b\tc d e f g"}
    answers = [
        await gateway.post(PATHS[name], body_of(name, **more), headers=headers)
        for more in ({}, {"stream": True}, {"model": "nobody"})
        for headers in (good, bad)
    ]

    for kept, made in zip(answers[::2], answers[1::2], strict=True):
        assert kept.headers["x-request-id"] == "abcd-1234"
        assert re.fullmatch(r"req_[0-9a-f]{24}", made.headers["x-request-id"])
        assert kept.headers["Server"] == made.headers["Server"] == "image-gateway"
    assert answers[-1].error["request_id"] == answers[-1].headers["x-request-id"]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", PATHS)
async def test_a_reader_that_leaves_before_the_end_leaves_nothing_behind(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, name: str, streamed: bool
) -> None:
    """What was sent is paid for and finished; nothing is complained of, and no place is kept."""
    painter(gateway).delay = 0
    asking = asyncio.create_task(call(gateway, name, stream=streamed))
    async with asyncio.timeout(5):
        while not painter(gateway).requests:  # noqa: ASYNC110  - the call is on its way through a socket
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await asyncio.sleep(0.05)
    painter(gateway).free.set()
    async with asyncio.timeout(5):
        while gateway.runtime.jobs.counts != {"running": 0, "waiting": 0}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    assert not [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}], caplog.text
    assert len((await gateway.get("/v1/pictures")).json["data"]) == 1


async def test_followers_of_a_job_may_speak_http_1_0(gateway: Gateway) -> None:
    """Its events end with the connection; HEAD of a job has no body."""
    answer = await gateway.post(PATHS["generations"], {**NEW, "prompt": "a fox", "async": True})
    path = f"/v1/jobs/{answer.json['id']}"
    request = f"GET {path}/events HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n\r\n"
    got = await raw(gateway, request, seconds=5)
    asked = await gateway.ask("HEAD", path)
    events = await gateway.ask("HEAD", f"{path}/events")

    assert statuses(got) == [200]
    assert b"transfer-encoding" not in got.lower()
    assert b"event: finished" in got
    assert (asked.status, asked.body, events.status) == (200, b"", 405)


async def test_a_session_of_many_kinds_uses_one_connection(gateway: Gateway) -> None:
    """After each refusal that read the whole body the connection is as good as new."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        for name in PATHS:
            for more, status in (({}, 200), ({"n": 0}, 400), ({"model": "nobody"}, 404)):
                extra = {} if name in {"chat", "responses"} and more == {"n": 0} else more
                headers = {"Authorization": f"Bearer {gateway.key}"}
                async with session.post(
                    gateway.base + PATHS[name], json=body_of(name, **extra), headers=headers
                ) as got:
                    await got.read()
                    assert got.status == (status if extra == more else 200)
