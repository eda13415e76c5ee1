"""A picture's object, read in parts, so that a slow reader never holds a connection to the store; or proven first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from gateway.errors import StorageError
from gateway.object_store import ObjectStore
from gateway.pictures import seal
from gateway.values import Body, PictureMeta


@dataclass(slots=True)
class ObjectBody:
    """The bytes of the object *name*, of which *first* is the first part if that has been asked for already."""

    PART: ClassVar[int] = 2 * 2**20

    meta: PictureMeta
    _store: ObjectStore = field(repr=False)
    _name: str
    _tag: str | None
    _first: Any = field(repr=False)
    path: Path | None = None

    async def read(self) -> bytes:
        return b"".join([part async for part in self.stream(0, self.meta.length)])

    async def stream(self, start: int, end: int) -> AsyncIterator[bytes]:
        first, self._first = self._first, None
        if first is not None and start < min(self.PART, end):
            part = await self._store.bytes_of(first)
            yield part[start:end]
            start = max(start, min(self.PART, self.meta.length))
        while start < end:
            part = await self._store.part(self._name, start, min(end, start + self.PART), self._tag)
            yield part
            start += len(part)


@dataclass(slots=True)
class ProvenBody:
    """The bytes of *body*, read whole and given only if they are those of which *meta* has the SHA-256."""

    meta: PictureMeta
    _body: Body = field(repr=False)
    path: Path | None = None

    async def read(self) -> bytes:
        data = await self._body.read()
        found = await seal(replace(self.meta, sha256=""), data)
        if found.sha256 != self.meta.sha256:
            raise StorageError(f"picture {self.meta.key} is not the one that was stored: its SHA-256 differs")
        return data

    async def stream(self, start: int, end: int) -> AsyncIterator[bytes]:
        yield (await self.read())[start:end]
