"""Counters of limits and budgets: in memory, in a file, and in Redis or Valkey."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as library
from hypothesis import given
from hypothesis import strategies as st

from gateway.counters import Calendar, Counters, MemoryCounters, Period, Taken, month_start, take_surely
from gateway.errors import ConfigError, UnavailableError
from gateway.file_counters import FileCounters
from gateway.options import Rate
from gateway.redis_counters import RedisCounters
from gateway.shared_counters import make_counters
from tests.chaos import between
from tests.plugins.storages.servers import Valkey

Make = Callable[[], Counters]
HOUR = Rate(10, 3600)
DAY = Calendar(100, "day")


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Valkey of our own."""
    server = Valkey(tmp_path_factory.mktemp("valkey")).start()  # type: ignore[no-untyped-call]  # a test's own server
    yield server
    server.kill()


@pytest.fixture(params=["memory", "file", "valkey"])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    """Make counters that share one place; those in memory are one object."""
    made: list[Counters] = []

    def make() -> Counters:
        if request.param == "memory":
            made.append(made[0] if made else MemoryCounters())
        elif request.param == "file":
            made.append(FileCounters(tmp_path / "below" / "counters.db", seconds=30))
        else:
            url = request.getfixturevalue("valkey").url
            made.append(RedisCounters(url, prefix=f"{tmp_path.name}:", seconds=5))
        return made[-1]

    yield make
    for counters in made:
        await counters.close()


async def opened(counters: Counters) -> Counters:
    await counters.open()
    return counters


@pytest.mark.parametrize("limit", [Rate(10, 3600), Calendar(10, "day")])
async def test_as_much_as_allowed_and_no_more(make: Make, limit: Rate | Calendar) -> None:
    """What does not fit is refused whole, with a time to wait, and takes nothing; other names are free."""
    counters = await opened(make())
    first = await counters.take("ann", 7, limit)
    refused = await counters.take("ann", 4, limit)
    rest = await counters.take("ann", 3, limit)

    assert (first.wait, first.used, rest.wait, rest.used) == (0, 7, 0, 10)
    assert 0 < refused.wait <= 86400
    assert refused.used == 7
    assert (await counters.take("bob", 10, limit)).wait == 0


@pytest.mark.parametrize("limit", [Rate(10, 3600), Calendar(10, "month")])
async def test_what_is_given_back_is_free_at_once(make: Make, limit: Rate | Calendar) -> None:
    """All of it, or what was not needed; settling for as much as was taken changes nothing."""
    counters = await opened(make())
    taken = await counters.take("ann", 6, limit)
    await counters.settle(taken, 6)
    other = await counters.take("ann", 4, limit)
    await counters.settle(other, 1)
    assert (await counters.take("ann", 4, limit)).wait
    assert not (await counters.take("ann", 3, limit)).wait
    await counters.settle(taken)

    assert (await counters.take("ann", 7, limit)).wait
    assert not (await counters.take("ann", 6, limit)).wait


@pytest.mark.parametrize("limit", [Rate(30, 3600), Calendar(30, "day")])
async def test_takes_side_by_side_are_counted_once_each(make: Make, limit: Rate | Calendar) -> None:
    """A hundred at once from three gateways: thirty are granted."""
    gateways = [await opened(make()) for _ in range(3)]
    taken = await asyncio.gather(*(gateways[turn % 3].take("ann", 1, limit) for turn in range(100)))

    assert sum(not each.wait for each in taken) == 30


async def test_a_give_back_of_an_old_window_is_not_one_of_the_new(make: Make) -> None:
    """What was reserved yesterday does not make today's budget larger."""
    counters = await opened(make())
    taken = await counters.take("ann", 60, DAY)
    await counters.settle(type(taken)(taken.name, 60, DAY, 60, mark=int(taken.mark) - 86400))

    assert (await counters.take("ann", 41, DAY)).wait
    assert not (await counters.take("ann", 40, DAY)).wait


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_a_new_window_begins_with_nothing(tmp_path: Path, kind: str) -> None:
    """One second before midnight it is full and says when it renews, at midnight it is free."""
    now = [month_start(2027, 1) - 1.0]
    made = {"memory": MemoryCounters, "file": lambda clock: FileCounters(tmp_path / "c.db", clock=clock)}
    counters = await opened(made[kind](lambda: now[0]))
    for period in ("minute", "hour", "day", "month"):
        assert not (await counters.take(period, 5, Calendar(5, period))).wait
        assert (await counters.take(period, 1, Calendar(5, period))).wait == 1
    now[0] += 1

    for period in ("minute", "hour", "day", "month"):
        assert not (await counters.take(period, 5, Calendar(5, period))).wait
    await counters.close()


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_a_clock_that_is_put_back_grants_nothing_twice(tmp_path: Path, kind: str) -> None:
    """Back over midnight, the budget of the day that has begun is still the one that counts."""
    midnight = month_start(2027, 1)
    now = [midnight + 0.1]
    made = {"memory": MemoryCounters, "file": lambda clock: FileCounters(tmp_path / "c.db", clock=clock)}
    counters = await opened(made[kind](lambda: now[0]))
    await counters.take("ann", 90, DAY)
    now[0] = midnight - 0.4
    before = await counters.take("ann", 1, DAY)
    now[0] = midnight + 0.6
    refused = await counters.take("ann", 90, DAY)

    assert (before.used, before.wait, refused.used) == (91, 0, 91)
    assert refused.wait > 86_000
    await counters.close()


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_a_minute_is_no_hour_for_a_clock_that_is_put_back(tmp_path: Path, kind: str) -> None:
    """Nobody waits longer than two windows."""
    now = [month_start(2027, 1) + 3599.0]
    made = {"memory": MemoryCounters, "file": lambda clock: FileCounters(tmp_path / "c.db", clock=clock)}
    counters = await opened(made[kind](lambda: now[0]))
    await counters.take("ann", 2, Calendar(2, "minute"))
    now[0] -= 58 * 60

    assert (await counters.take("ann", 1, Calendar(2, "minute"))).wait == 0
    await counters.close()


@pytest.mark.parametrize("limit", [Rate(2, 60), Calendar(2, "day"), Calendar(2, "month")])
@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_a_clock_that_was_far_ahead_locks_nobody_out(tmp_path: Path, kind: str, limit: Rate | Calendar) -> None:
    """A machine may start with a clock of next year, before it asks what time it is."""
    now = [month_start(2028, 1) + 5.0]
    made = {"memory": MemoryCounters, "file": lambda clock: FileCounters(tmp_path / "c.db", clock=clock)}
    counters = await opened(made[kind](lambda: now[0]))
    await counters.take("ann", 2, limit)
    now[0] = month_start(2027, 1) + 5.0

    assert not (await counters.take("ann", 2, limit)).wait
    await counters.close()


async def test_redis_with_a_clock_that_was_put_back(valkey: Any) -> None:
    """What lies a little ahead counts; what lies far ahead is of no time at all."""
    counters = RedisCounters(valkey.url, prefix="back:", seconds=5)
    await counters.open()
    start, end = DAY.window(time.time())
    async with library.from_url(valkey.url) as client:
        await client.hset("back:near", mapping={"window": int(time.time()) + 60, "used": 90, "ends": end + 60})
        await client.hset("back:far", mapping={"window": start + 86_400 * 300, "used": 90, "ends": end + 86_400 * 300})
        await client.zadd("back:rate", {"x.1": (time.time() + 1e6) * 1e6, "x.2": (time.time() + 1e6) * 1e6})
        near = await counters.take("near", 90, DAY)
        far = await counters.take("far", 90, DAY)
        rate = await counters.take("rate", 2, Rate(2, 60))
    await counters.close()

    assert near.wait > 0
    assert (far.wait, far.used, rate.wait) == (0, 90, 0)


@pytest.mark.parametrize("period", ["minute", "hour", "day", "month"])
async def test_redis_knows_the_same_windows(valkey: Any, period: Period) -> None:
    """The window is that of Python by the clock of Redis, an old one's count is nothing, and its key goes with it."""
    counters = RedisCounters(valkey.url, prefix=f"windows-{period}:", seconds=5)
    await counters.open()
    limit = Calendar(5, period)
    start, end = limit.window(time.time())
    taken = await counters.take("ann", 5, limit)
    if taken.mark != start:
        start, end = limit.window(time.time())  # the test has met the turn of a window
    async with library.from_url(valkey.url) as client:
        name = f"windows-{period}:ann"
        assert (int(taken.mark), await client.expiretime(name)) == (start, end)
        await client.hset(name, "window", start - 1)
        assert not (await counters.take("ann", 5, limit)).wait
        assert 0 < (await counters.take("ann", 1, limit)).wait <= end - start
    await counters.close()


async def test_a_rate_s_key_goes_by_itself(valkey: Any) -> None:
    """A caller who never comes again leaves nothing in Redis, and a place is free when its time is over."""
    counters = RedisCounters(valkey.url, prefix="rates:", seconds=5)
    await counters.open()
    limit = Rate(2, 1)
    await counters.take("ann", 2, limit)
    refused = await counters.take("ann", 1, limit)
    async with library.from_url(valkey.url) as client:
        assert 0 < await client.pttl("rates:ann") <= 2000
    await asyncio.sleep(refused.wait)

    assert not (await counters.take("ann", 2, limit)).wait
    await counters.close()


@given(st.integers(0, 4_102_444_800), st.sampled_from(["minute", "hour", "day", "month"]))
def test_every_moment_lies_in_its_window(now: int, period: Period) -> None:
    """The window holds the moment, and the next one begins where it ends."""
    limit = Calendar(1, period)
    start, end = limit.window(now)

    assert start <= now < end
    assert limit.window(end - 0.001) == (start, end)
    assert limit.window(end)[0] == end
    if period == "month":
        assert datetime.fromtimestamp(start, UTC).day == 1


async def test_one_round_trip_for_a_take(valkey: Any) -> None:
    """However the take ends, Redis is asked once."""
    counters = RedisCounters(valkey.url, prefix="trips:", seconds=5)
    await counters.open()
    async with library.from_url(valkey.url) as client:
        for limit in (Rate(2, 60), Calendar(2, "month")):
            before = (await client.info("commandstats")).get("cmdstat_eval", {"calls": 0})["calls"]
            for _ in range(4):
                await counters.take(f"ann-{type(limit).__name__}", 1, limit)
            stats = await client.info("commandstats")
            assert stats["cmdstat_eval"]["calls"] - before == 4
            assert "cmdstat_evalsha" not in stats
    await counters.close()


async def test_a_file_survives(tmp_path: Path) -> None:
    """The next process finds what was taken, and nobody else may read it."""
    path = tmp_path / "counters.db"
    first = await opened(FileCounters(path))
    await first.take("ann", 90, DAY)
    await first.take("ann", 9, HOUR)
    await first.close()
    second = await opened(FileCounters(path))

    assert (await second.take("ann", 11, DAY)).wait
    assert (await second.take("ann", 2, HOUR)).wait
    assert path.stat().st_mode & 0o077 == 0
    await second.close()


async def test_a_file_that_others_hold_is_left_in_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Locked by another process for longer than a call may wait: unavailable, and well again afterwards."""
    first, second = (
        await opened(FileCounters(tmp_path / "c.db")),
        await opened(FileCounters(tmp_path / "c.db", "nobody", 0.2)),
    )
    assert first._database
    first._database.execute("BEGIN IMMEDIATE")
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await second.take("ann", 1, DAY)
    first._database.execute("COMMIT")

    assert not (await second.take("ann", 1, DAY)).wait
    assert caplog.text.count("meanwhile nobody") == 1
    assert caplog.text.count("can be used again") == 1
    for counters in (first, second):
        await counters.close()


async def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    """The complaint names the file."""
    (tmp_path / "c.db").write_text("no database, but long enough to look at as if it were one" * 10)
    counters = FileCounters(tmp_path / "c.db")

    with pytest.raises(ConfigError, match=r"c\.db cannot be used"):
        await counters.open()
    await counters.close()


async def test_a_black_hole_costs_little_once_and_then_nothing(valkey: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Silent Redis: the first calls wait as long as they may, the next do not at all; it is well again by itself."""
    async with between(valkey.port) as chaos:
        url = chaos.base.replace("http", "redis")
        counters = RedisCounters(url, "nobody counts", prefix="hole:", seconds=0.25)
        await counters.open()
        await counters.take("ann", 1, DAY)
        chaos.silent = True
        began = time.monotonic()
        ends = await asyncio.gather(*(counters.take("ann", 1, DAY) for _ in range(100)), return_exceptions=True)
        took, met = time.monotonic() - began, chaos.connections
        for _ in range(100):
            with pytest.raises(UnavailableError):
                await counters.take("ann", 1, DAY)
        assert {type(end) for end in ends} == {UnavailableError}
        assert took < 2
        assert chaos.connections <= met + 1
        chaos.mend()
        chaos.cut()
        async with asyncio.timeout(20):
            while True:
                try:
                    after = await counters.take("bob", 1, DAY)
                    break
                except UnavailableError:
                    await asyncio.sleep(0.05)

        assert not after.wait
        assert caplog.text.count("nobody counts") == 1
        assert caplog.text.count("can be used again") == 1
        await counters.close()


async def test_a_busy_loop_is_no_outage(valkey: Any) -> None:
    """Pictures may hold up the loop for longer than Redis has for its answer: it is counted all the same."""
    counters = RedisCounters(valkey.url, prefix="busy:", seconds=0.25)
    await counters.open()
    asked = [asyncio.create_task(counters.take("ann", 1, Rate(10, 60))) for _ in range(12)]
    await asyncio.sleep(0)
    time.sleep(0.6)  # noqa: ASYNC251  - the loop is held up on purpose

    assert sum(not taken.wait for taken in await asyncio.gather(*asked)) == 10
    await counters.close()


async def test_cancelled_takes_never_mix_answers(valkey: Any) -> None:
    """After many cancelled takes through a slow line every caller gets what is its own, and nothing stays taken."""
    async with between(valkey.port) as chaos:
        counters = RedisCounters(chaos.base.replace("http", "redis"), prefix="mixed:", seconds=10)
        await counters.open()
        for number in range(10):
            await counters.take(f"caller-{number}", number, DAY)
        chaos.latency = 0.002
        for turn in range(20):
            asked = [asyncio.create_task(take_surely(counters, f"caller-{number}", 0, DAY)) for number in range(10)]
            lost = [asyncio.create_task(take_surely(counters, f"caller-{number}", 20, DAY)) for number in range(10)]
            await asyncio.sleep(0.001 * (turn % 9))
            for task in lost:
                task.cancel()
            for end in await asyncio.gather(*lost, return_exceptions=True):
                if isinstance(end, Taken):
                    await counters.settle(end)
            answers = await asyncio.gather(*asked)
            assert [answer.used % 20 for answer in answers] == list(range(10))

        left = [(await counters.take(f"caller-{number}", 0, DAY)).used for number in range(10)]
        assert left == list(range(10))
        await counters.close()


@pytest.mark.parametrize(
    ("command", "value"), [("maxmemory", "1"), ("min-replicas-to-write", "1")], ids=["full", "no replica"]
)
async def test_a_redis_that_takes_no_writes_is_told(valkey: Any, command: str, value: str) -> None:
    """Full or read-only: unavailable, nothing else, and well again when it is."""
    counters = RedisCounters(valkey.url, prefix=f"{command}:", seconds=5)
    await counters.open()
    async with library.from_url(valkey.url) as client:
        before = (await client.config_get(command))[command]
        await client.config_set(command, value)
        try:
            with pytest.raises(UnavailableError):
                await counters.take("ann", 1, DAY)
        finally:
            await client.config_set(command, before)
        async with asyncio.timeout(10):
            while True:
                try:
                    assert not (await counters.take("ann", 1, DAY)).wait
                    break
                except UnavailableError:
                    await asyncio.sleep(0.05)
    await counters.close()


async def test_killed_while_calls_are_on_their_way(tmp_path: Path) -> None:
    """It comes back over the same data: what was granted counts, and the counters need no new start."""
    server = Valkey(tmp_path).start()  # type: ignore[no-untyped-call]  # a test's own server
    counters = RedisCounters(server.url, prefix="killed:", seconds=0.25)
    await counters.open()
    granted = [await counters.take("ann", 1, DAY) for _ in range(10)]
    await asyncio.to_thread(server.kill)
    began = time.monotonic()
    with pytest.raises(UnavailableError):
        await counters.take("ann", 1, DAY)
    took = time.monotonic() - began
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(20):
        while True:
            try:
                after = await counters.take("ann", 1, DAY)
                break
            except UnavailableError:
                await asyncio.sleep(0.05)

    assert took < 1
    assert after.used == len(granted) + 1
    await counters.close()
    server.kill()


def test_places_are_told_apart(tmp_path: Path) -> None:
    """A URL of Redis, a file, or nothing, which an empty variable is, too."""
    assert isinstance(make_counters("redis://localhost"), RedisCounters)
    assert isinstance(make_counters(str(tmp_path / "c.db")), FileCounters)
    assert isinstance(make_counters(None), MemoryCounters)
    assert isinstance(make_counters(""), MemoryCounters)


@pytest.mark.parametrize("password", ["secret/9", "secret#9", "secret?9"])
def test_a_torn_url_is_refused_without_its_password(password: str) -> None:
    """The library would name the torn half as a bad port."""
    with pytest.raises(ValueError, match="state: this is not a URL of Redis") as caught:
        make_counters(f"redis://:{password}@127.0.0.1:6379/0")
    assert "secret" not in str(caught.value)


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'image-gateway\[redis\]'"):
        make_counters("redis://localhost")


async def test_the_log_names_the_server_and_no_password(caplog: pytest.LogCaptureFixture) -> None:
    """Who starts the gateway while it is down reads which one, and what is done meanwhile."""
    counters = make_counters("redis://ann:canary-word@127.0.0.1:1/0", "each counts for itself")
    await counters.open()
    await counters.close()

    assert "Redis at 127.0.0.1:1 cannot be used" in caplog.text
    assert "meanwhile each counts for itself" in caplog.text
    assert "canary-word" not in caplog.text
