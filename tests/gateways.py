"""Running gateways for tests: made of YAML like a user's, with secrets that must never be shown again."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.app import make_app
from gateway.config import load, plugin_files, settings_of
from gateway.connections import listen
from gateway.registry import ComponentType, Registry, discover
from gateway.runtime import Runtime, make_runtime
from tests.canaries import CALLER_KEY, MARK, OTHER_KEY, SPARE_KEY, UPSTREAM_KEY

AUTHENTICATORS = f"authenticators: {{keys: {{use: api_keys, keys: [{{name: ann, key: {CALLER_KEY}}}]}}}}\n"
STORAGES = "storages: {pictures: {use: memory, ttl: 600}}\n"
DEMO = AUTHENTICATORS + STORAGES + "backends: {here: {use: demo}}\nmodels: {demo: {backends: [{backend: here}]}}\n"

Types = Mapping[str, Mapping[str, type]]


def drawing_by(fake_base: str, more: str = "") -> str:
    """Give a YAML whose model ``flux`` is drawn by the fake upstream through `openai_images`."""
    return (
        AUTHENTICATORS
        + STORAGES
        + f"""\
backends:
  up: {{use: openai_images, base_url: "{fake_base}/v1", keys: [{UPSTREAM_KEY}], dialect: custom,
       custom: {{names: {{seed: seed, steps: steps}}, sizes: [1024x1024]}}}}
models:
  flux: {{backends: [{{backend: up, model: up-model}}], aliases: ["@cf/black-forest-labs/flux-1-schnell"]}}
fetch: {{allow: ["{fake_base.removeprefix("http://")}"]}}
"""
        + more
    )


@dataclass
class Answered:
    """An HTTP answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The OpenAI error, its form checked."""
        error: dict[str, Any] = self.json["error"]
        assert {"message", "type", "code", "param"} <= set(error), error
        assert isinstance(error["message"], str)
        assert error["message"]
        return error

    def chunks(self) -> list[Any]:
        """The JSON of every ``data:`` line of a stream, ``[DONE]`` as it is."""
        lines = [line.removeprefix("data: ") for line in self.text.split("\n") if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    def content(self) -> str:
        """The text of a streamed chat answer."""
        deltas = [chunk["choices"][0]["delta"] for chunk in self.chunks() if chunk != "[DONE]" and chunk.get("choices")]
        return "".join(delta.get("content") or "" for delta in deltas)


@dataclass
class Gateway:
    """A running gateway and a client for it that reads every answer whole and looks for secrets in it."""

    server: TestServer
    runtime: Runtime
    port: int
    key: str = CALLER_KEY
    sessions: list[aiohttp.ClientSession] = field(default_factory=list)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def session(self) -> aiohttp.ClientSession:
        """An open session that bears the key."""
        if not self.sessions:
            headers = {"Authorization": f"Bearer {self.key}"}
            self.sessions.append(aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=30)))
        return self.sessions[0]

    async def ask(self, method: str, path: str, **given: Any) -> Answered:
        """Send one request; every answer must bear an id, and none may bear a secret."""
        async with self.session.request(method, self.base + path, **given) as response:
            answer = Answered(response.status, response.headers.copy(), await response.read())
        assert MARK.encode() not in answer.body, answer.body[:500]
        assert not any(MARK in value for value in answer.headers.values()), answer.headers
        return answer

    async def get(self, path: str, **given: Any) -> Answered:
        return await self.ask("GET", path, **given)

    async def post(self, path: str, body: Any = None, **given: Any) -> Answered:
        """Post *body* as JSON; ``data=`` sends bytes instead."""
        return await self.ask("POST", path, **({} if "data" in given else {"json": body}), **given)

    async def chat(self, prompt: Any = "a red fox", **fields: Any) -> Answered:
        return await self.post("/v1/chat/completions", {"messages": [{"role": "user", "content": prompt}], **fields})

    async def draw(self, prompt: Any = "a red fox", **fields: Any) -> Answered:
        return await self.post("/v1/images/generations", {"prompt": prompt, **fields})


async def start(
    aiohttp_server: Any,
    yaml_text: str,
    tmp_path: Path,
    environ: Mapping[str, str] | None = None,
    *,
    types: Types | None = None,
) -> Gateway:
    """Start a gateway from *yaml_text*; *types* adds component types: kind → name → class."""
    document = load(tmp_path / "config.yaml", yaml_text, environ or {})
    files = plugin_files(document)
    configuration = settings_of(document, _with(types or {}, discover(files) if files else installed()))
    settings = configuration.settings
    # A test that leaves an upstream hanging must not wait for it.
    quick = replace(settings, server=replace(settings.server, shutdown_timeout=0.2))
    runtime = make_runtime(replace(configuration, settings=quick))
    app = make_app(runtime)
    sessions: list[aiohttp.ClientSession] = []
    # No secret may be written at any level.
    logger = logging.getLogger("gateway")
    listeners: list[asyncio.Server] = []

    async def close_sessions(_: Any) -> None:
        for listener in listeners:
            listener.close()
        for session in sessions:
            await session.close()
        # Not the level found at the start: another gateway of the test may have set it, and be closed in any order.
        logger.setLevel(logging.NOTSET)

    app.on_cleanup.append(close_sessions)
    logger.setLevel(logging.DEBUG)
    server = await aiohttp_server(app, access_log=None, shutdown_timeout=0.2)
    assert isinstance(server.runner, web.AppRunner)
    # As in the gateway's own process, where clients are met by its own connections.
    listeners.append(await listen(server.runner, replace(settings.server, host="127.0.0.1", port=0)))
    return Gateway(server, runtime, listeners[0].sockets[0].getsockname()[1], sessions=sessions)


@cache
def installed() -> Registry:
    """Discover the installed plugins, once."""
    return discover()


def _with(types: Types, registry: Registry) -> Registry:
    added = {
        kind: {
            **known,
            **{name: ComponentType(kind, name, cls, "test", "test") for name, cls in types.get(kind, {}).items()},
        }
        for kind, known in registry.types.items()
    }
    return replace(registry, types=added)


__all__ = [
    "AUTHENTICATORS",
    "CALLER_KEY",
    "DEMO",
    "OTHER_KEY",
    "SPARE_KEY",
    "STORAGES",
    "UPSTREAM_KEY",
    "Answered",
    "Gateway",
    "drawing_by",
    "start",
]
