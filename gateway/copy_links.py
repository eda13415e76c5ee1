"""Signed links to copies of stored pictures: in sizes that are on no list, for whoever has the link, until it ends."""

from __future__ import annotations

import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from yarl import URL

from gateway.errors import RequestError
from gateway.signing import EXPIRY, refusal, refuse_weak, signature
from gateway.transforms import FORMATS, Transform

LARGEST_SIDE = 99_999
"""Copies are never larger than their picture, so that this bounds what is written and not what is drawn."""
LONGEST = 400
LONGEST_LIFE = 10**10


@dataclass(frozen=True, slots=True)
class CopyLink:
    """What a signature vouches for: a copy of the picture *key*, and until when (epoch seconds)."""

    key: str
    copy: Transform
    expires: int


def sign_copy(link: CopyLink, keys: Sequence[str]) -> str:
    """Give the query string under which ``/image/KEY`` shows the copy; the first key signs."""
    refuse_weak(keys)
    _check(link)
    return _written(link, keys[0])


def verify_copy(query: str, key: str, keys: Sequence[str], now: float) -> CopyLink:
    """Read the query string of a link to a copy of *key*, letter by letter as `sign_copy` wrote it with any of *keys*.

    Raise PermissionError_ for anything else, always with the same words.
    """
    refuse_weak(keys)
    link = _read(query, key)
    given = query.encode("utf-8", "surrogatepass")
    # The whole query is compared: what was added, doubled, reordered or spelled another way is not what was signed.
    fits = [hmac.compare_digest(_written(link, each).encode(), given) for each in keys]
    if not any(fits) or link.expires <= now:
        raise refusal()
    return link


def signed_copy(url: URL, key: str, keys: Sequence[str], now: float) -> CopyLink | None:
    """Read a link to the picture *key*; None if it is none that was signed, or if nothing is signed here.

    Raise PermissionError_ as `verify_copy` does.
    """
    if not keys or not url.query.keys() & {"signature", "expires"}:
        return None
    return verify_copy(url.raw_query_string, key, keys, now)


def until(seconds: float, now: float | None = None) -> int:
    """Say when a link ends that is to hold for *seconds*."""
    if not 1 <= seconds < LONGEST_LIFE:
        raise RequestError("a link must hold for at least a second, and not for ever", param="expires_in")
    return int((time.time() if now is None else now) + seconds)


def _check(link: CopyLink) -> None:
    copy = link.copy
    for name, value, most in (
        ("width", copy.width, LARGEST_SIDE),
        ("height", copy.height, LARGEST_SIDE),
        ("quality", copy.quality, 100),
    ):
        if value is not None and not 1 <= value <= most:
            raise RequestError(f"{name} must be between 1 and {most}", param=name)
    if copy.output_format not in {None, *FORMATS}:
        raise RequestError(f"format must be one of {', '.join(FORMATS)}", param="format")
    if not copy.needed:
        raise RequestError("say what the copy shall be: width, height, format or quality", param="width")


def _written(link: CopyLink, key: str) -> str:
    copy = link.copy
    wanted = {"w": copy.width, "h": copy.height, "format": copy.output_format, "quality": copy.quality}
    query = urlencode({name: value for name, value in wanted.items() if value is not None} | {"expires": link.expires})
    return f"{query}&signature={signature('copy', f'{link.key}?{query}', key)}"


def _read(query: str, key: str) -> CopyLink:
    try:
        values = dict(parse_qsl(query[:LONGEST], strict_parsing=True))
    except ValueError:
        raise refusal() from None
    expiry = values.get("expires", "")
    if len(query) > LONGEST or not EXPIRY.fullmatch(expiry):
        raise refusal()
    width, height, quality = (_number(values.get(name, "")) for name in ("w", "h", "quality"))
    return CopyLink(key, Transform(width, height, values.get("format"), quality), int(expiry))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 5 else None
