"""What every storage knows of pictures: which texts are keys, how long a picture lives, its meta data as JSON."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import re
import zlib
from dataclasses import asdict, fields, replace
from typing import Any

import orjson

from gateway.values import PictureMeta

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{7,127}")
UNPACKED_LIMIT = 2**20
INLINE = 2**18
PRIVATE = "private"
FIELDS = frozenset(each.name for each in fields(PictureMeta))


def is_key(text: str) -> bool:
    """Say whether *text* may be a key at all; storages ask before they touch their medium."""
    return KEY.fullmatch(text) is not None


async def seal(meta: PictureMeta, data: bytes) -> PictureMeta:
    """Fill in length and SHA-256 if the SHA-256 is not there; that of much data is taken off the event loop."""
    if meta.sha256:
        return meta
    if len(data) <= INLINE:
        return replace(meta, length=len(data), sha256=hashlib.sha256(data).hexdigest())
    digest = await asyncio.to_thread(hashlib.sha256, data)
    return replace(meta, length=len(data), sha256=digest.hexdigest())


def settle(meta: PictureMeta, ttl: float, now: float) -> PictureMeta:
    """Fill in when the picture expires: *ttl* seconds from *now* (0 is never), unless *meta* has it already.

    Infinity means never, whatever the *ttl*: so a picture that moves keeps its own life.
    """
    if meta.expires is None:
        return replace(meta, expires=now + ttl if ttl else None)
    return replace(meta, expires=None) if math.isinf(meta.expires) else meta


def is_alive(meta: PictureMeta, now: float) -> bool:
    """Say whether the picture has not expired; at the very second of expiry it has."""
    return meta.expires is None or now < meta.expires


def pack_meta(meta: PictureMeta) -> bytes:
    """Write meta data as JSON."""
    return orjson.dumps(asdict(meta), option=orjson.OPT_NON_STR_KEYS)


def unpack_meta(packed: bytes) -> PictureMeta:
    """Read meta data that `pack_meta` wrote; raise ValueError for anything else."""
    told = orjson.loads(packed)
    try:
        # What a later version knows besides is none of ours.
        meta = PictureMeta(**{name: value for name, value in told.items() if name in FIELDS})
    except (TypeError, AttributeError) as error:
        raise ValueError("not the meta data of a picture") from error
    if not (_is_sound(meta) and is_key(meta.key)):
        raise ValueError("not the meta data of a picture")
    return meta


def pack_small(meta: PictureMeta, limit: int) -> str:
    """Write meta data as at most *limit* ASCII characters; the details go when they do not fit, `is_whole` tells."""
    text = _squeeze(pack_meta(meta))
    return text if len(text) <= limit else _squeeze(pack_meta(replace(meta, details={"left_out": True})))


def unpack_small(text: str) -> PictureMeta:
    """Read what `pack_small` wrote; raise ValueError for anything else."""
    try:
        packed = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), UNPACKED_LIMIT)
    except zlib.error as error:
        raise ValueError("not the meta data of a picture") from error
    return unpack_meta(packed)


def is_whole(meta: PictureMeta) -> bool:
    """Say whether `pack_small` kept the details."""
    return not meta.details.get("left_out")


def public_part(meta: PictureMeta) -> PictureMeta:
    """Give what whoever sees the picture may know of it: no owner, no model, no details; `is_public` tells."""
    return replace(meta, owner="", model="", details={"left_out": PRIVATE})


def is_public(meta: PictureMeta) -> bool:
    """Say whether `public_part` made it."""
    return meta.details.get("left_out") == PRIVATE


def _squeeze(packed: bytes) -> str:
    return base64.b64encode(zlib.compress(packed, 9)).decode()


def _is_sound(meta: PictureMeta) -> bool:
    texts: tuple[Any, ...] = (meta.key, meta.media_type, meta.sha256, meta.owner, meta.model)
    numbers: tuple[Any, ...] = (meta.width, meta.height, meta.length, meta.created, meta.expires or 0)
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, (int, float)) and number >= 0 for number in numbers)
        and isinstance(meta.details, dict)
    )
