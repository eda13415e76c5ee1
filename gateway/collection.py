"""Care of the stored pictures: lists over several storages, deletes everywhere, moves from one to another."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from gateway.contracts import Storage
from gateway.errors import NotFoundError, StorageError
from gateway.storage_calls import delete, get, put
from gateway.values import PictureMeta, StoredPicture


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of one picture: ``moved``, ``gone`` meanwhile, or ``failed`` and why."""

    key: str
    outcome: Literal["moved", "gone", "failed"]
    reason: str = ""


def outer(storages: Mapping[str, Storage]) -> list[Storage]:
    """Give the storages to ask for a picture: those made of tiers, then those that are no tier."""
    tiered = [storage for storage in storages.values() if hasattr(storage, "tiers")]
    inner = {name for storage in tiered for name in getattr(storage, "tiers", ())}
    return tiered + [each for name, each in storages.items() if name not in inner and not hasattr(each, "tiers")]


async def find_picture(storages: Iterable[Storage], key: str) -> StoredPicture | None:
    """Ask the storages in order; one that is down matters only if no other has the picture."""
    trouble: StorageError | None = None
    for storage in storages:
        try:
            if found := await get(storage, key):
                return found
        except StorageError as error:
            trouble = trouble or error
    if trouble:
        raise trouble
    return None


async def all_pictures(storages: Mapping[str, Storage], owner: str | None) -> AsyncIterator[PictureMeta]:
    """Yield the pictures of all storages, newest first, each once, whichever storages have it."""
    lists = [storage.list(owner) for storage in _unique([*outer(storages), *storages.values()])]
    heads = [await anext(each, None) for each in lists]
    seen: set[str] = set()
    while any(heads):
        # Of equals the first wins: a storage of tiers knows better when a picture expires than one tier does.
        place = max((at for at, head in enumerate(heads) if head), key=lambda at: (_created(heads[at]), -at))
        head, heads[place] = heads[place], await anext(lists[place], None)
        if head and head.key not in seen:
            seen.add(head.key)
            yield head


async def delete_everywhere(storages: Iterable[Storage], key: str) -> bool:
    """Delete a picture from every storage; a storage that fails is told after all were asked."""
    gone = await asyncio.gather(*(delete(storage, key) for storage in storages), return_exceptions=True)
    for outcome in gone:
        if isinstance(outcome, BaseException):
            raise outcome
    return any(gone)


async def move(source: Storage, target: Storage) -> AsyncIterator[Moved]:
    """Move all pictures with key and expiry; each leaves *source* only when it was read back from *target* unharmed.

    Broken off and begun anew it goes on where it was.
    """
    keys = [meta.key async for meta in source.list()]
    for key in keys:
        try:
            yield await _move_one(source, target, key)
        except NotFoundError:
            yield Moved(key, "gone")
        except StorageError as error:
            yield Moved(key, "failed", error.message)


async def _move_one(source: Storage, target: Storage, key: str) -> Moved:
    found = await get(source, key)
    if found is None:
        return Moved(key, "gone")
    data = await found.body.read()
    if hashlib.sha256(data).hexdigest() != found.meta.sha256:
        return Moved(key, "failed", "it is damaged where it lies; left there")
    ends = math.inf if found.meta.expires is None else found.meta.expires
    if not await _holds(target, found.meta):
        await put(target, replace(found.meta, expires=ends), data)
        if not await _holds(target, found.meta):
            return Moved(key, "failed", "it did not come back unharmed; left where it was")
    await delete(source, key)
    if not await _holds(target, found.meta):
        # One is a tier of the other, or both names mean one place.
        await put(target, replace(found.meta, expires=ends), data)
        return Moved(key, "failed", "the two storages keep their pictures in one place; it was put back")
    return Moved(key, "moved")


async def _holds(storage: Storage, meta: PictureMeta) -> bool:
    found = await get(storage, meta.key)
    return found is not None and hashlib.sha256(await found.body.read()).hexdigest() == meta.sha256


def _unique(storages: Iterable[Storage]) -> list[Storage]:
    unique: list[Storage] = []
    for storage in storages:
        if not any(storage is each for each in unique):
            unique.append(storage)
    return unique


def _created(meta: PictureMeta | None) -> float:
    return meta.created if meta else -math.inf
