"""Finished jobs as records, so that a gateway that was killed and started again still answers for them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

from pydantic import TypeAdapter, ValidationError

from gateway.errors import GatewayError
from gateway.job import Job, without_bytes
from gateway.jobs import Jobs
from gateway.state import Records
from gateway.values import Caller, Event, ImageRequest, Result

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """An error as it was told."""

    message: str
    type: str
    code: str
    status: int
    param: str | None = None
    again: bool | None = None


@dataclass(frozen=True)
class Record:
    """A finished job, without pixels; *key* is the Idempotency-Key that it answers to."""

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


RECORD: TypeAdapter[Record] = TypeAdapter(Record)


class JobRecords:
    """Writes jobs as they end, and gives them back at the next start."""

    def __init__(self, records: Records, keep: float) -> None:
        self._records = records
        self._keep = keep
        self._tasks: set[asyncio.Task[None]] = set()

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
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._records.close()

    def ended(self, job: Job) -> None:
        """Keep a job that has just ended."""
        text = RECORD.dump_json(_record(job)).decode()
        task = asyncio.get_running_loop().create_task(self._put(job, text))
        job.kept = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _put(self, job: Job, text: str) -> None:
        try:
            await self._records.put(job.id, text, (job.ended or job.created) + self._keep)
        except Exception:
            log.exception("the record of %s could not be kept", job.id)


def _record(job: Job) -> Record:
    error = job.error
    failure = error and Failure(error.message, error.type, error.code, error.status, error.param, error.again)
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
        failure=failure or None,
        webhook=job.webhook,
    )


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool | list | dict)


def _job(record: Record) -> Job:
    job = Job(record.request, record.caller, record.original, lambda event: None)
    job.id, job.state, job.sent, job.fingerprint = record.id, record.state, record.sent, record.fingerprint
    job.created, job.started, job.ended = record.created, record.started, record.ended
    job.result, job.key, job.webhook = record.result, record.key, record.webhook
    job.events = [
        replace(event, data={"result": record.result}) if event.type == "finished" else event for event in record.events
    ]
    if record.failure:
        failure = record.failure
        job.error = GatewayError(failure.message, param=failure.param, code=failure.code)
        job.error.status, job.error.type, job.error.again = failure.status, failure.type, failure.again
    return job
