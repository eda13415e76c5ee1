"""What a target can do, as data: `negotiate` reads it, `/v1/models` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.values import Size


@dataclass(frozen=True, slots=True)
class Range:
    """A number from *low* to *high*, both included; None means no bound on that side."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Free sizes: each side from *low* to *high* pixels in steps of *step*; pixel and ratio bounds, 0 = none.

    *ratio* is the largest long side : short side allowed.
    """

    low: int = 64
    high: int = 4096
    step: int = 1
    least_pixels: int = 0
    most_pixels: int = 0
    ratio: float = 0


Limit = Range | tuple[str, ...] | Literal[True]
"""What a parameter may be: a number within bounds, one of some words, or anything of its type."""

TUNABLE = (
    "seed",
    "steps",
    "guidance",
    "negative_prompt",
    "quality",
    "style",
    "background",
    "output_format",
    "output_compression",
    "moderation",
    "input_fidelity",
    "partial_images",
    "user",
)
"""The parameters that a target may or may not take; size, n, prompt and input images have their own rules."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one upstream model takes.

    *sizes*: allowed sizes, a rule for free sizes, or ``()`` if no size can be sent. *native*: the size that comes
    then, or None if unknown. *ratios*: for upstreams that take an aspect ratio instead of a size (``("1:1",
    "16:9")``); the request then bears the nearest one in `aspect_ratio`. *count*: pictures per call. *accepts*:
    each parameter of `TUNABLE` that may be sent, with its limit. *inputs*: input images an edit may have, 0 = no
    edits, and *needs_input* if it can do nothing without one; of what it accepts, *not_in_edits* goes with none.
    *prompt_limit*: characters (code points) of the prompt, 0 = no known limit. *partials* and *progress*: whether
    previews and progress are reported.
    """

    sizes: tuple[Size, ...] | SizeRule = field(default_factory=SizeRule)
    native: Size | None = None
    ratios: tuple[str, ...] = ()
    count: int = 1
    accepts: Mapping[str, Limit] = field(default_factory=dict)
    inputs: int = 0
    needs_input: bool = False
    not_in_edits: frozenset[str] = frozenset()
    mask: bool = False
    prompt_limit: int = 0
    partials: bool = False
    progress: bool = False

    def as_json(self) -> dict[str, Any]:
        """Give plain JSON values for the model list."""
        return {
            "sizes": _sizes(self.sizes) if not self.ratios else None,
            "aspect_ratios": list(self.ratios) or None,
            "native_size": str(self.native) if self.native else None,
            "n": self.count,
            "parameters": {name: _limit(limit) for name, limit in sorted(self.accepts.items())},
            "input_images": self.inputs,
            "mask": self.mask,
            "prompt_limit": self.prompt_limit or None,
            "partial_images": self.partials,
            "progress": self.progress,
        }


def _sizes(sizes: tuple[Size, ...] | SizeRule) -> Any:
    if isinstance(sizes, SizeRule):
        return {"low": sizes.low, "high": sizes.high, "step": sizes.step}
    return [str(size) for size in sizes]


def _limit(limit: Limit) -> Any:
    if isinstance(limit, Range):
        return {"low": limit.low, "high": limit.high}
    return list(limit) if isinstance(limit, tuple) else True
