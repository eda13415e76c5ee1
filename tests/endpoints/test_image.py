"""GET and HEAD /image/KEY answer alike from memory, from disk and part by part."""

import asyncio
import hashlib
import os
import random
from email.utils import formatdate
from io import BytesIO

import pytest
from aiohttp import ClientError, web
from gateway_plugins.storages.disk import Disk
from gateway_plugins.storages.memory import Memory
from PIL import Image as Pillow
from yarl import URL

from gateway import PictureMeta, StorageDownError, StoredPicture
from gateway.derive import DerivedCache
from gateway.endpoints.image import serve_picture
from gateway.errors import GatewayError
from gateway.serving import read_key
from gateway.settings import Serving

NOW = 1_800_000_000.0
KEY = "0123456789abcdef0123456789abcdef01234567"


def painted(kind="PNG", size=(96, 64)):
    """Draw a small picture with some noise in it, so that it has a few kilobytes."""
    image = Pillow.frombytes("RGB", size, random.Random(7).randbytes(size[0] * size[1] * 3))
    image.save(out := BytesIO(), kind)
    return out.getvalue()


DATA = painted()


def meta_of(data=DATA, key=KEY, media_type="image/png", **fields):
    """Make meta data of a picture of the test."""
    known = {"width": 96, "height": 64, "created": NOW - 100.5, "owner": "ann"} | fields
    return PictureMeta(key, media_type, length=len(data), sha256=hashlib.sha256(data).hexdigest(), **known)


class Parts:
    """A storage whose bytes come in parts, as from the network; *given* is what really comes."""

    def __init__(self, meta=None, given=DATA, redirect=None, fail_after=None):
        self.meta, self.given, self.redirect, self.fail_after = meta or meta_of(), given, redirect, fail_after
        self.path, self.asked = None, []

    async def get(self, key):
        self.asked.append(key)
        return StoredPicture(self.meta, self, self.redirect) if key == self.meta.key else None

    async def read(self):
        return self.given

    async def stream(self, start, end):
        for at in range(start, min(end, len(self.given)), 1000):
            if self.fail_after is not None and at >= self.fail_after:
                raise StorageDownError("the store has gone")
            yield self.given[at : min(end, at + 1000)]


class Down:
    """A storage that cannot be reached."""

    async def get(self, key):
        raise StorageDownError("the store cannot be reached")


@pytest.fixture(params=["memory", "disk", "parts"])
async def storage(request, tmp_path):
    if request.param == "parts":
        yield Parts()
        return
    storage = Memory(ttl=0) if request.param == "memory" else Disk(root=tmp_path, ttl=0)
    storage.clock = lambda: NOW
    async with contextless(storage):
        await storage.put(meta_of(), DATA)
        yield storage


class contextless:  # noqa: N801  - reads like a function
    """Open what can be opened."""

    def __init__(self, storage):
        self.storage = storage

    async def __aenter__(self):
        if hasattr(self.storage, "__aenter__"):
            await self.storage.__aenter__()

    async def __aexit__(self, *reason):
        if hasattr(self.storage, "__aexit__"):
            await self.storage.__aexit__(*reason)


@pytest.fixture
async def served(aiohttp_client):
    async def serve(*storages, settings=None, clock=lambda: NOW, cache=None):
        async def handler(request):
            try:
                return await serve_picture(request, storages, settings or Serving(), cache, clock)
            except GatewayError as error:
                return web.json_response(error.as_json(), status=error.status)

        app = web.Application()
        app.router.add_get("/image/{key}", handler)
        return await aiohttp_client(app)

    return serve


async def test_gives_the_picture_with_all_its_headers(served, storage):
    """The answer is the bytes, typed, tagged, named, and harmless in a browser."""
    client = await served(storage)
    response = await client.get(f"/image/{KEY}.png")

    assert (response.status, await response.read()) == (200, DATA)
    headers = response.headers
    assert headers["Content-Type"] == "image/png"
    assert headers["Content-Length"] == str(len(DATA))
    assert headers["ETag"] == f'"{hashlib.sha256(DATA).hexdigest()}"'
    assert headers["Last-Modified"] == formatdate(int(NOW - 100.5), usegmt=True)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "sandbox" in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["Content-Disposition"] == f'inline; filename="{KEY}.png"'
    assert headers["Accept-Ranges"] == "bytes"
    assert "Set-Cookie" not in headers


async def test_head_says_the_same_without_the_bytes(served, storage):
    """HEAD has GET's status and headers."""
    client = await served(storage)
    get, head = await client.get(f"/image/{KEY}"), await client.head(f"/image/{KEY}")

    drop = {"Date"}
    assert {k: v for k, v in head.headers.items() if k not in drop} == {
        k: v for k, v in get.headers.items() if k not in drop
    }
    assert await head.read() == b""


N = len(DATA)
RANGES = [
    ("bytes=0-0", 206, (0, 1)),
    ("bytes=10-19", 206, (10, 20)),
    ("bytes=10-", 206, (10, N)),
    ("bytes=-7", 206, (N - 7, N)),
    (f"bytes=-{N * 2}", 206, (0, N)),
    (f"bytes={N - 1}-{N + 500}", 206, (N - 1, N)),
    ("bytes=0-99999999999999999", 206, (0, N)),
    (f"bytes={N}-", 416, None),
    ("bytes=-0", 416, None),
    ("bytes=999999999-1000000000", 416, None),
    ("bytes=5-2", 200, (0, N)),
    ("bytes=-", 200, (0, N)),
    ("bytes=a-b", 200, (0, N)),
    ("bytes=0-1,5-9", 200, (0, N)),
    ("bytes=١-٢", 200, (0, N)),
    ("lines=0-1", 200, (0, N)),
    ("bytes=" + "9" * 400 + "-", 200, (0, N)),
]


@pytest.mark.parametrize(("value", "status", "part"), RANGES)
async def test_ranges(served, storage, value, status, part):
    """A part is exactly the part; one beyond the end is 416; a senseless or manifold one is the whole."""
    client = await served(storage)
    response = await client.get(f"/image/{KEY}", headers={"Range": value})

    assert response.status == status
    if status == 416:
        assert response.headers["Content-Range"] == f"bytes */{N}"
        assert (await response.json())["error"]["message"]
        return
    assert await response.read() == DATA[slice(*part)]
    if status == 206:
        assert response.headers["Content-Range"] == f"bytes {part[0]}-{part[1] - 1}/{N}"


ETAG = f'"{hashlib.sha256(DATA).hexdigest()}"'
SAME, LATER, EARLIER = (formatdate(int(NOW - 100.5) + step, usegmt=True) for step in (0, 60, -60))
CONDITIONS = [
    ({"If-None-Match": ETAG}, 304),
    ({"If-None-Match": "W/" + ETAG}, 304),
    ({"If-None-Match": f'"other", {ETAG}'}, 304),
    ({"If-None-Match": "*"}, 304),
    ({"If-None-Match": '"other"'}, 200),
    ({"If-None-Match": '"other"', "If-Modified-Since": LATER}, 200),
    ({"If-Modified-Since": SAME}, 304),
    ({"If-Modified-Since": LATER}, 304),
    ({"If-Modified-Since": EARLIER}, 200),
    ({"If-Modified-Since": "yesterday"}, 200),
    ({"If-Modified-Since": "Sat, 99 Foo 99999 99:99:99 GMT"}, 200),
    ({"If-Match": '"other"'}, 412),
    ({"If-Match": "W/" + ETAG}, 412),
    ({"If-Match": ETAG}, 200),
    ({"If-Unmodified-Since": EARLIER}, 412),
    ({"If-Unmodified-Since": SAME}, 200),
    ({"Range": "bytes=0-4", "If-Range": ETAG}, 206),
    ({"Range": "bytes=0-4", "If-Range": "W/" + ETAG}, 200),
    ({"Range": "bytes=0-4", "If-Range": '"other"'}, 200),
    ({"Range": "bytes=0-4", "If-Range": SAME}, 206),
    ({"Range": "bytes=0-4", "If-Range": LATER}, 200),
    ({"Range": "bytes=0-4", "If-None-Match": ETAG}, 304),
    ({"Range": f"bytes={N}-", "If-Range": '"other"'}, 200),
]


@pytest.mark.parametrize(("headers", "status"), CONDITIONS)
async def test_conditions(served, storage, headers, status):
    """Conditional requests are answered in the order and with the comparisons of RFC 9110."""
    client = await served(storage)
    response = await client.get(f"/image/{KEY}", headers=headers)

    assert response.status == status
    if status == 304:
        assert await response.read() == b""
        assert response.headers["ETag"] == ETAG
        assert "max-age" in response.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("expires", "configured", "age"),
    [(NOW + 60.9, 3600, 60), (NOW + 9999, 3600, 3600), (None, 3600, 3600), (NOW + 0.5, 3600, 0), (NOW - 5, 3600, 0)],
)
async def test_keeps_no_longer_than_it_lives(served, expires, configured, age):
    """max-age is the smaller of the configured and the remaining, never negative, and Expires says the same."""
    client = await served(Parts(meta_of(expires=expires)), settings=Serving(max_age=configured))
    response = await client.get(f"/image/{KEY}")

    assert f"max-age={age}," in response.headers["Cache-Control"]
    assert response.headers["Expires"] == formatdate(int(NOW) + age, usegmt=True)


@pytest.mark.parametrize("extension", ["jpg", "html", "svg", "webp", "exe", "png.html"])
async def test_an_extension_must_be_true(served, storage, extension):
    """A name that lies about the type is not found."""
    client = await served(storage)

    assert (await client.get(f"/image/{KEY}.{extension}")).status == 404


@pytest.mark.parametrize("extension", [".jpg", ".jpeg", ".JPG", ""])
async def test_jpeg_has_two_extensions(served, extension):
    """Both usual spellings of JPEG are true; the file is named by the first."""
    data = painted("JPEG")
    client = await served(Parts(meta_of(data, media_type="image/jpeg"), data))
    response = await client.get(f"/image/{KEY}{extension}")

    assert (response.status, response.headers["Content-Type"]) == (200, "image/jpeg")
    assert response.headers["Content-Disposition"].endswith('.jpg"')


HOSTILE = [
    "..%2fx",
    "%2e%2e%2fpasswd",
    "..%5c..%5cx",
    "%2fetc%2fpasswd",
    "%00",
    "abcdefgh%00.png",
    "a%2fb",
    "%2f%2f",
    "%2e",
    "x" * 5000,
    "%D0%BA%D0%BB%D1%8E%D1%87%D0%BA%D0%BB%D1%8E%D1%87",
    "CON",
    "-leadingdash",
    "trailingdot.",
    "abcdefgh%0a",
    "abcdefgh.png.png",
]


@pytest.mark.parametrize("path", HOSTILE)
async def test_hostile_paths_reach_no_storage(served, path):
    """What cannot be a key is 404, and no storage hears of it."""
    storage = Parts()
    client = await served(storage)
    response = await client.get(URL(f"/image/{path}", encoded=True))

    assert response.status == 404
    assert storage.asked == []


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (KEY, (KEY, None)),
        (KEY + ".PNG", (KEY, "png")),
        ("image_1729350000000_k3j9x", ("image_1729350000000_k3j9x", None)),
        ("abcdefgh\n", None),
        ("_bcdefgh", None),
        ("abcdefg", None),
        ("a" * 129, None),
    ],
)
def test_reads_keys(text, read):
    """New keys, old keys and extensions are read; whatever else is nobody."""
    assert read_key(text) == read


async def test_download_attaches(served, storage):
    """?download=1 makes the browser save it."""
    client = await served(storage)
    response = await client.get(f"/image/{KEY}?download=1")

    assert response.headers["Content-Disposition"] == f'attachment; filename="{KEY}.png"'


async def test_unknown_is_json(served, storage):
    """A key that nobody has is 404 in the form of OpenAI's errors."""
    client = await served(storage)
    response = await client.get("/image/nobody-has-this-one")

    assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found")


async def test_any_storage_may_have_it(served):
    """The storages are asked in turn; one that is down hides nothing that another has, and is told if none has."""
    client = await served(Down(), Parts())

    assert (await client.get(f"/image/{KEY}")).status == 200
    assert (await client.get("/image/somebody-elses-key")).status == 503


async def test_what_is_no_picture_is_not_served(served):
    """Bytes that are not of the type that was stored, and types that are none, are refused."""
    page = b"<html><script>alert(1)</script>".ljust(3000)
    planted = await served(Parts(meta_of(page), page))
    typed = await served(Parts(meta_of(page, media_type="text/html"), page))

    assert (await planted.get(f"/image/{KEY}")).status == 502
    assert (await typed.get(f"/image/{KEY}")).status == 502


@pytest.mark.parametrize("storage", [Parts(given=DATA[:-10]), Parts(given=DATA + b"more"), Parts(fail_after=5000)])
async def test_a_cut_is_seen_by_the_client(served, storage):
    """When the storage fails in the middle the connection breaks: nobody takes the part for the whole."""
    if len(storage.given) > len(DATA):
        storage.stream = lambda start, end: too_long()
    client = await served(storage)

    with pytest.raises(ClientError):
        await read(client)


async def too_long():
    for at in range(0, len(DATA) + 2000, 1000):
        yield (DATA + b"x" * 2000)[at : at + 1000]


async def test_a_redirect_is_not_kept(served):
    """A storage that serves by itself is where GET is sent; HEAD, downloads and copies are answered here."""
    client = await served(Parts(redirect="https://store.example/signed?x=1"), cache=DerivedCache(10**6))
    response = await client.get(f"/image/{KEY}", allow_redirects=False)

    assert (response.status, response.headers["Location"]) == (302, "https://store.example/signed?x=1")
    assert response.headers["Cache-Control"] == "no-store"
    assert (await client.head(f"/image/{KEY}", allow_redirects=False)).status == 200
    assert (await client.get(f"/image/{KEY}?download=1", allow_redirects=False)).status == 200
    assert (await client.get(f"/image/{KEY}?w=64", allow_redirects=False)).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": ETAG}, 304),
        ({"If-None-Match": f'"other", W/{ETAG}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 302),
        ({"If-Modified-Since": formatdate(NOW - 100, usegmt=True)}, 304),
        ({"If-Modified-Since": formatdate(NOW - 1000, usegmt=True)}, 302),
        ({"If-None-Match": '"other"', "If-Modified-Since": formatdate(NOW, usegmt=True)}, 302),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": ETAG, "Range": "bytes=0-9"}, 302),
    ],
)
async def test_conditions_are_answered_before_a_redirect(served, headers, status):
    """Who has the picture already is told so here and need not ask the store; HEAD and GET agree."""
    client = await served(Parts(redirect="https://store.example/signed?x=1"))
    told = await client.head(f"/image/{KEY}", allow_redirects=False)
    response = await client.get(f"/image/{KEY}", allow_redirects=False, headers=headers)

    assert told.headers["ETag"] == ETAG
    assert response.status == status
    assert ("Location" in response.headers) == (status == 302)
    assert response.headers.get("ETag", ETAG) == ETAG


async def test_smaller_and_converted_copies(served, storage):
    """?w= ?h= ?format= ?quality= give a copy with its own tag; the same again is not made again."""
    client = await served(storage, cache=DerivedCache(10**6))
    response = await client.get(f"/image/{KEY}.png?w=64&format=webp&quality=80")
    again = await client.get(f"/image/{KEY}.png?w=64&format=webp&quality=80", headers={"Range": "bytes=0-3"})

    assert (response.status, response.headers["Content-Type"]) == (200, "image/webp")
    assert Pillow.open(BytesIO(await response.read())).size == (64, 43)
    assert response.headers["ETag"] != ETAG
    assert response.headers["Content-Disposition"].endswith('.webp"')
    assert (again.status, await again.read()) == (206, b"RIFF")


@pytest.mark.parametrize(
    "query",
    [
        "w=65",
        "w=0",
        "w=-64",
        "w=9999999999",
        "w=x",
        "w=",
        "h=1e2",
        "w=٦٤",
        "format=svg",
        "format=",
        "quality=101",
        "quality=0",
    ],
)
async def test_bad_parameters_name_what_is_allowed(served, storage, query):
    """A size off the list, an unknown format or quality is 400 and says what would do."""
    client = await served(storage, cache=DerivedCache(10**6))
    response = await client.get(f"/image/{KEY}?{query}")

    assert response.status == 400
    assert "must be one of" in (await response.json())["error"]["message"]


async def test_negotiates_by_option(served):
    """With the option a browser that takes WebP or AVIF gets it and caches are told; others get the stored type."""
    client = await served(Parts(), settings=Serving(negotiate=True), cache=DerivedCache(10**6))
    kinds = {}
    for accept in ("image/avif,image/webp,*/*", "image/webp", "image/avif;q=0, image/webp;q=0.1", "image/png", "*/*"):
        response = await client.get(f"/image/{KEY}", headers={"Accept": accept})
        assert response.headers["Vary"] == "Accept"
        kinds[accept] = response.headers["Content-Type"]

    assert list(kinds.values()) == ["image/avif", "image/webp", "image/webp", "image/png", "image/png"]


async def test_readers_leave_with_the_whole_when_it_is_deleted(served, tmp_path):
    """A picture deleted while it leaves is whole or not found, never cut."""
    data = DATA + os.urandom(3_000_000)
    async with Disk(root=tmp_path) as storage:
        client = await served(storage)
        seen = set()
        for _ in range(6):
            await storage.put(meta_of(data), data)
            readers = [asyncio.create_task(read(client)) for _ in range(8)]
            await asyncio.sleep(0)
            await storage.delete(KEY)
            for status, body in await asyncio.gather(*readers):
                seen.add(status)
                assert status == 404 or body == data

    assert seen <= {200, 404}


async def read(client):
    """Read a picture to its end."""
    response = await client.get(f"/image/{KEY}")
    return response.status, await response.read()
