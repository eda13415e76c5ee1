"""A gateway that is killed and started again: what was finished is answered, and never paid for again."""

from __future__ import annotations

import asyncio
import base64
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fake_upstream import FakeUpstream
from tests.gateways import drawing_by
from tests.painters import until
from tests.plugins.storages.servers import Valkey
from tests.presets.process import Process, killed, serve_file

DRAW = {"prompt": "a cat", "model": "flux"}
CHAT = {"model": "flux", "messages": [{"role": "user", "content": "a cat"}]}
KEY = {"Idempotency-Key": "order-66"}
CALLS: dict[str, Any] = {
    "/v1/images/generations": DRAW,
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"model": "flux", "input": "a cat", "tools": [{"type": "image_generation"}]},
}


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Valkey of our own."""
    server = Valkey(tmp_path_factory.mktemp("valkey")).start()  # type: ignore[no-untyped-call]  # a test's own server
    yield server
    server.kill()


@pytest.fixture
async def serve(tmp_path: Path) -> Any:
    """Start the real command again and again, in one folder."""
    started: list[Process] = []

    def serve(yaml: str) -> Process:
        started.append(serve_file(tmp_path, yaml))
        return started[-1]

    yield serve
    for process in started:
        killed(process)


def yaml_of(fake: FakeUpstream, state: str) -> str:
    base = drawing_by(fake.base, f"jobs: {{state: '{state}'}}\nserver: {{public_url: 'https://pictures.example'}}\n")
    return base.replace("{use: memory, ttl: 600}", "{use: disk, root: pictures, ttl: 1h}")


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("state", ["file", "valkey"])
async def test_killed_and_started_again_it_answers_as_before(
    serve: Callable[[str], Process], fake: FakeUpstream, state: str, path: str, request: pytest.FixtureRequest
) -> None:
    """Killed the moment the answer is here: the same key gets the same bytes, the job its result, and one was paid."""
    place = "state.db" if state == "file" else request.getfixturevalue("valkey").url
    yaml = yaml_of(fake, place)
    fake.calls.clear()
    first = await asyncio.to_thread(serve, yaml)
    before = await first.ask("POST", path, json=CALLS[path], headers={"Idempotency-Key": f"order{path}"})
    killed(first)
    second = await asyncio.to_thread(serve, yaml)
    after = await second.ask("POST", path, json=CALLS[path], headers={"Idempotency-Key": f"order{path}"})
    listed = (await second.get("/v1/jobs")).json["data"][0]
    events = await second.get(f"/v1/jobs/{listed['id']}/events")

    assert before.status == 200, before.text
    assert after.body == before.body
    assert len(fake.paid()) == 1
    assert listed["status"] == "completed"
    assert events.text.rstrip().count("event: finished") == 1
    picture = listed["result"]["data"][0]["url"].removeprefix("https://pictures.example")
    assert (await second.get(picture)).status == 200


async def test_a_failure_that_may_be_billed_stays_one_after_a_restart(
    serve: Callable[[str], Process], fake: FakeUpstream
) -> None:
    """The key gets the same error with the same status, and nothing is paid for again."""
    fake.mode = "cut"
    yaml = yaml_of(fake, "state.db")
    first = await asyncio.to_thread(serve, yaml)
    before = await first.ask("POST", "/v1/images/generations", json=DRAW, headers=KEY)
    killed(first)
    fake.mode = "ok"
    second = await asyncio.to_thread(serve, yaml)
    after = await second.ask("POST", "/v1/images/generations", json=DRAW, headers=KEY)

    assert (before.status, after.status) == (502, 502)
    assert after.error["code"] == before.error["code"]
    assert after.headers["x-should-retry"] == "false"
    assert len(fake.paid()) == 1


async def test_stopped_in_the_middle_it_loses_no_paid_picture(
    serve: Callable[[str], Process], fake: FakeUpstream
) -> None:
    """SIGTERM while the upstream works: the caller gets its picture, and after the restart its key still answers."""
    fake.mode = "slow:0.7"
    yaml = yaml_of(fake, "state.db")
    first = await asyncio.to_thread(serve, yaml)
    asking = asyncio.create_task(first.ask("POST", "/v1/images/generations", json=DRAW, headers=KEY))
    await until(fake.paid)
    first.popen.send_signal(signal.SIGTERM)
    before = await asking
    code = await asyncio.to_thread(first.popen.wait, 20)
    second = await asyncio.to_thread(serve, yaml)
    after = await second.ask("POST", "/v1/images/generations", json=DRAW, headers=KEY)

    assert (before.status, code) == (200, 0)
    assert base64.b64decode(before.json["data"][0]["b64_json"]) == fake.picture
    assert after.body == before.body
    assert len(fake.paid()) == 1


async def test_killed_while_the_upstream_works_it_does_not_pay_again(
    serve: Callable[[str], Process], fake: FakeUpstream
) -> None:
    """Nobody knows whether the picture came about: the key says so, a new key draws."""
    fake.mode = "slow:5"
    yaml = yaml_of(fake, "state.db")
    first = await asyncio.to_thread(serve, yaml)
    asking = asyncio.create_task(first.ask("POST", "/v1/images/generations", json=DRAW, headers=KEY))
    await until(fake.paid)
    await asyncio.sleep(0.1)
    killed(first)
    with pytest.raises(aiohttp.ClientError):
        await asking
    fake.mode = "ok"
    second = await asyncio.to_thread(serve, yaml)
    again = await second.ask("POST", "/v1/images/generations", json=DRAW, headers=KEY)
    sdk = await second.ask("POST", "/v1/images/generations", json=DRAW, headers={"x-stainless-retry-count": "1"})
    listed = (await second.get("/v1/jobs")).json["data"][0]
    events = await second.get(f"/v1/jobs/{listed['id']}/events")
    paid = len(fake.paid())
    other = await second.ask("POST", "/v1/images/generations", json=DRAW, headers={"Idempotency-Key": "new"})

    assert (again.status, again.error["code"], again.headers["x-should-retry"]) == (500, "interrupted", "false")
    assert sdk.status == 500
    assert (listed["status"], listed["error"]["code"]) == ("failed", "interrupted")
    assert events.text.count("event: failed") == 1
    assert (paid, other.status) == (1, 200)
