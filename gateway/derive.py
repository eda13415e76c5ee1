"""Makes smaller or converted copies of stored pictures, and keeps them for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from math import inf

from cachetools import TLRUCache

from gateway.errors import UnavailableError
from gateway.fairness import count
from gateway.imaging import inspect
from gateway.retouch import bring_to, encode_picture, media_type_of, open_picture
from gateway.values import Image, Size

Key = tuple[str, str, Hashable]
Make = Callable[[], Awaitable[Image]]
OVERHEAD = 512
MOST = 64
"""Copies that somebody waits for at once, at most."""


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


@dataclass(frozen=True, slots=True)
class Kept:
    """A derived picture, and when the one that it was made of expires."""

    image: Image
    until: float


class DerivedCache:
    """Keeps derived pictures within a budget of bytes; whoever asks for one that is being made waits for that one.

    At most *together* are made at once, since each takes a processor. None outlives the picture it was made of.
    """

    def __init__(self, limit: int, together: int = 2, clock: Callable[[], float] = time.time) -> None:
        self._kept: TLRUCache[Key, Kept] = TLRUCache(max(0, limit), lambda key, kept, now: kept.until, clock, _weight)
        self._making: dict[Key, asyncio.Task[Image]] = {}
        self._waiting: dict[Key, int] = {}
        self._free = asyncio.Semaphore(together)

    async def get(self, key: str, etag: str, params: Hashable, make: Make, expires: float | None = None) -> Image:
        """Give the picture made of *key* (whose bytes *etag* names) with *params*; *make* is awaited if there is none.

        *expires* (epoch seconds) is when the picture itself does. A failure is told to all who wait and not kept. A
        waiter that leaves does not stop the others' work; what nobody waits for any more is not begun. Raise
        `UnavailableError` while too many wait.
        """
        name = (key, etag, params)
        if (kept := self._kept.get(name)) is not None:
            return kept.image
        task = self._making.get(name)
        if task is None:
            if len(self._waiting) >= MOST:
                raise UnavailableError("too many copies of pictures are being made; try again later", retry_after=5)
            task = self._making[name] = asyncio.create_task(self._make(name, make, inf if expires is None else expires))
            task.add_done_callback(_heard)
        count(self._waiting, name, 1)
        try:
            return await asyncio.shield(task)
        finally:
            count(self._waiting, name, -1)

    async def close(self) -> None:
        """Stop what is being made and forget all."""
        tasks = list(self._making.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._kept.clear()

    def sweep(self) -> None:
        """Drop what was made of pictures that have expired."""
        self._kept.expire()

    def forget(self, key: str) -> None:
        """Drop all that was made of *key*."""
        for name in [name for name in self._kept if name[0] == key]:
            self._kept.pop(name, None)

    async def _make(self, name: Key, make: Make, until: float) -> Image:
        try:
            async with self._free:
                if name not in self._waiting:
                    # Who asks for copies needs no key: what nobody waits for any more must not hold up the others.
                    raise asyncio.CancelledError
                image = await make()
            kept = Kept(image, until)
            if _weight(kept) <= self._kept.maxsize:
                self._kept[name] = kept
            return image
        finally:
            self._making.pop(name, None)


def _weight(kept: Kept) -> int:
    return len(kept.image.data) + OVERHEAD


def _heard(task: asyncio.Task[Image]) -> None:
    if not task.cancelled():
        task.exception()  # All waiters may have left: then nobody else looks at it.
