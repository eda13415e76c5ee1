"""Finished jobs as records, so that a gateway that was killed and started again still answers for them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import TypeAdapter, ValidationError

from gateway.errors import BusyError, GatewayError, RefusedError, UpstreamError
from gateway.finished import KEPT
from gateway.job import FINISHED, Job, without_bytes
from gateway.jobs import Jobs
from gateway.state import Records
from gateway.values import Caller, Event, ImageRequest, Result

log = logging.getLogger(__name__)


GOODBYE = 10.0
"""Seconds that a stop waits for records to be written."""


@dataclass(frozen=True)
class Failure:
    """An error as it was told, and what else decides whether it is answered again: one of `KINDS`, if it is billed."""

    message: str
    type: str
    code: str
    status: int
    param: str | None = None
    again: bool | None = None
    kind: str = ""
    billed: bool | None = None
    said: str | None = None


@dataclass(frozen=True)
class Record:
    """A finished job, or one that may have been paid for, without pixels; *key* is its Idempotency-Key."""

    id: str
    caller: Caller
    request: ImageRequest
    original: str
    state: str
    created: float
    started: float | None
    ended: float | None
    sent: bool
    fingerprint: str
    key: str | None
    events: tuple[Event, ...]
    result: Result | None
    failure: Failure | None
    webhook: str | None = None


KINDS: Mapping[str, type[GatewayError]] = {"refused": RefusedError, "busy": BusyError, "upstream": UpstreamError}
INTERRUPTED = Failure(
    "the gateway was stopped while the picture was drawn; it may have been paid for, so it is not drawn again",
    "server_error",
    "interrupted",
    500,
    again=False,
)
RECORD: TypeAdapter[Record] = TypeAdapter(Record)


class JobRecords:
    """Writes jobs as they end, and gives them back at the next start."""

    def __init__(self, records: Records, keep: float) -> None:
        self._records = records
        self._keep = keep
        self._tasks: set[asyncio.Task[None]] = set()
        self._wanted: dict[str, tuple[str, float]] = {}
        self._writing = asyncio.Lock()

    async def open(self, jobs: Jobs) -> None:
        """Read what an earlier process has left into *jobs*."""
        await self._records.open()
        for text in await self._records.all():
            try:
                record = RECORD.validate_json(text)
            except ValidationError:
                log.warning("a job's record of another version was left out")
                continue
            jobs.restore(_job(record))

    async def close(self) -> None:
        """Write what is left, as far as that can be done in a while: a store that hangs holds up no stop."""
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=GOODBYE)
            if left:
                log.error("%d records of jobs could not be kept before the stop", len(left))
                for task in left:
                    task.cancel()
                await asyncio.wait(left)
        await self._records.close()

    def sent(self, job: Job) -> None:
        """Keep a job that may be paid for from now on: after a crash its key must not pay a second time."""
        self._keep_task(job, (job.started or job.created) + self._keep)

    def ended(self, job: Job) -> None:
        """Keep a job that has just ended."""
        job.kept = self._keep_task(job, (job.ended or job.created) + self._keep)

    def _keep_task(self, job: Job, expires: float) -> asyncio.Task[None] | None:
        if len(self._wanted) >= KEPT and job.id not in self._wanted:
            # Memory has an end.
            log.error("the record of %s is not kept: the store hangs, and %d others wait for it", job.id, KEPT)
            return None
        self._wanted[job.id] = RECORD.dump_json(_record(job)).decode(), expires
        task = asyncio.get_running_loop().create_task(self._put(job.id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _put(self, identity: str) -> None:
        # One after the other, so that the end of a job is never overwritten by its beginning.
        async with self._writing:
            text, expires = self._wanted.pop(identity, ("", 0.0))
            if expires <= time.time():
                # Its end was written in the turn of its beginning, or it has waited for its turn too long.
                return
            try:
                await self._records.put(identity, text, expires)
            except Exception:
                log.exception("the record of %s could not be kept", identity)


def _record(job: Job) -> Record:
    events = (replace(event, data={k: v for k, v in event.data.items() if _is_plain(v)}) for event in job.events)
    return Record(
        id=job.id,
        caller=job.caller,
        request=replace(job.request, images=(), mask=None),
        original=job.original,
        state=job.state,
        created=job.created,
        started=job.started,
        ended=job.ended,
        sent=job.sent,
        fingerprint=job.fingerprint,
        key=job.key,
        events=tuple(events),
        result=without_bytes(job.result) if job.result else None,
        failure=_failure(job.error) if job.error else None,
        webhook=job.webhook,
    )


def _failure(error: GatewayError) -> Failure:
    kind = next((name for name, kind in KINDS.items() if isinstance(error, kind)), "")
    billed, said = getattr(error, "billed", None), getattr(error, "said", None)
    told = (error.message, error.type, error.code, error.status, error.param, error.again)
    return Failure(*told, kind=kind, billed=billed, said=said)


def _error(failure: Failure) -> GatewayError:
    error = KINDS.get(failure.kind, GatewayError)(failure.message, param=failure.param, code=failure.code)
    error.status, error.type, error.again = failure.status, failure.type, failure.again
    if isinstance(error, UpstreamError):
        error.billed = failure.billed
    elif isinstance(error, RefusedError):
        error.said = failure.said
    return error


def _unspooled(result: Result | None) -> Result | None:
    """Let the spool itself say what lies there now."""
    if result is None:
        return None
    return replace(result, pictures=tuple(replace(picture, spooled=False) for picture in result.pictures))


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool | list | dict)


def _job(record: Record) -> Job:
    job = Job(record.request, record.caller, record.original, lambda event: None)
    done = record.state in FINISHED
    job.id, job.sent, job.fingerprint = record.id, record.sent, record.fingerprint
    job.state = record.state if done else "failed"
    job.created, job.started, job.ended = record.created, record.started, record.ended or time.time()
    job.result, job.key, job.webhook = _unspooled(record.result), record.key, record.webhook
    job.events = [
        replace(event, data={"result": job.result}) if event.type == "finished" else event for event in record.events
    ]
    failure = record.failure or (None if record.result else INTERRUPTED)
    if failure:
        job.error = _error(failure)
    if not done and job.error:
        last = Event(job.id, len(job.events) + 1, "failed", job.ended, {**job.error.as_json(), "sent": job.sent})
        job.events.append(last)
    return job
