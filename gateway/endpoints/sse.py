"""Server-sent events: opening a stream safely, and telling errors in it once no status can follow."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from aiohttp import HttpVersion11, web
from aiohttp_sse import EventSourceResponse

from gateway.errors import GatewayError

log = logging.getLogger(__name__)

FIRST_STEP = 2.0
"""For how many seconds a stream waits for its job's first step, so that a refusal at once can still have a status."""
SEND_TIMEOUT = 30.0
"""Seconds after which a reader that takes nothing is cut off."""


class Stream:
    """An open stream of JSON events."""

    def __init__(self, response: EventSourceResponse) -> None:
        self._response = response

    async def send(self, value: object, *, event: str | None = None, identity: str | None = None) -> None:
        await self._response.send(orjson.dumps(value).decode(), event=event, id=identity)

    async def done(self) -> None:
        """Send the mark that OpenAI's clients end at."""
        await self._response.send("[DONE]")


@asynccontextmanager
async def open_stream(
    request: web.Request, ping: float, *, done_mark: bool = True
) -> AsyncIterator[tuple[Stream, EventSourceResponse]]:
    """Begin a stream; whatever goes wrong inside is told as an error event, and the stream ends cleanly."""
    if request.transport is None:
        raise ConnectionResetError("the client left before the stream began")
    response = EventSourceResponse(
        sep="\n", allow_all_methods=True, send_timeout=SEND_TIMEOUT, ping_interval=max(ping, 0.05)
    )
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
            await _tell(stream, error, done_mark)
        except (ConnectionError, TimeoutError):
            log.info("the reader of a stream left")
        except Exception:
            log.exception("a stream failed")
            await _tell(stream, GatewayError("an internal error; the gateway's log has it"), done_mark)


async def _tell(stream: Stream, error: GatewayError, done_mark: bool) -> None:
    try:
        await stream.send(error.as_json())
        if done_mark:
            await stream.done()
    except (ConnectionError, TimeoutError):
        log.info("the reader of a stream left before it could be told of an error")
