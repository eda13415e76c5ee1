"""Which finished jobs are remembered, and with which error: the latest of each caller, within bounds of all."""

from __future__ import annotations

from collections.abc import Iterator
from sys import getsizeof

from gateway.errors import BusyError, GatewayError, UpstreamError
from gateway.fairness import Shelf
from gateway.job import Job

KEPT = 10_000
"""How many finished jobs are remembered at most, whatever their age."""
WORDS = 128 * 2**20
"""Bytes of words (prompts, mostly) that remembered jobs may hold together."""
OVERHEAD = 2_000
EVENT = 380
"""Bytes that an event takes besides its words."""


class Finished:
    """Finished jobs in the order of their ends: a job that still runs keeps no other in memory, and a caller who sends
    thousands pushes out only their own."""

    def __init__(self, keep: float, most: int = KEPT, words: int = WORDS) -> None:
        self._keep = keep
        self._most = most
        self._words = words
        # A job also takes a place, which weighs as much of the number as its words do of the memory.
        self._place = words // most
        self._jobs: Shelf[Job] = Shelf()

    def add(self, job: Job) -> None:
        self._jobs.put(job, job.caller.name, self._place + _weight(job))

    def surplus(self, now: float) -> Iterator[Job]:
        """Let go of what is too old, then of the oldest of whoever has most, until the rest is within the bounds."""
        while self._jobs:
            job = self._jobs.oldest()
            if (job.ended or 0) > now - self._keep:
                held = self._jobs.weight - self._place * len(self._jobs)
                if len(self._jobs) <= self._most and held <= self._words:
                    return
                job = self._jobs.surplus()
            self._jobs.take(job)
            yield job


def _weight(job: Job) -> int:
    """Reckon what a job holds; its events, result and receipt repeat the words of the request."""
    words = [job.original, job.request.prompt, job.request.negative_prompt or "", *job.request.unknown]
    if job.result:
        words += [job.result.prompt, *(picture.revised_prompt or "" for picture in job.result.pictures)]
    return OVERHEAD + EVENT * len(job.events) + sum(map(getsizeof, words))


def remembered_error(error: GatewayError | None, sent: bool) -> GatewayError | None:
    """Give the error to remember: without the frames, and so the pictures, it passed; what may have been paid for
    must not be tried again by a client on its own."""
    if error is None:
        return None
    kept = error.copied()
    if kept.again is None and sent and not _unpaid(kept):
        kept.again = False
    return kept


def _unpaid(error: GatewayError) -> bool:
    if isinstance(error, BusyError):
        return True
    return isinstance(error, UpstreamError) and (error.retryable or error.billed is False or not error.sent)
