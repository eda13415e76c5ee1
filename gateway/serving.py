"""Reads what a browser wants of a stored picture: which key, which part, only if changed; and says how to keep it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from typing import Literal

from gateway.imaging import EXTENSIONS
from gateway.pictures import is_alive, is_key
from gateway.values import PictureMeta

PATH = re.compile(r"([A-Za-z0-9_-]{8,128})(?:\.([A-Za-z0-9]{1,8}))?")
RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*")
TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
JPEG_EXTENSIONS = {"jpg", "jpeg", "jpe", "jfif"}
SIGNS = {
    "image/png": (b"\x89PNG\r\n\x1a\n", 0),
    "image/jpeg": (b"\xff\xd8\xff", 0),
    "image/gif": (b"GIF8", 0),
    "image/webp": (b"WEBP", 8),
    "image/avif": (b"ftyp", 4),
}
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
}

Part = tuple[int, int] | Literal["all", "beyond"]


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown under a URL: the stored bytes, or others made of them; *etag* is a strong tag without quotes."""

    media_type: str
    length: int
    etag: str


def read_key(text: str) -> tuple[str, str | None] | None:
    """Read the path part ``KEY`` or ``KEY.png``; None for anything that no storage needs to be asked for."""
    found = PATH.fullmatch(text)
    if not found or not is_key(found[1]):
        return None
    return found[1], found[2].lower() if found[2] else None


def fits(extension: str | None, media_type: str) -> bool:
    """Say whether an extension names the type; none fits all."""
    known = EXTENSIONS.get(media_type)
    return extension in {None, known} or (known == "jpg" and extension in JPEG_EXTENSIONS)


def looks_like(head: bytes, media_type: str) -> bool:
    """Say whether the first bytes are those of a picture of this type, whoever put them where they lie."""
    sign, at = SIGNS[media_type]
    return sign.startswith(head[at : at + len(sign)])  # a reader may want only a byte or two


def caching(meta: PictureMeta, now: float, max_age: float) -> dict[str, str]:
    """Say how long the picture may be kept: never longer than it lives here."""
    remaining = max_age if meta.expires is None else min(max_age, meta.expires - now)
    seconds = max(0, int(remaining)) if is_alive(meta, now) else 0
    return {
        "Cache-Control": f"public, max-age={seconds}, immutable",
        "Expires": formatdate(int(now) + seconds, usegmt=True),
        "Last-Modified": formatdate(int(meta.created), usegmt=True),
    }


def disposition(meta: PictureMeta, media_type: str, attached: bool) -> str:
    """Name the file as it would be saved."""
    return f'{"attachment" if attached else "inline"}; filename="{meta.key}.{EXTENSIONS[media_type]}"'


def precondition(headers: Mapping[str, str], etag: str, created: float) -> Literal[200, 304, 412]:
    """Answer If-Match, If-Unmodified-Since, If-None-Match and If-Modified-Since in the order of RFC 9110."""
    since = _date(headers.get("If-Modified-Since"))
    until = _date(headers.get("If-Unmodified-Since"))
    if (tags := headers.get("If-Match")) is not None:
        if not _matches(tags, etag, weak=False):
            return 412
    elif until is not None and int(created) > until:
        return 412
    if (tags := headers.get("If-None-Match")) is not None:
        return 304 if _matches(tags, etag, weak=True) else 200
    return 304 if since is not None and int(created) <= since else 200


def wanted_part(headers: Mapping[str, str], shown: Shown, created: float) -> Part:
    """Read Range and If-Range: bytes start to end (exclusive), all, or a part beyond the end.

    A range that is not well-formed, and several of them, mean all, as RFC 9110 lets a server choose.
    """
    found = RANGE.fullmatch(headers.get("Range", ""))
    if not found or found[1] == found[2] == "" or not _same(headers.get("If-Range"), shown.etag, created):
        return "all"
    length = shown.length
    if not found[1]:
        last = min(int(found[2]), length)
        return (length - last, length) if last else "beyond"
    start = int(found[1])
    end = int(found[2]) + 1 if found[2] else max(length, start + 1)
    if end <= start:
        return "all"
    return (start, min(end, length)) if start < length else "beyond"


def _matches(tags: str, etag: str, weak: bool) -> bool:
    if tags.strip() == "*":
        return True
    return any(found[2] == etag and (weak or not found[1]) for found in TAG.finditer(tags))


def _same(condition: str | None, etag: str, created: float) -> bool:
    if condition is None:
        return True
    tag = TAG.fullmatch(condition.strip())
    return (tag[2] == etag and not tag[1]) if tag else _date(condition) == int(created)


def _date(text: str | None) -> float | None:
    if not text:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
