"""Makes smaller or converted copies of stored pictures, and keeps them for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable

from cachetools import LRUCache

from gateway.imaging import inspect
from gateway.retouch import bring_to, encode_picture, media_type_of, open_picture
from gateway.values import Image, Size

Key = tuple[str, str, Hashable]
Make = Callable[[], Awaitable[Image]]
OVERHEAD = 512


def derive(
    data: bytes,
    *,
    width: int | None = None,
    height: int | None = None,
    output_format: str | None = None,
    quality: int | None = None,
    pixels: int = 50_000_000,
) -> Image:
    """Fit a picture into *width* and *height*, keeping its ratio and never enlarging it, and convert it.

    Whatever comes out of here was written anew, unless nothing was asked. Raise `NotAnImageError` for bytes that are no
    picture or have more than *pixels*, and `RequestError` for an unknown format. CPU heavy: use a thread.
    """
    target = media_type_of(output_format) if output_format else ""
    image = inspect(Image(data=data), pixels)
    if width is None and height is None and quality is None and target in ("", image.media_type):
        return image
    picture, media_type = open_picture(data, pixels)
    size = _smaller(Size(*picture.size), width, height)
    if size != Size(*picture.size):
        picture = bring_to(picture, size, "crop")
    return encode_picture(picture, target or media_type, quality)


def _smaller(size: Size, width: int | None, height: int | None) -> Size:
    factor = min(1.0, (width or size.width) / size.width, (height or size.height) / size.height)
    return Size(max(1, round(size.width * factor)), max(1, round(size.height * factor)))


class DerivedCache:
    """Keeps derived pictures within a budget of bytes; whoever asks for one that is being made waits for that one.

    At most *together* are made at once, since each takes a processor.
    """

    def __init__(self, limit: int, together: int = 2) -> None:
        self._kept: LRUCache[Key, Image] = LRUCache(maxsize=max(0, limit), getsizeof=_weight)
        self._making: dict[Key, asyncio.Task[Image]] = {}
        self._free = asyncio.Semaphore(together)

    async def get(self, key: str, etag: str, params: Hashable, make: Make) -> Image:
        """Give the picture made of *key* (whose bytes *etag* names) with *params*; *make* is awaited if there is none.

        A failure is told to all who wait and not kept. A waiter that leaves does not stop the others' work.
        """
        name = (key, etag, params)
        if (kept := self._kept.get(name)) is not None:
            return kept
        task = self._making.get(name)
        if task is None:
            task = self._making[name] = asyncio.create_task(self._make(name, make))
            task.add_done_callback(_heard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Stop what is being made and forget all."""
        tasks = list(self._making.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._kept.clear()

    def forget(self, key: str) -> None:
        """Drop all that was made of *key*."""
        for name in [name for name in self._kept if name[0] == key]:
            self._kept.pop(name, None)

    async def _make(self, name: Key, make: Make) -> Image:
        try:
            async with self._free:
                image = await make()
            if _weight(image) <= self._kept.maxsize:
                self._kept[name] = image
            return image
        finally:
            self._making.pop(name, None)


def _weight(image: Image) -> int:
    return len(image.data) + OVERHEAD


def _heard(task: asyncio.Task[Image]) -> None:
    if not task.cancelled():
        task.exception()  # All waiters may have left: then nobody else looks at it.
