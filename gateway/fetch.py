"""Fetches what a URL from outside the configuration names: through the guard, within limits, and nothing more."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any
from weakref import WeakValueDictionary

import aiohttp
from yarl import URL

from gateway.addresses import Address, is_own, parse_addresses
from gateway.data_urls import decode_data_url
from gateway.errors import (
    BadAddressError,
    BlockedAddressError,
    BrokenAnswerError,
    UnreachableError,
    UpstreamError,
    UpstreamTimeoutError,
)
from gateway.guard import BLOCKED, Pinned, check_address, check_url, pinned_sockets
from gateway.settings import Fetch

REDIRECTS = (301, 302, 303, 307, 308)
HOPS = 3
CHUNK = 64 * 2**10
# How long one hanging connect is waited for; the deadline of the whole fetch is an option.
CONNECT = 10.0
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "image-gateway"}

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
Permit = Callable[[URL], bool]


class Fetcher:
    """Fetches and posts. Every hop has a session and a connector of its own, pinned to the addresses just checked:
    no cookie, no kept connection and no resolver's memory can lead a request elsewhere.

    *lookup* resolves a name to addresses. *per_host* and *total* bound the connections, so that a slow host fills
    only its own places.
    """

    def __init__(
        self,
        settings: Fetch,
        *,
        lookup: Lookup | None = None,
        own: Callable[[Address], bool] = is_own,
        per_host: int = 16,
        total: int = 128,
    ) -> None:
        self.settings = settings
        self._pool: ThreadPoolExecutor | None = None
        self._lookup = lookup or self._ask_system
        self._own = own
        self._per_host = per_host
        self._total = asyncio.Semaphore(total)
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def open(self) -> None:
        """Get ready to resolve names, in threads of our own: a stalled DNS must not stall anybody else's lookups."""
        self._pool = self._pool or ThreadPoolExecutor(64, thread_name_prefix="fetch-dns")

    async def close(self) -> None:
        """Let go of the threads; a fetch under way ends by its own deadline."""
        if self._pool:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    async def __aenter__(self) -> Fetcher:
        await self.open()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def fetch(self, url: str, *, limit: int | None = None, permit: Permit | None = None) -> bytes:
        """Give the bytes that *url* (http, https or data) names, *limit* at most.

        Up to three redirects are followed, each one checked like the first, by *permit* too. Raise
        BlockedAddressError, UnreachableError, UpstreamTimeoutError or BrokenAnswerError.
        """
        limit = self.settings.limit if limit is None else limit
        if url[:5].lower() == "data:":
            return await decode_data_url(url, limit)
        checked = check_url(url, self.settings)
        async with self._deadline(checked):
            for _ in range(HOPS + 1):
                if permit and not permit(checked):
                    raise BlockedAddressError(BLOCKED)
                async with self._send("GET", checked, {"Accept": "image/*"}) as response:
                    if response.status not in REDIRECTS:
                        return await _read(response, checked, limit)
                    checked = next_hop(checked, response.headers.get("Location", ""), self.settings)
        raise BrokenAnswerError(f"{place(checked)}: more than {HOPS} redirects")

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Post *body* to *url* and give the status of the answer; its body is not read, no redirect is followed."""
        checked = check_url(url, self.settings)
        async with self._deadline(checked), self._send("POST", checked, headers, body) as response:
            return response.status

    @asynccontextmanager
    async def _deadline(self, url: URL) -> AsyncIterator[None]:
        # The library's read time-out starts anew with every byte, so a drip would outlive it; this one does not.
        try:
            async with asyncio.timeout(self.settings.timeout):
                yield
        except TimeoutError as error:
            raise UpstreamTimeoutError(f"{place(url)}: no answer within {self.settings.timeout:g} s") from error

    @asynccontextmanager
    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        gate = self._hosts.setdefault(url.raw_host or "", asyncio.Semaphore(self._per_host))
        async with gate, self._total:
            addresses = await self._resolve(url)
            connector = aiohttp.TCPConnector(
                resolver=Pinned(addresses),
                socket_factory=pinned_sockets(addresses, url.port or 0),
                use_dns_cache=False,
                force_close=True,
            )
            try:
                async with (
                    _session(connector) as session,
                    session.request(method, url, headers=headers, data=body, allow_redirects=False) as response,
                ):
                    yield response
            except aiohttp.ClientError as error:
                raise _translated(error, url) from error

    async def _resolve(self, url: URL) -> tuple[Address, ...]:
        """Look the host up once; one address out of bounds condemns the whole answer."""
        host, port = url.raw_host or "", url.port or 0
        try:
            addresses: tuple[Address, ...] = (ip_address(host),)
        except ValueError:
            try:
                addresses = parse_addresses(await self._lookup(host, port))
            except (OSError, ValueError) as error:
                raise UnreachableError(f"{place(url)}: the name cannot be resolved") from error
        if not addresses:
            raise UnreachableError(f"{place(url)}: the name has no address")
        for address in addresses:
            check_address(address, port, host, self.settings, self._own)
        return addresses

    async def _ask_system(self, host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._pool, _getaddrinfo, host, port)
        return [str(target[0]) for _, _, _, _, target in found]


def next_hop(url: URL, location: str, settings: Fetch) -> URL:
    """Give the URL that a redirect from *url* leads to, checked as if it had been asked for."""
    try:
        if SCHEME.match(location):
            target = check_url(location, settings)
        elif location.startswith("//"):
            target = check_url(f"{url.scheme}:{location}", settings)
        elif location and location.isprintable() and "\\" not in location:
            target = check_url(str(url.join(URL(location, encoded=location.isascii()))), settings)
        else:
            raise BrokenAnswerError(f"{place(url)}: a redirect to nowhere")
    except BadAddressError as error:
        raise BlockedAddressError(BLOCKED) from error
    if url.scheme == "https" and target.scheme == "http":
        raise BlockedAddressError(BLOCKED)
    return target


def place(url: URL) -> str:
    """Name *url* without its query, which may hold a signature, and without the tail of a long path."""
    return f"{url.origin()}{url.raw_path[:100]}"


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT),
        headers=HEADERS,
        auto_decompress=False,
        trust_env=False,
        read_bufsize=CHUNK // 2,
    )


def _getaddrinfo(host: str, port: int) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


async def _read(response: aiohttp.ClientResponse, url: URL, limit: int) -> bytes:
    if response.status != 200:
        passing = response.status >= 500 or response.status in (408, 429)
        raise BrokenAnswerError(f"{place(url)}: answered {response.status}", retryable=passing)
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise BrokenAnswerError(f"{place(url)}: sent a compressed answer although none was asked for")
    too_large = BrokenAnswerError(f"{place(url)}: the answer has more than {limit} bytes")
    if (response.content_length or 0) > limit:
        raise too_large
    data = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK):
        data += chunk
        if len(data) > limit:
            raise too_large
    if not data:
        raise BrokenAnswerError(f"{place(url)}: the answer is empty")
    return bytes(data)


def _translated(error: aiohttp.ClientError, url: URL) -> UpstreamError:
    # The library's own words may hold addresses and whole URLs, so they stay in the cause.
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamTimeoutError(f"{place(url)}: no connection in time", sent=False, billed=False, retryable=True)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return UnreachableError(f"{place(url)}: its certificate is not trusted")
    if isinstance(error, aiohttp.ClientConnectorError):
        return UnreachableError(f"{place(url)}: no connection")
    return BrokenAnswerError(f"{place(url)}: the answer broke off or is not HTTP", retryable=True)
