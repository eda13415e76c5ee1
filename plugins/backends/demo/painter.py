"""Paints a prompt: reads its words, chooses light and place, and adds one layer after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random

from PIL import Image, ImageDraw, ImageFont

from . import creatures, things
from .canvas import Canvas, Point, height_at, smooth
from .colours import HUES, Colour, Palette, choose, mix, shift
from .pen import Pen, put, reflect
from .realms import abstract, deep, space
from .scenes import PLACES
from .sky import Painting, paint_sky, paint_weather
from .words import read_brief

CAPTION = "demo · not an AI model"
SCENES = {**PLACES, "space": space, "deep": deep, "abstract": abstract}
GUESSES = {
    "boat": "sea",
    "whale": "sea",
    "lighthouse": "sea",
    "fish": "deep",
    "rocket": "space",
    "flower": "garden",
    "butterfly": "garden",
}
COMPANY = {
    "hills": ("tree", "balloon", "house"),
    "sea": ("boat", "boat", "balloon"),
    "mountains": ("balloon", "person"),
    "desert": ("balloon", "person"),
    "garden": ("tree", "butterfly"),
}
Draw = Callable[[Pen, Colour | None], None]
FIGURES: dict[str, tuple[Draw, float]] = {
    "cat": (creatures.cat, 0.36),
    "fox": (creatures.fox, 0.4),
    "dog": (creatures.dog, 0.38),
    "rabbit": (creatures.rabbit, 0.32),
    "bear": (creatures.bear, 0.46),
    "owl": (creatures.owl, 0.32),
    "person": (creatures.person, 0.34),
    "butterfly": (creatures.butterfly, 0.2),
    "fish": (creatures.fish, 0.3),
    "whale": (creatures.whale, 0.42),
    "boat": (things.boat, 0.42),
    "house": (things.house, 0.38),
    "tree": (things.tree, 0.56),
    "flower": (things.flower, 0.5),
    "robot": (things.robot, 0.46),
    "balloon": (things.balloon, 0.36),
    "castle": (things.castle, 0.52),
    "lighthouse": (things.lighthouse, 0.52),
    "rocket": (things.rocket, 0.48),
}
FLYING = {"balloon": 0.42, "butterfly": 0.5, "rocket": 0.62, "fish": 0.55}
AFLOAT = ("boat", "whale")


def paint(prompt: str, size: tuple[int, int], seed: int, unwanted: str = "") -> Iterator[tuple[str, Canvas]]:
    """Paint in stages; yield each stage's name with the canvas as it then is. The last is ready to be finished."""
    made = compose(prompt, size, seed, unwanted)
    paint_sky(made)
    yield "sky", made.canvas
    line = SCENES[made.place](made)
    yield "place", made.canvas
    paint_figures(made, line)
    yield "figures", made.canvas
    paint_weather(made)
    yield "weather", made.canvas


def compose(prompt: str, size: tuple[int, int], seed: int, unwanted: str = "") -> Painting:
    """Decide on light, place and horizon from the words; what they leave open the dice of prompt and seed decide."""
    draw = Random(hashlib.sha256(f"{prompt}\0{seed}".encode("utf-8", "surrogatepass")).digest())
    brief = read_brief(prompt, unwanted)
    known = brief.places[:1] or tuple(GUESSES[figure] for figure in brief.figures if figure in GUESSES)[:1]
    if "roof" in brief.places:
        known = ("roof",)
    if "abstract" in brief.places:
        known = ("abstract",)
    place = known[0] if known else draw.choice(("hills", "hills", "mountains", "sea", "desert", "abstract"))
    if not known and (brief.figures or brief.weather):
        place = draw.choice(("hills", "mountains", "garden")) if "snow" not in brief.weather else "forest"
    time, palette = choose(replace(brief, places=brief.places or (place,)), draw)
    canvas = Canvas(*size)
    horizon = canvas.h * {"sea": draw.uniform(0.52, 0.6), "space": 0.9}.get(place, draw.uniform(0.54, 0.62))
    side = draw.choice((0.27, 0.73)) + draw.uniform(-0.05, 0.05)
    high = horizon / canvas.h - 0.09 if time in ("sunset", "dawn") else 0.22
    return Painting(canvas, palette, brief, draw, time, place, horizon, (canvas.w * side, canvas.h * high))


def paint_figures(made: Painting, line: Sequence[Point]) -> None:
    """Set up to three figures, the first away from the light, and a flock if birds were asked for."""
    if "bird" in made.brief.figures:
        _flock(made)
    named = [figure for figure in made.brief.figures if figure in FIGURES][:3]
    if not made.brief.figures and made.place in COMPANY:
        named = [made.draw.choice(COMPANY[made.place])]
    if len(named) > 1 and made.place == "garden":
        named = [figure for figure in named if figure != "flower"]  # the meadow is full of them
    left = made.lamp[0] > made.canvas.w / 2
    places = (0.38, 0.74, 0.14) if left else (0.62, 0.26, 0.86)
    for index, figure in reversed(list(enumerate(named))):
        _figure(made, figure, line, places[index], 1 if index == 0 else 0.72, _colour(made, index, figure))


def _colour(made: Painting, index: int, figure: str) -> Colour | None:
    colours = made.brief.colours
    if index or not colours or (figure == "fox" and colours[0] in ("red", "orange")):
        return None
    return shift((210, 90, 70), hue=HUES[colours[0]])


def _figure(
    made: Painting, figure: str, line: Sequence[Point], where: float, grow: float, colour: Colour | None
) -> None:
    canvas, palette = made.canvas, made.palette
    draw, size = FIGURES[figure]
    x = canvas.w * (where + made.draw.uniform(-0.02, 0.02))
    side = canvas.u * size * grow * (1.0 if canvas.h <= canvas.w * 1.2 else 1.12)
    ground = height_at(line, x)
    if figure in FLYING:
        foot = (x, canvas.h * (FLYING[figure] + made.draw.uniform(-0.04, 0.04)))
    elif made.place == "sea" and figure not in AFLOAT:
        foot = (x, _island(made, x, side))
    else:
        foot = (x, ground + (canvas.h * 0.015 if made.place != "roof" else 0))
    pen = Pen(side, palette, palette.shade * (0.4 if figure in FLYING else 0.75))
    draw(pen, colour)
    flip = made.draw.random() < 0.5 and figure not in ("whale", "fish")
    if figure == "boat" and made.place == "sea":
        reflect(canvas, pen, foot, flip=flip)
    elif figure not in FLYING and made.place not in ("deep", "sea"):
        _shadow(made, foot, side)
    if figure == "lighthouse" and palette.shade > 0.3:
        canvas.glow((foot[0], foot[1] - side * 0.8), side * 0.6, palette.light, 0.5)
    water = canvas.image.crop((0, round(foot[1] - side * 0.24), canvas.w, canvas.h))
    put(canvas, pen, foot, flip=flip, lit_from_left=made.lamp[0] < x)
    if figure == "whale":  # its belly is below the water
        fade = Image.new("L", water.size, 235)
        canvas.image.paste(water, (0, canvas.h - water.height), fade)


def _shadow(made: Painting, foot: Point, side: float) -> None:
    x, y = foot
    for share, strength in ((1, 40), (0.8, 50)):
        wide, tall = side * 0.36 * share, side * 0.045 * share
        made.canvas.pen.ellipse((x - wide, y - tall, x + wide, y + tall), fill=(*made.palette.near, strength))


def _island(made: Painting, x: float, side: float) -> float:
    """Raise a rock from the water for whatever cannot swim."""
    y = made.horizon + made.canvas.h * 0.16
    rock = mix(made.palette.far, made.palette.near, 0.7)
    half, tall = side * 0.75, side * 0.16
    outline = [
        (x - half, y + tall),
        (x - half * 0.7, y + tall * 0.2),
        (x - half * 0.3, y - tall * 0.25),
        (x + half * 0.3, y - tall * 0.2),
        (x + half * 0.75, y + tall * 0.3),
        (x + half, y + tall),
    ]
    made.canvas.pen.polygon(smooth(outline), fill=rock)
    return y


def _flock(made: Painting) -> None:
    canvas, draw = made.canvas, made.draw
    ink = mix(made.palette.near, made.palette.sky[1], 0.15)
    x0, y0 = canvas.w * draw.uniform(0.3, 0.6), canvas.h * draw.uniform(0.16, 0.32)
    for _ in range(9):
        x, y, span = (
            x0 + draw.gauss(0, 0.14) * canvas.u,
            y0 + draw.gauss(0, 0.07) * canvas.u,
            canvas.u * draw.uniform(0.02, 0.05),
        )
        lift = span * draw.uniform(0.3, 0.55)
        upper = smooth(
            [
                (x - span, y - lift * 0.5),
                (x - span * 0.5, y - lift),
                (x, y),
                (x + span * 0.5, y - lift),
                (x + span, y - lift * 0.5),
            ],
            closed=False,
        )
        lower = smooth(
            [
                (x + span, y - lift * 0.5),
                (x + span * 0.45, y - lift * 0.62),
                (x, y + lift * 0.4),
                (x - span * 0.45, y - lift * 0.62),
                (x - span, y - lift * 0.5),
            ],
            closed=False,
        )
        canvas.pen.polygon([*upper, *lower], fill=ink)


def write_caption(picture: Image.Image, palette: Palette | None = None) -> None:
    """Say in a lower corner that this is a demonstration."""
    unit = min(picture.size)
    font = ImageFont.load_default(max(7, unit * 0.021))
    pen = ImageDraw.Draw(picture, "RGBA")
    gap = max(2, unit * 0.02)
    left, _, right, bottom = pen.textbbox((0, 0), CAPTION, font=font)
    if right - left > picture.width - 2 * gap:
        return
    x, y = picture.width - gap - right, picture.height - gap - bottom
    pen.text((x + unit * 0.0015, y + unit * 0.0015), CAPTION, font=font, fill=(0, 0, 0, 130))
    pen.text((x, y), CAPTION, font=font, fill=(255, 255, 255, 190))
