"""Signed links: what the gateway signed is fetched or made, nothing else, and only until it expires."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from gateway.errors import PermissionError_

SHORTEST = 16
EXPIRY = re.compile(r"0|[1-9][0-9]{0,11}")


@dataclass(frozen=True, slots=True)
class Link:
    """What a signature vouches for: a URL, and until when (epoch seconds)."""

    url: str
    expires: int


def sign(url: str, keys: Sequence[str], expires: float) -> str:
    """Give the query string of a link to *url* that is good until *expires*; the first key signs."""
    refuse_weak(keys)
    link = Link(url, int(expires))
    return urlencode({"url": url, "exp": link.expires, "sig": _signature(link, keys[0])})


def verify(query: str, keys: Sequence[str], now: float) -> Link:
    """Read a link's query string, as `sign` wrote it; any of *keys* may have signed it.

    Raise PermissionError_ for anything else, always with the same words.
    """
    refuse_weak(keys)
    pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=16) if query.count("&") < 16 else []
    if [name for name, _ in pairs] != ["url", "exp", "sig"]:
        raise refusal()
    (_, url), (_, expiry), (_, signature) = pairs
    if not EXPIRY.fullmatch(expiry):
        raise refusal()
    link = Link(url, int(expiry))
    given = signature.encode("utf-8", "surrogatepass")
    # Every key is tried although one has fitted, so that the time taken tells nothing about which.
    fits = [hmac.compare_digest(_signature(link, key).encode(), given) for key in keys]
    if not any(fits) or link.expires <= now:
        raise refusal()
    return link


def _signature(link: Link, key: str) -> str:
    return signature("image-proxy", f"{link.expires}\n{link.url}", key)


def signature(purpose: str, text: str, key: str) -> str:
    """Sign *text* for one *purpose*: what was signed for another with the same key never fits."""
    return hmac.new(key.encode(), f"{purpose}\n{text}".encode("utf-8", "surrogatepass"), "sha256").hexdigest()


def refuse_weak(keys: Sequence[str]) -> None:
    """Raise ValueError for no keys, and for keys that could be guessed."""
    if not keys or any(len(key) < SHORTEST for key in keys):
        raise ValueError(f"each signing key must have at least {SHORTEST} characters, and there must be one")


def refusal() -> PermissionError_:
    """Give the one answer to every link that is not good."""
    return PermissionError_("this link was not signed by this gateway, or it has expired", code="invalid_link")
