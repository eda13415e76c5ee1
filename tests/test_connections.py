"""What is no HTTP: told like every other error, with nothing of what was sent, and the connection is closed."""

import asyncio
import json
import logging
import re
import time

import pytest
from aiohttp import web

from tests.canaries import CALLER_KEY, MARK
from tests.gateways import DEMO, start

TORN = {
    "a first line": "GET / HTTP/9.9 <script>\r\nHost: x\r\n\r\n",
    "noise": "\x16\x03\x01<script>\r\n\r\n",
    "a header": f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer {CALLER_KEY}\r\n\r\n",
    "a header's value": f"GET / HTTP/1.1\r\nHost: x\r\nX-A: <script>\x01{CALLER_KEY}\r\n\r\n",
    "a long header": f"GET / HTTP/1.1\r\nHost: x\r\nX-A: {'<script>' * 2_000}\r\n\r\n",
    "many headers": "GET / HTTP/1.1\r\nHost: x\r\n" + "".join(f"X-{n}: <script>\r\n" for n in range(140)) + "\r\n",
    "an address": "GET http://[<script>/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a length": "POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: <script>\r\n\r\n",
    "an encoding": "POST /v1/models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: <script>\r\n\r\n",
}


@pytest.fixture
async def gateway(aiohttp_server, tmp_path):
    return await start(aiohttp_server, DEMO, tmp_path)


async def told(gateway, sent):
    """Send bytes, read until the server closes; give the head as a dict of lower-case names, and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(sent.encode("latin-1") if isinstance(sent, str) else sent)
    async with asyncio.timeout(5):
        got = await reader.read()
    writer.close()
    head, _, body = got.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    return first, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


@pytest.mark.parametrize("name", TORN)
async def test_it_is_an_openai_error_with_an_id_and_no_versions(gateway, name):
    """SDKs and web pages can read it; nothing of the request is in it."""
    first, headers, body = await told(gateway, TORN[name])
    error = json.loads(body)["error"]

    assert first.split()[1] == "400"
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "malformed_request", None)
    assert headers["content-type"].startswith("application/json")
    assert headers["server"] == "image-gateway"
    assert re.fullmatch(r"req_[0-9a-f]{24}", headers["x-request-id"])
    assert error["request_id"] == headers["x-request-id"]
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    assert (headers["access-control-allow-origin"], headers["vary"]) == ("*", "Origin")
    for secret in ("script", "aiohttp", "Python", MARK, "\x01"):
        assert secret not in f"{headers}{body}"


async def test_each_reason_is_told_in_words(gateway):
    """Whoever writes a client by hand learns where to look."""
    messages = {name: json.loads((await told(gateway, sent))[2])["error"]["message"] for name, sent in TORN.items()}

    assert "first line" in messages["a first line"]
    assert "header" in messages["a header"]
    assert "too long" in messages["a long header"]
    assert "too many" in messages["many headers"]
    assert "address" in messages["an address"]


async def test_listed_origins_are_not_told_to_strangers(aiohttp_server, tmp_path):
    """Who asks cannot be read, so that no page may read the answer unless all may."""
    gateway = await start(aiohttp_server, DEMO + "server: {origins: [https://app.example]}\n", tmp_path)
    _, headers, _ = await told(gateway, TORN["a header"].replace("\r\n\r\n", "\r\nOrigin: https://app.example\r\n\r\n"))

    assert "access-control-allow-origin" not in headers
    assert headers["vary"] == "Origin"


async def test_what_is_torn_stands_in_the_log_by_its_kind_alone(gateway, caplog):
    """Its bytes may be anybody's key, and a traceback per stranger fills disks."""
    caplog.set_level(logging.INFO)
    for sent in TORN.values():
        _, headers, _ = await told(gateway, sent)
        assert headers["x-request-id"] in caplog.text

    assert "script" not in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_request_before_the_torn_one_is_answered_first(gateway):
    """The torn one ends the connection, not what was asked well before it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    first = await reader.readuntil(b"\r\n\r\n")
    writer.write(TORN["a header"].encode())
    rest = await reader.read()
    writer.close()

    assert first.startswith(b"HTTP/1.1 200")
    assert b" 400 Bad Request" in rest
    assert b"malformed_request" in rest


BESIDE = """
from aiohttp import web
from gateway import hookimpl

@web.middleware
async def broken(request, handler):
    raise RuntimeError("/srv/private is broken")

@hookimpl
def setup_app(app):
    app.middlewares.insert(0, broken)
"""


async def test_a_fault_outside_of_the_gateway_s_own_middleware_has_the_same_form(aiohttp_server, tmp_path, caplog):
    """A plugin's middleware may stand before all that turns errors into words."""
    (tmp_path / "plugin.py").write_text(BESIDE)
    gateway = await start(aiohttp_server, DEMO + "plugins: [plugin.py]\n", tmp_path)
    answer = await gateway.get("/health", headers={"Origin": "https://app.example"})

    assert answer.status == 500
    assert answer.error["code"] == "internal_error"
    assert answer.error["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-request-id"] in caplog.text
    assert "private" not in answer.text
    assert answer.headers["Access-Control-Allow-Origin"] in {"*", "https://app.example"}


@pytest.mark.parametrize("sent", ["", "GET /health HTTP/1.1\r\nHost: x\r\n", "G"])
async def test_who_says_nothing_is_not_waited_for(aiohttp_server, tmp_path, sent):
    """Neither a silent connection nor half a head holds its place longer than ``keep_alive``."""
    gateway = await start(aiohttp_server, DEMO + "server: {keep_alive: 300ms}\n", tmp_path)
    began = time.monotonic()
    assert await told(gateway, sent) == ("", {}, "")

    assert 0.2 < time.monotonic() - began < 1.5


async def test_a_head_that_drips_does_not_stretch_the_time(aiohttp_server, tmp_path):
    """One line now and then, for ever: the time is that of the whole head."""
    gateway = await start(aiohttp_server, DEMO + "server: {keep_alive: 500ms}\n", tmp_path)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n")
    began = time.monotonic()
    for number in range(40):
        writer.write(b"X-%d: y\r\n" % number)
        try:
            async with asyncio.timeout(0.1):
                assert await reader.read() == b""
            break
        except TimeoutError:
            continue
    writer.close()

    assert time.monotonic() - began < 2


async def test_a_kept_connection_is_closed_when_nothing_more_comes(aiohttp_server, tmp_path):
    """After an answer as before the first request; and half a second request does not hold it either."""
    gateway = await start(aiohttp_server, DEMO + "server: {keep_alive: 300ms}\n", tmp_path)
    for more in (b"", b"GET /health HT"):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(more)
        async with asyncio.timeout(2):
            await reader.read()
        writer.close()


def test_the_library_still_lets_its_connections_be_made_by_hand():
    """The names that the gateway's own connections stand on are public."""
    assert {"RequestHandler", "Server", "AppRunner"} <= set(web.__all__)
    assert callable(web.RequestHandler.handle_error)
