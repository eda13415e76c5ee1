"""Draws one figure in a box of 100 by 100 and sets it into the picture, lit like its surroundings."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from .canvas import Canvas, Point, smooth
from .colours import Colour, Palette, mix

MARGIN = 0.1


class Pen:
    """Draws in a box whose sides are 100; (0, 100) is its lower left corner, where the ground is."""

    def __init__(self, side: float, palette: Palette, shade: float) -> None:
        self.scale = side / 100
        self.edge = round(side * MARGIN)
        self.layer = Image.new("RGBA", (round(side) + 2 * self.edge,) * 2)
        self.lights = Image.new("RGBA", self.layer.size)
        self.palette = palette
        self.shade = shade
        self._draw = ImageDraw.Draw(self.layer)
        self._light = ImageDraw.Draw(self.lights)

    def blob(self, colour: Colour, *points: Point, bright: bool = False) -> None:
        """Fill a soft outline through *points*."""
        self._pick(bright).polygon(self._at(smooth(points)), fill=self._ink(colour, bright))

    def shape(self, colour: Colour, *points: Point, bright: bool = False) -> None:
        """Fill an outline with corners."""
        self._pick(bright).polygon(self._at(points), fill=self._ink(colour, bright))

    def oval(self, colour: Colour, centre: Point, rx: float, ry: float = 0, bright: bool = False) -> None:
        """Fill an oval, or a circle."""
        (x, y), ry = centre, ry or rx
        self._pick(bright).ellipse(self._at([(x - rx, y - ry), (x + rx, y + ry)]), fill=self._ink(colour, bright))

    def line(self, colour: Colour, width: float, *points: Point, bright: bool = False) -> None:
        """Draw a soft line with round ends."""
        path = self._at(smooth(points, closed=False)) if len(points) > 2 else self._at(points)
        thick = max(1, round(width * self.scale))
        ink = self._ink(colour, bright)
        self._pick(bright).line(path, fill=ink, width=thick, joint="curve")
        for x, y in path:
            box = (x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2)
            self._pick(bright).ellipse(box, fill=ink)

    def _pick(self, bright: bool) -> ImageDraw.ImageDraw:
        return self._light if bright else self._draw

    def _ink(self, colour: Colour, bright: bool) -> Colour:
        return colour if bright else mix(colour, self.palette.near, self.shade)

    def _at(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.scale + self.edge, y * self.scale + self.edge) for x, y in points]

    def finished(self, lit_from_left: bool) -> Image.Image:
        """Give the figure with light on one side, shadow on the other, and its own lights on top."""
        alpha = self.layer.getchannel("A")
        reach = max(1, round(self.scale * 2.2))
        away = ImageChops.offset(alpha, reach if lit_from_left else -reach, round(reach * 0.7))
        rim = ImageChops.subtract(alpha, away).filter(ImageFilter.GaussianBlur(reach * 0.45))
        lit = self.layer.copy()
        lit.paste(self.palette.light, (0, 0, *lit.size), rim.point(lambda value: value * 0.42))
        fade = Image.linear_gradient("L").resize(lit.size).point(lambda value: max(0, value - 110) * 0.55)
        lit.paste(self.palette.near, (0, 0, *lit.size), fade)
        lit.putalpha(alpha)
        return Image.alpha_composite(lit, self.lights)


def put(
    canvas: Canvas, pen: Pen, foot: Point, *, flip: bool = False, lit_from_left: bool = True, plain: bool = False
) -> None:
    """Set a figure with the middle of its feet at *foot*; *plain* leaves out light and shadow, which far ones lack."""
    figure = pen.layer if plain else pen.finished(lit_from_left is not flip)
    if flip:
        figure = ImageOps.mirror(figure)
    x, y = round(foot[0] - figure.width / 2), round(foot[1] - figure.height + pen.edge)
    canvas.image.paste(figure, (x, y), figure)


def reflect(canvas: Canvas, pen: Pen, foot: Point, *, flip: bool = False) -> None:
    """Lay a figure's faint mirror image below *foot*, as water does."""
    figure = pen.finished(True)
    if flip:
        figure = ImageOps.mirror(figure)
    figure = ImageOps.flip(figure).resize((figure.width, max(1, round(figure.height * 0.7))))
    fade = Image.linear_gradient("L").resize(figure.size).point(lambda value: max(0, 110 - value * 0.6))
    mask = ImageChops.multiply(figure.getchannel("A"), fade).filter(ImageFilter.GaussianBlur(pen.scale))
    x, y = round(foot[0] - figure.width / 2), round(foot[1] - pen.edge * 0.7)
    canvas.image.paste(figure.convert("RGB"), (x, y), mask)
