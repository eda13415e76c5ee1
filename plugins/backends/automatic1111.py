"""Draws with a Stable Diffusion web UI of one's own: AUTOMATIC1111, Forge, SD.Next and their kin."""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Annotated, Any

import orjson
from PIL import Image as Pillow
from pydantic import Field

from gateway import (
    BrokenAnswerError,
    Capabilities,
    Duration,
    GatewayError,
    Http,
    Image,
    ImageRequest,
    Outgoing,
    Range,
    Report,
    Secret,
    Size,
    SizeRule,
    Upstream,
    UpstreamTimeoutError,
    Url,
    as_base64,
    decode,
    encode_picture,
    hookimpl,
    open_picture,
    repaint_mask,
    turn_of,
    whole_images,
)

ACCEPTS: Mapping[str, Any] = {
    "seed": Range(0, 2**32 - 1),
    "steps": Range(1, 150),
    "guidance": Range(0, 30),
    "negative_prompt": True,
}
GOODBYE = 5.0
MOST = 2048
SIDES = {"width", "height"}


@dataclass
class Automatic1111:
    """A web UI started with ``--api``; the upstream's model is a checkpoint's title, or nothing for the loaded one.

    *username* and *password* as in ``--api-auth``. It draws one job at a time and tells one progress for all, so that
    jobs of this component wait for each other here. *count* is how many pictures a call may make. *denoising* is how
    far an input picture may be left behind. *distilled* is for Flux in Forge, where the guidance is another field.
    *extra* is sent besides (``{sampler_name: Euler}``).
    """

    base_url: Url = "http://127.0.0.1:7860"
    username: str = ""
    password: Secret = field(default=Secret(""), repr=False)
    http: Http = field(default_factory=lambda: Http(first_byte=600, total=600))
    every: Annotated[Duration, Field(gt=0)] = 1
    count: Annotated[int, Field(ge=1, le=16)] = 4
    denoising: Annotated[float, Field(ge=0, le=1)] = 0.75
    distilled: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    _upstream: Upstream = field(init=False, repr=False)
    _turn: asyncio.Lock = field(init=False, repr=False, default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.base_url = self.base_url.rstrip("/")
        if ":" in self.username:
            raise ValueError("username must not hold a colon")
        keys = (Secret(f"{self.username}:{self.password}"),) if self.username else ()
        self._upstream = Upstream(self.http, keys, authorize=_basic, secrets=(self.password,))

    async def __aenter__(self) -> Automatic1111:
        await self._upstream.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._upstream.close()

    def health(self) -> Mapping[str, Any]:
        """Say whether the login was refused."""
        return self._upstream.health()

    def capabilities(self, model: str) -> Capabilities:
        """Say what every checkpoint takes."""
        return Capabilities(
            SizeRule(low=64, high=MOST, step=8),
            count=self.count,
            accepts=ACCEPTS,
            inputs=1,
            mask=True,
            partials=True,
            progress=True,
        )

    def outgoing(self, request: ImageRequest) -> Outgoing:
        """Give the call: ``txt2img``, or ``img2img`` with an input picture."""
        body: dict[str, Any] = {**self.extra, "prompt": request.prompt, "n_iter": request.n, "batch_size": 1}
        # A mask lies on the picture as it is stored.
        given = request.images[:1] if request.mask else tuple(map(_upright, request.images[:1]))
        size = request.size or (None if SIDES & set(self.extra) else _size_of(given))
        if size:
            body |= {"width": size.width, "height": size.height}
        named = {name: getattr(request, name) for name in ("negative_prompt", "steps", "seed")}
        body |= {name: value for name, value in named.items() if value is not None}
        if request.guidance is not None:
            distilled = {"distilled_cfg_scale": request.guidance, "cfg_scale": 1}
            body |= distilled if self.distilled else {"cfg_scale": request.guidance}
        if request.model:
            settings = {**body.get("override_settings", {}), "sd_model_checkpoint": request.model}
            # Not restored: to load the old checkpoint again after each picture takes longer than to draw it.
            body |= {"override_settings": settings, "override_settings_restore_afterwards": False}
        if request.images:
            body |= {"init_images": [as_base64(given[0])], "denoising_strength": self.denoising}
        if request.mask:
            white = as_base64(Image(repaint_mask(request.mask)))
            body |= {"mask": white, "inpainting_fill": 1, "inpaint_full_res": False}
        task = "img2img" if request.images else "txt2img"
        return Outgoing("POST", f"{self.base_url}/sdapi/v1/{task}", json=body)

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        """Draw, telling the progress; a cancelled job is interrupted. Nothing is paid, so that it may always be."""
        outgoing = await asyncio.to_thread(self.outgoing, request) if request.images else self.outgoing(request)
        async with self._turn, self._watched(report):
            try:
                answer = await self._upstream.send(outgoing, pictures=request.n + 1)
            except asyncio.CancelledError:
                await self._interrupt()
                raise
            except UpstreamTimeoutError as error:
                await self._interrupt()
                error.billed, error.retryable = False, True  # own electricity: another target may be tried
                raise
        body = answer.json()
        images = body.get("images") if isinstance(body, dict) else None
        if not isinstance(images, list) or not images or not all(isinstance(text, str) for text in images):
            raise BrokenAnswerError("answered without a picture")
        seeds, first = _told(body.get("info"))
        # A grid may come before the pictures, and control maps after them.
        texts = images[first if first < len(images) else 0 :][: request.n]
        drawn, broken = await whole_images(_image(text, _at(seeds, place)) for place, text in enumerate(texts))
        for each in broken:
            report.noted(f"a picture is missing: {each.message}")
        return drawn

    @contextlib.asynccontextmanager
    async def _watched(self, report: Report) -> AsyncIterator[None]:
        """Ask for the progress while the body runs."""
        watching = asyncio.create_task(self._watch(report))
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _watch(self, report: Report) -> None:
        place = f"{self.base_url}/sdapi/v1/progress?skip_current_image=false"
        shown = ""
        while True:
            await asyncio.sleep(self.every)
            try:
                body = (await self._upstream.send(Outgoing("GET", place))).json()
                state = body if isinstance(body, dict) else {}
                done, preview = state.get("progress"), state.get("current_image")
                if isinstance(done, int | float):
                    report.progress(done)
                if isinstance(preview, str) and preview and preview != shown:
                    shown = preview
                    report.partial(await _image(preview))
            except GatewayError:
                continue  # the picture itself does not depend on what is told meanwhile

    async def _interrupt(self) -> None:
        with contextlib.suppress(GatewayError, TimeoutError):
            async with asyncio.timeout(GOODBYE):
                await self._upstream.send(Outgoing("POST", f"{self.base_url}/sdapi/v1/interrupt"))


def _basic(login: str) -> Mapping[str, str]:
    return {"Authorization": "Basic " + b64encode(login.encode()).decode()}


def _told(info: object) -> tuple[list[Any], int]:
    """Read the seeds, and the place of the first picture, from *info*, which is JSON within a string."""
    try:
        told = orjson.loads(info) if isinstance(info, str) else info
    except orjson.JSONDecodeError:
        return [], 0
    seeds, first = (told.get("all_seeds"), told.get("index_of_first_image")) if isinstance(told, dict) else (None, 0)
    return seeds if isinstance(seeds, list) else [], first if isinstance(first, int) and first > 0 else 0


def _upright(image: Image) -> Image:
    """Turn a picture that lies on its side: not every version of the server heeds its EXIF, and none the mask's."""
    with Pillow.open(BytesIO(image.data)) as opened:
        turned = turn_of(opened) is not None
    return encode_picture(open_picture(image.data)[0], "image/png") if turned else image


def _size_of(images: Sequence[Image]) -> Size | None:
    """Give the size of an input picture, as near as can be made: without one its edit would be squashed to 512x512."""
    if not images or not (images[0].width and images[0].height):
        return None
    factor = min(1.0, MOST / max(images[0].width, images[0].height))
    width, height = (max(64, round(side * factor / 8) * 8) for side in (images[0].width, images[0].height))
    return Size(width, height)


async def _image(text: str, seed: int | None = None) -> Image:
    return Image(await decode(text), seed=seed)


def _at(seeds: list[Any], place: int) -> int | None:
    return seeds[place] if place < len(seeds) and isinstance(seeds[place], int) else None


@hookimpl
def provide_backends() -> Mapping[str, type[Automatic1111]]:
    """Offer ``automatic1111``."""
    return {"automatic1111": Automatic1111}
