"""The spool keeps a picture whole or not at all, for one process at a time, and never harms a job."""
# ruff: noqa: ASYNC240  - a test may block its own loop

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway import picture_files, plain_files, spool_folder
from gateway.errors import StorageDownError
from gateway.pictures import seal
from gateway.spool import Spool, Spooled
from gateway.values import PictureMeta
from tests.plugins.storages.test_disk import FaultyOs

KEYS = [f"{letter * 40}" for letter in "abc"]
DATA = os.urandom(300_000)


def spooled(key: str = KEYS[0], data: bytes = DATA, storage: str = "pictures", **more: Any) -> Spooled:
    details = {"prompt": "a cat", "receipt": {"notes": ["☃"]}}
    return Spooled(
        PictureMeta(key, "image/png", 64, 32, len(data), "", 1.5, None, "ann", "m", details, **more), storage, "j"
    )


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Spool]]:
    """Make spools that all lie in one folder, as those of several processes do."""
    made: list[Spool] = []

    def make(limit: int = 0) -> Spool:
        made.append(Spool(tmp_path / "deep" / "spool", limit))
        return made[-1]

    yield make
    for spool in made:
        with suppress(RuntimeError):  # its test has closed it
            await spool.close()


def files(spool: Spool, pattern: str = "*") -> list[Path]:
    """Name the files of the spool, locks left out."""
    return sorted(path for path in spool.root.rglob(pattern) if path.is_file() and path.name != "lock")


async def test_the_next_process_finds_all_that_was_known(make: Callable[..., Spool]) -> None:
    """The picture's bytes and meta data, its storage and its job."""
    first, picture = make(), spooled()
    assert await first.keep(picture, DATA)
    await first.close()
    second = make()
    (found,) = await second.take_over()

    assert found == Spooled(await seal(picture.meta, DATA), "pictures", "j")
    assert await second.read(KEYS[0]) == DATA
    assert (second.count, second.size) == (1, len(DATA))


async def test_what_was_dropped_is_gone_and_leaves_no_folder(make: Callable[..., Spool]) -> None:
    """For this process, for the next one, and for whoever looks into the folder."""
    first = make()
    await first.keep(spooled(), DATA)
    await first.drop(KEYS[0])
    assert (KEYS[0] in first, first.size, files(first)) == (False, 0, [])
    assert await first.read(KEYS[0]) is None
    await first.close()

    assert list(first.root.iterdir()) == []
    assert await make().take_over() == []


async def test_nobody_else_may_look_into_it(make: Callable[..., Spool]) -> None:
    """Prompts and pictures of callers: files 0600, folders 0700 at the top."""
    spool = make()
    await spool.keep(spooled(), DATA)

    assert {path.stat().st_mode & 0o777 for path in spool.root.rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in [spool.root, *spool.root.iterdir()]} == {0o700}


async def test_nothing_is_made_before_the_first_picture(make: Callable[..., Spool]) -> None:
    """Looking, asking and closing make no folder."""
    spool = make()
    await spool.take_over()
    await spool.read(KEYS[0])
    await spool.drop(KEYS[0])
    await spool.close()

    assert not spool.root.parent.exists()


async def test_processes_that_live_do_not_touch_each_others_pictures(make: Callable[..., Spool]) -> None:
    """Only what a process that ended has left is taken over, and by one alone."""
    first, second, third = make(), make(), make()
    await first.keep(spooled(KEYS[0]), DATA)
    await second.keep(spooled(KEYS[1]), DATA)
    assert await second.take_over() == []
    assert await first.take_over() == []
    await first.close()
    found = await asyncio.gather(second.take_over(), third.take_over())

    assert sorted(len(each) for each in found) == [0, 1]
    assert [spool.meta.key for each in found for spool in each] == [KEYS[0]]
    assert await second.read(KEYS[1]) == DATA


async def test_a_folder_that_goes_while_it_is_claimed_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening its lock and taking it another process may find it empty and remove it."""
    first = spool_folder.SpoolFolder.claim(tmp_path)
    assert first is not None

    class Slow:
        LOCK_EX, LOCK_NB = fcntl.LOCK_EX, fcntl.LOCK_NB

        def flock(self, lock: int, how: int) -> None:
            assert first is not None
            assert first.dissolve()
            fcntl.flock(lock, how)

    monkeypatch.setattr(spool_folder, "fcntl", Slow())

    assert spool_folder.SpoolFolder.claim(tmp_path) is None


async def test_a_folder_that_was_taken_over_goes_when_it_is_empty(make: Callable[..., Spool]) -> None:
    """At the next look; the folder of whoever took it stays."""
    first, second = make(), make()
    await first.keep(spooled(KEYS[0]), DATA)
    await first.close()
    await second.take_over()
    await second.keep(spooled(KEYS[1]), DATA)
    assert len(list(second.root.iterdir())) == 2
    await second.drop(KEYS[0])
    await second.take_over()

    assert len(list(second.root.iterdir())) == 1
    assert await second.read(KEYS[1]) == DATA


FAULTS = [("open", errno.EACCES), ("write", errno.ENOSPC), ("fsync", errno.EIO), ("rename", errno.EROFS)]


@pytest.mark.parametrize("skip", range(3))
@pytest.mark.parametrize(("name", "code"), FAULTS)
async def test_a_spool_that_cannot_be_written_says_so_once(
    make: Callable[..., Spool],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    code: int,
    skip: int,
) -> None:
    """Full, read-only or broken at any step: nobody is harmed, nothing half stays, and it works again by itself."""
    spool = make()
    faulty = FaultyOs(name, code, skip, half=name == "write")
    for module in (picture_files, plain_files, spool_folder):
        monkeypatch.setattr(module, "os", faulty)
    kept = [await spool.keep(spooled(key), DATA) for key in KEYS]
    told = [record.message for record in caplog.records if "kept in memory only" in record.message]
    assert [key in spool for key in KEYS] == kept
    assert not all(kept)
    assert len(told) == 1
    assert all(os.strerror(code) in line and str(spool.root) in line for line in told)
    monkeypatch.undo()

    assert await spool.keep(spooled("dddddddd"), DATA)
    await spool.close()
    following = make()
    found = {each.meta.key for each in await following.take_over()}
    assert {await following.read(key) for key in found} == {DATA}
    # A picture may be whole although its keeping was not acknowledged; never the other way round.
    assert {key for key, one in zip(KEYS, kept, strict=True) if one} | {"dddddddd"} <= found


async def test_a_file_in_its_place_harms_nobody(make: Callable[..., Spool], caplog: pytest.LogCaptureFixture) -> None:
    """The folder cannot be made at all."""
    spool = make()
    spool.root.parent.mkdir()
    spool.root.write_text("not a folder")

    assert not await spool.keep(spooled(), DATA)
    assert await spool.take_over() == []
    assert "kept in memory only" in caplog.text
    assert "what an earlier process may have left stays there" in caplog.text


async def test_the_limit_is_kept_and_told(make: Callable[..., Spool], caplog: pytest.LogCaptureFixture) -> None:
    """What lies there counts whoever wrote it; what is dropped makes room."""
    first = make()
    await first.keep(spooled(KEYS[0]), DATA)
    await first.close()
    spool = make(limit=700_000)
    await spool.take_over()
    assert await spool.keep(spooled(KEYS[1]), DATA)
    assert not await spool.keep(spooled(KEYS[2]), DATA)
    assert "is full, it may hold 700000 bytes (jobs.spool_limit)" in caplog.text
    await spool.drop(KEYS[0])

    assert await spool.keep(spooled(KEYS[2]), DATA)


def flip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


DAMAGES: dict[str, Callable[[Path, Path], Any]] = {
    "a byte of the picture": lambda meta, data: data.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1])),
    "half of the picture": lambda meta, data: data.write_bytes(DATA[:1000]),
    "the picture": lambda meta, data: data.unlink(),
    "a byte of the meta data": lambda meta, data: flip(meta),
    "all of the meta data": lambda meta, data: meta.write_bytes(b""),
    "junk": lambda meta, data: meta.write_bytes(os.urandom(500)),
    "no plan": lambda meta, data: meta.write_bytes(meta.read_bytes().replace(b'"spooled"', b'"spoiled"')),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_what_is_damaged_is_set_aside_and_the_rest_goes_on(
    make: Callable[..., Spool], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A line in the log says where it lies; it is not deleted, and not given."""
    first = make()
    for key in KEYS:
        await first.keep(spooled(key), DATA)
    await first.close()
    (meta,) = files(first, f"{KEYS[1]}.meta")
    (data,) = (path for path in files(first, f"{KEYS[1]}.*") if path.suffix != ".meta")
    DAMAGES[damage](meta, data)
    second = make()
    found = [each.meta.key for each in await second.take_over()]
    whole = [key for key in found if await second.read(key) == DATA]

    assert sorted(whole) == [KEYS[0], KEYS[2]]
    assert KEYS[1] not in second
    assert f"{KEYS[1]} was set aside" in caplog.text
    assert str(meta.parents[2]) in caplog.text
    assert meta.with_name(f"{meta.name}.bad").exists()
    await second.close()
    assert len(await make().take_over()) == 2


async def test_one_file_that_cannot_be_read_holds_up_no_other(
    make: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bad sector, say: the others are stored, and it is left for a start at which it can be read."""
    first = make()
    for key in KEYS:
        await first.keep(spooled(key), DATA)
    await first.close()
    read_file = picture_files.read_file

    def failing(folder: int, name: str, start: int, end: int) -> bytes:
        if name == f"{KEYS[1]}.meta":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_file(folder, name, start, end)

    with monkeypatch.context() as patch:
        patch.setattr(picture_files, "read_file", failing)
        second = make()
        found = [each.meta.key for each in await second.take_over()]
        await second.close()
    third = make()

    assert sorted(found) == sorted({*KEYS} - {KEYS[1]})
    assert KEYS[1] in caplog.text
    assert KEYS[1] in [each.meta.key for each in await third.take_over()]


async def test_a_spool_that_cannot_be_read_loses_nothing(
    make: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails for a moment: the picture is neither damaged nor gone."""
    spool = make()
    await spool.keep(spooled(), DATA)
    for module in (picture_files, plain_files):
        monkeypatch.setattr(module, "os", FaultyOs("open", errno.EIO))
    with pytest.raises(StorageDownError):
        await spool.read(KEYS[0])
    with pytest.raises(StorageDownError):
        await spool.drop(KEYS[0])
    monkeypatch.undo()

    assert await spool.read(KEYS[0]) == DATA


CRASHER = """
import asyncio, os, signal, sys
from pathlib import Path
from gateway import picture_files, plain_files, spool_folder
from gateway.spool import Spool, Spooled
from gateway.values import PictureMeta
WATCHED = {"open", "write", "fsync", "rename", "unlink", "mkdir", "close", "fstat"}
class Crashing:
    def __init__(self, at):
        self.left = at
    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in WATCHED:
            return real
        def call(*arguments, **options):
            self.left -= 1
            if not self.left:
                if name == "write":
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)
        return call
async def write(root, at, told):
    spool = Spool(root, 0)
    picture_files.os = plain_files.os = spool_folder.os = Crashing(at)
    for key in sys.argv[2:]:
        meta = PictureMeta(key, "image/png", 1, 1, 40, "", 1.5)
        await spool.keep(Spooled(meta, "pictures", "j"), key.encode())
        os.write(told, f"kept {key} ".encode())
    await spool.drop(key)
    os.write(told, f"dropped {key} ".encode())
    await spool.close()
for at in range(1, 200):
    root = Path(sys.argv[1]) / str(at)
    child = os.fork()
    if not child:
        told = os.open(f"{root}.txt", os.O_WRONLY | os.O_CREAT)
        asyncio.run(write(root, at, told))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not status:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
"""


async def test_killed_at_any_step_it_leaves_nothing_half(tmp_path: Path) -> None:
    """kill -9 at each call: what was acknowledged is there, what was dropped is not, and all that is there is whole."""
    stays, goes = KEYS[:2]
    command = [sys.executable, "-c", CRASHER, str(tmp_path), stays, goes]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rounds = sorted(tmp_path.glob("*.txt"))
    for told in rounds:
        spool = Spool(told.with_suffix(""), 0)
        found = {each.meta.key for each in await spool.take_over()}
        whole = {key for key in found if await spool.read(key) == key.encode()}
        text = told.read_text()

        assert found == whole
        assert f"kept {stays}" not in text or stays in found
        assert f"dropped {goes}" not in text or goes not in found
        await spool.close()
    assert len(rounds) > 60
    assert rounds[0].read_text() == ""
    assert any("dropped" in told.read_text() for told in rounds)
