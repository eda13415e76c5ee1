"""An upstream that misbehaves on request: imitates the image and chat APIs, and shows each fault in turn.

``python -m tests.fake_upstream --port 9000`` runs it alone; ``GET /mode/NAME`` then changes what it does.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import email
import email.policy
import gzip
import json
import random
import struct
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cache
from typing import Any

from aiohttp import web

Send = Callable[[web.StreamResponse], Awaitable[None]]


def png(width: int = 8, height: int = 8, noise: int = 0) -> bytes:
    """Make a true PNG of one colour, made at least *noise* bytes long by a private chunk."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(b"".join(b"\0" + b"\x30\x60\x90" * width for _ in range(height)))
    filler = chunk(b"noIs", random.Random(1).randbytes(noise)) if noise else b""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + filler + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@dataclass
class Call:
    """One request as it arrived."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    json: Any = None
    fields: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    """Files of a form: field name, file name, content type, bytes."""

    @property
    def key(self) -> str:
        """The bearer token."""
        return self.headers.get("Authorization", "").removeprefix("Bearer ")


class FakeUpstream:
    """Set *mode* for all calls to come, or append to *modes* for one call each; read *calls* afterwards.

    *keys* gives a mode to calls that bear a certain key. *picture* is what a success answers, *words* what a chat
    model says. ``status:NNN`` with *error* as the body shows any status.
    """

    def __init__(self) -> None:
        self.mode = "ok"
        self.modes: deque[str] = deque()
        self.keys: dict[str, str] = {}
        self.picture = png(1024, 1024)
        self.words = "a cute cat, soft light"
        self.error: Any = {"error": {"message": "it went wrong", "type": "server_error", "code": None}}
        self.headers: dict[str, str] = {}
        self.calls: list[Call] = []
        self.sent = 0
        self.released = asyncio.Event()
        self.base = ""

    @property
    def last(self) -> Call:
        return self.calls[-1]

    def paid(self) -> list[Call]:
        """Give the calls that could cost money: all but the fetching of results."""
        return [call for call in self.calls if not call.path.startswith("/files/")]

    # What a healthy API says ---------------------------------------------------------------------------------

    def encoded(self) -> str:
        return base64.b64encode(self.picture).decode()

    def file_url(self) -> str:
        return f"{self.base}/files/picture.png?Signature=a%2Fb%3D"

    def good(self, call: Call) -> web.Response:
        """Answer as the API at this path does."""
        path = call.path
        if path.startswith("/files/"):
            return web.Response(body=self.picture, content_type="image/png")
        if "/ai/run/" in path or "/workers-ai/" in path:
            return self._cloudflare(path)
        if path.endswith("/chat/completions"):
            return web.json_response(self.chat({"role": "assistant", "content": self.words}))
        if path.endswith("/models"):
            return web.json_response({"object": "list", "data": [{"id": "fake"}]})
        if path.endswith("/text_to_image") or "/image_generation/" in path:
            return web.Response(body=self.picture, content_type="image/png")
        return web.json_response(self._images(call))

    def _cloudflare(self, path: str) -> web.Response:
        if any(name in path for name in ("phoenix", "stable-diffusion", "dreamshaper")):
            return web.Response(body=self.picture, content_type="image/png", headers={"cf-ai-neurons": "172.80"})
        return web.json_response(cloudflare_envelope(self.encoded()))

    def _images(self, call: Call) -> dict[str, Any]:
        asked = call.json if isinstance(call.json, dict) else call.fields
        count = int(asked.get("n") or asked.get("batch_size") or 1)
        if "image_size" in asked:
            return {"images": [{"url": self.file_url()}] * count, "timings": {"inference": 1.2}, "seed": 123}
        if asked.get("response_format") == "url":
            return {"created": 1, "data": [{"url": self.file_url()}] * count}
        return {"created": 1, "data": [{"b64_json": self.encoded()}] * count}

    def chat(self, message: dict[str, Any]) -> dict[str, Any]:
        """Wrap *message* as a chat completion."""
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake", "choices": [choice]}

    # What an ill one does ------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Record the call and do what the mode says."""
        call = await _recorded(request)
        self.calls.append(call)
        own = None if call.path.startswith("/files/") else self.keys.get(call.key)
        mode = own or (self.modes.popleft() if self.modes else self.mode)
        name, _, argument = mode.partition(":")
        answer = getattr(self, f"mode_{name}", None)
        if answer is None:
            raise web.HTTPNotImplemented(text=f"the fake knows no mode {mode!r}")
        response: web.StreamResponse = await answer(request, call, argument)
        return response

    async def mode_ok(self, request: web.Request, call: Call, _: str) -> web.StreamResponse:
        return self.good(call)

    async def mode_slow(self, request: web.Request, call: Call, seconds: str) -> web.StreamResponse:
        await asyncio.sleep(float(seconds or 1))
        return self.good(call)

    async def mode_hang(self, request: web.Request, call: Call, _: str) -> web.StreamResponse:
        """Answer nothing until the test releases it."""
        await self.released.wait()
        return self.good(call)

    async def mode_hang_in_body(self, request: web.Request, call: Call, _: str) -> web.StreamResponse:
        response = await _begin(request, {"Content-Type": "application/json"})
        await response.write(b'{"result":')
        await self.released.wait()
        return response

    async def mode_drip(self, request: web.Request, call: Call, _: str) -> web.StreamResponse:
        """Send a byte now and then, so that no read ever times out."""
        response = await _begin(request, {"Content-Type": "application/json"})
        while not self.released.is_set():
            await response.write(b" ")
            await asyncio.sleep(0.02)
        return response

    async def mode_reset(self, request: web.Request, call: Call, count: str) -> web.StreamResponse:
        """Cut the connection: before any answer, or after *count* bytes of the body."""
        assert request.transport is not None
        if not count:
            request.transport.abort()
            return web.Response()
        body = bytes(self.good(call).body or b"")  # type: ignore[arg-type]  # always bytes here
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body) + 1)}
        response = await _begin(request, headers)
        await response.write(body[: int(count)])
        await asyncio.sleep(0.01)
        request.transport.abort()
        return response

    async def mode_cut(self, request: web.Request, call: Call, _: str) -> web.StreamResponse:
        """Answer half a body as if it were whole."""
        whole = self.good(call)
        body = bytes(whole.body or b"")  # type: ignore[arg-type]  # always bytes here
        return web.Response(body=body[: len(body) // 2], content_type=whole.content_type)

    async def mode_text(self, request: web.Request, call: Call, _: str) -> web.StreamResponse:
        """Answer well, but declare it as plain text."""
        whole = self.good(call)
        return web.Response(body=whole.body, content_type="text/plain")

    async def mode_type(self, request: web.Request, call: Call, declared: str) -> web.StreamResponse:
        return web.Response(body=self.good(call).body, content_type=declared)

    async def mode_html(self, request: web.Request, call: Call, status: str) -> web.StreamResponse:
        page = "<!DOCTYPE html><html><title>Bad gateway</title><script>canary()</script></html>"
        return web.Response(text=page, content_type="application/json", status=int(status or 200))

    async def mode_body(self, request: web.Request, call: Call, _: str) -> web.StreamResponse:
        """Answer *error* with 200: bytes as they are, anything else as JSON."""
        raw = self.error if isinstance(self.error, bytes) else json.dumps(self.error).encode()
        return web.Response(body=raw, content_type="application/json", headers=self.headers)

    async def mode_status(self, request: web.Request, call: Call, status: str) -> web.StreamResponse:
        raw = self.error if isinstance(self.error, bytes) else json.dumps(self.error).encode()
        return web.Response(body=raw, status=int(status), content_type="application/json", headers=self.headers)

    async def mode_echo(self, request: web.Request, call: Call, status: str) -> web.StreamResponse:
        """Fail with the caller's own key in the words, as careless APIs do."""
        error = {"error": {"message": f"Incorrect API key provided: {call.key}", "code": "invalid_api_key"}}
        return web.json_response(error, status=int(status or 401))

    async def mode_limited(self, request: web.Request, call: Call, after: str) -> web.StreamResponse:
        """Answer 429 with *after* as Retry-After; ``date`` stands for a date a minute from now."""
        value = formatdate(time.time() + 60, usegmt=True) if after == "date" else after
        headers = {"Retry-After": value} if value else {}
        error = {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}
        return web.json_response(error, status=429, headers=headers)

    async def mode_refuse(self, request: web.Request, call: Call, _: str) -> web.StreamResponse:
        """Refuse the content as the API at this path does."""
        if "/ai/run/" in call.path:
            words = "AiError: AiError: Input prompt contains NSFW content. (4d0c5e2e)"
            return web.json_response(cloudflare_error(8007, words), status=400)
        error = {
            "message": "Your request was rejected by the safety system.",
            "type": "image_generation_user_error",
            "code": "moderation_blocked",
        }
        return web.json_response({"error": error}, status=400)

    async def mode_big(self, request: web.Request, call: Call, _: str) -> web.StreamResponse:
        """Announce 100 MB and begin to send them."""
        response = await _begin(request, {"Content-Type": "application/json", "Content-Length": str(100 * 2**20)})
        return await self._pour(request, response, b'{"result":{"image":"', 100 * 2**20)

    async def mode_endless(self, request: web.Request, call: Call, start: str) -> web.StreamResponse:
        response = await _begin(request, {"Content-Type": "application/json"})
        return await self._pour(request, response, start.encode() or b'{"result":{"image":"', 2**40)

    async def _pour(
        self, request: web.Request, response: web.StreamResponse, start: bytes, total: int
    ) -> web.StreamResponse:
        piece = b"A" * 2**16
        self.sent = len(start)
        await response.write(start)
        while self.sent < total and request.transport and not request.transport.is_closing():
            await response.write(piece)
            self.sent += len(piece)
        return response

    async def mode_bomb(self, request: web.Request, call: Call, _: str) -> web.StreamResponse:
        """Answer 40 MB of zeros packed into 40 kB, although nobody allowed gzip."""
        return web.Response(body=_bomb(), content_type="application/json", headers={"Content-Encoding": "gzip"})

    async def mode_gzip(self, request: web.Request, call: Call, _: str) -> web.StreamResponse:
        whole = self.good(call)
        packed = gzip.compress(bytes(whole.body or b""))  # type: ignore[arg-type]  # always bytes here
        return web.Response(body=packed, content_type=whole.content_type, headers={"Content-Encoding": "gzip"})

    async def mode_redirect(self, request: web.Request, call: Call, target: str) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": target or "http://169.254.169.254/latest/meta-data/"})

    async def mode_headers(self, request: web.Request, call: Call, kind: str) -> web.StreamResponse:
        """Write a raw answer whose headers are too many, too long or torn."""
        assert request.transport is not None
        bad = {
            "many": b"".join(b"X-%d: y\r\n" % number for number in range(1000)),
            "long": b"X-Long: " + b"y" * 100_000 + b"\r\n",
            "torn": b"X-Torn: a\rb\nSet-Cookie: canary=1\r\n",
        }[kind]
        request.transport.write(b"HTTP/1.1 200 OK\r\n" + bad + b"Content-Length: 2\r\n\r\n{}")
        await asyncio.sleep(0.05)
        request.transport.abort()
        return web.Response()

    async def mode_closing(self, request: web.Request, call: Call, _: str) -> web.StreamResponse:
        """Answer well and close the connection without a word."""
        response = self.good(call)
        await response.prepare(request)
        await response.write_eof()
        assert request.transport is not None
        request.transport.close()
        return response


@cache
def _bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b"{" + b"0" * (2**20 - 1)) for _ in range(40)) + packer.flush()


def cloudflare_envelope(image: str) -> dict[str, Any]:
    """Wrap base64 as Workers AI does."""
    return {"result": {"image": image}, "success": True, "errors": [], "messages": []}


def cloudflare_error(code: int, message: str) -> dict[str, Any]:
    """Say what is wrong as Workers AI does."""
    return {"errors": [{"message": message, "code": code}], "success": False, "result": {}, "messages": []}


def make_app(fake: FakeUpstream) -> web.Application:
    """Make the application; every path is answered by *fake*."""

    async def set_mode(request: web.Request) -> web.Response:
        fake.mode = request.match_info["mode"]
        return web.json_response({"mode": fake.mode, "calls": len(fake.calls)})

    app = web.Application(client_max_size=2**30)
    app.router.add_get("/mode/{mode:.+}", set_mode)
    app.router.add_route("*", "/{path:.*}", fake.handle)
    return app


async def _recorded(request: web.Request) -> Call:
    body = await request.read()
    call = Call(request.method, request.path, dict(request.query), request.headers.copy(), body)
    if request.content_type == "application/json" and body:
        call.json = json.loads(body)
    if request.content_type == "multipart/form-data":
        # Parsed from the bytes: they are kept as well, and aiohttp's own reader wants them unread.
        head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
        for part in email.message_from_bytes(head + body, policy=email.policy.HTTP).iter_parts():
            name = str(part.get_param("name", "", "Content-Disposition"))
            content = part.get_payload(decode=True)
            if part.get_filename() is not None:
                call.files.append((name, str(part.get_filename()), part.get_content_type(), content))
            else:
                call.fields[name] = content.decode()
    return call


async def _begin(request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    return response


def main() -> None:
    """Run alone, for benchmarks and by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--mode", default="ok")
    parser.add_argument("--bytes", type=int, default=0, help="make the picture about this many bytes long")
    options = parser.parse_args()
    fake = FakeUpstream()
    fake.mode, fake.base = options.mode, f"http://127.0.0.1:{options.port}"
    fake.picture = png(1024, 1024, options.bytes)
    web.run_app(make_app(fake), host="127.0.0.1", port=options.port, access_log=None, handler_cancellation=True)


if __name__ == "__main__":
    main()
