"""How many calls each backend gets at once, and who waits for one: fair between callers, bounded, and seen by them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.errors import BusyError
from gateway.fairness import Line, Pace, count


class Waiter(Protocol):
    """A job, as far as it waits for a backend; *step_aside* frees its place among the running jobs meanwhile."""

    id: str
    sent: bool

    @property
    def watched(self) -> bool: ...

    def tell(self, kind: str, data: Mapping[str, Any]) -> None: ...

    def step_aside(self) -> None: ...

    async def step_back(self) -> None: ...


@dataclass(eq=False, slots=True)
class _Turn:
    job: Waiter
    caller: str
    ready: asyncio.Future[None]
    told: int = 0


@dataclass(slots=True)
class _Backend:
    line: Line[_Turn]
    pace: Pace = field(default_factory=Pace)


class Places:
    """The places of the backends that have limits; *most* may wait for each, and some more of those who wait for few.

    A job that waits here keeps no place among the running ones: the jobs of idle backends go on.
    """

    def __init__(self, per_backend: Mapping[str, int], most: int) -> None:
        self._backends = {name: _Backend(Line(count)) for name, count in per_backend.items()}
        self._most = most
        self._calling: dict[str, int] = {}
        self._waiting: dict[str, int] = {}
        self._aside: set[str] = set()
        self._ticker: asyncio.Task[None] | None = None

    def __contains__(self, backend: object) -> bool:
        return backend in self._backends

    def refuse_when_full(self, backends: Collection[str], caller: str) -> None:
        """Raise `BusyError` if a job of *caller* could not even wait, whichever of *backends* it took."""
        if backends and all(self.is_full(name, caller) for name in backends):
            raise self._busy(next(iter(backends)))

    @property
    def waiting(self) -> int:
        """How many calls wait for a backend."""
        return sum(backend.line.waiting for backend in self._backends.values())

    def position(self, job: Waiter) -> int:
        """Tell how many calls come before the next one of *job*, plus one; 0 if it waits for no backend."""
        for backend in self._backends.values():
            for place, turn in enumerate(backend.line.order(), 1):
                if turn.job is job:
                    return place
        return 0

    @asynccontextmanager
    async def place(self, name: str, caller: str, job: Waiter) -> AsyncIterator[bool]:
        """Hold one of the backend's places, True if it had to be waited for; raise `BusyError` if too many wait."""
        backend = self._backends[name]
        waited = await self._take(name, backend, caller, job)
        began = time.monotonic()
        try:
            if job.id in self._aside:
                self._aside.discard(job.id)
                await job.step_back()
            yield waited
            backend.pace.note(time.monotonic() - began)
        finally:
            count(self._calling, job.id, -1)
            self._leave(backend, caller)
            if job.id in self._waiting and job.id not in self._calling and job.id not in self._aside:
                # Whoever waits for the next of its calls holds no running place either: others need one for this.
                self._aside.add(job.id)
                job.step_aside()

    async def _take(self, name: str, backend: _Backend, caller: str, job: Waiter) -> bool:
        begun = job.id in self._calling or job.id in self._waiting
        if not (begun or job.sent) and self.is_full(name, caller):
            raise self._busy(name)
        turn = _Turn(job, caller, asyncio.get_running_loop().create_future())
        waits = not backend.line.enter(caller, turn)
        count(self._waiting if waits else self._calling, job.id, 1)
        if waits:
            turn.told = backend.line.position(turn)
            job.tell("queued", {"position": turn.told, "backend": name})
            if not begun:
                self._aside.add(job.id)
                job.step_aside()
            self._watch()
            try:
                await turn.ready
            except BaseException:
                self._aside.discard(job.id)
                if turn.ready.cancelled() or not turn.ready.done():
                    backend.line.give_up(turn)
                    count(self._waiting, job.id, -1)
                else:
                    count(self._calling, job.id, -1)
                    self._leave(backend, caller)
                raise
        return waits

    def _leave(self, backend: _Backend, caller: str) -> None:
        backend.line.leave(caller)
        while (turn := backend.line.following()) is not None:
            if turn.ready.done():
                # It was cancelled and has not come to give its turn up itself.
                backend.line.leave(turn.caller)
            else:
                count(self._waiting, turn.job.id, -1)
                count(self._calling, turn.job.id, 1)
                turn.ready.set_result(None)

    def is_full(self, name: str, caller: str) -> bool:
        """Say whether a job of *caller* could not even wait for the backend."""
        return name in self._backends and not self._backends[name].line.has_room(caller, self._most)

    def _busy(self, name: str) -> BusyError:
        line, pace = self._backends[name].line, self._backends[name].pace
        return BusyError(
            f"the backend {name!r} works on {line.running} calls, and {line.waiting} wait; try again later",
            retry_after=pace.wait(line.waiting + 1, line.places),
        )

    def _watch(self) -> None:
        if not self._ticker or self._ticker.done():
            self._ticker = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        """Tell who waits and is watched how the line moves."""
        while any(backend.line.waiting for backend in self._backends.values()):
            await asyncio.sleep(1)
            for name, backend in self._backends.items():
                for place, turn in enumerate(backend.line.order(), 1):
                    if turn.job.watched and turn.told != place:
                        turn.told = place
                        turn.job.tell("queued", {"position": place, "backend": name})

    async def close(self) -> None:
        """Stop telling."""
        if self._ticker:
            self._ticker.cancel()
            await asyncio.wait([self._ticker])
