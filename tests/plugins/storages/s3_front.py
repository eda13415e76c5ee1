"""A front before a real S3 server: it passes every call on as it came, or answers first what a troubled store would."""

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


def refusal(status, code, **more):
    """Make the answer that S3 gives when it refuses."""
    fields = "".join(f"<{name}>{value}</{name}>" for name, value in more.items())
    words = "internal-host-7 says no"
    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{words}</Message>{fields}</Error>'
    return lambda request: web.Response(status=status, text=text, content_type="application/xml")


def redirect(to):
    """Make the answer that S3 gives for a bucket that has moved."""
    text = "<Error><Code>TemporaryRedirect</Code><Message>Please re-send this request</Message></Error>"
    headers = {"Location": to}
    return lambda request: web.Response(status=307, text=text, content_type="application/xml", headers=headers)


class Front:
    """*next* are answers for the coming calls, *always* is one for all; *latency* is waited before each answer.

    *only* says which calls are meant; *after* lets the store do what was asked before it is answered wrongly.
    """

    def __init__(self, endpoint):
        self.endpoint, self.next, self.always, self.latency = endpoint, deque(), None, 0
        self.only, self.after = lambda request: True, False
        self.calls = []

    def mend(self):
        self.next.clear()
        self.always, self.latency = None, 0

    async def answer(self, request):
        self.calls.append((time.monotonic(), request.method, request.path))
        wrong = None
        if self.only(request):
            await asyncio.sleep(self.latency)
            wrong = self.next.popleft() if self.next else self.always
        if wrong and not self.after:
            await request.read()
            return wrong(request)
        right = await self.passed_on(request)
        return wrong(request) if wrong else right

    async def passed_on(self, request):
        url = URL(self.endpoint + request.raw_path, encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        data = await request.read()
        async with self.session.request(
            request.method, url, headers=headers, data=data or None, allow_redirects=False
        ) as answer:
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP]
            body = await answer.read()
            if request.method == "HEAD":
                kept.append(("Content-Length", answer.headers.get("Content-Length", "0")))
            return web.Response(status=answer.status, headers=kept, body=body if request.method != "HEAD" else None)


@asynccontextmanager
async def front_of(endpoint):
    """Run a front; *base* is its own endpoint."""
    front = Front(endpoint)
    app = web.Application(client_max_size=2**28)
    app.router.add_route("*", "/{rest:.*}", front.answer)
    async with aiohttp.ClientSession(auto_decompress=False) as front.session, TestServer(app) as server:
        front.base = str(server.make_url("")).rstrip("/")
        yield front
