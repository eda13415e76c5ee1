"""Keeps pictures in Redis or Valkey, bounded in bytes."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field

from gateway import (
    ByteSize,
    Duration,
    NotFoundError,
    PictureMeta,
    PictureTooLargeError,
    Secret,
    Storage,
    StorageDownError,
    StorageError,
    StorageFullError,
    StoredPicture,
    Troubles,
    check_redis_url,
    hookimpl,
    is_alive,
    is_key,
    pack_meta,
    seal,
    settle,
    unpack_meta,
)

log = logging.getLogger(__name__)
T = TypeVar("T")
SLACK = 60
BATCH = 100

# Scripts, so that no crash and no other gateway gets between a picture and the books on it. The books: all (by time of
# making), ends (by time of expiry), sizes, owners, total. KEYS: the picture. ARGV: prefix, key, …
FORGET = """
local prefix = ARGV[1]
local function forget(key, keep)
  local taken = redis.call('HGET', prefix .. 'sizes', key)
  local owner = redis.call('HGET', prefix .. 'owners', key)
  if taken then redis.call('DECRBY', prefix .. 'total', taken) end
  if owner then redis.call('ZREM', prefix .. owner, key) end
  redis.call('HDEL', prefix .. 'sizes', key)
  redis.call('HDEL', prefix .. 'owners', key)
  redis.call('ZREM', prefix .. 'all', key)
  redis.call('ZREM', prefix .. 'ends', key)
  return keep or redis.call('DEL', prefix .. 'picture:' .. key)
end
"""
# … meta, data, created, expires, life in ms, limit, owner
PUT = (
    FORGET
    + """
local key, size, limit = ARGV[2], #ARGV[4], tonumber(ARGV[8])
-- First of all writes: only then does a server that is out of memory refuse the script.
redis.call('HSET', KEYS[1], 'meta', ARGV[3], 'data', ARGV[4])
if ARGV[7] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[7]) else redis.call('PERSIST', KEYS[1]) end
forget(key, true)
while limit > 0 and tonumber(redis.call('GET', prefix .. 'total') or '0') + size > limit do
  local oldest = redis.call('ZRANGE', prefix .. 'all', 0, 0)[1]
  if not oldest then break end
  forget(oldest)
end
redis.call('ZADD', prefix .. 'all', ARGV[5], key)
redis.call('ZADD', prefix .. ARGV[9], ARGV[5], key)
redis.call('ZADD', prefix .. 'ends', ARGV[6], key)
redis.call('HSET', prefix .. 'sizes', key, size)
redis.call('HSET', prefix .. 'owners', key, ARGV[9])
return redis.call('INCRBY', prefix .. 'total', size)
"""
)
DELETE = FORGET + "return forget(ARGV[2])"


@dataclass(slots=True)
class RedisBody:
    """A picture's bytes in Redis, read when asked for."""

    meta: PictureMeta
    _redis: Redis = field(repr=False)
    path: Path | None = None

    async def read(self) -> bytes:
        data = await self._redis.field_of(self.meta.key, "data")
        if data is None:
            raise NotFoundError("this picture has just gone")
        if len(data) != self.meta.length:
            raise StorageError(f"picture {self.meta.key} is damaged in Redis: its length differs")
        return data

    async def stream(self, start: int, end: int) -> AsyncIterator[bytes]:
        data = await self.read()
        yield data if (start, end) == (0, len(data)) else data[start:end]


@dataclass
class Redis:
    """Pictures in Redis or Valkey at *url*: each at most *picture_limit* bytes, all of them *limit* (0 is no bound).

    The oldest go first. Every command may take *timeout* seconds, a connect too. What Redis itself evicts or loses by
    its own settings (``maxmemory-policy``, no persistence) is gone: keep what must last elsewhere.
    """

    url: Secret = Secret("redis://127.0.0.1:6379/0")
    prefix: str = "image-gateway:"
    ttl: Duration = 1800
    limit: ByteSize = 256 * 2**20
    picture_limit: ByteSize = 32 * 2**20
    timeout: Duration = 2
    connections: Annotated[int, Field(ge=1)] = 32
    clock: Callable[[], float] = field(default=time.time, init=False, repr=False, compare=False)
    _client: Any = field(default=None, init=False, repr=False, compare=False)
    _errors: tuple[type[Exception], ...] = field(default=(), init=False, repr=False, compare=False)
    _troubles: Troubles = field(default_factory=Troubles, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("url must begin with redis://, rediss:// or unix://")
        try:
            check_redis_url(self.url)
        except ValueError as error:
            raise ValueError(f"url: {error}") from None
        if self.limit and not 0 < self.picture_limit <= self.limit:
            self.picture_limit = self.limit

    async def __aenter__(self) -> Self:
        library = importlib.import_module("redis.asyncio")
        self._errors = (importlib.import_module("redis.exceptions").RedisError, OSError, ValueError)
        # Waiting for a connection is part of a command's time, so the pool blocks and does not grow.
        pool = library.BlockingConnectionPool.from_url(
            str(self.url),
            max_connections=self.connections,
            timeout=self.timeout,
            socket_timeout=self.timeout,
            socket_connect_timeout=self.timeout,
        )
        self._client = library.Redis(connection_pool=pool)
        try:
            await self.sweep()
        except StorageError as error:
            place = urlsplit(self.url)
            log.error(
                "Redis at %s: %s", f"{place.hostname}:{place.port or 6379}" if place.hostname else "a socket", error
            )
        return self

    async def __aexit__(self, *reason: object) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose(close_connection_pool=True)

    def health(self) -> dict[str, str]:
        """Say what the last write met, or else the last other command."""
        return self._troubles.health()

    async def put(self, meta: PictureMeta, data: bytes) -> PictureMeta:
        """Keep the picture; the oldest make place for it."""
        if not is_key(meta.key):
            raise StorageError("this is not a picture key")
        if self.picture_limit and len(data) > self.picture_limit:
            raise PictureTooLargeError(f"the picture has {len(data)} bytes, more than the {self.picture_limit} allowed")
        now = self.clock()
        meta = settle(await seal(meta, data), self.ttl, now)
        # Redis may forget a little later than the gateway does: the gateway's clock decides, to the second.
        life = "" if meta.expires is None else max(1, math.ceil((meta.expires - now + SLACK) * 1000))
        ends = "inf" if meta.expires is None else meta.expires
        about = [pack_meta(meta), data, meta.created, ends, life, self.limit, self._owner(meta.owner)]
        await self._script(PUT, meta.key, *about)
        return meta

    async def get(self, key: str) -> StoredPicture | None:
        meta = await self._meta(key) if is_key(key) else None
        if meta is None or not is_alive(meta, self.clock()):
            return None
        return StoredPicture(meta, RedisBody(meta, self))

    async def delete(self, key: str) -> bool:
        meta = await self._meta(key) if is_key(key) else None
        if meta is None:
            return False
        gone = await self._script(DELETE, key)
        return bool(gone) and is_alive(meta, self.clock())

    async def list(self, owner: str | None = None) -> AsyncIterator[PictureMeta]:
        """Yield the living, newest first."""
        now, index = self.clock(), self._name("all" if owner is None else self._owner(owner))
        keys = await self._call(lambda: self._client.zrange(index, 0, -1, desc=True))
        for at in range(0, len(keys), BATCH):
            for meta in await asyncio.gather(*(self._meta(key.decode()) for key in keys[at : at + BATCH])):
                if meta and is_alive(meta, now) and owner in (None, meta.owner):
                    yield meta

    async def sweep(self) -> int:
        """Remove what expired, and from the books what Redis let go by itself at its end."""
        ends = self._name("ends")
        keys = await self._call(lambda: self._client.zrangebyscore(ends, "-inf", self.clock()))
        for key in keys:
            await self._script(DELETE, key.decode())
        return len(keys)

    async def field_of(self, key: str, name: str) -> bytes | None:
        """Read one field of a picture: its ``meta`` or its ``data``."""
        value: bytes | None = await self._call(lambda: self._client.hget(self._picture(key), name))
        return value

    async def _meta(self, key: str) -> PictureMeta | None:
        packed = await self.field_of(key, "meta")
        try:
            return unpack_meta(packed) if packed else None
        except ValueError:
            log.warning("Redis: what lies at picture %s is not one", key)
            return None

    async def _script(self, script: str, key: str, *arguments: Any) -> int:
        names = (self._picture(key), self.prefix, key)
        return int(await self._call(lambda: self._client.eval(script, 1, *names, *arguments), script == PUT))

    def _name(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def _picture(self, key: str) -> str:
        return f"{self.prefix}picture:{key}"

    def _owner(self, owner: str) -> str:
        return f"owner:{hashlib.sha256(owner.encode('utf-8', 'surrogatepass')).hexdigest()[:20]}"

    async def _call(self, call: Callable[[], Awaitable[T]], writing: bool = False) -> T:
        with self._troubles.noted(writing):
            return await self._tried(call)

    async def _tried(self, call: Callable[[], Awaitable[T]]) -> T:
        if self._client is None:
            raise StorageDownError("Redis is not open")
        try:
            async with asyncio.timeout(2 * self.timeout):
                return await call()
        except TimeoutError as error:
            raise StorageDownError("Redis does not answer in time", retry_after=2) from error
        except self._errors as error:
            log.debug("Redis: %s", error)
            kind = type(error).__name__
            if "OOM" in str(error)[:4] or kind == "OutOfMemoryError":
                raise StorageFullError("Redis is full (maxmemory)") from None
            raise StorageDownError(f"Redis cannot be used now ({kind})", retry_after=2) from None


@hookimpl
def provide_storages() -> Mapping[str, type[Storage]]:
    return {"redis": Redis}
