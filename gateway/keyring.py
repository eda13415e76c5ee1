"""Keeps the keys of one upstream: whose turn it is, which rest, which were refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from gateway.errors import AllowanceError, RateLimitedError
from gateway.options import Secret

Rest = type[RateLimitedError] | type[AllowanceError]


@dataclass(slots=True, eq=False)
class Key:
    """One key; *resting* is the clock's time until which it is not used, *why* the class of error that made it rest."""

    secret: Secret
    refused: bool = False
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
        return None

    def drop(self, key: Key) -> None:
        """Never use *key* again until the restart."""
        key.refused = True

    def rest(self, key: Key, seconds: float, why: Rest = RateLimitedError) -> None:
        """Leave *key* out for *seconds*; a longer rest that it already has stays."""
        until = self._clock() + seconds
        if until > key.resting:
            key.resting, key.why = until, why

    def rest_all(self, seconds: float, why: Rest = AllowanceError) -> None:
        """Leave every key out, because they share one account."""
        for key in self._keys:
            self.rest(key, seconds, why)

    def next_back(self) -> tuple[float, Rest] | None:
        """Say in how many seconds the first key is usable again and why it rests; None if all were refused."""
        waiting = [key for key in self._keys if not key.refused]
        if not waiting:
            return None
        first = min(waiting, key=lambda key: key.resting)
        return max(0.0, first.resting - self._clock()), first.why

    def health(self) -> dict[str, int]:
        """Count the keys by their state; the keys themselves are never shown."""
        now = self._clock()
        refused = sum(key.refused for key in self._keys)
        resting = sum(not key.refused and key.resting > now for key in self._keys)
        total = len(self._keys)
        return {"keys": total, "usable": total - refused - resting, "refused": refused, "resting": resting}
