"""Which jobs work and which wait: fair between callers, those who come back first, fewer while memory is short."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.errors import BusyError, UnavailableError
from gateway.fairness import Line, Pace
from gateway.job import Job
from gateway.memory import Memory
from gateway.settings import Jobs as Limits
from gateway.values import Caller


class Admission:
    """The places of the running jobs, and the line before them; *start* is called for a job that has got its place."""

    def __init__(self, limits: Limits, memory: Memory, start: Callable[[Job], None]) -> None:
        self._most = limits.waiting
        self._memory = memory
        self._start = start
        self._line: Line[Job] = Line(limits.running, limits.per_caller)
        self._pace = Pace()
        self._returning: dict[Job, asyncio.Future[None]] = {}
        self._ticker: asyncio.Task[None] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many work and how many wait."""
        return {"running": self._line.running, "waiting": self._line.waiting}

    def position(self, job: Job) -> int:
        """Tell how many jobs start before this one, plus one; 0 once it works."""
        return self._line.position(job)

    def refuse(self, caller: Caller) -> None:
        """Raise `UnavailableError` while memory is short, `BusyError` when *caller* may not even wait."""
        self.refuse_when_short()
        self._admit()
        line = self._line
        if line.has_room(caller.name, self._most):
            return
        raise BusyError(
            f"all {line.places} places are busy and {line.waiting} jobs wait; try again later",
            retry_after=self.wait(caller),
        )

    def wait(self, caller: Caller, aside: bool = False) -> float:
        """Reckon the seconds until another job of *caller* may work; *aside*: what it waits for is its backend."""
        if aside:
            # The time that others have waited for backends is a part of their pace.
            return self._pace.wait(1, 1)
        everyone = self._pace.wait(self._line.waiting + 1, self._line.places)
        own = self._pace.wait(self._line.waiting_of(caller.name) + 1, self._line.per_caller)
        return max(everyone, own)

    def refuse_when_short(self) -> None:
        """Raise `UnavailableError` while there is too little memory left for another picture."""
        if self._memory.full:
            raise UnavailableError(
                "the gateway has too little memory left for another picture; try again in a moment",
                code="out_of_memory",
                retry_after=max(2.0, min(self._pace.seconds, 30.0)),
            )

    def enter(self, job: Job) -> None:
        """Start the job, or let it wait and tell it where."""
        if self._line.enter(job.caller.name, job):
            self._start(job)
            return
        job.tell("queued", {"position": self._line.position(job)})
        if not self._ticker or self._ticker.done():
            self._ticker = asyncio.get_running_loop().create_task(self._tick())

    def leave(self, job: Job) -> None:
        """Take a job that has ended out of its place, or out of the line."""
        if job.started is None:
            self._line.give_up(job)
            return
        assert job.ended is not None
        self._pace.note(job.ended - job.started)
        if not job.aside:
            self._line.leave(job.caller.name)
        self._admit()

    def step_aside(self, job: Job) -> None:
        """Give the place of a job that waits for its backend to another."""
        job.state, job.aside = "queued", True
        self._line.leave(job.caller.name)
        self._admit()

    async def step_back(self, job: Job) -> None:
        """Wait for a place again, before those who have not begun."""
        self._returning[job] = ready = asyncio.get_running_loop().create_future()
        self._admit()
        try:
            await ready
        finally:
            self._returning.pop(job, None)

    def close(self) -> None:
        """Tell positions no more."""
        if self._ticker:
            self._ticker.cancel()

    def _admit(self) -> None:
        for job, ready in tuple(self._returning.items()):
            # One that was cancelled a moment ago has not yet taken itself out.
            if not ready.done() and not self._line.would_wait(job.caller.name):
                self._line.take(job.caller.name)
                job.state, job.aside = "running", False
                ready.set_result(None)
        # Whoever waits was promised a picture: while memory is short they get theirs one after the other.
        while self._line.waiting and not (self._line.running and self._memory.full):
            following = self._line.following()
            if following is None:
                return
            self._start(following)

    async def _tick(self) -> None:
        while self._line.waiting:
            await asyncio.sleep(1)
            self._admit()
            for place, job in enumerate(self._line.order(), 1):
                if job.watched and job.events[-1].data.get("position") != place:
                    job.tell("queued", {"position": place})
