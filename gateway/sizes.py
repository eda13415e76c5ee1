"""Which size to ask a target for, when it cannot make the one that was asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from math import ceil, gcd, log, sqrt

from gateway.capabilities import SizeRule
from gateway.values import Size

SAME_RATIO = 0.01
"""Ratios closer than this (as a logarithm, about one per cent) count as the same."""

CANDIDATES = 512
"""Widths looked at when a rule must be met; more would only make the choice slower, not better."""


def parse_ratio(text: str) -> float:
    """Read ``16:9`` (or ``16x9``) as width by height; raise ValueError for anything else."""
    width, found, height = text.strip().replace("x", ":").partition(":")
    if not found or not all(
        side.isascii() and side.isdecimal() and len(side) <= 5 and int(side) for side in (width, height)
    ):
        raise ValueError(f"{text[:40]!r} is not an aspect ratio; write it as 16:9")
    return int(width) / int(height)


def ratio_words(size: Size) -> str:
    """Write a size's ratio as people do: ``16:9``."""
    divisor = gcd(size.width, size.height)
    return f"{size.width // divisor}:{size.height // divisor}"


def ratio_distance(one: float, other: float) -> float:
    """Say how far two ratios lie apart, alike for 2:1 against 1:1 and for 1:2 against 1:1."""
    return abs(log(one / other))


def nearest_ratio(ratio: float, allowed: Iterable[str]) -> str:
    """Pick the allowed aspect ratio that lies nearest; words that are no ratio (``auto``) are passed over."""
    readable = [(ratio_distance(ratio, parsed), text) for text, parsed in _readable(allowed)]
    return min(readable, key=lambda item: item[0])[1] if readable else ""


def _readable(allowed: Iterable[str]) -> Iterator[tuple[str, float]]:
    for text in allowed:
        try:
            yield text, parse_ratio(text)
        except ValueError:
            continue


def nearest_listed(wanted: Size, allowed: Sequence[Size]) -> Size:
    """Pick from a list: the same ratio first, then one to scale down from rather than up, then the nearest area."""

    def cost(size: Size) -> tuple[float, bool, float]:
        distance = ratio_distance(size.ratio, wanted.ratio)
        return 0 if distance <= SAME_RATIO else distance, _smaller(size, wanted), abs(log(size.pixels / wanted.pixels))

    return min(allowed, key=cost)


def meets(size: Size, rule: SizeRule) -> bool:
    """Say whether a size is one that the rule allows."""
    return (
        all(rule.low <= side <= rule.high and side % max(rule.step, 1) == 0 for side in (size.width, size.height))
        and size.pixels >= rule.least_pixels
        and (not rule.most_pixels or size.pixels <= rule.most_pixels)
        and (not rule.ratio or max(size.ratio, 1 / size.ratio) <= rule.ratio)
    )


@lru_cache(maxsize=1024)
def nearest_free(wanted: Size, rule: SizeRule) -> Size | None:
    """Find the size that the rule allows and that costs least: ratio kept, area near, scaled down rather than up.

    None if nothing meets the rule.
    """
    if meets(wanted, rule):
        return wanted
    ratio = min(max(wanted.ratio, 1 / rule.ratio), rule.ratio) if rule.ratio else wanted.ratio
    area = max(wanted.pixels, rule.least_pixels)
    area = min(area, rule.most_pixels) if rule.most_pixels else area

    def cost(size: Size) -> float:
        # A crop of one per cent is worth four per cent more pixels: a perfect ratio must not double the price.
        lost = 4 * ratio_distance(size.ratio, wanted.ratio) + abs(log(size.pixels / area))
        return lost + (0.1 if _smaller(size, wanted) else 0)

    allowed = [size for size in _candidates(ratio, area, rule) if meets(size, rule)]
    return min(allowed, key=cost) if allowed else None


def _candidates(ratio: float, area: int, rule: SizeRule) -> Iterator[Size]:
    """Yield widths on the rule's grid, each with the heights that keep the ratio or just meet a bound."""
    step = max(rule.step, 1)
    low, high = ceil(max(rule.low, 1) / step) * step, rule.high // step * step
    if low > high:
        return
    stride = max(1, ceil((high - low) / step / CANDIDATES)) * step
    exact = {_on_grid(sqrt(area * ratio) + shift * step, low, high, step) for shift in range(-2, 3)}
    for width in sorted(exact | set(range(low, high + 1, stride)) | {high}):
        heights = {width / ratio, width / ratio + step, rule.least_pixels / width + step, rule.most_pixels / width}
        for height in {_on_grid(height, low, high, step) for height in heights}:
            yield Size(width, height)


def _on_grid(value: float, low: int, high: int, step: int) -> int:
    return min(max(int(value) // step * step, low), high)


def _smaller(size: Size, wanted: Size) -> bool:
    return size.width < wanted.width or size.height < wanted.height


def within(size: Size, ratio: float) -> Size:
    """Give the largest size of *ratio* that can be cut out of *size*."""
    if size.ratio > ratio:
        return Size(max(1, round(size.height * ratio)), size.height)
    return Size(size.width, max(1, round(size.width / ratio)))
