"""Places without a horizon: space, the deep sea, and pure form."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from .canvas import Point, column, ridge, smooth
from .colours import mix
from .sky import Painting

Line = list[Point]


def space(made: Painting) -> Line:
    """Hang a planet with a ring among the stars, above the ground of another."""
    canvas, palette, draw = made.canvas, made.palette, made.draw
    x, y = canvas.w * (0.7 if made.lamp[0] < canvas.w / 2 else 0.3), canvas.h * 0.34
    radius = canvas.u * draw.uniform(0.15, 0.2)
    canvas.glow((x, y), radius * 2.2, palette.accents[0], 0.4)
    side = round(radius * 2)
    ball = column((palette.accents[3], palette.accents[0], mix(palette.accents[2], palette.near, 0.3)), (side, side))
    pen = ImageDraw.Draw(ball, "RGBA")
    for _ in range(9):
        top, tall = draw.uniform(0, side), draw.uniform(0.02, 0.09) * side
        pen.ellipse((-side * 0.2, top, side * 1.2, top + tall), fill=(*draw.choice(palette.accents), 70))
    dark = (
        Image.radial_gradient("L").point(lambda value: min(255, max(0, value - 60) * 2.2)).resize((side * 2, side * 2))
    )
    away = round(side * 0.68) if made.lamp[0] < x else round(side * 0.32)
    top = round(side * 0.66)
    ball.paste(palette.near, (0, 0, side, side), dark.crop((away, top, away + side, top + side)))
    mask = Image.new("L", (side * 2, side * 2))
    ImageDraw.Draw(mask).ellipse((2, 2, side * 2 - 2, side * 2 - 2), fill=255)
    canvas.image.paste(ball, (round(x - radius), round(y - radius)), mask.resize((side, side)))
    _ring(made, (x, y), radius)
    line = ridge(draw, canvas.w, canvas.h * 0.86, canvas.h * 0.035, 0.42, 1.2)
    canvas.land(line, mix(palette.far, palette.near, 0.35), palette.near)
    return line


def _ring(made: Painting, centre: Point, radius: float) -> None:
    """Draw a tilted ring whose far part the planet hides."""
    for inner, outer, strength in ((1.38, 1.62, 150), (1.67, 1.98, 215), (2.03, 2.14, 130)):
        near, far = ([_on_ring(centre, radius * reach, step) for step in range(97)] for reach in (inner, outer))
        ink = (*mix(made.palette.accents[3], made.palette.light, 0.35), strength)
        made.canvas.pen.polygon([*near, *reversed(far)], fill=ink)


def _on_ring(centre: Point, reach: float, step: int) -> Point:
    turn = math.pi * (step / 96 * 1.34 - 0.17)
    x, y = math.cos(turn) * reach, math.sin(turn) * reach * 0.24
    return centre[0] + x * 0.96 + y * 0.28, centre[1] + y * 0.96 - x * 0.28


def deep(made: Painting) -> Line:
    """Send rays of light down to weeds, corals and bubbles."""
    canvas, palette, draw = made.canvas, made.palette, made.draw
    canvas.gradient(palette.sky)
    rays = [(draw.uniform(-0.1, 1.1), draw.uniform(0.02, 0.08)) for _ in range(8)]

    def beams(pen: ImageDraw.ImageDraw, scale: float) -> None:
        w, h = canvas.w * scale, canvas.h * scale
        for x, wide in rays:
            lower = x + (x - 0.5) * 0.5
            corners = [
                (x * w, 0),
                ((x + wide) * w, 0),
                ((lower + wide * 2.6) * w, h * 0.95),
                ((lower - wide) * w, h * 0.95),
            ]
            pen.polygon(corners, fill=62)

    canvas.cloud(beams, palette.light, 4)
    canvas.veil(palette.sky[-1], canvas.h * 0.4, canvas.h, (0, 0.7))
    line: Line = []
    for index, near in enumerate((0.3, 0.65, 0.95)):
        line = ridge(draw, canvas.w, canvas.h * (0.78 + 0.06 * index), canvas.h * 0.05, 0.45, 1.5)
        for _ in range(9):
            _weed(made, draw.choice(line), mix(draw.choice(palette.accents), palette.near, 0.75 - near * 0.45))
        colour = mix(palette.far, palette.near, near)
        canvas.land(line, colour, palette.near)
    for _ in range(34):
        x, y, r = draw.uniform(0, canvas.w), draw.uniform(0.05, 0.9) * canvas.h, canvas.u * draw.uniform(0.003, 0.014)
        canvas.pen.ellipse(
            (x - r, y - r, x + r, y + r),
            fill=(255, 255, 255, 28),
            outline=(255, 255, 255, 130),
            width=max(1, round(r * 0.14)),
        )
    return line


def _weed(made: Painting, root: Point, colour: tuple[int, int, int]) -> None:
    canvas, draw = made.canvas, made.draw
    tall, sway = canvas.u * draw.uniform(0.1, 0.24), canvas.u * draw.uniform(-0.03, 0.03)
    path = [
        (root[0] + math.sin(step * 1.3) * canvas.u * 0.012 + sway * step / 5, root[1] + 8 - tall * step / 5)
        for step in range(6)
    ]
    curve = smooth(path, closed=False)
    for index, (x, y) in enumerate(curve):
        r = canvas.u * 0.011 * (1.1 - index / len(curve))
        canvas.pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def abstract(made: Painting) -> Line:
    """Let broad ribbons and discs of colour flow over each other."""
    canvas, palette, draw = made.canvas, made.palette, made.draw
    canvas.gradient(palette.sky)
    canvas.glow(made.lamp, canvas.u * 0.9, palette.light, 0.75)
    inks = [*palette.accents, palette.sky[0], palette.far, palette.sky[1]]
    draw.shuffle(inks)
    for index, ink in enumerate(inks):
        base = canvas.h * (0.3 + 0.085 * index)
        line = ridge(draw, canvas.w, base, canvas.h * draw.uniform(0.07, 0.15), 0.25, draw.uniform(0.5, 1.1))
        shadow = [(x, y - canvas.u * 0.006) for x, y in line]
        canvas.pen.polygon([*shadow, (canvas.w, canvas.h), (0, canvas.h)], fill=(*mix(palette.near, ink, 0.4), 70))
        canvas.land(line, mix(ink, palette.light, 0.22), mix(ink, palette.near, 0.12))
        _discs(made, base, ink)
    return [(0, canvas.h * 0.86), (canvas.w, canvas.h * 0.86)]


def _discs(made: Painting, base: float, ink: tuple[int, int, int]) -> None:
    """Let a ball float over a ribbon, and now and then a ring."""
    canvas, draw = made.canvas, made.draw
    x, y = draw.uniform(0.05, 0.95) * canvas.w, base - canvas.h * draw.uniform(0.02, 0.24)
    r = canvas.u * draw.uniform(0.02, 0.085)
    canvas.glow((x + r * 0.1, y + r * 0.45), r * 1.9, mix(made.palette.near, ink, 0.35), 0.5)
    side = round(r * 2)
    wide = Image.radial_gradient("L").resize((side * 2, side * 2))
    left, top = round(side * 0.68), round(side * 0.74)
    shade = wide.crop((left, top, left + side, top + side))
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).ellipse((0, 0, side - 1, side - 1), fill=255)
    colour = draw.choice(made.palette.accents)
    ball = Image.new("RGB", (side, side), mix(colour, made.palette.light, 0.55))
    ball.paste(
        mix(colour, made.palette.near, 0.3), (0, 0, side, side), shade.point(lambda value: min(255, value * 1.25))
    )
    canvas.image.paste(ball, (round(x - r), round(y - r)), mask)
    if draw.random() < 0.6:
        x, r = draw.uniform(0.05, 0.95) * canvas.w, r * 1.4
        box = (x - r, y - r, x + r, y + r)
        canvas.pen.ellipse(box, outline=(*made.palette.light, 210), width=max(1, round(canvas.u * 0.006)))
