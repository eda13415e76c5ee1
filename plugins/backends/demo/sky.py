"""The sky: its light, sun or moon, stars, clouds, and what falls from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageFilter

from .canvas import Canvas, Point
from .colours import Palette, mix
from .words import Brief

STARRY = ("night", "neon")


@dataclass(slots=True)
class Painting:
    """A picture in the making: *horizon* is where sky ends, *lamp* where the light stands."""

    canvas: Canvas
    palette: Palette
    brief: Brief
    draw: Random
    time: str
    place: str
    horizon: float
    lamp: Point


def paint_sky(made: Painting) -> None:
    """Paint the air from the top to the horizon, then what stands in it."""
    canvas, palette = made.canvas, made.palette
    canvas.gradient(palette.sky, 0, made.horizon * 1.04)
    canvas.gradient((palette.sky[-1], palette.far), made.horizon, canvas.h)
    starry = made.time in STARRY or made.place == "space" or "stars" in made.brief.weather
    if starry:
        paint_stars(made, 260 if made.place == "space" else 150)
    if made.place == "space":
        paint_nebula(made)
    dull = {"rain", "fog"} & {*made.brief.weather}
    if made.place != "space":
        paint_clouds(made)
    if made.place != "space" and (not dull or {"sun", "moon"} & {*made.brief.figures}):
        paint_moon(made) if _is_night(made) else paint_sun(made)


def _is_night(made: Painting) -> bool:
    return "sun" not in made.brief.figures and ("moon" in made.brief.figures or made.time in STARRY)


def paint_stars(made: Painting, count: int) -> None:
    """Scatter stars, most of them small, a few that shine."""
    canvas, pen, draw = made.canvas, made.canvas.pen, made.draw
    for _ in range(count):
        x, y = draw.uniform(0, canvas.w), draw.uniform(0, made.horizon) * draw.uniform(0.3, 1)
        size = canvas.u * draw.choice((0.0008, 0.001, 0.0014, 0.002))
        pen.ellipse((x - size, y - size, x + size, y + size), fill=(255, 252, 235, draw.randint(90, 240)))
    for _ in range(count // 22):
        x, y, ray = (
            draw.uniform(0, canvas.w),
            draw.uniform(0, made.horizon * 0.8),
            canvas.u * draw.uniform(0.005, 0.011),
        )
        canvas.glow((x, y), ray * 2.4, (255, 250, 230), 0.5)
        thin = ray * 0.14
        pen.polygon([(x - ray, y), (x, y - thin), (x + ray, y), (x, y + thin)], fill=(255, 252, 240, 230))
        pen.polygon([(x, y - ray), (x - thin, y), (x, y + ray), (x + thin, y)], fill=(255, 252, 240, 230))


def paint_nebula(made: Painting) -> None:
    """Let coloured dust glow along a band through space."""
    canvas, draw = made.canvas, made.draw
    tilt = draw.uniform(-0.5, 0.5)
    for colour, reach, strength in zip(made.palette.accents, (0.2, 0.15, 0.22, 0.1), (120, 105, 125, 95), strict=True):
        spots = [
            (
                t * canvas.w,
                canvas.h * (0.42 + tilt * (t - 0.5)) + draw.gauss(0, reach) * canvas.h,
                draw.uniform(0.02, 0.09),
            )
            for t in (draw.random() for _ in range(26))
        ]

        def dust(pen, scale, spots=spots, strength=strength):  # type: ignore[no-untyped-def]  # as Canvas.cloud wants it
            for x, y, size in spots:
                r = size * canvas.u * scale
                pen.ellipse((x * scale - r, y * scale - r, x * scale + r, y * scale + r), fill=strength)

        canvas.cloud(dust, colour, 15)


def paint_sun(made: Painting) -> None:
    """Set a sun with two rings of light."""
    canvas, (x, y) = made.canvas, made.lamp
    radius = canvas.u * (0.105 if made.time in ("sunset", "dawn") else 0.07)
    for reach, strength in ((6.5, 0.5), (2.6, 0.55)):
        canvas.glow((x, y), radius * reach, made.palette.light, strength)
    disc = mix(made.palette.light, made.palette.sky[-1], 0.12)
    canvas.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=disc)


def paint_moon(made: Painting) -> None:
    """Set a full moon with its seas."""
    canvas, (x, y) = made.canvas, made.lamp
    radius = canvas.u * (0.115 if "moon" in made.brief.figures else 0.085)
    for reach, strength in ((5.5, 0.42), (2.1, 0.5)):
        canvas.glow((x, y), radius * reach, made.palette.light, strength)
    pen = canvas.pen
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=made.palette.light)
    stain = (*mix(made.palette.light, made.palette.sky[1], 0.35), 110)
    for dx, dy, size in (
        (-0.35, -0.25, 0.28),
        (0.25, -0.42, 0.15),
        (0.36, 0.22, 0.24),
        (-0.2, 0.42, 0.2),
        (0.02, 0.02, 0.12),
    ):
        cx, cy, r = x + dx * radius, y + dy * radius, size * radius
        pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=stain)


def paint_clouds(made: Painting) -> None:
    """Hang long soft clouds, thicker in bad weather."""
    canvas, draw = made.canvas, made.draw
    heavy = bool({"rain", "snow", "fog"} & {*made.brief.weather})
    colour = mix(made.palette.sky[-1], made.palette.light, 0.1 if heavy else 0.55)
    if made.time == "night":
        colour = mix(made.palette.sky[-1], made.palette.sky[1], 0.35)
    banks = [
        (draw.uniform(0, canvas.w), made.horizon * draw.uniform(0.12, 0.8), draw.uniform(0.12, 0.34))
        for _ in range(9 if heavy else 5)
    ]

    def bank(pen, scale):  # type: ignore[no-untyped-def]  # as Canvas.cloud wants it
        for x, y, size in banks:
            for _ in range(9):
                cx = (x + draw.gauss(0, size * 0.5) * canvas.u) * scale
                rx = size * canvas.u * scale * draw.uniform(0.25, 0.6)
                ry = rx * draw.uniform(0.1, 0.2)
                cy = y * scale - ry * draw.uniform(0, 0.9)
                pen.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill=draw.randint(70, 150))

    canvas.cloud(bank, colour, 2.4)


def paint_weather(made: Painting) -> None:
    """Let rain, snow, leaves or fog come down in front of everything."""
    canvas, draw, weather = made.canvas, made.draw, made.brief.weather
    if "fog" in weather:
        mist = mix(made.palette.sky[-1], (255, 255, 255), 0.25)
        canvas.veil(mist, canvas.h * 0.3, canvas.h * 0.78, (0, 0.55, 0))
    if "rain" in weather:
        pen = canvas.pen
        for _ in range(420):
            x, y, long = (
                draw.uniform(0, canvas.w * 1.1),
                draw.uniform(-0.05, 1) * canvas.h,
                canvas.u * draw.uniform(0.02, 0.055),
            )
            ink = (225, 235, 255, draw.randint(35, 100))
            pen.line((x, y, x - long * 0.22, y + long), fill=ink, width=max(1, round(canvas.u * 0.0013)))
    if "snow" in weather:
        _flakes(made)
    if "autumn" in weather:
        for _ in range(46):
            x, y, size = draw.uniform(0, canvas.w), draw.uniform(0, canvas.h), canvas.u * draw.uniform(0.005, 0.012)
            turn = draw.uniform(0, math.pi)
            tips = [
                (x + math.cos(turn + a) * size * r, y + math.sin(turn + a) * size * r)
                for a, r in ((0, 1), (1.6, 0.5), (3.1, 1), (4.7, 0.5))
            ]
            canvas.pen.polygon(tips, fill=(*draw.choice(made.palette.accents[:3]), 220))


def _flakes(made: Painting) -> None:
    """Far flakes are small and sharp, near ones large and soft."""
    canvas, draw = made.canvas, made.draw
    pen = canvas.pen
    for _ in range(260):
        x, y, size = draw.uniform(0, canvas.w), draw.uniform(0, canvas.h), canvas.u * draw.uniform(0.001, 0.0034)
        pen.ellipse((x - size, y - size, x + size, y + size), fill=(255, 255, 255, draw.randint(120, 230)))
    for _ in range(16):
        canvas.glow(
            (draw.uniform(0, canvas.w), draw.uniform(0, canvas.h)),
            canvas.u * draw.uniform(0.008, 0.02),
            (255, 255, 255),
            0.6,
        )


def mirrored(canvas: Canvas, line: float, strength: float, ripple: float) -> None:
    """Mirror what stands above *line* in the water or wet ground below it."""
    depth = canvas.h - round(line)
    if depth < 4:
        return
    small = (max(2, canvas.w // 4), max(2, depth // 4))
    above = canvas.image.crop((0, max(0, round(line) - depth), canvas.w, round(line)))
    turned = above.transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize(small).filter(ImageFilter.GaussianBlur(2))
    for y in range(small[1]):
        move = round(math.sin(y * 0.55 + math.sin(y * 0.21) * 2) * ripple * small[0] * (0.3 + y / small[1]))
        turned.paste(turned.crop((0, y, small[0], y + 1)), (move, y))
    fade = Image.linear_gradient("L").point(lambda value: (255 - value * 0.6) * strength)
    canvas.image.paste(
        turned.resize((canvas.w, depth), Image.Resampling.BICUBIC), (0, round(line)), fade.resize((canvas.w, depth))
    )
