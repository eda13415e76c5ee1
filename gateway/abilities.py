"""Why a model cannot change the pictures that it was given, in words and with the field that is too much for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.capabilities import Capabilities
from gateway.values import ImageRequest


@dataclass(frozen=True, slots=True)
class Unable:
    """What is wrong: *words* follow the model's name."""

    words: str
    param: str
    code: str


def unable(request: ImageRequest, targets: Iterable[Capabilities]) -> Unable | None:
    """Say why none of *targets* takes the input pictures and the mask of *request*; None if one does."""
    able, given = list(targets), len(request.images)
    most = max((can.inputs for can in able), default=0)
    if any(can.inputs >= given and (can.mask or not request.mask) for can in able):
        return None
    if not most:
        return Unable("cannot change pictures", "model", "edits_not_supported")
    if request.mask and not any(can.inputs and can.mask for can in able):
        return Unable("takes no mask", "mask", "mask_not_supported")
    most = max(can.inputs for can in able if can.mask or not request.mask)
    beside = " beside a mask" if request.mask else ""
    return Unable(f"takes at most {most} input images{beside}, not {given}", "image", "too_many_images")
