"""Stores pictures that were paid for once the storage that was down is back."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from gateway.contracts import Storage
from gateway.errors import PictureTooLargeError, StorageDownError, StorageError
from gateway.job import Job
from gateway.jobs import Jobs
from gateway.storing import NOT_STORED, put
from gateway.values import Picture, Result

log = logging.getLogger(__name__)

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each try after a failure; the last one stays."""
LAST_PAUSE = 0.5
LAST_TRY = 20.0
"""Seconds that a stopping gateway still gives to what no storage has."""


@dataclass
class Line:
    """The jobs whose pictures wait for one storage, and whoever tries it for all of them."""

    storage: Storage
    jobs: dict[str, Job] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class LateStoring:
    """Tries again while a job is remembered and its bytes have a place in memory; both end in `Jobs`."""

    def __init__(self, jobs: Jobs, storage_of: Callable[[Job], Storage], pauses: Sequence[float] = PAUSES) -> None:
        self.pauses = pauses
        self._jobs = jobs
        self._storage_of = storage_of
        self._lines: dict[int, Line] = {}

    def ended(self, job: Job) -> None:
        """Take in a job that has just ended, if a picture of it waits for its storage."""
        if not _waiting(job):
            return
        storage = self._storage_of(job)
        line = self._lines.setdefault(id(storage), Line(storage))
        line.jobs[job.id] = job
        if line.task is None or line.task.done():
            line.task = asyncio.get_running_loop().create_task(self._work(line))

    async def close(self, seconds: float = LAST_TRY) -> None:
        """Try a last time, for at most *seconds*, and tell what is lost."""
        tasks = [line.task for line in self._lines.values() if line.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*map(self._try_last, self._lines.values()))
        except TimeoutError:
            log.warning("a storage took longer than the %g s that a stop leaves it", seconds)
        left = sum(len(_waiting(job)) for line in self._lines.values() for job in line.jobs.values())
        if left:
            log.error("%d pictures that were paid for are lost: their storage did not come back in time", left)

    async def _work(self, line: Line) -> None:
        failed = 1
        while line.jobs:
            if failed:
                pause = self.pauses[min(failed, len(self.pauses)) - 1]
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            job = next(iter(line.jobs.values()))
            error = await self._store(job, line.storage)
            if error is None:
                del line.jobs[job.id]
                failed = 0
            else:
                # What ails one picture (no room for its size) need not ail the next.
                line.jobs[job.id] = line.jobs.pop(job.id)
                line.jobs = {name: job for name, job in line.jobs.items() if _waiting(job)}
                failed += 1

    async def _try_last(self, line: Line) -> None:
        for job in list(line.jobs.values()):
            error = await self._store(job, line.storage)
            while isinstance(error, StorageDownError):
                await asyncio.sleep(LAST_PAUSE)
                error = await self._store(job, line.storage)
            if error is None:
                del line.jobs[job.id]

    async def _store(self, job: Job, storage: Storage) -> StorageError | None:
        """Store what waits of one job; give the error that keeps the rest waiting."""
        for planned in _waiting(job):
            picture = _find(job.result, planned)
            if picture is None or not picture.waits:
                continue
            try:
                meta = await put(storage, replace(picture.meta, key=planned), picture.data)
            except PictureTooLargeError as error:
                self._amend(job, planned, replace(picture, planned="", trouble=error.message))
            except StorageError as error:
                log.info("job %s: the storage still does not take its picture: %s", job.id, error.message)
                return error
            else:
                stored = replace(picture, meta=meta, planned="", trouble="")
                if not self._amend(job, planned, stored):
                    await _take_back(storage, planned)
        return None

    def _amend(self, job: Job, planned: str, picture: Picture) -> bool:
        """Put *picture* where one with the key *planned* waits; False if none does any more."""
        if not job.result or not _find(job.result, planned):
            return False
        pictures = tuple(picture if one.planned == planned else one for one in job.result.pictures)
        result = replace(job.result, pictures=pictures)
        if all(one.meta.key for one in pictures):
            log.info("job %s: its pictures are stored now", job.id)
            result = _noted(result)
        self._jobs.amend(job, result)
        return True


async def _take_back(storage: Storage, key: str) -> None:
    """Delete what its owner has deleted while it was on its way."""
    try:
        await storage.delete(key)
    except StorageError as error:
        log.warning("a deleted picture could not be taken back from its storage: %s", error.message)


def _waiting(job: Job) -> list[str]:
    return [picture.planned for picture in job.result.pictures if picture.waits] if job.result else []


def _find(result: Result | None, planned: str) -> Picture | None:
    return next((one for one in result.pictures if one.planned == planned), None) if result else None


def _noted(result: Result) -> Result:
    """Say in the receipt that all is well now."""
    notes = [note for note in result.receipt.notes if not note.startswith(NOT_STORED)]
    notes.append("the storage could not take the picture at first; it was stored later")
    return replace(result, receipt=replace(result.receipt, notes=tuple(notes)))
