"""The disk keeps pictures whole or not at all: full, read-only, slow, broken or killed at any step."""
# ruff: noqa: ASYNC221, ASYNC240, PTH208  - a test may block its own loop, and listdir of /proc/self/fd counts

import asyncio
import errno
import hashlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gateway_plugins.storages.disk import Disk

import gateway.picture_files as picture_files
import gateway.plain_files as plain_files
from gateway import NotFoundError, PictureMeta, StorageDownError, StorageError, StorageFullError
from tests.needs import lacking
from tests.plugins.storages.pictures import PNG, Clock, listed, picture

DATA = PNG + os.urandom(300_000)
KEY = "k" * 40


@pytest.fixture
async def disk(tmp_path):
    async with Disk(tmp_path / "pictures") as storage:
        yield storage


def files(storage):
    """Name all files under the root."""
    return sorted(path.name for path in Path(storage.root).rglob("*") if not path.is_dir())


def replace_os(monkeypatch, module):
    """Let the storage's files see *module* as os."""
    for each in (picture_files, plain_files):
        monkeypatch.setattr(each, "os", module)


class FaultyOs:
    """The os module, in which one call fails, after *skip* good ones; it writes down what was called."""

    def __init__(self, name="", code=0, skip=0, half=False):
        self.name, self.code, self.skip, self.half, self.calls = name, code, skip, half, []

    def __getattr__(self, name):
        real = getattr(os, name)
        if not callable(real) or isinstance(real, type):
            return real

        def call(*arguments, **options):
            self.calls.append(name)
            if name == self.name:
                self.skip -= 1
                if self.skip < 0:
                    if self.half:
                        real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                    raise OSError(self.code, os.strerror(self.code))
            return real(*arguments, **options)

        return call


STEPS = [("open", 4), ("write", 0), ("fsync", 0), ("write", 1), ("fsync", 1), ("rename", 0), ("fsync", 2)]
CODES = [
    (errno.ENOSPC, StorageFullError),
    (errno.EDQUOT, StorageFullError),
    (errno.EROFS, StorageDownError),
    (errno.EACCES, StorageDownError),
    (errno.EIO, StorageDownError),
    (errno.EMFILE, StorageDownError),
]


@pytest.mark.parametrize(("code", "kind"), CODES)
@pytest.mark.parametrize(("step", "skip"), STEPS)
async def test_a_failing_step_is_told_and_leaves_nothing(disk, monkeypatch, step, skip, code, kind):
    """Each call of a write may fail in each way: 507 or 503 without a path, nothing left, the next put works."""
    await disk.put(picture("warm-up-key", data=DATA), DATA)
    await disk.delete("warm-up-key")
    meta = picture(data=DATA)
    replace_os(monkeypatch, faulty := FaultyOs(step, code, skip, half=step == "write"))
    with pytest.raises(kind) as told:
        await disk.put(meta, DATA)
    replace_os(monkeypatch, os)

    assert faulty.skip < 0
    assert str(disk.root) not in told.value.message
    found = await disk.get(KEY)
    assert found is None or await found.body.read() == DATA
    assert disk.health() == {"status": "down", "reason": told.value.message}
    assert not [name for name in files(disk) if name.endswith(".tmp")]
    await disk.put(meta, DATA)
    assert await (await disk.get(KEY)).body.read() == DATA
    assert disk.health() == {"status": "ok"}


@pytest.mark.parametrize(("step", "skip"), STEPS)
async def test_a_failing_overwrite_keeps_the_old_or_has_the_new(disk, monkeypatch, step, skip):
    """When the second picture under a key fails at any step, one of the two is there whole."""
    await disk.put(picture(data=b"old"), b"old")
    replace_os(monkeypatch, FaultyOs(step, errno.ENOSPC, skip))
    with pytest.raises(StorageFullError):
        await disk.put(picture(data=DATA), DATA)
    replace_os(monkeypatch, os)

    assert await (await disk.get(KEY)).body.read() in (b"old", DATA)


async def test_order_of_durability(disk, monkeypatch):
    """Both files are on the disk before the rename makes the picture exist, and the folder after it."""
    await disk.put(picture(), PNG)
    replace_os(monkeypatch, recorder := FaultyOs())
    await disk.put(picture(data=DATA), DATA)
    replace_os(monkeypatch, os)

    steps = [name for name in recorder.calls if name in {"write", "fsync", "rename", "unlink"}]
    assert steps == ["write", "fsync", "write", "fsync", "rename", "fsync", "unlink"]


CRASHER = """
import asyncio, os, signal, sys
import gateway.picture_files as picture_files
import gateway.plain_files as plain_files
from gateway_plugins.storages.disk import Disk
from tests.plugins.storages.pictures import picture
root, at = sys.argv[1], int(sys.argv[2])
WATCHED = {"open", "write", "fsync", "rename", "unlink", "mkdir", "close"}
class Crashing:
    count = 0
    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in WATCHED:
            return real
        def call(*arguments, **options):
            Crashing.count += 1
            if Crashing.count == at:
                if name == "write":
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)
        return call
async def main():
    async with Disk(root) as disk:
        data = b"old" * 1000
        await disk.put(picture(data=data), data)
        print("old", flush=True)
        picture_files.os = plain_files.os = Crashing()
        data = b"new" * 50000
        await disk.put(picture(data=data), data)
        await disk.put(picture("another-key", data=data), data)
        picture_files.os = plain_files.os = os
        print("acknowledged", flush=True)
asyncio.run(main())
"""


async def test_killed_at_any_step_leaves_whole_pictures(tmp_path):
    """kill -9 at each call of an overwrite and of a first write: whole or absent, never lost once acknowledged."""
    outcomes = []
    for at in range(1, 80):
        root = tmp_path / str(at)
        done = subprocess.run(
            [sys.executable, "-c", CRASHER, str(root), str(at)], capture_output=True, text=True, cwd=Path.cwd()
        )
        async with Disk(root) as disk:
            found = await disk.get(KEY)
            assert await found.body.read() in (b"old" * 1000, b"new" * 50000)
            if other := await disk.get("another-key"):
                assert await other.body.read() == b"new" * 50000
            assert "acknowledged" not in done.stdout or other
        outcomes.append(done.returncode)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr

    assert outcomes[-1] == 0
    assert len(outcomes) > 20


async def test_orphans_are_swept_after_an_hour(tmp_path):
    """What a crash left is removed when it is older than an hour; strangers' files and young ones stay."""
    clock = Clock(time.time())
    async with Disk(tmp_path) as disk:
        disk.clock = clock
        await disk.put(picture(), PNG)
        folder = next(path for path in tmp_path.rglob(f"{KEY}.meta")).parent
        orphans = [
            f"{KEY}.0123456789abcdef",
            f"{KEY}.0123456789abcdef.tmp",
            "other-key-1.meta",
            "other-key-2.0123456789abcdef",
        ]
        for name in [*orphans, "README", ".hidden", "notes.meta.txt"]:
            (folder / name).write_bytes(b"left")

        assert await disk.sweep() == 0
        clock.now += 3601
        assert await disk.sweep() == len(orphans)
        assert {path.name for path in folder.iterdir()} >= {"README", ".hidden", "notes.meta.txt"}
        assert await (await disk.get(KEY)).body.read() == PNG


async def test_a_live_write_is_never_swept(disk, monkeypatch):
    """A sweep with a clock far ahead leaves alone what is being written right now."""
    disk.clock = Clock(time.time() + 10 * 86400)
    puts = [disk.put(picture(f"written-{number}", data=DATA), DATA) for number in range(20)]
    sweeps = [disk.sweep() for _ in range(20)]
    await asyncio.gather(*puts, *sweeps)

    for number in range(20):
        assert await (await disk.get(f"written-{number}")).body.read() == DATA


def _writer(root, letter, ready, go):
    async def write():
        async with Disk(root) as disk:
            ready.release()
            go.wait()
            for _ in range(30):
                data = letter * 100_000
                await disk.put(picture(data=data), data)

    asyncio.run(write())


async def test_two_processes_one_key(tmp_path):
    """While two processes write one key again and again, a reader always finds one picture whole."""
    context = multiprocessing.get_context("spawn")
    ready, go = context.Semaphore(0), context.Event()
    writers = [context.Process(target=_writer, args=(tmp_path, letter, ready, go)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    async with Disk(tmp_path) as disk:
        for _ in writers:
            await asyncio.to_thread(ready.acquire)
        await disk.put(picture(data=b"a" * 100_000), b"a" * 100_000)
        go.set()
        while any(writer.is_alive() for writer in writers):
            found = await disk.get(KEY)
            try:
                data = await found.body.read()
            except NotFoundError:
                continue
            assert data in (b"a" * 100_000, b"b" * 100_000)
        assert await (await disk.get(KEY)).body.read()
    assert [writer.exitcode for writer in writers] == [0, 0]


async def test_bit_rot_is_found_and_set_aside(tmp_path):
    """A flipped byte is found on reading, told once as 502, set aside, and then the key is unknown."""
    async with Disk(tmp_path, verify=True) as disk:
        await disk.put(picture(data=DATA), DATA)
        path = (await disk.get(KEY)).body.path
        rotten = bytearray(DATA)
        rotten[1000] ^= 1
        path.write_bytes(rotten)

        with pytest.raises(StorageError, match="SHA-256 differs"):
            await disk.get(KEY)
        assert await disk.get(KEY) is None
        assert [name for name in files(disk) if name.endswith(".bad")]


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff" * 100, b"0123456789abcdef\nnull", b"../../x\n{}"])
async def test_damaged_meta_data_are_no_picture(disk, damage):
    """Meta data that are not ours are told and set aside, not believed."""
    await disk.put(picture(), PNG)
    next(Path(disk.root).rglob("*.meta")).write_bytes(damage)

    with pytest.raises(StorageError):
        await disk.get(KEY)
    assert await disk.get(KEY) is None


@pytest.mark.parametrize("damage", ["bytes", "meta data"])
async def test_a_sweep_sets_aside_what_is_damaged(tmp_path, caplog, damage):
    """Nobody has asked for it yet: all that is left of it stays for the operator, who is told."""
    clock = Clock(time.time())
    async with Disk(tmp_path) as disk:
        disk.clock = clock
        await disk.put(picture(data=DATA), DATA)
        await disk.put(picture("whole-one"), PNG)
        if damage == "bytes":
            os.truncate((await disk.get(KEY)).body.path, 1000)
        else:
            next(Path(disk.root).rglob(f"{KEY}.meta")).write_bytes(b"{}")
        before = [name for name in files(disk) if name.startswith(KEY)]

        assert await disk.sweep() == 0
        assert [name for name in files(disk) if name.startswith(KEY)] == before
        clock.now += 3601
        assert await disk.sweep() == 1
        assert [name for name in files(disk) if name.startswith(KEY)] == [f"{name}.bad" for name in before]
        assert KEY in caplog.text
        clock.now += 3601
        assert await disk.sweep() == 0
        assert await disk.get(KEY) is None
        assert await listed(disk) == ["whole-one"]


async def test_meta_data_of_a_later_version_are_understood(disk):
    """What it knows besides is passed over: whoever goes back a version keeps the pictures."""
    await disk.put(picture(), PNG)
    record = next(Path(disk.root).rglob("*.meta"))
    record.write_bytes(record.read_bytes().replace(b'"owner"', b'"since":1,"owner"'))

    assert await (await disk.get(KEY)).body.read() == PNG


async def test_a_shortened_file_is_no_picture(disk):
    """A picture that lost its end is told, never served short."""
    await disk.put(picture(data=DATA), DATA)
    os.truncate((await disk.get(KEY)).body.path, 1000)

    with pytest.raises(StorageError, match="1000 of"):
        await disk.get(KEY)


@pytest.mark.parametrize("what", ["link", "fifo", "device", "directory"])
@pytest.mark.parametrize("where", ["meta", "bytes"])
async def test_planted_things_are_not_followed(disk, tmp_path, caplog, what, where):
    """A link, a pipe, a device or a directory at a picture's place is not opened: the key is unknown, the log tells."""
    await disk.put(picture(), PNG)
    path = (await disk.get(KEY)).body.path
    path = path if where == "bytes" else path.parent / f"{KEY}.meta"
    secret = tmp_path / "secret"
    secret.write_bytes(path.read_bytes())
    path.unlink()
    if what == "link":
        path.symlink_to(secret)
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "device":
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
    else:
        path.mkdir()

    async with asyncio.timeout(5):
        assert await disk.get(KEY) is None
        assert "not a plain file" in caplog.text
        assert await listed(disk) == []
        await disk.sweep()


async def test_a_folder_that_is_a_link_is_not_followed(disk, tmp_path):
    """A link in the place of a folder leads nowhere, for reading and for writing."""
    await disk.put(picture(), PNG)
    folder = (await disk.get(KEY)).body.path.parent
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")

    assert await disk.get(KEY) is None
    with pytest.raises(StorageError):
        await disk.put(picture(), PNG)


async def test_a_slow_disk_does_not_stop_the_loop(disk, monkeypatch):
    """While every call of the disk takes long, the event loop turns as before."""

    class Slow(FaultyOs):
        def __getattr__(self, name):
            real = super().__getattr__(name)
            return (
                real
                if name not in {"write", "fsync"}
                else lambda *given, **also: (time.sleep(0.1), real(*given, **also))[1]
            )

    replace_os(monkeypatch, Slow())
    puts = asyncio.gather(*(disk.put(picture(f"slow-put-{number}"), PNG) for number in range(4)))
    longest = 0.0
    while not puts.done():
        before = time.perf_counter()
        await asyncio.sleep(0.005)
        longest = max(longest, time.perf_counter() - before)

    assert longest < 0.1
    await puts


async def test_the_directory_may_vanish_and_come_back(tmp_path):
    """A moved directory is 503 for reading and writing, an empty one in its place too; moved back all is there."""
    root = tmp_path / "pictures"
    async with Disk(root) as disk:
        await disk.put(picture(), PNG)
        root.rename(tmp_path / "away")
        for _ in range(2):
            for call in (
                disk.get(KEY),
                disk.get("unknown-key"),
                disk.put(picture(), PNG),
                disk.delete(KEY),
                disk.sweep(),
            ):
                with pytest.raises(StorageDownError):
                    await call
            root.mkdir(exist_ok=True)
        assert disk.health()["status"] == "down"
        root.rmdir()
        (tmp_path / "away").rename(root)

        assert await (await disk.get(KEY)).body.read() == PNG
        await disk.put(picture("and-a-new-one"), PNG)
        assert disk.health() == {"status": "ok"}


async def test_many_readers_need_few_files(disk):
    """Five hundred readers at once get by with a handful of open files."""
    await disk.put(picture(data=DATA), DATA)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 40, hard))
    try:

        async def read():
            return await (await disk.get(KEY)).body.read()

        bodies = await asyncio.gather(*(read() for _ in range(500)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert all(body == DATA for body in bodies)
    assert len(os.listdir("/proc/self/fd")) == open_now


async def test_a_really_full_disk(tmp_path):
    """On a file system of 2 MB pictures go in until it is full; then 507, all before are whole, and place heals."""
    mount = tmp_path / "small"
    mount.mkdir()
    if (
        os.getuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)], check=False).returncode
    ):
        lacking("a tmpfs that it may mount: run as root")
    try:
        async with Disk(mount / "pictures") as disk:
            kept = []

            async def fill():
                for number in range(20):
                    await disk.put(picture(f"picture-{number}", data=DATA), DATA)
                    kept.append(f"picture-{number}")

            with pytest.raises(StorageFullError) as told:
                await fill()
            assert told.value.status == 507
            assert 3 <= len(kept) <= 7
            assert sorted(await listed(disk)) == kept
            for key in kept:
                assert await (await disk.get(key)).body.read() == DATA
            await disk.delete(kept[0])
            await disk.put(picture("after-that", data=DATA), DATA)
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=False)


async def test_its_own_limit_refuses_and_heals(tmp_path):
    """A full limit is 507 and drops nothing that lives; expired pictures and deletes make place."""
    clock = Clock(time.time())
    disk = Disk(tmp_path, ttl=60, limit=1000)
    disk.clock = clock
    async with disk:
        await disk.put(picture("first-one", data=b"x" * 600), b"x" * 600)
        with pytest.raises(StorageFullError):
            await disk.put(picture("second-one", data=b"x" * 600), b"x" * 600)
        with pytest.raises(StorageError, match="more than the 1000"):
            await disk.put(picture("third-one", data=b"x" * 1001), b"x" * 1001)
        assert await listed(disk) == ["first-one"]
        clock.now += 60
        await disk.put(picture("second-one", data=b"x" * 600), b"x" * 600)
        await disk.delete("second-one")
        await disk.put(picture("fourth-one", data=b"x" * 900), b"x" * 900)


@pytest.mark.parametrize("before", ["expired", "nothing"])
async def test_many_at_once_do_not_pass_the_limit(tmp_path, before):
    """Each that meets a full or an uncounted folder sweeps it; no sweep forgets what others are writing."""
    clock = Clock(time.time())
    disk = Disk(tmp_path, ttl=60, limit=10_000)
    disk.clock = clock
    async with disk:
        if before == "expired":
            for number in range(10):
                await disk.put(picture(f"old-one-{number}", data=b"x" * 1000), b"x" * 1000)
            clock.now += 61
        else:
            disk._counted = False
        puts = (disk.put(picture(f"new-one-{number}", data=b"x" * 1000), b"x" * 1000) for number in range(40))
        outcomes = await asyncio.gather(*puts, disk.sweep(), return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, StorageFullError)]

        assert len(await listed(disk)) == 40 - len(refused)
        assert 8 <= 40 - len(refused) <= 10
        assert {type(outcome) for outcome in outcomes} == {PictureMeta, StorageFullError, int}


async def test_expired_bytes_leave_the_disk(tmp_path):
    """One sweep after the end no byte is left; a restart sweeps before anything is asked."""
    clock = Clock(time.time())
    disk = Disk(tmp_path, ttl=60)
    disk.clock = clock
    async with disk:
        await disk.put(picture(), PNG)
    clock.now += 60
    async with disk:
        assert files(disk) == []


async def test_wall_clock_jumps(tmp_path):
    """A clock set back ends no picture early, one set forth ends it as its date says; nothing breaks."""
    clock = Clock(time.time())
    disk = Disk(tmp_path, ttl=3600)
    disk.clock = clock
    async with disk:
        await disk.put(picture(), PNG)
        clock.now -= 172_800
        assert await disk.sweep() == 0
        assert await disk.get(KEY)
        clock.now += 172_800 + 3600
        assert await disk.get(KEY) is None


async def test_fans_out(disk):
    """Pictures spread over many folders, two levels deep."""
    for number in range(60):
        await disk.put(picture(f"picture-{number}"), PNG)

    folders = {path.parent for path in Path(disk.root).rglob("*.meta")}
    assert len(folders) > 40
    assert {len(folder.relative_to(disk.root).parts) for folder in folders} == {2}


async def test_the_file_holds_exactly_the_bytes(disk):
    """What sendfile sends is the picture and nothing else."""
    await disk.put(picture(data=DATA), DATA)
    path = (await disk.get(KEY)).body.path

    assert hashlib.sha256(path.read_bytes()).hexdigest() == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("root", ["", "  ", "a\0b"])
def test_root_must_name_a_directory(root):
    """An empty root, as from an unset variable, is refused."""
    with pytest.raises(ValueError, match="root must name a directory"):
        Disk(root)


async def test_a_file_in_the_place_of_root_is_told(tmp_path):
    """A root that cannot be a directory stops the start in words."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageDownError):
        await Disk(tmp_path / "file").__aenter__()
