"""A URL in a signed link, one that an image API answers and one of an input picture meet the same guard and limits."""

from __future__ import annotations

import gzip
import io
import socket
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image as Pillow

from tests.endpoints.test_image_proxy import DECLARED, FALSE, TRUE, film
from tests.gateways import start
from tests.guard_vectors import BLOCKED_ADDRESSES, CORPUS, PUBLIC_ADDRESSES, REFUSED_AS_PRIVATE
from tests.rude_answers import BROKEN_ANSWERS, ENCODINGS, LOCATIONS, OVER_4999_BYTES
from tests.rude_host import RudeHost, redirect, reply
from tests.test_imaging import png
from tests.ways import WAYS, Ways, config, links_api, ways_to

PNG = TRUE["png"]
NAMES = {"images.example.com": "127.0.0.1", "private.example.com": "10.0.0.1", "two.example.com": "127.0.0.2"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the names that the system was asked for; it knows three, and nothing goes out to a name server."""
    names: list[str] = []

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        names.append(host)
        if host not in NAMES:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (NAMES[host], port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return names


@asynccontextmanager
async def ways_before(
    host: RudeHost, aiohttp_server: Any, tmp_path: Path, *allow: str, limit: str = "1MiB", timeout: str = "20s"
) -> AsyncIterator[Ways]:
    """Start a gateway that may fetch from *host*, and from what else is allowed."""
    pairs = ", ".join(f"'{pair}'" for pair in (host.pair, *allow))
    fetch = f"{{allow: [{pairs}], ports: [80, 443, {host.port}], limit: {limit}, timeout: {timeout}}}"
    async with links_api() as (api, upstream):
        gateway = await start(aiohttp_server, config(upstream, fetch), tmp_path)
        async with ways_to(gateway.base, api) as ways:
            yield ways


async def test_private_places_are_blocked_on_every_way(aiohttp_server: Any, tmp_path: Path, asked: list[str]) -> None:
    """Each private name and port, and each special address as a literal: no name is asked for, nothing is sent."""
    literals = [f"http://[{text}]/" if ":" in text else f"http://{text}/" for text in BLOCKED_ADDRESSES]
    async with RudeHost() as host:
        others = [f"http://{name}:{host.port}/" for name in ("127.0.0.2", "[::1]", "localhost", "0.0.0.0")]
        async with ways_before(host, aiohttp_server, tmp_path) as ways:
            said = await ways.judge([*REFUSED_AS_PRIVATE, *literals, *others])

    assert set(said.values()) == {"blocked"}
    assert len(said) > 180
    assert (asked, host.heads) == ([], [])


async def test_malformed_urls_are_refused_on_every_way(aiohttp_server: Any, tmp_path: Path, asked: list[str]) -> None:
    """The corpus, but for what JSON cannot bear, what fits into no line of HTTP, and words that may be base64."""
    urls = [url for url in CORPUS if ":" in url and "\ud800" not in url and len(url) < 5000]
    async with RudeHost() as host, ways_before(host, aiohttp_server, tmp_path) as ways:
        said = await ways.judge(urls)

    assert set(said.values()) == {"malformed"}
    assert len(said) > 250
    assert (asked, host.heads) == ([], [])


async def test_addresses_of_names_are_checked_on_every_way(
    aiohttp_server: Any, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads to any special address, alone or beside a public one, is blocked and asked for once."""
    answers = [[address] for address in BLOCKED_ADDRESSES]
    answers += [[PUBLIC_ADDRESSES[0], address] for address in BLOCKED_ADDRESSES]
    names = {f"n{number}.example.com": each for number, each in enumerate(answers)}

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        families = [(socket.AF_INET6 if ":" in text else socket.AF_INET, text) for text in names[host]]
        return [(family, socket.SOCK_STREAM, 6, "", (text, port)) for family, text in families]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with RudeHost() as host, ways_before(host, aiohttp_server, tmp_path) as ways:
        said = await ways.judge(f"http://{name}/" for name in names)

    assert set(said.values()) == {"blocked"}
    assert sorted(asked) == sorted([*names] * 3)
    assert host.heads == []


async def test_redirects_are_checked_on_every_way(aiohttp_server: Any, tmp_path: Path, asked: list[str]) -> None:
    """Out of bounds none is followed; three hops are, a fourth is not; a redirect to nowhere is a broken answer."""
    outward = {f"/out{number}": redirect(location) for number, location in enumerate(LOCATIONS)}
    inward = {f"/{hops}": redirect(f"/{hops - 1}", Set_Cookie="a=b") for hops in range(1, 5)}
    async with RudeHost({**outward, **inward, "/0": reply(PNG), "/nowhere": reply(status="302 Found")}) as host:
        named = f"images.example.com:{host.port}"
        async with ways_before(host, aiohttp_server, tmp_path, named) as ways:
            base = f"http://{named}"
            blocked = await ways.judge(base + path for path in outward)
            followed = await ways.judge(f"{base}/{hops}" for hops in range(5))
            nowhere = await ways.judge([f"{base}/nowhere"])

    assert {said.partition(": ")[2] or said for said in blocked.values()} <= {"blocked", "a redirect to nowhere"}
    assert list(blocked.values()).count("blocked") >= len(LOCATIONS) - 4
    assert list(followed.values())[:4] == ["shown"] * 4
    assert "more than 3 redirects" in followed[f"{base}/4"]
    assert "a redirect to nowhere" in nowhere[f"{base}/nowhere"]
    assert not any("cookie" in head.lower() or "authorization" in head.lower() for head in host.heads)


async def test_types_are_read_from_the_bytes_on_every_way(aiohttp_server: Any, tmp_path: Path) -> None:
    """Eight declared types by seventeen bodies: a true picture is shown whatever it is called, and nothing else is."""
    bodies = {**TRUE, **FALSE}
    answers = {
        f"/{number}/{quote(name)}": reply(body, Content_Type=declared)
        for number, declared in enumerate(DECLARED)
        for name, body in bodies.items()
    }
    async with RudeHost(answers) as host, ways_before(host, aiohttp_server, tmp_path) as ways:
        said = await ways.judge(host.url + path for path in answers)
    shown = {url.rpartition("/")[2] for url, words in said.items() if words == "shown"}

    assert set(said.values()) == {"shown", "no picture"}
    assert shown == set(TRUE)
    assert list(said.values()).count("shown") == len(DECLARED) * len(TRUE)


async def test_bodies_over_the_limit_are_refused_on_every_way(aiohttp_server: Any, tmp_path: Path) -> None:
    """Lengths that are honest, lie or are not told, and a body without an end; the limit itself passes."""
    answers = {f"/{number}": answer for number, answer in enumerate(OVER_4999_BYTES)}
    async with RudeHost({**answers, "/limit": reply(PNG)}) as host:
        host.answers["/endless"] = host.endless
        host.answers["/short"] = reply(PNG, Content_Length="40")
        async with ways_before(host, aiohttp_server, tmp_path, limit="4999") as ways:
            said = await ways.judge(f"{host.url}{path}" for path in (*answers, "/endless"))
            short = [await ways.ask(way, f"{host.url}/short") for way in WAYS]
            within = await ways.judge([f"{host.url}/limit"])

    assert all("the answer has more than 4999 bytes" in words for words in said.values())
    assert "shown" not in short
    assert list(within.values()) == ["shown"]


async def test_broken_answers_are_told_alike_on_every_way(aiohttp_server: Any, tmp_path: Path) -> None:
    """What is no whole, plain 200 is the host's fault; its status and words stay with it."""
    answers = {f"/b{number}": answer for number, answer in enumerate(BROKEN_ANSWERS)}
    bomb = gzip.compress(bytes(10**7))
    packed = {f"/e{number}": reply(bomb, Content_Encoding=name) for number, name in enumerate(ENCODINGS)}
    async with RudeHost({**answers, **packed}) as host, ways_before(host, aiohttp_server, tmp_path) as ways:
        said = await ways.judge(host.url + path for path in (*answers, *packed))

    assert "shown" not in said.values()
    assert all("compressed answer" in said[host.url + path] for path in packed)
    assert all(words.startswith(f"{host.url}/") for words in said.values())


async def test_slow_hosts_end_at_the_deadline_on_every_way(aiohttp_server: Any, tmp_path: Path) -> None:
    """Silence, a drip of body and of headers, a stalled handshake and a port whose queue is full."""
    silent, full = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0), backlog=0)
    crowd = [socket.socket() for _ in range(4)]
    for each in crowd:
        each.setblocking(False)
        each.connect_ex(full.getsockname())
    ports = [f"127.0.0.1:{server.getsockname()[1]}" for server in (silent, full)]
    async with RudeHost() as host:
        host.answers |= {f"/{name}": getattr(host, name) for name in ("forever", "drip", "drip_headers")}
        async with ways_before(host, aiohttp_server, tmp_path, *ports, timeout="0.4s") as ways:
            urls = [*(host.url + path for path in host.answers), f"https://{ports[0]}/", f"http://{ports[1]}/"]
            said = await ways.judge(urls)
    for each in (silent, full, *crowd):
        each.close()

    assert all("no answer within 0.4 s" in words for words in said.values())


def bombs() -> dict[str, tuple[bytes, str]]:
    """Make small files that unfold to much, and say what is to be told of each."""
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(20_000 * 2501), 9)
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    great = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    many = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(many, "JPEG", exif=b"Exif\0\0" + bytes(65_000), icc_profile=bytes(2_000_000))
    packed = zlib.compress(bytes(100 * 2**20), 9)
    return {
        "great": (great, "too large"),
        "header": (png(60_000, 60_000), "too large"),
        "film": (film(), "too long"),
        "profile": (png(1, 1, (b"iCCP", b"icc\0\0" + packed), pixels=b"\0\0"), "no picture"),
        "text": (png(1, 1, (b"zTXt", b"Comment\0\0" + packed), pixels=b"\0\0"), "no picture"),
        "much": (many.getvalue(), "shown"),
    }


async def test_bombs_are_refused_on_every_way(aiohttp_server: Any, tmp_path: Path) -> None:
    """Pixels, frames and packed profiles without measure; what is merely long passes on every way."""
    made = bombs()
    answers = {f"/{name}": reply(data) for name, (data, _) in made.items()}
    async with RudeHost(answers) as host, ways_before(host, aiohttp_server, tmp_path, limit="4MiB") as ways:
        said = await ways.judge(host.url + path for path in answers)

    assert len(made["great"][0]) < 60_000
    assert list(said.values()) == [words for _, words in made.values()]
