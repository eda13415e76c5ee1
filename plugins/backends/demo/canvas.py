"""The surface that is painted on: larger than the picture, so that every edge comes out smooth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .colours import Colour

Point = tuple[float, float]
MOST_PIXELS = 4_500_000
BICUBIC = Image.Resampling.BICUBIC


class Canvas:
    """An RGB surface; *w* and *h* are its sides and *u* its shorter side, in its own pixels.

    *plain* leaves out rim and grain, so that what was not painted over stays as it was.
    """

    def __init__(self, width: int, height: int) -> None:
        self.final = (width, height)
        self.plain = False
        factor = max(1.0, min(2.0, math.sqrt(MOST_PIXELS / (width * height))))
        self.w, self.h = round(width * factor), round(height * factor)
        self.u = min(self.w, self.h)
        self.image = Image.new("RGB", (self.w, self.h))

    @property
    def pen(self) -> ImageDraw.ImageDraw:
        """Draw on the surface; colours with four parts blend."""
        return ImageDraw.Draw(self.image, "RGBA")

    def gradient(self, colours: Sequence[Colour], top: float = 0, bottom: float | None = None) -> None:
        """Fill from *top* to *bottom* with *colours* that melt into each other."""
        low = self.h if bottom is None else bottom
        box = (0, round(top), self.w, max(round(top) + 1, round(low)))
        self.image.paste(column(colours, (box[2], box[3] - box[1])), box[:2])

    def land(self, points: Sequence[Point], top: Colour, bottom: Colour) -> None:
        """Fill below a line of *points* down to the lower edge, melting from *top* to *bottom*."""
        start = max(0, math.floor(min(y for _, y in points)))
        height = self.h - start
        if height <= 0:
            return
        mask = Image.new("L", (self.w, height))
        line = [(x, y - start) for x, y in points]
        ImageDraw.Draw(mask).polygon([(0, height), *line, (self.w, height)], fill=255)
        self.image.paste(column((top, bottom), (self.w, height)), (0, start), mask)

    def glow(self, centre: Point, radius: float, colour: Colour, strength: float) -> None:
        """Lay soft light around a point."""
        side = max(2, round(radius * 2))
        soft = Image.radial_gradient("L").point(lambda value: max(0, 1 - value / 180) ** 2.2 * 255 * strength)
        box = (round(centre[0] - radius), round(centre[1] - radius))
        self.image.paste(colour, (*box, box[0] + side, box[1] + side), soft.resize((side, side), BICUBIC))

    def cloud(self, draw_on: Callable[[ImageDraw.ImageDraw, float], None], colour: Colour, blur: float) -> None:
        """Paint something soft: *draw_on* draws its mask on a small surface, whose scale it is told."""
        scale = 256 / max(self.w, self.h)
        mask = Image.new("L", (max(1, round(self.w * scale)), max(1, round(self.h * scale))))
        draw_on(ImageDraw.Draw(mask), scale)
        soft = mask.filter(ImageFilter.GaussianBlur(blur)).resize((self.w, self.h), BICUBIC)
        self.image.paste(colour, (0, 0, self.w, self.h), soft)

    def veil(self, colour: Colour, top: float, bottom: float, strength: Sequence[float]) -> None:
        """Lay a transparent colour over a band, *strength* from its top to its bottom."""
        height = max(1, round(bottom - top))
        grey = [(round(255 * part),) * 3 for part in strength]
        mask = column(grey, (self.w, height)).getchannel(0)
        self.image.paste(colour, (0, round(top), self.w, round(top) + height), mask)

    def finished(self, draw: Random, grain: float = 0.05) -> Image.Image:
        """Give the picture in its final size, with a darker rim and a fine grain."""
        made = self.image.resize(self.final, Image.Resampling.BOX if self.w == self.final[0] * 2 else BICUBIC)
        if self.plain:
            return made
        rim = Image.radial_gradient("L").point(lambda value: max(0, value - 120) * 0.42)
        made.paste((8, 6, 24), (0, 0, *self.final), rim.resize(self.final, BICUBIC))
        tile = Image.frombytes("L", (128, 128), draw.randbytes(128 * 128))
        tile = tile.point(lambda value: 128 + (value - 128) * grain)
        noise = Image.new("L", self.final)
        for x in range(0, self.final[0], 128):
            for y in range(0, self.final[1], 128):
                noise.paste(tile, (x, y))
        return ImageChops.soft_light(made, Image.merge("RGB", (noise, noise, noise)))


def column(colours: Sequence[Colour], size: tuple[int, int]) -> Image.Image:
    """Melt *colours* from top to bottom."""
    strip = Image.new("RGB", (1, 256))
    last = len(colours) - 1
    for y in range(256):
        place = y / 255 * last
        index = min(int(place), last - 1) if last else 0
        first, second = colours[index], colours[min(index + 1, last)]
        part = place - index
        part = part * part * (3 - 2 * part)
        strip.putpixel((0, y), tuple(round(a + (b - a) * part) for a, b in zip(first, second, strict=True)))
    return strip.resize(size, Image.Resampling.BILINEAR)


def ridge(
    draw: Random, width: float, base: float, height: float, rough: float = 0.5, waves: float = 2.5
) -> list[Point]:
    """Draw a line of hills across *width* around *base*; *rough* near 1 makes rocks of them."""
    parts = []
    size, often = 1.0, waves
    for _ in range(7):
        parts.append((size, often * draw.uniform(0.8, 1.25), draw.uniform(0, 6.283)))
        size *= rough
        often *= 1.9
    whole = sum(part[0] for part in parts)
    step = max(3.0, width / 400)
    line = []
    for index in range(int(width / step) + 2):
        x = index * step
        value = sum(size * math.sin(often * 6.283 * x / width + phase) for size, often, phase in parts) / whole
        line.append((x, base - height * value))
    return line


def height_at(line: Sequence[Point], x: float) -> float:
    """Find how high a line is at *x*."""
    return min(line, key=lambda point: abs(point[0] - x))[1]


def smooth(points: Sequence[Point], closed: bool = True, steps: int = 8) -> list[Point]:
    """Lay a soft curve through *points* (Catmull and Rom's)."""
    count = len(points)
    made = []
    for index in range(count if closed else count - 1):
        p0, p1, p2, p3 = (
            points[(index + k) % count if closed else min(max(index + k, 0), count - 1)] for k in (-1, 0, 1, 2)
        )
        for step in range(steps):
            t = step / steps
            made.append(tuple(_between(p0[k], p1[k], p2[k], p3[k], t) for k in (0, 1)))
    if not closed:
        made.append(points[-1])
    return made  # type: ignore[return-value]  # each has two parts


def _between(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t**3)
