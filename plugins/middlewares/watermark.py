"""Puts a text or a logo onto every picture before it is stored."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from PIL import Image as Pillow
from PIL import ImageColor, ImageDraw, ImageFont
from pydantic import Field

from gateway import GatewayError, Image, Proceed, Stage, Work, encode_picture, hookimpl, open_picture

Position = Literal["top-left", "top", "top-right", "left", "center", "right", "bottom-left", "bottom", "bottom-right"]
Share = Annotated[float, Field(gt=0, le=1)]
QUALITY = 92


@dataclass
class Watermark:
    """Puts *text*, or the picture in the file *image*, at *position*.

    *size* is its width as a share of the picture's, at most; *margin* the distance from the edge as a share of the
    shorter side. *font* is a TrueType file for letters that the built-in font lacks. The picture is written anew in its
    own format and loses its metadata: name ``metadata`` after this one. A picture that cannot be marked is not stored.
    """

    text: str = ""
    image: Path | None = None
    position: Position = "bottom-right"
    opacity: Share = 0.6
    size: Share = 0.2
    margin: Annotated[float, Field(ge=0, le=0.5)] = 0.025
    colour: str = "white"
    font: Path | None = None
    stages: tuple[Stage, ...] = field(init=False, default=("store",))
    _logo: Pillow.Image | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        if bool(self.text.strip()) == bool(self.image):
            raise ValueError("it needs either a text or an image")
        ImageColor.getrgb(self.colour)
        if self.image:
            self._logo = _logo(self.image)
        if self.font:
            _font(self.font, 20)

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        """Mark the pictures off the event loop, then let them be stored."""
        images = [await asyncio.to_thread(self._marked, image) for image in work.images]
        return await proceed(replace(work, images=tuple(images)))

    def _marked(self, image: Image) -> Image:
        picture, media_type = open_picture(image.data)
        mode = "RGBA" if picture.mode == "RGBA" else "RGB"
        ground = picture.convert("RGBA")
        layer = Pillow.new("RGBA", ground.size)
        mark = self._mark(ground.size)
        layer.paste(mark, _place(self.position, ground.size, mark.size, round(min(ground.size) * self.margin)))
        made = Pillow.alpha_composite(ground, layer).convert(mode)
        if picture.mode != "L":
            made.info = dict(picture.info)
        return replace(encode_picture(made, media_type, QUALITY), seed=image.seed, revised_prompt=image.revised_prompt)

    def _mark(self, size: tuple[int, int]) -> Pillow.Image:
        width = max(1, round(size[0] * self.size))
        mark = self._logo if self._logo is not None else self._written(width)
        factor = min(width / mark.width, size[1] / mark.height)
        mark = mark.resize([max(1, round(side * factor)) for side in mark.size], Pillow.Resampling.LANCZOS)
        mark.putalpha(mark.getchannel("A").point(lambda value: value * self.opacity))
        return mark

    def _written(self, width: int) -> Pillow.Image:
        """Write the text larger than needed; it is scaled to the width afterwards."""
        font = _font(self.font, max(16, min(160, width // 4)))
        pen = ImageDraw.Draw(Pillow.new("RGBA", (1, 1)))
        left, top, right, bottom = (round(edge) for edge in pen.multiline_textbbox((0, 0), self.text, font=font))
        edge = max(1, (bottom - top) // 30)
        layer = Pillow.new("RGBA", (max(1, right - left) + 4 * edge, max(1, bottom - top) + 4 * edge))
        pen = ImageDraw.Draw(layer)
        at = (2 * edge - left, 2 * edge - top)
        # A thin shade around the letters keeps them readable on a ground of their own colour.
        pen.multiline_text(at, self.text, font=font, fill=self.colour, stroke_width=edge, stroke_fill=(0, 0, 0, 110))
        pen.multiline_text(at, self.text, font=font, fill=self.colour)
        return layer


def _place(position: str, ground: tuple[int, int], mark: tuple[int, int], margin: int) -> tuple[int, int]:
    free = (ground[0] - mark[0], ground[1] - mark[1])
    x = margin if "left" in position else free[0] - margin if "right" in position else free[0] // 2
    y = margin if "top" in position else free[1] - margin if "bottom" in position else free[1] // 2
    return max(0, min(x, free[0])), max(0, min(y, free[1]))


def _logo(path: Path) -> Pillow.Image:
    try:
        picture, _ = open_picture(path.read_bytes())
    except (OSError, GatewayError) as error:
        raise ValueError(f"{path.name} cannot be read as a picture") from error
    return picture.convert("RGBA")


def _font(path: Path | None, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if path is None:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(str(path), size)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read as a font") from error


@hookimpl
def provide_middlewares() -> dict[str, type[Watermark]]:
    """Offer ``use: watermark``."""
    return {"watermark": Watermark}
