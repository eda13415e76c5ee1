"""Server-sent events: opening a stream safely, and telling errors in it once no status can follow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp_sse import EventSourceResponse

from gateway.endpoints.answers import REQUEST_ID, error_json
from gateway.endpoints.pieces import pieces
from gateway.errors import GatewayError
from gateway.runtime import RUNTIME

log = logging.getLogger(__name__)

FIRST_STEP = 2.0
"""For how many seconds a stream waits for its job's first step, so that a refusal at once can still have a status."""
DONE = b"data: [DONE]\n\n"
"""The mark that OpenAI's clients end at."""


class Events(EventSourceResponse):
    """An answer of events, each written in pieces; a reader who takes none for *patience* seconds is cut off."""

    def __init__(self, patience: float, ping: float) -> None:
        super().__init__(sep="\n", allow_all_methods=True, send_timeout=patience, ping_interval=ping)
        self._patience = patience
        self._within = False

    async def send_pieces(self, event: Iterable[bytes]) -> None:
        """Send one event; raise when the reader has left or was cut off."""
        self._within = True
        try:
            for piece in event:
                async with asyncio.timeout(self._patience):
                    await super().write(piece)
        except TimeoutError:
            if self._req and self._req.transport:
                self._req.transport.abort()
            raise
        finally:
            self._within = False

    async def write(self, data: Any) -> None:
        """Send a ping, unless an event is on its way, of which it would become a part."""
        if not self._within:
            await super().write(data)


class Stream:
    """An open stream of JSON events."""

    def __init__(self, response: Events) -> None:
        self._response = response

    async def send(self, value: object, *, event: str | None = None, identity: str | None = None) -> None:
        """Send *value*, whose pictures may be `Base64`, under the name *event* and the id *identity*."""
        head = (f"id: {identity}\n" if identity else "") + (f"event: {event}\n" if event else "") + "data: "
        await self._response.send_pieces(pieces(value, before=head.encode(), after=b"\n\n"))

    async def done(self) -> None:
        """Send the mark of the end."""
        await self._response.send_pieces((DONE,))


@asynccontextmanager
async def open_stream(
    request: web.Request, ping: float, *, done_mark: bool = True
) -> AsyncIterator[tuple[Stream, EventSourceResponse]]:
    """Begin a stream; whatever goes wrong inside is told as an error event, and the stream ends cleanly."""
    if request.transport is None:
        raise ConnectionResetError("the client left before the stream began")
    response = Events(request.app[RUNTIME].settings.server.send_timeout, max(ping, 0.05))
    response.headers["Content-Type"] = "text/event-stream; charset=utf-8"
    if request.version < HttpVersion11:
        # As nginx asks unless told otherwise: without chunks only the connection's end is the stream's end.
        response.headers["Connection"] = "close"
        response.force_close()
    await response.prepare(request)
    stream = Stream(response)
    async with response:
        try:
            yield stream, response
        except GatewayError as error:
            # No status can follow once the stream has begun; tell it as an event.
            await _tell(stream, error, request[REQUEST_ID], done_mark)
        except (ConnectionError, TimeoutError):
            log.info("the reader of a stream left")
            # Whoever waits around this must know that the answer was not heard.
            raise
        except Exception:
            log.exception("the stream of request %s failed", request[REQUEST_ID])
            fault = GatewayError("an internal error; the gateway's log names it by the request id")
            await _tell(stream, fault, request[REQUEST_ID], done_mark)


async def _tell(stream: Stream, error: GatewayError, identity: str, done_mark: bool) -> None:
    try:
        await stream.send(error_json(error, identity))
        if done_mark:
            await stream.done()
    except (ConnectionError, TimeoutError):
        log.info("the reader of a stream left before it could be told of an error")
