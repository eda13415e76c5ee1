"""How a picture's bytes leave: by sendfile, at once, or part by part; never a short answer that looks whole."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import IO

from aiohttp import web

from gateway.errors import GatewayError, NotFoundError, StorageDownError, StorageError
from gateway.serving import looks_like
from gateway.values import StoredPicture

log = logging.getLogger(__name__)
OPEN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class Sending:
    """An answer on its way: bytes *start* to *end* (exclusive) of a picture, under *status* and *headers*."""

    request: web.Request
    status: int
    headers: dict[str, str]
    found: StoredPicture
    start: int
    end: int

    async def head(self) -> web.StreamResponse:
        """Send the headers alone."""
        response = await self._begun()
        await response.write_eof()
        return response

    async def send(self) -> web.StreamResponse:
        """Send the bytes in the way that costs least for where they lie."""
        if self.found.body.path is None:
            return await self._parts()
        file = await _opened(str(self.found.body.path), self.found.meta.length)
        try:
            return await self._file(file)
        finally:
            file.close()

    async def _file(self, file: IO[bytes]) -> web.StreamResponse:
        response = await self._begun()
        transport = self.request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        try:
            count = self.end - self.start
            sent = await asyncio.get_running_loop().sendfile(transport, file, self.start, count)
        except NotImplementedError:  # uvloop has no sendfile
            parts = self.found.body.stream(self.start, self.end)
            return await self._rest(response, parts, await anext(parts, b""))
        if sent != count:
            self._cut("the file has become shorter")
        await response.write_eof()
        return response

    async def _parts(self) -> web.StreamResponse:
        parts = self.found.body.stream(self.start, self.end)
        # The first part is awaited before the status goes out, so that a storage that is down gives a clear 503.
        part = await anext(parts, b"")
        if self.start == 0 and self.end and not looks_like(part, self.found.meta.media_type):
            raise StorageError("what the storage holds under this key is not the picture that was stored")
        if len(part) == self.end - self.start:
            return web.Response(status=self.status, headers=self.headers, body=part)
        return await self._rest(await self._begun(), parts, part)

    async def _begun(self) -> web.StreamResponse:
        response = web.StreamResponse(status=self.status, headers=self.headers)
        response.content_length = self.end - self.start
        await response.prepare(self.request)
        return response

    async def _rest(self, response: web.StreamResponse, parts: AsyncIterator[bytes], part: bytes) -> web.StreamResponse:
        left = self.end - self.start
        try:
            while part and len(part) <= left:
                await response.write(part)
                left -= len(part)
                part = await anext(parts, b"")
        except GatewayError as error:
            self._cut(error.message)
        if left or part:
            self._cut("its length is not what was stored")
        await response.write_eof()
        return response

    def _cut(self, reason: str) -> None:
        # The status is out; a short body that ended well would be taken for the picture.
        log.error("picture %s: connection cut, %s", self.found.meta.key, reason)
        if self.request.transport is not None:
            self.request.transport.abort()
        raise ConnectionResetError(reason)


async def _opened(path: str, length: int) -> IO[bytes]:
    """Open a file in a thread; a client that leaves meanwhile leaves no open file behind."""
    opening = asyncio.get_running_loop().run_in_executor(None, open_plain, path, length)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


def _close(opening: asyncio.Future[IO[bytes]]) -> None:
    if not opening.cancelled() and not opening.exception():
        opening.result().close()


def open_plain(path: str, length: int) -> IO[bytes]:
    """Open a plain file of *length* bytes for reading, never through a link; blocks."""
    try:
        descriptor = os.open(path, OPEN)
    except FileNotFoundError as error:
        raise NotFoundError("this picture has just gone") from error
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise NotFoundError("there is no such picture, or it has expired") from error
        raise StorageDownError("the picture's file cannot be opened now", retry_after=5) from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size == length:
        return os.fdopen(descriptor, "rb", buffering=0)
    os.close(descriptor)
    raise StorageError("the picture's file is damaged")
