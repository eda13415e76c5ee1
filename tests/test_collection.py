"""Lists over several storages, deletes everywhere, moves that lose nothing."""

import hashlib

import pytest
from gateway_plugins.storages.disk import Disk
from gateway_plugins.storages.memory import Memory
from gateway_plugins.storages.tiered import Tiered

from gateway import StorageDownError
from gateway.collection import all_pictures, delete_everywhere, move, outer
from tests.plugins.storages.pictures import PNG, Clock, picture


def memory(clock, ttl=0):
    """Make memory with the test's clock."""
    storage = Memory(ttl=ttl)
    storage.clock = storage.timer = clock
    return storage


@pytest.fixture
def clock():
    return Clock(5000.0)


async def test_lists_all_storages_as_one(clock):
    """Pictures of all storages come newest first, each once."""
    first, second = memory(clock), memory(clock)
    for number in range(6):
        await (first if number % 2 else second).put(picture(f"picture-{number}", created=1000.0 + number), PNG)
    await first.put(picture("picture-4", created=1004.0), PNG)

    listed = [meta.key async for meta in all_pictures({"first": first, "second": second}, None)]

    assert listed == [f"picture-{number}" for number in (5, 4, 3, 2, 1, 0)]


async def test_a_tier_never_answers_for_the_whole(clock):
    """What a storage of tiers says of a picture counts, not what one of its tiers would."""
    front, last = memory(clock, ttl=60), memory(clock)
    tiered = Tiered(("front", "last"))
    tiered.clock = clock
    storages = {"front": front, "last": last, "tiered": tiered}
    tiered.connect(storages)
    await tiered.put(picture(), PNG)

    listed = [meta async for meta in all_pictures(storages, "ann")]

    assert [(meta.expires, dict(meta.details)) for meta in listed] == [(None, {})]
    assert outer(storages) == [tiered]


async def test_delete_asks_all_even_when_one_fails(clock):
    """A storage that is down does not keep the bytes in the others alive, and is told."""

    class Down:
        async def delete(self, key):
            raise StorageDownError("down")

    kept = memory(clock)
    await kept.put(picture(), PNG)

    with pytest.raises(StorageDownError):
        await delete_everywhere([Down(), kept], "k" * 40)
    assert await kept.get("k" * 40) is None


async def test_move_keeps_key_bytes_and_expiry(clock, tmp_path):
    """From one storage to another and on: same key, same SHA-256, same end; then 404 right at it."""
    source = memory(clock, ttl=600)
    data = PNG + b"pixels" * 1000
    kept = await source.put(picture(data=data, details={"prompt": "a cat"}), data)
    clock.now += 100
    async with Disk(tmp_path / "a", ttl=50) as target:
        target.clock = clock

        assert [moved.outcome async for moved in move(source, target)] == ["moved"]
        found = await target.get("k" * 40)
        assert found.meta == kept
        assert hashlib.sha256(await found.body.read()).hexdigest() == kept.sha256
        assert await source.get("k" * 40) is None
        clock.now = kept.expires
        assert await target.get("k" * 40) is None


async def test_move_keeps_for_ever(clock):
    """What was to stay for ever stays for ever in a storage that would end it."""
    source, target = memory(clock), memory(clock, ttl=10)
    await source.put(picture(), PNG)
    assert [moved.outcome async for moved in move(source, target)] == ["moved"]

    clock.now += 1000
    assert (await target.get("k" * 40)).meta.expires is None


async def test_move_goes_on_where_it_was(clock):
    """A picture that was copied before a crash is only taken from the source."""
    source, target = memory(clock), memory(clock)
    for storage in (source, target):
        await storage.put(picture(), PNG)

    assert [moved.outcome async for moved in move(source, target)] == ["moved"]
    assert [moved async for moved in move(source, target)] == []
    assert await target.get("k" * 40)


async def test_move_leaves_what_it_cannot_carry(clock):
    """A full target, or one that gives back something else, costs no picture."""

    class Lossy(Memory):
        async def put(self, meta, data):
            return await super().put(meta, data[:-1])

    source = memory(clock)
    await source.put(picture(), PNG)

    for target in (Memory(ttl=0, limit=3), Lossy(ttl=0)):
        outcomes = [moved async for moved in move(source, target)]
        assert [moved.outcome for moved in outcomes] == ["failed"]
        assert outcomes[0].reason
    assert await source.get("k" * 40)


async def test_a_picture_that_goes_while_it_is_moved_stops_no_other(clock, tmp_path):
    """Deleted between its finding and its reading it is gone; the others move."""

    class Deleting(Disk):
        async def get(self, key):
            found = await super().get(key)
            if key == "goes-meanwhile":
                await self.delete(key)
            return found

    target = memory(clock)
    async with Deleting(tmp_path) as source:
        for key in ("stays-there-1", "goes-meanwhile", "stays-there-2"):
            await source.put(picture(key), PNG)
        outcomes = {moved.key: moved.outcome async for moved in move(source, target)}

    assert outcomes == {"stays-there-1": "moved", "goes-meanwhile": "gone", "stays-there-2": "moved"}


async def test_a_move_within_one_place_loses_nothing(clock):
    """Two names for one storage: what was deleted there is put back, and told."""
    storage = memory(clock)
    await storage.put(picture(), PNG)
    outcomes = [moved async for moved in move(storage, storage)]

    assert [moved.outcome for moved in outcomes] == ["failed"]
    assert "in one place" in outcomes[0].reason
    assert [meta.key async for meta in storage.list()] == [picture().key]
