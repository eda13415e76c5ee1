"""Finished jobs whose pictures no storage has: their bytes stay in memory for a claim, as far as there is room."""

from __future__ import annotations

import logging

from gateway.fairness import Shelf
from gateway.job import Job

log = logging.getLogger(__name__)

UNSTORED = 256 * 2**20
"""Bytes of pictures that no storage has, kept in memory until their callers have claimed them or newer ones come."""


class Unstored:
    """Keeps those bytes, and gives up the oldest of whoever has most when there are too many."""

    def __init__(self) -> None:
        self._jobs: Shelf[Job] = Shelf()

    def lighten(self, job: Job, *, keep: bool) -> None:
        """Let go of a finished job's pixels, but (with *keep*) of those alone that a storage has."""
        left = job.forget_bytes()
        if left and keep and job not in self._jobs:
            self._jobs.put(job, job.caller.name, left)
            while self._jobs.weight > UNSTORED:
                self.give_up(self._jobs.surplus(), "its memory is needed")

    def settle(self, job: Job) -> None:
        """Note that something has become of the job's pictures."""
        self._jobs.take(job)

    def give_up(self, job: Job, why: str) -> None:
        """Let go of all bytes of a job, and say so if a picture is nowhere any more."""
        self._jobs.take(job)
        lost = job.has_lost
        job.forget_bytes(all_of_them=True)
        if job.has_lost and not lost:
            log.error("job %s: its picture is lost: no storage has taken it, and %s", job.id, why)
