"""Keeps pictures in this process's memory for a while."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cachetools import FIFOCache

from gateway import (
    ByteSize,
    Duration,
    PictureMeta,
    PictureTooLargeError,
    Storage,
    StorageError,
    StoredPicture,
    hookimpl,
    is_key,
    seal,
    settle,
)

NEVER = float("inf")
BATCH = 500


@dataclass(slots=True)
class Held:
    """A picture's bytes, given out as they are."""

    data: bytes = field(repr=False)
    path: Path | None = None

    async def read(self) -> bytes:
        return self.data

    async def stream(self, start: int, end: int) -> AsyncIterator[bytes]:
        yield self.data[start:end]


@dataclass(slots=True)
class Entry:
    meta: PictureMeta
    body: Held
    until: float


@dataclass
class Memory:
    """Pictures in memory: *ttl* is how long, *limit* how many bytes in all; the oldest go first.

    Life is measured by a clock that nobody can set back or forward. Use it from the event loop's thread only.
    """

    ttl: Duration = 1800
    limit: ByteSize = 256 * 2**20
    clock: Callable[[], float] = field(default=time.time, init=False, repr=False, compare=False)
    timer: Callable[[], float] = field(default=time.monotonic, init=False, repr=False, compare=False)
    _entries: FIFOCache[str, Entry] = field(init=False, repr=False, compare=False)
    _ends: list[tuple[float, str]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.limit:
            raise ValueError("limit must not be 0: nothing would ever be kept")
        self._entries = FIFOCache(self.limit, getsizeof=lambda entry: len(entry.body.data))

    async def put(self, meta: PictureMeta, data: bytes) -> PictureMeta:
        """Keep the picture; the oldest make place for it."""
        if not is_key(meta.key):
            raise StorageError("this is not a picture key")
        if len(data) > self.limit:
            raise PictureTooLargeError(f"the picture has {len(data)} bytes, more than the {self.limit} of this storage")
        self._drop_expired()
        now = self.clock()
        meta = settle(meta, self.ttl, now)
        until = NEVER if meta.expires is None else self.timer() + meta.expires - now
        self._entries[meta.key] = Entry(meta, Held(data), until)
        heapq.heappush(self._ends, (until, meta.key))
        self._forget_stale_ends()
        return meta

    async def get(self, key: str) -> StoredPicture | None:
        entry = self._entries.get(key)
        if entry is None or self.timer() >= entry.until:
            return None
        if not entry.meta.sha256:
            # Here, since many pictures are never asked for, and the making of one should not wait for it.
            entry.meta = await seal(entry.meta, entry.body.data)
        return StoredPicture(entry.meta, entry.body)

    async def delete(self, key: str) -> bool:
        entry = self._entries.pop(key, None)
        return entry is not None and self.timer() < entry.until

    async def list(self, owner: str | None = None) -> AsyncIterator[PictureMeta]:
        """Yield the living, newest first."""
        now = self.timer()
        living = [entry.meta for entry in reversed(list(self._entries.values())) if now < entry.until]
        for meta in sorted(living, key=lambda meta: -meta.created):
            if owner in (None, meta.owner):
                yield meta

    async def sweep(self) -> int:
        """Free the bytes of what expired, a few at a time so that others get their turn."""
        dropped = 0
        while part := self._drop_expired(BATCH):
            dropped += part
            await asyncio.sleep(0)
        return dropped

    def _drop_expired(self, most: int = 10_000) -> int:
        now, dropped = self.timer(), 0
        while dropped < most and self._ends and self._ends[0][0] <= now:
            until, key = heapq.heappop(self._ends)
            entry = self._entries.get(key)
            if entry is not None and entry.until == until:
                del self._entries[key]
                dropped += 1
        return dropped

    def _forget_stale_ends(self) -> None:
        # Overwritten, deleted and displaced pictures leave their ends behind; they must not pile up.
        if len(self._ends) > 2 * len(self._entries) + 64:
            self._ends = [(entry.until, key) for key, entry in self._entries.items()]
            heapq.heapify(self._ends)


@hookimpl
def provide_storages() -> Mapping[str, type[Storage]]:
    return {"memory": Memory}
