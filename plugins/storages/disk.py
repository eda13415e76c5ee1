"""Keeps pictures in a directory, whole or not at all, whatever happens to the machine."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from gateway import (
    ByteSize,
    DamagedError,
    Duration,
    Entry,
    FoundPicture,
    PictureEntries,
    PictureFiles,
    PictureMeta,
    PictureSweep,
    PictureTooLargeError,
    Storage,
    StorageDownError,
    StorageError,
    StorageFullError,
    StoredPicture,
    Troubles,
    hookimpl,
    is_alive,
    is_key,
    seal,
    settle,
    translated,
)

log = logging.getLogger(__name__)
T = TypeVar("T")
THREADS = 8
CHUNK = 256 * 2**10
FOLDERS = 64
"""Folders of which a thread lists at once; then others get their turn."""
START = 10.0
"""Seconds for which a start waits for the first sweep."""


@dataclass(slots=True)
class FileBody:
    """A picture's file; *path* holds exactly its bytes."""

    path: Path | None
    _found: FoundPicture = field(repr=False)
    _disk: Disk = field(repr=False)

    async def read(self) -> bytes:
        """Read and verify the whole."""
        return await self._disk.read_whole(self._found)

    async def stream(self, start: int, end: int) -> AsyncIterator[bytes]:
        while start < end:
            part = await self._disk.run(self._disk.files.read, self._found, start, min(end, start + CHUNK))
            yield part
            start += len(part)


@dataclass
class Disk:
    """Pictures under *root*; *ttl* 0 keeps them for ever. *limit* bounds the bytes of all of them; 0 is no bound.

    A full *limit* refuses new pictures: what was acknowledged is never dropped before its time. *verify* reads and
    checks every picture before it is served, which costs time; without it only its length is compared.
    """

    root: Path
    ttl: Duration = 0
    limit: ByteSize = 0
    verify: bool = False
    clock: Callable[[], float] = field(default=time.time, init=False, repr=False, compare=False)
    files: PictureFiles = field(init=False, repr=False, compare=False)
    _pool: ThreadPoolExecutor | None = field(default=None, init=False, repr=False, compare=False)
    _entries: PictureEntries = field(init=False, repr=False, compare=False)
    _sweep: PictureSweep = field(init=False, repr=False, compare=False)
    _used: int = field(default=0, init=False, repr=False, compare=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False, compare=False)
    _reserved: int = field(default=0, init=False, repr=False, compare=False)
    _ended: int = field(default=0, init=False, repr=False, compare=False)
    _troubles: Troubles = field(default_factory=Troubles, init=False, repr=False, compare=False)
    _counted: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not str(self.root).strip() or "\0" in str(self.root):
            raise ValueError("root must name a directory")
        self.files = PictureFiles(Path(self.root).absolute())
        self._entries, self._sweep = PictureEntries(self.files), PictureSweep(self.files)

    async def __aenter__(self) -> Self:
        # Own threads: a slow disk must not starve name resolution, which uses the default ones.
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="disk")
        await self.run(self.files.open)
        try:
            async with asyncio.timeout(START):
                await self.sweep()
        except TimeoutError:
            log.info("picture directory %s: there is much in it, and the first sweep goes on later", self.root)
        except StorageError as error:
            log.error("picture directory %s: the first sweep failed: %s", self.root, error.message)
        return self

    async def __aexit__(self, *reason: object) -> None:
        if self._pool:
            self._pool.shutdown(wait=False)
            self._pool = None

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Do *work* in an own thread; trouble with the disk becomes a `StorageError` kind."""
        if self._pool is None:
            raise StorageDownError("the picture storage on disk is not open")
        loop = asyncio.get_running_loop()
        with self._troubles.noted(work == self.files.write), translated(self.root):
            return await loop.run_in_executor(self._pool, work, *arguments)

    def health(self) -> dict[str, str]:
        """Say what the last write met, or else the last other work."""
        return self._troubles.health()

    async def put(self, meta: PictureMeta, data: bytes) -> PictureMeta:
        """Keep the picture; when this returns it survives a power cut."""
        if not is_key(meta.key):
            raise StorageError("this is not a picture key")
        if self.limit and len(data) > self.limit:
            raise PictureTooLargeError(f"the picture has {len(data)} bytes, more than the {self.limit} of this storage")
        meta = settle(await seal(meta, data), self.ttl, self.clock())
        await self._reserve(len(data))
        try:
            freed = await self.run(self.files.write, meta, data)
        except StorageError:
            self._used -= len(data)
            raise
        finally:
            self._ended += len(data)
        self._used -= freed
        return meta

    async def _reserve(self, length: int) -> None:
        """Count what is about to be written, one after the other: a sweep may have to make room first."""
        async with self._turn:
            if self.limit and (not self._counted or self._used + length > self.limit):
                await self.sweep()
                if self._used + length > self.limit:
                    raise self._full()
            self._used += length
            self._reserved += length

    def _full(self) -> StorageFullError:
        log.warning("picture directory %s: its limit of %d bytes is reached", self.root, self.limit)
        error = StorageFullError(f"the picture storage is full: it may hold {self.limit} bytes")
        self._troubles.met(error, writing=True)
        return error

    async def get(self, key: str) -> StoredPicture | None:
        """Find a picture; a damaged one is set aside and raises StorageError."""
        if not is_key(key):
            return None
        try:
            found = await self.run(self.files.find, key)
        except DamagedError as error:
            raise await self._set_aside(key, error) from error
        if found is None or not is_alive(found.meta, self.clock()):
            return None
        if self.verify:
            await self.read_whole(found)
        return StoredPicture(found.meta, FileBody(found.path, found, self))

    async def read_whole(self, found: FoundPicture) -> bytes:
        """Read and verify a picture; a damaged one is set aside and raises StorageError."""
        try:
            return await self.run(self.files.read_verified, found)
        except DamagedError as error:
            raise await self._set_aside(found.meta.key, error) from error

    async def _set_aside(self, key: str, error: DamagedError) -> StorageError:
        log.error("%s; it is set aside", error)
        await self.run(self.files.set_aside, key)
        return StorageError(f"{error}; it was set aside")

    async def delete(self, key: str) -> bool:
        if not is_key(key):
            return False
        gone = await self.run(self.files.remove, key)
        self._used = max(0, self._used - (gone.length if gone else 0))
        return gone is not None and is_alive(gone, self.clock())

    async def list(self, owner: str | None = None) -> AsyncIterator[PictureMeta]:
        """Yield the living, newest first. Of those that nobody looks at only a few facts are read, and kept."""
        now, entries = self.clock(), list[Entry]()
        folders = await self.run(self.files.folders)
        for at in range(0, len(folders), FOLDERS):
            part = await self.run(self._entries.of, folders[at : at + FOLDERS])
            entries += [entry for entry in part if now < entry.expires and owner in (None, entry.owner)]
        for entry in await self.run(partial(sorted, entries, reverse=True)):
            meta = await self.run(self.files.meta, entry.key)
            if meta and is_alive(meta, now) and owner in (None, meta.owner):
                yield meta

    async def sweep(self) -> int:
        """Remove what expired and what a crash left behind, folder by folder."""
        removed, used, now = 0, 0, self.clock()
        ended = self._ended
        for folder in await self.run(self.files.folders):
            gone, kept = await self.run(self._sweep.sweep, folder, now)
            removed, used = removed + gone, used + kept
        # What is written meanwhile may have been seen or not: it counts, until the next sweep perhaps twice.
        self._used, self._counted = used + self._reserved - ended, True
        return removed


@hookimpl
def provide_storages() -> Mapping[str, type[Storage]]:
    return {"disk": Disk}
