"""What a backend plugin needs to talk HTTP well: session, key ring, time-outs, size limits, error classes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp

from gateway.calls import Answer, FormField, Outgoing, one_line
from gateway.contracts import Report
from gateway.errors import (
    AllowanceError,
    BadKeyError,
    BrokenAnswerError,
    GatewayError,
    RateLimitedError,
    UnreachableError,
    UpstreamTimeoutError,
)
from gateway.keyring import Key, KeyRing
from gateway.options import ByteSize, Duration
from gateway.values import Secret
from gateway.verdict import classify, error_code, error_words, retry_after

__all__ = [
    "Answer",
    "FormField",
    "Http",
    "Outgoing",
    "Upstream",
    "bearer",
    "classify",
    "error_code",
    "error_words",
    "read_limited",
    "retry_after",
]

log = logging.getLogger(__name__)

BUFFER = 2**20
"""Read buffer per connection: 1.5 MB answers are read a quarter faster than with aiohttp's 64 KiB."""

HOPELESS = 2**16
"""An answer that begins neither like JSON nor like a picture nor like a stream is read no further than this."""

RATE_REST = 5.0
ALLOWANCE_REST = 3600.0
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "image-gateway"}


@dataclass(frozen=True)
class Http:
    """Limits of one upstream call: seconds to connect, to the first byte, in all; bytes of the answer per picture."""

    connect: Duration = 5
    first_byte: Duration = 120
    total: Duration = 180
    limit: ByteSize = 16 * 2**20


def bearer(key: Secret) -> dict[str, str]:
    """Give the usual header."""
    return {"Authorization": f"Bearer {key}"}


@dataclass(slots=True)
class Journey:
    """One call on its way: whether bytes may have left, and who wants to know."""

    report: Report | None
    sent: bool = False


class Upstream:
    """One upstream API with its keys. *authorize* makes headers of a key, *classify* judges an answer.

    With *one_account* all keys draw on the same allowance, so that when it is used up all of them rest.
    """

    def __init__(
        self,
        http: Http,
        keys: Sequence[Secret] = (),
        *,
        authorize: Callable[[Secret], Mapping[str, str]] = bearer,
        classify: Callable[[Answer], GatewayError | None] = classify,
        one_account: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if any(not key.isprintable() or not key.isascii() for key in keys):
            raise ValueError("a key holds a line break or another character that cannot be sent")
        self.http = http
        self.keys = KeyRing(keys, clock)
        self._secrets = tuple(dict.fromkeys(keys))
        self._authorize = authorize
        self._classify = classify
        self._one_account = one_account
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the session; no connection is made before the first call."""
        if self._session is None:
            self._session = _session(self.http)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session, for what `send` cannot do (websockets); it bears no credentials."""
        if self._session is None:
            raise RuntimeError("the upstream is not open")
        return self._session

    def health(self) -> dict[str, int]:
        """Count the keys: all, usable, refused, resting."""
        return self.keys.health()

    async def send(
        self,
        outgoing: Outgoing,
        report: Report | None = None,
        *,
        pictures: int = 1,
        watch: Callable[[bytes], None] | None = None,
        after: Answer | None = None,
    ) -> Answer:
        """Send *outgoing* with the next key and give the answer; try another key only if this one is not usable.

        *report* makes it a paid call. *pictures* multiplies the limit of bytes. *watch* sees each piece of a
        successful answer as it arrives. *after* makes it a follow-up (asking for a job, cancelling it): it goes out
        with the key of that answer and no other, since other accounts do not know the job. Every failure is a
        `GatewayError` that says what is known of sent and billed.
        """
        await self.open()
        if after is not None:
            same = None if after.key is None else Key(after.key)
            return self._judge(await self._exchange(outgoing, same, report, pictures, watch))
        if not len(self.keys):
            return self._judge(await self._exchange(outgoing, None, report, pictures, watch))
        tried: list[Key] = []
        last: GatewayError | None = None
        while (key := self.keys.pick(tried)) is not None:
            tried.append(key)
            answer = await self._exchange(outgoing, key, report, pictures, watch)
            try:
                return self._judge(answer)
            except BadKeyError as error:
                self.keys.drop(key)
                log.warning("an upstream refused a key: %s", error.message)
                last = last or error
            except (RateLimitedError, AllowanceError) as error:
                self._rest(key, error)
                last = error
        raise self._exhausted(last)

    def _judge(self, answer: Answer) -> Answer:
        error = self._classify(answer)
        if error is None:
            return answer
        for secret in self._secrets:
            error.message = error.message.replace(secret, "…")
        error.args = (error.message,)
        raise error

    def _rest(self, key: Key, error: RateLimitedError | AllowanceError) -> None:
        if isinstance(error, AllowanceError):
            seconds = error.retry_after or ALLOWANCE_REST
            if self._one_account:
                self.keys.rest_all(seconds, AllowanceError)
            else:
                self.keys.rest(key, seconds, AllowanceError)
        else:
            self.keys.rest(key, error.retry_after or RATE_REST, RateLimitedError)

    def _exhausted(self, last: GatewayError | None) -> GatewayError:
        """Give the error for a call that no key could make: the *last* one met, or one that says when to come back."""
        back = self.keys.next_back()
        if back is None:
            return last or BadKeyError("every key was refused; give it new ones and start again", sent=False)
        seconds, why = back
        if last is None or isinstance(last, BadKeyError):
            last = why(f"every usable key rests; the first is back in {seconds:.0f} s", sent=last is not None)
        last.retry_after = max(1.0, seconds)
        return last

    async def _exchange(
        self,
        outgoing: Outgoing,
        key: Key | None,
        report: Report | None,
        pictures: int,
        watch: Callable[[bytes], None] | None,
    ) -> Answer:
        body, headers = outgoing.encoded()
        if key is not None:
            headers.update(self._authorize(key.secret))
        journey = Journey(report)
        try:
            async with asyncio.timeout(self.http.total):
                async with asyncio.timeout(self.http.connect + self.http.first_byte):
                    response = await self.session.request(
                        outgoing.method,
                        outgoing.url,
                        data=body,
                        headers=headers,
                        allow_redirects=False,
                        trace_request_ctx=journey,
                    )
                async with response:
                    seen = watch if 200 <= response.status < 300 else None
                    content = await read_limited(response, self.http.limit * max(1, pictures), seen)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            log.info("an upstream call failed: %s: %s", type(error).__name__, one_line(str(error), self._secrets))
            raise _failure(error, journey.sent, self.http) from None
        return Answer(response.status, response.headers, content, self._secrets, None if key is None else key.secret)


async def read_limited(
    response: aiohttp.ClientResponse, limit: int, watch: Callable[[bytes], None] | None = None
) -> bytes:
    """Read a body of at most *limit* bytes; raise `BrokenAnswerError` as soon as it is known to be longer."""
    if (response.content_length or 0) > limit:
        response.close()
        raise BrokenAnswerError(f"answered more than {limit} bytes")
    pieces: list[bytes] = []
    length = 0
    while piece := await response.content.readany():
        pieces.append(piece)
        length += len(piece)
        if length > limit or (length > HOPELESS and not _hopeful(pieces[0])):
            response.close()
            raise BrokenAnswerError(f"answered more than {min(length, limit)} bytes of what is no picture")
        if watch is not None:
            watch(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _hopeful(start: bytes) -> bool:
    start = start.lstrip()
    return start.startswith(
        (b"{", b"[", b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"data:", b"event:", b"id:", b":")
    ) or (start[4:8] == b"ftyp")


def _session(http: Http) -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(_connected)
    trace.on_connection_reuseconn.append(_connected)
    return aiohttp.ClientSession(
        # Admission limits bound the calls in flight; a second bound here would only make them wait unseen.
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, connect=http.connect),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=HEADERS,
        trust_env=False,
        read_bufsize=BUFFER,
        trace_configs=[trace],
    )


async def _connected(session: aiohttp.ClientSession, context: SimpleNamespace, params: Any) -> None:
    """Note that from here on bytes go out; a failure before is safe to repeat, one after may be paid for."""
    journey = context.trace_request_ctx
    if isinstance(journey, Journey) and not journey.sent:
        journey.sent = True
        if journey.report is not None:
            journey.report.sending()


def _failure(error: Exception, sent: bool, http: Http) -> GatewayError:
    """Say what went wrong in our words; the library's may name hosts, paths and headers."""
    if not sent:
        return UnreachableError(f"cannot be reached: {_why_not(error, http)}")
    if isinstance(error, TimeoutError):
        return UpstreamTimeoutError("did not answer in time; the call may be billed")
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL):
        return BrokenAnswerError("answered what is not HTTP")
    return BrokenAnswerError("broke off before its answer was whole; the call may be billed")


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
