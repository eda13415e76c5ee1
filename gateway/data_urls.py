"""Reads ``data:`` URLs, strictly: what is not exactly one is refused, not repaired."""

from __future__ import annotations

import asyncio
import binascii
import re
from urllib.parse import unquote_to_bytes

import pybase64

from gateway.errors import BrokenAnswerError

HEAD = re.compile(r"data:([^,]{0,256}),", re.IGNORECASE)
BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Above this, decoding would hold up the event loop for longer than a thread costs.
INLINE = 4 * 2**20


async def decode_data_url(url: str, limit: int) -> bytes:
    """Give the bytes of *url*; raise BrokenAnswerError when it is malformed, empty or larger than *limit*.

    The declared media type is ignored: what the bytes are is read from the bytes.
    """
    if len(url) > INLINE:
        return await asyncio.to_thread(_decode, url, limit)
    return _decode(url, limit)


def _decode(url: str, limit: int) -> bytes:
    head = HEAD.match(url)
    if not head or not url.isascii() or not url.isprintable() or " " in url:
        raise BrokenAnswerError("this data: URL is malformed")
    start = head.end()
    # Every byte takes one to three characters of the URL, so nothing oversized is ever decoded.
    if len(url) - start > 3 * limit:
        raise BrokenAnswerError(f"this data: URL holds more than {limit} bytes")
    payload = _unescaped(url[start:])
    data = _from_base64(payload) if head[1].lower().endswith(";base64") else payload
    if not data:
        raise BrokenAnswerError("this data: URL is empty")
    if len(data) > limit:
        raise BrokenAnswerError(f"this data: URL holds more than {limit} bytes")
    return data


def _unescaped(payload: str) -> bytes:
    if "%" not in payload:
        return payload.encode("ascii")
    if BROKEN_ESCAPE.search(payload):
        raise BrokenAnswerError("this data: URL has a broken % escape")
    return unquote_to_bytes(payload)


def _from_base64(payload: bytes) -> bytes:
    try:
        return pybase64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BrokenAnswerError("this data: URL is not valid base64") from error
