"""Starts the real servers once for all storage tests, and makes each storage for those that hold of all."""

import pytest
from aiohttp.test_utils import TestServer

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
