"""What answers and jobs say of a picture that has expired or was deleted: never a dead link."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway import StorageDownError
from tests.contract import check
from tests.gateways import STORAGES, Answered, Gateway, start
from tests.painters import DRAW, HELD, finished, holding, other, painter

PATH = "/v1/images/generations"
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "url": (PATH, {**DRAW, "response_format": "url"}),
    "b64_json": (PATH, DRAW),
    "chat": ("/v1/chat/completions", {"model": "held", "messages": [{"role": "user", "content": "a cat"}]}),
}
STREAMS = {f"{name} stream": (path, {**body, "stream": True}) for name, (path, body) in CALLS.items()}
KEY = {"Idempotency-Key": "order-66"}


async def drawing(aiohttp_server: Any, tmp_path: Path, ttl: str, more: str = "") -> Gateway:
    gateway = await start(aiohttp_server, holding(more, storages=STORAGES.replace("600", ttl)), tmp_path, types=HELD)
    painter(gateway).free.set()
    return gateway


async def key_of(gateway: Gateway) -> str:
    return str((await gateway.get("/v1/pictures")).json["data"][0]["id"])


def expired(answer: Answered) -> bool:
    assert answer.headers["x-should-retry"] == "false"
    return (answer.status, answer.error["code"]) == (410, "picture_expired")


@pytest.mark.parametrize("name", [*CALLS, *STREAMS])
@pytest.mark.parametrize("how", ["expired", "deleted"])
async def test_a_repeated_call_gives_no_dead_link(aiohttp_server: Any, tmp_path: Path, name: str, how: str) -> None:
    """The same Idempotency-Key answers 410 once the picture is gone, and pays for no second one."""
    gateway = await drawing(aiohttp_server, tmp_path, "0.3" if how == "expired" else "600")
    path, body = {**CALLS, **STREAMS}[name]
    assert (await gateway.post(path, body, headers=KEY)).status == 200
    if how == "expired":
        await asyncio.sleep(0.35)
    else:
        assert (await gateway.ask("DELETE", f"/v1/pictures/{await key_of(gateway)}")).status == 200

    assert expired(await gateway.post(path, body, headers=KEY))
    assert len(painter(gateway).requests) == 1


@pytest.mark.parametrize("how", ["expired", "deleted"])
async def test_a_job_says_that_its_picture_is_gone(aiohttp_server: Any, tmp_path: Path, how: str) -> None:
    """In the job, in the list and in its events: no link, and why."""
    gateway = await drawing(aiohttp_server, tmp_path, "0.3" if how == "expired" else "600")
    document = (await gateway.get("/openapi.json")).json
    identity = (await gateway.post(PATH, {**DRAW, "async": True})).json["id"]
    (shown,) = (await finished(gateway, identity))["result"]["data"]
    assert shown["url"]
    assert "expired" not in shown
    if how == "expired":
        await asyncio.sleep(0.35)
    else:
        await gateway.ask("DELETE", f"/v1/pictures/{await key_of(gateway)}")
    job = await finished(gateway, identity)
    (gone,) = job["result"]["data"]

    assert (gone["url"], gone["expired"]) == (None, True)
    check(document, "GET", "/v1/jobs/{id}", 200, job)
    assert (await gateway.get("/v1/jobs")).json["data"][0]["result"]["data"] == [gone]
    assert "/image/" not in (await gateway.get(f"/v1/jobs/{identity}/events")).text


async def test_a_reader_who_is_slow_holds_no_deleted_bytes(aiohttp_server: Any, tmp_path: Path) -> None:
    """While somebody still follows the job, its bytes are here; deleted, they are given to nobody any more."""
    gateway = await drawing(aiohttp_server, tmp_path, "600")
    await gateway.post(PATH, DRAW, headers=KEY)
    (job,) = gateway.runtime.jobs._jobs.values()
    with gateway.runtime.jobs.reading(job):
        assert job.result is not None
        data = b"bytes of a reader"
        pictures = job.result.pictures
        object.__setattr__(pictures[0], "data", data)
        await gateway.ask("DELETE", f"/v1/pictures/{await key_of(gateway)}")

        assert expired(await gateway.post(PATH, DRAW, headers=KEY))


async def test_deleted_while_a_tier_is_down_it_is_gone_for_good(
    aiohttp_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion is told as failed; whoever asks meanwhile or later, and whatever call is repeated, gets nothing."""
    storages = """storages:
  fast: {use: memory, ttl: 600}
  slow: {use: memory, ttl: 600}
  pictures: {use: tiered, tiers: [fast, slow]}
"""
    config = holding(storages=storages, model=", storage: pictures")
    gateway = await start(aiohttp_server, config, tmp_path, types=HELD)
    painter(gateway).free.set()
    path, body = CALLS["b64_json"]
    assert (await gateway.post(path, body, headers=KEY)).status == 200
    key = await key_of(gateway)

    async def down(key: str) -> None:
        raise StorageDownError("the tier is down")

    with monkeypatch.context() as patch:
        patch.setattr(gateway.runtime.storages["fast"], "delete", down)
        assert (await gateway.ask("DELETE", f"/v1/pictures/{key}")).status == 503
        assert (await gateway.ask("DELETE", f"/v1/pictures/{key}")).status == 404

    assert (await gateway.get(f"/image/{key}")).status == 404
    assert expired(await gateway.post(path, body, headers=KEY))


async def test_deleting_touches_no_other_picture(aiohttp_server: Any, tmp_path: Path) -> None:
    """Other pictures of the same job go on; nobody deletes another's."""
    gateway = await drawing(aiohttp_server, tmp_path, "600")
    identity = (await gateway.post(PATH, {**DRAW, "async": True, "n": 2})).json["id"]
    data = (await finished(gateway, identity))["result"]["data"]
    first = data[0]["url"].rsplit("/", 1)[1].partition(".")[0]
    assert (await gateway.ask("DELETE", f"/v1/pictures/{first}", headers=other())).status == 404
    assert (await finished(gateway, identity))["result"]["data"] == data
    await gateway.ask("DELETE", f"/v1/pictures/{first}")
    left = (await finished(gateway, identity))["result"]["data"]

    assert [each["url"] for each in left] == [None, data[1]["url"]]


async def test_a_deletion_outlives_a_restart(
    aiohttp_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's record knows of it."""
    monkeypatch.chdir(tmp_path)
    first = await drawing(aiohttp_server, tmp_path, "600", "jobs: {state: jobs.db}\n")
    path, body = CALLS["url"]
    await first.post(path, body, headers=KEY)
    await first.ask("DELETE", f"/v1/pictures/{await key_of(first)}")
    await first.server.close()
    second = await drawing(aiohttp_server, tmp_path, "600", "jobs: {state: jobs.db}\n")

    assert expired(await second.post(path, body, headers=KEY))
    assert not painter(second).requests
