"""Every storage is served alike: the same headers, parts and answers to conditions, to the second of its end."""

import asyncio
import os
import uuid
from email.utils import formatdate

import aiohttp
import pytest
from gateway_plugins.storages.s3 import S3

from gateway import Secret
from tests.endpoints.test_image import CONDITIONS, DATA, ETAG, NOW, RANGES, meta_of
from tests.endpoints.test_image import KEY as NAMED
from tests.gateways import AUTHENTICATORS, start
from tests.painters import until
from tests.plugins.storages.benches import TTL
from tests.plugins.storages.pictures import PNG, picture
from tests.plugins.storages.readers import KEY, Reader
from tests.plugins.storages.rude_proxy import RudeProxy

PATH = f"/image/{NAMED}.png?download=1"
"""A download is answered here also by a storage that redirects."""


@pytest.fixture
async def ask(storage, bench, serving):
    """A function that asks for the picture of the tests and gives status, headers and bytes."""
    await storage.put(meta_of(), DATA)
    port = await serving(storage, bench.clock)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def ask(headers=None, method="GET"):
            async with session.request(method, PATH, headers=headers) as response:
                return response.status, response.headers, await response.read()

        yield ask


async def test_the_same_headers_from_every_storage(ask, bench):
    """GET and HEAD: typed, tagged, named, harmless in a browser, and kept no longer than the picture lives."""
    for method, body in (("GET", DATA), ("HEAD", b"")):
        status, headers, data = await ask(method=method)

        assert (status, data) == (200, body)
        assert {name: value for name, value in headers.items() if name not in ("Date", "Server")} == {
            "Accept-Ranges": "bytes",
            "Cache-Control": f"public, max-age={int(TTL)}, immutable",
            "Content-Disposition": f'attachment; filename="{NAMED}.png"',
            "Content-Length": str(len(DATA)),
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
            "Content-Type": "image/png",
            "Cross-Origin-Resource-Policy": "cross-origin",
            "Etag": ETAG,
            "Expires": formatdate(int(bench.clock.now) + int(TTL), usegmt=True),
            "Last-Modified": formatdate(int(NOW - 100.5), usegmt=True),
            "X-Content-Type-Options": "nosniff",
        }


async def test_the_same_parts_from_every_storage(ask):
    """Each range, sound or not."""
    for value, wanted, part in RANGES:
        status, headers, data = await ask({"Range": value})

        assert status == wanted, value
        assert status == 416 or data == DATA[slice(*part)], value
        assert status != 206 or headers["Content-Range"] == f"bytes {part[0]}-{part[1] - 1}/{len(DATA)}"


async def test_the_same_answers_to_conditions_from_every_storage(ask):
    """Each precondition."""
    for conditions, wanted in CONDITIONS:
        status, headers, data = await ask(conditions)

        assert status == wanted, conditions
        assert status != 304 or (data, headers["ETag"]) == (b"", ETAG)


async def test_the_same_end_on_every_storage(ask, bench):
    """A hundredth of a second before its end a picture is shown, for no time to keep; at its end it is a 404."""
    began = bench.clock.now
    told = []
    for later in (0.0, TTL / 2, TTL - 0.01, TTL, TTL + 0.01):
        bench.clock.now = began + later
        status, headers, _ = await ask()
        told.append((status, headers["Cache-Control"].split(", ")[1] if status == 200 else None))

    assert told == [
        (200, f"max-age={int(TTL)}"),
        (200, f"max-age={int(TTL / 2)}"),
        (200, "max-age=0"),
        (404, None),
        (404, None),
    ]


# An object store behind the gateway -------------------------------------------------------------------------


def options_of(seaweed, **more):
    keys = {"access_key": Secret(seaweed.access_key), "secret_key": Secret(seaweed.secret_key)}
    return {"bucket": seaweed.bucket, "endpoint": seaweed.endpoint, "prefix": uuid.uuid4().hex} | keys | more


async def test_a_store_that_breaks_off_is_a_cut_that_the_client_sees(seaweed, serving):
    """In the middle of a picture: fewer bytes than were told, and never a short answer that ended well."""
    data = PNG + os.urandom(14_000_000)
    async with (
        RudeProxy(seaweed.port) as proxy,
        S3(**options_of(seaweed, endpoint=f"http://127.0.0.1:{proxy.port}", timeout=5.0)) as storage,
    ):
        await storage.put(picture(data=data), data)
        port = await serving(storage)
        for down, wanted in ((None, data), (200_000, None), (None, data)):
            async with Reader(port) as reader:
                assert await reader.begun() == 200
                proxy.down = down  # less than a part: no second try of the client library helps
                assert await reader.ended() == wanted
            proxy.down = None


async def test_a_presigned_link_ends(seaweed):
    """The store itself refuses it once its time is over, although the picture lives on."""
    async with S3(**options_of(seaweed, serve="redirect", link=2.0)) as storage, aiohttp.ClientSession() as session:
        await storage.put(picture(), PNG)
        url = (await storage.get(KEY)).redirect

        async def status():
            async with session.get(url) as response:
                return response.status

        first = await status()
        async with asyncio.timeout(20):
            while (later := await status()) == 200:  # noqa: ASYNC110  - the store tells nobody when a link ends
                await asyncio.sleep(0.1)

        assert (first, later) == (200, 403)
        assert await storage.get(KEY)


async def test_a_store_that_never_answers_leaves_all_else_alone(aiohttp_server, tmp_path, seaweed):
    """While ninety clients wait for pictures, everything else is answered; they all get a 503 in the end."""
    async with RudeProxy(seaweed.port) as proxy:
        keys = f"access_key: {seaweed.access_key}, secret_key: {seaweed.secret_key}, prefix: {uuid.uuid4().hex}"
        place = f'bucket: {seaweed.bucket}, endpoint: "http://127.0.0.1:{proxy.port}", {keys}, timeout: 5s, at_once: 8'
        text = AUTHENTICATORS + (
            f"storages: {{pictures: {{use: s3, {place}}}}}\n"
            "backends: {here: {use: demo}}\nmodels: {demo: {backends: [{backend: here}]}}\n"
        )
        gateway = await start(aiohttp_server, text, tmp_path)
        proxy.deaf = True
        for connection in proxy.tasks:
            connection.cancel()
        waiting = [asyncio.create_task(gateway.get(f"/image/picture-number-{number}")) for number in range(90)]
        await until(lambda: len(proxy.tasks) >= 8)
        others = [(await gateway.get(path)).status for path in ("/health", "/v1/models", "/", "/openapi.json")]
        still = sum(not task.done() for task in waiting)
        drawn = await gateway.draw(size="64x64", response_format="b64_json")
        answers = await asyncio.gather(*waiting)

    assert (others, drawn.status, bool(still)) == ([200] * 4, 200, True)
    assert {answer.status for answer in answers} == {503}
    assert all(answer.headers["Retry-After"] for answer in answers)
