"""Redis that is down, slow, full or killed; bounds that hold; replies that never mix."""

import asyncio
import importlib.util
import time
import uuid

import pytest
import redis.asyncio as library
from gateway_plugins.storages.redis import Redis

from gateway import PictureTooLargeError, Secret, StorageDownError, StorageError, StorageFullError
from gateway.care import care_for
from tests.plugins.storages.pictures import PNG, Clock, listed, picture
from tests.plugins.storages.rude_proxy import RudeProxy
from tests.plugins.storages.servers import Valkey

KEY = "k" * 40


@pytest.fixture
async def make(valkey):
    opened = []

    async def make(**options):
        known = {"url": Secret(valkey.url), "prefix": f"t{uuid.uuid4().hex}:"} | options
        storage = await Redis(**known).__aenter__()
        opened.append(storage)
        return storage

    yield make
    for storage in opened:
        await storage.__aexit__(None, None, None)


async def test_the_oldest_go_first(make):
    """All pictures together keep to the limit to the byte; the oldest make place."""
    storage = await make(limit=100)
    for number in range(4):
        await storage.put(picture(f"picture-{number}", data=b"x" * 40, created=1000.0 + number), b"x" * 40)
    assert await listed(storage) == ["picture-3", "picture-2"]

    await storage.put(picture("fills-it-all", data=b"x" * 100, created=2000.0), b"x" * 100)
    assert await listed(storage) == ["fills-it-all"]
    assert await storage.get("picture-3") is None


async def test_overwrites_count_once(make):
    """Writing one key again and again uses up its size once; deleting gives it back."""
    storage = await make(limit=100)
    await storage.put(picture("stays-there", data=b"x" * 50, created=10.0), b"x" * 50)
    for _ in range(10):
        await storage.put(picture("overwritten", data=b"x" * 50), b"x" * 50)
    await storage.delete("overwritten")
    await storage.put(picture("another-one", data=b"x" * 50), b"x" * 50)

    assert sorted(await listed(storage)) == ["another-one", "stays-there"]


async def test_a_picture_over_its_bound_is_refused(make):
    """One picture may not be larger than its bound, nor than the limit of all."""
    storage = await make(limit=100, picture_limit=1000)
    with pytest.raises(PictureTooLargeError, match="101 bytes, more than the 100"):
        await storage.put(picture(data=b"x" * 101), b"x" * 101)


async def test_redis_forgets_by_itself(make, valkey):
    """A picture has an end in Redis too, should no gateway be there to sweep."""
    storage = await make(ttl=100.0, prefix="forgets:")
    await storage.put(picture(), PNG)
    async with library.from_url(valkey.url) as client:
        left = await client.pttl(f"forgets:picture:{KEY}")

    assert 100_000 <= left <= 170_000


async def test_books_are_kept_when_redis_forgot(make, valkey):
    """A picture that Redis let go by itself is unknown, unlisted, and its bytes are free after the sweep."""
    storage = await make(ttl=100.0, prefix="books:", limit=100)
    storage.clock = Clock(time.time())
    await storage.put(picture(data=b"x" * 90), b"x" * 90)
    async with library.from_url(valkey.url) as client:
        await client.delete(f"books:picture:{KEY}")
        assert await storage.get(KEY) is None
        assert await listed(storage) == []
        storage.clock.now += 100
        assert await storage.sweep() == 1
        assert int(await client.get("books:total")) == 0


async def test_killed_and_back(tmp_path):
    """Down at start and killed later it is 503 at once; what was acknowledged is there when it is back."""
    server = Valkey(tmp_path)
    storage = await Redis(url=Secret(server.url), timeout=1.0).__aenter__()
    try:
        with pytest.raises(StorageDownError):
            await storage.get(KEY)
        await asyncio.to_thread(server.start)
        await storage.put(picture(), PNG)
        await asyncio.to_thread(server.kill)
        for call in (storage.get(KEY), storage.put(picture(), PNG), storage.delete(KEY), storage.sweep()):
            with pytest.raises(StorageDownError) as told:
                await call
            assert told.value.status == 503
        await asyncio.to_thread(server.start)

        assert await (await storage.get(KEY)).body.read() == PNG
    finally:
        await storage.__aexit__(None, None, None)
        server.kill()


async def test_a_black_hole_is_left_in_time(make, valkey):
    """A server that never answers costs no more than the time allowed, for many at once."""
    async with RudeProxy(valkey.port) as proxy:
        proxy.deaf = True
        storage = await make(url=Secret(f"redis://127.0.0.1:{proxy.port}/0"), timeout=0.3, connections=4)
        before = time.perf_counter()
        answers = await asyncio.gather(*(storage.get(KEY) for _ in range(200)), return_exceptions=True)

    assert {type(answer) for answer in answers} == {StorageDownError}
    assert time.perf_counter() - before < 3


async def test_a_full_server_is_507(tmp_path):
    """When Redis itself is out of memory the picture is refused as full, and others stay."""
    server = Valkey(tmp_path).start()
    try:
        async with library.from_url(server.url) as client, Redis(url=Secret(server.url)) as storage:
            await storage.put(picture(), PNG)
            await client.config_set("maxmemory-policy", "noeviction")
            await client.config_set("maxmemory", "1")
            with pytest.raises(StorageFullError):
                await storage.put(picture("one-too-many"), PNG)
            assert await (await storage.get(KEY)).body.read() == PNG
    finally:
        server.kill()


async def test_cancelled_readers_never_mix_replies(make):
    """After many cancelled reads every key still gives its own bytes."""
    storage = await make(connections=2)
    for number in range(10):
        data = bytes([number]) * 50_000
        await storage.put(picture(f"picture-{number}", data=data), data)

    async def read(number):
        return await (await storage.get(f"picture-{number}")).body.read()

    for turn in range(30):
        tasks = [asyncio.create_task(read(number)) for number in range(10)]
        for _ in range(turn % 7):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        bodies = await asyncio.gather(*tasks, return_exceptions=True)
        for number, body in enumerate(bodies):
            assert isinstance(body, asyncio.CancelledError) or body == bytes([number]) * 50_000


async def test_foreign_values_are_not_pictures(make, valkey):
    """Another type or nonsense under a picture's name is not found or 503, never an accident."""
    storage = await make(prefix="foreign:")
    async with library.from_url(valkey.url) as client:
        await client.hset(f"foreign:picture:{KEY}", mapping={"meta": b"\xff{", "data": b"x"})
        assert await storage.get(KEY) is None
        await client.set("foreign:picture:another-key", "text")
        with pytest.raises(StorageError):
            await storage.get("another-key")


def test_options_and_library_are_checked(monkeypatch):
    """A URL of something else is refused; a missing library is named; the password is not shown."""
    with pytest.raises(ValueError, match="url must begin with redis"):
        Redis(url=Secret("http://x"))
    assert "pass" not in repr(Redis(url=Secret("redis://:pass@host")))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'image-gateway\[redis\]'"):
        Redis()


@pytest.mark.parametrize("password", ["secret/9", "secret#9", "secret?9"])
def test_a_password_that_tears_the_url_is_not_shown(password):
    """The library would name the torn half as a bad port, in a traceback at the start."""
    with pytest.raises(ValueError, match="%2F") as caught:
        Redis(url=Secret(f"redis://:{password}@127.0.0.1:6379/0"))
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


async def test_the_log_names_the_server_and_no_password(make, caplog):
    """Who starts the gateway while it is down reads which one."""
    await make(url=Secret("redis://ann:canary-word@127.0.0.1:1/0"), timeout=0.5)

    assert "Redis at 127.0.0.1:1: " in caplog.text
    assert "canary-word" not in caplog.text


async def test_health_tells_what_it_met_from_the_start(make, tmp_path):
    """Down at the start: the gateway starts and health says so; ok again by itself when the server is back."""
    server = Valkey(tmp_path)
    storage = await make(url=Secret(server.url), timeout=0.5)
    assert storage.health()["status"] == "down"
    await asyncio.to_thread(server.start)
    try:
        await care_for(storage)
        assert storage.health() == {"status": "ok"}
        await asyncio.to_thread(server.kill)
        with pytest.raises(StorageDownError):
            await storage.get(KEY)
        assert storage.health()["status"] == "down"
    finally:
        server.kill()
