"""A directory with thousands of pictures: spread over folders, listed and swept without reading all of it again."""

import asyncio
import hashlib
import os
import time
from collections import Counter
from pathlib import Path

import pytest
from gateway_plugins.storages import disk as disk_plugin
from gateway_plugins.storages.disk import Disk

from gateway import picture_files, plain_files
from tests.plugins.storages.pictures import PNG, Clock, listed, picture

PUTS = 5000
TTL = 3600.0


class Counting:
    """The os module, with the names of all files that were opened."""

    def __init__(self):
        self.opened = Counter()

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, *arguments, **options):
        self.opened[Path(str(path)).suffix] += 1
        return os.open(path, *arguments, **options)


@pytest.fixture
def counting(monkeypatch):
    counting = Counting()
    for each in (picture_files, plain_files):
        monkeypatch.setattr(each, "os", counting)
    return counting


def settle_down(root):
    """Make all folders as if they had been written long ago."""
    for path in [root, *root.rglob("*")]:
        if path.is_dir():
            os.utime(path, (1, 1))


def place(key):
    """Tell which folder a key's picture lies in."""
    return hashlib.sha256(key.encode()).hexdigest()[:3]


async def fill(disk, count, **fields):
    for start in range(0, count, 50):
        puts = (
            disk.put(picture(f"picture-{number:06}", created=1000.0 + number, **fields), PNG)
            for number in range(start, min(count, start + 50))
        )
        await asyncio.gather(*puts)


async def page(disk, owner="ann", size=20):
    """Take what an endpoint takes of a listing."""
    keys = []
    async for meta in disk.list(owner):
        keys.append(meta.key)
        if len(keys) == size:
            break
    return keys


async def test_no_folder_gets_full(tmp_path, counting):
    """Five thousand real puts: two levels, few names in each; listing and sweeping again read next to nothing."""
    async with Disk(tmp_path, ttl=TTL) as disk:
        await fill(disk, PUTS)
        folders = [path for path in (tmp_path, *tmp_path.rglob("*")) if path.is_dir()]
        most = Counter()
        for folder in folders:
            depth = len(folder.relative_to(tmp_path).parts)
            most[depth] = max(most[depth], len(list(folder.iterdir())))

        # At most 256 folders of 16 each; in each of those two files for a 4096th of the pictures.
        assert sorted(most) == [0, 1, 2]
        assert max(most[0], 16 * most[1]) <= 256
        assert most[2] <= 40

        settle_down(tmp_path)
        first = await page(disk)
        await disk.sweep()
        counting.opened.clear()
        again = await page(disk)
        assert again == first == [f"picture-{number:06}" for number in range(PUTS - 1, PUTS - 21, -1)]
        assert counting.opened[".meta"] <= 20
        counting.opened.clear()
        assert await disk.sweep() == 0
        assert counting.opened[".meta"] == 0


async def test_what_changes_is_seen_at_once(tmp_path):
    """New, replaced and deleted pictures, and those of another process, are in the next listing as they are."""
    async with Disk(tmp_path) as disk, Disk(tmp_path) as other:
        await fill(disk, 60)
        settle_down(tmp_path)
        await listed(disk)
        await disk.put(picture("a-new-picture", created=5000.0), PNG)
        await other.put(picture("another-new-one", created=6000.0), PNG)
        await other.delete("picture-000007")
        await other.put(picture("picture-000009", created=7000.0, owner="bob"), PNG)

        keys = await listed(disk)
        assert keys[:3] == ["picture-000009", "another-new-one", "a-new-picture"]
        assert len(keys) == 61
        assert await listed(disk, "bob") == ["picture-000009"]
        assert "picture-000009" not in await listed(disk, "ann")


async def test_what_was_just_written_is_not_believed_to_stay(tmp_path):
    """Two changes within one tick of the file system's clock look like one: young folders are read each time."""
    async with Disk(tmp_path) as disk:
        await disk.put(picture("picture-000001", created=2000.0), PNG)
        folder = next(tmp_path.rglob("*.meta")).parent
        neighbour = next(key for n in range(10**6) if place(key := f"neighbour-{n}") == place("picture-000001"))
        tick = folder.stat().st_mtime_ns
        assert await listed(disk) == ["picture-000001"]
        await disk.put(picture(neighbour), PNG)
        os.utime(folder, ns=(tick, tick))

        assert await listed(disk) == ["picture-000001", neighbour]


async def test_a_noted_folder_is_swept_when_its_time_comes(tmp_path):
    """What expires and what is orphaned goes, although nothing in its folder changed since the last sweep."""
    clock = Clock(time.time())
    async with Disk(tmp_path, ttl=TTL) as disk:
        disk.clock = clock
        await fill(disk, 200)
        settle_down(tmp_path)
        assert await disk.sweep() == 0
        assert await disk.sweep() == 0
        clock.now += TTL
        assert await disk.sweep() == 200
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

        orphan = next(path for path in tmp_path.rglob("*") if len(path.relative_to(tmp_path).parts) == 2)
        (orphan / "other-key-1.0123456789abcdef").write_bytes(b"left")
        settle_down(tmp_path)
        assert await disk.sweep() == 0
        clock.now = time.time() + 3700
        assert await disk.sweep() == 1


async def test_the_limit_holds_over_noted_folders(tmp_path):
    """The bytes of folders that were not looked into again still count."""
    async with Disk(tmp_path, limit=1000) as disk:
        await disk.put(picture("picture-000001", data=b"x" * 600), b"x" * 600)
        settle_down(tmp_path)
        await disk.sweep()
        await disk.sweep()
        with pytest.raises(disk_plugin.StorageFullError):
            await disk.put(picture("picture-000002", data=b"x" * 600), b"x" * 600)


async def test_a_start_does_not_wait_for_the_whole_sweep(tmp_path, monkeypatch):
    """A directory that takes long is served at once; the limit counts all of it all the same."""
    async with Disk(tmp_path) as disk:
        await fill(disk, 100)
    monkeypatch.setattr(disk_plugin, "START", 0.0)
    async with Disk(tmp_path, limit=100 * len(PNG)) as disk:
        assert await disk.get("picture-000050")
        with pytest.raises(disk_plugin.StorageFullError):
            await disk.put(picture("one-too-many"), PNG)


async def test_a_sweep_of_thousands_leaves_the_loop_free(tmp_path):
    """Thousands that expire in one second go while the event loop turns."""
    clock = Clock(time.time())
    async with Disk(tmp_path, ttl=TTL) as disk:
        disk.clock = clock
        await fill(disk, 1500)
        clock.now += TTL
        sweep, lags = asyncio.create_task(disk.sweep()), []
        while not sweep.done():
            before = time.perf_counter()
            await asyncio.sleep(0)
            lags.append(time.perf_counter() - before)

        assert await sweep == 1500
        assert sorted(lags)[int(len(lags) * 0.99)] < 0.05
