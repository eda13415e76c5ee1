"""Places: what lies between the sky and the figures. Each returns the line that figures stand on."""

from __future__ import annotations

import math
from collections.abc import Callable

from .canvas import Point, height_at, ridge, smooth
from .colours import Colour, mix
from .pen import Pen, put
from .sky import Painting, mirrored
from .things import flower, pine, tree

Line = list[Point]


def hills(made: Painting) -> Line:
    """Roll four ranges of hills into the haze."""
    canvas, palette = made.canvas, made.palette
    line: Line = []
    for index in range(4):
        near = index / 3
        base = made.horizon + (canvas.h * 0.86 - made.horizon) * near
        line = ridge(made.draw, canvas.w, base, canvas.h * (0.06 - 0.008 * index), 0.36, 1.3 + 0.1 * index)
        colour = mix(palette.far, palette.near, near**1.25 * 0.9)
        canvas.land(line, mix(colour, palette.sky[-1], 0.22 * (1 - near)), mix(colour, palette.near, 0.3))
    return line


def garden(made: Painting) -> Line:
    """Sow flowers on the nearest hill."""
    line = hills(made)
    for row in range(3):
        for _ in range(16 + 6 * row):
            x = made.draw.uniform(0, made.canvas.w)
            y = height_at(line, x) + made.canvas.h * (0.035 + row * 0.05)
            pen = Pen(
                made.canvas.u * made.draw.uniform(0.045, 0.065) * (1 + row * 0.5),
                made.palette,
                made.palette.shade * 0.6,
            )
            flower(pen, made.draw.choice(made.palette.accents))
            put(made.canvas, pen, (x, y))
    return line


def mountains(made: Painting) -> Line:
    """Raise two jagged ranges, the far one with snow, and put pines before them."""
    canvas, palette, draw = made.canvas, made.palette, made.draw
    snow = mix((255, 255, 255), palette.sky[-1], 0.25)
    for index, (base, height) in enumerate(((0.02, 0.24), (0.13, 0.16))):
        line = ridge(draw, canvas.w, made.horizon + canvas.h * (base - 0.06), canvas.h * height, 0.56, 1.4 + index)
        colour = mix(palette.far, palette.near, 0.12 + 0.33 * index)
        canvas.land(line, colour, mix(colour, palette.sky[-1], 0.5))
        if index == 0 or "snow" in made.brief.weather:
            _caps(made, line, snow, made.horizon + canvas.h * (base - 0.06))
    line = ridge(draw, canvas.w, canvas.h * 0.84, canvas.h * 0.04, 0.4, 1.3)
    _pines(made, line, 16, 0.14, 0.62)
    return _ground(made, line)


def _caps(made: Painting, line: Line, snow: Colour, base: float) -> None:
    pen, canvas = made.canvas.pen, made.canvas
    cut = base - canvas.h * 0.03
    lower = []
    for index, (x, y) in enumerate(line):
        ragged = math.sin(index * 0.9) * 0.5 + math.sin(index * 2.3) * 0.5
        lower.append((x, max(y, min(y + (cut - y) * 0.55 + ragged * canvas.h * 0.012, cut))))
    pen.polygon([*line, *reversed(lower)], fill=(*snow, 225))


def _ground(made: Painting, line: Line) -> Line:
    top = mix(made.palette.far, made.palette.near, 0.75)
    if "snow" in made.brief.weather:
        top = mix((250, 252, 255), made.palette.far, 0.16 + made.palette.shade * 0.6)
    made.canvas.land(line, top, mix(top, made.palette.near, 0.55 if "snow" not in made.brief.weather else 0.2))
    return line


def _pines(made: Painting, line: Line, count: int, size: float, near: float) -> None:
    canvas, draw = made.canvas, made.draw
    colour = mix(mix(made.palette.far, made.palette.near, near), made.palette.sky[-1], 0.3 * (1 - near))
    for index in range(count):
        x = (index + draw.uniform(0.1, 0.9)) / count * canvas.w
        pen = Pen(canvas.u * size * draw.uniform(0.7, 1.25), made.palette, 0)
        if "autumn" in made.brief.weather:
            tree(pen, mix(draw.choice(made.palette.accents[:3]), colour, 0.75 - near * 0.7))
        else:
            pine(pen, mix(colour, made.palette.near, draw.uniform(0, 0.25)), "snow" in made.brief.weather)
        put(canvas, pen, (x, height_at(line, x) + canvas.h * 0.02), plain=True)


def forest(made: Painting) -> Line:
    """Let rows of pines fade into mist."""
    canvas = made.canvas
    for index, near in enumerate((0.15, 0.4, 0.7)):
        base = made.horizon + canvas.h * (0.02 + 0.09 * index)
        line = ridge(made.draw, canvas.w, base, canvas.h * 0.03, 0.4, 1.5)
        _pines(made, line, 16 - 4 * index, 0.2 + 0.09 * index, near)
        colour = mix(made.palette.far, made.palette.near, near)
        canvas.land(line, colour, mix(colour, made.palette.sky[-1], 0.3))
        canvas.veil(made.palette.sky[-1], base - canvas.h * 0.12, base + canvas.h * 0.1, (0, 0.42, 0))
    return _ground(made, ridge(made.draw, canvas.w, canvas.h * 0.86, canvas.h * 0.025, 0.4, 1.2))


def sea(made: Painting) -> Line:
    """Spread water that mirrors the sky, with a path of light on it."""
    canvas, palette, draw = made.canvas, made.palette, made.draw
    line = ridge(draw, canvas.w, made.horizon - canvas.h * 0.005, canvas.h * 0.03, 0.5, 1.6)
    canvas.land(line, mix(palette.far, palette.sky[-1], 0.45), mix(palette.far, palette.sky[-1], 0.3))
    deep = mix(palette.sky[0], palette.near, 0.45)
    canvas.gradient((mix(palette.sky[-1], palette.far, 0.35), mix(palette.sky[1], deep, 0.5), deep), made.horizon)
    mirrored(canvas, made.horizon, 0.42, 0.012)
    pen = canvas.pen
    for index in range(300):
        depth = (index / 300) ** 1.6
        y = made.horizon + depth * (canvas.h - made.horizon)
        wide = canvas.u * (0.012 + 0.07 * depth) * draw.uniform(0.4, 1.3)
        shine = index % 2 == 0
        x = made.lamp[0] + draw.gauss(0, 0.035 + 0.1 * depth) * canvas.u if shine else draw.uniform(0, canvas.w)
        ink = (*(palette.light if shine else palette.sky[2]), draw.randint(90, 190) if shine else draw.randint(25, 70))
        thick = canvas.u * (0.0012 + 0.0034 * depth)
        pen.ellipse((x - wide, y - thick, x + wide, y + thick), fill=ink)
    return [(0, made.horizon + canvas.h * 0.17), (canvas.w, made.horizon + canvas.h * 0.17)]


def city(made: Painting) -> Line:
    """Build three rows of towers with lit windows; wet streets mirror them."""
    canvas, palette, draw = made.canvas, made.palette, made.draw
    ground = canvas.h * 0.84
    for index, near in enumerate((0.12, 0.45, 0.85)):
        x = -canvas.u * 0.05
        while x < canvas.w:
            wide = canvas.u * draw.uniform(0.06, 0.12) * (1 + index * 0.2)
            tall = canvas.h * draw.uniform(0.16, 0.52 - index * 0.1)
            _tower(made, (x, ground - tall, x + wide, ground), mix(palette.far, palette.near, near), index)
            x += wide * draw.uniform(0.95, 1.3)
        canvas.veil(palette.sky[-1], ground - canvas.h * 0.3, ground, (0, 0.3 - near * 0.25))
    canvas.gradient((mix(palette.near, palette.sky[-1], 0.25), palette.near), ground)
    wet = "rain" in made.brief.weather or made.time == "neon"
    mirrored(canvas, ground, 0.85 if wet else 0.25, 0.006)
    return [(0, ground + canvas.h * 0.07), (canvas.w, ground + canvas.h * 0.07)]


def _tower(made: Painting, box: tuple[float, float, float, float], colour: Colour, row: int) -> None:
    pen, draw, unit = made.canvas.pen, made.draw, made.canvas.u
    left, top, right, bottom = box
    pen.rectangle(box, fill=colour)
    pen.rectangle((left, top, left + (right - left) * 0.12, bottom), fill=(*made.palette.light, 18))
    if draw.random() < 0.3:
        middle = (left + right) / 2
        pen.line((middle, top - unit * 0.05, middle, top), fill=colour, width=max(1, round(unit * 0.004)))
    lit = 0.62 if made.palette.shade > 0.3 else 0.22
    step, pane = unit * (0.016 + 0.003 * row), unit * (0.006 + 0.0012 * row)
    glass = (
        (made.palette.light, *made.palette.accents)
        if made.time == "neon"
        else (made.palette.light, made.palette.accents[0])
    )
    for column in range(1, int((right - left) / step)):
        for floor in range(1, int((bottom - top) / step)):
            if draw.random() < lit * 0.75:
                x, y = left + column * step, top + floor * step
                pen.rectangle(
                    (x - pane / 2, y - pane / 2, x + pane / 2, y + pane * 0.8),
                    fill=(*draw.choice(glass), draw.randint(90, 235)),
                )
    if made.time == "neon" and row and draw.random() < 0.6:
        neon = draw.choice(made.palette.accents)
        x, tall = left + (right - left) * draw.uniform(0.2, 0.8), (bottom - top) * 0.35
        made.canvas.glow((x, top + tall * 0.8), tall * 0.7, neon, 0.45)
        pen.rounded_rectangle(
            (x - unit * 0.008, top + tall * 0.3, x + unit * 0.008, top + tall * 1.3), unit * 0.008, fill=neon
        )


def desert(made: Painting) -> Line:
    """Lay dunes, each with a side in light and one in shadow."""
    canvas, palette, draw = made.canvas, made.palette, made.draw
    crest: Line = []
    for index in range(4):
        base = made.horizon + (canvas.h * 0.84 - made.horizon) * index / 3
        crest = ridge(draw, canvas.w, base, canvas.h * (0.035 + 0.012 * index), 0.3, 0.8 + 0.25 * index)
        lit = mix(palette.far, palette.near, 0.1 + 0.22 * index)
        canvas.land(crest, mix(lit, palette.light, 0.3 - 0.05 * index), mix(lit, palette.near, 0.25))
        top = min(crest, key=lambda point: point[1])
        foot = (top[0] + canvas.w * draw.uniform(0.12, 0.3), canvas.h)
        side = [point for point in crest if point[0] >= top[0] and point[0] <= top[0] + canvas.w * 0.35]
        curve = smooth(
            [top, (top[0] + canvas.w * 0.03, base + canvas.h * 0.06), (foot[0], base + canvas.h * 0.16)], closed=False
        )
        canvas.pen.polygon([*side, *reversed(curve)], fill=(*mix(lit, palette.near, 0.5), 120))
    return crest


def roof(made: Painting) -> Line:
    """See the town from the ridge of a tiled roof."""
    canvas, palette, draw = made.canvas, made.palette, made.draw
    city(made)
    top = canvas.h * 0.76
    tile = mix(mix(palette.accents[1], palette.near, 0.62), palette.near, palette.shade * 0.6)
    canvas.gradient((tile, mix(tile, palette.near, 0.65)), top)
    pen, step = canvas.pen, canvas.u * 0.055
    for row in range(int((canvas.h - top) / (step * 0.62)) + 1):
        y = top + canvas.u * 0.02 + row * step * 0.62
        for index in range(int(canvas.w / step) + 3):
            x = (index - 1 + (row % 2) / 2) * step
            shade = mix(tile, draw.choice((palette.near, palette.light)), draw.uniform(0.02, 0.16))
            pen.ellipse(
                (x - step * 0.5, y - step * 0.62, x + step * 0.5, y + step * 0.5),
                fill=(*mix(tile, palette.near, 0.5), 255),
            )
            pen.ellipse((x - step * 0.46, y - step * 0.62, x + step * 0.46, y + step * 0.42), fill=shade)
    pen.rectangle((0, top - canvas.u * 0.018, canvas.w, top + canvas.u * 0.022), fill=mix(tile, palette.light, 0.16))
    x = canvas.w * (0.14 if made.lamp[0] > canvas.w / 2 else 0.86)
    brick = mix(tile, palette.near, 0.25)
    pen.rectangle((x - canvas.u * 0.05, top - canvas.u * 0.17, x + canvas.u * 0.05, top + canvas.u * 0.03), fill=brick)
    pen.rectangle(
        (x - canvas.u * 0.062, top - canvas.u * 0.19, x + canvas.u * 0.062, top - canvas.u * 0.155),
        fill=mix(brick, palette.light, 0.2),
    )
    return [(0, top - canvas.u * 0.012), (canvas.w, top - canvas.u * 0.012)]


PLACES: dict[str, Callable[[Painting], Line]] = {
    "hills": hills,
    "garden": garden,
    "mountains": mountains,
    "forest": forest,
    "sea": sea,
    "city": city,
    "desert": desert,
    "roof": roof,
}
