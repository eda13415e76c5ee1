"""Makes one HTTP call once: session, deadlines, byte limit, and what a failure says of sent and billed."""

from __future__ import annotations

import asyncio
import codecs
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO

import aiohttp

from gateway.calls import EVENTS, Answer, Outgoing, one_line
from gateway.contracts import Report
from gateway.decoding import is_picture
from gateway.errors import BrokenAnswerError, GatewayError, UnreachableError, UpstreamTimeoutError
from gateway.journey import JOURNEY, Connector, Journey, refuse_redirects
from gateway.options import ByteSize, Duration, Secret

log = logging.getLogger(__name__)

BUFFER = 4 * 2**20
"""Read buffer per connection: what fits into it is read at one waking, and copied once."""

LONG = 2**20
"""A body of more bytes than this goes out in pieces; aiohttp warns of one written at once."""

HOPELESS = 2**16
"""An answer that begins neither like JSON nor like a picture nor like a stream is read no further than this."""

SHORT, TELLING = 2**16, 8
"""Bytes up to which an answer is words and no picture; letters from which a key cannot be a part of other words."""

PATIENCE = 5.0
"""Seconds for the words of an error."""

HEADERS = {"Accept-Encoding": "identity", "User-Agent": "image-gateway"}
SIGNS = (b"{", b"[", *EVENTS)

Watch = Callable[[bytes], None]


@dataclass(frozen=True)
class Http:
    """Limits of one upstream call: seconds to connect, to the first byte, in all; bytes of the answer per picture."""

    connect: Duration = 5
    first_byte: Duration = 120
    total: Duration = 180
    limit: ByteSize = 16 * 2**20

    def __post_init__(self) -> None:
        if min(self.connect, self.first_byte, self.total) <= 0:
            raise ValueError("connect, first_byte and total must be more than 0: nothing answers in no time")


class Exchange:
    """The session of one upstream, and a call on it."""

    def __init__(self, http: Http, secrets: tuple[Secret, ...]) -> None:
        self.http = http
        self._secrets = secrets
        self.session = _session(http, Connector(limit=0))
        self._sockets: aiohttp.ClientSession | None = None

    @property
    def sockets(self) -> aiohttp.ClientSession:
        """The session for websockets."""
        if self._sockets is None:
            self._sockets = _session(self.http, aiohttp.TCPConnector(limit=0), refuse_redirects())
        return self._sockets

    async def close(self) -> None:
        """Close all connections."""
        await self.session.close()
        if self._sockets is not None:
            await self._sockets.close()

    async def call(
        self,
        outgoing: Outgoing,
        private: Mapping[str, str],
        report: Report | None,
        pictures: int,
        watch: Watch | None,
        key: Secret | None,
    ) -> Answer:
        """Send *outgoing* with the *private* headers once and read the answer; *key* is noted in it."""
        body, headers = outgoing.encoded()
        headers.update(private)
        journey = Journey(report)
        here = JOURNEY.set(journey)
        began = asyncio.get_running_loop().time()
        first = min(self.http.connect + self.http.first_byte, self.http.total)
        try:
            async with asyncio.timeout_at(began + first) as deadline:
                response = await self.session.request(
                    outgoing.method,
                    outgoing.url,
                    data=BytesIO(body) if body and len(body) > LONG else body,
                    headers=headers,
                    allow_redirects=False,
                )
                ends = began + self.http.total
                deadline.reschedule(ends if response.status < 400 else None)
                async with response:
                    content = await self._content(response, ends, pictures, watch)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            log.info("an upstream call failed: %s: %s", type(error).__name__, one_line(str(error), self._secrets))
            raise _failure(error, journey, self.http) from None
        finally:
            JOURNEY.reset(here)
            # Kept connections and timers remember the context in which they were made, and what it held.
            journey.report = None
        content = content.removeprefix(codecs.BOM_UTF8)
        if "json" in response.content_type or response.content_type.startswith("text/"):
            # Some send white space to keep the line alive while they draw.
            content = content.lstrip()
        content = _masked(content, self._secrets)
        return Answer(response.status, response.headers, content, self._secrets, key)

    async def _content(
        self, response: aiohttp.ClientResponse, ends: float, pictures: int, watch: Watch | None
    ) -> bytes:
        if response.status >= 400:
            return await _words(response, self.http.limit, ends)
        seen = watch if 200 <= response.status < 300 else None
        return await read_limited(response, self.http.limit * max(1, pictures), seen)


async def _words(response: aiohttp.ClientResponse, limit: int, ends: float) -> bytes:
    """Read what an error says, as far as it comes until *ends*: it may stall, break or be endless, and the status says
    enough."""
    said = bytearray()
    ends = min(ends, asyncio.get_running_loop().time() + PATIENCE)
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout_at(ends):
            while len(said) <= limit and (piece := await response.content.readany()):
                said += piece
                if len(said) > HOPELESS and not _hopeful(bytes(said[:HOPELESS])):
                    break
    return bytes(said)


async def read_limited(response: aiohttp.ClientResponse, limit: int, watch: Watch | None = None) -> bytes:
    """Read a body of at most *limit* bytes; raise `BrokenAnswerError` as soon as it is known to be longer."""
    if (response.content_length or 0) > limit:
        response.close()
        raise BrokenAnswerError(f"answered more than {limit} bytes")
    if watch is None and 0 < (response.content_length or 0) <= BUFFER and not response.headers.get("Content-Encoding"):
        # Its length is known and small: there is nothing to judge on the way.
        if response.content.exception() is None:
            # What broke off before it was waited for would be waited for to the deadline.
            await response.content.wait_eof()
        return response.content.read_nowait()
    pieces: list[bytes] = []
    length = 0
    while piece := await response.content.readany():
        pieces.append(piece)
        length += len(piece)
        # Judged once, by all that came until there was enough.
        hopeless = length - len(piece) <= HOPELESS < length and not _hopeful(b"".join(pieces))
        if length > limit or hopeless:
            response.close()
            raise BrokenAnswerError(f"answered more than {min(length, limit)} bytes of what is no picture")
        if watch is not None:
            watch(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _hopeful(start: bytes) -> bool:
    start = start.removeprefix(codecs.BOM_UTF8).lstrip()[:64]
    return start.startswith(SIGNS) or is_picture(start)


def _masked(content: bytes, secrets: Iterable[Secret]) -> bytes:
    """Take the keys out of an answer that repeats them: its words may go to callers in a dozen ways."""
    if len(content) <= SHORT:
        for secret in secrets:
            content = content.replace(secret.encode(), b"***") if len(secret) >= TELLING else content
    return content


def _session(http: Http, connector: aiohttp.TCPConnector, *traces: aiohttp.TraceConfig) -> aiohttp.ClientSession:
    # Admission limits bound the calls in flight; a bound of connections would only make them wait unseen.
    return aiohttp.ClientSession(
        connector=connector,
        trace_configs=list(traces),
        timeout=aiohttp.ClientTimeout(total=None, connect=http.connect),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=HEADERS,
        trust_env=False,
        read_bufsize=BUFFER,
    )


def _failure(error: Exception, journey: Journey, http: Http) -> GatewayError:
    """Say what went wrong in our words; the library's may name hosts, paths and headers."""
    if not journey.sent:
        return UnreachableError(f"cannot be reached: {_why_not(error, http)}")
    paid = "; the call may be billed" if journey.report is not None else ""
    if isinstance(error, TimeoutError):
        return UpstreamTimeoutError(f"did not answer in time{paid}")
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL):
        return BrokenAnswerError("answered what is not HTTP")
    return BrokenAnswerError(f"broke off before its answer was whole{paid}")


def _why_not(error: Exception, http: Http) -> str:
    reasons: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
        (aiohttp.ClientConnectorDNSError, "its host name is not known"),
        (aiohttp.ClientConnectorCertificateError, "its TLS certificate is not valid"),
        (aiohttp.ClientSSLError, "TLS failed"),
        (TimeoutError, f"no connection within {http.connect:g} s"),
        (aiohttp.InvalidURL, "its URL is not valid"),
    )
    known = next((words for kinds, words in reasons if isinstance(error, kinds)), None)
    return known or "no connection (refused, or no route)"
