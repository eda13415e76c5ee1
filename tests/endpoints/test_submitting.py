"""One call is paid once, however often it is sent; and it is kept alive while it takes long."""

from __future__ import annotations

import asyncio
import base64
import gc
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict

from gateway.asking import Telling
from gateway.errors import (
    BusyUpstreamError,
    ConfigError,
    RateLimitedError,
    RejectedError,
    UnreachableError,
    UpstreamTimeoutError,
)
from gateway.job import Job
from gateway.values import Caller, ImageRequest
from tests.canaries import UPSTREAM_KEY
from tests.fake_upstream import FakeUpstream
from tests.gateways import CALLER_KEY, Gateway, drawing_by, start
from tests.painters import DRAW, HELD, PICTURE, finished, holding, later, other, painter, until

LATER = {"Prefer": "respond-async"}


@pytest.fixture
async def held(aiohttp_server: Any, tmp_path: Path) -> Gateway:
    """A gateway whose backend waits for the test."""
    return await start(aiohttp_server, holding(), tmp_path, types=HELD)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/images/generations", DRAW),
        ("/v1/images/generations", {**DRAW, "response_format": "url", "n": 2}),
        ("/v1/chat/completions", {"model": "held", "messages": [{"role": "user", "content": "a cat"}]}),
        ("/v1/images/edits", {**DRAW, "image": "data:image/png;base64," + base64.b64encode(PICTURE).decode()}),
        (
            "/v1/chat/completions",
            {
                "model": "held",
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "in blue"},
                            {
                                "type": "image_url",
                                "image_url": {"url": "data:image/png;base64," + base64.b64encode(PICTURE).decode()},
                            },
                        ],
                    }
                ],
            },
        ),
    ],
    ids=["b64", "urls", "chat", "edit", "chat edit"],
)
async def test_the_same_key_gives_the_same_bytes(held: Gateway, path: str, body: Any) -> None:
    """In parallel or later: one upstream call, and every answer is the same byte for byte."""
    key = {"Idempotency-Key": "order-66"}
    first = [asyncio.create_task(held.post(path, body, headers=key)) for _ in range(5)]
    await until(lambda: painter(held).requests)
    painter(held).free.set()
    answers = [*await asyncio.gather(*first), await held.post(path, body, headers=key)]

    assert [answer.status for answer in answers] == [200] * 6
    assert len({answer.body for answer in answers}) == 1
    assert len(painter(held).requests) == 1


async def test_the_same_key_with_another_body_is_a_conflict(held: Gateway) -> None:
    """409 ``idempotency_conflict``, and nothing is drawn."""
    painter(held).free.set()
    key = {"Idempotency-Key": "order-66"}
    await held.post("/v1/images/generations", DRAW, headers=key)
    answers = [
        await held.post("/v1/images/generations", {**DRAW, "prompt": "a dog"}, headers=key),
        await held.chat("a cat", model="held"),
        await held.post(
            "/v1/chat/completions",
            {"model": "held", "messages": [{"role": "user", "content": "a cat"}]},
            headers=key,
        ),
    ]

    assert [answer.status for answer in answers] == [409, 200, 409]
    assert answers[0].error["code"] == "idempotency_conflict"
    assert answers[0].headers["x-should-retry"] == "false"


async def test_keys_belong_to_their_callers(held: Gateway) -> None:
    """Another caller may use the same key for another thing."""
    painter(held).free.set()
    key = {"Idempotency-Key": "order-66"}
    mine = await held.post("/v1/images/generations", DRAW, headers=key)
    theirs = await held.post("/v1/images/generations", {**DRAW, "prompt": "a dog"}, headers=other(key))

    assert (mine.status, theirs.status) == (200, 200)
    assert len(painter(held).requests) == 2


async def test_the_order_of_the_fields_is_no_difference(held: Gateway) -> None:
    """The same body written in another order is the same body."""
    painter(held).free.set()
    key = {"Idempotency-Key": "order-66", "Content-Type": "application/json"}
    bodies = ['{"prompt": "a cat", "model": "held", "n": 1}', '{"n":1,"model":"held","prompt":"a c\\u0061t"}']
    answers = [await held.post("/v1/images/generations", data=body, headers=key) for body in bodies]

    assert answers[0].body == answers[1].body


async def test_a_failure_that_may_be_billed_is_remembered(held: Gateway) -> None:
    """The same key gets the same error without a second call; what cost nothing is tried anew."""
    painter(held).free.set()
    painter(held).faults[:] = [UpstreamTimeoutError("slow"), BusyUpstreamError("full")]
    paid = [await held.post("/v1/images/generations", DRAW, headers={"Idempotency-Key": "a"}) for _ in range(2)]
    calls = len(painter(held).requests)
    free = [await held.post("/v1/images/generations", DRAW, headers={"Idempotency-Key": "b"}) for _ in range(2)]

    assert [answer.status for answer in paid] == [504, 504]
    assert paid[0].headers["x-should-retry"] == "false"
    assert calls == 1
    assert [answer.status for answer in free] == [502, 200]


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "schlüssel"])
async def test_an_odd_key_is_a_400(held: Gateway, key: str) -> None:
    """Between 1 and 255 visible ASCII characters."""
    answer = await held.post("/v1/images/generations", DRAW, headers={"Idempotency-Key": key})

    assert (answer.status, answer.error["param"]) == (400, "Idempotency-Key")


@pytest.mark.parametrize("second", ["one", "two"])
async def test_two_keys_are_a_400(held: Gateway, second: str) -> None:
    """Which one the client will come back with, nobody knows; nothing is drawn."""
    headers = CIMultiDict([("Idempotency-Key", "one"), ("Idempotency-Key", second)])
    answer = await held.post("/v1/images/generations", DRAW, headers=headers)

    assert (answer.status, answer.error["param"]) == (400, "Idempotency-Key")
    assert not painter(held).requests


async def test_an_sdks_own_retry_is_the_same_job(held: Gateway) -> None:
    """``x-stainless-retry-count`` above 0 with the same body: no second call, even without a key."""
    first = asyncio.create_task(held.post("/v1/images/generations", DRAW, headers={"x-stainless-retry-count": "0"}))
    await until(lambda: painter(held).requests)
    second = asyncio.create_task(held.post("/v1/images/generations", DRAW, headers={"x-stainless-retry-count": "1"}))
    await asyncio.sleep(0.02)
    painter(held).free.set()

    assert (await first).body == (await second).body
    assert len(painter(held).requests) == 1
    await held.post("/v1/images/generations", DRAW, headers={"x-stainless-retry-count": "junk"})
    assert len(painter(held).requests) == 2


async def test_a_repeated_call_is_answered_although_every_target_rests(held: Gateway) -> None:
    """What was made before needs no target now."""
    painter(held).free.set()
    body, key = {**DRAW, "async": True}, {"Idempotency-Key": "k"}
    made = await held.post("/v1/images/generations", body, headers=key)
    await finished(held, made.json["id"])
    target = held.runtime.recipes["held"].targets[0]
    for _ in range(5):
        held.runtime.router.failed(target, BusyUpstreamError("full"))

    with held.runtime.router.attempt(target, alone=True):
        assert (await held.post("/v1/images/generations", body)).status == 503
    again = await held.post("/v1/images/generations", body, headers=key)
    assert (again.status, again.json["status"]) == (202, "completed")


async def test_a_client_that_leaves_loses_nothing(held: Gateway) -> None:
    """It is cut while the upstream works: the job ends, the picture is stored, list and key give it."""
    key = {"Idempotency-Key": "k"}
    asking = asyncio.create_task(held.post("/v1/images/generations", DRAW, headers=key))
    await until(lambda: painter(held).requests)
    asking.cancel()
    await asyncio.sleep(0.05)
    painter(held).free.set()
    listed = (await held.get("/v1/jobs")).json["data"][0]
    done = await finished(held, listed["id"])
    again = await held.post("/v1/images/generations", DRAW, headers=key)

    assert done["status"] == "completed"
    assert (await held.get(done["result"]["data"][0]["url"].removeprefix(held.base))).body == PICTURE
    assert base64.b64decode(again.json["data"][0]["b64_json"]) == PICTURE
    assert len(painter(held).requests) == 1


async def test_a_client_that_leaves_early_costs_nothing(aiohttp_server: Any, tmp_path: Path) -> None:
    """Nothing was sent yet: the job is cancelled and its place is free at once."""
    gateway = await start(aiohttp_server, holding("jobs: {running: 1}\n"), tmp_path, types=HELD)
    working = await later(gateway)
    asking = asyncio.create_task(gateway.post("/v1/images/generations", DRAW))
    await until(lambda: gateway.runtime.jobs.counts["waiting"])
    asking.cancel()
    await until(lambda: not gateway.runtime.jobs.counts["waiting"])
    painter(gateway).free.set()
    await finished(gateway, working)

    assert [job["status"] for job in (await gateway.get("/v1/jobs")).json["data"]] == ["cancelled", "completed"]
    assert len(painter(gateway).requests) == 1


async def test_a_long_call_is_kept_alive_with_white_space(aiohttp_server: Any, tmp_path: Path) -> None:
    """Spaces come before the JSON, which is none the worse for them."""
    yaml = holding("jobs: {keep_alive: 50ms}\n", options=", delay: 300ms")
    gateway = await start(aiohttp_server, yaml, tmp_path, types=HELD)
    answer = await gateway.post("/v1/images/generations", DRAW)

    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert 2 <= len(answer.body) - len(answer.body.lstrip()) <= 8
    assert base64.b64decode(answer.json["data"][0]["b64_json"]) == PICTURE


async def test_keeping_alive_can_be_switched_off(aiohttp_server: Any, tmp_path: Path) -> None:
    """``keep_alive: 0`` sends nothing before the answer."""
    gateway = await start(
        aiohttp_server, holding("jobs: {keep_alive: 0}\n", options=", delay: 100ms"), tmp_path, types=HELD
    )

    assert (await gateway.post("/v1/images/generations", DRAW)).body.startswith(b"{")


async def test_a_late_failure_is_told_in_the_body(aiohttp_server: Any, tmp_path: Path) -> None:
    """The status is out: a plain client reads the error, an SDK is cut and gets the status when it asks again."""
    yaml = holding("jobs: {keep_alive: 20ms}\n", options=", delay: 100ms")
    gateway = await start(aiohttp_server, yaml, tmp_path, types=HELD)
    painter(gateway).faults[:] = [UpstreamTimeoutError("slow"), UpstreamTimeoutError("slow")]
    plain = await gateway.post("/v1/images/generations", DRAW)
    sdk = {"x-stainless-lang": "python", "x-stainless-retry-count": "0"}
    with pytest.raises(aiohttp.ClientError):
        await gateway.post("/v1/images/generations", DRAW, headers=sdk)
    again = await gateway.post("/v1/images/generations", DRAW, headers={**sdk, "x-stainless-retry-count": "1"})

    assert (plain.status, plain.json["error"]["code"]) == (200, "upstream_timeout")
    assert plain.json["error"]["request_id"] == plain.headers["x-request-id"]
    assert (again.status, again.headers["x-should-retry"]) == (504, "false")
    assert len(painter(gateway).requests) == 2


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (RejectedError("against the rules", sent=True, billed=False), 400),
        (RateLimitedError("later", retry_after=7), 429),
        (UnreachableError("no route"), 502),
    ],
)
async def test_an_sdk_hears_of_a_late_failure_that_cost_nothing(
    aiohttp_server: Any, tmp_path: Path, fault: Exception, status: int
) -> None:
    """Cut off, it asks again, and gets that error, not another wait of the same length; a new call is a new try."""
    yaml = holding("jobs: {keep_alive: 20ms}\n", options=", delay: 100ms")
    gateway = await start(aiohttp_server, yaml, tmp_path, types=HELD)
    painter(gateway).faults[:] = [fault]
    sdk = {"x-stainless-lang": "python", "x-stainless-retry-count": "0"}
    with pytest.raises(aiohttp.ClientError):
        await gateway.post("/v1/images/generations", DRAW, headers=sdk)
    again = await gateway.post("/v1/images/generations", DRAW, headers={**sdk, "x-stainless-retry-count": "1"})
    asked = len(painter(gateway).requests)
    plain = await gateway.post("/v1/images/generations", DRAW)

    assert again.status == status, again.text
    assert asked == 1
    assert plain.status == 200
    assert len(painter(gateway).requests) == 2


async def test_an_old_client_sees_the_end_of_a_late_answer(aiohttp_server: Any, tmp_path: Path) -> None:
    """HTTP/1.0 knows no chunks: only the end of the connection tells it, whatever it asked to be kept."""
    yaml = holding("jobs: {keep_alive: 20ms}\n", options=", delay: 100ms")
    gateway = await start(aiohttp_server, yaml, tmp_path, types=HELD)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    body = b'{"prompt": "a cat", "model": "held"}'
    writer.write(
        b"POST /v1/images/generations HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n"
        b"Content-Type: application/json\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
        % (CALLER_KEY.encode(), len(body), body)
    )
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.0 200")
    assert answer.endswith(b"}")


async def test_all_lines_of_prefer_count(aiohttp_server: Any, tmp_path: Path) -> None:
    """They are one list (RFC 7240)."""
    gateway = await start(aiohttp_server, holding(), tmp_path, types=HELD)
    headers = CIMultiDict([("Prefer", "handling=lenient"), ("Prefer", "respond-async")])
    answer = await gateway.post("/v1/images/generations", DRAW, headers=headers)
    painter(gateway).free.set()

    assert answer.status == 202


async def test_no_optimizer_is_paid_when_all_targets_rest(
    fake: FakeUpstream, aiohttp_server: Any, tmp_path: Path
) -> None:
    """A plain call learns at once that there is nobody to draw."""
    rewriter = f"{{use: chat, base_url: '{fake.base}/v1', keys: [{UPSTREAM_KEY}], model: any}}"
    yaml = drawing_by(fake.base, f"optimizers: {{rewriter: {rewriter}}}\n")
    gateway = await start(aiohttp_server, yaml.replace("flux: {", "flux: {optimizers: [rewriter], "), tmp_path)
    target = gateway.runtime.recipes["flux"].targets[0]
    for _ in range(5):
        gateway.runtime.router.failed(target, BusyUpstreamError("full"))
    with gateway.runtime.router.attempt(target, alone=True):
        answer = await gateway.chat("a fox")

    assert (answer.status, answer.error["code"]) == (503, "all_targets_resting")
    assert not fake.calls


async def test_no_optimizer_is_paid_while_no_key_can_be_used(
    fake: FakeUpstream, aiohttp_server: Any, tmp_path: Path
) -> None:
    """The only key rests after a 429: until then each call learns when to come again, and words are not paid for."""
    rewriter = f"{{use: chat, base_url: '{fake.base}/v1', keys: [{UPSTREAM_KEY}], model: any}}"
    yaml = drawing_by(fake.base, f"optimizers: {{rewriter: {rewriter}}}\n")
    gateway = await start(aiohttp_server, yaml.replace("flux: {", "flux: {optimizers: [rewriter], "), tmp_path)
    fake.mode, fake.headers = "status:429", {"Retry-After": "30"}
    fake.chat_mode = "ok"
    first = await gateway.chat("a fox")
    calls = len(fake.calls)
    others = [await gateway.chat(f"a fox {number}") for number in range(7)]

    assert first.status == 429
    assert [(answer.status, answer.error["code"]) for answer in others] == [(429, "upstream_rate_limited")] * 7
    assert all(20 <= int(answer.headers["Retry-After"]) <= 30 for answer in others)
    assert len(fake.calls) == calls


async def test_an_sdks_retry_does_not_pay_for_its_words_again(
    fake: FakeUpstream, aiohttp_server: Any, tmp_path: Path
) -> None:
    """The drawing failed and cost nothing: the second try draws the words of the first."""
    rewriter = f"{{use: chat, base_url: '{fake.base}/v1', keys: [{UPSTREAM_KEY}], model: any}}"
    yaml = drawing_by(fake.base, f"optimizers: {{rewriter: {rewriter}}}\n")
    gateway = await start(aiohttp_server, yaml.replace("flux: {", "flux: {optimizers: [rewriter], "), tmp_path)
    fake.modes.extend(["ok", "status:500"])
    body = {"messages": [{"role": "user", "content": "a fox"}]}
    failed = await gateway.post("/v1/chat/completions", body)
    again = await gateway.post("/v1/chat/completions", body, headers={"x-stainless-retry-count": "1"})
    paths = [call.path.rpartition("/")[2] for call in fake.calls]

    assert (failed.status, again.status) == (502, 200)
    assert paths.count("completions") == 1
    assert again.json["gateway"]["receipt"]["optimizer"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/images/generations", DRAW),
        ("/v1/chat/completions", {"model": "held", "messages": [{"role": "user", "content": "a cat"}]}),
    ],
)
async def test_an_early_202_by_option(aiohttp_server: Any, tmp_path: Path, path: str, body: Any) -> None:
    """A plain call that takes long is told where to ask, and its client may leave."""
    yaml = holding("jobs: {accept_after: 500ms, keep_alive: 10s}\n")
    gateway = await start(aiohttp_server, yaml, tmp_path, types=HELD)
    early = await gateway.post(path, body)
    painter(gateway).free.set()
    done = await finished(gateway, early.json["id"])
    quick = await gateway.post(path, body)

    assert (early.status, early.headers["Preference-Applied"]) == (202, "respond-async")
    assert early.headers["Location"].endswith(early.json["id"])
    assert done["status"] == "completed"
    assert quick.status == 200


async def test_a_202_after_a_200_has_begun_is_no_configuration(aiohttp_server: Any, tmp_path: Path) -> None:
    """The white space would come first."""
    with pytest.raises(ConfigError, match="accept_after must not be longer than keep_alive"):
        await start(aiohttp_server, holding("jobs: {accept_after: 20s, keep_alive: 10s}\n"), tmp_path, types=HELD)


async def test_who_would_come_back_may_wait_a_little_first(held: Gateway) -> None:
    """RFC 7240: ``respond-async, wait=N`` gives the answer itself if it comes within N seconds."""
    prefer = {"Prefer": "respond-async, wait=1"}
    began = time.monotonic()
    late = await held.post("/v1/images/generations", DRAW, headers=prefer)
    waited = time.monotonic() - began
    painter(held).free.set()
    await finished(held, late.json["id"])
    soon = await held.post("/v1/images/generations", DRAW, headers=prefer)

    assert late.status == 202
    assert 0.9 < waited < 5
    assert (soon.status, "data" in soon.json) == (200, True)


async def test_how_a_caller_comes_back_does_not_make_another_call(held: Gateway) -> None:
    """The same key and wish, whether plain, by header, by field or with a webhook, are one job."""
    key = {"Idempotency-Key": "k"}
    painter(held).free.set()
    plain = await held.post("/v1/images/generations", DRAW, headers=key)
    others = [
        await held.post("/v1/images/generations", DRAW, headers={**key, "Prefer": "respond-async"}),
        await held.post("/v1/images/generations", {**DRAW, "async": True}, headers=key),
    ]

    assert plain.status == 200
    assert [answer.status for answer in others] == [202, 202]
    assert len({answer.json["id"] for answer in others} | {plain.json["gateway"]["job"]}) == 1
    assert len(painter(held).requests) == 1


async def test_what_is_remembered_of_a_job_is_no_task_and_no_garbage(
    fake: FakeUpstream, aiohttp_server: Any, tmp_path: Path
) -> None:
    """Thousands of finished jobs are remembered: frames and contexts with them would double the memory."""
    jobs = (await start(aiohttp_server, drawing_by(fake.base), tmp_path)).runtime.jobs

    async def draw() -> Job:
        job = jobs.submit(ImageRequest("a cat", model="flux"), Caller("ann"), "a cat")
        with jobs.reading(job):
            await job.wait()
        return job

    def left() -> list[object]:
        """What should have died with its job: no collector may be needed for it."""
        return [
            found
            for found in gc.get_objects()
            if isinstance(found, Telling) or (isinstance(found, asyncio.Task) and "Jobs._work" in repr(found))
        ]

    done = [await draw() for _ in range(3)]
    gc.collect()
    before = len(left())
    gc.disable()
    try:
        done += [await draw() for _ in range(40)]
        await asyncio.sleep(0)
        after = len(left())
    finally:
        gc.enable()

    assert not any(job.task or job.timer for job in done)
    assert after <= before
