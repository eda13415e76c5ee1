"""Fixtures that several tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestServer

from tests.fake_upstream import FakeUpstream, make_app

pytest_plugins = ["tests.canaries", "tests.browser"]


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    """An upstream on a free port of this machine; see its modes."""
    upstream = FakeUpstream()
    server = TestServer(make_app(upstream), handler_cancellation=True)
    await server.start_server(shutdown_timeout=0.1)
    upstream.base = f"http://127.0.0.1:{server.port}"
    yield upstream
    upstream.released.set()
    await server.close()
