"""Gets the picture out of a JSON answer fast: finds the long base64 string by scanning, and decodes it strictly."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from typing import Any

import orjson
import pybase64

from gateway.errors import BrokenAnswerError

INLINE = 4 * 2**20
"""Up to this many bytes of base64 decoding takes about a millisecond; a thread would cost as much to hop to."""

SHORT = 16 * 2**10
"""An envelope longer than this is not worth scanning around, nor is a body shorter than this."""

PLACE = secrets.token_hex(16).encode()
"""Stands for the picture while the envelope is parsed; random, so that no answer can hold it on purpose."""

DATA_URL = re.compile(rb"data:[\w.+/-]{0,100}(?:;[\w.+-]{1,60}=[\w.+-]{1,60}){0,4};base64,", re.IGNORECASE | re.ASCII)

STANDARD = bytes.maketrans(b"-_", b"+/")
"""The two letters in which base64 for URLs differs."""
WHITE = b" \t\r\n"

SCHEME = re.compile(rb"([a-z][a-z0-9+.-]{1,20}):", re.IGNORECASE)

Path = tuple[str | int, ...]


def is_picture(start: bytes) -> bool:
    """Say whether bytes begin like a PNG, JPEG, WebP, GIF or AVIF; whether they are one is seen later."""
    return start.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8")) or (
        start[8:12] == b"WEBP" if start.startswith(b"RIFF") else start[4:8] == b"ftyp"
    )


def decode_base64(text: str | bytes | memoryview) -> bytes:
    """Decode base64, with or without a ``data:`` prefix; raise `BrokenAnswerError` for anything else.

    Line breaks, the alphabet for URLs and missing padding are taken, too: each has one meaning, and is paid for.
    """
    if isinstance(text, str):
        # Letters that are not ASCII become bytes that no base64 has.
        text = text.encode("utf-8", "replace")
    text = _without_prefix(text)
    try:
        picture = pybase64.b64decode(text, validate=True)
    except ValueError:
        picture = _decode_variant(bytes(text))
    if not picture:
        raise BrokenAnswerError("answered an empty picture")
    return picture


def _without_prefix(text: bytes | memoryview) -> bytes | memoryview:
    prefix = DATA_URL.match(text)
    return memoryview(text)[prefix.end() :] if prefix else text


def _decode_variant(text: bytes) -> bytes:
    """Decode what other encoders write: folded into lines, for URLs, or without padding."""
    plain = text.translate(STANDARD, WHITE)
    length = len(plain.rstrip(b"="))
    # A single letter that is left over is not even one byte; padding is right or not there at all.
    padded = plain + b"=" * (-length % 4) if len(plain) == length and length % 4 != 1 else plain
    try:
        return pybase64.b64decode(padded, validate=True)
    except ValueError:
        raise _no_base64(text[:32]) from None


def _no_base64(start: bytes) -> BrokenAnswerError:
    """Tell base64 that is broken from an address that nobody may fetch."""
    found = SCHEME.match(start)
    if found is None or found[1].lower() == b"data":
        return BrokenAnswerError(f"answered a {'data: URL' if found else 'picture'} that is not valid base64")
    scheme = found[1].decode()
    return BrokenAnswerError(f"answered a picture's address that begins with {scheme}: and not with https: or http:")


async def decode(text: str | bytes | memoryview) -> bytes:
    """Decode like `decode_base64`, in a thread if it is long."""
    if len(text) <= INLINE:
        return decode_base64(text)
    return await asyncio.to_thread(decode_base64, text)


async def unpack(body: bytes, path: Path) -> tuple[Any, bytes | None]:
    """Parse *body* and decode the picture at *path*; give the parsed rest and the picture.

    In the rest the picture's text may have been replaced. Raises `BrokenAnswerError` if *body* is not JSON or the
    string at *path* not base64; gives None for the picture if no string is there, or a URL. A long body is read in a
    thread.
    """
    if len(body) <= INLINE:
        return _scan(body, path) or _parse(body, path)
    return await asyncio.to_thread(lambda: _scan(body, path) or _parse(body, path))


def _scan(body: bytes, path: Path) -> tuple[Any, bytes] | None:
    """Look for one string that covers the middle of *body*; None whenever the full parser has to decide.

    It cannot differ from the full parser: the text taken out is pure base64 (no quote, no backslash), what stands
    around it is parsed as JSON with a unique mark in its place, and that mark must be the whole value at *path*.
    """
    middle = len(body) // 2
    start, end = body.rfind(b'"', 0, middle) + 1, body.find(b'"', middle)
    if not start or end < 0 or end - start < SHORT or len(body) - (end - start) > SHORT:
        return None
    envelope = b"".join((body[:start], PLACE, body[end:]))
    try:
        parsed = orjson.loads(envelope)
        if envelope.count(PLACE) != 1 or value_at(parsed, path) != PLACE.decode():
            return None
        picture = pybase64.b64decode(_without_prefix(memoryview(body)[start:end]), validate=True)
        return (parsed, picture) if picture else None
    except ValueError:
        return None


def _parse(body: bytes, path: Path) -> tuple[Any, bytes | None]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BrokenAnswerError("answered broken or cut JSON, or none at all") from None
    value = value_at(parsed, path)
    inline = isinstance(value, str) and not value.startswith(("https://", "http://"))
    return parsed, decode_base64(value) if inline else None


def value_at(parsed: Any, path: Path) -> Any:
    """Follow *path* through objects (names) and lists (numbers); None if it leads nowhere."""
    for step in path:
        if isinstance(step, int):
            if not isinstance(parsed, list) or not 0 <= step < len(parsed):
                return None
            parsed = parsed[step]
        elif isinstance(parsed, Mapping):
            parsed = parsed.get(step)
        else:
            return None
    return parsed
