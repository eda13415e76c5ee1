"""Tells the log that something cannot be used, once a minute, and that it can again."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)

LOGGED_EVERY = 60.0


class Outage:
    """Whether *what* fails now; *otherwise* says what is done meanwhile."""

    def __init__(self, what: str, otherwise: str) -> None:
        self._what = what
        self._otherwise = otherwise
        self._log_again = 0.0
        self.now = False

    def met(self, error: Exception) -> None:
        """Note that it has failed."""
        self.now, moment = True, time.monotonic()
        if moment >= self._log_again:
            self._log_again = moment + LOGGED_EVERY
            log.warning("%s cannot be used (%s); meanwhile %s", self._what, type(error).__name__, self._otherwise)

    def over(self) -> None:
        """Note that it has worked."""
        if self.now:
            self.now = False
            log.warning("%s can be used again", self._what)
