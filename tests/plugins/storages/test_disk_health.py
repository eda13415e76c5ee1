"""What a gateway says of itself while its disk fails in any way, and that it says so no longer than that."""
# ruff: noqa: ASYNC240  - a test may block its own loop

import errno
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from gateway_plugins.storages.disk import Disk

from gateway import StorageDownError, picture_files
from gateway.care import care_for
from tests.gateways import DEMO, start
from tests.needs import lacking
from tests.painters import until
from tests.plugins.storages.pictures import PNG, Clock, listed, picture
from tests.plugins.storages.test_disk import CODES, FaultyOs, replace_os

DISK = DEMO.replace("use: memory, ttl: 600", "use: disk, root: ./pictures")
ERRORS = [code for code, _ in CODES]


@pytest.fixture
async def gateway(aiohttp_server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gateway = await start(aiohttp_server, DISK, tmp_path)
    gateway.runtime.late.pauses = (0.02,)
    return gateway


async def told(gateway):
    """Give what health says of the whole and of the disk; it is a 200 all the while."""
    health = await gateway.get("/health")
    assert health.status == 200
    return health.json["status"], health.json["storages"]["pictures"]


async def drawn(gateway):
    return await gateway.draw(size="64x64", response_format="url")


def path_of(gateway, answer):
    return answer.json["data"][0]["url"].removeprefix(gateway.base)


@pytest.mark.parametrize(
    ("step", "code"),
    [*(("write", code) for code in ERRORS), *((step, errno.ENOSPC) for step in ("open", "fsync", "rename"))],
)
async def test_a_failing_write_degrades_and_the_next_good_one_mends(gateway, monkeypatch, tmp_path, step, code):
    """A clear refusal without a path, what was stored is shown, and with no caller's help it is well again."""
    before = path_of(gateway, await drawn(gateway))
    # Reading opens four files at most; what is opened next is to be written.
    replace_os(monkeypatch, FaultyOs(step, code, skip=4 if step == "open" else 0, half=step == "write"))
    refused = await drawn(gateway)
    status, disk = await told(gateway)

    assert (refused.status, refused.error["code"]) == (503, "image_not_stored")
    assert (status, disk["status"]) == ("degraded", "down")
    assert str(tmp_path) not in refused.text + str(disk)
    replace_os(monkeypatch, os)
    assert (await gateway.get(before)).status == 200
    await until(lambda: gateway.runtime.health()["status"] == "ok")
    assert await told(gateway) == ("ok", {"status": "ok"})
    assert len((await gateway.get("/v1/pictures")).json["data"]) == 2
    assert not list(Path("pictures").rglob("*.tmp"))


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.EMFILE])
async def test_a_failing_read_degrades_and_the_next_look_mends(gateway, monkeypatch, code):
    """A picture that cannot be read now is a 503 and not a 404; the sweeper hears when the disk is back."""
    path = path_of(gateway, await drawn(gateway))
    replace_os(monkeypatch, FaultyOs("open", code))
    refused = await gateway.get(path)
    during = await told(gateway)
    replace_os(monkeypatch, os)
    await care_for(gateway.runtime.storages["pictures"])

    assert refused.status == 503
    assert (during[0], during[1]["status"]) == ("degraded", "down")
    assert await told(gateway) == ("ok", {"status": "ok"})
    assert (await gateway.get(path)).status == 200


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
async def test_one_file_that_cannot_be_read_holds_up_no_other(tmp_path, monkeypatch, caplog, code):
    """With a bad sector, or of another owner: the storage opens, the others are listed, expire and go."""
    keys, now = ["a" * 40, "b" * 40, "c" * 40], Clock(time.time())
    read_file = picture_files.read_file

    def failing(folder, name, start, end):
        if name.startswith("b"):
            raise OSError(code, os.strerror(code))
        return read_file(folder, name, start, end)

    async with Disk(tmp_path, ttl=7200) as disk:
        for key in keys:
            await disk.put(picture(key), PNG)
    monkeypatch.setattr(picture_files, "read_file", failing)
    async with Disk(tmp_path, ttl=7200) as disk:
        disk.clock = now
        assert sorted(await listed(disk)) == ["a" * 40, "c" * 40]
        with pytest.raises(StorageDownError):
            await disk.get("b" * 40)
        now.now += 7300
        assert await disk.sweep() == 2
        assert caplog.text.count("b" * 40) == 1
        monkeypatch.undo()
        now.now -= 7300
        assert await listed(disk) == ["b" * 40]


@pytest.fixture
def small(tmp_path):
    """A file system of 2 MB in the place of the pictures."""
    mount = tmp_path / "pictures"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)]
    if os.getuid() or subprocess.run(command, check=False).returncode:
        lacking("a tmpfs that it may mount: run as root")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=False)


async def test_a_really_full_disk_degrades_until_there_is_room(small, gateway):
    """On a file system that somebody else has filled: refused and told; emptied, the picture is stored after all."""
    filler = small / "README"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    refused = await drawn(gateway)
    during = await told(gateway)
    filler.unlink()
    await until(lambda: gateway.runtime.health()["status"] == "ok")
    [stored] = (await gateway.get("/v1/pictures")).json["data"]

    assert (refused.status, refused.error["code"]) == (503, "image_not_stored")
    assert during == ("degraded", {"status": "down", "reason": "the disk of the picture storage is full (ENOSPC)"})
    assert (await gateway.get(f"/image/{stored['id']}")).status == 200
