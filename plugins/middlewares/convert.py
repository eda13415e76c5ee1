"""Brings every picture to one format and size before it is stored."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field

from gateway import (
    Change,
    Image,
    NotAnImageError,
    Proceed,
    Receipt,
    RequestError,
    SizeOption,
    Stage,
    Work,
    finish,
    hookimpl,
)

Format = Literal["png", "jpeg", "webp", "gif", "avif"]


@dataclass
class Convert:
    """Converts to *output_format* with *quality* (JPEG, WebP and AVIF), and brings to *size* by *fit*.

    ``crop`` cuts the middle, ``pad`` adds soft bars (transparent ones if the picture is), both meet the size exactly;
    ``scale`` fits into it. What was done stands in the receipt; a picture that cannot be converted stays as it is,
    since it is paid for, and the receipt says so.
    """

    output_format: Format | None = None
    quality: Annotated[int, Field(ge=1, le=100)] | None = None
    size: SizeOption | None = None
    fit: Literal["crop", "pad", "scale"] = "crop"
    stages: tuple[Stage, ...] = field(init=False, default=("store",))

    def __post_init__(self) -> None:
        if self.output_format is None and self.size is None and self.quality is None:
            raise ValueError("it needs output_format, size or quality, else it changes nothing")

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        """Convert the pictures off the event loop, then let them be stored."""
        images: list[Image] = []
        notes: list[str] = []
        for image in work.images:
            try:
                images.append(await asyncio.to_thread(self._converted, image))
            except (NotAnImageError, RequestError) as error:
                images.append(image)
                notes.append(f"convert: a picture was left as it came: {error.message}")
        receipt = _told(work.receipt, work.images, images)
        receipt = replace(receipt, notes=(*receipt.notes, *notes))
        return await proceed(replace(work, images=tuple(images), receipt=receipt))

    def _converted(self, image: Image) -> Image:
        return finish(image, size=self.size, fit=self.fit, output_format=self.output_format, quality=self.quality)


def _told(receipt: Receipt, before: tuple[Image, ...], after: list[Image]) -> Receipt:
    """Enter what changed, once for all pictures that changed alike."""
    changes: dict[tuple[str, str, str], None] = {}
    for old, new in zip(before, after, strict=True):
        if old.size != new.size:
            changes["size", str(old.size), str(new.size)] = None
        if old.media_type != new.media_type:
            changes["output_format", old.media_type[6:], new.media_type[6:]] = None
    entries = tuple(Change(*change, reason="converted before storing") for change in changes)
    applied = {**receipt.applied, **{change.name: change.applied for change in entries}}
    return replace(receipt, adjusted=(*receipt.adjusted, *entries), applied=applied)


@hookimpl
def provide_middlewares() -> dict[str, type[Convert]]:
    """Offer ``use: convert``."""
    return {"convert": Convert}
