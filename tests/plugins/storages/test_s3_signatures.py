"""With signing keys nothing in the bucket is taken for a picture that the gateway has not written there itself."""

import hashlib
import logging
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import obstore
import pytest
from gateway_plugins.storages.s3 import META, META_LIMIT, S3
from obstore.store import S3Store

from gateway import Secret, StorageError, pack_meta, pack_small, unpack_small
from gateway.collection import move
from tests.canaries import MARK
from tests.gateways import AUTHENTICATORS, start
from tests.plugins.storages.pictures import PNG, Clock, listed, picture

KEY = "k" * 40
DATA = PNG + bytes(range(256)) * 12_000
NEW, OLD = Secret(f"{MARK}-the-new-signing-key"), Secret(f"{MARK}-the-old-signing-key")
BOTH = (NEW, OLD)


@pytest.fixture
def make(seaweed):
    prefix = f"t{uuid.uuid4().hex}"

    def make(**options):
        keys = {"access_key": Secret(seaweed.access_key), "secret_key": Secret(seaweed.secret_key)}
        known = {"bucket": seaweed.bucket, "endpoint": seaweed.endpoint, "prefix": prefix, "signing_keys": BOTH} | keys
        return S3(**known | options)

    make.prefix = prefix
    return make


class Stranger:
    """Somebody else who may read and write the whole bucket."""

    def __init__(self, seaweed, prefix):
        keys = {"access_key_id": seaweed.access_key, "secret_access_key": seaweed.secret_key}
        plain = {"client_options": {"allow_http": True}, "region": "us-east-1"}
        self.store, self.prefix = S3Store(seaweed.bucket, endpoint=seaweed.endpoint, **keys, **plain), prefix

    async def names(self, folder=""):
        pages = obstore.list(self.store, prefix=f"{self.prefix}/{folder}")
        return [entry["path"].removeprefix(f"{self.prefix}/") async for page in pages for entry in page]

    async def read(self, name):
        found = await obstore.get_async(self.store, f"{self.prefix}/{name}")
        return bytes(await found.bytes_async()), dict(found.attributes)

    async def write(self, name, data, attributes):
        place = f"{self.prefix}/{name}"
        await obstore.put_async(self.store, place, data, attributes=attributes, use_multipart=False)


@pytest.fixture
def stranger(seaweed, make):
    return Stranger(seaweed, make.prefix)


def told(attributes, **changes):
    """Give attributes whose meta data say something else; what else they bear is kept."""
    changed = replace(unpack_small(attributes[META]), **changes)
    return attributes | {META: pack_small(changed, META_LIMIT)}


def fitting(data):
    return {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}


FORGED = {
    "another type": lambda data, kept: (data, told(kept, media_type="image/webp")),
    "another size": lambda data, kept: (data + b"more", told(kept, **fitting(data + b"more"))),
    "other bytes": lambda data, kept: (data[::-1], told(kept, **fitting(data[::-1]))),
    "another owner": lambda data, kept: (data, told(kept, owner="mallory")),
    "a longer life": lambda data, kept: (data, told(kept, expires=None)),
    "another time": lambda data, kept: (data, told(kept, created=1.0)),
    "no signature": lambda data, kept: (data, {key: text for key, text in kept.items() if key != "gatewaysignature"}),
    "a signature that is empty": lambda data, kept: (data, kept | {"gatewaysignature": ""}),
    "a signature cut short": lambda data, kept: (data, kept | {"gatewaysignature": kept["gatewaysignature"][:-1]}),
    "no meta data": lambda data, kept: (data, {"Content-Type": "image/png"}),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=list(FORGED))
async def test_what_is_not_signed_is_not_there(make, stranger, caplog, forge):
    """Whatever else than the very meta data lies at a key: not found, not deleted, not written over, and logged."""
    async with make(ttl=600.0) as storage:
        await storage.put(picture(data=DATA), DATA)
        await stranger.write(KEY, *forge(*await stranger.read(KEY)))
        with caplog.at_level(logging.WARNING):
            assert await storage.get(KEY) is None
        lines = [line for record in caplog.records if KEY in (line := record.getMessage())]
        assert await storage.delete(KEY) is False
        with pytest.raises(StorageError, match="not a picture of this gateway"):
            await storage.put(picture(data=DATA), DATA)

    assert ["no good signature" in line for line in lines] == [True]
    assert await stranger.read(KEY)


@pytest.mark.parametrize("data", [DATA[::-1], DATA[:-1] + b"!", PNG + DATA[8:-1] + b"!"], ids=["all", "end", "end too"])
async def test_other_bytes_under_the_very_meta_data_are_not_given(make, stranger, data):
    """Signed meta data over bytes of the same length: nothing leaves, neither the whole nor a part."""
    async with make() as storage:
        await storage.put(picture(data=DATA), DATA)
        _, kept = await stranger.read(KEY)
        await stranger.write(KEY, data, kept)
        found = await storage.get(KEY)

        with pytest.raises(StorageError, match="SHA-256 differs"):
            await found.body.read()
        with pytest.raises(StorageError, match="SHA-256 differs"):
            await anext(found.body.stream(0, 8))
        await stranger.write(KEY, data[:-5], kept)
        with pytest.raises(StorageError, match="length differs"):
            await storage.get(KEY)


async def test_a_copy_of_a_signed_picture_is_not_another(make, stranger):
    """What was signed for one key is worth nothing at another, under its own name or the other's."""
    async with make() as storage:
        await storage.put(picture(data=DATA), DATA)
        await storage.put(picture("another-key"), PNG)
        data, kept = await stranger.read(KEY)
        for attributes in (kept, told(kept, key="another-key")):
            await stranger.write("another-key", data, attributes)
            assert await storage.get("another-key") is None
            await stranger.write("a-third-key", data, told(attributes, key="a-third-key"))
            assert await storage.get("a-third-key") is None

        assert await (await storage.get(KEY)).body.read() == DATA


async def test_forged_places_in_the_index_are_not_listed(make, stranger):
    """Entries without a signature, changed ones and copied ones are passed over; the others are listed and swept."""
    clock = Clock(time.time())
    storage = make(ttl=600.0)
    storage.clock = clock
    async with storage:
        await storage.put(picture(details={"prompt": "x" * 5000}, created=1.0), PNG)
        await storage.put(picture("another-key", created=2.0), PNG)
        [mine, other] = sorted(await stranger.names("index/"), key=lambda name: KEY not in name)
        packed, attributes = await stranger.read(mine)
        await stranger.write(f"{mine}x", packed, attributes)
        await stranger.write(mine.replace(KEY, "never-stored"), pack_meta(picture("never-stored")), {})
        await stranger.write(other, packed.replace(b"ann", b"bob"), (await stranger.read(other))[1])

        assert await listed(storage) == [KEY]
        assert (await storage.get("another-key")).meta.owner == "ann"
        clock.now += 600
        assert await storage.sweep() == 4

    assert await stranger.names() == []


async def test_forged_details_are_not_believed(make, stranger):
    """Where a long prompt lies beside the picture, one that a stranger wrote there is not shown with it."""
    async with make() as storage:
        await storage.put(picture(details={"prompt": "mine " * 3000}), PNG)
        [beside] = await stranger.names("index/")
        packed, attributes = await stranger.read(beside)
        await stranger.write(beside, packed.replace(b"mine", b"evil"), attributes)
        found = await storage.get(KEY)

        assert "evil" not in str(found.meta.details)
        assert (found.meta.owner, await found.body.read()) == ("ann", PNG)


async def test_keys_can_be_changed_without_losing_a_picture(make):
    """A new key comes first and signs, the old one still verifies; dropped, it takes its pictures along."""
    async with make(signing_keys=(OLD,)) as before:
        await before.put(picture("signed-by-old", data=DATA), DATA)
    async with make(signing_keys=BOTH) as both:
        await both.put(picture("signed-by-new", data=DATA), DATA)
        assert await (await both.get("signed-by-old")).body.read() == DATA
        assert sorted(await listed(both)) == ["signed-by-new", "signed-by-old"]
    async with make(signing_keys=(NEW,)) as after:
        assert await (await after.get("signed-by-new")).body.read() == DATA
        assert await after.get("signed-by-old") is None
        assert await listed(after) == ["signed-by-new"]


async def test_what_is_older_than_the_signatures_is_given_on_request(make, stranger):
    """Without a signature the store's own time of writing decides, which no stranger can set back."""
    async with make(signing_keys=()) as before:
        await before.put(picture(data=DATA, details={"prompt": "long " * 3000}), DATA)
    soon, long_ago = datetime.now(UTC) + timedelta(hours=1), datetime(2020, 1, 1)
    async with make() as strict, make(signed_since=soon) as mild, make(signed_since=long_ago) as late:
        assert [await each.get(KEY) for each in (strict, late)] == [None, None]
        found = await mild.get(KEY)
        assert (await found.body.read(), found.meta.details["prompt"][:4]) == (DATA, "long")
        assert [await listed(each) for each in (strict, mild, late)] == [[], [KEY], []]
        await mild.put(replace(found.meta), DATA)
        assert await (await strict.get(KEY)).body.read() == DATA
        data, kept = await stranger.read(KEY)
        await stranger.write(KEY, data, told(kept, owner="mallory"))
        assert await mild.get(KEY) is None


async def test_pictures_move_into_a_signed_storage(make, stranger):
    """The other way for old pictures: moved to another prefix they are signed; what is damaged stays where it is."""
    async with make(signing_keys=()) as old, make(prefix=f"{make.prefix}-new") as new:
        for key in ("moved-one", "moved-two"):
            await old.put(picture(key, data=DATA), DATA)
        assert [moved.outcome async for moved in move(old, new)] == ["moved", "moved"]
        assert sorted(await listed(new)) == ["moved-one", "moved-two"]
        stranger.prefix += "-new"
        _, kept = await stranger.read("moved-one")
        await stranger.write("moved-one", DATA[::-1], kept)
        back = {moved.key: (moved.outcome, "SHA-256" in moved.reason) async for moved in move(new, old)}

    assert back == {"moved-one": ("failed", True), "moved-two": ("moved", False)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"serve": "redirect"}, "signing_keys need serve: through"),
        ({"signing_keys": (Secret("short"),)}, "at least 16 characters"),
        ({"signing_keys": (), "signed_since": datetime.now(UTC)}, "signed_since is of no use without signing_keys"),
    ],
)
def test_what_could_not_hold_is_refused(make, options, words):
    """A redirect checks nothing, a short key can be guessed, a date without keys does nothing."""
    with pytest.raises(ValueError, match=words) as caught:
        make(**options)

    assert "short" not in str(caught.value)
    assert MARK not in repr(make())


async def test_clients_of_a_gateway_see_none_of_it(aiohttp_server, tmp_path, seaweed, stranger, caplog):
    """Through a whole gateway: a forged picture is a 404, other bytes are a 502, and none of their bytes leaves."""
    keys = f"access_key: {seaweed.access_key}, secret_key: {seaweed.secret_key}, prefix: {stranger.prefix}"
    signed = f'signing_keys: ["{NEW}"], signed_since: 2020-01-01'
    place = f'bucket: {seaweed.bucket}, endpoint: "{seaweed.endpoint}", {keys}, {signed}'
    text = AUTHENTICATORS + (
        f"storages: {{pictures: {{use: s3, {place}}}}}\n"
        "backends: {here: {use: demo}}\nmodels: {demo: {backends: [{backend: here}]}}\n"
    )
    gateway = await start(aiohttp_server, text, tmp_path)
    drawn = await gateway.draw(size="64x64", response_format="url")
    path = drawn.json["data"][0]["url"].removeprefix(gateway.base)
    key = path.rpartition("/")[2].partition(".")[0]
    shown = await gateway.get(path)
    data, kept = await stranger.read(key)
    evil = data[:-12] + b"evil" + data[-8:]
    await stranger.write(key, evil, kept)
    swapped = [await gateway.get(path, headers=headers) for headers in ({}, {"Range": "bytes=0-99"})]
    await stranger.write(key, data, told(kept, media_type="image/gif"))
    caplog.clear()
    forged = await gateway.get(path)

    assert (shown.status, shown.body) == (200, data)
    assert [answer.status for answer in swapped] == [502, 502]
    assert forged.status == 404
    assert len([record for record in caplog.records if key in record.getMessage()]) == 1
