"""Counts what callers take of a limit, in any window of a length or in calendar windows (UTC); here in memory."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

from gateway.errors import UnavailableError
from gateway.options import Rate

CODE = "counters_unavailable"
Period = Literal["minute", "hour", "day", "month"]
PERIODS = {"minute": 60, "hour": 3600, "day": 86400}
"""Seconds of the periods that always have as many."""
SET_BACK = 3600
"""Seconds by which a clock may be put back without its calendar windows beginning anew."""
SWEEP_AT = 1_000
"""What nobody counts in any more is forgotten when this many names are known."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """*count* in each minute, hour, day or month of the calendar, in UTC."""

    count: int
    period: Period

    def window(self, now: float) -> tuple[int, int]:
        """Give the beginning and the end of the window that *now* lies in, all in epoch seconds."""
        if self.period != "month":
            seconds = PERIODS[self.period]
            start = int(now // seconds) * seconds
            return start, start + seconds
        moment = datetime.fromtimestamp(now, UTC)
        start, following = month_start(moment.year, moment.month), month_start(moment.year, moment.month + 1)
        return start, following


def current(limit: Calendar, now: float, known: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """Give beginning, end and use of the window that counts now; *known* is the last one.

    A clock that was put back a little, over midnight, must not grant a budget twice.
    """
    start, end = limit.window(now)
    back = min(SET_BACK, end - start)
    return known if known and (known[0] == start or start < known[0] <= now + back) else (start, end, 0)


def month_start(year: int, month: int) -> int:
    """Give the epoch second at which a month begins; months below 1 and above 12 lie in the years around."""
    years, month = divmod(month - 1, 12)
    return int(datetime(year + years, month + 1, 1, tzinfo=UTC).timestamp())


Limit = Rate | Calendar


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a take: *wait* is 0 if it was granted, else the seconds until it can be.

    *used* is all that counts now, with this take if it was granted. *mark* is how the counters find it again.
    """

    name: str
    count: int
    limit: Limit
    used: int
    wait: float = 0
    mark: float | str = 0


class Counters(Protocol):
    """Counters under names, right for all who share them; each raises `UnavailableError` when they cannot be asked.

    What was taken counts until its window is over, also if whoever took it is no more.
    """

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def take(self, name: str, count: int, limit: Limit) -> Taken:
        """Take *count* (at most the limit's) at once if the limit lets it, else take nothing."""
        ...

    async def settle(self, taken: Taken, count: int = 0) -> None:
        """Let *count* be all that was taken, and give back the rest."""
        ...


async def take_surely(counters: Counters, name: str, count: int, limit: Limit) -> Taken:
    """Do as *counters* do, but let nothing stay taken for a job that was cancelled meanwhile."""
    taking = asyncio.ensure_future(counters.take(name, count, limit))
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        with suppress(UnavailableError):
            taken = await taking
            if not taken.wait:
                await counters.settle(taken)
        raise


class MemoryCounters:
    """Counters of this process alone, which end with it; they may also be asked without waiting."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._moments: dict[str, tuple[deque[float], float]] = {}
        self._windows: dict[str, tuple[int, int, int]] = {}

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def take(self, name: str, count: int, limit: Limit) -> Taken:
        return self.take_now(name, count, limit)

    async def settle(self, taken: Taken, count: int = 0) -> None:
        self.settle_now(taken, count)

    def take_now(self, name: str, count: int, limit: Limit) -> Taken:
        """Do as `take` does."""
        now = self._clock()
        if len(self._moments) + len(self._windows) >= SWEEP_AT:
            self._forget_old(now)
        return self._slide(name, count, limit, now) if isinstance(limit, Rate) else self._spend(name, count, limit, now)

    def settle_now(self, taken: Taken, count: int = 0) -> None:
        """Do as `settle` does."""
        back = taken.count - count
        if isinstance(taken.limit, Calendar):
            start, end, used = self._windows.get(taken.name, (0, 0, 0))
            if start == taken.mark:
                self._windows[taken.name] = start, end, used - back
            return
        moments = self._moments.get(taken.name, (deque[float](), 0))[0]
        for _ in range(back):
            if taken.mark in moments:
                moments.remove(float(taken.mark))

    def _slide(self, name: str, count: int, limit: Rate, now: float) -> Taken:
        moments, _ = self._moments.setdefault(name, (deque(), limit.period))
        # Reckoned as the wait is told: by the other side of the sum, rounding would keep who came in time.
        while moments and moments[0] + limit.period <= now:
            moments.popleft()
        while moments and moments[-1] - limit.period > now:
            # Counted by a clock that was put back since: nobody may have to wait for it to get there again.
            moments.pop()
        over = len(moments) + count - limit.count
        if over > 0:
            # The place is free when the oldest that stands in the way leaves the window.
            return Taken(name, count, limit, len(moments), moments[over - 1] + limit.period - now)
        moments.extend([now] * count)
        return Taken(name, count, limit, len(moments), mark=now)

    def _spend(self, name: str, count: int, limit: Calendar, now: float) -> Taken:
        start, end, used = current(limit, now, self._windows.get(name))
        if used + count > limit.count:
            return Taken(name, count, limit, used, math.ceil(end - now))
        self._windows[name] = start, end, used + count
        return Taken(name, count, limit, used + count, mark=start)

    def _forget_old(self, now: float) -> None:
        for name, (moments, period) in list(self._moments.items()):
            if not moments or moments[-1] + period <= now:
                del self._moments[name]
        for name, (_, end, _) in list(self._windows.items()):
            if end <= now:
                del self._windows[name]
