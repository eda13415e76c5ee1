"""Health is answered to everybody, at once, without asking anything outside."""

import pytest

from tests.gateways import drawing_by, start


@pytest.fixture
async def gateway(fake, aiohttp_server, tmp_path):
    return await start(aiohttp_server, drawing_by(fake.base), tmp_path)


@pytest.mark.parametrize("path", ["/health", "/v1/health"])
async def test_health_needs_no_key_and_no_upstream(gateway, fake, path):
    """It says ok, is not kept by caches, and shows no key."""
    fake.mode = "hang"
    answer = await gateway.get(path, headers={"Authorization": ""})

    assert answer.status == 200
    assert answer.json["status"] == "ok"
    assert answer.headers["Cache-Control"] == "no-store"
    assert not fake.calls


async def test_health_counts_keys_without_showing_them(gateway, fake):
    """A refused key is seen there."""
    fake.mode = "status:401"
    await gateway.draw()
    answer = await gateway.get("/health")

    assert answer.json["backends"]["up"]["refused"] == 1


async def test_while_shutting_down_health_fails_first(gateway):
    """So that load balancers look elsewhere; what is asked for is refused with a word."""
    gateway.runtime.jobs.draining = True
    health = await gateway.get("/health")
    drawn = await gateway.draw()

    assert health.status == 503
    assert health.json["status"] == "draining"
    assert drawn.status == 503
    assert "Retry-After" in drawn.headers
