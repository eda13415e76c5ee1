"""A host on 127.0.0.1 that answers byte for byte as the test says, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


def reply(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """Write a whole answer; an underscore in a header's name means a hyphen."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    if "Content_Length" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(location: str, status: str = "302 Found", **headers: str) -> bytes:
    """Write a redirect."""
    return reply(status=status, Location=location, **headers)


class RudeHost:
    """Serves *answers* by path; keeps every request's head and body, and counts what it could send."""

    def __init__(self, answers: dict[str, Answer] | None = None) -> None:
        self.answers = answers or {}
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.sent = self.open = self.peak = 0
        self.hold, self.idle = asyncio.Event(), asyncio.Event()
        self.idle.set()

    async def __aenter__(self) -> RudeHost:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.pair = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.pair}"
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.hold.set()
        self._server.close()
        await self._server.wait_closed()
        await self.idle.wait()

    @property
    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [head.split(" ")[1] for head in self.heads]

    async def forever(self, writer: asyncio.StreamWriter) -> None:
        """Say nothing until the test is over."""
        await self.hold.wait()

    async def endless(self, writer: asyncio.StreamWriter) -> None:
        """Send a chunked body that has no end, as fast as it is taken."""
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not self.hold.is_set():
            writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            await writer.drain()
            self.sent += 0x4000

    async def drip(self, writer: asyncio.StreamWriter) -> None:
        """Send a byte now and then, so that no time-out between two bytes ever strikes."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        await self._drops(writer, b"x")

    async def drip_headers(self, writer: asyncio.StreamWriter) -> None:
        """Send a header now and then."""
        writer.write(b"HTTP/1.1 200 OK\r\n")
        await self._drops(writer, b"X: y\r\n")

    async def _drops(self, writer: asyncio.StreamWriter, drop: bytes) -> None:
        while not self.hold.is_set():
            writer.write(drop)
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.hold.wait(), 0.02)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.peak = max(self.peak, self.open)
        self.idle.clear()
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            lengths = [
                line.partition(":")[2] for line in head.split("\r\n") if line.lower().startswith("content-length:")
            ]
            self.bodies.append(await reader.readexactly(int(lengths[0])) if lengths else b"")
            answer = self.answers.get(head.split(" ")[1], reply(status="404 Not Found"))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self.open -= 1
            if not self.open:
                self.idle.set()
