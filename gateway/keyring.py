"""Keeps the keys of one upstream: whose turn it is, which rest, which were refused."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from gateway.errors import AllowanceError, RateLimitedError
from gateway.options import Secret

Rest = type[RateLimitedError] | type[AllowanceError]
SECOND_CHANCE = 600.0
"""Seconds after which refused keys are tried again, one at a time, if no other is left: an account that was out of
order for a while must not end the service until somebody restarts it."""


@dataclass(slots=True, eq=False)
class Key:
    """One key; *since* is when it was refused, *resting* until when it is left out (both by the clock), and *why* the
    class of error that made it rest."""

    secret: Secret
    refused: bool = False
    since: float = 0.0
    resting: float = float("-inf")
    why: Rest = RateLimitedError


class KeyRing:
    """Hands out keys in turn, leaving out those that were refused or rest."""

    def __init__(self, keys: Sequence[Secret], clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = [Key(secret) for secret in dict.fromkeys(keys)]
        self._clock = clock
        self._turn = 0

    def __len__(self) -> int:
        return len(self._keys)

    def pick(self, tried: Collection[Key] = ()) -> Key | None:
        """Give the next usable key that was not *tried*, or None."""
        now = self._clock()
        for offset in range(len(self._keys)):
            place = (self._turn + offset) % len(self._keys)
            key = self._keys[place]
            if not key.refused and key.resting <= now and key not in tried:
                self._turn = (place + 1) % len(self._keys)
                return key
        return self._second_chance(tried)

    def drop(self, key: Key) -> None:
        """Use *key* no more as long as there are others."""
        key.refused, key.since = True, self._clock()

    def _second_chance(self, tried: Collection[Key]) -> Key | None:
        if not all(key.refused for key in self._keys):
            return None
        waiting = [key for key in self._keys if key not in tried and self._clock() - key.since >= SECOND_CHANCE]
        if not waiting:
            return None
        key = min(waiting, key=lambda key: key.since)
        key.refused = False
        return key

    def rest(self, key: Key, seconds: float, why: Rest = RateLimitedError) -> None:
        """Leave *key* out for *seconds*; a longer rest that it already has stays."""
        until = self._clock() + seconds
        if until > key.resting:
            key.resting, key.why = until, why

    def rest_all(self, seconds: float, why: Rest = AllowanceError) -> None:
        """Leave every key out, because they share one account."""
        for key in self._keys:
            self.rest(key, seconds, why)

    def next_back(self, barred: Collection[Key] = ()) -> tuple[float, Rest] | None:
        """Say in how many seconds the first key is usable again and why it rests; None if all were refused, or are
        *barred* from what is asked for."""
        waiting = [key for key in self._keys if not key.refused and key not in barred]
        if not waiting:
            return None
        first = min(waiting, key=lambda key: key.resting)
        return max(0.0, first.resting - self._clock()), first.why

    def health(self) -> dict[str, int]:
        """Count the keys by their state, those that rest since their allowance is *used_up* besides, and say in how
        many seconds one is *back* if none is usable; the keys themselves are never shown."""
        now = self._clock()
        refused = sum(key.refused for key in self._keys)
        resting = [key for key in self._keys if not key.refused and key.resting > now]
        total, used_up = len(self._keys), sum(key.why is AllowanceError for key in resting)
        usable = total - refused - len(resting)
        counts = {"keys": total, "usable": usable, "refused": refused, "resting": len(resting)}
        if used_up:
            counts["used_up"] = used_up
        if total and not usable:
            counts["back"] = math.ceil(self._back(now))
        return counts

    def _back(self, now: float) -> float:
        if all(key.refused for key in self._keys):
            return max(0.0, min(key.since for key in self._keys) + SECOND_CHANCE - now)
        return min(key.resting for key in self._keys if not key.refused) - now
