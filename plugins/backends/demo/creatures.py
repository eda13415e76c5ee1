"""Animals and people, drawn with few shapes."""

from __future__ import annotations

from .colours import Colour, mix, rgb
from .pen import Pen

WHITE, BLACK, PINK = rgb("fff8ee"), rgb("15121c"), rgb("e8a0a0")


def _eyes(pen: Pen, y: float, gap: float, size: float, iris: Colour) -> None:
    for x in (50 - gap, 50 + gap):
        pen.oval(iris, (x, y), size, size * 1.1, bright=True)
        pen.oval(BLACK, (x, y), size * 0.48, size * 0.95, bright=True)
        pen.oval(WHITE, (x - size * 0.3, y - size * 0.4), size * 0.24, bright=True)


def _sitting(pen: Pen, fur: Colour, chest: Colour, paws: Colour) -> None:
    pen.blob(fur, (50, 38), (63, 50), (71, 70), (73, 92), (64, 100), (36, 100), (27, 92), (29, 70), (37, 50))
    pen.blob(chest, (50, 46), (58, 56), (56, 74), (50, 82), (44, 74), (42, 56))
    for x in (43, 57):
        pen.blob(mix(fur, paws, 0.25), (x, 68), (x + 6, 76), (x + 6, 96), (x, 101), (x - 6, 96), (x - 6, 76))
        pen.oval(paws, (x, 97), 7, 4)
    pen.line(mix(fur, BLACK, 0.45), 0.9, (50, 78), (50, 97))


def cat(pen: Pen, fur: Colour | None = None) -> None:
    fur = fur or rgb("5b5366")
    dark = mix(fur, BLACK, 0.35)
    pen.line(dark, 7, (66, 95), (84, 95), (93, 82), (88, 66), (92, 56))
    _sitting(pen, fur, mix(fur, WHITE, 0.35), mix(fur, WHITE, 0.5))
    for side in (-1, 1):
        pen.blob(fur, (50 + side * 17, 30), (50 + side * 17, 6), (50 + side * 13, 7), (50 + side * 3, 19))
        pen.shape(mix(PINK, fur, 0.4), (50 + side * 14.5, 24), (50 + side * 14.5, 11), (50 + side * 7, 19))
    pen.blob(fur, (50, 16), (64, 20), (69, 32), (62, 43), (50, 47), (38, 43), (31, 32), (36, 20))
    for x in (46, 50, 54):
        pen.line(dark, 1.4, (x, 17), (x, 22))
    pen.oval(mix(fur, WHITE, 0.45), (50, 40), 8, 5)
    _eyes(pen, 31, 8, 4.4, rgb("ffd95c"))
    pen.blob(PINK, (48, 37), (52, 37), (50, 40))
    for side in (-1, 1):
        for rise in (-2, 1.5):
            pen.line(mix(WHITE, fur, 0.3), 0.6, (50 + side * 8, 39), (50 + side * 25, 39 + rise * 2))


def fox(pen: Pen, fur: Colour | None = None) -> None:
    fur = fur or rgb("e0662b")
    pen.blob(fur, (64, 99), (86, 101), (99, 84), (97, 62), (88, 50), (84, 66), (76, 78), (64, 86))
    pen.blob(WHITE, (97, 66), (93, 52), (86, 47), (84, 62), (89, 68))
    _sitting(pen, fur, WHITE, rgb("3a2420"))
    for side in (-1, 1):
        pen.blob(fur, (50 + side * 20, 28), (50 + side * 21, 1), (50 + side * 17, 2), (50 + side * 4, 20))
        pen.shape(rgb("3a2420"), (50 + side * 19, 12), (50 + side * 20, 1), (50 + side * 13.5, 8))
    pen.blob(fur, (50, 16), (65, 21), (77, 37), (62, 43), (50, 50), (38, 43), (23, 37), (35, 21))
    for side in (-1, 1):
        pen.blob(WHITE, (50 + side * 26, 37), (50 + side * 12, 34), (50 + side * 3, 40), (50, 49), (50 + side * 13, 43))
    _eyes(pen, 31.5, 9.5, 3, rgb("f5b942"))
    pen.oval(BLACK, (50, 47.5), 3.4, 2.6)


def dog(pen: Pen, fur: Colour | None = None) -> None:
    fur = fur or rgb("b9824f")
    pen.line(fur, 7, (67, 94), (82, 86), (88, 72))
    _sitting(pen, fur, WHITE, mix(fur, WHITE, 0.55))
    pen.blob(fur, (50, 12), (65, 17), (67, 32), (61, 45), (50, 49), (39, 45), (33, 32), (35, 17))
    pen.blob(WHITE, (50, 14), (54, 28), (61, 38), (58, 48), (50, 51), (42, 48), (39, 38), (46, 28))
    for side in (-1, 1):
        ear = ((12, 13), (22, 16), (25, 32), (20, 43), (15, 34))
        pen.blob(mix(fur, BLACK, 0.4), *((50 + side * x, y) for x, y in ear))
    _eyes(pen, 28, 8.5, 3, rgb("7a4a2a"))
    pen.oval(BLACK, (50, 38), 4.6, 3.4)
    pen.blob(rgb("e86f7a"), (47.5, 45), (52.5, 45), (52, 52), (48, 52))
    pen.line(rgb("d9483f"), 4.5, (38, 51), (50, 55), (62, 51))


def rabbit(pen: Pen, fur: Colour | None = None) -> None:
    fur = fur or rgb("efe3d6")
    pen.oval(WHITE, (73, 90), 8)
    _sitting(pen, fur, WHITE, WHITE)
    for side in (-1, 1):
        ear = ((4, 24), (5, 4), (11, -4), (15, 6), (12, 26))
        pen.blob(fur, *((50 + side * x, y) for x, y in ear))
        pen.blob(PINK, *((50 + side * x, y) for x, y in ((7, 20), (8, 5), (11, 1), (12.5, 8), (10, 22))))
    pen.oval(fur, (50, 33), 17, 15)
    pen.oval(WHITE, (50, 40), 9, 6)
    _eyes(pen, 31, 8.5, 3, rgb("7a3f3f"))
    pen.blob(PINK, (48, 36.5), (52, 36.5), (50, 39))


def bear(pen: Pen, fur: Colour | None = None) -> None:
    fur = fur or rgb("6f4a35")
    pen.blob(fur, (50, 34), (70, 44), (82, 70), (80, 95), (66, 101), (34, 101), (20, 95), (18, 70), (30, 44))
    pen.oval(mix(fur, WHITE, 0.25), (50, 74), 17, 20)
    for side in (-1, 1):
        pen.oval(fur, (50 + side * 18, 14), 8)
        pen.oval(mix(fur, PINK, 0.5), (50 + side * 18, 14), 4.5)
        pen.oval(mix(fur, BLACK, 0.25), (50 + side * 20, 96), 11, 6)
    pen.oval(fur, (50, 28), 24, 21)
    pen.oval(mix(fur, WHITE, 0.5), (50, 36), 11, 8.5)
    _eyes(pen, 26, 10, 2.8, rgb("4a2c1a"))
    pen.oval(BLACK, (50, 33), 4.5, 3)


def owl(pen: Pen, fur: Colour | None = None) -> None:
    fur = fur or rgb("7d6349")
    pen.blob(fur, (50, 14), (70, 20), (77, 52), (70, 86), (50, 97), (30, 86), (23, 52), (30, 20))
    pen.blob(mix(fur, WHITE, 0.55), (50, 42), (63, 52), (62, 78), (50, 90), (38, 78), (37, 52))
    for row in range(4):
        for step in range(-1, 2):
            pen.oval(fur, (50 + step * 8 + (row % 2) * 4 - 2, 56 + row * 8), 2.2, 1.6)
    for side in (-1, 1):
        pen.shape(fur, (50 + side * 22, 26), (50 + side * 22, 3), (50 + side * 5, 16))
        pen.blob(mix(fur, BLACK, 0.3), *((50 + side * x, y) for x, y in ((24, 40), (32, 60), (26, 86), (18, 70))))
        pen.oval(mix(fur, WHITE, 0.7), (50 + side * 10, 31), 11)
        pen.line(rgb("e0a03c"), 2.6, (50 + side * 8, 95), (50 + side * 8, 100))
    _eyes(pen, 31, 10, 6.4, rgb("ffc62e"))
    pen.blob(rgb("e0a03c"), (47, 37), (53, 37), (50, 46))


def person(pen: Pen, coat: Colour | None = None) -> None:
    """Somebody seen from behind, who looks at the landscape."""
    coat = coat or pen.palette.accents[1]
    for x in (44, 56):
        pen.line(rgb("2b2a3f"), 7, (x, 70), (x, 96))
        pen.oval(BLACK, (x, 97.5), 5.5, 3)
    for side in (-1, 1):
        pen.line(mix(coat, BLACK, 0.15), 8, (50 + side * 13, 40), (50 + side * 18, 54), (50 + side * 17, 68))
        pen.oval(rgb("f0c4a0"), (50 + side * 17, 71), 3.6)
    pen.blob(coat, (50, 31), (64, 36), (66, 58), (69, 80), (50, 84), (31, 80), (34, 58), (36, 36))
    pen.blob(mix(coat, BLACK, 0.35), (40, 42), (50, 40), (60, 42), (62, 62), (50, 66), (38, 62))
    pen.line(mix(coat, BLACK, 0.5), 1.2, (40, 52), (50, 53), (60, 52))
    pen.oval(rgb("f0c4a0"), (50, 20), 10, 11)
    pen.blob(rgb("4a2f2a"), (50, 6), (61, 12), (62, 24), (56, 31), (44, 31), (38, 24), (39, 12))
    pen.line(pen.palette.accents[0], 6.5, (41, 33), (50, 35), (59, 33))


def butterfly(pen: Pen, wing: Colour | None = None) -> None:
    wing = wing or pen.palette.accents[1]
    for side in (-1, 1):
        for grow, colour in ((1.0, wing), (0.62, mix(wing, WHITE, 0.55))):
            upper = ((4, 48), (20, 16), (42, 14), (44, 36), (24, 52))
            lower = ((4, 54), (24, 54), (36, 68), (26, 84), (10, 74))
            for part in (upper, lower):
                middle = [sum(axis) / len(part) for axis in zip(*part, strict=True)]
                points = [[m + (v - m) * grow for v, m in zip(point, middle, strict=True)] for point in part]
                pen.blob(colour, *((50 + side * x, y) for x, y in points))
        pen.line(BLACK, 1.2, (50, 36), (50 + side * 6, 24), (50 + side * 11, 20))
    pen.blob(BLACK, (50, 34), (53, 50), (51, 78), (49, 78), (47, 50))


def fish(pen: Pen, scales: Colour | None = None) -> None:
    scales = scales or pen.palette.accents[0]
    fin = mix(scales, BLACK, 0.25)
    pen.blob(fin, (22, 50), (2, 30), (8, 50), (2, 70))
    pen.blob(fin, (46, 34), (56, 16), (70, 32))
    pen.blob(scales, (16, 50), (40, 30), (68, 30), (92, 48), (70, 68), (40, 69))
    for x in (40, 55):
        pen.blob(mix(scales, WHITE, 0.7), (x, 33), (x + 6, 50), (x, 67), (x - 5, 50))
    pen.blob(fin, (56, 52), (44, 62), (58, 62))
    pen.oval(WHITE, (78, 45), 5, bright=True)
    pen.oval(BLACK, (79, 45), 2.6, bright=True)


def whale(pen: Pen, skin: Colour | None = None) -> None:
    skin = skin or rgb("4a6f96")
    pen.blob(skin, (16, 60), (2, 40), (10, 38), (18, 46), (24, 34), (32, 36), (26, 58))
    pen.blob(skin, (20, 56), (44, 40), (74, 40), (95, 58), (92, 76), (66, 86), (36, 80))
    pen.blob(mix(skin, WHITE, 0.65), (40, 78), (68, 70), (94, 68), (90, 78), (66, 86))
    pen.blob(mix(skin, BLACK, 0.25), (58, 74), (48, 92), (66, 80))
    pen.oval(BLACK, (82, 60), 1.8)
    for side in (-1, 1):
        pen.line(rgb("dff4ff"), 2.2, (70, 39), (70 + side * 3, 26), (70 + side * 11, 22))
