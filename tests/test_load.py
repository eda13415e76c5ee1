"""More than the gateway can do: what it does meanwhile, whom it refuses, and who must not notice."""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.capabilities import Capabilities
from gateway.contracts import Report
from gateway.memory import Limit, Memory
from gateway.values import Image, ImageRequest, Size
from tests.endpoints.test_comings_and_goings import CALLS, open_files, tasks
from tests.fake_upstream import png
from tests.gateways import Gateway, Types, start
from tests.painters import DRAW, HELD, TWO_CALLERS, holding, other, painter, until
from tests.test_memory import statm

PATHS = {name: CALLS[name] for name in ("chat", "images", "responses", "edits", "variations")}
HOW: dict[str, dict[str, Any]] = {"plain": {}, "streamed": {"stream": True}, "later": {"async": True}}


@dataclass
class Met:
    """What callers met: when each answer came, how long it took, and how it was."""

    statuses: Counter[int] = field(default_factory=Counter)
    drawn: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    told: set[bool] = field(default_factory=set)

    async def ask(self, gateway: Gateway, number: int) -> None:
        path, body = list(PATHS.values())[number % 3]
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer = await gateway.post(path, {**body, "user": str(number)})
        self.statuses[answer.status] += 1
        if answer.status == 200:
            self.drawn.append(loop.time())
        else:
            self.refused.append(loop.time() - began)
            self.told.add(answer.error["code"] == "too_many_jobs" and int(answer.headers["Retry-After"]) >= 1)


@pytest.mark.timeout(60)
async def test_ten_times_what_it_can_do(aiohttp_server: Any, tmp_path: Path) -> None:
    """Four places of 400 ms can do 10 a second; 100 a second come for five: the places stay busy, the others are
    refused in no time with a time to come back, nothing fails, and memory stays where it was."""
    yaml = holding("jobs: {running: 4, waiting: 8}\n", options=", delay: 400ms")
    gateway = await start(aiohttp_server, yaml, tmp_path, types=HELD)
    met, seconds, rate = Met(), 5.0, 100
    await asyncio.gather(*(Met().ask(gateway, number) for number in range(12)))
    loop, resident = asyncio.get_running_loop(), statm()[1]
    began, asked = loop.time(), list[asyncio.Task[None]]()
    while (now := loop.time() - began) < seconds:
        asked += [loop.create_task(met.ask(gateway, number)) for number in range(len(asked), int(now * rate))]
        await asyncio.sleep(0.01)
    await asyncio.gather(*asked)
    in_time = sum(at - began < seconds for at in met.drawn)

    assert set(met.statuses) == {200, 429}
    assert met.told == {True}
    assert in_time >= 0.8 * 10 * seconds, (in_time, met.statuses)
    assert statistics.median(met.refused) < 0.05
    assert statm()[1] - resident < 64 * 2**20
    assert gateway.runtime.jobs.counts == {"running": 0, "waiting": 0}
    # Back to normal at once.
    assert (await gateway.draw(model="held")).status == 200


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", PATHS)
async def test_one_caller_has_so_many_at_once_and_no_more(
    aiohttp_server: Any, tmp_path: Path, name: str, how: str
) -> None:
    """Of 53 calls three work, ten wait, forty are refused at once; another caller's begins beside them."""
    yaml = holding("jobs: {running: 8, per_caller: 3, waiting: 10}\n")
    gateway = await start(aiohttp_server, yaml, tmp_path, types=HELD)
    path, body = PATHS[name]
    body = {**body, **HOW[how]}
    asked = [asyncio.create_task(gateway.post(path, {**body, "user": str(number)})) for number in range(53)]
    await until(lambda: sum(task.done() for task in asked) == (53 if how == "later" else 40))
    await until(lambda: len(painter(gateway).requests) == 3)
    counts = dict(gateway.runtime.jobs.counts)
    working = len(painter(gateway).requests)
    theirs = asyncio.create_task(gateway.post(path, body, headers=other()))
    await until(lambda: len(painter(gateway).requests) == 4)
    painter(gateway).free.set()
    answers = await asyncio.gather(*asked)
    statuses = Counter([answer.status for answer in answers])
    good = 202 if how == "later" else 200

    assert (counts, working) == ({"running": 3, "waiting": 10}, 3)
    assert statuses == {good: 13, 429: 40}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers if answer.status == 429)
    assert (await theirs).status == good
    await until(lambda: gateway.runtime.jobs.counts == {"running": 0, "waiting": 0})
    assert len(painter(gateway).requests) == 14


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", PATHS)
async def test_short_of_memory_every_call_is_refused_and_every_known_one_answered(
    aiohttp_server: Any, tmp_path: Path, name: str, how: str
) -> None:
    """503 with a time to come back, before a stream has its status; what is there is served; then all is well again."""
    gateway = await start(aiohttp_server, holding(options=", delay: 1ms"), tmp_path, types=HELD)
    path, body = PATHS[name]
    body, key = {**body, **HOW[how]}, {"Idempotency-Key": "known"}
    known = await gateway.post(path, body, headers=key)
    await until(lambda: gateway.runtime.jobs.counts["running"] == 0)
    admission = gateway.runtime.jobs._admission
    enough, admission._memory = admission._memory, Memory([Limit("test", 1)])
    refused = await gateway.post(path, body)
    again = await gateway.post(path, body, headers=key)
    pictures = await gateway.get("/v1/pictures")
    admission._memory = enough

    assert (refused.status, refused.error["code"]) == (503, "out_of_memory")
    assert int(refused.headers["Retry-After"]) >= 1
    assert known.status == again.status
    assert len(pictures.json["data"]) == 1
    assert (await gateway.post(path, body)).status == known.status


async def test_a_calm_caller_hardly_notices_a_flood(aiohttp_server: Any, tmp_path: Path) -> None:
    """One sends 90 at once, another one after the other: none of these takes twice as long as without the flood,
    but for the time until the next place is free."""
    yaml = holding("jobs: {running: 4, waiting: 300}\n", options=", delay: 150ms")
    gateway = await start(aiohttp_server, yaml, tmp_path, types=HELD)
    loop = asyncio.get_running_loop()

    async def calm() -> list[float]:
        took = []
        for number in range(6):
            began = loop.time()
            answer = await gateway.post(
                "/v1/images/generations", {**DRAW, "user": f"calm-{number}-{began}"}, headers=other()
            )
            took.append(loop.time() - began)
            assert answer.status == 200
        return took

    unloaded = max(await calm())
    flood = [
        asyncio.create_task(gateway.post("/v1/images/generations", {**DRAW, "user": str(number)}))
        for number in range(90)
    ]
    await until(lambda: gateway.runtime.jobs.counts["waiting"] > 80)
    loaded = await calm()
    assert gateway.runtime.jobs.counts["waiting"] > 0
    await asyncio.gather(*flood)

    assert statistics.median(loaded) < 2 * unloaded
    assert max(loaded) < 2 * unloaded + 0.15


async def lived(gateway: Gateway, number: int) -> None:
    """Be one client of a mixed crowd: call, perhaps again with the same key, look at the picture or follow the job."""
    path, body = list(CALLS.values())[number % len(CALLS)]
    key = {"Idempotency-Key": f"crowd-{number}"}
    answer = await gateway.post(path, {**body, "user": str(number)}, headers=key)
    assert answer.status in {200, 202}, answer.text
    assert '"error":{' not in answer.text
    if number % 3 == 0:
        assert (await gateway.post(path, {**body, "user": str(number)}, headers=key)).status == answer.status
    if answer.status == 202:
        assert "event: finished" in (await gateway.get(f"/v1/jobs/{answer.json['id']}/events")).text
        assert (await gateway.ask("DELETE", f"/v1/jobs/{answer.json['id']}")).status == 409
    if number % 5 == 0:
        assert (await gateway.post(path, {**body, "stream": "perhaps"})).status == 400


async def test_after_some_hundred_calls_of_every_kind_all_is_as_before(aiohttp_server: Any, tmp_path: Path) -> None:
    """The short form of ``benchmarks/soak.py``: no task, file, job, key or place stays; each picture was drawn once."""
    storages = f"storages: {{pictures: {{use: disk, root: {tmp_path}/pictures}}}}\n"
    more = "jobs: {running: 8, per_backend: {painter: 6}, keep: 10s}\n"
    gateway = await start(
        aiohttp_server, holding(more, options=", delay: 2ms", storages=storages), tmp_path, types=HELD
    )
    jobs, crowd = gateway.runtime.jobs, asyncio.Semaphore(20)

    async def one(number: int) -> None:
        async with crowd:
            await lived(gateway, number)

    async def rounds(first: int, count: int) -> tuple[int, int]:
        await asyncio.gather(*(one(number) for number in range(first, first + count)))
        await until(lambda: jobs.counts == {"running": 0, "waiting": 0})
        return tasks(), open_files()

    before = await rounds(0, 60)
    after = await rounds(60, 300)
    drawn, kept = len(painter(gateway).requests), len(list((tmp_path / "pictures").rglob("*.meta")))
    for job in jobs._jobs.values():
        assert job.ended is not None
        job.ended -= 20
    assert (await gateway.draw(model="held")).status == 200

    assert after[0] <= before[0]
    assert after[1] <= before[1] + 20  # the client's own kept connections
    assert drawn == kept == 360
    assert len(jobs._jobs) == len(jobs._finished._jobs) == 1
    assert (len(jobs._claims._keys), len(jobs._claims._bodies)) == (0, 1)
    assert not gateway.runtime.places.waiting


BIG = png(3840, 2160)


@dataclass
class Large:
    """Draws eight megapixels at once."""

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(sizes=(Size(3840, 2160),))

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        return [Image(BIG)]


LARGE: Types = {"backends": {"large": Large}}


@pytest.mark.timeout(60)
async def test_converting_large_pictures_holds_up_nobody(aiohttp_server: Any, tmp_path: Path) -> None:
    """Eight jobs convert, scale and mark eight megapixels each: meanwhile the loop turns, and health is answered."""
    yaml = (
        TWO_CALLERS
        + "storages: {pictures: {use: memory}}\nbackends: {big: {use: large}}\n"
        + "middlewares: {smaller: {use: convert, output_format: webp, size: 1920x1080}, m: {use: watermark, text: x}}\n"
        + "models: {big: {backends: [{backend: big}], middlewares: [smaller, m]}}\n"
    )
    gateway = await start(aiohttp_server, yaml, tmp_path, types=LARGE)
    asked = [
        asyncio.create_task(gateway.draw(model="big", response_format="url", user=str(number))) for number in range(8)
    ]
    loop, late = asyncio.get_running_loop(), list[float]()
    while not all(task.done() for task in asked):
        began = loop.time()
        await asyncio.sleep(0.005)
        late.append(loop.time() - began - 0.005)
        if len(late) % 20 == 0:
            assert (await gateway.get("/health")).status == 200
    late.sort()

    assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 8
    assert len(late) > 20
    # On the loop itself each picture would hold it up for a quarter of a second and more.
    assert late[int(len(late) * 0.95)] < 0.1, late[-10:]
