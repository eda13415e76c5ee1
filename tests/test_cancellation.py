"""Cancelled at every await of its way, a job leaves nothing behind, and what was paid for is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.capabilities import Capabilities
from gateway.contracts import Proceed, Report, Stage, Work
from gateway.errors import GatewayError
from gateway.job import Job
from gateway.runtime import Runtime
from gateway.values import Caller, Image, ImageRequest, Size
from tests.gateways import AUTHENTICATORS, STORAGES, Types, start
from tests.painters import PICTURE, until

ANN = Caller("ann")
Act = Callable[[], object]


@dataclass
class Steps:
    """Stands around everything, and acts when the job's own task waits for the *at*-th time."""

    stages: tuple[Stage, ...] = field(init=False, default=("job",))
    at: int = field(init=False, default=0)
    act: Act = field(init=False, default=lambda: None)
    taken: int = field(init=False, default=0)

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        self.taken = 0
        return await _Counted(cast("Coroutine[Any, Any, Work]", proceed(work)), self)


class _Counted:
    """A coroutine whose every wait is counted."""

    def __init__(self, inner: Coroutine[Any, Any, Work], steps: Steps) -> None:
        self._inner = inner
        self._steps = steps

    def __await__(self) -> Generator[Any, Any, Work]:
        send: Callable[[], Any] = lambda: self._inner.send(None)  # noqa: E731  - it changes with what comes back
        while True:
            try:
                waited_for = send()
            except StopIteration as ended:
                return cast("Work", ended.value)
            self._steps.taken += 1
            if self._steps.taken == self._steps.at:
                asyncio.get_running_loop().call_soon(self._steps.act)
            try:
                yield waited_for
            except BaseException as error:
                thrown = error
                send = lambda: self._inner.throw(thrown)  # noqa: B023, E731  - used at once
            else:
                send = lambda: self._inner.send(None)  # noqa: E731


@dataclass
class Turns:
    """Waits before and after each stage, and knows how many jobs are inside."""

    stages: tuple[Stage, ...] = field(init=False, default=("job", "optimize", "generate", "store"))
    inside: int = field(init=False, default=0)

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        self.inside += 1
        try:
            await asyncio.sleep(0)
            done = await proceed(work)
            await asyncio.sleep(0)
            return done
        finally:
            self.inside -= 1


@dataclass
class Slowly:
    """Improves a prompt in three turns of the loop."""

    async def optimize(self, request: ImageRequest) -> str:
        for _ in range(3):
            await asyncio.sleep(0)
        return request.prompt + ", soft light"


@dataclass
class Ledger:
    """Draws one picture per call; *paid* counts the calls that went out, *working* those that have not ended."""

    paid: int = field(init=False, default=0)
    working: int = field(init=False, default=0)

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(sizes=(Size(64, 64),), count=1)

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        self.working += 1
        try:
            await asyncio.sleep(0)
            report.sending()
            self.paid += 1
            for done in (0.3, 0.6):
                await asyncio.sleep(0)
                report.progress(done)
            await asyncio.sleep(0)
            return [Image(PICTURE)]
        finally:
            self.working -= 1


TYPES: Types = {
    "backends": {"ledger": Ledger},
    "optimizers": {"slowly": Slowly},
    "middlewares": {"steps": Steps, "turns": Turns},
}
YAML = """
backends: {painter: {use: ledger}}
optimizers: {better: {use: slowly}}
middlewares: {steps: {use: steps}, turns: {use: turns}, cut: {use: convert, output_format: jpeg}}
models: {drawn: {backends: [{backend: painter}], optimizers: [better], middlewares: [steps, turns, cut]}}
jobs: {running: 2, per_backend: {painter: 1}}
"""


@dataclass
class Place:
    """A gateway of these parts, and everything that must be as before after every job."""

    runtime: Runtime
    folder: Path
    ledger: Ledger
    steps: Steps
    turns: Turns

    def submit(self, key: str, n: int = 1) -> Job:
        return self.runtime.jobs.submit(
            ImageRequest("a cat", model="drawn", n=n), ANN, "a cat", key=key, fingerprint="body"
        )

    async def pictures(self) -> int:
        storage = self.runtime.storages["pictures"]
        return len([meta async for meta in storage.list("ann")])

    def restored(self) -> bool:
        """Say whether every place, turn and call has been given back and no half file lies about."""
        places, line = self.runtime._pipeline._generation._places, self.runtime.jobs._admission._line
        backend = places._backends["painter"].line
        files = [path for path in self.folder.rglob("*") if path.is_file()] if self.folder.exists() else []
        records = {path.stem for path in files if path.suffix == ".meta"}
        return (
            self.runtime.jobs.counts == {"running": 0, "waiting": 0}
            and (backend.running, backend.waiting) == (line.running, line.waiting) == (0, 0)
            and not (places._calling or places._aside or self.runtime.jobs._admission._returning)
            and not (line._working or line._turns or backend._working or backend._turns)
            and (self.turns.inside, self.ledger.working) == (0, 0)
            and all(path.name.split(".")[0] in records for path in files)
            and not any(path.suffix == ".tmp" for path in files)
            and not self.runtime.router.health()
        )


@pytest.fixture(params=["disk", "memory"])
async def place(request: Any, aiohttp_server: Any, tmp_path: Path) -> AsyncIterator[Place]:
    """The gateway, with its pictures in files or in memory; in the end no task of a job is left."""
    folder = tmp_path / "pictures"
    storages = STORAGES if request.param == "memory" else f"storages: {{pictures: {{use: disk, root: {folder}}}}}\n"
    runtime = (await start(aiohttp_server, AUTHENTICATORS + storages + YAML, tmp_path, types=TYPES)).runtime
    middlewares = runtime.configuration.components["middlewares"]
    yield Place(
        runtime,
        folder,
        cast("Ledger", runtime.backends["painter"]),
        cast("Steps", middlewares["steps"]),
        cast("Turns", middlewares["turns"]),
    )
    assert not [task for task in asyncio.all_tasks() if "Jobs._work" in repr(task)]


def acts(place: Place, way: str, job: Job, reader: asyncio.Task[None]) -> Act:
    """Give what ends a job: by its caller's word, by its last reader, by the deadline, by its task."""
    jobs = place.runtime.jobs
    return {
        "cancel": lambda: jobs.cancel(job),
        "leave": lambda: reader.cancel(),
        "expire": lambda: jobs._expire(job),
        "task": lambda: job.task.cancel() if job.task else None,
    }[way]


async def read(place: Place, job: Job) -> None:
    with place.runtime.jobs.reading(job), suppress(GatewayError):
        await job.wait()


async def ended(place: Place, job: Job, reader: asyncio.Task[None]) -> None:
    """Wait until all has come to rest, whatever happened."""
    await asyncio.wait({reader})
    if job.task:
        await asyncio.wait({job.task})
    await until(lambda: job.done and place.restored())


async def goes_on(place: Place, before: Job, number: int) -> None:
    """The key is free, or answers with its paid picture; a next job works."""
    again = place.submit(before.key or "")
    assert (again is before) == (before.state == "finished" or (before.error is not None and before.sent))
    if again is not before:
        assert (await again.wait()).pictures
    following = place.submit(f"next-{number}")
    assert (await following.wait()).pictures
    await until(place.restored)


@pytest.mark.parametrize("way", ["cancel", "leave", "expire", "task"])
async def test_cancelled_at_every_wait_a_job_gives_everything_back(place: Place, way: str) -> None:
    """k = 1, 2, 3 … until the job runs through unharmed: line, places, files and keys are as before each time."""
    for number in range(1, 500):
        pictures, paid = await place.pictures(), place.ledger.paid
        job = place.submit(f"key-{number}")
        reader = asyncio.create_task(read(place, job))
        place.steps.at, place.steps.act = number, acts(place, way, job, reader)
        await ended(place, job, reader)
        unharmed = place.steps.taken < number
        place.steps.at = 0

        kept, spent = await place.pictures() - pictures, place.ledger.paid - paid
        if way in {"cancel", "leave"}:
            assert (kept, job.state) == ((1, "finished") if spent else (0, "cancelled"))
        elif way == "expire":
            assert kept == (1 if "generated" in {event.type for event in job.events} else 0)
        else:
            assert kept <= spent
        assert job.readers == 0
        await goes_on(place, job, number)
        if unharmed:
            assert number > 15
            return
    raise AssertionError("the job never ran through")


@pytest.mark.parametrize("way", ["cancel", "leave", "expire", "task"])
async def test_cancelled_after_any_turn_of_the_loop_while_three_calls_run(place: Place, way: str) -> None:
    """Three pictures are three calls side by side; none keeps its place, nothing that is paid is lost."""
    for number in range(1, 80, 5 if place.folder.exists() else 1):
        pictures, paid = await place.pictures(), place.ledger.paid
        job = place.submit(f"key-{number}", n=3)
        reader = asyncio.create_task(read(place, job))
        act = acts(place, way, job, reader)
        for _ in range(number):
            await asyncio.sleep(0)
        act()
        await ended(place, job, reader)

        kept, spent = await place.pictures() - pictures, place.ledger.paid - paid
        if way in {"cancel", "leave"}:
            assert (kept, spent) in ({(3, 3)} if job.state == "finished" else {(0, 0)})
        else:
            assert kept <= spent
        await goes_on(place, job, number)


@pytest.mark.parametrize("way", ["cancel", "leave", "expire", "task"])
async def test_cancelled_while_two_others_want_the_same_backend(place: Place, way: str) -> None:
    """It waits for its backend and lets others have its place among the jobs: whenever it ends, they get theirs."""
    for number in range(1, 80, 5 if place.folder.exists() else 1):
        paid = place.ledger.paid
        others = [place.submit(f"before-{number}")]
        job = place.submit(f"key-{number}", n=2)
        others += [place.submit(f"behind-{number}"), place.submit(f"last-{number}")]
        reader = asyncio.create_task(read(place, job))
        act = acts(place, way, job, reader)
        for _ in range(number):
            await asyncio.sleep(0)
        act()
        for other in others:
            assert (await other.wait()).pictures
        await ended(place, job, reader)

        if way in {"cancel", "leave"}:
            assert place.ledger.paid - paid == (5 if job.state == "finished" else 3)
        await goes_on(place, job, number)


@pytest.mark.parametrize("way", ["cancel", "leave", "expire"])
async def test_ended_while_it_waits_in_line(place: Place, way: str) -> None:
    """One that never began is simply gone: nothing paid, no place taken, and the one behind it moves up."""
    working = [place.submit("first"), place.submit("second")]
    job, behind = place.submit("ended"), place.submit("behind")
    reader = asyncio.create_task(read(place, job))
    await asyncio.sleep(0)
    acts(place, way, job, reader)()
    await asyncio.wait({reader})
    assert place.runtime.jobs.position(behind) == 1
    await behind.wait()
    for one in working:
        await one.wait()
    await until(place.restored)

    assert job.state in {"cancelled", "failed"}
    assert place.ledger.paid == 3
    assert place.submit("ended") is not job
    await until(place.restored)
