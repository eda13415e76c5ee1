"""Readers that stop reading: cut off in time, at little memory each, and at no cost for the job."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from gateway.values import Image
from tests.fake_upstream import FakeUpstream, png
from tests.gateways import STORAGES, Gateway, drawing_by, start
from tests.painters import DRAW, HELD, PICTURE, holding, later, painter, until

LINK = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
PREVIEWS = [Image(png(64, 64, 2_000_000)) for _ in range(3)]
IMAGES = {**DRAW, "stream": True, "partial_images": 3}
TOOL = {"type": "image_generation", "partial_images": 3}
STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "images": ("/v1/images/generations", IMAGES),
    "edits": ("/v1/images/edits", {**IMAGES, "image": LINK}),
    "variations": ("/v1/images/variations", {**IMAGES, "image": LINK}),
    "responses": ("/v1/responses", {"model": "held", "input": "a cat", "tools": [TOOL], "stream": True}),
    "chat": (
        "/v1/chat/completions",
        {"model": "held", "messages": [{"role": "user", "content": "🦊" * 7_000}], "stream": True},
    ),
}


async def stalled(
    gateway: Gateway, method: str, path: str, body: Any = None, *, room: int = 4096, **headers: str
) -> socket.socket:
    """Send a request on a socket of little *room*, and read nothing of its answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", gateway.port))
    content = json.dumps(body).encode() if body is not None else b""
    headers |= {"Host": "here", "Authorization": f"Bearer {gateway.key}", "Content-Length": str(len(content))}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    await loop.sock_sendall(client, head.encode() + b"\r\n" + content)
    return client


def dechunked(answer: bytes) -> bytes:
    """Join the body of a chunked answer; it must have ended as it should."""
    rest, body = answer.partition(b"\r\n\r\n")[2], bytearray()
    while size := int(rest[: rest.index(b"\r\n")], 16):
        start = rest.index(b"\r\n") + 2
        body += rest[start : start + size]
        rest = rest[start + size + 2 :]
    assert rest == b"0\r\n\r\n"
    return bytes(body)


def buffers(gateway: Gateway) -> list[int]:
    """Give the bytes that wait in each connection of the gateway."""
    server = gateway.server.runner.server
    assert server is not None
    return [each.transport.get_write_buffer_size() for each in server.connections if each.transport]


@pytest.fixture
async def gateway(aiohttp_server: Any, tmp_path: Path) -> Gateway:
    """A gateway that waits half a second for readers, and shows three previews of 2 MB."""
    held = await start(
        aiohttp_server, holding("server: {send_timeout: 500ms}\nchat: {ping: 100ms}\n"), tmp_path, types=HELD
    )
    painter(held).previews = list(PREVIEWS)
    return held


@pytest.mark.parametrize("name", [*STREAMS, "events"])
async def test_a_stream_that_nobody_reads_is_cut_and_the_job_goes_on(gateway: Gateway, name: str) -> None:
    """After *send_timeout* the connection is gone, with less than 256 KiB held meanwhile; the paid picture is kept."""
    if name == "events":
        identity = await later(gateway, partial_images=3)
        client = await stalled(gateway, "GET", f"/v1/jobs/{identity}/events")
        (job,) = gateway.runtime.jobs._jobs.values()
    else:
        client = await stalled(gateway, "POST", *STREAMS[name])
        await until(lambda: gateway.runtime.jobs._jobs)
        (job,) = gateway.runtime.jobs._jobs.values()
    await until(lambda: job.readers)
    if name == "chat":
        painter(gateway).free.set()
    largest = 0

    def left() -> bool:
        nonlocal largest
        largest = max(largest, *buffers(gateway), 0)
        return not job.readers

    await until(left)
    assert largest < 256 * 2**10
    assert name == "chat" or not job.done
    painter(gateway).free.set()
    await until(lambda: job.state == "finished")
    assert len((await gateway.get("/v1/pictures")).json["data"]) == 1
    client.close()


async def test_forty_readers_of_one_job_hold_little_each(aiohttp_server: Any, tmp_path: Path) -> None:
    """Each would hold an event of 2.7 MB as text; none holds more than 256 KiB of it."""
    gateway = await start(aiohttp_server, holding("server: {send_timeout: 60s}\n"), tmp_path, types=HELD)
    painter(gateway).previews = list(PREVIEWS)
    clients = [await stalled(gateway, "POST", *STREAMS["images"], **{"Idempotency-Key": "one"})]
    await until(lambda: sum(buffers(gateway)) > 0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    clients += [await stalled(gateway, "POST", *STREAMS["images"], **{"Idempotency-Key": "one"}) for _ in range(40)]
    (job,) = gateway.runtime.jobs._jobs.values()
    await until(lambda: job.readers == 41 and sum(size > 0 for size in buffers(gateway)) == 41)
    each = (tracemalloc.get_traced_memory()[0] - before) / 40
    tracemalloc.stop()
    for client in clients:
        client.close()

    assert each < 256 * 2**10
    await until(lambda: not job.readers)


async def test_who_reads_slowly_is_not_cut(aiohttp_server: Any, tmp_path: Path) -> None:
    """A reader on a poor line needs longer than *send_timeout* for an event, and gets all whole, no ping within."""
    more = "server: {send_timeout: 1s}\nchat: {ping: 50ms}\n"
    gateway = await start(aiohttp_server, holding(more), tmp_path, types=HELD)
    painter(gateway).previews = list(PREVIEWS)
    painter(gateway).free.set()
    client = await stalled(gateway, "POST", *STREAMS["images"], room=2**17, Connection="close")
    loop = asyncio.get_running_loop()
    began, received = loop.time(), bytearray()
    while piece := await loop.sock_recv(client, 2**17):
        received += piece
        await asyncio.sleep(0.04)
    client.close()

    events = [json.loads(line[6:]) for line in dechunked(received).split(b"\n") if line.startswith(b"data: ")]
    assert loop.time() - began > 2
    assert [event["type"].removeprefix("image_generation.") for event in events] == ["partial_image"] * 3 + [
        "completed"
    ]
    assert all(base64.b64decode(event["b64_json"]) == PREVIEWS[0].data for event in events[:3])


@pytest.mark.parametrize(
    ("storages", "what"),
    [
        ("storages: {pictures: {use: memory}}\n", "base64"),
        ("storages: {pictures: {use: memory}}\n", "picture"),
        ("storages: {pictures: {use: disk, root: ROOT}}\n", "picture"),
    ],
)
async def test_an_answer_that_nobody_reads_is_cut(
    aiohttp_server: Any, tmp_path: Path, fake: FakeUpstream, storages: str, what: str
) -> None:
    """A plain answer, a picture out of memory, a file: none of them may hold its connection for ever."""
    fake.picture = png(64, 64, 12_000_000)
    yaml = drawing_by(fake.base, "server: {send_timeout: 500ms}\n").replace(STORAGES, storages)
    gateway = await start(aiohttp_server, yaml.replace("ROOT", str(tmp_path / "pictures")), tmp_path)
    if what == "base64":
        client = await stalled(gateway, "POST", "/v1/images/generations", {"prompt": "a cat"})
        await until(fake.paid)
    else:
        link = (await gateway.draw(response_format="url")).json["data"][0]["url"]
        await gateway.session.close()
        gateway.sessions.clear()
        await until(lambda: not buffers(gateway))
        client = await stalled(gateway, "GET", link.removeprefix(gateway.base))
    await until(lambda: buffers(gateway))
    await until(lambda: not buffers(gateway))

    assert (await gateway.get("/health")).json["jobs"]["running"] == 0
    client.close()
