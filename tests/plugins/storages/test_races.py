"""Whoever reads a picture while it expires, is deleted or replaced gets all of it, a clean answer, or sees the cut."""

import asyncio
import os

import pytest

from tests.plugins.storages.benches import TTL
from tests.plugins.storages.pictures import PNG, picture
from tests.plugins.storages.readers import KEY, Reader

DATA, OTHER = PNG + os.urandom(14_000_000), PNG + os.urandom(14_000_000)
SMALL = PNG + os.urandom(700_000)


class Watched:
    """A storage with something that happens between the finding of a picture and its bytes."""

    def __init__(self, storage, meanwhile=None):
        self.storage, self.meanwhile = storage, meanwhile

    async def get(self, key):
        found = await self.storage.get(key)
        if self.meanwhile:
            await self.meanwhile()
        return found


@pytest.fixture(params=["delete", "expire", "replace"])
def happening(request, storage, bench):
    """What happens to the picture meanwhile; *left* is what a later reader finds."""

    async def happen():
        if request.param == "delete":
            await storage.delete(KEY)
        elif request.param == "expire":
            bench.clock.now += TTL
            await storage.sweep()
        else:
            await storage.put(picture(data=OTHER), OTHER)

    happen.left = OTHER if request.param == "replace" else None
    return happen


async def check_later(port, left):
    async with Reader(port) as later:
        assert await later.begun() == (200 if left else 404)
        body = await later.ended()
    assert body == left if left else b"no such picture" in body


async def test_a_picture_that_goes_while_it_is_read_is_whole_or_visibly_cut(storage, happening, serving):
    """In the middle of the body: all bytes of the one picture come, or fewer than the head has told."""
    await storage.put(picture(data=DATA), DATA)
    port = await serving(Watched(storage))
    async with Reader(port) as reader:
        assert await reader.begun() == 200
        await happening()
        body = await reader.ended()

    assert body in (DATA, None)
    await check_later(port, happening.left)


async def test_a_picture_that_goes_before_its_first_byte_is_whole_or_cleanly_not_there(storage, happening, serving):
    """Between finding and reading: one picture whole, a 404 or a 410 or a clear error, or a visible cut."""
    await storage.put(picture(data=DATA), DATA)
    watched = Watched(storage, happening)
    port = await serving(watched)
    async with Reader(port) as reader:
        status = await reader.begun()
        body = await reader.ended()
    watched.meanwhile = None

    assert status in (200, 404, 410, 502)
    assert body in (DATA, OTHER, None) if status == 200 else b'"error"' in body
    await check_later(port, happening.left)


async def test_readers_and_a_delete_at_the_same_time(storage, serving):
    """Ten readers and a delete, again and again in any order: never a short answer that looks whole."""
    port = await serving(Watched(storage))
    outcomes = []

    async def read(turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        async with Reader(port) as reader:
            status = await reader.begun()
            outcomes.append((status, await reader.ended()))

    for _ in range(8):
        await storage.put(picture(data=SMALL), SMALL)
        await asyncio.gather(*(read(3 * number) for number in range(10)), storage.delete(KEY))
        assert await storage.get(KEY) is None

    assert len(outcomes) == 80
    for status, body in outcomes:
        assert body in (SMALL, None) if status == 200 else status in (404, 410, 502), (status, body and body[:200])
