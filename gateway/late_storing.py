"""Stores pictures that were paid for once the storage that was down is back; until then they lie in the spool."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.contracts import Storage
from gateway.errors import PictureTooLargeError, StorageDownError, StorageError
from gateway.job import RECORD_TIMEOUT, Job, changed
from gateway.jobs import Jobs
from gateway.pictures import is_alive
from gateway.spool import Spool, Spooled
from gateway.storage_calls import put
from gateway.storing import NOT_STORED
from gateway.values import Caller, Picture, PictureMeta, Result

log = logging.getLogger(__name__)

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each try after a failure; the last one stays."""
LAST_PAUSE = 0.5
LAST_TRY = 20.0
"""Seconds that a stopping gateway still gives to what no storage has."""
START = 10.0
"""Seconds for which a start waits until the spool was looked through."""
LOOK = 60.0
"""Seconds between two looks for what processes that ended meanwhile have left in the spool."""


@dataclass(frozen=True)
class Waiting:
    """A picture that waits, *meta* with the key that it is to have, and the job that bears it if that is known."""

    meta: PictureMeta
    job: Job | None = None

    @property
    def picture(self) -> Picture | None:
        return _find(self.job.result, self.meta.key) if self.job else None


@dataclass
class Line:
    """The pictures that wait for one storage, and whoever tries it for all of them."""

    storage: Storage
    waiting: dict[str, Waiting] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class LateStoring:
    """Tries again as long as the bytes have a place in memory, which ends in `Jobs`, or lie in the spool."""

    def __init__(
        self,
        jobs: Jobs,
        storages: Mapping[str, Storage],
        storage_of: Callable[[Job], str],
        spool: Spool | None = None,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self.pauses = pauses
        self.spool = spool
        self._jobs = jobs
        self._storages = storages
        self._storage_of = storage_of
        self._lines: dict[str, Line] = {}
        self._looking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take in what an earlier process has left in the spool; only a gateway that serves should."""
        if self.spool:
            first = asyncio.create_task(self._take_over(self.spool))
            self._looking = asyncio.create_task(self._look(self.spool, first))
            await asyncio.wait({first}, timeout=START)

    async def keep(self, job: Job, result: Result) -> Result:
        """Write the pictures of *result* that no storage has to the spool, as far as that can be done."""
        for picture in result.pictures:
            if picture.waits and self.spool:
                meta = replace(picture.meta, key=picture.planned)
                if not await self.spool.keep(Spooled(meta, self._storage_of(job), job.id), picture.data):
                    # Its caller waits: a disk that hangs is not waited for once more for each of many.
                    break
                result = changed(result, picture.planned, spooled=True)
        return result

    def ended(self, job: Job) -> None:
        """Take in a job that has just ended, if a picture of it waits for its storage."""
        for picture in job.result.pictures if job.result else ():
            if picture.waits:
                meta = replace(picture.meta, key=picture.planned)
                self._enter(self._storage_of(job), Waiting(meta, job))

    async def read(self, key: str) -> bytes | None:
        """Give the bytes of a picture in the spool; None if it is not there, or no more."""
        return await self.spool.read(key) if self.spool else None

    async def fill(self, job: Job) -> None:
        """Read into memory what waits of a job in the spool alone."""
        for picture in job.result.pictures if job.result else ():
            if picture.waits and not picture.data and (data := await self.read(picture.planned)) and job.result:
                job.result = changed(job.result, picture.planned, data=data)

    async def forget(self, key: str) -> None:
        """Take a picture that is being deleted out of the spool; raise `StorageDownError` if that cannot be done."""
        if self.spool:
            await self.spool.drop(key)

    def health(self) -> dict[str, int] | None:
        """Say how much lies in the spool; None without one."""
        return {"pictures": self.spool.count, "bytes": self.spool.size} if self.spool else None

    async def close(self, seconds: float = LAST_TRY) -> None:
        """Try a last time, for at most *seconds*, and tell what is lost, or where it lies."""
        tasks = [line.task for line in self._lines.values() if line.task]
        tasks += [self._looking] if self._looking else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*map(self._try_last, self._lines.values()))
        except TimeoutError:
            log.warning("a storage took longer than the %g s that a stop leaves it", seconds)
        left = [one for line in self._lines.values() for one in line.waiting.values() if self._waits(one)]
        lost = sum(not self._is_spooled(one.meta.key) for one in left)
        if lost:
            log.error("%d pictures that were paid for are lost: their storage did not come back in time", lost)
        if self.spool:
            if count := self.spool.count:
                log.warning(
                    "%d pictures that were paid for wait for their storage in %s; the next start stores them",
                    count,
                    self.spool.root,
                )
            spool, self.spool = self.spool, None
            await spool.close()

    def _enter(self, name: str, one: Waiting) -> None:
        line = self._lines.setdefault(name, Line(self._storages[name]))
        line.waiting[one.meta.key] = one
        if line.task is None or line.task.done():
            line.task = asyncio.get_running_loop().create_task(self._work(line))

    async def _look(self, spool: Spool, first: asyncio.Task[None]) -> None:
        await first
        while True:
            await asyncio.sleep(LOOK)
            await self._take_over(spool)

    async def _take_over(self, spool: Spool) -> None:
        left, homeless = 0, Counter[str]()
        for found in await spool.take_over():
            key, job = found.meta.key, self._jobs.get(found.job, Caller(found.meta.owner))
            if not is_alive(found.meta, time.time()):
                log.warning("picture %s of %s expired while it waited in %s; it is removed", key, found.job, spool.root)
                with suppress(StorageError):
                    await self.forget(key)
                continue
            known = job if job and _find(job.result, key) else None
            if known and known.result:
                known.result = changed(known.result, key, spooled=True)
            if found.storage in self._storages:
                left += 1
                self._enter(found.storage, Waiting(found.meta, known))
            else:
                homeless[found.storage] += 1
        if left:
            log.warning("%d pictures that were paid for were left in %s; they are stored now", left, spool.root)
        for name, count in homeless.items():
            log.error(
                "%d pictures that were paid for stay in %s: they are for the storage %r, which is not configured",
                count,
                spool.root,
                name,
            )

    async def _work(self, line: Line) -> None:
        failed = 1
        while line.waiting:
            if failed:
                pause = self.pauses[min(failed, len(self.pauses)) - 1]
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            key, one = next(iter(line.waiting.items()))
            error = await self._store(one, line.storage)
            del line.waiting[key]
            if error is None:
                failed = 0
            else:
                # What ails one picture (no room for its size) need not ail the next.
                line.waiting[key] = one
                line.waiting = {key: one for key, one in line.waiting.items() if self._waits(one)}
                failed += 1

    async def _try_last(self, line: Line) -> None:
        for key, one in list(line.waiting.items()):
            error = await self._store(one, line.storage)
            while isinstance(error, StorageDownError):
                await asyncio.sleep(LAST_PAUSE)
                error = await self._store(one, line.storage)
            if error is None:
                del line.waiting[key]

    async def _store(self, one: Waiting, storage: Storage) -> StorageError | None:
        """Store a picture that waits; give the error that keeps it waiting."""
        key, picture = one.meta.key, one.picture
        if not self._waits(one):
            return None
        try:
            data = (picture.data if picture else b"") or await self.read(key)
            if not data:
                self._amend(one, spooled=False)
                return None
            meta = await put(storage, one.meta, data)
            if not self._amend(one, meta=meta, planned="", trouble="", spooled=False):
                await _take_back(storage, key)
            await self._unspool(one)
        except PictureTooLargeError as error:
            self._amend(one, planned="", trouble=error.message, spooled=False, data=data)
            if self.spool:
                await self.spool.set_aside(key, error.message)
        except StorageError as error:
            log.info("%s: the storage still does not take its picture: %s", _named(one), error.message)
            return error
        return None

    async def _unspool(self, one: Waiting) -> None:
        """Remove a stored picture from the spool, when the record of its job leads to the storage."""
        if self._is_spooled(one.meta.key):
            if one.job and one.job.kept and not one.job.kept.done():
                await asyncio.wait({one.job.kept}, timeout=RECORD_TIMEOUT)
            await self.forget(one.meta.key)

    def _amend(self, one: Waiting, **changes: Any) -> bool:
        """Tell the job of a picture what has become of it; False if it waits no more, for it was deleted."""
        if one.job is None:
            if "meta" in changes:
                log.info("%s: its picture is stored now", _named(one))
            return self._is_spooled(one.meta.key)
        if not one.job.result or not one.picture:
            return False
        result = changed(one.job.result, one.meta.key, **changes)
        if all(picture.meta.key for picture in result.pictures):
            log.info("%s: its pictures are stored now", _named(one))
            result = _noted(result)
        self._jobs.amend(one.job, result)
        return True

    def _waits(self, one: Waiting) -> bool:
        if one.job is None:
            return self._is_spooled(one.meta.key)
        return one.picture is not None and one.picture.waits

    def _is_spooled(self, key: str) -> bool:
        return self.spool is not None and key in self.spool


async def _take_back(storage: Storage, key: str) -> None:
    """Delete what its owner has deleted while it was on its way."""
    try:
        await storage.delete(key)
    except StorageError as error:
        log.warning("a deleted picture could not be taken back from its storage: %s", error.message)


def _find(result: Result | None, planned: str) -> Picture | None:
    return next((one for one in result.pictures if one.planned == planned), None) if result else None


def _named(one: Waiting) -> str:
    return f"job {one.job.id}" if one.job else f"picture {one.meta.key}"


def _noted(result: Result) -> Result:
    """Say in the receipt that all is well now."""
    notes = [note for note in result.receipt.notes if not note.startswith(NOT_STORED)]
    notes.append("the storage could not take the picture at first; it was stored later")
    return replace(result, receipt=replace(result.receipt, notes=tuple(notes)))
