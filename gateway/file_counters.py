"""Counters in a file of SQLite: they survive the process, and processes of one machine may share them."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from gateway.counters import CODE, Calendar, Limit, Taken, current
from gateway.errors import ConfigError, UnavailableError
from gateway.options import Rate
from gateway.outage import Outage
from gateway.state import open_file

T = TypeVar("T")


class FileCounters:
    """Counters in one file, which processes of one machine may share; asked through a thread of its own.

    A call waits at most *seconds* for its turn; when that is not enough the log tells of it once a minute, with
    *otherwise*: what is done meanwhile.
    """

    def __init__(
        self, path: Path, otherwise: str = "", seconds: float = 2, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._seconds = seconds
        self._outage = Outage(f"the file {path}", otherwise)
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "counters")
        self._database: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open or make the file; raise `ConfigError` if it cannot be used."""
        try:
            await self._do(self._open)
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"state: {self._path} cannot be used: {error}") from error

    async def close(self) -> None:
        if self._database:
            await self._do(self._database.close)
        self._thread.shutdown()

    async def take(self, name: str, count: int, limit: Limit) -> Taken:
        return await self._do(self._alone, self._slide if isinstance(limit, Rate) else self._spend, name, count, limit)

    async def settle(self, taken: Taken, count: int = 0) -> None:
        if taken.count != count:
            await self._do(self._alone, self._give_back, taken, taken.count - count)

    async def _do(self, work: Callable[..., T], *given: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *given)

    def _open(self) -> None:
        moments = "moments (name TEXT NOT NULL, at REAL NOT NULL)"
        windows = (
            "windows (name TEXT PRIMARY KEY, start INTEGER NOT NULL, ends INTEGER NOT NULL, used INTEGER NOT NULL)"
        )
        self._database = open_file(self._path, moments, windows, seconds=self._seconds)
        self._database.execute("CREATE INDEX IF NOT EXISTS moments_of ON moments (name, at)")

    def _alone(self, work: Callable[..., T], *given: Any) -> T:
        """Do *work* in a transaction that no other process gets into."""
        assert self._database
        try:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                done = work(self._database, *given)
        except sqlite3.Error as error:
            self._outage.met(error)
            raise UnavailableError("what is counted cannot be asked now", code=CODE, retry_after=1) from error
        self._outage.over()
        return done

    def _slide(self, database: sqlite3.Connection, name: str, count: int, limit: Rate) -> Taken:
        now = self._clock()
        # Also what was counted by a clock that was put back since: nobody may have to wait for it to get there again.
        old = "DELETE FROM moments WHERE name = ? AND (at <= ? OR at > ?)"
        database.execute(old, (name, now - limit.period, now + limit.period))
        moments = [row[0] for row in database.execute("SELECT at FROM moments WHERE name = ? ORDER BY at", (name,))]
        over = len(moments) + count - limit.count
        if over > 0:
            return Taken(name, count, limit, len(moments), moments[over - 1] + limit.period - now)
        database.executemany("INSERT INTO moments VALUES (?, ?)", [(name, now)] * count)
        return Taken(name, count, limit, len(moments) + count, mark=now)

    def _spend(self, database: sqlite3.Connection, name: str, count: int, limit: Calendar) -> Taken:
        now = self._clock()
        database.execute("DELETE FROM windows WHERE ends <= ?", (now,))
        query = "SELECT start, ends, used FROM windows WHERE name = ?"
        start, ends, used = current(limit, now, database.execute(query, (name,)).fetchone())
        if used + count > limit.count:
            return Taken(name, count, limit, used, math.ceil(ends - now))
        database.execute("INSERT OR REPLACE INTO windows VALUES (?, ?, ?, ?)", (name, start, ends, used + count))
        return Taken(name, count, limit, used + count, mark=start)

    def _give_back(self, database: sqlite3.Connection, taken: Taken, back: int) -> None:
        if isinstance(taken.limit, Calendar):
            query = "UPDATE windows SET used = used - ? WHERE name = ? AND start = ?"
            database.execute(query, (back, taken.name, taken.mark))
        else:
            chosen = "SELECT rowid FROM moments WHERE name = ? AND at = ? LIMIT ?"
            query = f"DELETE FROM moments WHERE rowid IN ({chosen})"
            database.execute(query, (taken.name, taken.mark, back))
