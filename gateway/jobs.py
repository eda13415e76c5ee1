"""Jobs: submit, watch, wait, abandon, cancel, drain; knows no HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from gateway.admission import Admission
from gateway.claims import Again, Claims
from gateway.errors import (
    BusyError,
    CancelledJobError,
    DeadlineError,
    GatewayError,
    UnavailableError,
    UpstreamTimeoutError,
)
from gateway.finished import Finished, remembered_error
from gateway.job import Job, deleted, without_bytes
from gateway.memory import Memory
from gateway.settings import Jobs as Limits
from gateway.unstored import Unstored
from gateway.values import Caller, Event, ImageRequest, Result

log = logging.getLogger(__name__)

IN_HAND = {"generated", "storing", "stored"}
KEEPING = 60.0
"""Seconds (its limit once more, if that is less) that a job has when its pictures are there: they are paid for."""

Run = Callable[[Job], Awaitable[Result]]


class Jobs:
    """Takes jobs in, lets as many work as the limits allow, and remembers the finished ones for a while."""

    def __init__(
        self,
        limits: Limits,
        run: Run,
        on_event: Callable[[Event], None] = lambda event: None,
        memory: Memory | None = None,
    ) -> None:
        self.limits = limits
        self.memory = memory or Memory()
        self.draining = False
        self.on_end: list[Callable[[Job], None]] = []
        self.on_sent: Callable[[Job], None] = lambda job: None
        self.on_amended: Callable[[Job], None] = lambda job: None
        self._run = run
        self._on_event = on_event
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._admission = Admission(limits, self.memory, self._start)
        self._claims = Claims()
        self._finished = Finished(limits.keep)
        self._unstored = Unstored()
        self._aborted = asyncio.Event()
        self._aside = self._step_aside, self._step_back, self._waiting
        self._followers = 0

    def submit(
        self,
        request: ImageRequest,
        caller: Caller,
        original: str,
        *,
        key: str | None = None,
        fingerprint: str = "",
        again: Again | None = None,
        inline: bool = False,
        attached: bool = True,
    ) -> Job:
        """Take a job in, or find the one that the same *key* (or the same body, by what is known of a repetition,
        *again*) has already started. Raise `BusyError` when all places are taken, `ConflictError` when the key is used
        for another body, `UnavailableError` while shutting down and while memory is short."""
        earlier = self._claims.find(caller.name, key, fingerprint, again)
        if earlier:
            earlier.attached = earlier.attached and attached
            return earlier
        if self.draining:
            raise UnavailableError("the gateway is shutting down; try again in a moment", retry_after=5)
        self._admission.refuse(caller)
        job = Job(request, caller, original, self._on_event)
        job.fingerprint, job.key, job.inline, job.attached = fingerprint, key, inline, attached
        job.words = self._claims.words_of(caller.name, fingerprint)
        job.on_sent = self.on_sent
        job.on_aside, job.on_back, job.on_waiting = self._aside
        self._jobs[job.id] = job
        self._claims.remember(job)
        if again and again.said:
            self._claims.settle(caller.name, fingerprint)
        job.tell("accepted", {"model": request.model})
        self._admission.enter(job)
        return job

    def refuse_when_short(self) -> None:
        """Raise `UnavailableError` while there is too little memory left for another picture."""
        self._admission.refuse_when_short()

    def earlier(self, caller: Caller, key: str | None, fingerprint: str, again: Again | None = None) -> Job | None:
        """Find the job that a repeated call means, without starting one; raise `ConflictError` as `submit` does."""
        return self._claims.find(caller.name, key, fingerprint, again)

    def turn_away(self, caller: Caller, fingerprint: str, again: Again, error: GatewayError) -> None:
        """Note that a call was told *error* before it had a job, and that its client will come again."""
        self._claims.turn_away(caller.name, fingerprint, again, error)

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
        self._finished.add(job)
        self._claims.remember(job)

    def amend(self, job: Job, result: Result) -> None:
        """Let a finished job tell what has become of its pictures since."""
        job.result = result
        self._unstored.settle(job)
        if not job.readers:
            self._lighten(job)
        if job.id in self._jobs:
            self.on_amended(job)

    def forget_picture(self, key: str) -> None:
        """Let every job know that this picture was deleted: its link is dead, and nobody may have the bytes again."""
        for job in list(self._jobs.values()):
            pictures = job.result.pictures if job.result else ()
            if job.result and any(key in (picture.meta.key, picture.planned) for picture in pictures):
                left = (deleted(one, key) if key in (one.meta.key, one.planned) else one for one in pictures)
                self.amend(job, replace(job.result, pictures=tuple(left)))

    def position(self, job: Job) -> int:
        """Tell how many jobs start before this one, plus one; 0 once it works."""
        return self._admission.position(job)

    @contextmanager
    def reading(self, job: Job, patience: float | None = None) -> Iterator[Job]:
        """Mark a client as waiting: if the last one leaves before anything was sent upstream, the job is cancelled.

        *patience*: after so many seconds the client waits no longer for what has not been sent by then.
        """
        job.readers += 1
        reader = timer = None
        if patience is not None and (reader := asyncio.current_task()):
            timer = asyncio.get_running_loop().call_later(patience, self._run_out, job, reader, patience)
        gone = True
        try:
            yield job
            gone = False
        except GatewayError:
            # Now it has been told, and may be tried anew.
            gone = job.untold = False
            raise
        finally:
            if timer and reader:
                timer.cancel()
                job.forget_reader(reader)
            job.readers -= 1
            if not job.readers:
                if job.done:
                    job.left = time.time() if gone else None
                    self._lighten(job)
                elif job.attached and not job.sent:
                    self.cancel(job)
                else:
                    job.left = time.time()

    def cancel(self, job: Job) -> bool:
        """Stop a job that has not sent anything yet; False if it is too late."""
        if job.done or job.sent:
            return False
        self._end(job, error=CancelledJobError("the job was cancelled before anything was sent"), state="cancelled")
        return True

    def abort(self) -> None:
        """Give up every job that has not ended; what was sent may be paid for and lost."""
        self.draining = True
        self._aborted.set()
        for job in [job for job in self._jobs.values() if not job.done]:
            self._end(job, error=UnavailableError("the gateway was stopped at once"))

    async def aborted(self, seconds: float) -> None:
        """Wait for *seconds*, or until `abort`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._aborted.wait()

    async def drain(self, seconds: float) -> bool:
        """Refuse new jobs and wait for the running ones; False if some had to be cancelled."""
        self.draining = True
        deadline = time.monotonic() + seconds
        while (unfinished := [job for job in self._jobs.values() if not job.done]) and time.monotonic() < deadline:
            tasks = [job.task for job in unfinished if job.task]
            await asyncio.wait(tasks, timeout=max(0.01, deadline - time.monotonic()), return_when="FIRST_COMPLETED")
        for job in unfinished:
            self._end(job, error=UnavailableError("the gateway was shut down before the picture was ready"))
        self._admission.close()
        if tasks := [job.task for job in unfinished if job.task and not job.task.done()]:
            await asyncio.wait(tasks, timeout=1)
        return not unfinished

    @property
    def counts(self) -> dict[str, int]:
        counts = self._admission.counts
        return {**counts, "waiting": counts["waiting"] + self._followers}

    def _start(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        job.state = "running"
        job.started = time.time()
        job.timer = loop.call_later(self.limits.timeout, self._expire, job)
        job.task = loop.create_task(self._work(job))

    async def _work(self, job: Job) -> None:
        try:
            result = await self._run(job)
        except GatewayError as error:
            self._end(job, error=error)
        except asyncio.CancelledError:
            self._end(job, error=CancelledJobError("the job was cancelled"), state="cancelled")
        except Exception:
            log.exception("job %s failed by a fault of the gateway", job.id)
            self._end(job, error=GatewayError(f"an internal error; the gateway's log names it by {job.id}"))
        else:
            self._end(job, result=result)

    def _expire(self, job: Job, last: bool = False) -> None:
        if not last and (job.events[-1].type in IN_HAND or (job.hurry and job.hurry())):
            seconds = min(KEEPING, self.limits.timeout)
            job.timer = asyncio.get_running_loop().call_later(seconds, self._expire, job, True)
            return
        message = f"no picture after {self.limits.timeout:g} s, the limit for a job"
        self._end(job, error=UpstreamTimeoutError(message, code="job_timeout", sent=job.sent))

    def _run_out(self, job: Job, reader: asyncio.Task[Any], patience: float) -> None:
        """Drop a job whose one reader waits no longer; one that others wait for, or will ask for, goes on."""
        if job.done or job.sent:
            return
        alone = job.attached and job.readers == 1
        error = DeadlineError(
            f"nothing was sent within {patience:g} s, the time that this call gave, and nothing is billed; "
            + ("the job was dropped" if alone else "the job goes on for others"),
            retry_after=self._admission.wait(job.caller, job.aside),
        )
        if alone:
            self._end(job, error=error)
        else:
            job.dismiss(reader, error)

    def _end(
        self, job: Job, *, result: Result | None = None, error: GatewayError | None = None, state: str = ""
    ) -> None:
        if job.done:
            return
        job.result, job.error, job.ended = result, remembered_error(error, job.sent), time.time()
        job.state = state or ("failed" if error else "finished")
        if job.timer:
            job.timer.cancel()
            job.timer = None
        if job.task is asyncio.current_task():
            # Its frames and its context are not worth remembering for as long as the job is.
            job.task = None
        elif job.task:
            job.task.cancel()
        if job.error:
            job.tell(job.state, {**job.error.as_json(), "sent": job.sent})
        else:
            assert result is not None
            job.tell("finished", {"result": without_bytes(result)})
        if not job.readers:
            self._lighten(job)
        self._admission.leave(job)
        for tell in self.on_end:
            try:
                tell(job)
            except Exception:
                log.exception("the end of job %s could not be told to all", job.id)
        self._finished.add(job)
        self._forget_old()

    def _step_aside(self, job: Job) -> None:
        """Let another job have the place, and no time pass, while this one waits for its backend."""
        if job.done or job.aside:
            return
        if job.timer:
            job.timer.cancel()
        self._admission.step_aside(job)

    @contextmanager
    def _waiting(self, job: Job) -> Iterator[None]:
        """Count a job that waits for another: they hold no places, but they are not without a bound."""
        # As many as could work may wait in any case: each has given up a place for it.
        if self._followers >= max(self.limits.running, self.limits.waiting):
            wait = self._admission.wait(job.caller)
            raise BusyError(f"{self._followers} jobs wait for others already; try again later", retry_after=wait)
        self._followers += 1
        try:
            yield
        finally:
            self._followers -= 1

    async def _step_back(self, job: Job) -> None:
        await self._admission.step_back(job)
        job.timer = asyncio.get_running_loop().call_later(self.limits.timeout, self._expire, job)

    def _forget_old(self) -> None:
        for job in self._finished.surplus(time.time()):
            del self._jobs[job.id]
            self._unstored.give_up(job, "its job is forgotten")
            self._claims.forget(job)

    def _lighten(self, job: Job) -> None:
        self._unstored.lighten(job, keep=job.id in self._jobs)
