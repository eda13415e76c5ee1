"""Draws with a ComfyUI of one's own: fills a workflow, follows it on the websocket, fetches what it saved."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import uuid4

import aiohttp
import orjson
from pydantic import Field

from gateway import (
    Answer,
    BrokenAnswerError,
    Capabilities,
    Duration,
    FormField,
    Http,
    Image,
    ImageRequest,
    Keys,
    Outgoing,
    Range,
    Report,
    SizeRule,
    Upstream,
    UpstreamError,
    Url,
    Words,
    bearer,
    hookimpl,
    poll,
)

from .messages import judge, saved, show, tell
from .workflow import DEFAULTS, SLOT, fill, input_files, read_nodes

LIMITS: Mapping[str, Any] = {
    "seed": Range(0, 2**64 - 1),
    "steps": Range(1, 150),
    "guidance": Range(0, 100),
    "negative_prompt": True,
}
ID = re.compile(r"[\w-]{1,100}", re.ASCII)


@dataclass
class ComfyUI:
    """ComfyUI with a workflow exported as API format.

    *workflow* is that file, or the JSON itself. It says where the request goes in by placeholders (``%prompt%``,
    ``%negative_prompt%``, ``%width%``, ``%height%``, ``%seed%``, ``%steps%``, ``%guidance%``, ``%n%``, ``%model%``,
    ``%image%`` to ``%image_9%``, ``%mask%``) or *inputs* does (``{prompt: 6.text, width: 5.width}``); what it has no
    place for the target does not take. *defaults* fill placeholders that a request leaves open. *output* names the
    node whose pictures count, if not all. One job at a time; *deadline* bounds it, and it is interrupted then.
    """

    workflow: Path | Mapping[str, Any]
    base_url: Url = "http://127.0.0.1:8188"
    keys: Keys = ()
    inputs: Mapping[str, Words] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    output: str | None = None
    count: Annotated[int, Field(ge=1, le=16)] = 4
    http: Http = field(default_factory=lambda: Http(first_byte=30, total=60))
    every: Annotated[Duration, Field(gt=0)] = 2
    deadline: Annotated[Duration, Field(gt=0)] = 600
    _nodes: Mapping[str, Any] = field(init=False, repr=False)
    _slots: frozenset[str] = field(init=False, repr=False)
    _client: str = field(init=False, repr=False, default_factory=lambda: uuid4().hex)
    _turn: asyncio.Lock = field(init=False, repr=False, default_factory=asyncio.Lock)
    _upstream: Upstream = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.base_url = self.base_url.rstrip("/")
        self._nodes = read_nodes(self.workflow)
        for name, places in self.inputs.items():
            if not SLOT.fullmatch(f"%{name}%"):
                raise ValueError(f"inputs: {name!r} is nothing that a request has")
            for place in places:
                node, _, entry = place.partition(".")
                if node not in self._nodes or not entry:
                    raise ValueError(f"inputs.{name}: {place!r} is no node.input of the workflow")
        self._slots = frozenset(SLOT.findall(orjson.dumps(self._nodes).decode())) | frozenset(self.inputs)
        if "prompt" not in self._slots:
            raise ValueError("the workflow has no place for the prompt; write %prompt% into it, or name it in inputs")
        if self.output is not None and self.output not in self._nodes:
            raise ValueError(f"output: the workflow has no node {self.output!r}")
        self._upstream = Upstream(self.http, self.keys, classify=judge)

    async def __aenter__(self) -> ComfyUI:
        await self._upstream.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._upstream.close()

    def health(self) -> Mapping[str, Any]:
        """Count the keys, if it has any."""
        return self._upstream.health()

    def capabilities(self, model: str) -> Capabilities:
        """Say what the workflow has places for."""
        pictures = sum(name.startswith("image") for name in self._slots)
        return Capabilities(
            SizeRule(low=64, high=4096, step=8) if {"width", "height"} <= self._slots else (),
            count=self.count if "n" in self._slots else 1,
            accepts={name: limit for name, limit in LIMITS.items() if name in self._slots},
            inputs=pictures,
            needs_input=pictures > 0,
            mask="mask" in self._slots,
            partials=True,
            progress=True,
        )

    def outgoing(self, request: ImageRequest) -> Outgoing:
        """Give the call that queues the filled workflow; a request without a seed gets a random one when it is sent."""
        values = self._values(request)
        filled = fill(self._nodes, {**DEFAULTS, **self.defaults, **values})
        for name, places in self.inputs.items():
            for place in places if name in values else ():
                node, _, entry = place.partition(".")
                filled[node].setdefault("inputs", {})[entry] = values[name]
        return Outgoing("POST", f"{self.base_url}/prompt", json={"prompt": filled, "client_id": self._client})

    def _values(self, request: ImageRequest) -> dict[str, Any]:
        size = {"width": request.size.width, "height": request.size.height} if request.size else {}
        names = {f"image_{place}" if place > 1 else "image": file for place, file in enumerate(input_files(request), 1)}
        if request.mask:
            names["mask"] = names.pop(list(names)[-1])
        plain = {name: getattr(request, name) for name in ("prompt", "n", *LIMITS)} | {"model": request.model or None}
        given = {**plain, **size, **{name: file.filename for name, file in names.items()}}
        return {name: value for name, value in given.items() if value is not None}

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        """Draw, telling progress and previews; a cancelled job is interrupted. Nothing is paid, so that it may be."""
        # The same workflow with the same seed is not run again there: it answers nothing.
        request = request if request.seed is not None else replace(request, seed=secrets.randbelow(2**53))
        outgoing = await asyncio.to_thread(self.outgoing, request) if request.images else self.outgoing(request)
        async with self._turn:
            for file in await asyncio.to_thread(input_files, request):
                await self._upload(file)
            entry, submitted = await self._run(outgoing, report)
        found = saved(entry, self.output)
        seed = request.seed if len(found) == 1 and "seed" in self._slots else None
        return [Image(await self._view(place, submitted), seed=seed) for place in found[: request.n]]

    async def _run(self, outgoing: Outgoing, report: Report) -> tuple[Mapping[str, Any], Answer]:
        """Queue the workflow and wait until its history has it, whatever becomes of the websocket."""
        wake = asyncio.Event()
        async with self._followed(report, wake):
            submitted = await self._upstream.send(outgoing)
            body = submitted.json()
            job = body.get("prompt_id") if isinstance(body, dict) else None
            if not isinstance(job, str) or not ID.fullmatch(job):
                raise BrokenAnswerError("took the workflow but gave it no usable id")

            async def check() -> Mapping[str, Any] | None:
                history = (await self._get(f"/history/{job}", submitted)).json()
                entry = history.get(job) if isinstance(history, dict) else None
                return entry if isinstance(entry, dict) else None

            async def cancel() -> None:
                await self._cancel(job, submitted)

            try:
                entry = await poll(check, every=self.every, deadline=self.deadline, cancel=cancel, wake=wake)
            except UpstreamError as error:
                error.billed, error.retryable = False, True  # own electricity: another target may be tried
                raise
            return entry, submitted

    async def _upload(self, file: FormField) -> None:
        form = (file, FormField("type", "input"), FormField("overwrite", "true"))
        answer = (await self._upstream.send(Outgoing("POST", f"{self.base_url}/upload/image", form=form))).json()
        if not isinstance(answer, dict) or answer.get("name") != file.filename or answer.get("subfolder"):
            raise BrokenAnswerError("took the input picture under another name")

    async def _view(self, place: Mapping[str, str], submitted: Answer) -> bytes:
        return (await self._get(f"/view?{urlencode(place)}", submitted)).body

    async def _get(self, path: str, submitted: Answer) -> Answer:
        return await self._upstream.send(Outgoing("GET", self.base_url + path), after=submitted)

    async def _cancel(self, job: str, submitted: Answer) -> None:
        """Take the job out of the queue, or interrupt it; never another's that runs just now."""
        post = f"{self.base_url}/queue"
        await self._upstream.send(Outgoing("POST", post, json={"delete": [job]}), after=submitted)
        queue = (await self._get("/queue", submitted)).json()
        running = queue.get("queue_running") if isinstance(queue, dict) else None
        if isinstance(running, list) and any(isinstance(item, list) and job in item[:2] for item in running):
            stop = Outgoing("POST", f"{self.base_url}/interrupt", json={"prompt_id": job})
            await self._upstream.send(stop, after=submitted)

    @contextlib.asynccontextmanager
    async def _followed(self, report: Report, wake: asyncio.Event) -> AsyncIterator[None]:
        """Listen while the body runs; without a websocket there is no progress, but there is a picture."""
        ready = asyncio.Event()
        listening = asyncio.create_task(self._listen(report, wake, ready))
        try:
            # Connected first, so that no message of the job is missed.
            waiting = asyncio.create_task(ready.wait())
            try:
                await asyncio.wait({listening, waiting}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
            yield
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening

    async def _listen(self, report: Report, wake: asyncio.Event, ready: asyncio.Event) -> None:
        headers = bearer(self.keys[0]) if self.keys else {}
        url = f"{self.base_url}/ws?clientId={self._client}"
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(self.http.connect + self.http.first_byte):
                socket = await self._upstream.session.ws_connect(url, headers=headers, max_msg_size=self.http.limit)
            async with socket:
                ready.set()
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.BINARY:
                        show(message.data, report)
                    elif message.type is aiohttp.WSMsgType.TEXT:
                        tell(message.data, report, wake)


@hookimpl
def provide_backends() -> Mapping[str, type[ComfyUI]]:
    """Offer ``comfyui``."""
    return {"comfyui": ComfyUI}
