"""Whatever fails once a stream has begun is told in it: at every stage, of every kind of plugin, at every endpoint."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from gateway_plugins.storages.memory import Memory

from gateway.contracts import Proceed, Stage, Work
from gateway.errors import UnavailableError
from gateway.values import Event, ImageRequest, PictureMeta
from tests.endpoints.test_comings_and_goings import CALLS, request
from tests.endpoints.test_stalled_readers import dechunked
from tests.gateways import Gateway, Types, start
from tests.painters import HELD, holding, later, painter

STREAMS = {name: call for name, call in CALLS.items() if name.endswith("stream")}
STREAMS["variations stream"] = (CALLS["variations"][0], CALLS["edits stream"][1])
FAULTS: dict[str, Exception] = {
    "one of ours": UnavailableError("the plugin says so", code="its_own_code"),
    "any": RuntimeError("/srv/secret is broken"),
    "an HTTP answer": web.HTTPBadRequest(text="/srv/secret"),
    "a lookup": KeyError("/srv/secret"),
}


@dataclass
class Faulty:
    """Fails in each of its ways as often as a test says: *armed* is where → what."""

    stages: tuple[Stage, ...] = field(init=False, default=("job", "optimize", "generate", "store"))
    armed: dict[str, Exception] = field(init=False, default_factory=dict)

    def fail(self, place: str) -> None:
        if place in self.armed:
            raise self.armed[place]

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        self.fail(f"before {stage}")
        done = await proceed(work)
        self.fail(f"after {stage}")
        return done

    async def optimize(self, request: ImageRequest) -> str:
        self.fail("optimizer")
        return request.prompt

    async def observe(self, event: Event) -> None:
        self.fail("observer")


@dataclass
class Burning(Memory):
    """Keeps pictures until it is *armed*."""

    armed: Exception | None = field(init=False, default=None)

    async def put(self, meta: PictureMeta, data: bytes) -> PictureMeta:
        if self.armed:
            raise self.armed
        return await super().put(meta, data)


TYPES: Types = {
    **HELD,
    "middlewares": {"faulty": Faulty},
    "optimizers": {"faulty": Faulty},
    "observers": {"faulty": Faulty},
    "storages": {"burning": Burning},
}
MORE = """
middlewares: {around: {use: faulty}}
optimizers: {pen: {use: faulty}}
observers: {spy: {use: faulty}}
jobs: {running: 1, waiting: 100}
"""
STAGES = [f"{when} {stage}" for stage in ("job", "optimize", "generate", "store") for when in ("before", "after")]


@pytest.fixture
async def gateway(aiohttp_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """A gateway of one place, where everything can fail."""
    monkeypatch.setattr("gateway.storing.STORE_TRIES", (0.0, 0.0, 0.0))
    model = ", optimizers: [pen], middlewares: [around]"
    yaml = holding(MORE, storages="storages: {pictures: {use: burning}}\n", model=model)
    return await start(aiohttp_server, yaml, tmp_path, types=TYPES)


def arm(gateway: Gateway, place: str, fault: Exception) -> None:
    components = gateway.runtime.configuration.components
    if place == "backend":
        painter(gateway).faults.append(fault)
    elif place == "storage":
        components["storages"]["pictures"].armed = fault
    else:
        kinds = {"optimizer": ("optimizers", "pen"), "observer": ("observers", "spy")}
        kind, name = kinds.get(place, ("middlewares", "around"))
        components[kind][name].armed[place] = fault


@dataclass
class Reader:
    """A client that reads a stream by hand, to the end of its connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    got: bytearray = field(default_factory=bytearray)

    @classmethod
    async def of(cls, gateway: Gateway, sent: bytes) -> Reader:
        """Send the call, and wait for the head of its answer: from then on no status can follow."""
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(sent.replace(b"Host: here\r\n", b"Host: here\r\nConnection: close\r\n"))
        found = cls(reader, writer)
        found.got += await reader.readuntil(b"\r\n\r\n")
        return found

    async def events(self) -> list[Any]:
        """Read all; give the data of each event, held to what a stream must be."""
        async with asyncio.timeout(10):
            self.got += await self.reader.read()
        self.writer.close()
        assert self.got.startswith(b"HTTP/1.1 200 ")
        assert self.got.count(b"HTTP/1.") == 1
        assert b"/srv/secret" not in self.got
        text = dechunked(bytes(self.got)).decode()
        assert text.endswith("\n\n")
        data = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in data]


def error_in(name: str, told: list[Any]) -> Any:
    """Give the error that the stream ended with, None if it ended well."""
    *before, last = told
    if name == "chat stream":
        assert last == "[DONE]"
        last = before[-1]
        assert "error" in last or last["choices"][0]["finish_reason"] == "stop"
        return last.get("error")
    assert "[DONE]" not in told
    if name == "events":
        assert last["type"] in {"failed", "cancelled", "finished"}
    elif name == "responses stream":
        assert last["type"] in {"response.failed", "response.completed"}
        return last["response"]["gateway"].get("error")
    else:
        assert "error" in last or last["type"].endswith(".completed")
    return last.get("error")


async def told_in_line(gateway: Gateway, name: str, place: str, fault: Exception) -> list[Any]:
    """Give what a stream tells that is open while its job waits in line, and then meets *fault*."""
    admission = gateway.runtime.jobs._admission
    admission._line.take("somebody")
    if name == "events":
        identity = await later(gateway)
        reader = await Reader.of(gateway, request(gateway, f"/v1/jobs/{identity}/events"))
    else:
        reader = await Reader.of(gateway, request(gateway, *STREAMS[name]))
    arm(gateway, place, fault)
    admission._line.leave("somebody")
    admission._admit()
    return await reader.events()


def disarm(gateway: Gateway) -> None:
    components = gateway.runtime.configuration.components
    for kind, name in (("middlewares", "around"), ("optimizers", "pen"), ("observers", "spy")):
        components[kind][name].armed.clear()
    components["storages"]["pictures"].armed = None


@pytest.mark.parametrize("place", [*STAGES, "optimizer", "backend", "storage", "observer"])
@pytest.mark.parametrize("name", [*STREAMS, "events"])
async def test_a_failure_within_a_stream_ends_it_well(gateway: Gateway, name: str, place: str) -> None:
    """One status line, the endpoint's own error as the last that is said, a clean end; and the next call works."""
    painter(gateway).free.set()
    for kind, fault in FAULTS.items():
        error = error_in(name, await told_in_line(gateway, name, place, fault))
        disarm(gateway)

        # A picture that is in the answer itself needs no storage, nor has an events' job to name a link.
        harmless = place in {"optimizer", "observer"} or (place == "storage" and name != "chat stream")
        assert (error is None) == harmless, (kind, error)
        if error:
            assert {"message", "type", "code", "param"} <= set(error), kind
            codes = {"storage": "image_not_stored"}
            own = "its_own_code" if kind == "one of ours" else "plugin_contract"
            assert error["code"] == codes.get(place, own), (kind, error)
        gateway.runtime.router.breaker(gateway.runtime.recipes["held"].targets[0]).succeeded()
        assert gateway.runtime.jobs.counts == {"running": 0, "waiting": 0}
    assert (await gateway.draw(model="held")).status == 200


@pytest.mark.parametrize("place", [*STAGES, "backend"])
@pytest.mark.parametrize("name", STREAMS)
async def test_a_failure_at_once_has_a_status_or_is_told_in_the_stream(gateway: Gateway, name: str, place: str) -> None:
    """Never both, and never a silence."""
    painter(gateway).free.set()
    for fault in FAULTS.values():
        arm(gateway, place, fault)
        path, body = STREAMS[name]
        answer = await gateway.post(path, body)
        disarm(gateway)
        gateway.runtime.router.breaker(gateway.runtime.recipes["held"].targets[0]).succeeded()

        assert b"HTTP/1." not in answer.body
        if answer.headers["Content-Type"].startswith("application/json"):
            assert answer.status >= 500
            assert answer.error["code"] in {"its_own_code", "plugin_contract"}
        else:
            assert answer.status == 200
            assert error_in(name, answer.chunks())
