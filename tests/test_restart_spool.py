"""Killed while the storage is out: what was paid for lies in the spool, and its link works after the next start."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fake_upstream import FakeUpstream
from tests.gateways import Answered, drawing_by
from tests.plugins.storages.servers import Seaweed
from tests.presets.process import Process
from tests.test_restart import KEY, killed, serve

__all__ = ["serve"]

PATH = "/v1/images/generations"
URL = {"prompt": "a cat", "model": "flux", "response_format": "url"}
Serve = Callable[[str], Process]


@dataclass
class Bucket:
    """SeaweedFS that is killed and comes back."""

    server: Any

    @property
    def yaml(self) -> str:
        keys = f"access_key: {self.server.access_key}, secret_key: {self.server.secret_key}"
        return f"{{use: s3, endpoint: '{self.server.endpoint}', bucket: images, {keys}, ttl: 1h}}"

    def fail(self) -> None:
        self.server.kill()

    def come_back(self) -> None:
        self.server.start()


@dataclass
class Folder:
    """A directory whose disk is taken out and put back."""

    root: Path

    yaml = "{use: disk, root: pictures, ttl: 1h}"

    def fail(self) -> None:
        self.root.rename(self.root.with_name("away"))

    def come_back(self) -> None:
        if self.root.exists():
            self.root.rmdir()
        self.root.with_name("away").rename(self.root)


@pytest.fixture(params=["s3", "disk"])
def medium(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bucket | Folder]:
    """A storage that can fail."""
    if request.param == "disk":
        yield Folder(tmp_path / "pictures")
        return
    folder = tmp_path / "weed"
    folder.mkdir()
    bucket = Bucket(Seaweed(folder).start())  # type: ignore[no-untyped-call]  # a test's own server
    yield bucket
    bucket.server.kill()


def yaml_of(fake: FakeUpstream, medium: Bucket | Folder, jobs: str) -> str:
    return drawing_by(fake.base, f"jobs: {jobs}\n").replace("{use: memory, ttl: 600}", medium.yaml)


async def eventually(ask: Callable[[], Awaitable[Answered]], good: Callable[[Answered], bool]) -> Any:
    """Ask until the answer is *good*, for it depends on a storage that is coming back; give its JSON."""
    async with asyncio.timeout(60):
        while not good(answer := await ask()):  # noqa: ASYNC110  - it stands for events of the world outside
            await asyncio.sleep(0.2)
    return answer.json


async def link(process: Process) -> str:
    """Ask with the same key until there is a link; give its path."""
    ask = partial(process.ask, "POST", PATH, json=URL, headers=KEY)
    answer = await eventually(ask, lambda answer: answer.status != 503)
    return str(answer["data"][0]["url"]).removeprefix(process.base)


async def pictures(process: Process, count: int) -> list[bytes]:
    """Wait until the list has *count* pictures; give their bytes."""
    listed = partial(process.get, "/v1/pictures")
    seen = await eventually(listed, lambda answer: answer.status == 200 and len(answer.json["data"]) == count)
    return [(await process.get(f"/image/{each['id']}")).body for each in seen["data"]]


async def test_killed_during_the_outage_the_link_opens_after_the_next_start(
    serve: Serve, fake: FakeUpstream, medium: Bucket | Folder, tmp_path: Path
) -> None:
    """kill -9 the moment the 503 is here: the job keeps its picture, and the upstream was paid for one."""
    yaml = yaml_of(fake, medium, "{state: jobs.db}")
    first = await asyncio.to_thread(serve, yaml)
    medium.fail()
    answer = await first.ask("POST", PATH, json=URL, headers=KEY)
    killed(first)
    assert (answer.status, answer.error["code"]) == (503, "image_not_stored")
    (spooled,) = (tmp_path / ".image-gateway" / "spool").rglob("*.meta")
    medium.come_back()
    second = await asyncio.to_thread(serve, yaml)
    path = await link(second)
    picture = await second.get(path)

    assert hashlib.sha256(picture.body).digest() == hashlib.sha256(fake.picture).digest()
    assert f"/image/{spooled.stem}" in path
    assert len(fake.paid()) == 1
    assert second.stop().count("they are stored now") == 1
    assert not list((tmp_path / ".image-gateway" / "spool").iterdir())


async def test_stopped_during_the_outage_it_says_where_the_picture_lies(
    serve: Serve, fake: FakeUpstream, medium: Bucket | Folder, tmp_path: Path
) -> None:
    """SIGTERM, and its last tries fail; started again without the job's record, the owner finds the picture."""
    yaml = yaml_of(fake, medium, "{keep: 1h}") + "server: {shutdown_timeout: 1s}\n"
    first = await asyncio.to_thread(serve, yaml)
    medium.fail()
    assert (await first.ask("POST", PATH, json=URL)).status == 503
    said = await asyncio.to_thread(first.stop)
    medium.come_back()
    second = await asyncio.to_thread(serve, yaml)
    bodies = await pictures(second, 1)

    assert "lost" not in said
    assert f"1 pictures that were paid for wait for their storage in {tmp_path}/.image-gateway/spool" in said
    assert bodies == [fake.picture]
    assert len(fake.paid()) == 1


async def test_without_a_spool_the_picture_is_lost(serve: Serve, fake: FakeUpstream, tmp_path: Path) -> None:
    """Off by the YAML: the stop says so, and the next start answers a 410."""
    medium = Folder(tmp_path / "pictures")
    yaml = yaml_of(fake, medium, "{spool: null, state: jobs.db}") + "server: {shutdown_timeout: 1s}\n"
    first = await asyncio.to_thread(serve, yaml)
    medium.fail()
    assert (await first.ask("POST", PATH, json=URL, headers=KEY)).status == 503
    said = await asyncio.to_thread(first.stop)
    second = await asyncio.to_thread(serve, yaml)
    answer = await second.ask("POST", PATH, json=URL, headers=KEY)

    assert "1 pictures that were paid for are lost" in said
    assert (answer.status, answer.error["code"]) == (410, "image_not_stored")
    assert not (tmp_path / ".image-gateway").exists()


async def test_two_gateways_share_a_spool_and_store_each_picture_once(
    serve: Serve, fake: FakeUpstream, tmp_path: Path
) -> None:
    """Both draw while the storage is out, one is killed: each keeps to its own, and the next start takes the rest."""
    medium = Folder(tmp_path / "pictures")
    yaml = yaml_of(fake, medium, "{keep: 1h}")
    one, two = [await asyncio.to_thread(serve, yaml) for _ in range(2)]
    medium.fail()
    assert {(await each.ask("POST", PATH, json=URL)).status for each in (one, two)} == {503}
    killed(one)
    medium.come_back()
    three = await asyncio.to_thread(serve, yaml)
    bodies = await pictures(three, 2)

    assert bodies == [fake.picture] * 2
    assert len(fake.paid()) == 2
    assert three.stop().count("1 pictures that were paid for were left") == 1
    assert "are stored now" not in two.stderr.read_text().replace("its pictures are stored now", "")
