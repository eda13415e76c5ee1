"""Whoever reads a picture while it expires, is deleted or replaced gets all of it, a clean answer, or sees the cut."""

import asyncio
import os
import socket

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.endpoints.image import serve_picture
from gateway.errors import GatewayError
from gateway.settings import Serving
from tests.plugins.storages.benches import TTL
from tests.plugins.storages.pictures import PNG, picture

KEY = "k" * 40
DATA, OTHER = PNG + os.urandom(14_000_000), PNG + os.urandom(14_000_000)
SMALL = PNG + os.urandom(700_000)
FIRST = 50_000
"""Bytes that a reader takes before anything happens; what the kernel holds for it is less than the rest."""


class Reader:
    """A client with a small buffer that reads one answer in steps, byte for byte as it comes.

    It asks for a download, which no storage answers by a redirect.
    """

    def __init__(self, port):
        self.port = port

    async def __aenter__(self):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        self.reader, self.writer = await asyncio.open_connection(sock=connection, limit=2**16)
        self.writer.write(f"GET /image/{KEY}?download=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return self

    async def __aexit__(self, *reason):
        self.writer.transport.abort()

    async def begun(self):
        """Read the head and the first bytes; give the status."""
        self.head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        self.data = await self.reader.read(FIRST)
        return int(self.head.split(" ")[1])

    async def ended(self):
        """Read the rest; give the body if it is as long as was told, None if the connection was cut before."""
        [length] = [line[16:] for line in self.head.splitlines() if line.startswith("Content-Length: ")]
        try:
            while part := await self.reader.read(2**16):
                self.data += part
        except ConnectionError:
            return None
        assert len(self.data) <= int(length)
        return self.data if len(self.data) == int(length) else None


class Watched:
    """A storage with something that happens between the finding of a picture and its bytes."""

    def __init__(self, storage, meanwhile=None):
        self.storage, self.meanwhile = storage, meanwhile

    async def get(self, key):
        found = await self.storage.get(key)
        if self.meanwhile:
            await self.meanwhile()
        return found


@pytest.fixture
async def serving(bench):
    """A function that serves a storage under ``/image/`` and gives the port."""
    servers = []

    async def serve(storage):
        async def answer(request):
            try:
                return await serve_picture(request, [storage], Serving(), clock=bench.clock)
            except GatewayError as error:
                return web.json_response(error.as_json(), status=error.status)

        app = web.Application()
        app.router.add_get("/image/{key}", answer)
        servers.append(server := TestServer(app))
        await server.start_server()
        return server.port

    yield serve
    for server in servers:
        await server.close()


@pytest.fixture(params=["delete", "expire", "replace"])
def happening(request, storage, bench):
    """What happens to the picture meanwhile; *left* is what a later reader finds."""

    async def happen():
        if request.param == "delete":
            await storage.delete(KEY)
        elif request.param == "expire":
            bench.clock.now += TTL
            await storage.sweep()
        else:
            await storage.put(picture(data=OTHER), OTHER)

    happen.left = OTHER if request.param == "replace" else None
    return happen


async def check_later(port, left):
    async with Reader(port) as later:
        assert await later.begun() == (200 if left else 404)
        body = await later.ended()
    assert body == left if left else b"no such picture" in body


async def test_a_picture_that_goes_while_it_is_read_is_whole_or_visibly_cut(storage, happening, serving):
    """In the middle of the body: all bytes of the one picture come, or fewer than the head has told."""
    await storage.put(picture(data=DATA), DATA)
    port = await serving(Watched(storage))
    async with Reader(port) as reader:
        assert await reader.begun() == 200
        await happening()
        body = await reader.ended()

    assert body in (DATA, None)
    await check_later(port, happening.left)


async def test_a_picture_that_goes_before_its_first_byte_is_whole_or_cleanly_not_there(storage, happening, serving):
    """Between finding and reading: one picture whole, a 404 or a 410 or a clear error, or a visible cut."""
    await storage.put(picture(data=DATA), DATA)
    watched = Watched(storage, happening)
    port = await serving(watched)
    async with Reader(port) as reader:
        status = await reader.begun()
        body = await reader.ended()
    watched.meanwhile = None

    assert status in (200, 404, 410, 502)
    assert body in (DATA, OTHER, None) if status == 200 else b'"error"' in body
    await check_later(port, happening.left)


async def test_readers_and_a_delete_at_the_same_time(storage, serving):
    """Ten readers and a delete, again and again in any order: never a short answer that looks whole."""
    port = await serving(Watched(storage))
    outcomes = []

    async def read(turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        async with Reader(port) as reader:
            status = await reader.begun()
            outcomes.append((status, await reader.ended()))

    for _ in range(8):
        await storage.put(picture(data=SMALL), SMALL)
        await asyncio.gather(*(read(3 * number) for number in range(10)), storage.delete(KEY))
        assert await storage.get(KEY) is None

    assert len(outcomes) == 80
    for status, body in outcomes:
        assert body in (SMALL, None) if status == 200 else status in (404, 410, 502), (status, body and body[:200])
