"""Gets the picture out of a JSON answer fast: finds the long base64 string by scanning, and decodes it strictly."""

from __future__ import annotations

import asyncio
import binascii
import re

import pybase64

from gateway.errors import BrokenAnswerError

INLINE = 4 * 2**20
"""Up to this many bytes of base64 decoding takes about a millisecond; a thread would cost as much to hop to."""

DATA_URL = re.compile(rb"data:[\w.+/-]{0,100}(?:;[\w.+-]{1,60}=[\w.+-]{1,60}){0,4};base64,", re.IGNORECASE | re.ASCII)


def decode_base64(text: str | bytes | memoryview) -> bytes:
    """Decode standard base64, with or without a ``data:`` prefix; raise `BrokenAnswerError` for anything else."""
    if isinstance(text, str):
        try:
            text = text.encode("ascii")
        except UnicodeEncodeError:
            raise BrokenAnswerError("answered a picture that is not base64") from None
    prefix = DATA_URL.match(text)
    if prefix:
        text = memoryview(text)[prefix.end() :]
    try:
        picture = pybase64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BrokenAnswerError("answered a picture that is not valid base64") from None
    if not picture:
        raise BrokenAnswerError("answered an empty picture")
    return picture


async def decode(text: str | bytes | memoryview) -> bytes:
    """Decode like `decode_base64`, in a thread if it is long."""
    if len(text) <= INLINE:
        return decode_base64(text)
    return await asyncio.to_thread(decode_base64, text)
