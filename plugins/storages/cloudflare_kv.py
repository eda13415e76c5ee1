"""Keeps pictures in Cloudflare Workers KV, by its REST API."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import quote, urlencode

import orjson
from pydantic import Field

from gateway import (
    AllowanceError,
    Answer,
    BadKeyError,
    Duration,
    FormField,
    GatewayError,
    Http,
    Keys,
    NotFoundError,
    Outgoing,
    PictureMeta,
    PictureTooLargeError,
    Storage,
    StorageDownError,
    StorageError,
    StorageFullError,
    StoredPicture,
    Troubles,
    Upstream,
    Url,
    classify,
    error_code,
    hookimpl,
    is_alive,
    is_key,
    is_whole,
    pack_meta,
    pack_small,
    seal,
    settle,
    unpack_meta,
    unpack_small,
)

log = logging.getLogger(__name__)
VALUE_LIMIT = 25 * 2**20
META_LIMIT = 1000  # of the 1024 bytes that KV has for metadata
SHORTEST = 60
PAGE = 1000
DAY_IS_OVER = "10048"


@dataclass(slots=True)
class ValueBody:
    """A picture's bytes in KV, read when asked for; KV gives no parts."""

    meta: PictureMeta
    _storage: CloudflareKV = field(repr=False)
    path: Path | None = None

    async def read(self) -> bytes:
        data = await self._storage.value(self.meta.key)
        if data is None:
            raise NotFoundError("this picture has just gone")
        if len(data) != self.meta.length:
            raise StorageError(f"picture {self.meta.key} is damaged in Cloudflare KV: its length differs")
        return data

    async def stream(self, start: int, end: int) -> AsyncIterator[bytes]:
        data = await self.read()
        yield data if (start, end) == (0, len(data)) else data[start:end]


@dataclass
class CloudflareKV:
    """Pictures in the KV namespace *namespace_id*, each at most 25 MiB; *ttl* is 0 (for ever) or at least 60 seconds.

    KV is slow to agree with itself: a picture may be missing elsewhere for a minute, so nothing is looked up before it
    is written. It forgets what expired by itself.
    """

    account_id: Annotated[str, Field(min_length=1)]
    namespace_id: Annotated[str, Field(min_length=1)]
    keys: Keys
    ttl: Duration = 1800
    prefix: Annotated[str, Field(max_length=256)] = ""
    base_url: Url = "https://api.cloudflare.com/client/v4"
    http: Http = field(default_factory=lambda: Http(connect=5, first_byte=15, total=60, limit=VALUE_LIMIT + 2**20))
    clock: Callable[[], float] = field(default=time.time, init=False, repr=False, compare=False)
    _upstream: Upstream = field(init=False, repr=False, compare=False)
    _troubles: Troubles = field(default_factory=Troubles, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if 0 < self.ttl < SHORTEST:
            raise ValueError(f"ttl must be 0 or at least {SHORTEST} seconds: Cloudflare KV takes nothing shorter")
        if not self.keys:
            raise ValueError("keys must hold at least one API token")
        self._upstream = Upstream(self.http, self.keys, classify=_judge)

    async def __aenter__(self) -> Self:
        await self._upstream.open()
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self._upstream.close()

    def health(self) -> dict[str, str]:
        """Say what the last write met, or else the last other call."""
        return self._troubles.health()

    async def put(self, meta: PictureMeta, data: bytes) -> PictureMeta:
        """Keep the picture; details that KV's metadata cannot hold become a value of their own, written first."""
        if not is_key(meta.key):
            raise StorageError("this is not a picture key")
        if len(data) > VALUE_LIMIT:
            raise PictureTooLargeError(f"the picture has {len(data)} bytes; Cloudflare KV takes at most {VALUE_LIMIT}")
        now = self.clock()
        meta = settle(await seal(meta, data), self.ttl, now)
        small = pack_small(meta, META_LIMIT)
        if not is_whole(unpack_small(small)):
            await self._write(f"{meta.key}.details", pack_meta(meta), {}, meta, now)
        await self._write(meta.key, data, {"meta": small}, meta, now)
        return meta

    async def _write(self, name: str, value: bytes, metadata: dict[str, str], meta: PictureMeta, now: float) -> None:
        life = None if meta.expires is None else max(SHORTEST, math.ceil(meta.expires - now))
        query = "" if life is None else f"?{urlencode({'expiration_ttl': life})}"
        form = (
            FormField("value", value, "value", "application/octet-stream"),
            FormField("metadata", orjson.dumps(metadata)),
        )
        with self._troubles.noted(writing=True):
            answer = await self._tried(Outgoing("PUT", self._url("values", name) + query, form=form))
            if answer.status == 404:
                raise StorageDownError("Cloudflare KV knows no such account or namespace")

    async def get(self, key: str) -> StoredPicture | None:
        meta = await self._meta(key) if is_key(key) else None
        if meta is None or not is_alive(meta, self.clock()):
            return None
        return StoredPicture(await self._described(meta), ValueBody(meta, self))

    async def value(self, key: str) -> bytes | None:
        """Read the bytes under a key; None if there are none."""
        answer = await self._send(Outgoing("GET", self._url("values", key)))
        return None if answer.status == 404 else answer.body

    async def delete(self, key: str) -> bool:
        meta = await self._meta(key) if is_key(key) else None
        if meta is None:
            return False
        await self._send(Outgoing("DELETE", self._url("values", key)))
        if not is_whole(meta):
            await self._send(Outgoing("DELETE", self._url("values", f"{key}.details")))
        return is_alive(meta, self.clock())

    async def list(self, owner: str | None = None) -> AsyncIterator[PictureMeta]:
        """Yield the living, newest first."""
        now, metas, cursor = self.clock(), [], ""
        while True:
            query = urlencode({"prefix": self.prefix, "limit": PAGE, **({"cursor": cursor} if cursor else {})})
            page = _fields(await self._send(Outgoing("GET", f"{self._namespace()}/keys?{query}")))
            metas += [meta for entry in page.get("result") or () if (meta := _read(entry.get("metadata")))]
            cursor = str((page.get("result_info") or {}).get("cursor") or "")
            if not cursor:
                break
        for meta in sorted(metas, key=lambda meta: -meta.created):
            if is_alive(meta, now) and owner in (None, meta.owner):
                yield await self._described(meta)

    async def sweep(self) -> int:
        """Do nothing: KV removes what expired by itself, and asking it costs."""
        return 0

    async def _meta(self, key: str) -> PictureMeta | None:
        answer = await self._send(Outgoing("GET", self._url("metadata", key)))
        meta = None if answer.status == 404 else _read(_fields(answer).get("result"))
        return meta if meta and meta.key == key else None

    async def _described(self, meta: PictureMeta) -> PictureMeta:
        if is_whole(meta):
            return meta
        packed = await self.value(f"{meta.key}.details")
        try:
            return unpack_meta(packed) if packed else meta
        except ValueError:
            return meta

    def _namespace(self) -> str:
        account, namespace = quote(self.account_id, safe=""), quote(self.namespace_id, safe="")
        return f"{self.base_url.rstrip('/')}/accounts/{account}/storage/kv/namespaces/{namespace}"

    def _url(self, what: str, name: str) -> str:
        return f"{self._namespace()}/{what}/{quote(self.prefix + name, safe='')}"

    async def _send(self, outgoing: Outgoing) -> Answer:
        with self._troubles.noted():
            return await self._tried(outgoing)

    async def _tried(self, outgoing: Outgoing) -> Answer:
        try:
            return await self._upstream.send(outgoing)
        except AllowanceError as error:
            raise StorageFullError(f"Cloudflare KV: {error.message}", retry_after=error.retry_after) from error
        except BadKeyError as error:
            raise StorageDownError("Cloudflare KV refuses the gateway's token") from error
        except GatewayError as error:
            raise StorageDownError(f"Cloudflare KV: {error.message}", retry_after=error.retry_after or 5) from error


def _judge(answer: Answer) -> GatewayError | None:
    """Take 404 as an answer: it says that there is no such key."""
    if answer.status == 429 and error_code(answer) == DAY_IS_OVER:
        return AllowanceError("allows no more writes today")
    return None if answer.status == 404 else classify(answer)


def _fields(answer: Answer) -> dict[str, Any]:
    try:
        fields = answer.json()
    except GatewayError as error:
        raise StorageDownError(f"Cloudflare KV {error.message}") from error
    if not isinstance(fields, dict):
        raise StorageDownError("Cloudflare KV answered something that is not its own")
    return fields


def _read(metadata: Any) -> PictureMeta | None:
    try:
        return unpack_small(metadata["meta"])
    except (ValueError, TypeError, KeyError):
        return None


@hookimpl
def provide_storages() -> Mapping[str, type[Storage]]:
    return {"cloudflare_kv": CloudflareKV}
