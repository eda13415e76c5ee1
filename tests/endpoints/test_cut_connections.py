"""A network that cuts, resets and swallows: every call that takes a job is paid once and answered in the end."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.chaos import Chaos, Ending, between
from tests.fake_upstream import FakeUpstream, png
from tests.gateways import Answered, Gateway, drawing_by, start
from tests.painters import until

PICTURE = "data:image/png;base64," + base64.b64encode(png(64, 64)).decode()
SAY = [{"role": "user", "content": "a cat"}]
KEY = {"Idempotency-Key": "order-66"}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "images": ("/v1/images/generations", {"prompt": "a cat"}),
    "urls": ("/v1/images/generations", {"prompt": "a cat", "response_format": "url"}),
    "edits": ("/v1/images/edits", {"prompt": "a cat", "image": PICTURE}),
    "variations": ("/v1/images/variations", {"image": PICTURE}),
    "chat": ("/v1/chat/completions", {"messages": SAY}),
    "responses": ("/v1/responses", {"input": "a cat", "tools": [{"type": "image_generation"}]}),
}
STREAMS = {
    "images": ("/v1/images/generations", {"prompt": "a cat", "stream": True}),
    "edits": ("/v1/images/edits", {"prompt": "a cat", "image": PICTURE, "stream": True}),
    "chat": ("/v1/chat/completions", {"messages": SAY, "stream": True}),
    "responses": ("/v1/responses", {"input": "a cat", "tools": [{"type": "image_generation"}], "stream": True}),
}


@pytest.fixture
async def gateway(aiohttp_server: Any, tmp_path: Path, fake: FakeUpstream) -> Gateway:
    """A gateway before the imitated upstream, which takes its time."""
    fake.picture = png(1024, 1024, 200_000)
    fake.mode = "slow:0.1"
    yaml = drawing_by(fake.base).replace("custom: {", "custom: {edits: /images/edits, ")
    return await start(aiohttp_server, yaml, tmp_path)


@pytest.fixture
async def chaos(gateway: Gateway) -> AsyncIterator[Chaos]:
    """The bad network before that gateway."""
    async with between(gateway.port) as chaos:
        yield chaos


async def through(chaos: Chaos, gateway: Gateway, path: str, body: Any, **headers: str) -> Answered | None:
    """Ask through the bad network; None when nothing whole came back."""
    with suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
            session.post(
                chaos.base + path,
                json=body,
                headers={**KEY, "Authorization": f"Bearer {gateway.key}", "Host": f"127.0.0.1:{gateway.port}"}
                | headers,
            ) as response,
        ):
            return Answered(response.status, response.headers.copy(), await response.read())
    return None


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("ending", ["reset", "close"])
@pytest.mark.parametrize("passed", [0, 1, 17, 200, 700, 100_000, 266_000])
async def test_cut_while_the_answer_comes(
    gateway: Gateway, chaos: Chaos, fake: FakeUpstream, name: str, ending: Ending, passed: int
) -> None:
    """After so many bytes of the answer the connection ends; the retry gets the very bytes, one call was paid."""
    path, body = CALLS[name]
    chaos.down, chaos.ending = passed, ending
    cut = await through(chaos, gateway, path, body)
    chaos.mend()
    retried = await through(chaos, gateway, path, body)
    again = await gateway.post(path, body, headers=KEY)

    assert retried is not None
    assert retried.status == 200
    assert retried.body == again.body
    assert len(fake.paid()) == 1
    assert cut is None or cut.body == retried.body


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("passed", [0, 10, 150, 260])
async def test_cut_while_the_question_goes_out(
    gateway: Gateway, chaos: Chaos, fake: FakeUpstream, name: str, passed: int
) -> None:
    """A request that did not arrive whole starts nothing; the retry is the first and only paid call."""
    path, body = CALLS[name]
    chaos.up = passed
    assert await through(chaos, gateway, path, body) is None
    started = len(fake.paid())
    chaos.mend()
    retried = await through(chaos, gateway, path, body)

    assert retried is not None
    assert (started, retried.status, len(fake.paid())) == (0, 200, 1)


@pytest.mark.parametrize("name", CALLS)
async def test_cut_while_the_upstream_works(gateway: Gateway, chaos: Chaos, fake: FakeUpstream, name: str) -> None:
    """The client is gone in the middle: the job ends, is stored, and the retry finds it; one call was paid."""
    path, body = CALLS[name]
    asking = asyncio.create_task(through(chaos, gateway, path, body))
    await until(fake.paid)
    chaos.cut()
    assert await asking is None
    await until(lambda: not gateway.runtime.jobs.counts["running"])
    retried = await through(chaos, gateway, path, body)
    pictures = (await gateway.get("/v1/pictures")).json["data"]

    assert retried is not None
    assert retried.status == 200
    assert (len(fake.paid()), len(pictures)) == (1, 1)


@pytest.mark.parametrize("name", CALLS)
async def test_an_answer_that_never_arrives(gateway: Gateway, chaos: Chaos, fake: FakeUpstream, name: str) -> None:
    """The network swallows the answer; the client gives up, asks again, and nothing is paid twice."""
    path, body = CALLS[name]
    chaos.silent = True
    assert await through(chaos, gateway, path, body) is None
    chaos.mend()
    retried = await through(chaos, gateway, path, body)

    assert retried is not None
    assert (retried.status, len(fake.paid())) == (200, 1)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("passed", [0, 300, 900, 100_000])
async def test_a_stream_that_is_cut(gateway: Gateway, chaos: Chaos, fake: FakeUpstream, name: str, passed: int) -> None:
    """Cut at its head, among its events or in the picture: the retry streams the same picture to its end."""
    path, body = STREAMS[name]
    chaos.down = passed
    await through(chaos, gateway, path, body)
    chaos.mend()
    retried = await through(chaos, gateway, path, body)
    again = await gateway.post(path, body, headers=KEY)

    assert retried is not None
    assert len(fake.paid()) == 1
    assert retried.chunks()[-1] == again.chunks()[-1]
    assert '"error":{' not in retried.text


@pytest.mark.parametrize("name", [*CALLS, *(f"{name} stream" for name in STREAMS)])
async def test_an_sdk_that_tries_again_by_itself(gateway: Gateway, chaos: Chaos, fake: FakeUpstream, name: str) -> None:
    """Without a key: the same body with ``x-stainless-retry-count`` is the same job."""
    path, body = STREAMS[name.removesuffix(" stream")] if name.endswith("stream") else CALLS[name]
    url = chaos.base + path
    chaos.down = 40
    headers = {"Authorization": f"Bearer {gateway.key}", "x-stainless-lang": "python"}
    async with aiohttp.ClientSession(headers=headers) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.post(url, json=body, headers={"x-stainless-retry-count": "0"})
        chaos.mend()
        async with session.post(url, json=body, headers={"x-stainless-retry-count": "1"}) as response:
            assert response.status == 200
            await response.read()

    assert len(fake.paid()) == 1


async def test_twenty_clients_that_leave_leave_nothing_behind(gateway: Gateway, fake: FakeUpstream) -> None:
    """Closed at all kinds of moments, plain and streamed: every place is free, every job ended, and no task remains."""
    before = working()
    asking: list[asyncio.Task[Answered]] = []
    for number in range(40):
        path, body = (CALLS | STREAMS)[list(CALLS)[number % 3] if number % 2 else list(STREAMS)[number % 3]]
        asking.append(asyncio.create_task(gateway.post(path, {**body, "user": str(number)})))
    for number, one in enumerate(asking):
        await asyncio.sleep(0.004)
        if number % 5:
            one.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    await until(lambda: gateway.runtime.jobs.counts == {"running": 0, "waiting": 0})
    jobs = list(gateway.runtime.jobs._jobs.values())

    assert all(job.done and job.readers == 0 for job in jobs)
    assert all(job.state != "failed" for job in jobs)
    assert sum(job.state == "finished" for job in jobs) == len(fake.paid())
    await gateway.session.close()
    await until(lambda: working() <= before)


def working() -> set[str]:
    """Name the tasks that do something; open connections have one each that only listens."""
    tasks = {task.get_coro() for task in asyncio.all_tasks()}
    return {str(getattr(task, "__qualname__", "")) for task in tasks} - {"RequestHandler.start"}


async def test_a_slow_network_changes_nothing(gateway: Gateway, chaos: Chaos, fake: FakeUpstream) -> None:
    """Each piece takes its time, both ways; the answer is whole."""
    chaos.latency = 0.02
    answer = await through(chaos, gateway, *CALLS["images"])

    assert answer is not None
    assert base64.b64decode(answer.json["data"][0]["b64_json"]) == fake.picture
