"""Connections of clients: what is no HTTP is told in the form of all other errors, with no word of what was sent."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadStatusLine, InvalidURLError, LineTooLong

from gateway.door import Door
from gateway.endpoints.answers import REQUEST_ID, error_response, new_request_id
from gateway.errors import GatewayError, RequestError
from gateway.settings import Server

log = logging.getLogger(__name__)

USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)
"""The option of a socket for it; Linux alone has it."""
BACKLOG = 1024
AT_ONCE = 32
"""How many of those who wait are let in before the loop turns to others: each takes a file before it can be refused."""
LINGERING = 10.0
"""Seconds at most for which a body that nobody wants is read, so that its sender can see the answer."""
REASONS: dict[type[Exception], str] = {
    LineTooLong: "one of its lines is too long",
    InvalidURLError: "the address in its first line cannot be read",
    BadStatusLine: "its first line cannot be read",
}


class Connection(web.RequestHandler):
    """A client's connection; what the parser refuses never reaches the application, so it is answered here."""

    __slots__ = ("_anyone", "_left", "_patience")

    def __init__(
        self,
        server: web.Server,
        *,
        origins: Collection[str],
        left: Callable[[], None],
        patience: float,
        **options: Any,
    ) -> None:
        super().__init__(server, **options)
        self._left = left
        self._patience = patience
        self._anyone = "*" in origins

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the system cut off a client that takes nothing of its answer: whoever writes would wait for ever."""
        super().connection_made(transport)
        taken = transport.get_extra_info("socket")
        if USER_TIMEOUT is not None and taken is not None and taken.family in (socket.AF_INET, socket.AF_INET6):
            taken.setsockopt(socket.IPPROTO_TCP, USER_TIMEOUT, int(self._patience * 1000))

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another."""
        super().connection_lost(exc)
        self._left()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer in OpenAI's form and close. The library's own words would repeat what was sent, and its version."""
        super().handle_error(request, status, exc, message)
        request[REQUEST_ID] = identity = request.get(REQUEST_ID) or new_request_id()
        log.info("request %s could not be served: %s", identity, type(exc).__name__)
        response = error_response(_refusal(exc) if status == 400 else GatewayError("an internal error"), identity)
        response.headers.update(
            {
                "x-request-id": identity,
                "Server": "image-gateway",
                "X-Content-Type-Options": "nosniff",
                "Vary": "Origin",
                "Connection": "close",
                # Who asks from which page stood in what could not be read.
                **({"Access-Control-Allow-Origin": "*"} if self._anyone else {}),
            }
        )
        response.force_close()
        return response


def _refusal(error: BaseException | None) -> RequestError:
    reason = next(
        (words for kind, words in REASONS.items() if isinstance(error, kind)),
        "its headers cannot be read, or are too many",
    )
    return RequestError(f"this is no valid HTTP request: {reason}", code="malformed_request")


async def listen(runner: web.AppRunner, settings: Server) -> asyncio.Server:
    """Accept connections for a runner that is set up, until the returned server is closed."""
    assert runner.server is not None
    loop = asyncio.get_running_loop()
    door = Door(settings.max_connections, "Access-Control-Allow-Origin: *\r\n" if "*" in settings.origins else "")
    door.connect = partial(
        Connection,
        runner.server,
        origins=settings.origins,
        left=door.left,
        patience=settings.send_timeout,
        loop=loop,
        keepalive_timeout=settings.keep_alive,
        lingering_time=min(LINGERING, settings.body_timeout),
        access_log=None,
        # What is packed is unpacked where its limit is known: the parser would unpack all of it at once, on the loop.
        auto_decompress=False,
    )
    listener = await loop.create_server(door, settings.host, settings.port, backlog=AT_ONCE)
    for listening in listener.sockets:
        with listening.dup() as same:
            same.listen(BACKLOG)  # asyncio has but one number for both
    return listener
