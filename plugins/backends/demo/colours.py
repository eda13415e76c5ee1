"""Colours and palettes: the light of a time of day, tinted by the words of the prompt."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from random import Random

from .words import Brief

Colour = tuple[int, int, int]
HUES = {
    "red": 0.99,
    "orange": 0.07,
    "yellow": 0.13,
    "green": 0.36,
    "teal": 0.49,
    "blue": 0.59,
    "purple": 0.75,
    "pink": 0.91,
}


def rgb(code: str) -> Colour:
    """Read ``ff8800``."""
    return int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Go from *first* (0) to *second* (1)."""
    r, g, b = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return r, g, b


def shift(colour: Colour, *, hue: float | None = None, turn: float = 0, rich: float = 1, bright: float = 1) -> Colour:
    """Change hue (to *hue*, or by *turn*), saturation and brightness."""
    h, s, v = colorsys.rgb_to_hsv(*(part / 255 for part in colour))
    r, g, b = colorsys.hsv_to_rgb(((h if hue is None else hue) + turn) % 1, min(1, s * rich), min(1, v * bright))
    return round(r * 255), round(g * 255), round(b * 255)


@dataclass(frozen=True, slots=True)
class Palette:
    """*sky* from top to horizon, *light* of sun, moon or lamps, *far* and *near* land, *accents* for details.

    *shade* says how much figures sink into the dark, 0 to 1.
    """

    sky: tuple[Colour, ...]
    light: Colour
    far: Colour
    near: Colour
    accents: tuple[Colour, ...]
    shade: float

    def changed(self, **how: float) -> Palette:
        """Shift every colour alike."""
        one = {"far": shift(self.far, **how), "near": shift(self.near, **how), "light": shift(self.light, **how)}
        many = {
            "sky": tuple(shift(c, **how) for c in self.sky),
            "accents": tuple(shift(c, **how) for c in self.accents),
        }
        return Palette(**one, **many, shade=self.shade)  # type: ignore[arg-type]  # the two dicts have distinct keys


def palette(sky: str, light: str, far: str, near: str, accents: str, shade: float) -> Palette:
    """Write a palette down in few letters."""
    skies, lively = (tuple(rgb(code) for code in codes.split()) for codes in (sky, accents))
    return Palette(skies, rgb(light), rgb(far), rgb(near), lively, shade)


KNOWN = {
    "night": palette("0b1030 16204f 2b3a7a 5a6aa8", "fff3cf", "39498a", "0a0e24", "ffd98a f2a65a 8fb8ff c9a7ff", 0.62),
    "sunset": palette("2d2a5f 8a4482 e8706b ffc07a", "fff0c4", "a65a80", "221436", "ffcf70 ff8a5c f25f7a 7d5ba6", 0.5),
    "dawn": palette("6d8fc9 a9b8e0 f4c9cf ffe8c9", "fffbe8", "a7a6cf", "3a4068", "ffb6a3 ffd9a0 9fd0d9 c5a3d9", 0.22),
    "day": palette("3f8fd9 74b6ec b8def5 eaf6f2", "fffce6", "8fbfc9", "1f5a52", "ffce54 f2765a 5fb38a 4f86d9", 0.08),
    "storm": palette("2b3440 46525f 6d7985 a3abb0", "eef2f2", "6a7883", "151c24", "ffcb7a 7fc4d9 d97f6a 9aa9d9", 0.45),
    "neon": palette("0a0620 230a4a 5b1180 d2309a", "ffe0f7", "4a1a7d", "07041a", "19e3ff ff3fae ffe14d 7b5cff", 0.55),
    "space": palette("04040f 0b0a26 191445 3a2470", "fff7e0", "3c2f7a", "060514", "ff9f6b 6fd6ff d58bff ffe08a", 0.4),
    "deep": palette("7fe0e0 2fa9c4 14699c 072a56", "f0fff4", "1f6f9f", "041a38", "ffb45c ff6f6f ffe27a 8affc9", 0.25),
    "desert": palette("2f7fb8 7fc0d6 f5dcb0 ffd08a", "fff6d6", "e0a06a", "7d3b24", "f2b25c c9613f 5c8a72 f7e0a8", 0.15),
    "winter": palette("5d7fa8 8fb0cf c9dcea f2f3f0", "fffaf0", "a9c0d6", "33506f", "e0634f f2b45c 7fa9d9 ffffff", 0.12),
    "autumn": palette("5f7f9c a8b8b4 f0d6a8 ffc98a", "fff4d6", "c08a5c", "4a2a1f", "e0752f f2b03f b8412f 8a8f3f", 0.2),
    "joy": palette("ff7a59 ff9f5c ffc75c fff0b8", "fffdf0", "ff8f7a", "7a2d6a", "ffdd4a 2fc4b2 ff4f7d 6a5cff", 0.05),
    "calm": palette("7fa8b8 a8c7c9 d9e3d6 f5eede", "fffdf2", "a3bdb8", "3d5f66", "e8c3a0 9fbfa8 7f9fb8 d9a8a0", 0.1),
    "sad": palette("27384f 45597a 7688a0 aeb8c2", "e8eef2", "5a6c86", "141d2e", "8fa9c9 b89fb0 6f8f9f d9c9a8", 0.45),
    "fierce": palette("1a0608 5a0f12 c2361a ff9a3c", "ffedb0", "8a2418", "16060a", "ff6a2b ffc93c d92027 ff9f80", 0.5),
    "pastel": palette("b8c9f2 d9c9f2 f7d6e3 fff0e0", "fffdf7", "c9bfe6", "6f6a9f", "ffb8c9 b8e3d9 ffe3a8 c9b8f2", 0.04),
    "vintage": palette("6a7a78 a89f86 d9c39a f0dfb8", "fff6dc", "a88f6a", "3f2f28", "b8583f d9a05c 6f8a7a 8a6a5c", 0.2),
}


def choose(brief: Brief, draw: Random) -> tuple[str, Palette]:
    """Find the light that the words ask for, and its name; without any such word the dice decide."""
    name = _name(brief)
    known = bool(name)
    if not known:
        name = draw.choice(("sunset", "dawn", "day", "calm", "pastel", "autumn", "night", "joy"))
    reach = 0.015 if known else 0.06
    found = KNOWN[name].changed(turn=draw.uniform(-reach, reach))
    if brief.colours and not brief.figures:
        found = tinted(found, brief.colours)
    if "rain" in brief.weather and name not in ("neon", "storm"):
        found = found.changed(rich=0.75, bright=0.9)
    return name, found


def _name(brief: Brief) -> str:
    if "neon" in brief.moods:
        return "neon"
    for place in ("space", "deep"):
        if place in brief.places:
            return place
    if brief.times:
        return brief.times[0]
    if "moon" in brief.figures or "stars" in brief.weather:
        return "night"
    for words, name in ((brief.weather, "snow"), (brief.weather, "autumn"), (brief.weather, "rain")):
        if name in words:
            return {"snow": "winter", "rain": "storm"}.get(name, name)
    if brief.moods:
        return brief.moods[0]
    return "desert" if "desert" in brief.places else ""


def tinted(light: Palette, colours: tuple[str, ...]) -> Palette:
    """Pull a palette towards the colours that the prompt names."""
    hues = [HUES[name] for name in colours]

    def towards(colour: Colour, index: int) -> Colour:
        return mix(colour, shift(colour, hue=hues[index % len(hues)], rich=1.3), 0.72)

    return Palette(
        sky=tuple(towards(colour, index * len(hues) // len(light.sky)) for index, colour in enumerate(light.sky)),
        light=light.light,
        far=towards(light.far, 0),
        near=towards(light.near, 0),
        accents=tuple(towards(colour, index) for index, colour in enumerate(light.accents)),
        shade=light.shade,
    )
