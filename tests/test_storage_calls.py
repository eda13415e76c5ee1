"""Whatever ails a storage is told as a `StorageError`, and its own words only to the log."""

import asyncio
import logging

import pytest
from gateway_plugins.storages.memory import Memory

from gateway import StorageDownError, StorageError
from gateway.collection import find_picture
from gateway.storage_calls import delete, get, put
from tests.plugins.storages.pictures import PNG, picture

CALLS = {
    "put": lambda storage: put(storage, picture(), PNG),
    "get": lambda storage: get(storage, "k" * 40),
    "delete": lambda storage: delete(storage, "k" * 40),
}
KINDS = {
    "down": (StorageDownError("no answer"), StorageDownError, "no answer"),
    "slow": (TimeoutError(), StorageDownError, "took too long"),
    "broken": (ValueError("token=secret"), StorageError, "failed by a fault of its own"),
    "cancelled": (asyncio.CancelledError(), StorageError, "cancelled by a fault of its own"),
}


class Faulty:
    """A storage in which every call raises, or gives, the same."""

    def __init__(self, fault):
        self.fault = fault

    async def put(self, *_):
        if isinstance(self.fault, BaseException):
            raise self.fault
        return self.fault

    get = delete = put


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_is_told_as_a_storage_error(kind, call):
    """Down, slow, broken or cancelled by itself: each has its kind, and a stranger's words are not told on."""
    fault, expected, words = KINDS[kind]

    with pytest.raises(expected, match=words) as raised:
        await CALLS[call](Faulty(fault))

    assert "secret" not in raised.value.message


@pytest.mark.parametrize("call", ["put", "get"])
async def test_a_broken_contract_is_told(call, caplog):
    """What is no picture is not handed on."""
    with pytest.raises(StorageError, match="broke its contract"):
        await CALLS[call](Faulty("a picture"))

    assert "the storage returned str" in caplog.text


async def test_a_stop_is_no_fault(caplog):
    """Who is told to stop stops, and nobody is blamed."""

    class Waiting:
        async def get(self, key):
            await asyncio.sleep(60)

    task = asyncio.create_task(get(Waiting(), "k" * 40))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_picture_is_found_behind_a_storage_in_trouble(kind):
    """What ails one storage matters only if no other has the picture."""
    kept = Memory()
    await kept.put(picture(), PNG)
    faulty = Faulty(KINDS[kind][0])

    found = await find_picture([faulty, kept], "k" * 40)

    assert found is not None
    assert await found.body.read() == PNG
    with pytest.raises(KINDS[kind][1], match=KINDS[kind][2]):
        await find_picture([faulty, kept], "x" * 40)
