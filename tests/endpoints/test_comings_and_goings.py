"""Clients that come and go by the thousand, at every call that takes a job: nothing of them stays."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fake_upstream import FakeUpstream, png
from tests.gateways import Gateway, start
from tests.painters import HELD, holding, later, painter, until
from tests.test_memory import statm

PICTURE = "data:image/png;base64," + base64.b64encode(png(64, 64)).decode()
SAY = {"model": "held", "messages": [{"role": "user", "content": "a cat"}]}
DRAW = {"model": "held", "prompt": "a cat"}
TOOL = {"model": "held", "input": "a cat", "tools": [{"type": "image_generation"}]}
EDIT = {**DRAW, "image": PICTURE}
PARTIALS = {"stream": True, "partial_images": 2}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", SAY),
    "chat stream": ("/v1/chat/completions", {**SAY, "stream": True}),
    "images": ("/v1/images/generations", DRAW),
    "images stream": ("/v1/images/generations", {**DRAW, **PARTIALS}),
    "edits": ("/v1/images/edits", EDIT),
    "edits stream": ("/v1/images/edits", {**EDIT, **PARTIALS}),
    "variations": ("/v1/images/variations", EDIT),
    "responses": ("/v1/responses", TOOL),
    "responses stream": ("/v1/responses", {**TOOL, "stream": True}),
    "async": ("/v1/images/generations", {**DRAW, "async": True}),
}


@pytest.fixture
async def gateway(aiohttp_server: Any, tmp_path: Path) -> Gateway:
    """A gateway with eight places, whose pictures take 20 ms and whose waiting calls are kept alive after 5."""
    more = "jobs: {running: 8, waiting: 100, per_backend: {painter: 6}, keep_alive: 5ms}\nchat: {ping: 50ms}\n"
    return await start(aiohttp_server, holding(more, options=", delay: 20ms"), tmp_path, types=HELD)


@pytest.fixture
async def complaints(caplog: pytest.LogCaptureFixture) -> AsyncIterator[list[str]]:
    """What the loop and the libraries complain of while the test runs, garbage included; there must be nothing."""
    said: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: said.append(f"{context.get('message')} {context.get('exception')!r}"))
    yield said
    gc.collect()
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    heard = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    # In a process that has run thousands of tests collecting its garbage just now may hold up the loop by itself.
    said += [line for line in heard if "complaints (" not in line]
    assert said == []


def request(gateway: Gateway, path: str, body: dict[str, Any] | None = None) -> bytes:
    content = json.dumps(body).encode() if body is not None else b""
    head = f"{'POST' if content else 'GET'} {path} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {gateway.key}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content


async def come_and_go(gateway: Gateway, sent: bytes, number: int) -> None:
    """Connect, send all or a part, wait for some of the answer or none, and leave politely or not."""
    with suppress(ConnectionError):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(sent[: len(sent) // 2] if number % 7 == 0 else sent)
        for _ in range(number % 13):
            await asyncio.sleep(0)
        with suppress(TimeoutError):
            async with asyncio.timeout(number % 5 / 100):
                await reader.read(1 + number % 3 * 1000)
        if number % 2:
            writer.transport.abort()
        else:
            writer.close()


async def rounds(gateway: Gateway, calls: list[bytes], count: int) -> None:
    """Have *count* clients come and go, fifty at a time."""
    crowd = asyncio.Semaphore(50)

    async def one(number: int) -> None:
        async with crowd:
            await come_and_go(gateway, calls[number % len(calls)], number)

    await asyncio.gather(*(one(number) for number in range(count)))
    await until(lambda: gateway.runtime.jobs.counts == {"running": 0, "waiting": 0})
    await until(lambda: not gateway.server.runner.server or not gateway.server.runner.server.connections)


def tasks() -> int:
    """Count the tasks but for the two that tell waiting clients their places: these end a second after the last."""
    return sum("_tick" not in repr(task.get_coro()) for task in asyncio.all_tasks())


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_a_thousand_who_come_and_go_leave_nothing(gateway: Gateway, complaints: list[str]) -> None:
    """At every endpoint, before, within and after the request: no task, file, reader, place or memory more than before,
    nothing destroyed while it waited, no exception that nobody fetched; every call that was sent has its picture."""
    identity = await later(gateway)
    calls = [request(gateway, *call) for call in CALLS.values()]
    calls += [request(gateway, f"/v1/jobs/{identity}/events"), request(gateway, f"/v1/jobs/{identity}")]
    await gateway.session.close()
    gateway.sessions.clear()
    await rounds(gateway, calls, 300)
    gc.collect()
    working, files, resident = tasks(), open_files(), statm()[1]
    began = asyncio.get_running_loop().time()
    await rounds(gateway, calls, 1000)
    took = asyncio.get_running_loop().time() - began
    gc.collect()
    jobs = list(gateway.runtime.jobs._jobs.values())
    finished = [job for job in jobs if job.state == "finished"]

    assert tasks() <= working
    assert open_files() <= files
    assert statm()[1] - resident < 40 * 2**20
    assert took < 20
    assert all(job.done and not job.readers and not job.watched for job in jobs)
    assert {job.state for job in jobs} == {"finished", "cancelled"}
    assert len(finished) == len(painter(gateway).requests)


@pytest.mark.parametrize("name", CALLS)
async def test_a_client_that_leaves_after_any_turn_of_the_loop(
    gateway: Gateway, complaints: list[str], name: str
) -> None:
    """k = 0, 3, 6 …: the job is cancelled and unpaid, or finished and kept; connection and place are free at once, and
    the call repeated with its key is answered in full."""
    path, body = CALLS[name]
    loop, freed = asyncio.get_running_loop(), list[float]()
    server = gateway.server.runner.server
    assert server is not None
    for number in range(0, 60, 3):
        before = len(painter(gateway).requests)
        key = f"key-{number}"
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        sent = request(gateway, path, body).replace(
            b"Host: here\r\n", f"Host: x\r\nIdempotency-Key: {key}\r\n".encode()
        )
        writer.write(sent)
        for _ in range(number):
            await asyncio.sleep(0)
        writer.transport.abort()
        began, others = loop.time(), number > 0  # one connection is kept for the calls that are repeated
        await until(lambda others=others: len(server.connections) <= others)
        freed.append(loop.time() - began)
        await until(lambda: gateway.runtime.jobs.counts == {"running": 0, "waiting": 0})
        answer = await gateway.post(path, body, headers={"Idempotency-Key": key})
        again = await gateway.post(path, body, headers={"Idempotency-Key": key})
        await until(lambda: gateway.runtime.jobs.counts == {"running": 0, "waiting": 0})

        assert answer.status == again.status in {200, 202}
        assert '"error":{' not in answer.text
        assert body.get("stream") or body.get("async") or answer.body.strip() == again.body.strip()
        assert len(painter(gateway).requests) == before + 1
    assert sorted(freed)[len(freed) // 2] < 0.1
    assert len((await gateway.get("/v1/pictures?limit=100")).json["data"]) == len(painter(gateway).requests)


@pytest.mark.parametrize("name", CALLS)
async def test_one_key_is_one_job_whatever_comes_at_once(gateway: Gateway, name: str) -> None:
    """Five calls side by side with one key: one picture for all; with other words it is a 409 that draws nothing."""
    path, body = CALLS[name]
    key = {"Idempotency-Key": "the-key"}
    answers = await asyncio.gather(*(gateway.post(path, body, headers=key) for _ in range(5)))
    other = json.loads(json.dumps(body).replace("a cat", "a dog"))
    refused = await gateway.post(path, other, headers=key)
    await until(lambda: gateway.runtime.jobs.counts == {"running": 0, "waiting": 0})

    assert {answer.status for answer in answers} <= {200, 202}
    assert not any('"error":{' in answer.text for answer in answers)
    assert (refused.status, refused.error["code"]) == (409, "idempotency_conflict")
    assert len(painter(gateway).requests) == 1


def parts(**picture: Any) -> list[dict[str, Any]]:
    """Give a message of words and a picture."""
    kinds = ("input_text", "input_image") if isinstance(picture["image_url"], str) else ("text", "image_url")
    return [{"role": "user", "content": [{"type": kinds[0], "text": "a cat"}, {"type": kinds[1], **picture}]}]


LINKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": parts(image_url={"url": "LINK"})}),
    "edits": ("/v1/images/edits", {"prompt": "a cat", "image": "LINK"}),
    "variations": ("/v1/images/variations", {"image": "LINK"}),
    "responses": ("/v1/responses", {"tools": TOOL["tools"], "input": parts(image_url="LINK")}),
}


@pytest.fixture
async def changing(aiohttp_server: Any, tmp_path: Path, fake: FakeUpstream) -> Gateway:
    """A gateway that waits for the test, and may fetch pictures from the imitated upstream."""
    more = f"fetch: {{allow: ['{fake.base.removeprefix('http://')}']}}\njobs: {{running: 1}}\n"
    return await start(aiohttp_server, holding(more), tmp_path, types=HELD)


def linked(name: str, link: str) -> tuple[str, dict[str, Any]]:
    path, body = LINKED[name]
    return path, {"model": "held", **json.loads(json.dumps(body).replace("LINK", link))}


@pytest.mark.parametrize("name", LINKED)
async def test_a_repeated_call_needs_its_pictures_no_more(changing: Gateway, fake: FakeUpstream, name: str) -> None:
    """The link may be dead by then: what was paid for is answered, and an explanation is still one."""
    path, body = linked(name, fake.file_url())
    painter(changing).free.set()
    key = {"Idempotency-Key": "once"}
    first = await changing.post(path, body, headers=key)
    explained = await changing.post(path + "?explain=true", body, headers=key)
    fake.mode = "status:404"
    again = await changing.post(path, body, headers=key)

    assert (first.status, again.status) == (200, 200), again.text
    assert first.body == again.body
    assert explained.json["object"] == "explanation"
    assert len(painter(changing).requests) == 1


@pytest.mark.parametrize("name", LINKED)
async def test_who_claims_a_job_to_come_back_for_it_keeps_it(changing: Gateway, fake: FakeUpstream, name: str) -> None:
    """The first caller leaves while the job still waits in line; the second was promised it with a 202, and calls back
    are taken from the second, too."""
    path, body = linked(name, fake.file_url())
    await later(changing)
    key = {"Idempotency-Key": "ours"}
    first = asyncio.create_task(changing.post(path, body, headers=key))
    await until(lambda: changing.runtime.jobs.counts["waiting"])
    second = await changing.post(path, body, headers={**key, "Prefer": "respond-async"})
    wrong = await changing.post(path, {**body, "async": True, "webhook": "http://127.0.0.1:1/"}, headers=key)
    first.cancel()
    job = list(changing.runtime.jobs._jobs.values())[1]
    await until(lambda: not job.readers)
    painter(changing).free.set()
    await until(lambda: job.done)

    assert (second.status, second.json["id"]) == (202, job.id)
    assert (wrong.status, wrong.error["param"]) == (400, "webhook")
    assert job.state == "finished"
