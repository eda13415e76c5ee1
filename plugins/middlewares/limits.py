"""Limits how many pictures a caller may ask for in a time."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway import BusyError, Proceed, Rate, RateOption, RequestError, Stage, Work, hookimpl

PERIODS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}
SWEEP_AT = 1_000
"""Callers without a recent picture are forgotten when this many are known."""


@dataclass
class Limits:
    """Lets each caller have *images*, such as ``20/minute``, in any window of that length; more gets 429.

    Counted in the memory of this process, over all models that name this component. Pictures that were refused or
    failed before anything was sent to a backend are not counted.
    """

    images: RateOption
    stages: tuple[Stage, ...] = field(init=False, default=("job",))
    clock: Callable[[], float] = field(init=False, default=time.monotonic, repr=False)
    _taken: dict[str, deque[float]] = field(init=False, default_factory=dict, repr=False)

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        """Take the pictures from the caller's allowance, and give them back if none could be paid for."""
        moments = self._take(work.caller.name, work.request.n)
        try:
            return await proceed(work)
        except BaseException as error:
            if not getattr(error, "sent", False):
                self._give_back(work.caller.name, moments)
            raise

    def _take(self, caller: str, count: int) -> list[float]:
        limit, now = self.images, self.clock()
        if count > limit.count:
            raise RequestError(f"n is {count}, but at most {_words(limit)} may be asked for", param="n")
        if len(self._taken) >= SWEEP_AT:
            self._forget_old(now)
        taken = self._taken.setdefault(caller, deque())
        # Reckoned as it is told below: by the other side of the sum, rounding would keep who came in time.
        while taken and taken[0] + limit.period <= now:
            taken.popleft()
        if len(taken) + count > limit.count:
            # The place is free when the oldest that stands in the way leaves the window.
            free = taken[len(taken) + count - limit.count - 1] + limit.period
            seconds = max(1, math.ceil(free - now))
            raise BusyError(
                f"the limit of {_words(limit)} is reached; come back in {seconds} s",
                code="rate_limit_exceeded",
                retry_after=seconds,
            )
        moments = [now] * count
        taken.extend(moments)
        return moments

    def _give_back(self, caller: str, moments: list[float]) -> None:
        taken = self._taken.get(caller, deque())
        for moment in moments:
            if moment in taken:
                taken.remove(moment)

    def _forget_old(self, now: float) -> None:
        for caller in [
            name for name, taken in self._taken.items() if not taken or taken[-1] <= now - self.images.period
        ]:
            del self._taken[caller]


def _words(rate: Rate) -> str:
    period = PERIODS.get(int(rate.period), f"{rate.period:g} seconds")
    return f"{rate.count} {'picture' if rate.count == 1 else 'pictures'} per {period}"


@hookimpl
def provide_middlewares() -> dict[str, type]:
    """Offer `limits`."""
    return {"limits": Limits}
