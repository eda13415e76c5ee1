"""Lets a target that keeps failing rest, and lets it come back by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half-open"]

FAILURES = 5
"""Failures in a row after which a target rests."""

FIRST_REST = 5.0
LONGEST_REST = 300.0
LONGEST_RETRY_AFTER = 3600.0
"""A target that asks for more patience than this is asked again all the same."""

PROBE_TIMEOUT = 600.0
"""After this long a probe that told nothing is given up, so that a target can never rest for ever."""


class Breaker:
    """Closed: calls pass. Open: none do until the rest is over. Half-open: one probe decides.

    While nobody else can do the work, resting would only hide what is wrong: then one call at a time is a probe.
    A cancelled call or a caller's own mistake says nothing of the target: tell it by `released`.
    """

    def __init__(self, failures: int = FAILURES, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._clock = clock
        self.failures = 0
        self._rest = 0.0
        self._until = 0.0
        self._probing_since: float | None = None

    @property
    def state(self) -> State:
        if not self._rest:
            return "closed"
        return "open" if self._clock() < self._until else "half-open"

    @property
    def wait(self) -> float:
        """Seconds until a call may pass; 0 when it may now."""
        if self.state == "open":
            return self._until - self._clock()
        # How long the probe takes nobody knows; a second is a fair time to look again.
        return 1.0 if self.state == "half-open" and self.probing else 0.0

    @property
    def probing(self) -> bool:
        """Say whether a call is under way that decides."""
        return self._probing_since is not None and self._clock() - self._probing_since < PROBE_TIMEOUT

    def take(self, *, alone: bool = False) -> bool:
        """Take a place for a call; False if the target rests, unless it is *alone*, or is being probed. Give it back
        by what came of it."""
        if self.wait and (self.probing or not alone):
            return False
        if self._rest:
            self._probing_since = self._clock()
        return True

    def succeeded(self) -> None:
        """Note a good call: all is forgotten."""
        self.failures, self._rest, self._until, self._probing_since = 0, 0.0, 0.0, None

    def failed(self, retry_after: float | None = None) -> None:
        """Note a failure; the last of a row, or a failed probe, opens the breaker, each time for twice as long."""
        self.failures += 1
        was_open, self._probing_since = self.state == "open", None
        if was_open:
            # A call that began before the rest did, or could go nowhere else; the rest has been decided already.
            return
        if self._rest or self.failures >= self._limit:
            self._rest = min(max(self._rest * 2, FIRST_REST), LONGEST_REST)
            self._until = self._clock() + max(self._rest, min(retry_after or 0.0, LONGEST_RETRY_AFTER))

    def released(self) -> None:
        """Give the place back without a verdict."""
        self._probing_since = None
