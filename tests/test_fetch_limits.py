"""A host that sends without end costs a gateway's process the limit and little more, on each of the three ways."""
# ruff: noqa: ASYNC240  - what /proc says is there at once

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.endpoints.test_image_proxy import PNG
from tests.presets.process import free_port
from tests.rude_host import Answer, RudeHost, reply
from tests.ways import WAYS, Ways, config, links_api, serving, ways_to

KIB, MIB = 2**10, 2**20
LIMIT, SMALL = 4 * MIB, 256 * KIB
PIECE = b"x" * (16 * KIB)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
LENGTHS = {
    "honest": (OK + b"Content-Length: 1073741824\r\n\r\n", PIECE),
    "too small": (OK + b"Content-Length: 1000\r\n\r\n", PIECE),
    "none": (OK + b"Connection: close\r\n\r\n", PIECE),
    "chunked": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n" % (len(PIECE), PIECE)),
}
MORE = (f"more than {LIMIT} bytes",)
TOLD = {**dict.fromkeys(LENGTHS, MORE), "too small": ("no picture", "broke off")}


@pytest.fixture
async def host() -> AsyncIterator[RudeHost]:
    """A host that pours, whatever length it has told, and knows how much it got rid of."""
    async with RudeHost({"/picture": reply(PNG)}) as host:
        yield host


@pytest.fixture
async def process(request: pytest.FixtureRequest, host: RudeHost, tmp_path: Path) -> AsyncIterator[tuple[Ways, int]]:
    """A gateway in a process of its own, that has shown a picture on each way already; and its number."""
    limit = getattr(request, "param", LIMIT)
    async with links_api() as (api, upstream):
        port = free_port()
        text = config(upstream, f"{{allow: ['{host.pair}'], limit: {limit}}}", port)
        async with serving(tmp_path, text) as number, ways_to(f"http://127.0.0.1:{port}", api) as ways:
            assert await ways.judge([f"{host.url}/picture"]) == {f"{host.url}/picture": "shown"}
            yield ways, number


def pouring(host: RudeHost, head: bytes, piece: bytes, idle: Callable[[], bool] = lambda: True) -> Answer:
    """Send *head* and then *piece* again and again, the next one when it is *idle*."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(0)
        writer.write(head)
        while not host.hold.is_set():
            writer.write(piece)
            await writer.drain()
            host.sent += len(piece)
            while not idle():  # noqa: ASYNC110  - the kernel tells nobody that a queue is empty
                await asyncio.sleep(0.0005)

    return answer


def resident(number: int, field: str) -> int:
    """Read the bytes that a process has in memory now, ``VmRSS``, or had at most, ``VmHWM``."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{number}/status").read_text())
    assert found
    return int(found[1]) * KIB


def most_on_the_way() -> int:
    """Give the bytes that the kernel may hold of one connection, on both of its ends."""
    names = ("tcp_rmem", "tcp_wmem")
    return sum(int(Path(f"/proc/sys/net/ipv4/{name}").read_text().split()[2]) for name in names)


def is_taken(port: int) -> bool:
    """Say whether nothing that came from *port* of this machine waits in the kernel to be read."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, sender, _, queues, *_ = line.split()
        if sender.endswith(f":{port:04X}") and int(queues.partition(":")[2], 16):
            return False
    return True


@pytest.mark.parametrize("length", LENGTHS)
async def test_an_endless_body_takes_little_memory(host: RudeHost, process: tuple[Ways, int], length: str) -> None:
    """Whatever length was told: refused, the connection closed soon, and the process never 10 MB larger."""
    ways, number = process
    host.answers["/"] = pouring(host, *LENGTHS[length])
    for way in WAYS:
        host.sent = 0
        Path(f"/proc/{number}/clear_refs").write_text("5")  # the peak begins anew
        before = resident(number, "VmRSS")
        said = await ways.ask(way, f"{host.url}/")
        grown = resident(number, "VmHWM") - before
        await asyncio.wait_for(host.idle.wait(), 20)

        assert any(words in said for words in TOLD[length]), (way, said)
        assert grown < 10_000_000, way
        assert host.sent <= LIMIT + 64 * KIB + most_on_the_way(), way


@pytest.mark.parametrize("process", [SMALL], indirect=True)
@pytest.mark.parametrize("length", ["none", "chunked"])
async def test_no_more_than_the_limit_is_read(host: RudeHost, process: tuple[Ways, int], length: str) -> None:
    """A host that sends a piece only when the last one was taken gets rid of the limit and 64 KiB, to the piece."""
    ways, _ = process
    head, piece = LENGTHS[length]
    host.answers["/"] = pouring(host, head, piece, lambda: is_taken(host.port))
    for way in WAYS:
        host.sent = 0
        said = await ways.ask(way, f"{host.url}/")
        await asyncio.wait_for(host.idle.wait(), 20)

        assert f"more than {SMALL} bytes" in said
        assert SMALL - len(piece) < host.sent <= SMALL + 64 * KIB + len(piece), way
