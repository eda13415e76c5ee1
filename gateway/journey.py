"""Connections to one upstream: none that it has closed is used, and the moment is known when bytes begin to leave."""

from __future__ import annotations

import select
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler

from gateway.contracts import Report


@dataclass(slots=True)
class Journey:
    """One call on its way: whether bytes may have left, and who wants to know."""

    report: Report | None
    sent: bool = False

    def begin(self) -> None:
        """Note that from here on bytes go out; a failure before is safe to repeat, one after may be paid for."""
        if not self.sent:
            self.sent = True
            if self.report is not None:
                self.report.sending()


JOURNEY: ContextVar[Journey | None] = ContextVar("journey", default=None)
"""The call that the current task is making."""


class Connector(aiohttp.TCPConnector):
    """Hands out connections for the calls that `JOURNEY` names.

    A call that fails on a kept connection which the upstream has closed meanwhile could not be told from one that was
    paid for, and must not be repeated: so the socket itself is asked before it is used again.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(self, *arguments: Any, **options: Any) -> aiohttp.connector.Connection:
        """Give a new connection, or a kept one that is still open and silent."""
        connection = await super().connect(*arguments, **options)
        while (protocol := connection.protocol) in self._used and _has_news(connection.transport):
            connection.close()
            connection = await super().connect(*arguments, **options)
        if protocol is not None:
            self._used.add(protocol)
        journey = JOURNEY.get()
        if journey is not None:
            try:
                journey.begin()
            except BaseException:
                connection.close()
                raise
        return connection


def _has_news(transport: Any) -> bool:
    """Say whether a connection that nothing was asked on has something to read: its end, in all likelihood."""
    socket = transport.get_extra_info("socket") if transport is not None else None
    if socket is None or socket.fileno() < 0:
        return True
    if not hasattr(select, "poll"):
        return bool(select.select([socket], [], [], 0)[0])
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    return bool(poll.poll(0))


def refuse_redirects() -> aiohttp.TraceConfig:
    """Give what keeps a websocket's handshake from following by itself to wherever an upstream says."""
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_redirected)
    return trace


async def _redirected(session: aiohttp.ClientSession, context: SimpleNamespace, params: Any) -> None:
    raise aiohttp.ClientError("a redirect, which is not followed")
