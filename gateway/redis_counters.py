"""Counters in Redis or Valkey, right for all processes that share them."""

from __future__ import annotations

import asyncio
import importlib
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from gateway.counters import CODE, PERIODS, Calendar, Limit, Taken, month_start
from gateway.errors import UnavailableError
from gateway.options import Rate
from gateway.outage import Outage
from gateway.redis_url import check_redis_url

SECONDS = 0.25
"""How long Redis may keep a call waiting: with all that stands around it no call is to be late by more than 0.3 s."""
FAILURES = 3
"""So many in a row, and Redis is left alone for *RESTS* seconds; then one call tries it, and the others with it."""
RESTS = 1.0
THREADS = 8
"""Calls that Redis is asked side by side."""
MILLION = 10**6
T = TypeVar("T")
DOWN = "what is counted for all cannot be asked now"

# KEYS: the counter. The clock is that of Redis, the same for all who share it.
# ARGV: count, limit, period in microseconds, the name of this take. Gives what counts, and the microseconds to wait.
SLIDE = """
local time = redis.call('TIME')
local now, count, period = time[1] * 1000000 + time[2], tonumber(ARGV[1]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - period)
-- What was counted by a clock that was put back since.
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + period, '+inf')
local used = redis.call('ZCARD', KEYS[1])
local over = used + count - ARGV[2]
if over > 0 then
  return {used, redis.call('ZRANGE', KEYS[1], over - 1, over - 1, 'WITHSCORES')[2] + period - now}
end
for place = 1, count do redis.call('ZADD', KEYS[1], now, ARGV[4] .. place) end
redis.call('PEXPIRE', KEYS[1], math.ceil(period / 1000) + 1000)
return {used + count, 0}
"""
# ARGV: count, limit, the period in seconds, or 0 and the beginnings of months. Gives what counts, the seconds to wait,
# and the beginning of the window.
SPEND = """
local now, count, period = tonumber(redis.call('TIME')[1]), tonumber(ARGV[1]), tonumber(ARGV[3])
local first, ends = now - now % period, now - now % period + period
if period == 0 then first, ends = tonumber(ARGV[4]), tonumber(ARGV[5]) end
for at = 5, #ARGV - 1 do
  if tonumber(ARGV[at]) <= now then first, ends = tonumber(ARGV[at]), tonumber(ARGV[at + 1]) end
end
local known = redis.call('HMGET', KEYS[1], 'window', 'used', 'ends')
local window, used = tonumber(known[1] or 0), 0
-- A clock that was put back a little has not made its window new.
if window > first and window <= now + math.min(3600, ends - first) and known[3] then
  first, ends = window, tonumber(known[3])
end
if window == first then used = tonumber(known[2]) end
if used + count > tonumber(ARGV[2]) then return {used, ends - now, first} end
redis.call('HSET', KEYS[1], 'window', first, 'used', used + count, 'ends', ends)
redis.call('EXPIREAT', KEYS[1], ends)
return {used + count, 0, first}
"""
# ARGV: the window, what to give back.
GIVE_BACK = """
if redis.call('HGET', KEYS[1], 'window') ~= ARGV[1] then return 0 end
return redis.call('HSET', KEYS[1], 'used', math.max(0, redis.call('HGET', KEYS[1], 'used') - ARGV[2]))
"""
REMOVE = "return redis.call('ZREM', KEYS[1], unpack(ARGV))"


class RedisCounters:
    """Counters in Redis or Valkey, shared by all who use the same *prefix*; one round trip for each take.

    Redis is asked by threads: so the *seconds* that it has for its answer are its own, and a loop that is busy with
    pictures is not taken for a Redis that is down. When it has failed a few times, every call raises `UnavailableError`
    at once but for one in each second, which tries it. The log tells of it once a minute, with *otherwise*: what is
    done meanwhile.
    """

    def __init__(
        self, url: str, otherwise: str = "", prefix: str = "image-gateway:counters:", seconds: float = SECONDS
    ) -> None:
        try:
            check_redis_url(url)
        except ValueError as error:
            raise ValueError(f"state: {error}") from None
        place = urlsplit(url)
        self._url = url
        self._outage = Outage(
            f"Redis at {place.hostname}:{place.port or 6379}" if place.hostname else "Redis", otherwise
        )
        self._prefix = prefix
        self._seconds = seconds
        self._client: Any = None
        self._errors: tuple[type[Exception], ...] = (OSError,)
        self._threads = ThreadPoolExecutor(THREADS, "counters")
        self._failures = 0
        self._rests_until = 0.0

    async def open(self) -> None:
        """Connect; a Redis that is down is told in the log, and tried again when it is needed."""
        library = importlib.import_module("redis")
        self._errors = (library.RedisError, OSError)
        self._client = library.Redis.from_url(
            self._url,
            protocol=2,
            socket_timeout=self._seconds,
            socket_connect_timeout=self._seconds,
            # Nothing is tried twice: a take whose answer was lost may have counted.
            retry=importlib.import_module("redis.retry").Retry(importlib.import_module("redis.backoff").NoBackoff(), 0),
        )
        with suppress(UnavailableError):
            await self._asked("return 1", "", 0)

    async def close(self) -> None:
        if self._client is not None:
            await self._do(self._client.close)
        self._threads.shutdown(wait=False)

    async def take(self, name: str, count: int, limit: Limit) -> Taken:
        if isinstance(limit, Rate):
            mark = f"{secrets.token_hex(8)}."
            used, wait = await self._asked(SLIDE, name, count, limit.count, int(limit.period * MILLION), mark)
            return Taken(name, count, limit, used, wait / MILLION, mark)
        seconds = PERIODS.get(limit.period, 0)
        used, wait, window = await self._asked(
            SPEND, name, count, limit.count, seconds, *(() if seconds else _months())
        )
        return Taken(name, count, limit, used, wait, window)

    async def settle(self, taken: Taken, count: int = 0) -> None:
        if taken.count == count:
            return
        if isinstance(taken.limit, Calendar):
            await self._asked(GIVE_BACK, taken.name, taken.mark, taken.count - count)
        else:
            members = [f"{taken.mark}{place}" for place in range(count + 1, taken.count + 1)]
            await self._asked(REMOVE, taken.name, *members)

    async def _asked(self, script: str, name: str, *given: int | str | float) -> Any:
        return await self._do(self._ask, script, name, *given)

    async def _do(self, work: Callable[..., T], *given: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    def _ask(self, script: str, name: str, *given: int | str | float) -> Any:
        now = time.monotonic()
        if self._failures >= FAILURES and now < self._rests_until:
            raise UnavailableError(DOWN, code=CODE, retry_after=RESTS)
        # Only the first one tries it; it is time enough for the others when this one has got an answer.
        self._rests_until = now + RESTS
        try:
            answer = self._client.eval(script, 1, self._prefix + name, *given)
        except self._errors as error:
            self._failures += 1
            self._outage.met(error)
            raise UnavailableError(DOWN, code=CODE, retry_after=RESTS) from None
        self._failures = 0
        self._outage.over()
        return answer


def _months() -> list[int]:
    """Give when this month, the one before and the next two begin: the clock of Redis says which it is."""
    moment = datetime.now(UTC)
    return [month_start(moment.year, moment.month + step) for step in (-1, 0, 1, 2)]
