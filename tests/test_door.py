"""As many connections as may be, and a clear word to the others."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.door import FEWEST, OWN_FILES, TOLD_AT_ONCE, room_for
from tests.gateways import DEMO, Gateway, start
from tests.painters import until

ASK = b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def gateway(aiohttp_server: Any, tmp_path: Path) -> Gateway:
    """A gateway that takes 200 connections."""
    return await start(aiohttp_server, DEMO + "server: {max_connections: 200, keep_alive: 60}\n", tmp_path)


@asynccontextmanager
async def connections(gateway: Gateway, count: int) -> AsyncIterator[list[Streams]]:
    """Open *count* connections that say nothing, and close them in the end."""
    opened = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(count)]
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.close()


async def head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Read one answer."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    return int(lines[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def test_beyond_the_most_a_client_is_told_so_and_the_others_go_on(gateway: Gateway) -> None:
    """The 201st gets a 503 in OpenAI's form with a time, and the end; the 200 are answered as ever."""
    async with connections(gateway, 200) as inside:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(ASK)
        status, headers, body = await head(reader)
        rest = await reader.read()
        writer.close()
        for _, speaking in inside:
            speaking.write(ASK)
        answered = [(await head(listening))[0] for listening, _ in inside]

        error = json.loads(body)["error"]
        assert (status, rest, answered) == (503, b"", [200] * 200)
        assert {"message", "type", "code", "param"} <= set(error)
        assert error["code"] == "too_many_connections"
        assert int(headers["retry-after"]) >= 1
        assert headers["connection"] == "close"
        assert headers["access-control-allow-origin"] == "*"


async def test_who_leaves_makes_room(gateway: Gateway) -> None:
    """One goes, however it goes, and the next is let in; twice the number come and go, and none is counted twice."""
    async with connections(gateway, 200) as inside:
        inside[0][1].close()
        inside[1][1].transport.abort()
        inside[2][1].write(b"nonsense\r\n\r\n")
        await inside[2][0].read()
        await asyncio.sleep(0.05)
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(ASK)
            assert (await head(reader))[0] == 200
            inside.append((reader, writer))
    for _ in range(2):
        async with connections(gateway, 200):
            pass
    await asyncio.sleep(0.05)

    assert (await gateway.get("/health")).status == 200


async def test_a_rush_is_counted_as_it_comes(gateway: Gateway) -> None:
    """Six hundred at the same moment: exactly 200 get in, however many the system has taken at once."""

    async def ask() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        inside.append(writer)
        writer.write(ASK)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            return (await head(reader))[0]
        return 0

    inside: list[asyncio.StreamWriter] = []
    statuses = await asyncio.gather(*(ask() for _ in range(600)))
    for writer in inside:
        writer.close()

    assert statuses.count(200) == 200
    assert statuses.count(503) >= 380  # all are told; a few may see a reset first
    assert statuses.count(200) + statuses.count(503) + statuses.count(0) == 600


async def test_who_is_sent_away_cannot_stay(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not listen is cut after a moment, and takes no file from the others."""
    monkeypatch.setattr("gateway.door.HEARD", 0.05)
    async with connections(gateway, 200):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        await reader.read()

        def cut() -> bool:
            writer.write(b"still here")
            return writer.transport.is_closing()

        await until(cut)


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "most"),
    [(256, 256, 10_000, 56), (1024, 1024, 10_000, 416), (256, 4096, 10_000, 1952), (1024, 4096, 50, 50)],
)
def test_the_systems_limit_of_files_leaves_room_for_jobs(soft: int, hard: int, wanted: int, most: int) -> None:
    """The soft limit is raised as far as it may be; what 64 jobs and served pictures need is kept back."""
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        f"from gateway.door import most_connections; print(most_connections({wanted}, 64))\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert said == [str(most), str(hard)]
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= hard


@pytest.mark.parametrize(("files", "level"), [(1024, "WARNING"), (20_000, "INFO")])
def test_only_much_fewer_connections_than_wanted_are_a_warning(files: int, level: str) -> None:
    """Whoever starts the gateway for the first time is not warned of a hundred that the system does not allow."""
    code = (
        f"import logging, resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))\n"
        "logging.basicConfig(level=logging.INFO, format='%(levelname)s')\n"
        "from gateway.door import most_connections; most_connections(10_000, 64)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr

    assert said.split() == [level]


@pytest.mark.parametrize("files", [128, 256, 512, 1024, 4096, 65_536])
@pytest.mark.parametrize("jobs", [1, 4, 64, 1000, 100_000])
def test_each_connection_may_read_a_picture_and_each_job_call_its_upstream(files: int, jobs: int) -> None:
    """All that can be open at once fits, and many jobs leave some room for those who only look."""
    room = room_for(files, jobs)
    calls = min(jobs, (files - OWN_FILES) // 3)

    assert OWN_FILES + 2 * room + calls <= files or room == FEWEST
    assert room >= min(files // 6, 65_536) or files <= 256
    assert room_for(files, jobs + 1) <= room
    assert room <= files // 2


async def test_those_who_cannot_be_waited_for_are_told_all_the_same(gateway: Gateway) -> None:
    """More at once than are given time to listen: whoever reads has the 503 with its time, and none keeps a file."""
    async with connections(gateway, 200), connections(gateway, 3 * TOLD_AT_ONCE) as outside:
        answers = [await head(reader) for reader, _ in outside]
        ends = [await reader.read() for reader, _ in outside]

    assert {status for status, _, _ in answers} == {503}
    assert all(headers["retry-after"] for _, headers, _ in answers)
    assert set(ends) == {b""}
