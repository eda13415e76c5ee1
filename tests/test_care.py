"""Whoever asks after the gateway hears of its storages' troubles, and of their end, though nobody calls."""

import asyncio
import gc
import logging
import struct
import zlib

import pytest
from gateway_plugins.storages.disk import Disk
from gateway_plugins.storages.memory import Memory

from gateway import GatewayError, StorageDownError, StorageError, StorageFullError, Troubles
from gateway.care import care, care_for, health_of, is_failing, is_out_of_keys
from gateway.config import load, settings_of
from gateway.probing import PIXEL, probe
from gateway.runtime import make_runtime
from tests.gateways import DEMO, drawing_by, installed, start
from tests.painters import until
from tests.plugins.storages.pictures import listed, picture


class Ill(Memory):
    """Memory whose methods fail when they are named in *ill*."""

    ill: frozenset[str] = frozenset()
    troubles = Troubles()

    def health(self):
        return self.troubles.health()

    def _step(self, name):
        with self.troubles.noted(name == "put"):
            if name in self.ill:
                raise StorageDownError(f"{name} fails")

    async def put(self, meta, data):
        self._step("put")
        return await super().put(meta, data)

    async def get(self, key):
        self._step("get")
        return await super().get(key)

    async def delete(self, key):
        self._step("delete")
        return await super().delete(key)


@pytest.fixture
def ill():
    storage = Ill()
    storage.troubles = Troubles()
    return storage


def test_the_pixel_is_a_picture():
    """Its bytes are those of a PNG with sums that hold."""
    at = 8
    while at < len(PIXEL):
        (length,) = struct.unpack_from(">I", PIXEL, at)
        body, (sum_,) = PIXEL[at + 4 : at + 8 + length], struct.unpack_from(">I", PIXEL, at + 8 + length)
        assert zlib.crc32(body) == sum_
        at += 12 + length


async def test_a_probe_leaves_nothing():
    """It writes, reads and deletes."""
    storage = Memory()
    await probe(storage)

    assert await listed(storage) == []


@pytest.mark.parametrize(
    ("step", "words"), [("put", "cannot be written"), ("get", "cannot be read"), ("delete", "cannot be deleted from")]
)
async def test_a_probe_says_what_fails(ill, step, words):
    """Keys that may write need not be able to delete."""
    ill.ill = {step}
    with pytest.raises(StorageDownError) as told:
        await probe(ill)

    assert told.value.message == f"{words}: {step} fails"


async def test_a_probe_wants_its_own_bytes_back(ill):
    """A store that takes all and keeps nothing is in trouble."""

    async def get(key):
        return None

    ill.get = get
    with pytest.raises(StorageError, match="does not give back"):
        await probe(ill)


async def test_a_storage_that_recovered_is_heard_of_without_callers(ill):
    """The next look finds out by a picture of its own; the write's trouble is over only by a write."""
    ill.ill = {"put"}
    with pytest.raises(StorageDownError):
        await ill.put(picture(), b"x")
    await ill.get("k" * 40)
    assert ill.health() == {"status": "down", "reason": "put fails"}
    with pytest.raises(StorageDownError):
        await care_for(ill)
    ill.ill = set()
    await care_for(ill)

    assert ill.health() == {"status": "ok"}


async def test_one_storage_in_trouble_keeps_no_other_from_its_turn(ill, caplog):
    """Each is swept in every round; trouble is one line in the log, a fault a stack."""
    swept, tidied = [], []

    class Broken:
        def __init__(self, error):
            self.error = error

        async def sweep(self):
            swept.append(self)
            raise self.error

    broken = {"down": StorageDownError("no answer"), "faulty": KeyError("x"), "cancelled": asyncio.CancelledError()}
    storages = {**{name: Broken(error) for name, error in broken.items()}, "good": ill}
    task = asyncio.create_task(care(storages, lambda: tidied.append(len(swept)), every=0))
    await until(lambda: len(swept) >= 9)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    lines = [record for record in caplog.records if record.name == "gateway.care"]
    assert {record.getMessage(): bool(record.exc_info) for record in lines} == {
        "the storage down could not be swept: no answer": False,
        "sweeping the storage faulty failed": True,
        "sweeping the storage cancelled was cancelled by a fault of its own": False,
    }
    assert tidied[:3] == [0, 3, 6]


@pytest.mark.parametrize(
    ("health", "failing"),
    [
        ({"status": "down"}, True),
        ({"status": "degraded"}, True),
        ({"status": "ok"}, False),
        ({}, False),
        (None, False),
        ("down", False),
    ],
)
def test_what_a_storage_tells_of_itself(health, failing):
    """Plugins' storages may say more, or nothing."""
    assert is_failing(health) is failing


@pytest.mark.parametrize(
    ("health", "out"),
    [
        ({"keys": 2, "usable": 0}, True),
        ({"keys": 2, "usable": 1}, False),
        ({"keys": 0, "usable": 0}, False),
        ({"keys": 2}, False),
        ({"loaded": False}, False),
    ],
)
def test_who_has_no_key_left(health, out):
    """A backend that needs no key is never out of keys."""
    assert is_out_of_keys(health) is out


def test_a_plugin_that_cannot_tell_its_health_breaks_nothing():
    """Its fault is told as such, without its words."""

    class Faulty:
        def health(self):
            raise ValueError("a secret")

    assert health_of(Faulty()) == {"status": "unknown", "reason": "its health cannot be told: ValueError"}


def test_a_full_medium_that_reads_is_still_full():
    """Reading well says nothing of writing; what is no trouble of the medium is not noted."""
    troubles = Troubles()
    with pytest.raises(StorageFullError), troubles.noted(writing=True):
        raise StorageFullError("full")
    with pytest.raises(StorageError), troubles.noted():
        raise StorageError("damaged")
    with troubles.noted():
        pass
    assert troubles.health() == {"status": "down", "reason": "full"}
    with troubles.noted(writing=True):
        pass

    assert troubles.health() == {"status": "ok"}


async def test_health_is_degraded_while_a_storage_fails(aiohttp_server, tmp_path):
    """A disk that is full to its limit: still a 200, and ok again after the next look; clients hear of no path."""
    text = DEMO.replace("use: memory, ttl: 600", "use: disk, root: ./pictures, limit: 12000")
    gateway = await start(aiohttp_server, text, tmp_path)
    assert (await gateway.draw(size="64x64", response_format="url")).status == 200
    drawn = await gateway.draw(size="64x64", response_format="url")
    health = await gateway.get("/health")

    assert drawn.status >= 400
    assert (health.status, health.json["status"]) == (200, "degraded")
    assert health.json["storages"]["pictures"]["status"] == "down"
    assert str(tmp_path) not in drawn.text + health.text
    gateway.runtime.storages["pictures"].limit = 10**6
    await care_for(gateway.runtime.storages["pictures"])
    assert (await gateway.get("/health")).json["status"] == "ok"


async def test_health_is_degraded_while_no_key_can_be_used(fake, aiohttp_server, tmp_path):
    """The only key was refused; draining says more than that."""
    gateway = await start(aiohttp_server, drawing_by(fake.base), tmp_path)
    fake.mode = "status:401"
    await gateway.draw()
    health = await gateway.get("/health")

    assert (health.status, health.json["status"]) == (200, "degraded")
    gateway.runtime.jobs.draining = True
    assert (await gateway.get("/health")).json["status"] == "draining"


async def test_a_disk_over_its_limit_names_no_path(tmp_path, caplog):
    """The client hears that it is full, the log where."""
    async with Disk(tmp_path / "pictures", limit=10) as disk:
        await disk.put(picture(data=b"x" * 8), b"x" * 8)
        with pytest.raises(StorageFullError) as told:
            await disk.put(picture("another-one", data=b"x" * 8), b"x" * 8)

        assert str(tmp_path) not in told.value.message
        assert str(tmp_path) in caplog.text
        assert disk.health() == {"status": "down", "reason": told.value.message}


STATES = ["redis://127.0.0.1:1/0", "./a-folder"]


@pytest.mark.parametrize("state", STATES)
async def test_a_start_that_fails_closes_what_it_opened(tmp_path, state, caplog):
    """The records of jobs cannot be had: nothing that was opened before stays open, nor anything of theirs."""
    (tmp_path / "a-folder").mkdir()
    more = f"jobs: {{state: '{state if '://' in state else tmp_path / state}'}}\n"
    document = load(tmp_path / "config.yaml", drawing_by("http://127.0.0.1:1") + more, {})
    runtime = make_runtime(settings_of(document, installed()))
    with caplog.at_level(logging.WARNING), pytest.raises(GatewayError, match=r"jobs\.state"):
        await runtime.open()
    del runtime
    gc.collect()  # an open session would complain here

    assert "Unclosed" not in caplog.text
