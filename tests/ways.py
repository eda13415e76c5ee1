"""The three ways on which a URL that a stranger wrote reaches the guard, and one word for what each says of it."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.guard import BLOCKED
from gateway.signing import sign
from tests.canaries import CALLER_KEY, UPSTREAM_KEY
from tests.fake_upstream import png

WAYS = ("image-proxy", "backend", "input")
LINK_KEY = "a-link-key-of-the-ways-0123"
AT_ONCE = 8

CONFIG = """\
server: {{host: 127.0.0.1, port: {port}}}
authenticators: {{keys: {{use: api_keys, keys: [{{name: ann, key: {caller}}}]}}}}
storages: {{pictures: {{use: memory, ttl: 600}}}}
backends:
  up: {{use: openai_images, base_url: "{upstream}/v1", keys: [{key}], dialect: custom,
       custom: {{edits: /images/edits, image_field: image, size: none, answers: [data.*.url, data.*.b64_json]}}}}
models:
  links: {{backends: [{{backend: up, model: m}}], fit: leave}}
  edits: {{backends: [{{backend: up, model: e}}], fit: leave}}
proxy: {{keys: [{link}]}}
fetch: {fetch}
"""

MALFORMED = (
    "this is not a URL that can be fetched",
    "this URL is too long or has characters that do not belong in one",
    "only plain http and https URLs are fetched",
    "the host of this URL is not a name or an address",
    "write an IPv4 address as four decimal numbers",
    "only http and https URLs go through the image proxy",
    "must be a data:, http: or https: URL",
    "must bear a URL or a data: URL",
    "Missing image URL parameter",
    "that begins with",
    "not valid base64",
    "this data: URL is malformed",
)
PREFIX = re.compile(
    r"up(/\S+)?: (it answered with a link that may not be fetched: )?|messages(: | could not be fetched: )"
)


def config(upstream: str, fetch: str, port: int = 0) -> str:
    """Write a configuration whose models ask *upstream*; *fetch* is that section."""
    return CONFIG.format(port=port, caller=CALLER_KEY, upstream=upstream, key=UPSTREAM_KEY, link=LINK_KEY, fetch=fetch)


@dataclass
class Links:
    """An image API that answers with the link whose number stands in the prompt, and to edits with a picture."""

    links: list[str] = field(default_factory=list)
    edits: int = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/images/generations", self._link)
        app.router.add_post("/v1/images/edits", self._edit)
        return app

    async def _link(self, request: web.Request) -> web.Response:
        number = int(re.findall(r"\d+", (await request.json())["prompt"])[0])
        return web.json_response({"data": [{"url": self.links[number]}]})

    async def _edit(self, request: web.Request) -> web.Response:
        await request.read()
        self.edits += 1
        return web.json_response({"data": [{"b64_json": base64.b64encode(png(8, 8)).decode()}]})


@dataclass
class Ways:
    """Asks the gateway at *base*, before the image API *api*, for what a URL leads to."""

    base: str
    api: Links
    session: aiohttp.ClientSession

    async def ask(self, way: str, url: str) -> str:
        """Ask on one way; give ``shown``, or in a few words why not."""
        if way == "image-proxy":
            return await self._answer("GET", f"/image-proxy?{sign(url, [LINK_KEY], time.time() + 600)}")
        if way == "backend":
            self.api.links.append(url)
            prompt = f"link number {len(self.api.links) - 1}"
            return await self._answer("POST", "/v1/images/generations", {"model": "links", "prompt": prompt})
        parts = [{"type": "text", "text": "a fox"}, {"type": "image_url", "image_url": {"url": url}}]
        body = {"model": "edits", "messages": [{"role": "user", "content": parts}]}
        return await self._answer("POST", "/v1/chat/completions", body)

    async def judge(self, urls: Iterable[str]) -> dict[str, str]:
        """Ask for each on all ways, a few at a time; fail where two ways differ, else give what they say."""
        urls = list(dict.fromkeys(urls))
        spoken = await asyncio.gather(*(self._in_turns(way, urls) for way in WAYS))
        for url, *words in zip(urls, *spoken, strict=True):
            assert len(set(words)) == 1, (url[:200], dict(zip(WAYS, words, strict=True)))
        return dict(zip(urls, spoken[0], strict=True))

    async def _in_turns(self, way: str, urls: Sequence[str]) -> list[str]:
        # A target that failed a few times is tried by one call at a time.
        gate = asyncio.Semaphore(1 if way == "backend" else AT_ONCE)

        async def one(url: str) -> str:
            async with gate:
                return await self.ask(way, url)

        return await asyncio.gather(*map(one, urls))

    async def _answer(self, method: str, path: str, body: Any = None) -> str:
        async with self.session.request(method, self.base + path, json=body) as response:
            if response.status == 200:
                await response.read()
                return "shown"
            return verdict((await response.json())["error"]["message"])


def verdict(message: str) -> str:
    """Give what the words of a refusal mean, whichever way they came."""
    reason = PREFIX.sub("", message, count=1)
    if reason == BLOCKED:
        return "blocked"
    if any(words in reason for words in MALFORMED):
        return "malformed"
    for words, kind in (("pixels; at most", "too large"), ("frames; at most", "too long"), (" picture", "no picture")):
        if words in reason:
            return kind
    return reason


@asynccontextmanager
async def links_api() -> AsyncIterator[tuple[Links, str]]:
    """Run the image API; give it and its address."""
    api = Links()
    async with TestServer(api.app()) as server:
        yield api, f"http://127.0.0.1:{server.port}"


@asynccontextmanager
async def ways_to(base: str, api: Links) -> AsyncIterator[Ways]:
    """Open a client of the gateway at *base*."""
    headers = {"Authorization": f"Bearer {CALLER_KEY}"}
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        yield Ways(base, api, session)


@asynccontextmanager
async def serving(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> AsyncIterator[int]:
    """Run a gateway of the configuration *text* as a process of its own; give its number."""
    (folder / "config.yaml").write_text(text)
    command = [sys.executable, "-c", "from gateway.cli import main; main()", "serve"]
    root = str(Path(__file__).parent.parent)
    with (folder / "stderr.txt").open("w") as stderr:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": root, **(environ or {})},
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    assert process.stdout is not None
    try:
        while b"in a browser" not in (line := await process.stdout.readline()):
            assert line, (folder / "stderr.txt").read_text()
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
