"""Cloudflare KV within its limits and with its troubles."""

import pytest
from aiohttp.test_utils import TestServer
from gateway_plugins.storages.cloudflare_kv import CloudflareKV

from gateway import PictureTooLargeError, Secret, StorageDownError, StorageError, StorageFullError
from gateway.care import care_for
from tests.plugins.storages.fake_kv import TOKEN, FakeKV
from tests.plugins.storages.pictures import PNG, Clock, picture

KEY = "k" * 40


@pytest.fixture
async def kv():
    fake = FakeKV()
    async with TestServer(fake.app()) as server:
        fake.url = str(server.make_url("/client/v4"))
        yield fake


@pytest.fixture
async def storage(kv):
    async with CloudflareKV("acc", "ns", (Secret(TOKEN),), base_url=kv.url) as storage:
        yield storage


async def test_writes_once_and_looks_nothing_up(storage, kv):
    """An ordinary picture costs one write; nothing is read before, since KV remembers its own no."""
    await storage.put(picture(details={"prompt": "a cat"}), PNG)

    assert kv.calls == [("PUT", "values", KEY)]


async def test_short_lives_are_ended_by_the_gateway(storage):
    """A moved picture with less than a minute left is taken, and ends on time."""
    storage.clock = Clock(1000.0)
    await storage.put(picture(expires=1005.0), PNG)

    assert await storage.get(KEY)
    storage.clock.now = 1005.0
    assert await storage.get(KEY) is None


async def test_too_large_is_refused_here(storage, kv):
    """More than KV takes is refused before it is sent."""
    data = bytes(25 * 2**20 + 1)
    with pytest.raises(PictureTooLargeError):
        await storage.put(picture(data=b""), data)

    assert kv.calls == []


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (500, "<html>oops</html>", StorageDownError),
        (429, '{"success":false,"errors":[{"code":971,"message":"Please wait"}]}', StorageDownError),
        (429, '{"success":false,"errors":[{"code":10048,"message":"daily quota exceeded"}]}', StorageFullError),
        (403, '{"success":false,"errors":[{"code":10000,"message":"Authentication error"}]}', StorageDownError),
        (200, "<html>a portal</html>", StorageError),
    ],
)
async def test_troubles_are_told(kv, status, body, kind):
    """Each trouble has its kind of error; no token is in it."""
    async with CloudflareKV("acc", "ns", (Secret(TOKEN),), base_url=kv.url) as storage:
        kv.trouble = (status, body)
        with pytest.raises(kind) as told:
            await storage.get(KEY)

    assert TOKEN not in told.value.message


async def test_unknown_namespace_is_told(kv):
    """A namespace that is not there is 503 on writing, not a lost picture."""
    kv.trouble = (404, '{"success":false,"errors":[{"code":10013,"message":"namespace not found"}]}')
    async with CloudflareKV("acc", "ns", (Secret(TOKEN),), base_url=kv.url) as storage:
        with pytest.raises(StorageDownError, match="no such account or namespace"):
            await storage.put(picture(), PNG)


async def test_values_of_others_are_not_pictures(storage, kv):
    """A value without our metadata, or with that of another key, is not found."""
    kv.values[KEY] = (b"text", None)
    assert await storage.get(KEY) is None
    await storage.put(picture("the-original"), PNG)
    kv.values["the-copy-of-it"] = kv.values["the-original"]
    assert await storage.get("the-copy-of-it") is None


@pytest.mark.parametrize(("ttl", "good"), [(0, True), (60, True), (59.9, False), (1, False)])
def test_ttl_is_checked_at_the_start(ttl, good):
    """What KV would refuse is refused with the configuration."""
    if good:
        assert CloudflareKV("acc", "ns", (Secret("x"),), ttl=ttl).ttl == ttl
        return
    with pytest.raises(ValueError, match="at least 60 seconds"):
        CloudflareKV("acc", "ns", (Secret("x"),), ttl=ttl)


async def test_health_tells_what_it_met_last(storage, kv):
    """A day's allowance of writes that is used up stays so although reading works, until a write works."""
    assert storage.health() == {"status": "ok"}
    kv.trouble = (404, '{"success":false,"errors":[{"code":10013,"message":"namespace not found"}]}')
    with pytest.raises(StorageDownError):
        await storage.put(picture(), PNG)
    kv.trouble = None
    await storage.get(KEY + "another")
    assert storage.health()["status"] == "down"
    await care_for(storage)

    assert storage.health() == {"status": "ok"}
    assert kv.values == {}
