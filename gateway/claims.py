"""Which job a repeated call means: by its Idempotency-Key, or by its body when a client tries again by itself."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from cachetools import TTLCache

from gateway.errors import BusyError, ConflictError, GatewayError
from gateway.job import Job

RETRY_WINDOW = 120.0
"""For how many seconds after its end a job answers a client's own retry of the same body."""
LEFT_WINDOW = 15.0
"""For how many seconds after its client has gone without its answer a job that may be paid for answers the same body,
whoever asks: clients that say nothing try again when their time is over, and people ask once more."""
COME_AGAIN = 75.0
"""Seconds within which clients that were turned away come again; they wait for at most 60."""
ALIKE = 16
"""Jobs of one body that are remembered: as many as a client starts side by side."""

REPEATED = (408, 409, 429)
"""The statuses below 500 after which SDKs try again by themselves."""

Body = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Again:
    """What is known of a call that may repeat an earlier one: its client has *said* that it does; or it repeats even
    what it was told, without a word, after at most *told* seconds."""

    said: bool = False
    told: float = 0.0


class Claims:
    """The keys and bodies of each caller, and the jobs that each has started."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], Job] = {}
        self._bodies: dict[Body, deque[Job]] = {}
        self._turned_away: TTLCache[Body, int] = TTLCache(10_000, COME_AGAIN)

    def find(self, caller: str, key: str | None, fingerprint: str, again: Again | None) -> Job | None:
        """Find the job that answers; raise `ConflictError` when the *key* was used for another body."""
        job = self._keys.get((caller, key)) if key else None
        if again and fingerprint and not key:
            # Who gives a key means by another key another wish, whatever its words.
            meant = self._meant if again.said else self._silently_meant
            job = meant((caller, fingerprint), again)
        if job is None:
            return None
        if job.fingerprint != fingerprint:
            raise ConflictError(
                f"the Idempotency-Key {key!r} was used for a different request; use a new key", param="Idempotency-Key"
            )
        # What failed without being paid for may be tried anew; anything else is answered as it was. So is a failure of
        # which an SDK saw but its connection cut: it asks again to hear of it.
        return None if job.error and not (is_lost(job) or (again and job.untold)) else job

    def words_of(self, caller: str, fingerprint: str) -> tuple[str, str] | None:
        """Give the optimized words of the job that this body has started before, if it failed and cost nothing else.

        A client that tries again by itself should not pay for its words again.
        """
        jobs = self._recent((caller, fingerprint))
        return jobs[-1].words if jobs and jobs[-1].error else None

    def remember(self, job: Job) -> None:
        """Let *job* answer to its key and its body."""
        if job.key:
            self._keys[job.caller.name, job.key] = job
        if job.fingerprint:
            self._bodies.setdefault((job.caller.name, job.fingerprint), deque(maxlen=ALIKE)).append(job)

    def forget(self, job: Job) -> None:
        """Let the key and the body of *job* be free again, unless a later job has taken the key."""
        if job.key and self._keys.get((job.caller.name, job.key)) is job:
            del self._keys[job.caller.name, job.key]
        body = job.caller.name, job.fingerprint
        jobs = self._bodies.get(body)
        if jobs and job in jobs:
            jobs.remove(job)
            if not jobs:
                del self._bodies[body]

    def turn_away(self, caller: str, fingerprint: str, again: Again, error: GatewayError) -> None:
        """Note that a call was told *error* and has no job: if it comes again it will mean none of those that there
        are."""
        if error.again is False or not _may_pass(error.status):
            return
        count = self._turned_away.get((caller, fingerprint), 0)
        # Whoever is turned away once more is counted already.
        self._turned_away[caller, fingerprint] = max(1, count + (not again.said))

    def settle(self, caller: str, fingerprint: str) -> None:
        """Note that one whom nothing was drawn for has come again, and has a new job now."""
        body = caller, fingerprint
        if count := self._turned_away.pop(body, 0):
            if count > 1:
                self._turned_away[body] = count - 1
        elif freed := next(filter(_is_free, self._recent(body)), None):
            freed.settled = True

    def _recent(self, body: Body) -> list[Job]:
        now = time.time()
        jobs = self._bodies.get(body, ())
        return [job for job in jobs if job.ended is None or now - job.ended < RETRY_WINDOW]

    def _meant(self, body: Body, again: Again) -> Job | None:
        """Find the job whose client has not had its answer; else whoever asks was told to come again and has none;
        else it is the newest, whose answer was lost on the way."""
        jobs = self._recent(body)
        for job in jobs:
            if _is_left(job) or job.untold:
                return job
        if body in self._turned_away or any(map(_is_free, jobs)):
            return None
        return jobs[-1] if jobs else None

    def _silently_meant(self, body: Body, again: Again) -> Job | None:
        now = time.time()
        for job in self._bodies.get(body, ()):
            if _is_left(job) and job.left and now - job.left < max(LEFT_WINDOW, again.told):
                return job
            if not again.told or job.ended is None or not _is_repeated(job):
                continue
            if now - max(job.ended, job.asked) < again.told and now - job.ended < RETRY_WINDOW + again.told:
                job.asked = now
                return job
        return None


def is_lost(job: Job) -> bool:
    """Say whether a job has failed although it may have been paid for."""
    paid = getattr(job.error, "billed", None) is not False and not isinstance(job.error, BusyError)
    return bool(job.error and job.sent and job.error.again is False and paid)


def _is_left(job: Job) -> bool:
    """Say whether nobody waits any more for what may have been paid for, nor has had it."""
    return job.left is not None and job.attached and not job.readers and (job.error is None or is_lost(job))


def _is_free(job: Job) -> bool:
    """Say whether a client was told of a failure that cost nothing, and has not come again for it yet."""
    if not job.error or job.left is not None or job.settled or job.untold:
        return False
    return job.state == "cancelled" or (job.error.again is not False and _may_pass(job.error.status))


def _is_repeated(job: Job) -> bool:
    """Say whether clients that heed nothing ask again after what they were told, and would pay a second time."""
    if job.result:
        # Whoever wanted a link of what is not stored yet was told a 503.
        return not job.inline and any(picture.waits for picture in job.result.pictures)
    return job.error is not None and (job.untold or (is_lost(job) and _may_pass(job.error.status)))


def _may_pass(status: int) -> bool:
    return status >= 500 or status in REPEATED
