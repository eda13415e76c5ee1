"""Boats, houses, trees and other things, drawn with few shapes."""

from __future__ import annotations

from .colours import Colour, mix, rgb
from .creatures import BLACK, WHITE
from .pen import Pen

LAMP = rgb("ffd27a")


def boat(pen: Pen, sail: Colour | None = None) -> None:
    sail = sail or rgb("fff4e2")
    hull = rgb("8a3f35")
    pen.line(rgb("4a3328"), 1.8, (50, 6), (50, 84))
    pen.shape(sail, (48, 8), (48, 76), (18, 76))
    pen.blob(mix(sail, pen.palette.accents[1], 0.35), (53, 14), (72, 46), (82, 76), (53, 76), (56, 46))
    for y in (30, 46, 62):
        pen.line(mix(sail, BLACK, 0.14), 0.7, (48 - (y - 8) * 0.44, y), (48, y))
    pen.shape(pen.palette.accents[0], (50, 4), (64, 8), (50, 12))
    pen.blob(hull, (12, 82), (50, 84), (90, 81), (80, 97), (50, 100), (24, 97))
    pen.line(WHITE, 2, (14, 84), (50, 87), (87, 84))


def house(pen: Pen, wall: Colour | None = None) -> None:
    wall = wall or rgb("f0dcc0")
    roof = pen.palette.accents[1]
    pen.shape(rgb("7a5248"), (68, 20), (77, 20), (77, 44), (68, 44))
    pen.shape(wall, (16, 48), (84, 48), (84, 100), (16, 100))
    pen.shape(roof, (6, 52), (32, 22), (70, 22), (94, 52))
    pen.shape(mix(roof, BLACK, 0.25), (6, 52), (94, 52), (91, 56), (9, 56))
    pen.shape(rgb("6f4432"), (58, 68), (72, 68), (72, 100), (58, 100))
    for x in (24, 40):
        pen.shape(WHITE, (x - 1.5, 64.5), (x + 12.5, 64.5), (x + 12.5, 81.5), (x - 1.5, 81.5))
        pen.shape(LAMP, (x, 66), (x + 11, 66), (x + 11, 80), (x, 80), bright=True)
        pen.line(rgb("8a6a52"), 1, (x + 5.5, 66), (x + 5.5, 80), bright=True)
    for x, y, size in ((73, 14, 4), (77, 6, 5), (83, -3, 6)):
        pen.oval(mix(WHITE, pen.palette.sky[2], 0.4), (x, y), size)


def tree(pen: Pen, leaves: Colour | None = None) -> None:
    leaves = leaves or mix(rgb("4f9a5a"), pen.palette.far, 0.2)
    trunk = rgb("5a3d2e")
    pen.blob(trunk, (46, 52), (54, 52), (55, 84), (62, 101), (38, 101), (45, 84))
    pen.line(trunk, 3.5, (50, 66), (62, 54), (68, 46))
    pen.line(trunk, 3.5, (50, 70), (38, 58), (32, 48))
    for x, y, size, light in (
        (30, 44, 18, -0.2),
        (70, 43, 18, -0.2),
        (50, 50, 18, -0.25),
        (36, 26, 18, 0.05),
        (64, 26, 18, 0),
        (50, 16, 16, 0.12),
        (44, 34, 15, 0.18),
        (34, 22, 8, 0.3),
        (54, 13, 8, 0.32),
    ):
        pen.oval(mix(leaves, WHITE if light > 0 else BLACK, abs(light)), (x, y), size, size * 0.92)


def pine(pen: Pen, needles: Colour | None = None, snow: bool = False) -> None:
    needles = needles or mix(rgb("2f6b57"), pen.palette.near, 0.3)
    pen.shape(rgb("4a3328"), (47, 84), (53, 84), (54, 100), (46, 100))
    for y, reach, drop in ((62, 34, 28), (38, 26, 28), (14, 18, 28)):
        pen.shape(needles, (50, y - 12), (50 + reach, y + drop), (50, y + drop - 5), (50 - reach, y + drop))
        pen.shape(mix(needles, BLACK, 0.25), (50, y - 12), (50 + reach, y + drop), (50, y + drop - 5))
        if snow:
            pen.blob(
                WHITE,
                (50, y - 13),
                (50 + reach * 0.62, y + drop * 0.6),
                (50, y + 4),
                (50 - reach * 0.7, y + drop * 0.68),
            )


def flower(pen: Pen, petals: Colour | None = None) -> None:
    petals = petals or pen.palette.accents[0]
    stem = rgb("4f8a4f")
    pen.line(stem, 3, (50, 44), (48, 70), (50, 101))
    pen.blob(mix(stem, WHITE, 0.12), (49, 84), (62, 70), (74, 68), (64, 82))
    pen.blob(stem, (49, 90), (36, 78), (26, 78), (36, 90))
    for index in range(8):
        x, y = ((0, -1), (0.7, -0.7), (1, 0), (0.7, 0.7), (0, 1), (-0.7, 0.7), (-1, 0), (-0.7, -0.7))[index]
        pen.oval(petals if index % 2 else mix(petals, WHITE, 0.3), (50 + x * 15, 30 + y * 15), 10)
    pen.oval(rgb("f7c948"), (50, 30), 9.5)
    pen.oval(rgb("d98f2b"), (50, 31), 5.5)


def robot(pen: Pen, metal: Colour | None = None) -> None:
    metal = metal or rgb("a9bccb")
    dark, glow = mix(metal, BLACK, 0.4), pen.palette.accents[0]
    for x in (40, 60):
        pen.line(dark, 7, (x, 76), (x, 94))
        pen.blob(metal, (x - 9, 101), (x - 8, 94), (x, 91), (x + 8, 94), (x + 9, 101))
    for side in (-1, 1):
        pen.line(dark, 6, (50 + side * 21, 48), (50 + side * 31, 58), (50 + side * 30, 72))
        pen.oval(metal, (50 + side * 30, 74), 5.5)
    pen.blob(metal, (28, 44), (50, 41), (72, 44), (72, 78), (50, 82), (28, 78))
    pen.blob(dark, (38, 52), (62, 52), (62, 68), (38, 68))
    for x, colour in ((44, glow), (50, pen.palette.accents[1]), (56, WHITE)):
        pen.oval(colour, (x, 60), 2.4, bright=True)
    pen.line(dark, 2, (50, 12), (50, 4))
    pen.oval(pen.palette.accents[1], (50, 3), 3.6, bright=True)
    pen.blob(metal, (30, 14), (50, 11), (70, 14), (71, 36), (50, 40), (29, 36))
    pen.blob(rgb("1c2836"), (34, 19), (50, 17), (66, 19), (66, 32), (50, 34), (34, 32))
    for x in (42, 58):
        pen.oval(glow, (x, 25), 4, bright=True)
        pen.oval(WHITE, (x - 1, 24), 1.3, bright=True)


def balloon(pen: Pen, silk: Colour | None = None) -> None:
    silks = (silk or pen.palette.accents[1], WHITE, pen.palette.accents[0], WHITE)
    for side in (-1, 1):
        pen.line(rgb("5a4030"), 0.8, (50 + side * 14, 62), (50 + side * 6, 86))
    pen.blob(silks[0], (50, 2), (76, 12), (84, 36), (68, 60), (50, 70), (32, 60), (16, 36), (24, 12))
    for reach, colour in ((24, silks[1]), (16, silks[2]), (8, silks[3])):
        pen.blob(
            colour,
            (50, 3),
            (50 + reach, 18),
            (50 + reach * 1.12, 38),
            (50 + reach * 0.6, 60),
            (50, 69),
            (50 - reach * 0.6, 60),
            (50 - reach * 1.12, 38),
            (50 - reach, 18),
        )
    pen.shape(rgb("8a5a3a"), (43, 86), (57, 86), (55, 98), (45, 98))
    pen.oval(LAMP, (50, 78), 2.2, 3, bright=True)


def castle(pen: Pen, stone: Colour | None = None) -> None:
    stone = stone or rgb("c9bfc9")
    roofs = pen.palette.accents[1]
    pen.shape(stone, (14, 60), (86, 60), (86, 100), (14, 100))
    for x in range(14, 86, 12):
        pen.shape(stone, (x, 55), (x + 7, 55), (x + 7, 61), (x, 61))
    for x, top, half in ((18, 40, 8), (82, 40, 8), (38, 30, 7), (62, 34, 7), (50, 16, 9)):
        pen.shape(
            mix(stone, BLACK, 0.12 if x < 50 else 0.2),
            (x - half, top),
            (x + half, top),
            (x + half, 100),
            (x - half, 100),
        )
        pen.shape(roofs, (x, top - 22), (x + half + 3, top + 1), (x - half - 3, top + 1))
        pen.shape(mix(roofs, BLACK, 0.25), (x, top - 22), (x + half + 3, top + 1), (x, top + 1))
        pen.blob(
            LAMP, (x - 2, top + 8), (x, top + 6), (x + 2, top + 8), (x + 2, top + 15), (x - 2, top + 15), bright=True
        )
    pen.blob(rgb("4a2f2a"), (43, 100), (43, 82), (50, 74), (57, 82), (57, 100))


def lighthouse(pen: Pen, stripe: Colour | None = None) -> None:
    stripe = stripe or rgb("d9483f")
    for index in range(5):
        top, low = 28 + index * 14.4, 28 + (index + 1) * 14.4
        a, b = 8 + (top - 28) * 0.09, 8 + (low - 28) * 0.09
        pen.shape(stripe if index % 2 == 0 else WHITE, (50 - a, top), (50 + a, top), (50 + b, low), (50 - b, low))
    pen.shape(BLACK, (38, 25), (62, 25), (62, 28), (38, 28))
    pen.shape(LAMP, (43, 13), (57, 13), (57, 25), (43, 25), bright=True)
    pen.shape(stripe, (50, 3), (60, 13), (40, 13))
    pen.shape(rgb("5f5a66"), (22, 94), (78, 94), (90, 101), (10, 101))


def rocket(pen: Pen, trim: Colour | None = None) -> None:
    trim = trim or pen.palette.accents[1]
    pen.blob(rgb("ff9f3c"), (44, 78), (56, 78), (55, 92), (50, 104), (45, 92), bright=True)
    pen.blob(rgb("fff0a8"), (47, 78), (53, 78), (52, 88), (50, 94), (48, 88), bright=True)
    for side in (-1, 1):
        pen.blob(trim, *((50 + side * x, y) for x, y in ((10, 52), (25, 70), (26, 84), (11, 74))))
    pen.blob(WHITE, (50, 2), (61, 20), (65, 48), (58, 78), (42, 78), (35, 48), (39, 20))
    pen.blob(trim, (50, 2), (57, 11), (60, 21), (50, 23), (40, 21), (43, 11))
    pen.oval(mix(trim, BLACK, 0.2), (50, 38), 9)
    pen.oval(rgb("8fd6f2"), (50, 38), 6.4, bright=True)
