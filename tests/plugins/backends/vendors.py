"""Fakes of the vendors' own APIs, each with every fault that `FakeUpstream` can show."""

from __future__ import annotations

import base64
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from gateway_plugins.backends.automatic1111 import Automatic1111
from gateway_plugins.backends.black_forest_labs import BlackForestLabs
from gateway_plugins.backends.comfyui import ComfyUI
from gateway_plugins.backends.fal import Fal
from gateway_plugins.backends.gemini import Gemini
from gateway_plugins.backends.huggingface import HuggingFace
from gateway_plugins.backends.replicate import Replicate
from gateway_plugins.backends.stability import Stability

from gateway import Backend, Http, Image, ImageRequest, Secret, Usage
from tests.fake_upstream import Call, FakeUpstream, make_app, png

KEYS = (Secret("canary-key-1"), Secret("canary-key-2"))
QUICK = Http(connect=2, first_byte=2, total=3, limit=2**20)
PICTURE = png(64, 32)


@dataclass
class Told:
    """A `Report` that remembers."""

    sent: int = 0
    done: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    partials: list[bytes] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)

    def sending(self) -> None:
        self.sent += 1

    def progress(self, done: float, note: str = "") -> None:
        self.done.append(done)
        self.notes.append(note)

    def partial(self, image: Image) -> None:
        self.partials.append(image.data)

    def used(self, usage: Usage) -> None:
        self.usages.append(usage)

    def noted(self, note: str) -> None:
        self.notes.append(note)


class Fake(FakeUpstream):
    """A vendor whose job passes through *states*, one per question, before it is done."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = PICTURE
        self.states: deque[Any] = deque()
        self.result: Any = None

    async def mode_ok(self, request: web.Request, call: Call, _: str) -> web.StreamResponse:
        """Serve finished pictures under ``/files/``, the API elsewhere."""
        return FakeUpstream.good(self, call) if call.path.startswith("/files/") else self.good(call)

    def paths(self) -> list[str]:
        return [f"{call.method} {call.path}" for call in self.calls]

    def state(self, done: Any) -> Any:
        return self.states.popleft() if self.states else (done if self.result is None else self.result)


class FakeBlackForestLabs(Fake):
    def good(self, call: Call) -> web.Response:
        if call.method == "POST":
            place = f"{self.base}/v1/get_result?id=job-1"
            return web.json_response({"id": "job-1", "polling_url": place} if self.error else self.result)
        sample = {"sample": self.file_url(), "seed": 7, "prompt": "a cat"}
        return web.json_response(self.state({"id": "job-1", "status": "Ready", "result": sample}))


class FakeStability(Fake):
    def good(self, call: Call) -> web.Response:
        return web.json_response(self.state({"image": self.encoded(), "finish_reason": "SUCCESS", "seed": 343}))


class FakeReplicate(Fake):
    def good(self, call: Call) -> web.Response:
        done = {"id": "p1", "status": "succeeded", "output": [self.file_url()] * 4}
        if call.path.endswith("/cancel"):
            return web.json_response({"id": "p1", "status": "canceled"})
        return web.json_response(self.state(done), status=201 if call.method == "POST" else 200)


class FakeFal(Fake):
    def good(self, call: Call) -> web.Response:
        place = f"{self.base}/fal-ai/flux/requests/r1"
        if call.method == "POST":
            urls = {"status_url": f"{place}/status", "response_url": place, "cancel_url": f"{place}/cancel"}
            return web.json_response({"request_id": "r1", "queue_position": 0, **urls})
        if call.path.endswith("/status"):
            return web.json_response(self.state({"status": "COMPLETED"}))
        images = [{"url": self.file_url(), "content_type": "image/jpeg", "width": 64, "height": 32}]
        done = {"images": images, "seed": 9, "has_nsfw_concepts": [False]}
        return web.json_response(done if self.result is None else self.result)

    def state(self, done: Any) -> Any:
        return self.states.popleft() if self.states else done


class FakeGemini(Fake):
    def good(self, call: Call) -> web.Response:
        if call.path.endswith(":predict"):
            return web.json_response(self.state({"predictions": [{"bytesBase64Encoded": self.encoded()}] * 2}))
        parts = [
            {"thought": True, "inlineData": {"mimeType": "image/png", "data": base64.b64encode(b"draft").decode()}},
            {"text": "Here it is."},
            {"inlineData": {"mimeType": "image/png", "data": self.encoded()}},
        ]
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}
        return web.json_response(self.state({"candidates": [candidate]}))


class FakeHuggingFace(Fake):
    def good(self, call: Call) -> web.Response:
        return web.Response(body=self.picture, content_type="image/jpeg")


class FakeAutomatic1111(Fake):
    def good(self, call: Call) -> web.Response:
        if call.path.endswith("/progress"):
            preview = base64.b64encode(b"preview").decode()
            return web.json_response({"progress": 0.5, "eta_relative": 1, "state": {}, "current_image": preview})
        if call.path.endswith("/interrupt"):
            return web.json_response({})
        count = call.json["n_iter"] + 1
        info = '{"all_seeds": [11, 12, 13, 14, 15]}'
        return web.json_response(self.state({"images": [self.encoded()] * count, "parameters": {}, "info": info}))


WORKFLOW = {
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": "%seed%", "steps": "%steps%", "cfg": "%guidance%", "model": ["4", 0], "denoise": 1},
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": "%width%", "height": "%height%", "batch_size": "%n%"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "%prompt%, masterpiece", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "%negative_prompt%", "clip": ["4", 1]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "gateway", "images": ["8", 0]}},
}


class FakeComfyUI(Fake):
    """Its websocket sends *messages* as soon as a workflow comes in: JSON values as text, bytes as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Any] = []
        self.socket: web.WebSocketResponse | None = None
        self.clients: list[str] = []
        self.deaf = False
        self.running = True

    async def listen(self, request: web.Request) -> web.StreamResponse:
        if self.deaf:
            raise web.HTTPForbidden
        self.socket = web.WebSocketResponse()
        self.clients.append(request.query["clientId"])
        assert "Origin" not in request.headers
        await self.socket.prepare(request)
        async for _ in self.socket:
            pass
        return self.socket

    async def mode_ok(self, request: web.Request, call: Call, _: str) -> web.StreamResponse:
        if call.path == "/prompt" and self.socket is not None:
            for message in self.messages:
                await (self.socket.send_bytes if isinstance(message, bytes) else self.socket.send_json)(message)
        return self.good(call)

    def good(self, call: Call) -> web.Response:
        images = [
            {"filename": "preview.png", "subfolder": "", "type": "temp"},
            {"filename": "gateway_1.png", "subfolder": "a b", "type": "output"},
        ]
        done = {"outputs": {"9": {"images": images}}, "status": {"status_str": "success", "completed": True}}
        answers: dict[str, Callable[[], Any]] = {
            "/prompt": lambda: {"prompt_id": "j-1", "number": 1, "node_errors": {}},
            "/history/j-1": lambda: self.state({"j-1": done}),
            "/queue": lambda: {"queue_running": [[1, "j-1", {}]] if self.running else [], "queue_pending": []},
            "/interrupt": dict,
            "/upload/image": lambda: {"name": call.files[0][1], "subfolder": "", "type": "input"},
        }
        if call.path == "/view":
            return web.Response(body=self.picture, content_type="image/png")
        return web.json_response(answers[call.path]())


@dataclass(frozen=True)
class Vendor:
    """A fake's class, how to make the backend for it, and a model that it serves."""

    fake: type[Fake]
    make: Callable[[str, Http], Any]
    model: str
    paid: bool = True
    keyed: bool = True


VENDORS = {
    "black_forest_labs": Vendor(
        FakeBlackForestLabs,
        lambda base, http: BlackForestLabs(KEYS, base, http, every=0.01, deadline=2),
        "flux-2-pro",
    ),
    "stability": Vendor(FakeStability, lambda base, http: Stability(KEYS, base, http), "core"),
    "replicate": Vendor(
        FakeReplicate,
        lambda base, http: Replicate(KEYS, base, http, every=0.01, deadline=2),
        "black-forest-labs/flux-schnell",
    ),
    "fal": Vendor(
        FakeFal, lambda base, http: Fal(KEYS, base, http=http, every=0.01, deadline=2), "fal-ai/flux/schnell"
    ),
    "gemini": Vendor(FakeGemini, lambda base, http: Gemini(KEYS, base, http=http), "gemini-3.1-flash-image"),
    "huggingface": Vendor(FakeHuggingFace, lambda base, http: HuggingFace(KEYS, base, http), "stabilityai/sdxl-turbo"),
    "automatic1111": Vendor(
        FakeAutomatic1111, lambda base, http: Automatic1111(base, http=http, every=0.01), "", paid=False, keyed=False
    ),
    "comfyui": Vendor(
        FakeComfyUI, lambda base, http: ComfyUI(WORKFLOW, base, http=http, every=0.01, deadline=2), "", False, False
    ),
}


@contextlib.asynccontextmanager
async def serving(fake: Fake) -> AsyncIterator[str]:
    """Run *fake* on a free port of this machine and give its address."""
    app = make_app(fake)
    if isinstance(fake, FakeComfyUI):
        app = web.Application(client_max_size=2**30)
        app.router.add_get("/ws", fake.listen)
        app.router.add_route("*", "/{path:.*}", fake.handle)
    server = TestServer(app, handler_cancellation=True)
    await server.start_server(shutdown_timeout=0.1)
    fake.base = f"http://127.0.0.1:{server.port}"
    try:
        yield fake.base
    finally:
        fake.released.set()
        await server.close()


@contextlib.asynccontextmanager
async def open_vendor(name: str, http: Http = QUICK) -> AsyncIterator[tuple[Fake, Any]]:
    """Give a running fake of *name* and the opened backend for it."""
    vendor = VENDORS[name]
    fake = vendor.fake()
    async with serving(fake) as base, vendor.make(base, http) as backend:
        yield fake, backend


async def draw(backend: Backend, request: ImageRequest, told: Told | None = None) -> list[Image]:
    """Make the pictures as the pipeline would."""
    return await backend.generate(request, told or Told())
