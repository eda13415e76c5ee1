"""Pictures that lie in the spool: after a restart they are given, stored, deleted, and never forgotten in silence."""
# ruff: noqa: ASYNC240  - a test may block its own loop

from __future__ import annotations

import asyncio
import base64
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import picture_files, plain_files
from gateway.errors import PictureTooLargeError, StorageDownError, StorageFullError
from gateway.job import Job
from gateway.job_records import JobRecords
from gateway.jobs import Jobs
from gateway.late_storing import LateStoring
from gateway.receipt import Receipt
from gateway.settings import Jobs as Limits
from gateway.spool import Spool
from gateway.values import Caller, ImageRequest, Picture, PictureMeta, Result
from tests.contract import check
from tests.endpoints.test_late_storing import FRAIL, KEY, PATH, TYPES, Frail, back, frail, not_stored
from tests.gateways import Gateway, start
from tests.painters import DRAW, PICTURE, finished, holding, painter, until
from tests.plugins.storages.test_disk import FaultyOs
from tests.test_job_records import Paper

URL = {**DRAW, "response_format": "url"}
STATE = "jobs: {state: jobs.db}\n"
Start = Callable[..., Awaitable[Gateway]]


@pytest.fixture
def begin(aiohttp_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start gateways one after the other in one folder, whose storage is down."""
    monkeypatch.setattr("gateway.storing.STORE_TRIES", (0.0,))
    monkeypatch.setattr("gateway.late_storing.PAUSES", (0.02,))
    monkeypatch.chdir(tmp_path)

    async def begin(more: str = STATE, storages: str = FRAIL, trouble: Any = StorageDownError) -> Gateway:
        gateway = await start(aiohttp_server, holding(more, storages=storages), tmp_path, types=TYPES)
        gateway.runtime.late.pauses = (0.02,)
        painter(gateway).free.set()
        if "pictures" in gateway.runtime.storages:
            frail(gateway).trouble = trouble and trouble("the store is down")
        return gateway

    return begin


def lying(tmp_path: Path) -> list[Path]:
    """Name the files of meta data in the spool."""
    return sorted((tmp_path / ".image-gateway").rglob("*.meta"))


async def kept_meta(gateway: Gateway, key: str) -> PictureMeta:
    found = await frail(gateway).get(key)
    assert found is not None
    return found.meta


async def test_a_job_of_before_gives_its_bytes_and_then_its_link(begin: Start, tmp_path: Path) -> None:
    """Restarted while the storage is down: a link is a 503, bytes are given, and both are paid for once."""
    first = await begin()
    assert not_stored(await first.post(PATH, URL, headers=KEY))
    inline = await first.post(PATH, DRAW, headers={"Idempotency-Key": "bytes"})
    planned = frail(first).puts[0]
    await first.server.close()
    assert len(lying(tmp_path)) == 2
    second = await begin()
    document = (await second.get("/openapi.json")).json
    assert not_stored(await second.post(PATH, URL, headers=KEY))
    again = await second.post(PATH, DRAW, headers={"Idempotency-Key": "bytes"})
    shown = (await second.get(f"/v1/jobs/{inline.json['gateway']['job']}")).json
    waiting = (await second.get("/health")).json["spool"]

    assert again.json["data"] == inline.json["data"]
    assert base64.b64decode(shown["result"]["data"][0]["b64_json"]) == PICTURE
    check(document, "GET", "/v1/jobs/{id}", 200, shown)
    assert waiting == {"pictures": 2, "bytes": 2 * len(PICTURE)}
    await back(second, 2)
    await until(lambda: not lying(tmp_path))
    url = (await second.post(PATH, URL, headers=KEY)).json["data"][0]["url"]
    assert f"/image/{planned}" in url
    assert (await second.get(url.removeprefix(second.base))).body == PICTURE
    assert painter(second).requests == []
    assert (await second.get("/health")).json["spool"]["pictures"] == 0


async def test_what_has_no_room_in_memory_is_not_lost(
    begin: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its bytes come from the spool, for whoever asks and for the storage."""
    monkeypatch.setattr("gateway.unstored.UNSTORED", 0)
    gateway = await begin()
    assert not_stored(await gateway.post(PATH, URL, headers=KEY))
    identity = (await gateway.post(PATH, DRAW, headers={"Prefer": "respond-async"})).json["id"]
    (shown,) = (await finished(gateway, identity))["result"]["data"]

    assert base64.b64decode(shown["b64_json"]) == PICTURE
    assert not_stored(await gateway.post(PATH, URL, headers=KEY))
    assert "is lost" not in caplog.text
    await back(gateway, 2)
    assert (await gateway.post(PATH, URL, headers=KEY)).status == 200


async def test_without_a_job_the_picture_is_stored_all_the_same(begin: Start, tmp_path: Path) -> None:
    """No jobs.state: after the restart nobody knows the job, and its owner finds the picture in the list."""
    first = await begin("")
    assert not_stored(await first.post(PATH, URL))
    await first.server.close()
    second = await begin("")
    await back(second)
    await until(lambda: not lying(tmp_path))
    (seen,) = (await second.get("/v1/pictures")).json["data"]

    assert seen["id"] == frail(first).puts[0]
    assert seen["prompt"] == "a cat"
    assert (await second.get(f"/image/{seen['id']}")).body == PICTURE
    assert "spooled" not in (await kept_meta(second, seen["id"])).details


@pytest.mark.parametrize("more", [STATE, ""], ids=["with its job", "alone"])
async def test_deleted_by_its_owner_it_is_never_stored_again(begin: Start, tmp_path: Path, more: str) -> None:
    """Its owner sees it while the gateway does not know yet that it is stored; the spool lets go of it at once."""
    first = await begin(more)
    assert not_stored(await first.post(PATH, URL, headers=KEY))
    await first.server.close()
    second = await begin(more)
    frail(second).hold = hold = asyncio.Event()
    await back(second)
    (seen,) = (await second.get("/v1/pictures")).json["data"]
    assert len(lying(tmp_path)) == 1
    meta = await kept_meta(second, seen["id"])
    assert (await second.ask("DELETE", f"/v1/pictures/{seen['id']}")).status == 200
    assert not lying(tmp_path)
    # The storage is slow: what was on its way arrives after it was deleted.
    await frail(second).inner.put(meta, PICTURE)
    hold.set()
    await until(lambda: not frail(second).inner._entries)

    await second.server.close()
    third = await begin(more, trouble=None)
    assert (await third.get("/v1/pictures")).json["data"] == []


async def test_a_picture_that_the_spool_does_not_let_go_of_is_not_deleted(
    begin: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 503 that can be repeated, instead of a picture that comes back from the dead."""
    gateway = await begin()
    assert not_stored(await gateway.post(PATH, URL))
    frail(gateway).hold = hold = asyncio.Event()
    await back(gateway)
    (seen,) = (await gateway.get("/v1/pictures")).json["data"]
    for module in (picture_files, plain_files):
        monkeypatch.setattr(module, "os", FaultyOs("unlink", errno.EROFS))
    refused = await gateway.ask("DELETE", f"/v1/pictures/{seen['id']}")
    assert len((await gateway.get("/v1/pictures")).json["data"]) == 1
    for module in (picture_files, plain_files):
        monkeypatch.setattr(module, "os", __import__("os"))
    deleted = await gateway.ask("DELETE", f"/v1/pictures/{seen['id']}")
    hold.set()

    assert (refused.status, deleted.status) == (503, 200)
    assert not lying(tmp_path)


async def test_a_storage_that_is_not_configured_any_more_is_named(
    begin: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is deleted; its job gives the bytes, and once the storage is back in the YAML it gets the picture."""
    first = await begin()
    assert not_stored(await first.post(PATH, URL, headers=KEY))
    job = (await first.get("/v1/jobs")).json["data"][0]["id"]
    await first.server.close()
    caplog.clear()
    second = await begin(storages="storages: {elsewhere: {use: memory, ttl: 600}}\n")
    line = f"1 pictures that were paid for stay in {tmp_path}/.image-gateway/spool: they are for the storage 'pictures'"
    assert line in caplog.text
    (shown,) = (await second.get(f"/v1/jobs/{job}")).json["result"]["data"]
    assert base64.b64decode(shown["b64_json"]) == PICTURE
    await second.server.close()
    third = await begin(trouble=None)
    await until(lambda: frail(third).inner._entries)

    assert (await third.post(PATH, URL, headers=KEY)).status == 200


async def test_what_expired_in_the_spool_is_told(
    begin: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is removed with a line in the log, and its job answers 410."""
    first = await begin()
    assert not_stored(await first.post(PATH, URL, headers=KEY))
    await first.server.close()
    (path,) = lying(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"expires":null', b'"expires":1000'))
    second = await begin()

    assert f"expired while it waited in {tmp_path}" in caplog.text
    assert not lying(tmp_path)
    assert (await second.post(PATH, URL, headers=KEY)).status == 410


async def test_what_no_storage_will_ever_take_is_set_aside(
    begin: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The storage was given a limit meanwhile: the picture stays on the disk, and the log says where."""
    first = await begin(trouble=StorageFullError)
    await first.post(PATH, URL, headers=KEY)
    await first.server.close()
    second = await begin(trouble=PictureTooLargeError)
    await until(lambda: not lying(tmp_path))

    assert "was set aside, as files that end in .bad" in caplog.text
    assert len(list(tmp_path.rglob("*.meta.bad"))) == 1
    inline = await second.post(PATH, URL, headers=KEY)
    assert inline.error["code"] == "image_not_stored"


async def test_a_spool_that_cannot_be_written_harms_no_job(
    begin: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As without one: the bytes, and the link later."""
    (tmp_path / ".image-gateway").write_text("a file in its place")
    gateway = await begin()
    assert not_stored(await gateway.post(PATH, URL, headers=KEY))
    assert not_stored(await gateway.post(PATH, {**URL, "prompt": "a dog"}))
    await back(gateway, 2)
    answer = await gateway.post(PATH, URL, headers=KEY)

    assert answer.status == 200
    assert caplog.text.count("kept in memory only") == 1


async def test_a_healthy_storage_leaves_the_disk_alone(begin: Start, tmp_path: Path) -> None:
    """No folder is made, and the spool is not asked."""
    gateway = await begin("", trouble=None)
    assert (await gateway.post(PATH, URL)).status == 200
    (seen,) = (await gateway.get("/v1/pictures")).json["data"]
    assert (await gateway.ask("DELETE", f"/v1/pictures/{seen['id']}")).status == 200
    await gateway.server.close()

    assert not (tmp_path / ".image-gateway").exists()


async def test_what_a_gateway_leaves_is_taken_over_while_another_runs(
    begin: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rolling restart: the new one runs already when the old one stops, and stores what the old one could not."""
    monkeypatch.setattr("gateway.late_storing.LOOK", 0.02)
    old = await begin("")
    new = await begin("", trouble=None)
    assert not_stored(await old.post(PATH, URL))
    await asyncio.sleep(0.1)
    assert not frail(new).inner._entries
    assert len(lying(tmp_path)) == 1
    await old.server.close()
    await until(lambda: frail(new).inner._entries)

    assert list(frail(new).inner._entries) == frail(old).puts[:1]
    await until(lambda: not lying(tmp_path))


async def test_damaged_in_the_spool_its_job_says_that_it_is_lost(
    begin: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A 410 for its caller, a line for the owner, and the others are stored."""
    first = await begin()
    for name in ("one", "two"):
        assert not_stored(await first.post(PATH, URL, headers={"Idempotency-Key": name}))
    await first.server.close()
    (path,) = (tmp_path / ".image-gateway").rglob(f"{frail(first).puts[0]}.????????????????")
    path.write_bytes(b"\0" * len(PICTURE))
    second = await begin(trouble=None)
    await until(lambda: frail(second).inner._entries and "was set aside" in caplog.text)
    await until(lambda: not lying(tmp_path))
    answers = [await second.post(PATH, URL, headers={"Idempotency-Key": name}) for name in ("one", "two")]

    assert [answer.status for answer in answers] == [410, 200]


async def test_the_spool_lets_go_when_the_record_leads_to_the_storage(tmp_path: Path) -> None:
    """A crash between the two finds the picture in the spool and stores it once more; the other way its job lost it."""
    jobs, paper, storage, spool = Jobs(Limits(), lambda job: drawn(job)), Paper(), Frail(), Spool(tmp_path, 0)
    records, late = (
        JobRecords(paper, 60),
        LateStoring(jobs, {"pictures": storage}, lambda job: "pictures", spool, (0.01,)),
    )
    jobs.on_end += [records.ended, late.ended]
    jobs.on_amended = records.ended

    async def drawn(job: Job) -> Result:
        meta = PictureMeta("", "image/png", 64, 64, len(PICTURE), "", 1.5, owner="ann")
        return await late.keep(job, Result((Picture(meta, PICTURE, planned="k" * 40),), "a cat", "a cat", Receipt(), 1))

    storage.trouble = StorageDownError("down")
    await jobs.submit(ImageRequest("a cat"), Caller("ann"), "a cat").wait()
    paper.slow = asyncio.Event()
    storage.trouble = None
    await until(lambda: storage.inner._entries)
    await asyncio.sleep(0.05)
    assert "k" * 40 in spool
    paper.slow.set()
    await until(lambda: "k" * 40 not in spool)

    assert '"planned":""' in next(iter(paper.texts.values()))
    await late.close()


async def test_where_the_spool_lies_is_read_from_the_yaml(begin: Start, tmp_path: Path) -> None:
    """Relative to the file."""
    gateway = await begin("jobs: {spool: there/spool, spool_limit: 1KiB}\n")
    spool = gateway.runtime.late.spool

    assert isinstance(spool, Spool)
    assert (spool.root, spool.limit) == (tmp_path / "there" / "spool", 1024)
