"""Who is let in: as many connections as may be, and beyond them a word before the door."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Callable
from typing import Any, cast

import orjson

from gateway.errors import UnavailableError

log = logging.getLogger(__name__)

HEARD = 2.0
"""Seconds that a client who is sent away has to read why; cut at once, it would see a reset instead."""
TOLD_AT_ONCE = 64
"""How many have that long, side by side, and fewer where connections are few. The others are told as well, and cut at
once: who still sends then may see a reset before the words."""
COMPLAIN_EVERY = 60.0
FILES = 2**16
"""How many files (connections are some, too) a process asks the system for; the usual thousand is little."""
OWN_FILES = 64
"""What the process has open besides: the listener, logs, databases, and what eight threads of a disk look up."""
FEW = 0.9
FEWEST = 16
NO_FILES = "socket.accept() out of system resource"
"""What asyncio says when the process may open no more files."""


class Door:
    """Gives each client what *connect* makes, as long as there are fewer than *most*; `left` tells of its end."""

    def __init__(self, most: int, headers: str = "") -> None:
        self.most = most
        self.open = 0
        self.connect: Callable[[], asyncio.Protocol] = asyncio.Protocol
        self._telling = 0
        self._complained = float("-inf")
        self._answer = _answer(headers)

    def __call__(self) -> asyncio.Protocol:
        """Meet a client: what asyncio calls for each connection that it has accepted."""
        if self.open < self.most:
            self.open += 1
            return self.connect()
        now = time.monotonic()
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            log.warning("%d connections are open, the most that may be; others are sent away", self.open)
        self._telling += 1
        return Refusal(self._answer, self._told, heard=self._telling <= min(TOLD_AT_ONCE, max(FEWEST, self.most // 4)))

    def left(self) -> None:
        """Note that a client has gone."""
        self.open -= 1

    def _told(self) -> None:
        self._telling -= 1


class Refusal(asyncio.Protocol):
    """Says *answer* to a client and closes; to be *heard* it waits for the client to close first, for a moment."""

    def __init__(self, answer: bytes, ended: Callable[[], None], heard: bool) -> None:
        self._answer = answer
        self._ended = ended
        self._heard = heard
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        transport.write(self._answer)
        if not self._heard:
            transport.close()
            return
        self._timer = asyncio.get_running_loop().call_later(HEARD, transport.abort)
        if transport.can_write_eof():
            transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._ended()


def most_connections(wanted: int, jobs: int) -> int:
    """Give how many connections the system's limit of open files leaves room for, *wanted* at most; raise that limit
    as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < enough:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
            soft = enough
        except (OSError, ValueError):
            log.debug("the limit of open files cannot be raised")
    if soft == resource.RLIM_INFINITY:
        return wanted
    room = room_for(soft, jobs)
    if room < wanted:
        # A few less than were wanted are no reason to worry whoever starts the gateway for the first time.
        level = logging.WARNING if room < FEW * wanted else logging.INFO
        log.log(level, "the limit of %d open files leaves room for %d connections, not for %d", soft, room, wanted)
    return min(wanted, room)


def room_for(files: int, jobs: int) -> int:
    """Give how many connections so many files leave room for: each may need a second file, for a picture on disk, and
    each of *jobs* that run a connection to its upstream; these get a third of the files at most."""
    free = files - OWN_FILES
    told = min(TOLD_AT_ONCE, free // 12)
    return max(FEWEST, (free - told - min(jobs, free // 3)) // 2)


def spare_the_log(loop: asyncio.AbstractEventLoop) -> None:
    """Tell once a minute that there is no file left for who comes in; asyncio writes a stack for each that waits, and
    would fill the disk that the pictures lie on."""
    told = float("-inf")

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal told
        if context.get("message") != NO_FILES:
            loop.default_exception_handler(context)
        elif time.monotonic() - told >= COMPLAIN_EVERY:
            told = time.monotonic()
            log.warning("no file is left for another connection; those who wait are let in later")

    loop.set_exception_handler(handle)


def _answer(headers: str) -> bytes:
    error = UnavailableError("too many connections are open; try again in a moment", code="too_many_connections")
    body = orjson.dumps(error.as_json())
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: 2\r\nConnection: close\r\nServer: image-gateway\r\n{headers}\r\n"
    )
    return head.encode() + body
