"""A caller may say how long they wait (``X-Request-Timeout``): what has not been sent by then is dropped, unpaid."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from gateway.endpoints.patience import ENVOY_TIMEOUT, TIMEOUT
from tests.endpoints.test_comings_and_goings import CALLS
from tests.gateways import Answered, Gateway, start
from tests.painters import HELD, PICTURE, holding, painter, until

SOON, LATE = {TIMEOUT: "250ms"}, {TIMEOUT: "30"}
OURS = {name: call for name, call in CALLS.items() if name != "async"}
LINES = {"running": "jobs: {running: 1}\n", "per backend": "jobs: {per_backend: {painter: 1}}\n"}


@pytest.fixture(params=LINES)
async def busy(request: Any, aiohttp_server: Any, tmp_path: Path) -> Gateway:
    """A gateway whose only place, or whose backend's only place, is taken by a call that waits for the test."""
    return await occupied(await start(aiohttp_server, holding(LINES[request.param]), tmp_path, types=HELD))


async def occupied(gateway: Gateway) -> Gateway:
    answer = await gateway.post("/v1/images/generations", {"model": "held", "prompt": "a dog", "async": True})
    await until(lambda: painter(gateway).requests)
    assert answer.status == 202
    return gateway


def is_over(answer: Answered) -> bool:
    """Say whether this is the deadline's error: with its status, or as the last that a stream tells."""
    if answer.headers["Content-Type"].startswith("application/json"):
        assert (answer.status, answer.headers["x-should-retry"]) == (504, "false")
        assert int(answer.headers["Retry-After"]) >= 1
        return bool(answer.error["code"] == "deadline_exceeded")
    assert answer.status == 200
    last = [chunk for chunk in answer.chunks() if chunk != "[DONE]"][-1]
    return "deadline_exceeded" in json.dumps(last) and ("error" in last or last["type"] == "response.failed")


@pytest.mark.parametrize("name", OURS)
async def test_what_still_waits_in_line_is_dropped(busy: Gateway, name: str) -> None:
    """A 504, or an error in the stream; nothing was sent for it, its place is free, and its key as well."""
    path, body = OURS[name]
    key = {"Idempotency-Key": "mine"}
    answer = await busy.post(path, body, headers={**SOON, **key})
    states = [job.state for job in busy.runtime.jobs._jobs.values()]
    again = asyncio.create_task(busy.post(path, body, headers={**LATE, **key}))
    await until(lambda: len(busy.runtime.jobs._jobs) == 3)
    painter(busy).free.set()

    assert is_over(answer), answer.text
    assert states[1] == "failed"
    assert (await again).status == 200
    assert '"error":{' not in (await again).text
    assert painter(busy).requests[0].prompt == "a dog"
    assert len(painter(busy).requests) == 2
    assert busy.runtime.jobs.counts == {"running": 0, "waiting": 0}
    assert not busy.runtime.places.waiting


async def test_a_form_has_the_header_too(busy: Gateway) -> None:
    """Multipart is read before anything waits."""
    form = aiohttp.FormData({"model": "held", "prompt": "a cat"})
    form.add_field("image", PICTURE, filename="a.png", content_type="image/png")
    answer = await busy.post("/v1/images/edits", data=form, headers=SOON)

    assert is_over(answer)
    assert len(painter(busy).requests) == 1


@pytest.mark.parametrize("name", OURS)
async def test_what_was_sent_goes_on(aiohttp_server: Any, tmp_path: Path, name: str) -> None:
    """It is paid for: the answer comes, however late."""
    gateway = await start(aiohttp_server, holding(options=", delay: 300ms"), tmp_path, types=HELD)
    path, body = OURS[name]
    answer = await gateway.post(path, body, headers={TIMEOUT: "50ms"})

    assert answer.status == 200
    assert '"error":{' not in answer.text


@pytest.mark.parametrize("name", OURS)
async def test_what_others_wait_for_is_not_dropped_for_one_of_them(busy: Gateway, name: str) -> None:
    """With the same key two wait: who gave a time is told that it is over, the other gets the picture."""
    path, body = OURS[name]
    key = {"Idempotency-Key": "ours"}
    patient = asyncio.create_task(busy.post(path, body, headers=key))
    await until(lambda: len(busy.runtime.jobs._jobs) == 2)
    hasty = await busy.post(path, body, headers={**SOON, **key})
    job = list(busy.runtime.jobs._jobs.values())[1]
    counts = job.readers, job.state, job._dismissed
    painter(busy).free.set()

    assert is_over(hasty), hasty.text
    assert counts == (1, "queued", {})
    assert (await patient).status == 200
    assert '"error":{' not in (await patient).text
    assert len(painter(busy).requests) == 2


@pytest.mark.parametrize("name", OURS)
async def test_a_job_to_be_asked_for_later_knows_no_deadline(busy: Gateway, name: str) -> None:
    """Whoever comes back for it waits as long as they like, also one who claims it with a deadline."""
    path, body = OURS[name]
    key = {"Idempotency-Key": "later"}
    plain = {name: value for name, value in body.items() if name != "stream"}
    accepted = await busy.post(path, plain, headers={TIMEOUT: "1ms", "Prefer": "respond-async", **key})
    waiting = await busy.post(path, plain, headers={TIMEOUT: "1ms", "Prefer": "respond-async, wait=1", **key})
    claimed = asyncio.create_task(busy.post(path, plain, headers={TIMEOUT: "1ms", **key}))
    await until(lambda: any(job.readers for job in busy.runtime.jobs._jobs.values()))
    painter(busy).free.set()

    assert (accepted.status, waiting.status) == (202, 202)
    assert accepted.json["id"] == waiting.json["id"]
    assert (await claimed).status == 200
    assert len(painter(busy).requests) == 2


async def test_a_call_that_is_kept_alive_is_told_in_its_body(aiohttp_server: Any, tmp_path: Path) -> None:
    """White space has gone out: the error follows it."""
    more = "jobs: {running: 1, keep_alive: 20ms}\n"
    gateway = await occupied(await start(aiohttp_server, holding(more), tmp_path, types=HELD))
    answer = await gateway.post(*CALLS["images"], headers=SOON)

    assert answer.body.startswith(b" ")
    assert answer.error["code"] == "deadline_exceeded"
    assert len(painter(gateway).requests) == 1


async def test_the_time_before_anything_is_sent_counts_as_well(aiohttp_server: Any, tmp_path: Path) -> None:
    """A job that works, and whose backend has not sent anything, is dropped like one in line."""
    gateway = await start(aiohttp_server, holding(options=", quiet: true"), tmp_path, types=HELD)
    answer = await gateway.post(*CALLS["chat"], headers=SOON)

    assert is_over(answer)
    assert gateway.runtime.jobs.counts == {"running": 0, "waiting": 0}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({ENVOY_TIMEOUT: "250"}, "0.25 s"),
        ({ENVOY_TIMEOUT: "15000", TIMEOUT: "0.25"}, "0.25 s"),
        ({ENVOY_TIMEOUT: "250", TIMEOUT: "1m"}, "0.25 s"),
        ({TIMEOUT: "0.25s"}, "0.25 s"),
    ],
)
async def test_a_proxy_s_own_word_counts_too(busy: Gateway, headers: dict[str, str], seconds: str) -> None:
    """Envoy adds it to every call; of two times the shorter one holds."""
    answer = await busy.post(*CALLS["images"], headers=headers)

    assert is_over(answer)
    assert seconds in answer.error["message"]


NONSENSE = ["0", "0.0s", "-1", "soon", "", "1e3", "10 years", "1,5", "5 6", "9" * 4_000, "٣", "0x1", "NaN", "inf"]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("header", [TIMEOUT, ENVOY_TIMEOUT])
async def test_what_is_no_time_is_a_400_that_names_the_header(busy: Gateway, name: str, header: str) -> None:
    """Before a job is made, and for an explanation as well."""
    path, body = CALLS[name]
    for text in [*NONSENSE, *(["1.5", "5s"] if header == ENVOY_TIMEOUT else [])]:
        for question in ("", "?explain=true"):
            answer = await busy.post(path + question, body, headers={header: text})

            assert (answer.status, answer.error["param"]) == (400, header), (text, answer.text)
            assert header in answer.error["message"]
            assert len(answer.body) < 500
    assert len(busy.runtime.jobs._jobs) == 1


async def test_pages_of_other_origins_may_send_it(busy: Gateway) -> None:
    """The preflight allows the header."""
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": f"authorization, content-type, {TIMEOUT.lower()}",
    }
    answer = await busy.ask("OPTIONS", CALLS["images"][0], headers=asked)

    assert answer.status == 204
    assert TIMEOUT.lower() in answer.headers["Access-Control-Allow-Headers"].lower()


async def test_an_sdk_does_not_begin_anew_by_itself(busy: Gateway) -> None:
    """Its user said how long they would wait; three times as long is not what they meant."""
    async with openai.AsyncOpenAI(api_key=busy.key, base_url=f"{busy.base}/v1", max_retries=2) as client:
        with pytest.raises(openai.InternalServerError) as met:
            await client.images.generate(model="held", prompt="a cat", extra_headers=SOON)

    assert (met.value.status_code, met.value.code) == (504, "deadline_exceeded")
    assert len(busy.runtime.jobs._jobs) == 2


async def test_a_reader_who_left_in_time_leaves_no_timer(busy: Gateway) -> None:
    """The job is cancelled as ever, and nothing fires later."""
    asking = asyncio.create_task(busy.post(*CALLS["edits"], headers={TIMEOUT: "200ms"}))
    await until(lambda: len(busy.runtime.jobs._jobs) == 2)
    asking.cancel()
    job = list(busy.runtime.jobs._jobs.values())[1]
    await until(lambda: job.done)
    state, events = job.state, len(job.events)
    assert (await busy.post(*CALLS["images"], headers={TIMEOUT: "400ms"})).status == 504

    assert (state, job.state, len(job.events)) == ("cancelled", "cancelled", events)
