"""Makes one storage of several: fast ones in front, the one that lasts behind."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cachetools import TTLCache

from gateway import PictureMeta, Storage, StorageError, StoredPicture, Words, hookimpl, is_alive, seal

log = logging.getLogger(__name__)
NOTE = "tiered"
JUST = 60.0
"""Seconds for which a picture that was deleted is carried to no tier: a slow reader may still have it in hand."""
AT_ONCE = 32
Tiers = list[tuple[str, Storage]]


@dataclass(slots=True)
class Carried:
    """Bytes that have just been carried to the front."""

    data: bytes = field(repr=False)
    path: Path | None = None

    async def read(self) -> bytes:
        return self.data

    async def stream(self, start: int, end: int) -> AsyncIterator[bytes]:
        yield self.data[start:end]


@dataclass
class Tiered:
    """The storages named by *tiers*, the fastest first; the last one has every picture and says when it expires.

    *write* ``all`` puts a new picture into all tiers at once, ``last`` only into the last. What is read from a slower
    tier is carried to the faster ones, which keep it for their own *ttl* at most. A faster tier that fails is passed
    over. Give the last tier to no second gateway that deletes: this one's faster tiers would not hear of it.
    """

    tiers: Words
    write: Literal["all", "last"] = "all"
    clock: Callable[[], float] = field(default=time.time, init=False, repr=False, compare=False)
    _fronts: Tiers = field(default_factory=list, init=False, repr=False, compare=False)
    _last: Storage = field(init=False, repr=False, compare=False)
    _gone: TTLCache[str, bool] = field(
        default_factory=lambda: TTLCache(10_000, JUST), init=False, repr=False, compare=False
    )
    _carrying: dict[str, asyncio.Task[bytes]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _owed: dict[str, set[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.tiers) < 2 or len(set(self.tiers)) < len(self.tiers):
            raise ValueError("tiers must name at least two different storages, the fastest first")

    def connect(self, components: Mapping[str, Storage]) -> None:
        """Find the storages by their names; called once all are made."""
        for name in self.tiers:
            if name not in components:
                others = sorted(other for other, each in components.items() if each is not self)
                raise ValueError(f"tiers: there is no storage {name!r}; known: {', '.join(others) or 'none'}")
            if hasattr(components[name], "tiers"):
                raise ValueError(f"tiers: {name!r} is made of tiers itself")
        *fronts, last = self.tiers
        self._fronts = [(name, components[name]) for name in fronts]
        self._last = components[last]
        self._owed = {name: set() for name in fronts}

    def health(self) -> dict[str, str]:
        """Say ``down`` if the last tier is, ``degraded`` if another one is passed over."""
        for name, tier in ((self.tiers[-1], self._last), *self._fronts):
            health = tier.health() if hasattr(tier, "health") else {}
            if health.get("status", "ok") != "ok":
                reason = f"tier {name}: {health.get('reason', health['status'])}"
                return {"status": "down" if tier is self._last else "degraded", "reason": reason}
        return {"status": "ok"}

    async def put(self, meta: PictureMeta, data: bytes) -> PictureMeta:
        """Keep the picture in the last tier, then in front of it; only the last one's failure is a failure."""
        meta = await self._last.put(await seal(meta, data), data)
        self._gone.pop(meta.key, None)
        if self.write == "all":
            await asyncio.gather(*(self._keep(name, tier, meta, data) for name, tier in self._fronts))
        else:
            # An older picture under this key must not hide the new one.
            await asyncio.gather(*(self._forget(name, tier, meta.key) for name, tier in self._fronts))
        return meta

    async def get(self, key: str) -> StoredPicture | None:
        """Ask the tiers in order; carry forward what only a slower one has."""
        missing: Tiers = []
        for name, tier in self._fronts:
            if key in self._owed[name]:
                continue
            try:
                found = await tier.get(key)
            except StorageError as error:
                log.warning("tier %s is passed over: %s", name, error.message)
                continue
            if found is not None:
                meta = _restored(found.meta)
                if is_alive(meta, self.clock()):
                    return await self._carried(replace(found, meta=meta), missing)
            missing.append((name, tier))
        found = await self._last.get(key)
        return await self._carried(found, missing) if found else None

    async def delete(self, key: str) -> bool:
        """Forget the picture in every tier; a tier that fails is told after all were asked, and asked again later."""
        # The last goes first: emptied before it, a front would be filled again by whoever reads meanwhile. Who has read
        # the last already carries nothing any more.
        self._gone[key] = True
        (last,) = await asyncio.gather(self._last.delete(key), return_exceptions=True)
        if task := self._carrying.get(key):
            await asyncio.wait([task])
        # Until a front has let go, it is not asked for the picture.
        for name, _ in self._fronts:
            self._owed[name].add(key)
        fronts = await asyncio.gather(
            *(self._rid(name, tier, key) for name, tier in self._fronts), return_exceptions=True
        )
        gone = [last, *fronts]
        for outcome in gone:
            if isinstance(outcome, BaseException):
                raise outcome
        return any(gone)

    async def list(self, owner: str | None = None) -> AsyncIterator[PictureMeta]:
        """Yield what the last tier has."""
        async for meta in self._last.list(owner):
            yield meta

    async def sweep(self) -> int:
        """Sweep all tiers; return what went from the last."""
        for name, tier in self._fronts:
            await self._pay(name, tier)
            try:
                await tier.sweep()
            except StorageError as error:
                log.warning("tier %s could not be swept: %s", name, error.message)
        return await self._last.sweep()

    async def _carried(self, found: StoredPicture, missing: Tiers) -> StoredPicture:
        """Carry a picture to the tiers that miss it; readers who ask meanwhile share the work."""
        key = found.meta.key
        if not missing or found.redirect or key in self._gone:
            return found
        task = self._carrying.get(key)
        if task is None:
            task = self._carrying[key] = asyncio.create_task(self._carry(found, missing))
            task.add_done_callback(lambda done: self._arrived(key, done))
        return StoredPicture(found.meta, Carried(await asyncio.shield(task)))

    async def _carry(self, found: StoredPicture, missing: Tiers) -> bytes:
        data = await found.body.read()
        await asyncio.gather(*(self._keep(name, tier, found.meta, data) for name, tier in missing))
        return data

    def _arrived(self, key: str, task: asyncio.Task[bytes]) -> None:
        self._carrying.pop(key, None)
        if not task.cancelled():
            task.exception()  # Whoever waited has it; nobody may be left to look.

    async def _keep(self, name: str, tier: Storage, meta: PictureMeta, data: bytes) -> None:
        ttl: float = getattr(tier, "ttl", 0) or math.inf
        until = min(self.clock() + ttl, math.inf if meta.expires is None else meta.expires)
        noted = replace(meta, expires=until, details={**meta.details, NOTE: {"expires": meta.expires}})
        try:
            await tier.put(noted, data)
            self._owed[name].discard(meta.key)
        except StorageError as error:
            log.warning("tier %s did not take a picture: %s", name, error.message)
            await self._forget(name, tier, meta.key)

    async def _forget(self, name: str, tier: Storage, key: str) -> None:
        try:
            await self._rid(name, tier, key)
        except StorageError as error:
            log.warning("tier %s could not forget a picture: %s", name, error.message)

    async def _pay(self, name: str, tier: Storage) -> None:
        """Try the deletions that a tier owes, some at a time, as long as any of them can be done."""
        owed = tuple(self._owed[name])
        for at in range(0, len(owed), AT_ONCE):
            part = owed[at : at + AT_ONCE]
            await asyncio.gather(*(self._forget(name, tier, key) for key in part))
            if self._owed[name].issuperset(part):
                return

    async def _rid(self, name: str, tier: Storage, key: str) -> bool:
        gone = await tier.delete(key)
        self._owed[name].discard(key)
        return gone


def _restored(meta: PictureMeta) -> PictureMeta:
    """Give the meta data as the last tier has them."""
    details: dict[str, Any] = dict(meta.details)
    note = details.pop(NOTE, None)
    return meta if note is None else replace(meta, expires=note["expires"], details=details)


@hookimpl
def provide_storages() -> Mapping[str, type[Storage]]:
    return {"tiered": Tiered}
