"""A storage that is down and comes back: no picture that was paid for is lost, and none is paid for twice."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from gateway_plugins.storages.memory import Memory

from gateway.errors import PictureTooLargeError, StorageDownError, StorageError, StorageFullError
from gateway.unstored import UNSTORED
from gateway.values import Caller, PictureMeta, StoredPicture
from tests.contract import check
from tests.gateways import Answered, Gateway, start
from tests.painters import DRAW, HELD, PICTURE, finished, holding, other, painter, until
from tests.plugins.storages.servers import Valkey

PATH = "/v1/images/generations"
CHAT = {"model": "held", "messages": [{"role": "user", "content": "a cat"}]}
KEY = {"Idempotency-Key": "order-66"}


@dataclass
class Frail:
    """Memory that the test takes down (*trouble* is raised) and brings up again; *hold* lets puts wait."""

    trouble: StorageError | None = field(init=False, default=None)
    puts: list[str] = field(init=False, default_factory=list)
    hold: asyncio.Event | None = field(init=False, default=None)
    inner: Memory = field(init=False, default_factory=lambda: Memory(ttl=600))

    async def put(self, meta: PictureMeta, data: bytes) -> PictureMeta:
        self.puts.append(meta.key)
        self._fail()
        kept: PictureMeta = await self.inner.put(meta, data)
        if self.hold:
            await self.hold.wait()
        return kept

    async def get(self, key: str) -> StoredPicture | None:
        self._fail()
        found: StoredPicture | None = await self.inner.get(key)
        return found

    async def delete(self, key: str) -> bool:
        return bool(await self.inner.delete(key))

    async def list(self, owner: str | None = None) -> AsyncIterator[PictureMeta]:
        async for meta in self.inner.list(owner):
            yield meta

    async def sweep(self) -> int:
        return 0

    def _fail(self) -> None:
        if self.trouble:
            raise self.trouble.copied()


FRAIL = "storages: {pictures: {use: frail}}\n"
TYPES = {**HELD, "storages": {"frail": Frail}}


@pytest.fixture(params=["spool", "memory"])
async def held(
    request: pytest.FixtureRequest, aiohttp_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Gateway:
    """A gateway that draws at once, whose storage is down: what it draws is spooled, or kept in memory alone."""
    monkeypatch.setattr("gateway.storing.STORE_TRIES", (0.0, 0.0, 0.0))
    more = "" if request.param == "spool" else "jobs: {spool: off}\n"
    gateway = await start(aiohttp_server, holding(more, storages=FRAIL), tmp_path, types=TYPES)
    assert (gateway.runtime.late.spool is None) is (request.param == "memory")
    gateway.runtime.late.pauses = (0.01,)
    painter(gateway).free.set()
    frail(gateway).trouble = StorageDownError("the store is down")
    return gateway


def frail(gateway: Gateway) -> Frail:
    return cast("Frail", gateway.runtime.storages["pictures"])


def jobs_of(gateway: Gateway) -> list[Any]:
    return list(gateway.runtime.jobs.all(Caller("ann")))


def not_stored(answer: Answered) -> bool:
    """Say whether it is the error of a link that comes later; no SDK may repeat it by itself."""
    assert answer.headers["x-should-retry"] == "false"
    assert int(answer.headers["Retry-After"]) > 0
    assert "the store is down" in answer.error["message"]
    return (answer.status, answer.error["code"]) == (503, "image_not_stored")


async def back(gateway: Gateway, count: int = 1) -> None:
    """Bring the storage back and wait until it has what was paid for."""
    frail(gateway).trouble = None
    await until(lambda: len(frail(gateway).inner._entries) == count)


async def test_a_job_shows_the_bytes_until_it_has_a_link(held: Gateway) -> None:
    """Whoever comes back finds the picture itself while the storage is down, then its link."""
    document = (await held.get("/openapi.json")).json
    identity = (await held.post(PATH, {**DRAW}, headers={"Prefer": "respond-async"})).json["id"]
    down = await finished(held, identity)
    (shown,) = down["result"]["data"]

    assert down["status"] == "completed"
    assert shown["url"] is None
    assert base64.b64decode(shown["b64_json"]) == PICTURE
    check(document, "GET", "/v1/jobs/{id}", 200, down)
    assert (await held.get(f"/v1/jobs/{identity}")).headers["Retry-After"] == "2"
    assert "b64_json" not in (await held.get("/v1/jobs")).text
    assert "b64_json" not in (await held.get(f"/v1/jobs/{identity}/events")).text
    assert (await held.ask("HEAD", f"/v1/jobs/{identity}")).status == 200
    await back(held)
    (stored,) = (await finished(held, identity))["result"]["data"]
    key = frail(held).puts[0]
    assert stored["url"].startswith(f"{held.base}/image/{key}")
    assert "b64_json" not in stored
    assert (await held.get(stored["url"].removeprefix(held.base))).body == PICTURE
    assert [each["id"] for each in (await held.get("/v1/pictures")).json["data"]] == [key]
    assert stored["url"] in (await held.get(f"/v1/jobs/{identity}/events")).text
    assert "Retry-After" not in (await held.get(f"/v1/jobs/{identity}")).headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, {**DRAW, "response_format": "url"}),
        (PATH, {**DRAW, "response_format": "url", "n": 3}),
        ("/v1/chat/completions", CHAT),
    ],
    ids=["url", "urls", "chat"],
)
async def test_the_same_key_gives_the_link_once_there_is_one(held: Gateway, path: str, body: Any) -> None:
    """503 as long as it is down, 200 with the link after that, one paid call, and every try under the same key."""
    count = body.get("n", 1)
    assert not_stored(await held.post(path, body, headers=KEY))
    assert not_stored(await held.post(path, body, headers=KEY))
    await back(held, count)
    answer = await held.post(path, body, headers=KEY)

    assert answer.status == 200
    assert len(painter(held).requests) == 1
    assert len(set(frail(held).puts)) == count
    assert all(f"/image/{key}" in answer.text for key in frail(held).puts)
    notes = answer.json["gateway"]["receipt"]["notes"]
    assert [note for note in notes if "not stored" in note] == []
    assert "stored later" in notes[-1]


async def test_whoever_takes_bytes_gets_them_at_once(held: Gateway) -> None:
    """The link comes later all the same, for `/v1/pictures` and the job."""
    answer = await held.post(PATH, DRAW, headers=KEY)

    assert base64.b64decode(answer.json["data"][0]["b64_json"]) == PICTURE
    assert "not stored: the store is down" in answer.json["gateway"]["receipt"]["notes"][-1]
    await back(held)
    again = await held.post(PATH, DRAW, headers=KEY)
    assert again.json["data"] == answer.json["data"]
    assert len((await held.get("/v1/pictures")).json["data"]) == 1
    assert len(painter(held).requests) == 1


async def test_a_chat_stream_tells_it_and_gives_the_link_later(held: Gateway) -> None:
    """In the first stream by an event; a repeated call is refused by its status, and answered once it can be."""
    body = {**CHAT, "stream": True}
    painter(held).free.clear()
    first = asyncio.create_task(held.post("/v1/chat/completions", body, headers=KEY))
    await until(lambda: painter(held).requests)
    await asyncio.sleep(0.05)
    painter(held).free.set()
    told = [chunk["error"]["code"] for chunk in (await first).chunks() if chunk != "[DONE]" and "error" in chunk]

    assert told in (["image_not_stored"], [])
    assert not_stored(await held.post("/v1/chat/completions", body, headers=KEY))
    await back(held)
    again = await held.post("/v1/chat/completions", body, headers=KEY)
    assert f"/image/{frail(held).puts[0]}" in again.content()


async def test_a_client_that_repeats_in_silence_pays_once(held: Gateway) -> None:
    """Vercel's AI SDK repeats the 503 twice by itself, without a key; what it meant is made once."""
    body = {**DRAW, "response_format": "url"}
    silent = {"User-Agent": "ai/7.0.173 ai-sdk-provider-utils/5.0.81 node.js/v20.20.2"}
    for _ in range(3):
        assert not_stored(await held.post(PATH, body, headers=silent))

    assert len(painter(held).requests) == 1


async def test_one_of_several_that_waits_holds_up_no_other(held: Gateway) -> None:
    """Links of those that are stored are given; the rest follows."""
    storage = frail(held)
    storage.trouble = None
    put = storage.put

    async def second_down(meta: PictureMeta, data: bytes) -> PictureMeta:
        if len(storage.puts) == 1:
            storage.puts.append(meta.key)
            raise StorageFullError("full for a moment")
        return await put(meta, data)

    storage.put = second_down  # type: ignore[method-assign]  # a trouble of this test alone
    held.runtime.late.pauses = (0.3,)
    body = {**DRAW, "response_format": "url", "n": 3}
    now = await held.post(PATH, body, headers=KEY)
    assert len(now.json["data"]) == 2
    await back(held, 3)
    later = await held.post(PATH, body, headers=KEY)

    assert len(later.json["data"]) == 3
    assert {each["url"] for each in now.json["data"]} < {each["url"] for each in later.json["data"]}


async def test_what_never_fits_stays_an_error(held: Gateway) -> None:
    """A picture larger than the storage takes is no matter of time: a link is a 413, and nobody tries again."""
    frail(held).trouble = PictureTooLargeError("too large for this storage")
    answers = [await held.post(PATH, {**DRAW, "response_format": "url"}, headers=KEY) for _ in range(2)]
    await asyncio.sleep(0.1)

    assert {(answer.status, answer.error["code"]) for answer in answers} == {(413, "picture_too_large")}
    assert len(frail(held).puts) == 1
    assert len(painter(held).requests) == 1


async def test_every_job_gets_its_turn_when_the_storage_is_back(held: Gateway) -> None:
    """Many jobs wait for one storage; while it is down it is asked for all of them together, not for each."""
    for number in range(20):
        assert not_stored(await held.post(PATH, {**DRAW, "prompt": f"cat {number}", "response_format": "url"}))
    held.runtime.late.pauses = (0.2,)
    await asyncio.sleep(0.05)
    before = len(frail(held).puts)
    await asyncio.sleep(0.5)
    assert len(frail(held).puts) - before <= 4
    await back(held, 20)

    jobs = (await held.get("/v1/jobs?limit=100")).json["data"]
    assert all(job["result"]["data"][0]["url"] for job in jobs)


@pytest.mark.parametrize("held", ["memory"], indirect=True)
async def test_a_picture_that_lost_its_memory_is_told_to_be_lost(held: Gateway) -> None:
    """Bounded memory: what had to go is a 410, not a promise."""
    body = {**DRAW, "response_format": "url"}
    assert not_stored(await held.post(PATH, body, headers=KEY))
    (job,) = jobs_of(held)
    job.forget_bytes(all_of_them=True)
    answer = await held.post(PATH, body, headers=KEY)

    assert UNSTORED < 2**30
    assert (answer.status, answer.error["code"]) == (410, "image_not_stored")
    assert answer.headers["x-should-retry"] == "false"
    (shown,) = (await held.get(f"/v1/jobs/{job.id}")).json["result"]["data"]
    assert (shown["url"], shown["expired"]) == (None, True)
    frail(held).trouble = None
    await asyncio.sleep(0.1)
    assert not frail(held).inner._entries


async def test_a_stop_tries_a_last_time(held: Gateway) -> None:
    """The storage comes back just before the end; the next try would have been an hour away."""
    held.runtime.late.pauses = (3600.0,)
    assert not_stored(await held.post(PATH, {**DRAW, "response_format": "url"}))
    frail(held).trouble = None
    storage = frail(held)
    await held.server.close()

    assert list(storage.inner._entries) == storage.puts[:1]


async def test_a_stop_does_not_wait_for_a_storage_that_hangs(held: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """What is lost, or where it lies, is told to the owner of the gateway."""
    held.runtime.late.pauses = (3600.0,)
    for number in range(2):
        assert not_stored(await held.post(PATH, {**DRAW, "n": number + 1, "response_format": "url"}))
    frail(held).trouble = None
    frail(held).hold = hold = asyncio.Event()
    spool = held.runtime.late.spool
    await held.runtime.late.close(0.05)
    hold.set()

    if spool:
        assert "are lost" not in caplog.text
        assert f"3 pictures that were paid for wait for their storage in {spool.root}" in caplog.text
        assert len(list(spool.root.rglob("*.meta"))) == 3
    else:
        assert "3 pictures that were paid for are lost" in caplog.text


async def test_deleted_while_it_is_stored_it_stays_deleted(held: Gateway) -> None:
    """Its owner sees it in the list before the gateway knows that it is stored, and deletes it."""
    body = {**DRAW, "response_format": "url"}
    assert not_stored(await held.post(PATH, body, headers=KEY))
    frail(held).hold = hold = asyncio.Event()
    await back(held)
    (seen,) = (await held.get("/v1/pictures")).json["data"]
    assert (await held.ask("DELETE", f"/v1/pictures/{seen['id']}")).status == 200
    hold.set()
    await asyncio.sleep(0.05)

    assert not frail(held).inner._entries
    assert (await held.post(PATH, body, headers=KEY)).status == 410


async def test_waiting_pictures_are_their_callers_own(held: Gateway) -> None:
    """No other caller sees the bytes that wait."""
    identity = (await held.post(PATH, DRAW, headers={"Prefer": "respond-async"})).json["id"]
    await finished(held, identity)

    assert (await held.get(f"/v1/jobs/{identity}", headers=other())).status == 404


async def test_after_a_restart_the_link_that_came_late_is_known(
    aiohttp_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's record is written again once its picture has a link, and once it is deleted."""
    monkeypatch.setattr("gateway.storing.STORE_TRIES", (0.0,))
    yaml = holding("jobs: {state: jobs.db}\n", storages=FRAIL)
    monkeypatch.chdir(tmp_path)
    body = {**DRAW, "response_format": "url"}
    first = await start(aiohttp_server, yaml, tmp_path, types=TYPES)
    first.runtime.late.pauses = (0.01,)
    painter(first).free.set()
    frail(first).trouble = StorageDownError("the store is down")
    assert not_stored(await first.post(PATH, body, headers=KEY))
    await back(first)
    url = (await first.post(PATH, body, headers=KEY)).json["data"][0]["url"]
    await first.server.close()
    second = await start(aiohttp_server, yaml, tmp_path, types=TYPES)
    answer = await second.post(PATH, body, headers=KEY)

    assert answer.status == 200, answer.text
    assert answer.json["data"][0]["url"].rsplit("/", 1)[1] == url.rsplit("/", 1)[1]


async def test_a_real_store_that_dies_and_comes_back(aiohttp_server: Any, tmp_path: Path) -> None:
    """Valkey is killed and started again: the tries end within seconds, and the link comes by itself."""
    server = Valkey(tmp_path).start()  # type: ignore[no-untyped-call]  # a test's own server
    try:
        storages = f"storages: {{pictures: {{use: redis, url: '{server.url}', ttl: 600}}}}\n"
        gateway = await start(aiohttp_server, holding(storages=storages), tmp_path, types=HELD)
        gateway.runtime.late.pauses = (0.05,)
        painter(gateway).free.set()
        body = {**DRAW, "response_format": "url"}
        assert (await gateway.post(PATH, body)).status == 200
        server.kill()
        begun = time.monotonic()
        answer = await gateway.post(PATH, body, headers=KEY)
        took = time.monotonic() - begun
        inline = await gateway.post(PATH, DRAW)
        server.start()
        await until(lambda: all(not picture.waits for job in jobs_of(gateway) for picture in job.result.pictures))
        again = await gateway.post(PATH, body, headers=KEY)

        assert (answer.status, answer.error["code"]) == (503, "image_not_stored")
        assert took < 7
        assert base64.b64decode(inline.json["data"][0]["b64_json"]) == PICTURE
        assert (await gateway.get(again.json["data"][0]["url"].removeprefix(gateway.base))).body == PICTURE
        assert len(painter(gateway).requests) == 3
    finally:
        server.kill()


async def test_bytes_come_from_whichever_storage_has_them(aiohttp_server: Any, tmp_path: Path) -> None:
    """A storage in trouble hides no picture that another one has from whoever claims its job again."""
    storages = "storages: {frail: {use: frail}, pictures: {use: memory, ttl: 600}}\n"
    config = holding(storages=storages, model=", storage: pictures")
    gateway = await start(aiohttp_server, config, tmp_path, types=TYPES)
    painter(gateway).free.set()
    cast("Frail", gateway.runtime.storages["frail"]).trouble = StorageDownError("the store is down")

    answers = [await gateway.post(PATH, DRAW, headers=KEY) for _ in range(2)]

    assert [base64.b64decode(answer.json["data"][0]["b64_json"]) for answer in answers] == [PICTURE] * 2
