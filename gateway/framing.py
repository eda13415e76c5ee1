"""Size and aspect ratio: what to ask the target for, what to bring its pictures to, and how to tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.capabilities import Capabilities, SizeRule
from gateway.errors import RequestError
from gateway.receipt import Change
from gateway.settings import RATIOS, Fit
from gateway.sizes import (
    SAME_RATIO,
    meets,
    nearest_free,
    nearest_listed,
    nearest_ratio,
    parse_ratio,
    ratio_distance,
    ratio_words,
    within,
)
from gateway.values import ImageRequest, Size

DONE = {"crop": "cropped here to", "pad": "padded here to", "scale": "scaled here to fit into"}


@dataclass(frozen=True, slots=True)
class Framing:
    """*sent* and *ratio* go to the target, *size* is what its pictures are brought to; the rest is for the receipt."""

    sent: Size | None = None
    ratio: str | None = None
    size: Size | None = None
    applied: Mapping[str, Any] = field(default_factory=dict)
    adjusted: tuple[Change, ...] = ()
    dropped: tuple[Change, ...] = ()


def frame(request: ImageRequest, capabilities: Capabilities, fit: Fit) -> Framing:
    """Decide about size and aspect ratio; nothing asked is nothing forced."""
    ratio = _asked_ratio(request)
    # A target that takes a ratio chooses its own size.
    if request.any_size and (capabilities.ratios or not capabilities.sizes) and capabilities.native is None:
        return Framing()
    if request.size:
        return _by_size(request, request.size, ratio, capabilities, fit)
    if request.aspect_ratio and ratio:
        return _by_ratio(request.aspect_ratio, ratio, capabilities, fit)
    return Framing()


def _asked_ratio(request: ImageRequest) -> float | None:
    try:
        return parse_ratio(request.aspect_ratio) if request.aspect_ratio else None
    except ValueError as error:
        raise RequestError(str(error), param="aspect_ratio") from error


def _choose(wanted: Size, capabilities: Capabilities) -> tuple[Size | None, str | None, Size | None, str]:
    """Say what to send (a size or a ratio), what will come (None: unknown), and in words what the target does."""
    if capabilities.ratios:
        ratio = nearest_ratio(wanted.ratio, capabilities.ratios)
        if ratio:
            return None, ratio, None, f"the target takes an aspect ratio instead of a size; it is asked for {ratio}"
    elif isinstance(capabilities.sizes, SizeRule):
        free = nearest_free(wanted, capabilities.sizes)
        if free:
            return free, None, free, f"the target's rules do not allow {wanted}; it makes {free}"
    elif capabilities.sizes:
        listed = nearest_listed(wanted, capabilities.sizes)
        return listed, None, listed, f"the target does not make {wanted}; it makes {listed}"
    native = capabilities.native
    words = f"the target always answers {native}" if native else "the target cannot be told a size"
    return None, None, native, words


def _by_size(request: ImageRequest, wanted: Size, ratio: float | None, capabilities: Capabilities, fit: Fit) -> Framing:
    """Ask for the exact size or the nearest, and bring what comes to it unless it is to be left as it comes."""
    sent, sent_ratio, comes, words = _choose(wanted, capabilities)
    size = None if fit == "leave" else wanted
    applied: dict[str, Any] = {}
    adjusted: list[Change] = []
    dropped: list[Change] = []
    if comes == wanted:
        applied["size"] = str(wanted)
    elif fit == "leave" and not (comes or sent_ratio):
        dropped.append(Change("size", str(wanted), None, words))
    else:
        delivered = str(comes) if comes else (sent_ratio or str(wanted))
        same = _same(comes, sent_ratio, wanted.ratio)
        adjusted.append(Change("size", str(wanted), delivered, f"{words}, {_then(fit, wanted, same)}"))
    if request.aspect_ratio and ratio:
        entry = _ratio_beside_size(request.aspect_ratio, ratio, wanted)
        if entry:
            dropped.append(entry)
        elif fit in ("crop", "pad") or _same(comes, sent_ratio, wanted.ratio):
            applied["aspect_ratio"] = request.aspect_ratio
        else:
            adjusted.append(_ratio_left(request.aspect_ratio, comes, sent_ratio, words))
    return Framing(sent, sent_ratio, size, applied, tuple(adjusted), tuple(dropped))


def _same(comes: Size | None, sent_ratio: str | None, ratio: float) -> bool:
    """Say whether what comes has the ratio; of what is unknown the worst is assumed."""
    if comes:
        return ratio_distance(comes.ratio, ratio) <= SAME_RATIO
    return bool(sent_ratio) and ratio_distance(parse_ratio(sent_ratio or "1:1"), ratio) <= SAME_RATIO


def _then(fit: Fit, wanted: Size, same_ratio: bool) -> str:
    if fit == "leave":
        return "left as it comes"
    return f"{'scaled here to' if same_ratio else DONE[fit]} {wanted}"


def _ratio_beside_size(text: str, ratio: float, wanted: Size) -> Change | None:
    # People write 16:9 beside 1344x768; only what plainly contradicts is worth a complaint.
    if ratio_distance(ratio, wanted.ratio) <= 5 * SAME_RATIO:
        return None
    return Change("aspect_ratio", text, None, f"the size asked, {wanted}, says otherwise and wins")


def _ratio_left(text: str, comes: Size | None, sent_ratio: str | None, words: str) -> Change:
    applied = ratio_words(comes) if comes else sent_ratio
    return Change("aspect_ratio", text, applied, f"{words}, left as it comes")


def _by_ratio(text: str, ratio: float, capabilities: Capabilities, fit: Fit) -> Framing:
    """Only a ratio was asked: any size of it will do, so that nothing is scaled without need."""
    wanted = RATIOS.get(text.strip()) or within(Size(1024, 1024), ratio)
    sent, sent_ratio, comes, words = _choose(wanted, capabilities)
    if sent is None and sent_ratio is None and comes is None and fit in ("leave", "scale"):
        return Framing(dropped=(Change("aspect_ratio", text, None, words),))
    if _same(comes, sent_ratio, ratio):
        return Framing(sent, sent_ratio, applied={"aspect_ratio": text})
    if fit in ("leave", "scale"):
        # Scaling keeps the ratio that comes, so it would gain nothing.
        return Framing(sent, sent_ratio, adjusted=(_ratio_left(text, comes, sent_ratio, words),))
    size = within(comes, ratio) if comes and fit == "crop" else wanted
    change = Change("aspect_ratio", text, text, f"{words}, {DONE[fit]} {size}")
    return Framing(sent, sent_ratio, size, adjusted=(change,))


def allowed(size: Size | None, ratio: str | None, capabilities: Capabilities) -> bool:
    """Say whether a target may be sent this size and aspect ratio."""
    if ratio is not None and ratio not in capabilities.ratios:
        return False
    if size is None:
        return True
    if isinstance(capabilities.sizes, SizeRule):
        return not capabilities.ratios and meets(size, capabilities.sizes)
    return not capabilities.ratios and size in capabilities.sizes
