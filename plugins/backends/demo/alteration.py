"""Alters given pictures: what an edit looks like in the demonstration."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from PIL import Image, ImageChops, ImageFilter, ImageOps

from gateway import upright

from .canvas import Canvas, column
from .colours import Palette, mix
from .painter import compose, paint, paint_figures
from .sky import paint_weather

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")
LANCZOS = Image.Resampling.LANCZOS


def read(data: bytes) -> Image.Image:
    """Decode an input picture, upright; the gateway has checked it before."""
    return upright(Image.open(BytesIO(data), formats=FORMATS)).convert("RGBA")


def alter(
    prompt: str, size: tuple[int, int], seed: int, pictures: list[bytes], mask: bytes | None, unwanted: str = ""
) -> Iterator[tuple[str, Canvas]]:
    """Alter the first of *pictures* in stages; the others are pinned to it. Like `painter.paint` otherwise.

    With a *mask* the prompt is painted where it is clear (or white, if it has no transparency), and nowhere else.
    Without one the picture takes on the light of the prompt, and its figures walk in.
    """
    canvas = Canvas(*size)
    given = ImageOps.fit(read(pictures[0]), (canvas.w, canvas.h), LANCZOS)
    ground = Image.new("RGB", given.size, "white")
    ground.paste(given, mask=given.getchannel("A"))
    yield "reading", _showing(canvas, ground)
    if mask is not None:
        canvas.plain = True
        for stage, painted in paint(prompt, size, seed, unwanted):
            inside = painted.image.resize(ground.size)
            yield stage, _showing(canvas, Image.composite(inside, ground, _area(mask, ground.size)))
    else:
        made = compose(prompt, size, seed, unwanted)
        made.canvas.image.paste(relit(ground, made.palette).resize(made.canvas.image.size))
        made.place, line = "", [(0, made.canvas.h * 0.9), (made.canvas.w, made.canvas.h * 0.9)]
        yield "light", made.canvas
        paint_figures(made, line)
        paint_weather(made)
        canvas = made.canvas
        yield "figures", canvas
    for index, data in enumerate(pictures[1:]):
        _pin(canvas, read(data), index)
    yield "pinning", canvas


def relit(picture: Image.Image, palette: Palette) -> Image.Image:
    """Show *picture* in the colours of *palette*, its own still shining through."""
    ramp = column((palette.near, palette.far, palette.sky[-1], mix(palette.light, (255, 255, 255), 0.3)), (1, 256))
    grey = ImageOps.autocontrast(picture.convert("L"), cutoff=1)
    bands = [grey.point(list(band.tobytes())) for band in ramp.split()]
    toned = Image.merge("RGB", bands)
    return Image.blend(ImageChops.soft_light(picture, toned), toned, 0.38)


def _showing(canvas: Canvas, picture: Image.Image) -> Canvas:
    canvas.image = picture
    return canvas


def _area(mask: bytes, size: tuple[int, int]) -> Image.Image:
    given = read(mask)
    clear = given.getchannel("A")
    low, _ = clear.getextrema()
    area = ImageChops.invert(clear) if low < 255 else given.convert("L")  # type: ignore[operator]  # one band, one pair
    return area.resize(size, Image.Resampling.BILINEAR).filter(ImageFilter.GaussianBlur(min(size) * 0.006))


def _pin(canvas: Canvas, picture: Image.Image, index: int) -> None:
    """Pin a small print into a corner, a little askew."""
    side, rim = round(canvas.u * 0.24), round(canvas.u * 0.012)
    printed = Image.new("RGBA", (side + 2 * rim, side + 4 * rim), (252, 250, 244, 255))
    small = ImageOps.fit(picture, (side, side), LANCZOS)
    printed.paste(small, (rim, rim), small)
    printed = printed.rotate((7, -5, 4)[index % 3], Image.Resampling.BICUBIC, expand=True)
    x = round(canvas.w * 0.03 + index * side * 1.15)
    canvas.image.paste(printed, (x, round(canvas.h * 0.97 - printed.height)), printed)
