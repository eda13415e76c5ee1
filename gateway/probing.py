"""Tries a storage with one picture of a single pixel: whether it can be written, read and deleted from."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.contracts import Storage
from gateway.errors import StorageError
from gateway.values import PictureMeta

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c6360000000020001"
    "48afa4710000000049454e44ae426082"
)
LIFE = 120.0
"""Seconds after which the pixel is gone in any case."""


async def probe(storage: Storage) -> None:
    """Store a pixel, read it and delete it; raise a `StorageError` kind that says which of these failed.

    What could not be deleted expires by itself.
    """
    now = time.time()
    meta = PictureMeta(secrets.token_hex(20), "image/png", 1, 1, len(PIXEL), "", now, now + LIFE, "image-gateway")
    with _step("cannot be written"):
        await storage.put(meta, PIXEL)
    with _step("cannot be read"):
        found = await storage.get(meta.key)
        if not found or await found.body.read() != PIXEL:
            raise StorageError("it does not give back what it took")
    with _step("cannot be deleted from"):
        await storage.delete(meta.key)


@contextmanager
def _step(words: str) -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        told = error.copied()
        told.message = f"{words}: {error.message}"
        raise told from error
