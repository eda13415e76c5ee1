"""Long calls through real proxies that cut silent connections: pings and white space keep every one of them."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.canaries import CALLER_KEY
from tests.fake_upstream import png
from tests.fronts.conftest import serving
from tests.fronts.proxies import PROXIES, Front, installed, running

IDLE, TAKES = 2, 4.5
"""Seconds after which the proxies cut, and that a picture takes."""
PICTURE = "data:image/png;base64," + base64.b64encode(png(64, 64)).decode()
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a fox"}]}),
    "generations": ("/v1/images/generations", {"prompt": "a fox"}),
    "edits": ("/v1/images/edits", {"prompt": "a fox", "image": PICTURE}),
    "variations": ("/v1/images/variations", {"image": PICTURE}),
    "responses": ("/v1/responses", {"input": "a fox", "tools": [{"type": "image_generation"}]}),
}
YAML = f"""
server: {{{{port: {{port}}}}}}
chat: {{{{ping: %s}}}}
jobs: {{{{keep_alive: %s, running: 100}}}}
authenticators: {{{{keys: {{{{use: api_keys, keys: [{CALLER_KEY}]}}}}}}}}
backends: {{{{here: {{{{use: silent}}}}}}}}
storages: {{{{here: {{{{use: memory}}}}}}}}
models: {{{{demo: {{{{backends: [{{{{backend: here}}}}]}}}}}}}}
plugins: [silent.py]
"""
SILENT = f'''
import asyncio, base64
from dataclasses import dataclass
from gateway import Capabilities, Image, hookimpl

@dataclass
class Silent:
    """Takes its time and says nothing meanwhile."""

    def capabilities(self, model):
        return Capabilities(inputs=16)

    async def generate(self, request, report):
        report.sending()
        await asyncio.sleep({TAKES})
        return [Image(base64.b64decode("{PICTURE.partition(",")[2]}"))]

@hookimpl
def provide_backends():
    return {{"silent": Silent}}
'''


@dataclass
class Came:
    """An answer as it came: the moments of its pieces, in seconds after the call."""

    status: int = 0
    body: bytes = b""
    moments: list[float] = field(default_factory=list)
    whole: bool = False

    def gap(self) -> float:
        """Give the longest silence."""
        return max(after - before for before, after in zip([0.0, *self.moments], self.moments, strict=False))


def fronts_of(tmp_path: Path, ping: str, keep_alive: str) -> Iterator[list[Front]]:
    (tmp_path / "silent.py").write_text(SILENT)
    with ExitStack() as stack:
        gateway = stack.enter_context(serving(tmp_path, YAML % (ping, keep_alive)))
        yield [
            stack.enter_context(running(name, gateway.port, tmp_path, idle=IDLE)) for name in PROXIES if installed(name)
        ]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[list[Front]]:
    """Proxies before a gateway that lets no connection fall silent for long."""
    yield from fronts_of(tmp_path, "500ms", "500ms")


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[list[Front]]:
    """Proxies before a gateway whose pings come too late."""
    yield from fronts_of(tmp_path, "60s", "0")


async def ask(session: aiohttp.ClientSession, method: str, url: str, body: Any = None) -> Came:
    """Call, and note when each piece came."""
    came, began = Came(), time.monotonic()
    try:
        async with session.request(method, url, json=body) as response:
            came.status = response.status
            async for piece, _ in response.content.iter_chunks():
                came.body += piece
                came.moments.append(time.monotonic() - began)
            came.whole = True
    except (aiohttp.ClientError, TimeoutError):
        pass
    return came


def client() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=30)
    return aiohttp.ClientSession(headers={"Authorization": f"Bearer {CALLER_KEY}"}, timeout=timeout)


async def everything(fronts: list[Front], *, streamed: bool) -> dict[tuple[str, str], Came]:
    """Call every endpoint that takes a job through every proxy, all at once."""
    asked = [(front, name, *CALLS[name]) for front in fronts for name in CALLS]
    more = {"stream": True} if streamed else {}
    async with client() as session:
        calls = [ask(session, "POST", front.base + path, {**body, **more}) for front, _, path, body in asked]
        came = await asyncio.gather(*calls)
    return {(front.name, name): each for (front, name, *_), each in zip(asked, came, strict=True)}


def problems(came: dict[tuple[str, str], Came], what: str, right: dict[tuple[str, str], bool]) -> str:
    return "; ".join(
        f"{key}: {what}, {came[key].status} {came[key].moments}" for key, good in right.items() if not good
    )


async def test_streams_live_through_every_proxy_and_are_not_held_back(kept: list[Front]) -> None:
    """The first piece comes at once, pings come between, the picture comes at the end; jobs' own events too."""
    async with client() as session:
        streams, followed = await asyncio.gather(
            everything(kept, streamed=True), asyncio.gather(*(follow(session, front) for front in kept))
        )
    streams |= {(front.name, "job"): each for front, each in zip(kept, followed, strict=True)}
    ends = {"chat": b"data: [DONE]\n\n", "responses": b"response.completed", "job": b"event: finished"}
    right = {
        key: each.whole
        and each.status == 200
        and ends.get(key[1], b".completed") in each.body
        and b": ping" in each.body
        for key, each in streams.items()
    }

    assert not problems(streams, "did not end well", right)
    assert not problems(streams, "was held back", {key: each.moments[0] < TAKES - 1 for key, each in streams.items()})
    assert not problems(streams, "fell silent", {key: each.gap() < IDLE for key, each in streams.items()})
    assert all(each.moments[-1] > TAKES for key, each in streams.items() if key[1] != "job")


async def follow(session: aiohttp.ClientSession, front: Front) -> Came:
    body = {"prompt": "a fox", "async": True, "seed": 7, "user": front.name}
    async with session.post(f"{front.base}/v1/images/generations", json=body) as response:
        job = (await response.json())["id"]
    return await ask(session, "GET", f"{front.base}/v1/jobs/{job}/events")


async def test_plain_calls_live_through_every_proxy(kept: list[Front]) -> None:
    """White space comes before the JSON, through buffers too."""
    plain = await everything(kept, streamed=False)
    right = {
        key: each.whole and each.status == 200 and not json.loads(each.body).get("error") for key, each in plain.items()
    }

    assert not problems(plain, "was cut", right)
    assert not problems(plain, "fell silent", {key: each.gap() < IDLE for key, each in plain.items()})
    assert all(each.body.startswith(b"    ") for each in plain.values())


async def test_without_them_every_proxy_cuts(silent: list[Front]) -> None:
    """Were it otherwise, the tests above would show nothing."""
    plain, streams = await asyncio.gather(everything(silent, streamed=False), everything(silent, streamed=True))

    for came in (plain, streams):
        assert not problems(came, "lived", {key: not each.whole or each.status >= 500 for key, each in came.items()})
