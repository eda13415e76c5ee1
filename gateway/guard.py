"""The address guard: decides which URLs that did not come from the configuration may be fetched, and from where.

`check_url` judges the words of a URL, `check_address` where a connection would go. Whoever fetches resolves a name
once, checks every answer, and pins the connection to what was checked with `Pinned` and `pinned_sockets`.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Collection
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.addresses import Address, describe, is_own, is_special
from gateway.errors import BadAddressError, BlockedAddressError
from gateway.options import parse_host_port
from gateway.settings import Fetch

log = logging.getLogger(__name__)

# One text for every reason, so that an answer never tells what stands behind the gateway; the log has the reason.
BLOCKED = "The gateway does not fetch from the address of this URL; its operator can permit it under fetch.allow."
LONGEST = 8192
PARTS = re.compile(r"(https?)://([^/?#]+)([/?].*|)", re.IGNORECASE | re.DOTALL)
AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@%]+)(?::([0-9]{1,5}))?")
NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
QUOTED = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*")
# Names that never mean a public server, whatever DNS says: refused without asking it, so that it cannot be sounded.
PRIVATE_NAMES = (".localhost", ".localdomain", ".local", ".internal", ".home.arpa", ".lan")


def check_url(text: str, settings: Fetch) -> URL:
    """Parse *text* once, and give the URL to fetch if its words may be; the host in it is canonical.

    Raise BadAddressError for what is no plain http or https URL, BlockedAddressError for a port, a name or a literal
    address that is out of bounds. A name still has to be resolved and its addresses checked.
    """
    written, port = _split(text)
    try:
        url = URL(text.partition("#")[0], encoded=QUOTED.fullmatch(text) is not None)
        url = url.with_host((url.raw_host or "").lower().removesuffix("."))
    except ValueError as error:
        raise BadAddressError("this is not a URL that can be fetched") from error
    host = url.raw_host or ""
    if url.user is not None or url.password is not None or (port is not None and url.port != port):
        raise BadAddressError("this is not a URL that can be fetched")
    literal = _literal(host, written)
    if literal is None and not NAME.fullmatch(host):
        raise BadAddressError("the host of this URL is not a name or an address")
    _check_place(host, url.port or 0, literal, settings)
    return url


def check_address(
    ip: str | Address, port: int, host: str, settings: Fetch, own: Callable[[Address], bool] = is_own
) -> None:
    """Refuse the address *ip*, which *host* resolved to, unless it is public or permitted by name or by address."""
    address = ip_address(ip) if isinstance(ip, str) else ip
    allowed = allowances(tuple(settings.allow))
    if (host, port) in allowed or (str(address), port) in allowed:
        return
    if is_special(address):
        raise _refusal(host, port, describe(address))
    if own(address):
        raise _refusal(host, port, "this machine's own address")


@lru_cache(maxsize=16)
def allowances(allow: tuple[str, ...]) -> frozenset[tuple[str, int]]:
    """Read the ``host:port`` pairs of ``fetch.allow``."""
    return frozenset(parse_host_port(entry) for entry in allow)


class Pinned(AbstractResolver):
    """Answers with exactly the addresses that were checked, so that nothing is resolved twice."""

    def __init__(self, addresses: Collection[Address]) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET6 if address.version == 6 else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in self.addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def pinned_sockets(addresses: Collection[Address], port: int) -> Callable[[tuple[Any, ...]], socket.socket]:
    """Make sockets for *addresses* and *port* only. aiohttp asks here before every connect, literals included."""

    def make(info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, target = info
        if ip_address(target[0]) not in addresses or target[1] != port:
            raise _refusal(str(target[0]), target[1], "not the address that was checked")
        return socket.socket(family, kind, protocol)

    return make


def _split(text: str) -> tuple[str, int | None]:
    """Give host and port as they are written; refuse everything that two parsers could read in two ways."""
    if len(text) > LONGEST or not text.isprintable() or " " in text or "\\" in text or "%00" in text:
        raise BadAddressError("this URL is too long or has characters that do not belong in one")
    parts = PARTS.match(text)
    authority = AUTHORITY.fullmatch(parts[2]) if parts else None
    if not parts or not authority or text[parts.end(2) :].startswith("#"):
        raise BadAddressError("only plain http and https URLs are fetched, without user and password")
    return authority[1], int(authority[2]) if authority[2] else None


def _literal(host: str, written: str) -> Address | None:
    """Give the address that *host* is, None for a name; refuse every spelling of an address but the canonical one."""
    if written.startswith("["):
        try:
            return IPv6Address(host)
        except ValueError as error:
            raise BadAddressError("the host of this URL is not a name or an address") from error
    if not NUMBER.fullmatch(host):
        return None
    try:
        # Full-width digits, 127.1, 0x7f000001, 010.0.0.1 and a trailing dot all mean an address to somebody.
        return IPv4Address(written)
    except ValueError as error:
        raise BadAddressError("write an IPv4 address as four decimal numbers") from error


def _check_place(host: str, port: int, literal: Address | None, settings: Fetch) -> None:
    if (host, port) in allowances(tuple(settings.allow)):
        return
    if port not in settings.ports:
        raise _refusal(host, port, "port")
    if literal is not None:
        check_address(literal, port, host, settings)
    elif "." not in host or f".{host}".endswith(PRIVATE_NAMES):
        raise _refusal(host, port, "private name")


def _refusal(host: str, port: int, reason: str) -> BlockedAddressError:
    log.info("address guard: refused %s port %d: %s", host, port, reason)
    return BlockedAddressError(BLOCKED)
