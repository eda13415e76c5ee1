"""Small records that survive the process: in a file of SQLite, or in Redis/Valkey; in memory there are none."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from gateway.errors import ConfigError, UnavailableError
from gateway.options import REDIS
from gateway.redis_url import check_redis_url

AT_ONCE = 500
"""Records that Redis is asked for at once: it does nothing else meanwhile."""


class Records(Protocol):
    """Keeps texts under keys until they expire (epoch seconds)."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def put(self, key: str, text: str, expires: float) -> None: ...

    async def all(self) -> list[str]:
        """Give every text that has not expired, oldest first."""
        ...


class FileRecords:
    """Records in one file; written through a thread of its own, so that a slow disk never holds up the loop."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "state")
        self._database: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open or make the file; raise `ConfigError` if it cannot be used."""
        try:
            await self._do(self._open)
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"jobs.state: {self._path} cannot be used: {error}") from error

    async def close(self) -> None:
        if self._database:
            await self._do(self._database.close)
        self._thread.shutdown()

    async def put(self, key: str, text: str, expires: float) -> None:
        await self._do(lambda: self._put(key, text, expires))

    async def all(self) -> list[str]:
        texts: list[str] = await self._do(self._all)
        return texts

    async def _do(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        table = "records (key TEXT PRIMARY KEY, text TEXT NOT NULL, expires REAL NOT NULL)"
        self._database = open_file(self._path, table)
        # Without it each record that is put would look at every other one, however many there are.
        self._database.execute("CREATE INDEX IF NOT EXISTS records_by_end ON records (expires)")

    def _put(self, key: str, text: str, expires: float) -> None:
        assert self._database
        self._database.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (key, text, expires))
        self._database.execute("DELETE FROM records WHERE expires <= ?", (self._clock(),))

    def _all(self) -> list[str]:
        assert self._database
        query = "SELECT text FROM records WHERE expires > ? ORDER BY expires"
        return [str(row[0]) for row in self._database.execute(query, (self._clock(),))]


class RedisRecords:
    """Records in Redis or Valkey, below one prefix; every call ends within *seconds*."""

    def __init__(
        self, url: str, prefix: str = "image-gateway:jobs:", seconds: float = 2, clock: Callable[[], float] = time.time
    ) -> None:
        try:
            check_redis_url(url)
        except ValueError as error:
            raise ConfigError(f"jobs.state: {error}") from None
        from redis import asyncio as redis
        from redis.exceptions import RedisError

        self._error = RedisError
        self._redis = redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds)
        self._prefix = prefix
        self._clock = clock

    async def open(self) -> None:
        try:
            await self._redis.ping()
        except self._error as error:
            raise UnavailableError(f"jobs.state: Redis does not answer: {type(error).__name__}") from error

    async def close(self) -> None:
        await self._redis.aclose()

    async def put(self, key: str, text: str, expires: float) -> None:
        seconds = max(1, int(expires - self._clock()))
        try:
            await self._redis.set(self._prefix + key, f"{expires:.3f} {text}", ex=seconds)
        except self._error as error:
            raise UnavailableError(f"the job's record was not kept: {type(error).__name__}") from error

    async def all(self) -> list[str]:
        try:
            keys = [key async for key in self._redis.scan_iter(self._prefix + "*", count=1000)]
            values: list[Any] = []
            for start in range(0, len(keys), AT_ONCE):
                values += await self._redis.mget(keys[start : start + AT_ONCE])
        except self._error as error:
            raise UnavailableError(f"jobs.state: Redis does not answer: {type(error).__name__}") from error
        texts = [value.decode().partition(" ") for value in values if value]
        return [text for _, _, text in sorted(texts, key=lambda parts: float(parts[0]))]


def open_file(path: Path, *tables: str, seconds: float = 5) -> sqlite3.Connection:
    """Open or make a file with these tables, for its owner only; who finds it locked waits for *seconds*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, timeout=seconds, check_same_thread=False, isolation_level=None)
    path.chmod(0o600)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    for table in tables:
        database.execute(f"CREATE TABLE IF NOT EXISTS {table}")
    return database


def make_records(place: Path | str | None) -> Records | None:
    """Make the records that ``jobs.state`` names: a ``redis://`` URL or a file; None for none."""
    if not place:
        return None
    if str(place).startswith(REDIS):
        return RedisRecords(str(place))
    return FileRecords(Path(place))
