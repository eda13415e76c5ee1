"""Jobs: submit, watch, wait, abandon, cancel, drain; knows no HTTP."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from gateway.errors import (
    BusyError,
    CancelledJobError,
    ConflictError,
    GatewayError,
    UnavailableError,
    UpstreamTimeoutError,
)
from gateway.fairness import Line
from gateway.settings import Jobs as Limits
from gateway.values import Caller, Event, ImageRequest, Result

log = logging.getLogger(__name__)

FINISHED = {"finished", "failed", "cancelled"}
RETRY_WINDOW = 120.0
"""For how many seconds after its end a job answers a client's own retry of the same body."""
KEPT = 10_000
"""How many finished jobs are remembered at most, whatever their age."""


class Job:
    """One request being served. *sent* is True once a paid call may have gone out: then it is finished, not cancelled.

    *inline* says that the caller takes the bytes themselves, so that a failing storage need not fail the job.
    """

    __slots__ = (
        "_readers",
        "_task",
        "_timer",
        "_waiters",
        "attached",
        "caller",
        "created",
        "ended",
        "error",
        "events",
        "fingerprint",
        "id",
        "inline",
        "key",
        "on_event",
        "original",
        "request",
        "result",
        "sent",
        "started",
        "state",
    )

    def __init__(self, request: ImageRequest, caller: Caller, original: str, on_event: Callable[[Event], None]) -> None:
        self.id = f"job_{secrets.token_hex(12)}"
        self.request = request
        self.caller = caller
        self.original = original
        self.created = time.time()
        self.started: float | None = None
        self.ended: float | None = None
        self.state = "queued"
        self.sent = False
        self.inline = False
        self.attached = True
        self.events: list[Event] = []
        self.result: Result | None = None
        self.error: GatewayError | None = None
        self.fingerprint = ""
        self.key: str | None = None
        self.on_event = on_event
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._readers = 0

    @property
    def done(self) -> bool:
        return self.state in FINISHED

    @property
    def watched(self) -> bool:
        return bool(self._waiters)

    def tell(self, kind: str, data: Mapping[str, Any]) -> None:
        """Record an event and wake whoever watches."""
        event = Event(self.id, len(self.events) + 1, kind, time.time(), data)
        self.events.append(event)
        self.on_event(event)
        self.wake()

    def wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def watch(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield every event with a sequence above *after*, in order, until the job has ended."""
        while True:
            while after < len(self.events):
                event = self.events[after]
                after += 1
                yield event
            if self.done:
                return
            await self._change()

    async def begin(self, seconds: float) -> None:
        """Wait until the job waits in line or does its first real step; raise its error if it fails before.

        What refuses a job at once (limits, blocked words) can so be told with a status, before a stream begins.
        """
        try:
            async with asyncio.timeout(seconds):
                while self.state == "running" and len(self.events) == 1:
                    await self._change()
        except TimeoutError:
            return
        if self.error:
            raise self.error

    async def wait(self) -> Result:
        """Wait for the end; give the result or raise the job's error."""
        while not self.done:
            await self._change()
        if self.error:
            raise self.error
        assert self.result is not None
        return self.result

    async def _change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def forget_bytes(self) -> None:
        """Let go of pixels that only waiting callers needed; storage has them."""
        if self.result and all(picture.meta.key for picture in self.result.pictures):
            self.result = without_bytes(self.result)
        self.request = replace(self.request, images=(), mask=None) if self.request.images else self.request
        for place, event in enumerate(self.events):
            if event.type == "partial":
                self.events[place] = replace(event, data={k: v for k, v in event.data.items() if k != "image"})


def without_bytes(result: Result) -> Result:
    """Give the same result without its pixels."""
    return replace(result, pictures=tuple(replace(picture, data=b"") for picture in result.pictures))


Run = Callable[[Job], Awaitable[Result]]


class Jobs:
    """Takes jobs in, lets as many work as the limits allow, and remembers the finished ones for a while."""

    def __init__(self, limits: Limits, run: Run, on_event: Callable[[Event], None] = lambda event: None) -> None:
        self.limits = limits
        self.draining = False
        self.on_end: list[Callable[[Job], None]] = []
        self._run = run
        self._on_event = on_event
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._line: Line[Job] = Line(limits.running, limits.per_caller)
        self._keys: dict[tuple[str, str], str] = {}
        self._bodies: dict[tuple[str, str], str] = {}
        self._seconds = 5.0
        self._ticker: asyncio.Task[None] | None = None

    def submit(
        self,
        request: ImageRequest,
        caller: Caller,
        original: str,
        *,
        key: str | None = None,
        fingerprint: str = "",
        again: bool = False,
        inline: bool = False,
        attached: bool = True,
    ) -> Job:
        """Take a job in, or find the one that the same *key* (or, for a client's own retry, *again*, the same body)
        has already started. Raise `BusyError` when all places are taken, `ConflictError` when the key is used for
        another body, `UnavailableError` while shutting down."""
        earlier = self._earlier(caller, key, fingerprint, again)
        if earlier:
            return earlier
        if self.draining:
            raise UnavailableError("the gateway is shutting down; try again in a moment", retry_after=5)
        self._refuse_when_full(caller)
        job = Job(request, caller, original, self._on_event)
        job.fingerprint, job.key, job.inline, job.attached = fingerprint, key, inline, attached
        self._jobs[job.id] = job
        self._remember(job, key, fingerprint)
        job.tell("accepted", {"model": request.model})
        if self._line.enter(caller.name, job):
            self._start(job)
        else:
            job.tell("queued", {"position": self._line.position(job)})
            self._watch_the_line()
        return job

    def get(self, identity: str, caller: Caller) -> Job | None:
        """Find a job of this caller."""
        job = self._jobs.get(identity)
        return job if job and job.caller.name == caller.name else None

    def all(self, caller: Caller) -> Iterator[Job]:
        """Yield this caller's jobs, newest first."""
        return (job for job in reversed(self._jobs.values()) if job.caller.name == caller.name)

    def restore(self, job: Job) -> None:
        """Take in a finished job of an earlier process."""
        self._jobs[job.id] = job
        self._remember(job, job.key, job.fingerprint)

    def position(self, job: Job) -> int:
        """Tell how many jobs start before this one, plus one; 0 once it works."""
        return self._line.position(job)

    @contextmanager
    def reading(self, job: Job) -> Iterator[Job]:
        """Mark a client as waiting: if the last one leaves before anything was sent upstream, the job is cancelled."""
        job._readers += 1
        try:
            yield job
        finally:
            job._readers -= 1
            if not job._readers:
                if job.done:
                    job.forget_bytes()
                elif job.attached and not job.sent:
                    self.cancel(job)

    def cancel(self, job: Job) -> bool:
        """Stop a job that has not sent anything yet; False if it is too late."""
        if job.done or job.sent:
            return False
        self._end(job, error=CancelledJobError("the job was cancelled before anything was sent"), state="cancelled")
        return True

    async def drain(self, seconds: float) -> bool:
        """Refuse new jobs and wait for the running ones; False if some had to be cancelled."""
        self.draining = True
        deadline = time.monotonic() + seconds
        while (unfinished := [job for job in self._jobs.values() if not job.done]) and time.monotonic() < deadline:
            tasks = [job._task for job in unfinished if job._task]
            await asyncio.wait(tasks, timeout=max(0.01, deadline - time.monotonic()), return_when="FIRST_COMPLETED")
        for job in unfinished:
            self._end(job, error=UnavailableError("the gateway was shut down before the picture was ready"))
        if self._ticker:
            self._ticker.cancel()
        return not unfinished

    @property
    def counts(self) -> dict[str, int]:
        return {"running": self._line.running, "waiting": self._line.waiting}

    def _earlier(self, caller: Caller, key: str | None, fingerprint: str, again: bool) -> Job | None:
        identity = self._keys.get((caller.name, key)) if key else None
        if identity is None and again:
            identity = self._recent(self._bodies.get((caller.name, fingerprint)))
        job = self._jobs.get(identity) if identity else None
        if job is None:
            return None
        if job.fingerprint != fingerprint:
            raise ConflictError(
                f"the Idempotency-Key {key!r} was used for a different request; use a new key", param="Idempotency-Key"
            )
        # What failed without being paid for may be tried anew; anything else is answered as it was.
        return None if job.error and not (job.sent and job.error.again is False) else job

    def _recent(self, identity: str | None) -> str | None:
        job = self._jobs.get(identity or "")
        return identity if job and (job.ended is None or time.time() - job.ended < RETRY_WINDOW) else None

    def _refuse_when_full(self, caller: Caller) -> None:
        if self._line.would_wait(caller.name) and self._line.waiting >= self.limits.waiting:
            seconds = self._seconds * (self._line.waiting + 1) / self.limits.running
            raise BusyError(
                f"all {self.limits.running} places are busy and {self._line.waiting} jobs wait; try again later",
                retry_after=max(1.0, min(seconds, 120.0)),
            )

    def _remember(self, job: Job, key: str | None, fingerprint: str) -> None:
        if key:
            self._keys[job.caller.name, key] = job.id
        if fingerprint:
            self._bodies[job.caller.name, fingerprint] = job.id

    def _start(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        job.state = "running"
        job.started = time.time()
        job._timer = loop.call_later(self.limits.timeout, self._expire, job)
        job._task = loop.create_task(self._work(job))

    async def _work(self, job: Job) -> None:
        try:
            result = await self._run(job)
        except GatewayError as error:
            self._end(job, error=error)
        except asyncio.CancelledError:
            self._end(job, error=CancelledJobError("the job was cancelled"), state="cancelled")
        except Exception:
            log.exception("job %s failed by a fault of the gateway", job.id)
            self._end(job, error=GatewayError("an internal error; the log of the gateway names it by the request id"))
        else:
            self._end(job, result=result)

    def _expire(self, job: Job) -> None:
        message = f"no picture after {self.limits.timeout:g} s, the limit for a job"
        self._end(job, error=UpstreamTimeoutError(message, code="job_timeout", sent=job.sent))

    def _end(
        self, job: Job, *, result: Result | None = None, error: GatewayError | None = None, state: str = ""
    ) -> None:
        if job.done:
            return
        waited = job.started is None
        job.result, job.error, job.ended = result, error, time.time()
        job.state = state or ("failed" if error else "finished")
        if job._timer:
            job._timer.cancel()
        if job._task and not job._task.done() and job._task is not asyncio.current_task():
            job._task.cancel()
        if error:
            job.tell(job.state, {**error.as_json(), "sent": job.sent})
        else:
            assert result is not None
            job.tell("finished", {"result": without_bytes(result)})
        if not job._readers:
            job.forget_bytes()
        self._leave(job, waited)
        for tell in self.on_end:
            tell(job)
        self._forget_old()

    def _leave(self, job: Job, waited: bool) -> None:
        if waited:
            self._line.give_up(job)
        else:
            assert job.started is not None
            assert job.ended is not None
            self._seconds += 0.1 * (job.ended - job.started - self._seconds)
            for following in self._line.leave(job.caller.name):
                self._start(following)

    def _forget_old(self) -> None:
        horizon = time.time() - self.limits.keep
        while self._jobs:
            job = next(iter(self._jobs.values()))
            if not job.done or (len(self._jobs) <= KEPT and (job.ended or 0) > horizon):
                break
            del self._jobs[job.id]
            if self._bodies.get((job.caller.name, job.fingerprint)) == job.id:
                del self._bodies[job.caller.name, job.fingerprint]
        if len(self._keys) > 2 * len(self._jobs) + 100:
            self._keys = {pair: identity for pair, identity in self._keys.items() if identity in self._jobs}

    def _watch_the_line(self) -> None:
        if not self._ticker or self._ticker.done():
            self._ticker = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        while self._line.waiting:
            await asyncio.sleep(1)
            for place, job in enumerate(self._line.order(), 1):
                if job.watched and job.events[-1].data.get("position") != place:
                    job.tell("queued", {"position": place})
