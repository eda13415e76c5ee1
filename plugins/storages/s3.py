"""Keeps pictures in an object store: S3 and whatever speaks like it, Google Cloud Storage, Azure Blob Storage."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from gateway import (
    Duration,
    Keys,
    Moment,
    ObjectBody,
    ObjectSignatures,
    ObjectStore,
    PictureMeta,
    ProvenBody,
    Secret,
    Storage,
    StorageError,
    StoredPicture,
    Url,
    hookimpl,
    is_alive,
    is_key,
    is_public,
    is_whole,
    pack_meta,
    pack_small,
    public_part,
    seal,
    settle,
    unpack_meta,
    unpack_small,
)

log = logging.getLogger(__name__)
Names = list[str]
SCHEMES = ("s3://", "s3a://", "gs://", "az://", "azure://", "abfs://", "abfss://")
META = "gatewaymeta"
JSON = {"Content-Type": "application/json"}
META_LIMIT = 1500  # all meta data of an S3 object together may have 2 KB
LATEST = 10**13
READ_AT_ONCE = 16
ORPHAN_AGE = 3600
TRIES = 4
FIRST_WAIT, LONGEST_WAIT = (0.1, 0.3), {"max_backoff": timedelta(seconds=2)}
SWEEP_AT_LEAST, SWEEP_AT_MOST = 3600, 60


@dataclass
class S3:
    """Pictures in *bucket* (or *url*: ``s3://``, ``gs://`` or ``az://`` with a prefix); *ttl* 0 keeps them for ever.

    The gateway itself ends a picture's life, since buckets count in days. *serve* ``redirect`` sends readers to a
    presigned URL that lives *link* seconds; ``through`` lets no reader see the store. Each call may take *timeout* with
    its retries, *at_once* of them run together. *extra* are further settings by the names obstore has for them.
    *required* refuses to start while the store is down. Beside each picture lies a small object under ``index/``.

    A reader by a presigned URL sees all that the picture's own object bears. So with ``redirect`` owner, prompt and
    receipt lie in one more object, under ``about/``; pictures that were stored without it are served through.

    Where others can write into the bucket, *signing_keys* (the first signs, all verify) let nothing be given that this
    gateway has not written there, byte for byte; each picture is then read whole before any of it leaves. What was
    stored before is given only if the store says that it was last written before *signed_since*, a date or a time.
    """

    bucket: str = ""
    url: str = ""
    endpoint: Url | None = None
    region: str = "us-east-1"
    access_key: Secret | None = None
    secret_key: Secret | None = None
    prefix: str = ""
    ttl: Duration = 0
    serve: Literal["through", "redirect"] = "through"
    link: Duration = 300
    timeout: Duration = 10
    connect_timeout: Duration = 2
    at_once: Annotated[int, Field(ge=1)] = 64
    required: bool = False
    signing_keys: Keys = ()
    signed_since: Moment | None = None
    extra: Mapping[str, Secret] = field(default_factory=dict)
    clock: Callable[[], float] = field(default=time.time, init=False, repr=False, compare=False)
    _store: ObjectStore = field(init=False, repr=False, compare=False)
    _signatures: ObjectSignatures = field(init=False, repr=False, compare=False)
    _due: float = field(default=0, init=False, repr=False, compare=False)
    _swept: float = field(default=-ORPHAN_AGE, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if bool(self.bucket) == bool(self.url):
            raise ValueError("name either a bucket or a url, such as s3://bucket/prefix")
        if self.url and not self.url.startswith(SCHEMES):
            raise ValueError(f"url must begin with one of {', '.join(SCHEMES)}")
        if "@" in (self.endpoint or ""):
            raise ValueError("endpoint must bear no user and password; use access_key and secret_key")
        if bool(self.access_key) != bool(self.secret_key):
            raise ValueError("access_key and secret_key go together")
        if self.signing_keys and self.serve == "redirect":
            raise ValueError("signing_keys need serve: through, since a store checks nothing for whoever is sent to it")
        self._signatures = ObjectSignatures(self.signing_keys, self.signed_since)
        self.prefix = f"{self.prefix.strip('/')}/" if self.prefix.strip("/") else ""
        name = f"{self.bucket or self.url} ({self.endpoint or 'default'})"
        self._store = ObjectStore(self.url or f"s3://{self.bucket}", self._settings(), self.at_once, self.timeout, name)

    def _settings(self) -> dict[str, Any]:
        known: dict[str, Any] = {
            "client_options": {
                "timeout": timedelta(seconds=self.timeout),
                "connect_timeout": timedelta(seconds=self.connect_timeout),
                "allow_http": bool(self.endpoint and self.endpoint.startswith("http://")),
            },
            "retry_config": {
                "max_retries": TRIES - 1,
                # No try begins so late that only the deadline could end it: then its reason would not be told.
                "retry_timeout": timedelta(seconds=self.timeout / 2),
                # Later waits are drawn by chance; the first is the same for all calls, but not for all gateways.
                "backoff": {"init_backoff": timedelta(seconds=random.uniform(*FIRST_WAIT)), "base": 3} | LONGEST_WAIT,
            },
        }
        if self.bucket or self.url.startswith("s3"):
            known["region"] = self.region
            if self.endpoint:
                known["endpoint"] = self.endpoint
        if self.access_key and self.secret_key:
            known |= {"access_key_id": str(self.access_key), "secret_access_key": str(self.secret_key)}
        return known | {name: str(value) for name, value in self.extra.items()}

    async def __aenter__(self) -> Self:
        # The client is made here and not earlier: its threads do not survive a fork.
        self._store.open()
        try:
            await self._store.check(self.prefix)
        except StorageError:
            if self.required:
                raise
        return self

    async def __aexit__(self, *reason: object) -> None:
        self._store.close()

    def health(self) -> dict[str, str]:
        """Say what the last call met."""
        trouble = self._store.trouble.words
        return {"status": "down", "reason": trouble} if trouble else {"status": "ok"}

    async def put(self, meta: PictureMeta, data: bytes) -> PictureMeta:
        """Keep the picture, its place in the index first: so whatever was acknowledged is found and swept."""
        if not is_key(meta.key):
            raise StorageError("this is not a picture key")
        meta = settle(await seal(meta, data), self.ttl, self.clock())
        name, packed = self.prefix + meta.key, pack_meta(meta)
        attributes = self._attributes(meta, name)
        beside = self._beside(meta, apart=self.serve == "redirect")
        for each in beside:
            await self._store.put(each, packed, JSON | self._signature(each, packed))
        if not await self._store.put(name, data, attributes, only_new=True):
            await self._replace(meta, name, data, attributes, beside)
        self._due = min(self._due, meta.expires or self._due)
        return meta

    async def _replace(
        self, meta: PictureMeta, name: str, data: bytes, attributes: dict[str, str], beside: Names
    ) -> None:
        old = await self._store.head(name)
        before = self._meta_of(name, old) if old else None
        if old and (before is None or before.key != meta.key):
            await self._store.delete(beside)
            raise StorageError("something that is not a picture of this gateway lies at this key in the object store")
        stale = await self._lying_beside(before) if before else []
        await self._store.put(name, data, attributes)
        await self._store.delete([each for each in stale if each not in beside])

    async def get(self, key: str) -> StoredPicture | None:
        """Find a picture; what others put into the bucket is not found."""
        if not is_key(key):
            return None
        name = self.prefix + key
        redirect = self.serve == "redirect"
        found = await (self._store.head(name) if redirect else self._store.get(name, 0, ObjectBody.PART))
        meta = self._meta_of(name, found) if found else None
        if found is None or meta is None or meta.key != key or not is_alive(meta, self.clock()):
            return None
        if found.meta["size"] != meta.length:
            raise StorageError(f"picture {key} is damaged in the object store: its length differs")
        link = await self._link(meta, name) if redirect and is_public(meta) else None
        meta = await self._completed(meta)
        body = ObjectBody(meta, self._store, name, found.meta["e_tag"], None if redirect else found)
        return StoredPicture(meta, ProvenBody(meta, body) if self.signing_keys else body, link)

    async def _link(self, meta: PictureMeta, name: str) -> str:
        remaining = self.link if meta.expires is None else meta.expires - self.clock()
        return await self._store.sign(name, max(1, min(self.link, remaining)))

    async def delete(self, key: str) -> bool:
        if not is_key(key):
            return False
        found = await self._store.head(self.prefix + key)
        meta = self._meta_of(self.prefix + key, found) if found else None
        if meta is None or meta.key != key:
            return False
        beside = await self._lying_beside(meta)
        await self._store.delete([self.prefix + key])
        await self._store.delete(beside)
        return is_alive(meta, self.clock())

    async def list(self, owner: str | None = None) -> AsyncIterator[PictureMeta]:
        """Yield the living, newest first."""
        now = self.clock()
        folder = self.prefix + "index/" + (f"{_owner_name(owner)}/" if owner is not None else "")
        names = sorted([name async for name, _ in self._store.list(folder)], key=lambda name: name.rsplit("/", 1)[-1])
        living = [name for name in _last_of_each(names).values() if now < _ends(name)]
        for at in range(0, len(living), READ_AT_ONCE):
            for meta in await asyncio.gather(*map(self._described, living[at : at + READ_AT_ONCE])):
                if meta and is_alive(meta, now) and owner in (None, meta.owner):
                    yield meta

    async def sweep(self) -> int:
        """Remove what expired, and what lies beside no picture for more than an hour, since that one never came.

        Looks at most once a minute and only when something is due, since each look lists the bucket.
        """
        now = self.clock()
        if self._store.trouble.words:
            await self._store.check(self.prefix)  # so that health hears of a recovery although nobody calls
        if now < max(self._due, self._swept + SWEEP_AT_MOST):
            return 0
        self._swept, self._due = now, now + SWEEP_AT_LEAST
        try:
            return await self._sweep(now)
        except BaseException:
            self._due = 0  # what was not looked at is looked at in the next minute
            raise

    async def _sweep(self, now: float) -> int:
        lives = {name.rsplit("/", 1)[-1]: 0.0 async for name, _ in self._store.list(self.prefix, deep=False)}
        ended, orphans, about = [], [], defaultdict[str, Names](list)
        async for name, modified in self._store.list(self.prefix + "about/"):
            key = name.rsplit("/", 1)[-1].partition(".")[0]
            about[key].append(name)
            if key not in lives and now - modified > ORPHAN_AGE:
                orphans.append(name)
        async for name, modified in self._store.list(self.prefix + "index/"):
            ends, key = _ends(name), _key(name)
            if key in lives:
                lives[key] = max(lives[key], ends)
            if ends <= now:
                ended.append(name)
            elif key not in lives and now - modified > ORPHAN_AGE:
                orphans.append(name)
            else:
                self._due = min(self._due, ends)
        for name in ended:
            # A try to store it that failed has left an entry that ends before the picture does.
            if lives.get(_key(name), 0.0) <= now:
                await self._store.delete([self.prefix + _key(name), *about[_key(name)]])
            await self._store.delete([name])
        await self._store.delete(orphans)
        return len(ended) + len(orphans)

    async def _completed(self, meta: PictureMeta) -> PictureMeta:
        """Add to what a picture's own object tells what lies beside it."""
        if is_whole(meta):
            return meta
        found = await self._described(self._about(meta) if is_public(meta) else self._index_of(meta))
        if found is None:
            log.warning("object store: what is known of picture %s is not there", meta.key)
            return meta
        return replace(meta, owner=found.owner, model=found.model, details=found.details)

    async def _described(self, name: str) -> PictureMeta | None:
        found = await self._store.get(name)
        if found is None:
            return None
        packed = await self._store.bytes_of(found)
        if not self._is_ours(name, packed, found):
            return None
        try:
            return unpack_meta(packed)
        except ValueError:
            log.warning("object store: %s is not an index entry", name)
            return None

    async def _lying_beside(self, meta: PictureMeta) -> Names:
        """Name what lies beside a picture of which its own object tells *meta*."""
        apart = is_public(meta)
        return self._beside(await self._completed(meta) if apart else meta, apart)

    def _beside(self, meta: PictureMeta, apart: bool) -> Names:
        return [self._index_of(meta), self._about(meta)] if apart else [self._index_of(meta)]

    def _about(self, meta: PictureMeta) -> str:
        # Named by the bytes as well: a picture that replaces another never takes from it what is known of it.
        return f"{self.prefix}about/{meta.key}.{meta.sha256[:16]}"

    def _meta_of(self, name: str, found: Any) -> PictureMeta | None:
        text = found.attributes.get(META, "")
        if not self._is_ours(name, text.encode(), found):
            return None
        try:
            return unpack_small(text)
        except ValueError:
            return None

    def _is_ours(self, name: str, content: bytes, found: Any) -> bool:
        place = name.removeprefix(self.prefix)
        ours = self._signatures.is_signed(place, content, found.attributes, found.meta["last_modified"])
        if not ours:
            log.warning("object store: %s bears no good signature of this gateway and is not given", name)
        return ours

    def _signature(self, name: str, content: bytes) -> dict[str, str]:
        return self._signatures.attributes(name.removeprefix(self.prefix), content)

    def _attributes(self, meta: PictureMeta, name: str) -> dict[str, str]:
        extension = meta.media_type.rpartition("/")[2].replace("jpeg", "jpg")
        text = pack_small(public_part(meta) if self.serve == "redirect" else meta, META_LIMIT)
        return {
            "Content-Type": meta.media_type,
            "Content-Disposition": f'inline; filename="{meta.key}.{extension}"',
            "Cache-Control": f"public, max-age={int(min(self.link, self.ttl or self.link))}",
            META: text,
        } | self._signature(name, text.encode())

    def _index_of(self, meta: PictureMeta) -> str:
        # Newest first is the order in which stores list names, so the time counts backwards.
        ends = "never" if meta.expires is None else f"{int(meta.expires * 1000)}"
        return (
            f"{self.prefix}index/{_owner_name(meta.owner)}/{LATEST - int(meta.created * 1000):013d}_{ends}_{meta.key}"
        )


def _owner_name(owner: str) -> str:
    return hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def _last_of_each(names: Iterable[str]) -> dict[str, str]:
    """Give of each picture the entry that ends last."""
    last: dict[str, str] = {}
    for name in names:
        known = last.setdefault(_key(name), name)
        if _ends(known) < _ends(name):
            last[_key(name)] = name
    return last


def _ends(index: str) -> float:
    ends = index.rsplit("/", 1)[-1].split("_", 2)[1:2]
    return int(ends[0]) / 1000 if ends and ends[0].isdigit() else math.inf


def _key(index: str) -> str:
    return index.rsplit("/", 1)[-1].split("_", 2)[-1]


@hookimpl
def provide_storages() -> Mapping[str, type[Storage]]:
    return {"s3": S3}
