"""JSON with pictures in it, in pieces: each picture becomes base64 as it leaves, so that no reader holds a copy."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import orjson
import pybase64

STEP = 54 * 2**10
"""Bytes that are encoded at once: a multiple of three, so that the pieces join to one text. A reader who takes nothing
holds two of these texts, and what the transport holds before it tells to wait."""


class Base64:
    """Bytes in a JSON value, to be written as base64."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


def pieces(value: object, *, before: bytes = b"", after: bytes = b"") -> Iterator[bytes]:
    """Give the JSON of *value* between *before* and *after*, in pieces of 72 KiB where it bears pictures."""
    pictures: list[Base64] = []
    mark = ""

    def hold(found: object) -> str:
        nonlocal mark
        if not isinstance(found, Base64):
            raise TypeError(f"no JSON: {type(found).__name__}")
        pictures.append(found)
        mark = mark or secrets.token_hex(16)
        return mark

    text = orjson.dumps(value, default=hold)
    if not pictures:
        yield before + text + after
        return
    first, *others = text.split(mark.encode())
    held = before + first
    for picture, text in zip(pictures, others, strict=True):
        data = memoryview(picture.data)
        for start in range(0, len(data), STEP):
            yield held + pybase64.b64encode(data[start : start + STEP])
            held = b""
        held += text
    yield held + after
