"""Memory keeps to its budget, frees what expired, and lives by a clock that nobody moves."""

import asyncio
import time

import pytest
from gateway_plugins.storages.memory import Memory

from gateway import PictureTooLargeError
from tests.plugins.storages.pictures import Clock, listed, picture


def memory(clock=None, **options):
    """Make memory with the test's clock."""
    storage = Memory(**options)
    storage.clock = storage.timer = clock or Clock(1000.0)
    return storage


async def fill(storage, *sizes):
    """Put pictures of these sizes, each a second younger."""
    for number, size in enumerate(sizes):
        await storage.put(picture(f"picture-{number}", data=b"x" * size, created=1000.0 + number), b"x" * size)


async def test_the_oldest_go_first_even_when_they_are_read():
    """A new picture displaces the oldest, however often that was looked at."""
    storage = memory(limit=100)
    await fill(storage, 50, 50)
    await storage.get("picture-0")
    await storage.put(picture("picture-9", data=b"x" * 10, created=2000.0), b"x" * 10)

    assert await listed(storage) == ["picture-9", "picture-1"]


@pytest.mark.parametrize(("size", "fits"), [(99, True), (100, True), (101, False)])
async def test_the_budget_is_exact(size, fits):
    """One picture may fill the budget to the byte; one byte more is refused and nothing else goes."""
    storage = memory(limit=100)
    await fill(storage, 1)
    if fits:
        await storage.put(picture("the-big-one", data=b"x" * size), b"x" * size)
        assert await storage.get("the-big-one")
        return
    with pytest.raises(PictureTooLargeError, match="101 bytes, more than the 100"):
        await storage.put(picture("the-big-one", data=b"x" * size), b"x" * size)
    assert await listed(storage) == ["picture-0"]


async def test_too_large_keeps_what_was_there():
    """A too large second picture under a key does not cost the first."""
    storage = memory(limit=100)
    await fill(storage, 60)
    with pytest.raises(PictureTooLargeError):
        await storage.put(picture("picture-0", data=b"y" * 101), b"y" * 101)

    assert await (await storage.get("picture-0")).body.read() == b"x" * 60


async def test_expired_bytes_make_place_before_the_living():
    """What has expired goes before anything that lives, even when it is younger."""
    clock = Clock(1000.0)
    storage = memory(clock, limit=100, ttl=0)
    await storage.put(picture("long-lived", data=b"x" * 50), b"x" * 50)
    await storage.put(picture("short-lived", data=b"x" * 50, expires=1010.0), b"x" * 50)
    clock.now = 1010.0
    await storage.put(picture("new-one-here", data=b"x" * 50), b"x" * 50)

    assert sorted(await listed(storage)) == ["long-lived", "new-one-here"]


async def test_expired_bytes_are_freed_without_traffic():
    """A sweep frees the bytes of what expired."""
    clock = Clock(1000.0)
    storage = memory(clock, ttl=10)
    await fill(storage, 1000, 1000)
    clock.now += 10

    assert await storage.sweep() == 2
    assert storage._entries.currsize == 0


async def test_wall_clock_jumps_do_not_matter():
    """Two days forth or back neither end nor lengthen a picture's life."""
    wall, timer = Clock(1_000_000.0), Clock(50.0)
    storage = Memory(ttl=60)
    storage.clock, storage.timer = wall, timer
    await storage.put(picture(), b"x")

    wall.now += 172_800
    assert await storage.get("k" * 40)
    wall.now -= 2 * 172_800
    timer.now += 59.9
    assert await storage.get("k" * 40)
    timer.now += 0.1
    assert await storage.get("k" * 40) is None


async def test_a_hundred_thousand_ends_at_once_let_others_work():
    """When very many expire in the same second the event loop goes on turning."""
    clock = Clock(1000.0)
    storage = memory(clock, ttl=10)
    for number in range(100_000):
        await storage.put(
            picture(
                f"picture-{number:06}",
            ),
            b"x",
        )
    clock.now += 10
    longest, last, done = 0.0, time.perf_counter(), asyncio.create_task(storage.sweep())
    while not done.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now

    assert await done == 100_000
    assert longest < 0.1


async def test_the_books_do_not_grow():
    """A key that is overwritten for ever does not pile up memory of its ends."""
    storage = memory()
    for _ in range(2000):
        await storage.put(picture(), b"x")

    assert len(storage._ends) < 200


async def test_reading_copies_nothing():
    """A reader of the whole gets the very bytes that are kept."""
    data = b"x" * 1000
    storage = memory()
    await storage.put(picture(data=data), data)
    body = (await storage.get("k" * 40)).body

    assert await body.read() is data
    assert await anext(body.stream(0, 1000)) is data


def test_no_budget_is_no_storage():
    """A budget of nothing is refused."""
    with pytest.raises(ValueError, match="limit must not be 0"):
        Memory(limit=0)


async def test_repr_shows_no_picture():
    """What reaches a log does not hold the pictures."""
    storage = memory()
    await storage.put(picture(), b"secret-bytes")

    assert "secret" not in repr(storage)
