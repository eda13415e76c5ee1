"""Which job a repeated call means: by its Idempotency-Key, or by its body when a client tries again by itself."""

from __future__ import annotations

import time

from gateway.errors import BusyError, ConflictError
from gateway.job import Job

RETRY_WINDOW = 120.0
"""For how many seconds after its end a job answers a client's own retry of the same body."""
SILENT_WINDOW = 15.0
"""The same for clients that do not say that they try again: short, for it may as well be their user who does."""

REPEATED = (408, 409, 429)
"""The statuses below 500 after which SDKs try again by themselves."""


class Claims:
    """The keys and bodies of each caller, and the job that each has started."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], Job] = {}
        self._bodies: dict[tuple[str, str], Job] = {}

    def find(self, caller: str, key: str | None, fingerprint: str, again: bool) -> Job | None:
        """Find the job that answers; raise `ConflictError` when the *key* was used for another body."""
        job = self._keys.get((caller, key)) if key else None
        if job is None and again:
            job = self._recent(self._bodies.get((caller, fingerprint)))
        if job is None:
            return None
        if job.fingerprint != fingerprint:
            raise ConflictError(
                f"the Idempotency-Key {key!r} was used for a different request; use a new key", param="Idempotency-Key"
            )
        # What failed without being paid for may be tried anew; anything else is answered as it was. So is a failure of
        # which an SDK saw but its connection cut: it asks again to hear of it.
        return None if job.error and not (_lost(job) or (again and job.untold)) else job

    def words_of(self, caller: str, fingerprint: str) -> tuple[str, str] | None:
        """Give the optimized words of the job that this body has started before, if it failed and cost nothing else.

        A client that tries again by itself should not pay for its words again.
        """
        job = self._recent(self._bodies.get((caller, fingerprint)))
        return job.words if job and job.error else None

    def just_lost(self, caller: str, fingerprint: str) -> bool:
        """Say whether the body's job failed a moment ago, as clients try again, although it may have been paid for."""
        job = self._bodies.get((caller, fingerprint))
        if not job or not job.ended or time.time() - job.ended >= SILENT_WINDOW:
            return False
        if job.result:
            # Whoever wanted a link of what is not stored yet was told a 503.
            return not job.inline and any(picture.waits for picture in job.result.pictures)
        return job.error is not None and _lost(job) and (job.error.status >= 500 or job.error.status in REPEATED)

    def remember(self, job: Job) -> None:
        """Let *job* answer to its key and its body."""
        if job.key:
            self._keys[job.caller.name, job.key] = job
        if job.fingerprint:
            self._bodies[job.caller.name, job.fingerprint] = job

    def forget(self, job: Job) -> None:
        """Let the key and the body of *job* be free again, unless a later job has taken them."""
        for claims, name in ((self._keys, job.key), (self._bodies, job.fingerprint)):
            if name and claims.get((job.caller.name, name)) is job:
                del claims[job.caller.name, name]

    def _recent(self, job: Job | None) -> Job | None:
        return job if job and (job.ended is None or time.time() - job.ended < RETRY_WINDOW) else None


def _lost(job: Job) -> bool:
    paid = getattr(job.error, "billed", None) is not False and not isinstance(job.error, BusyError)
    return bool(job.error and job.sent and job.error.again is False and paid)
