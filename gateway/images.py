"""Makes images of the texts that an upstream answers; a broken one does not spoil the others."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from gateway.decoding import decode
from gateway.errors import BrokenAnswerError
from gateway.values import Image


async def image_of(text: str) -> Image:
    """Make an image of a URL, a data URL or base64; raise `BrokenAnswerError` for anything else."""
    if text.startswith(("https://", "http://")):
        return Image(url=text)
    return Image(data=await decode(text))


async def whole_images(
    images: Iterable[Awaitable[Image]], most: int | None = None
) -> tuple[list[Image], list[BrokenAnswerError]]:
    """Await *images* in order until *most* are whole (None: all); give these, and what is wrong with others.

    Each is paid for, whatever has become of the others. Raise the first complaint if there are only complaints.
    """
    whole: list[Image] = []
    broken: list[BrokenAnswerError] = []
    for image in images:
        try:
            whole.append(await image)
        except BrokenAnswerError as error:
            broken.append(error)
        if len(whole) == most:
            break
    if broken and not whole:
        raise broken[0]
    return whole, broken
