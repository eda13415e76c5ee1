"""Starts the real servers once for all storage tests, and makes each storage for those that hold of all."""

import time

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.endpoints.image import serve_picture
from gateway.errors import GatewayError
from gateway.settings import Serving
from tests.plugins.storages.benches import MAKERS, Bench
from tests.plugins.storages.fake_kv import FakeKV
from tests.plugins.storages.servers import Seaweed, Valkey


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory):
    server = Seaweed(tmp_path_factory.mktemp("seaweed")).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory):
    server = Valkey(tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.kill()


@pytest.fixture(params=MAKERS)
async def bench(request):
    bench = Bench(MAKERS[request.param](request))
    async with TestServer(FakeKV().app()) as server:
        request.node.kv = str(server.make_url("/client/v4"))
        yield bench
        await bench.close()


@pytest.fixture
async def storage(bench):
    return await bench.open()


@pytest.fixture
async def serving():
    """A function that serves a storage under ``/image/`` and gives the port."""
    servers = []

    async def serve(storage, clock=time.time):
        async def answer(request):
            try:
                return await serve_picture(request, [storage], Serving(), clock=clock)
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
