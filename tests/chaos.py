"""A TCP proxy that stands between a client and a server and behaves as bad networks do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

Ending = Literal["reset", "close"]
Way = Literal["up", "down"]
PIECE = 2**16


@dataclass
class Chaos:
    """Passes bytes on to *port* of this machine, with faults that may be changed at any time.

    *latency* is in seconds, for each piece either way. *up* and *down* are the bytes that pass per connection before
    it ends by *ending*: ``reset`` (RST) or ``close`` (FIN to both sides). *silent* swallows what the server answers.
    """

    port: int
    latency: float = 0
    up: int | None = None
    down: int | None = None
    ending: Ending = "reset"
    silent: bool = False
    connections: int = 0
    base: str = ""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def mend(self) -> None:
        """Behave well from now on."""
        self.latency, self.up, self.down, self.silent = 0, None, None, False

    def cut(self) -> None:
        """End every connection now."""
        for writer in set(self._writers):
            self._end(writer)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Stand between one client and the server until both have done, or the fault has come."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        back: asyncio.StreamWriter | None = None
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.port)
            self._writers.add(back)
            await asyncio.gather(self._pass(reader, back, "up"), self._pass(there, writer, "down"))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in filter(None, (writer, back)):
                self._writers.discard(end)
                self._end(end)
            self._tasks.discard(task)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Literal["up", "down"]
    ) -> None:
        passed = 0
        while piece := await reader.read(PIECE):
            if self.latency:
                await asyncio.sleep(self.latency)
            if way == "down" and self.silent:
                continue
            limit = self.up if way == "up" else self.down
            if limit is not None and passed + len(piece) >= limit:
                writer.write(piece[: max(0, limit - passed)])
                with suppress(ConnectionError):
                    await writer.drain()
                raise ConnectionResetError("the cut")
            passed += len(piece)
            writer.write(piece)
            await writer.drain()
        # A half close is passed on as such: the other way stays open.
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()

    def _end(self, writer: asyncio.StreamWriter) -> None:
        if self.ending == "reset":
            writer.transport.abort()
        else:
            writer.close()


@asynccontextmanager
async def between(port: int) -> AsyncIterator[Chaos]:
    """Stand before *port*; *base* is the URL of the place in between."""
    chaos = Chaos(port)
    server = await asyncio.start_server(chaos.serve, "127.0.0.1", 0)
    chaos.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield chaos
    finally:
        server.close()
        for task in set(chaos._tasks):
            task.cancel()
        await asyncio.gather(*chaos._tasks, return_exceptions=True)
