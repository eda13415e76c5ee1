"""The embedded backend draws pictures from the words of the prompt: a demonstration, not an AI model."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from random import Random
from types import TracebackType
from typing import Annotated, Any

from PIL import Image as Pillow
from PIL import PngImagePlugin
from pydantic import Field

from gateway import Backend, Capabilities, Duration, Image, ImageRequest, Range, Report, Size, SizeRule, hookimpl

from .alteration import alter, read
from .canvas import Canvas
from .painter import CAPTION, paint, write_caption

FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
STEPS = 6
PREVIEWS: dict[int, tuple[int, ...]] = {0: (), 1: (2,), 2: (1, 2), 3: (1, 2, 3)}


@dataclass
class Demo:
    """Draws landscapes and figures out of the words of the prompt, the same for the same prompt, size and seed.

    *caption* writes "demo · not an AI model" into a corner. *delay* is how long it pretends to think, spread over the
    steps of the work, to try streams and time-outs with. *workers* is how many pictures are drawn at once.
    """

    caption: bool = True
    delay: Duration = 0
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    _pool: ThreadPoolExecutor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.workers, "demo")

    async def __aenter__(self) -> Demo:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def capabilities(self, model: str) -> Capabilities:
        """Any size from 64 to 2048, up to ten pictures, edits with up to four pictures and a mask."""
        return Capabilities(
            sizes=SizeRule(low=64, high=2048),
            native=Size(1024, 1024),
            count=10,
            accepts={
                "seed": Range(0, 2**63 - 1),
                "negative_prompt": True,
                "output_format": tuple(FORMATS),
                "output_compression": Range(0, 100),
                "partial_images": Range(0, 3),
                "user": True,
            },
            inputs=4,
            mask=True,
            partials=True,
            progress=True,
        )

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        """Draw ``request.n`` pictures; the seeds count up from the one asked for."""
        report.sending()
        first = secrets.randbelow(2**31) if request.seed is None else request.seed
        done = [0] * request.n
        drawn = (self._draw(request, first + index, index, done, report) for index in range(request.n))
        return list(await asyncio.gather(*drawn))

    async def _draw(self, request: ImageRequest, seed: int, index: int, done: list[int], report: Report) -> Image:
        previews = PREVIEWS[min(3, request.partial_images or 0)] if index == 0 else ()
        stages = await self._in_thread(_stages, request, seed)
        while (step := await self._in_thread(next, stages, None)) is not None:
            stage, canvas = step
            done[index] += 1
            report.progress(min(0.95, sum(done) / (len(done) * STEPS)), stage)
            if done[index] in previews:
                report.partial(await self._in_thread(_preview, canvas, request, seed))
            await asyncio.sleep(self.delay / STEPS)
        made: Image = await self._in_thread(_finish, canvas, request, seed, self.caption)
        done[index] = STEPS
        report.progress(sum(done) / (len(done) * STEPS), "finished")
        return made

    async def _in_thread(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)


def _stages(request: ImageRequest, seed: int) -> Iterator[tuple[str, Canvas]]:
    unwanted = request.negative_prompt or ""
    if not request.images:
        size = request.size or Size(1024, 1024)
        return paint(request.prompt, (size.width, size.height), seed, unwanted)
    mask = request.mask.data if request.mask else None
    given = [image.data for image in request.images]
    size = request.size or _size_of(given[0])
    return alter(request.prompt, (size.width, size.height), seed, given, mask, unwanted)


def _size_of(data: bytes) -> Size:
    width, height = read(data).size
    factor = min(1.0, 2048 / max(width, height))
    return Size(max(64, round(width * factor)), max(64, round(height * factor)))


def _preview(canvas: Canvas, request: ImageRequest, seed: int) -> Image:
    """Show the unfinished picture out of focus."""
    small = canvas.image.resize([max(1, side // 12) for side in canvas.final], Pillow.Resampling.BOX)
    return _encoded(small.resize(canvas.final, Pillow.Resampling.BICUBIC), request, seed)


def _finish(canvas: Canvas, request: ImageRequest, seed: int, caption: bool) -> Image:
    picture = canvas.finished(Random(seed))
    if caption:
        write_caption(picture)
    return _encoded(picture, request, seed)


def _encoded(picture: Pillow.Image, request: ImageRequest, seed: int) -> Image:
    """Write the picture, with the words of the caption in its metadata too."""
    format_ = FORMATS.get(request.output_format or "png", "PNG")
    quality = 90 if request.output_compression is None else max(1, request.output_compression)
    options: dict[str, Any] = {"quality": quality}
    if format_ == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("Software", f"image-gateway ({CAPTION})")
        options = {"compress_level": 3, "pnginfo": text}
    else:
        exif = Pillow.Exif()
        exif[0x0131] = "image-gateway (demo, not an AI model)"
        options["exif"] = exif
    buffer = BytesIO()
    picture.save(buffer, format=format_, **options)
    return Image(data=buffer.getvalue(), seed=seed)


@hookimpl
def provide_backends() -> Mapping[str, type[Backend]]:
    """Offer ``use: demo``."""
    return {"demo": Demo}
