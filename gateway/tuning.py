"""The parameters that a target may or may not take: kept, brought within its limits, done here, or dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, floor, inf
from types import MappingProxyType
from typing import Any

from gateway.capabilities import TUNABLE, Limit, Range
from gateway.receipt import Change
from gateway.values import ImageRequest

SYNONYMS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "quality": {
        "low": ("draft", "standard", "medium"),
        "medium": ("standard", "high", "hd"),
        "standard": ("medium", "low"),
        "high": ("hd", "ultra", "medium"),
        "hd": ("high", "ultra", "medium"),
        "ultra": ("high", "hd"),
        "auto": (),
    },
    "output_format": {"jpg": ("jpeg",), "jpeg": ("jpg",)},
    "moderation": {"low": ("auto",)},
}
"""What comes nearest to a word that a target does not know, best first."""

MADE_HERE = {"png": "png", "jpeg": "jpeg", "jpg": "jpeg", "webp": "webp", "gif": "gif", "avif": "avif"}
"""Formats that a picture can be converted to here."""

LOSSLESS = frozenset({"png", "gif"})
WHOLE = frozenset({"seed", "steps", "output_compression", "partial_images"})


@dataclass(slots=True)
class Tuned:
    """What becomes of the parameters; *sent* has a value (None: not sent) for each of them."""

    sent: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(TUNABLE))
    output_format: str | None = None
    compression: int | None = None
    applied: dict[str, Any] = field(default_factory=dict)
    adjusted: list[Change] = field(default_factory=list)
    dropped: list[Change] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def tune(request: ImageRequest, accepts: Mapping[str, Limit], why: Mapping[str, str] = MappingProxyType({})) -> Tuned:
    """Go through all that was asked; nothing asked vanishes without an entry. *why* has reasons of its own for what is
    not accepted."""
    tuned = Tuned()
    for name in TUNABLE:
        value = getattr(request, name)
        if value is None or name in ("output_format", "output_compression"):
            continue
        if _left_to_target(name, value):
            if _taken(value, accepts.get(name)) and value != -1:
                tuned.sent[name] = value
            tuned.applied[name] = value
        else:
            _settle(tuned, name, value, accepts.get(name), why.get(name))
    _settle_format(tuned, request.output_format, accepts)
    _settle_compression(tuned, request, accepts)
    return tuned


def _left_to_target(name: str, value: Any) -> bool:
    """Say whether the value asks for what comes anyway: ``auto``, or the seed -1, which means any."""
    return value == "auto" or (name == "seed" and value == -1)


def _taken(value: Any, limit: Limit | None) -> bool:
    if isinstance(limit, tuple):
        return str(value) in limit
    return limit is True


def _settle(tuned: Tuned, name: str, value: Any, limit: Limit | None, why: str | None = None) -> None:
    if limit is None:
        tuned.dropped.append(Change(name, value, None, why or f"the target does not take {name}"))
        return
    nearest = _nearest(name, value, limit)
    if nearest is None:
        reason = f"the target takes {_limit_words(limit)}"
        tuned.dropped.append(Change(name, value, None, reason))
        return
    tuned.sent[name] = nearest
    if nearest == value:
        tuned.applied[name] = value
    else:
        tuned.adjusted.append(Change(name, value, nearest, f"the target takes {_limit_words(limit)}"))


def _nearest(name: str, value: Any, limit: Limit) -> Any:
    """Give the value, or what comes nearest to it within the limit; None if nothing does."""
    if isinstance(limit, Range):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        clamped = _clamp(name, value, limit)
        return fold(int(value), limit) if name == "seed" and clamped is not None else clamped
    if isinstance(limit, tuple):
        word = str(value)
        if word in limit:
            return value
        near = (word.lower(), *SYNONYMS.get(name, {}).get(word.lower(), ()))
        return next((candidate for candidate in near if candidate in limit), None)
    return value


def _clamp(name: str, value: float, limit: Range) -> float | None:
    low = -inf if limit.low is None else limit.low
    high = inf if limit.high is None else limit.high
    if name in WHOLE:
        low, high = (low if low == -inf else ceil(low)), (high if high == inf else floor(high))
    if low > high or value != value:
        return None
    clamped = min(max(value, low), high)
    return float(clamped) if isinstance(value, float) else clamped


def fold(seed: int, limit: Range) -> int:
    """Bring a seed within bounds so that different seeds stay different, as clamping would not."""
    low = ceil(limit.low or 0)
    if limit.high is None:
        return max(seed, low)
    high = floor(limit.high)
    return seed if low <= seed <= high else low + (seed - low) % max(high - low + 1, 1)


def _limit_words(limit: Limit) -> str:
    if isinstance(limit, tuple):
        return "only " + ", ".join(limit)
    if not isinstance(limit, Range):
        return "anything"
    low, high = (
        f"{bound:g}" if bound is not None and abs(bound) < 10**6 else bound for bound in (limit.low, limit.high)
    )
    if high is None:
        return f"{low} at least"
    return f"{high} at most" if low is None else f"{low} to {high}"


def _settle_format(tuned: Tuned, wanted: str | None, accepts: Mapping[str, Limit]) -> None:
    """Ask the target for the format if it takes it; what it makes of it is mended here either way."""
    if wanted is None:
        return
    limit = accepts.get("output_format")
    native = _nearest("output_format", wanted, limit) if limit is not None else None
    made = MADE_HERE.get(wanted.lower())
    if native is None and made is None:
        reason = "neither the target nor this gateway can make this format"
        tuned.dropped.append(Change("output_format", wanted, None, reason))
        return
    tuned.sent["output_format"] = native
    tuned.output_format = made
    tuned.applied["output_format"] = wanted
    if native is None:
        tuned.notes = (*tuned.notes, f"output_format: converted to {made} here")


def _settle_compression(tuned: Tuned, request: ImageRequest, accepts: Mapping[str, Limit]) -> None:
    """Leave compression to the target only if it makes the format as well; otherwise compress here."""
    value, name = request.output_compression, "output_compression"
    if value is None:
        return
    limit = accepts.get(name)
    if (tuned.output_format or "") in LOSSLESS:
        reason = f"{tuned.output_format} keeps every pixel; compression means something for jpeg and webp"
        tuned.dropped.append(Change(name, value, None, reason))
    elif limit is not None and (request.output_format is None or tuned.sent["output_format"]):
        _settle(tuned, name, value, limit)
    elif tuned.output_format:
        tuned.compression = min(max(value, 0), 100)
        tuned.applied[name] = value
        tuned.notes = (*tuned.notes, f"{name}: compressed here")
    else:
        reason = "the target does not take it; ask for output_format jpeg or webp as well and it is done here"
        tuned.dropped.append(Change(name, value, None, reason))
