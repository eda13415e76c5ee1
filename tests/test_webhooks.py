"""Callers' servers are told how a job ended: signed, until they take it, and never behind the address guard."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.errors import UpstreamTimeoutError
from gateway.webhooks import WEBHOOKS
from tests.gateways import Gateway, start
from tests.painters import DRAW, HELD, finished, holding, later, painter, until

LATER = {"Prefer": "respond-async"}


@pytest.fixture
async def held(aiohttp_server: Any, tmp_path: Path) -> Gateway:
    """A gateway whose backend waits for the test."""
    return await start(aiohttp_server, holding(), tmp_path, types=HELD)


@dataclass
class Listener:
    """A caller's server: answers *statuses* one after the other, then 200; keeps what it heard."""

    statuses: list[int] = field(default_factory=list)
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    base: str = ""

    async def hear(self, request: web.Request) -> web.Response:
        self.heard.append((dict(request.headers), await request.read()))
        headers = {"Location": f"{self.base}/elsewhere"}
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200, headers=headers)


@pytest.fixture
async def listener() -> Any:
    """A server that webhooks may be sent to."""
    ear = Listener()
    app = web.Application()
    app.router.add_post("/{path:.*}", ear.hear)
    server = TestServer(app)
    await server.start_server()
    ear.base = f"http://127.0.0.1:{server.port}"
    yield ear
    await server.close()


async def listened(aiohttp_server: Any, tmp_path: Path, listener: Listener, keys: str = "") -> Gateway:
    more = f"fetch: {{allow: ['{listener.base.removeprefix('http://')}']}}\n" + keys
    gateway = await start(aiohttp_server, holding(more), tmp_path, types=HELD)
    gateway.server.app[WEBHOOKS].pauses = (0, 0, 0, 0)
    painter(gateway).free.set()
    return gateway


async def test_a_callers_server_is_told_and_can_check_who_tells(
    aiohttp_server: Any, tmp_path: Path, listener: Listener
) -> None:
    """Signed as the Standard Webhooks have it, with every key: HMAC-SHA256 of id, timestamp and body."""
    secret = base64.b64encode(b"0123456789abcdef").decode()
    gateway = await listened(
        aiohttp_server, tmp_path, listener, f"jobs: {{webhook_keys: [whsec_{secret}, a-plain-key]}}\n"
    )
    identity = await later(gateway, webhook=f"{listener.base}/hook?x=1")
    await until(lambda: listener.heard)
    headers, body = listener.heard[0]
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signatures = [
        "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        for key in (b"0123456789abcdef", b"a-plain-key")
    ]

    assert headers["webhook-signature"].split(" ") == signatures
    assert headers["webhook-id"] == identity
    assert headers["Content-Type"] == "application/json"
    told = json.loads(body)
    assert (told["id"], told["status"]) == (identity, "completed")
    assert told["result"]["data"][0]["url"].startswith(f"{gateway.base}/image/")


@pytest.mark.parametrize(
    ("statuses", "times"), [([500, 503], 3), ([302], 2), ([404, 429, 500], 4), ([500] * 9, 4), ([410], 1), ([204], 1)]
)
async def test_a_message_is_sent_until_it_is_taken(
    aiohttp_server: Any, tmp_path: Path, listener: Listener, statuses: list[int], times: int
) -> None:
    """Anything but a 2xx is tried again, 410 is not, and there is an end; no redirect is followed."""
    gateway = await listened(aiohttp_server, tmp_path, listener)
    listener.statuses = statuses
    await later(gateway, webhook=f"{listener.base}/hook")
    await until(lambda: len(listener.heard) == times)
    webhooks = gateway.server.app[WEBHOOKS]
    await until(lambda: not webhooks._tasks)

    assert len(listener.heard) == times
    assert len({body for _, body in listener.heard}) == 1


async def test_a_repeated_call_is_told_once(aiohttp_server: Any, tmp_path: Path, listener: Listener) -> None:
    """The same key three times: one job, one message; failed jobs are told as well."""
    gateway = await listened(aiohttp_server, tmp_path, listener)
    painter(gateway).faults.append(UpstreamTimeoutError("slow"))
    body = {**DRAW, "async": True, "webhook": f"{listener.base}/hook"}
    for _ in range(3):
        answer = await gateway.post("/v1/images/generations", body, headers={"Idempotency-Key": "k"})
        await finished(gateway, answer.json["id"])
    await until(lambda: not gateway.server.app[WEBHOOKS]._tasks)

    assert len(listener.heard) == 1
    assert json.loads(listener.heard[0][1])["status"] == "failed"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/hook",
        "http://169.254.169.254/latest",
        "http://[::1]/",
        "http://10.0.0.1/",
        "http://2130706433/",
        "http://localhost/",
        "http://printer.local/",
        "https://user:word@example.com/",
        "https://example.com:22/",
        "ftp://example.com/",
        "//example.com/",
        "https://" + "x" * 2000 + ".com",
        "",
        7,
        ["https://example.com"],
    ],
)
async def test_a_forbidden_webhook_is_refused_before_anything_is_drawn(held: Gateway, url: Any) -> None:
    """400 that names the field; no job is begun."""
    answer = await held.post("/v1/images/generations", {**DRAW, "async": True, "webhook": url})

    assert (answer.status, answer.error["param"]) == (400, "webhook")
    assert not painter(held).requests


async def test_a_name_that_turns_out_private_is_never_called(
    held: Gateway, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name looked harmless when the job was taken; what it resolves to is judged when the message is sent."""

    async def lookup(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(held.runtime.fetcher, "_lookup", lookup)
    held.server.app[WEBHOOKS].pauses = (0, 0)
    painter(held).free.set()
    identity = await later(held, webhook="http://hooks.example.com/hook")
    await finished(held, identity)
    await until(lambda: not held.server.app[WEBHOOKS]._tasks)

    assert not listener.heard
