"""The upstreams of both Workers, as strict as the real ones; they run in a thread beside the gateway's process."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from aiohttp import web
from PIL import Image

from tests.fake_upstream import Call, FakeUpstream, cloudflare_envelope, cloudflare_error, make_app

SCHNELL = "@cf/black-forest-labs/flux-1-schnell"


@cache
def photo(width: int = 1024, height: int = 1024, kind: str = "JPEG") -> bytes:
    """Make a picture whose corners differ, so that a crop can be told from a squeeze."""
    held = io.BytesIO()
    Image.radial_gradient("L").resize((width, height)).convert("RGB").save(held, kind)
    return held.getvalue()


class Vendors(FakeUpstream):
    """Workers AI that refuses what its schema does not know, a SiliconFlow that gives links, chat models that draw.

    *message* is what a chat model below ``/direct`` answers; *draws* is the picture of the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.picture = photo()
        self.message: dict[str, Any] = {}
        self.reasoning = ""
        self.loop: asyncio.AbstractEventLoop | None = None

    def reset(self) -> None:
        """Forget what an earlier test set."""
        base, loop = self.base, self.loop
        Vendors.__init__(self)
        self.base, self.loop = base, loop

    def release(self) -> None:
        """Let the calls go on that hang; they wait in another thread."""
        if self.loop:
            self.loop.call_soon_threadsafe(self.released.set)

    @property
    def prompts(self) -> list[Call]:
        """The calls to chat models that write prompts."""
        return [call for call in self.calls if call.path.startswith("/llm")]

    @property
    def drawn(self) -> list[Call]:
        """The calls that make pictures."""
        return [call for call in self.paid() if not call.path.startswith("/llm")]

    def good(self, call: Call) -> web.Response:
        """Answer as the API at this path does."""
        if call.path.endswith(f"/ai/run/{SCHNELL}"):
            return self._schnell(call)
        if call.path.startswith("/files/"):
            return web.Response(body=self.picture, content_type="image/jpeg")
        if call.path.startswith("/direct"):
            return web.json_response(self.chat({"role": "assistant", "content": "", **self.message}))
        if call.path.startswith("/llm") and self.reasoning:
            message = {"role": "assistant", "content": self.words, "reasoning_content": self.reasoning}
            return web.json_response(self.chat(message))
        return super().good(call)

    def _schnell(self, call: Call) -> web.Response:
        """Take prompt and steps, nothing else, and answer a square JPEG."""
        body = call.json if isinstance(call.json, dict) else {}
        prompt, steps = body.get("prompt"), body.get("steps", 4)
        surplus = set(body) - {"prompt", "steps"}
        good = isinstance(prompt, str) and 1 <= len(prompt) <= 2048 and isinstance(steps, int) and 1 <= steps <= 8
        if surplus or not good or isinstance(steps, bool):
            words = f"AiError: Bad input: Error: unevaluated or wrong properties {sorted(surplus) or sorted(body)}"
            return web.json_response(cloudflare_error(5006, words), status=400)
        return web.json_response(cloudflare_envelope(base64.b64encode(self.picture).decode()))


@contextmanager
def running(vendors: Vendors) -> Iterator[Vendors]:
    """Serve *vendors* on a free port of this machine, in a thread with a loop of its own."""
    loop = asyncio.new_event_loop()

    async def begin() -> web.AppRunner:
        vendors.loop = loop
        runner = web.AppRunner(make_app(vendors), handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        vendors.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
    try:
        yield vendors
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
