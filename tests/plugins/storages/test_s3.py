"""S3 that is down, slow, cut, refusing, or that somebody else writes into."""

import asyncio
import base64
import hashlib
import importlib.util
import time
import uuid
import zlib
from contextlib import suppress
from dataclasses import replace

import aiohttp
import obstore
import pytest
from gateway_plugins.storages.s3 import S3
from obstore.store import S3Store
from yarl import URL

from gateway import Secret, StorageDownError, StorageError
from tests.gateways import AUTHENTICATORS, start
from tests.plugins.storages.pictures import PNG, Clock, listed, picture
from tests.plugins.storages.rude_proxy import RudeProxy
from tests.plugins.storages.s3_front import front_of, refusal
from tests.plugins.storages.servers import Seaweed

KEY = "k" * 40
DATA = PNG + bytes(range(256)) * 12_000
SMALL = PNG + bytes(range(256))
BROKEN = refusal(500, "InternalError")


@pytest.fixture
def make(seaweed):
    prefix = f"t{uuid.uuid4().hex}"

    def make(**options):
        keys = {"access_key": Secret(seaweed.access_key), "secret_key": Secret(seaweed.secret_key)}
        known = {"bucket": seaweed.bucket, "endpoint": seaweed.endpoint, "prefix": prefix, "timeout": 5.0} | keys
        return S3(**known | options)

    make.prefix = prefix
    return make


@pytest.fixture
def bucket(seaweed):
    """The bucket as somebody else sees it."""
    return S3Store(
        seaweed.bucket,
        endpoint=seaweed.endpoint,
        region="us-east-1",
        access_key_id=seaweed.access_key,
        secret_access_key=seaweed.secret_key,
        client_options={"allow_http": True},
    )


@pytest.fixture
async def front(seaweed):
    async with front_of(seaweed.endpoint) as front:
        yield front


async def test_what_was_acknowledged_survives_a_kill(tmp_path):
    """Killed under load: clear 503, all that was acknowledged is there afterwards, and it recovers by itself."""
    server = Seaweed(tmp_path)
    keys = {"access_key": Secret(server.access_key), "secret_key": Secret(server.secret_key)}
    storage = S3(bucket=server.bucket, endpoint=server.endpoint, timeout=3.0, **keys)
    kept, refused = [], []

    async def write(number):
        try:
            kept.append((await storage.put(picture(f"under-load-{number}", data=DATA), DATA)).key)
        except StorageDownError as error:
            refused.append(error)

    async with storage:  # the server is not there yet: it starts all the same
        with pytest.raises(StorageDownError):
            await storage.get(KEY)
        await asyncio.to_thread(server.start)
        try:
            await ready(storage)
            await storage.put(picture(data=DATA), DATA)
            writes = [asyncio.create_task(write(number)) for number in range(40)]
            await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(server.kill)
            await asyncio.gather(*writes)
            with pytest.raises(StorageDownError) as told:
                await storage.get(KEY)
            await asyncio.to_thread(server.start)
            await ready(storage)

            assert refused
            assert {error.status for error in refused} == {503}
            assert "secret" not in told.value.message
            for key in [KEY, *kept]:
                assert await (await storage.get(key)).body.read() == DATA
        finally:
            server.kill()


async def ready(storage):
    """Wait until the server takes pictures."""
    async with asyncio.timeout(60):
        while True:
            try:
                await storage.put(picture("ready-or-not"), PNG)
                return
            except StorageError:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"secret_key": Secret("not-the-secret-at-all")}, "credentials"),
        ({"access_key": Secret("not-the-key-at-all")}, "credentials"),
        ({"bucket": "no-such-bucket"}, "no such bucket"),
        ({"endpoint": "http://127.0.0.1:1"}, "no answer"),
    ],
)
async def test_says_what_is_wrong_and_no_secret(make, options, words, caplog):
    """Wrong keys, a wrong bucket and a wrong address are told as such, without key, secret or the store's XML."""
    storage = make(**options)
    async with storage:
        with pytest.raises(StorageDownError, match=words) as told:
            await listed(storage)

    shown = told.value.message + caplog.text + repr(storage)
    for secret in ("not-the-secret", "not-the-key", "gateway-test-secret", "<?xml", "<Code>", "Signature="):
        assert secret not in shown


async def test_required_refuses_to_start(make):
    """With *required* a store that is down stops the start."""
    with pytest.raises(StorageDownError):
        await make(endpoint="http://127.0.0.1:1", required=True).__aenter__()


async def test_a_cut_read_is_an_error(make, seaweed):
    """When the connection breaks in the middle of a picture nobody gets a part for the whole."""
    async with make() as storage:
        await storage.put(picture(data=DATA), DATA)
    async with RudeProxy(seaweed.port) as proxy, make(endpoint=f"http://127.0.0.1:{proxy.port}") as storage:
        found = await storage.get(KEY)
        assert await found.body.read() == DATA
        proxy.down = 200_000

        with pytest.raises(StorageError):
            await (await storage.get(KEY)).body.read()
        proxy.down = None
        assert await (await storage.get(KEY)).body.read() == DATA


async def test_a_cut_write_is_no_picture(make, seaweed):
    """When the connection breaks while a picture is written there is none, and the next try works."""
    async with RudeProxy(seaweed.port) as proxy, make(endpoint=f"http://127.0.0.1:{proxy.port}") as storage:
        proxy.up = 100_000
        with pytest.raises(StorageDownError):
            await storage.put(picture(data=DATA), DATA)
        proxy.up = None

        assert await storage.get(KEY) is None
        await storage.put(picture(data=DATA), DATA)
        assert await (await storage.get(KEY)).body.read() == DATA
        assert await listed(storage) == [KEY]


async def test_a_store_that_never_answers_binds_nobody(make, seaweed):
    """With five hundred readers before a black hole each gets 503 in time, and the event loop is free."""
    async with RudeProxy(seaweed.port) as proxy:
        proxy.deaf = True
        storage = make(endpoint=f"http://127.0.0.1:{proxy.port}", timeout=1.0, at_once=8)
        await storage.__aenter__()
        before = time.perf_counter()
        answers = await asyncio.gather(*(storage.get(KEY) for _ in range(500)), return_exceptions=True)
        lasted = time.perf_counter() - before

    assert {type(answer) for answer in answers} == {StorageDownError}
    assert all(answer.retry_after for answer in answers)
    assert lasted < 4


@pytest.mark.parametrize("attributes", [{}, {"gatewaymeta": "AAAA"}, {"gatewaymeta": "eJyrrgUAAXUA+Q=="}])
async def test_what_others_put_there_is_not_ours(make, bucket, attributes):
    """An object that the gateway did not write is not found, not deleted and not overwritten."""
    name = f"{make.prefix}/{KEY}"
    page = b"<script>alert(1)</script>"
    given = {"Content-Type": "image/png"} | attributes
    await obstore.put_async(bucket, name, page, attributes=given, use_multipart=False)
    async with make() as storage:
        assert await storage.get(KEY) is None
        assert await storage.delete(KEY) is False
        with pytest.raises(StorageError, match="not a picture of this gateway"):
            await storage.put(picture(), PNG)
        assert await listed(storage) == []

    assert bytes(await (await obstore.get_async(bucket, name)).bytes_async()) == page


async def test_a_copy_under_another_key_is_not_ours(make, bucket):
    """A real picture that somebody copied to another key is not that key's picture."""
    async with make() as storage:
        await storage.put(picture("the-original"), PNG)
        await obstore.copy_async(bucket, f"{make.prefix}/the-original", f"{make.prefix}/the-copy-of-it")

        assert await storage.get("the-copy-of-it") is None


async def test_replaced_bytes_are_noticed(make, bucket):
    """Bytes of another length under our meta data are an error, not a picture."""
    async with make() as storage:
        await storage.put(picture(), PNG)
        name = f"{make.prefix}/{KEY}"
        attributes = (await obstore.get_async(bucket, name)).attributes
        await obstore.put_async(bucket, name, b"<script>", attributes=dict(attributes), use_multipart=False)
        await obstore.put_async(bucket, name, b"<script>more", attributes=dict(attributes), use_multipart=False)

        with pytest.raises(StorageError, match="length differs"):
            await storage.get(KEY)


async def test_redirects_to_a_link_that_ends_in_time(make):
    """The presigned URL gives the very bytes with a true type, for no longer than the picture lives, and only it."""
    clock = Clock(time.time())
    storage = make(serve="redirect", link=300.0, ttl=3600.0)
    storage.clock = clock
    async with storage, aiohttp.ClientSession() as session:
        await storage.put(picture(data=DATA), DATA)
        clock.now += 3500
        url = (await storage.get(KEY)).redirect
        async with session.get(url) as response:
            assert (response.status, await response.read()) == (200, DATA)
            assert response.headers["Content-Type"] == "image/png"
            assert response.headers["Content-Disposition"] == f'inline; filename="{KEY}.png"'
        assert 0 < int(URL(url).query["X-Amz-Expires"]) <= 100
        async with session.get(url.replace(KEY, "another-key")) as response:
            assert response.status in (403, 404)
        assert await (await storage.get(KEY)).body.read() == DATA


SECRETS = {"prompt": "my-private-words", "original": "a secret", "job": "job_1", "receipt": {"target": "my-backend"}}


def unpacked(headers):
    """Give all that headers tell, base64 and zlib undone."""
    told = str(dict(headers))
    for value in headers.values():
        with suppress(ValueError, zlib.error):
            told += zlib.decompress(base64.b64decode(value)).decode(errors="replace")
    return told


async def test_a_presigned_link_shows_nothing_but_the_picture(make):
    """Whoever has the link reads no owner, model, prompt or receipt in the store's answer; the owner reads them all."""
    meta = picture("shared-picture", data=DATA, owner="ann-the-owner", model="my-model", details=SECRETS)
    async with make(serve="redirect") as storage, aiohttp.ClientSession() as session:
        await storage.put(meta, DATA)
        found = await storage.get(meta.key)
        async with session.get(found.redirect) as response:
            told = unpacked(response.headers)
            assert await response.read() == DATA

        assert (found.meta.owner, found.meta.model, found.meta.details) == (meta.owner, meta.model, SECRETS)
        assert meta.key in told
        for secret in ("ann-the-owner", "my-model", "my-private-words", "a secret", "job_1", "my-backend", 'owner":"a'):
            assert secret not in told
        [each] = [each async for each in storage.list("ann-the-owner")]
        assert each.details == SECRETS


@pytest.mark.parametrize("details", [SECRETS, SECRETS | {"long": "word " * 2000}])
async def test_pictures_that_were_served_through_get_no_link(make, details):
    """What was stored before *serve* became redirect bears its meta data itself: it is served by the gateway."""
    meta = picture(data=DATA, details=details)
    async with make() as storage:
        await storage.put(meta, DATA)
    async with make(serve="redirect") as storage:
        found = await storage.get(KEY)
        assert (found.redirect, await found.body.read(), found.meta.details) == (None, DATA, details)
        await storage.put(found.meta, DATA)
        assert (await storage.get(KEY)).redirect
    async with make() as storage:
        found = await storage.get(KEY)
        assert (found.redirect, await found.body.read(), found.meta) == (None, DATA, replace(meta, expires=None))
        await storage.put(found.meta, DATA)
        assert await listed(storage, "ann") == [KEY]
        assert await storage.delete(KEY) is True


@pytest.mark.parametrize("change", ["delete", "expire", "through", "redirect"])
async def test_nothing_is_left_of_a_picture_that_goes(make, bucket, change):
    """Deleted, expired or stored again in either way: no object stays beside it that is not its own."""
    clock = Clock(time.time())
    storage = make(serve="redirect", ttl=50.0)
    storage.clock = clock
    async with storage:
        await storage.put(picture(data=DATA), DATA)
        if change == "delete":
            assert await storage.delete(KEY) is True
        elif change == "expire":
            clock.now += 60
            assert await storage.sweep() == 1
        else:
            clock.now += 1
            async with make(serve=change) as again:
                await again.put(picture(data=PNG), PNG)
    names = [entry["path"] async for page in obstore.list(bucket, prefix=make.prefix) for entry in page]
    assert len(names) == {"delete": 0, "expire": 0, "through": 2, "redirect": 3}[change]


@pytest.mark.parametrize("left", [1, 2])
async def test_a_crash_before_the_picture_leaves_nothing(make, bucket, left):
    """Only the objects beside it, or one of them, were written: there is no picture, and in an hour nothing."""
    clock = Clock(time.time())
    storage = make(serve="redirect")
    storage.clock = clock
    async with storage:
        await storage.put(picture("another-picture"), PNG)
        meta = await storage.put(picture(), PNG)
        for name in (f"{make.prefix}/{KEY}", storage._about(meta))[: 3 - left]:
            await obstore.delete_async(bucket, name)
        assert await storage.get(KEY) is None
        clock.now += 120
        assert await storage.sweep() == 0
        clock.now += 4000
        assert await storage.sweep() == left
        assert await listed(storage) == ["another-picture"]
        assert (await storage.get("another-picture")).meta.owner == "ann"
    names = [entry["path"] async for page in obstore.list(bucket, prefix=make.prefix) for entry in page]
    assert len(names) == 3


async def test_a_replacement_that_broke_off_takes_nothing_from_the_picture(make, front):
    """What is known of the new picture was written and its bytes were not: the old one is whole, with its owner."""
    async with make(serve="redirect", endpoint=front.base) as storage:
        await storage.put(picture(data=SMALL, details=SECRETS), SMALL)
        front.only, front.always = lambda request: request.path.endswith(KEY) and request.method == "PUT", BROKEN
        with pytest.raises(StorageDownError):
            await storage.put(picture(data=PNG, owner="bob"), PNG)
        front.mend()

        found = await storage.get(KEY)
        assert (found.meta.owner, found.meta.details, await found.body.read()) == ("ann", SECRETS, SMALL)


async def test_a_picture_whose_description_is_lost_is_nobodys(make, bucket, caplog):
    """It is still shown to whoever has its key; the log says what is missing."""
    async with make(serve="redirect") as storage:
        meta = await storage.put(picture(), PNG)
        await obstore.delete_async(bucket, storage._about(meta))
        found = await storage.get(KEY)

        assert (found.meta.owner, found.meta.sha256, bool(found.redirect)) == ("", meta.sha256, True)
        assert KEY in caplog.text
        assert await storage.delete(KEY) is True


async def test_index_entries_without_picture_are_swept(make, bucket):
    """What a crash between the two writes left in the index goes after an hour; the pictures stay."""
    clock = Clock(time.time())
    storage = make()
    storage.clock = clock
    async with storage:
        await storage.put(picture(), PNG)
        await storage.put(picture("lost-picture"), PNG)
        await obstore.delete_async(bucket, f"{make.prefix}/lost-picture")
        clock.now += 120
        assert await storage.sweep() == 0
        clock.now += 4000
        assert await storage.sweep() == 1
        assert await listed(storage) == [KEY]


async def test_a_try_that_failed_ends_no_picture_before_its_time(make):
    """It has left an entry that ends earlier: the picture is listed once, lives as long as promised, and ends once."""
    clock = Clock(time.time())
    storage = make(ttl=3600.0)
    storage.clock = clock
    async with storage:
        put, down = storage._store.put, True

        async def failing(name, *arguments, **options):
            if down and "/index/" not in name:
                raise StorageDownError("down")
            return await put(name, *arguments, **options)

        storage._store.put = failing
        with pytest.raises(StorageDownError):
            await storage.put(picture(), PNG)
        clock.now, down = clock.now + 3000, False
        kept = await storage.put(picture(), PNG)
        clock.now += 700

        assert [meta.expires async for meta in storage.list()] == [kept.expires]
        await storage.sweep()
        assert (await storage.get(KEY)) is not None
        assert [meta.expires async for meta in storage.list()] == [kept.expires]
        clock.now = kept.expires + 60
        assert await storage.sweep() == 1
        assert await storage.get(KEY) is None


async def test_sweeps_many_and_asks_seldom(make, bucket):
    """Hundreds expire at once and all go; a sweep with nothing due does not ask the store at all."""
    clock = Clock(time.time())
    storage = make(ttl=100.0)
    storage.clock = clock
    async with storage:
        for start in range(0, 240, 40):
            await asyncio.gather(*(storage.put(picture(f"many-of-them-{start + n}"), PNG) for n in range(40)))
        clock.now += 100
        assert await storage.sweep() == 240
        assert [page async for page in obstore.list(bucket, prefix=make.prefix) if page] == []
        storage._store.close()
        assert await storage.sweep() == 0


def test_a_missing_library_is_named(monkeypatch):
    """Without the library the configuration says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'image-gateway\[s3\]'"):
        S3(bucket="images")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "either a bucket or a url"),
        ({"bucket": "a", "url": "s3://a"}, "either a bucket or a url"),
        ({"url": "file:///etc"}, "url must begin with"),
        ({"url": "memory://"}, "url must begin with"),
        ({"bucket": "a", "access_key": Secret("x")}, "go together"),
    ],
)
def test_wrong_options_are_told(options, words):
    """What cannot be meant is refused with words."""
    with pytest.raises(ValueError, match=words):
        S3(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "gs://bucket/prefix", "extra": {"skip_signature": Secret("true")}},
        {"url": "az://container", "extra": {"account_name": Secret("a"), "skip_signature": Secret("true")}},
        {"url": "s3://bucket/prefix", "access_key": Secret("a"), "secret_key": Secret("b")},
    ],
)
async def test_other_stores_open(options):
    """The library's other stores are made from a URL; that they do not answer here stops nothing."""
    async with S3(timeout=0.2, **options) as storage:
        assert storage.clock() > 0


def test_an_endpoint_bears_no_password():
    """The endpoint is named in the log whenever the store is down."""
    with pytest.raises(ValueError, match="access_key") as caught:
        S3(bucket="b", endpoint="http://user:secret@127.0.0.1:9000")
    assert "secret@" not in str(caught.value)


async def test_a_shared_link_of_a_gateway_tells_nothing(aiohttp_server, tmp_path, seaweed):
    """From the call to the store's own answer: the picture's readers learn no prompt and no name, its owner does."""
    keys = f"access_key: {seaweed.access_key}, secret_key: {seaweed.secret_key}, prefix: {uuid.uuid4().hex}"
    place = f'bucket: {seaweed.bucket}, endpoint: "{seaweed.endpoint}", {keys}, serve: redirect'
    text = AUTHENTICATORS + (
        f"storages: {{pictures: {{use: s3, {place}}}}}\n"
        "backends: {here: {use: demo}}\nmodels: {demo-model: {backends: [{backend: here}]}}\n"
    )
    gateway = await start(aiohttp_server, text, tmp_path)
    drawn = await gateway.draw("my-private-words", size="64x64", response_format="url")
    path = URL(drawn.json["data"][0]["url"]).path
    redirect = await gateway.get(path, allow_redirects=False)
    async with aiohttp.ClientSession() as session, session.get(redirect.headers["Location"]) as response:
        told = unpacked(response.headers)
        data = await response.read()
    seen = await gateway.ask("HEAD", path)
    again = await gateway.get(path, allow_redirects=False, headers={"If-None-Match": seen.headers["ETag"]})
    known = await gateway.get(f"/v1/pictures/{path.rpartition('/')[2].partition('.')[0]}")

    assert (redirect.status, redirect.headers["Cache-Control"], again.status) == (302, "no-store", 304)
    assert seen.headers["ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    for secret in ("my-private-words", "demo-model", "ann", drawn.json["gateway"]["job"]):
        assert secret not in told
    assert (known.json["prompt"], known.json["model"]) == ("my-private-words", "demo-model")
    assert known.json["receipt"]["target"]
