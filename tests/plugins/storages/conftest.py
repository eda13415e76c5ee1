"""Starts the real servers once for all storage tests."""

import pytest

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
