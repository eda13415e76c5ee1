"""Every storage keeps its promises in the same way."""

import asyncio
import hashlib
import math
import os
from dataclasses import replace

import pytest

from gateway import Storage, StorageError
from tests.plugins.storages.benches import FORGETFUL, SWEPT_BY_ITSELF, TTL
from tests.plugins.storages.pictures import PNG, listed, picture

HOSTILE = [
    "../../../../etc/passwd",
    "..%2f..%2fetc",
    "%2e%2e/",
    "..\\..\\windows",
    "/etc/passwd",
    "a\0bcdefghijk",
    "//",
    ".",
    "",
    "abcdefgh/ijkl",
    "x" * 5000,
    "ключключключ",
    "CON",
    "-leadinghyphen",
    "trailingdot.",
    "newline-key\n",
    " spacespace",
    "abcdefgh*",
    "abcd?fgh",
    "[abcdefgh]",
    "index",
    "abcdefgh.meta",
]


async def test_fulfils_the_contract(storage):
    """All five methods are there."""
    assert isinstance(storage, Storage)


async def test_gives_back_what_it_took(storage, bench):
    """Bytes and meta data come back the same, the time of expiry added."""
    meta = picture(details={"prompt": "a cat, 猫 🐈", "seed": 2**53, "receipt": {"notes": ["x" * 50]}})

    kept = await storage.put(meta, PNG)
    found = await storage.get(meta.key)

    assert kept.expires == bench.clock.now + TTL
    assert found.meta == kept
    assert await found.body.read() == PNG
    assert found.meta.details["prompt"] == "a cat, 猫 🐈"


@pytest.mark.parametrize("size", [100, 400_000])
async def test_fills_in_what_only_the_bytes_say(storage, size):
    """A picture that comes without SHA-256 and length gets the right ones."""
    data = PNG + b"x" * size
    await storage.put(replace(picture(data=data), sha256="", length=0), data)
    found = await storage.get("k" * 40)

    assert (found.meta.sha256, found.meta.length) == (hashlib.sha256(data).hexdigest(), len(data))
    assert await found.body.read() == data


async def test_keeps_long_details(storage):
    """A prompt and receipt far over the meta data limits of the media come back whole, incompressible ones too."""
    details = {"prompt": os.urandom(20_000).hex(), "receipt": {"notes": ["long " * 2000]}}
    await storage.put(picture(details=details), PNG)

    found = await storage.get("k" * 40)

    assert dict(found.meta.details) == details
    assert [dict(meta.details) async for meta in storage.list()] == [details]


async def test_streams_any_part(storage):
    """Parts of a picture are exactly the bytes asked for, empty and whole ones included."""
    data = PNG + os.urandom(699_993)
    await storage.put(picture(data=data), data)
    found = await storage.get("k" * 40)

    for start, end in [(0, len(data)), (0, 1), (5, 5), (262_143, 262_145), (700_000, 700_001), (1, 600_000)]:
        assert b"".join([bytes(part) async for part in found.body.stream(start, end)]) == data[start:end]


async def test_expires_to_the_second(storage, bench):
    """A picture is there until its time and not at it."""
    kept = await storage.put(picture(), PNG)

    bench.clock.now = kept.expires - 0.01
    assert await storage.get("k" * 40)
    assert await listed(storage) == ["k" * 40]
    bench.clock.now = kept.expires
    assert await storage.get("k" * 40) is None
    assert await listed(storage) == []
    bench.clock.now = kept.expires + 0.01
    assert await storage.get("k" * 40) is None


async def test_a_clock_set_back_ends_nothing_early(storage, bench):
    """Two days back and forth again: the picture stays, and ends at its time."""
    kept = await storage.put(picture(), PNG)

    bench.clock.now -= 172_800
    await storage.sweep()
    assert (await storage.get("k" * 40)).meta.expires == kept.expires
    assert await listed(storage) == ["k" * 40]
    bench.clock.now = kept.expires - 0.01
    assert await (await storage.get("k" * 40)).body.read() == PNG
    bench.clock.now = kept.expires + 172_800
    assert await storage.get("k" * 40) is None


async def test_a_given_expiry_wins(storage, bench):
    """A picture that moves here keeps its own time, and never stays never."""
    until = bench.clock.now + 70
    await storage.put(picture("moved-here-1", expires=until), PNG)
    await storage.put(picture("moved-here-2", expires=math.inf), PNG)

    assert (await storage.get("moved-here-1")).meta.expires == until
    assert (await storage.get("moved-here-2")).meta.expires is None
    bench.clock.now = until
    assert await storage.get("moved-here-1") is None
    bench.clock.now += 10 * TTL
    assert await storage.get("moved-here-2")


async def test_sweep_removes_what_expired(request, storage, bench):
    """After a sweep only the living are left, and the sweep says how many went."""
    if request.node.callspec.params["bench"] in SWEPT_BY_ITSELF:
        pytest.skip("the medium removes what expired")
    for number in range(3):
        await storage.put(picture(f"short-lived-{number}"), PNG)
    await storage.put(picture("long-lived-1", expires=bench.clock.now + 5 * TTL), PNG)

    bench.clock.now += TTL
    assert await storage.sweep() == 3
    assert await storage.sweep() == 0
    assert await listed(storage) == ["long-lived-1"]
    assert await (await storage.get("long-lived-1")).body.read() == PNG


async def test_survives_a_restart(request, bench):
    """A second instance over the same medium gives the same bytes for exactly the remaining time."""
    if request.node.callspec.params["bench"] in FORGETFUL:
        pytest.skip("memory is forgetful by nature")
    first = await bench.open()
    kept = await first.put(picture(), PNG)
    await bench.close()
    bench.clock.now += TTL / 2

    second = await bench.open(ttl=5 * TTL)

    assert (await second.get("k" * 40)).meta == kept
    assert await (await second.get("k" * 40)).body.read() == PNG
    bench.clock.now = kept.expires
    assert await second.get("k" * 40) is None


async def test_overwrites_whole(storage):
    """A second picture under one key takes the place of the first, and nothing of the first stays."""
    await storage.put(picture(data=PNG + b"first" * 1000), PNG + b"first" * 1000)
    second = PNG + b"second"
    await storage.put(picture(data=second, media_type="image/webp", owner="bob", created=2000.0), second)

    found = await storage.get("k" * 40)
    assert (await found.body.read(), found.meta.media_type) == (second, "image/webp")
    assert await listed(storage) == ["k" * 40]
    assert await listed(storage, "ann") == []
    assert await listed(storage, "bob") == ["k" * 40]


async def test_deletes_once(storage):
    """Delete says whether there was something, and then there is nothing."""
    await storage.put(picture(), PNG)

    assert await storage.delete("k" * 40) is True
    assert await storage.delete("k" * 40) is False
    assert await storage.get("k" * 40) is None
    assert await listed(storage) == []


async def test_does_not_count_the_dead_as_deleted(storage, bench):
    """Deleting what expired is deleting nothing."""
    await storage.put(picture(), PNG)
    bench.clock.now += TTL

    assert await storage.delete("k" * 40) is False


async def test_lists_newest_first_by_owner(storage):
    """A listing is ordered by time of making and can be one owner's; odd owner names do no harm."""
    for number, owner in enumerate(["ann", "bob", "ann", "../%\n*é🐈", ""]):
        await storage.put(picture(f"listed-{number}", owner=owner, created=1000.0 + number), PNG)

    assert await listed(storage) == [f"listed-{number}" for number in (4, 3, 2, 1, 0)]
    assert await listed(storage, "ann") == ["listed-2", "listed-0"]
    assert await listed(storage, "../%\n*é🐈") == ["listed-3"]
    assert await listed(storage, "") == ["listed-4"]
    assert await listed(storage, "an") == []


async def test_holds_big_pictures(storage):
    """Eight megabytes come back byte for byte, as an empty picture does."""
    data = PNG + os.urandom(8_000_000)
    await storage.put(picture("big-picture", data=data), data)
    await storage.put(picture("empty-picture", data=b""), b"")

    assert await (await storage.get("big-picture")).body.read() == data
    assert await (await storage.get("empty-picture")).body.read() == b""


async def test_many_at_once(storage):
    """Forty puts, reads and deletes at a time neither mix nor lose pictures."""
    datas = {f"together-{number}": os.urandom(30_000) for number in range(40)}
    await asyncio.gather(*(storage.put(picture(key, data=data), data) for key, data in datas.items()))

    found = await asyncio.gather(*(storage.get(key) for key in datas))
    assert await asyncio.gather(*(each.body.read() for each in found)) == list(datas.values())
    assert sorted(await listed(storage)) == sorted(datas)
    assert all(await asyncio.gather(*(storage.delete(key) for key in datas)))
    assert await listed(storage) == []


async def test_one_key_written_by_many_is_whole(storage):
    """Whoever wins, what is kept is one picture whole, with its own meta data."""
    datas = [bytes([number]) * (50_000 + number) for number in range(12)]
    await asyncio.gather(*(storage.put(picture(data=data), data) for data in datas))

    found = await storage.get("k" * 40)
    data = await found.body.read()
    assert data in datas
    assert picture(data=data).sha256 == found.meta.sha256


async def test_old_keys_of_the_workers_work(storage):
    """Keys as the two Workers made them are taken."""
    await storage.put(picture("image_1729350000000_k3j9x"), PNG)

    assert await storage.get("image_1729350000000_k3j9x")


@pytest.mark.parametrize("key", HOSTILE)
async def test_hostile_keys_are_nobody(storage, key):
    """What cannot be a key is not found, not deleted and not written."""
    assert await storage.get(key) is None
    assert await storage.delete(key) is False
    with pytest.raises(StorageError):
        await storage.put(picture(key), PNG)
