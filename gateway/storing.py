"""Puts pictures that were paid for into their storage; what it does not take is kept, to be stored later."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterable
from dataclasses import replace

from gateway.contracts import Middleware, Storage, Work
from gateway.errors import PictureTooLargeError, StorageDownError, StorageError
from gateway.job import Job
from gateway.storage_calls import get, put
from gateway.values import Image, Picture, PictureMeta

log = logging.getLogger(__name__)

STORE_TRIES = (0.0, 0.3, 1.5)
"""Seconds before each try to store a picture that was paid for."""
STORE_TIMEOUT = 40.0
"""Seconds that a job waits for a storage that hangs; the storages of ours have shorter limits of their own."""
NOT_STORED = "the picture was not stored: "
"""What begins the receipt's note of a picture that no storage has."""


async def store(work: Work, storage: Storage, job: Job) -> Work:
    """Store the pictures of *work*; one that cannot be stored goes on without a key, if it is of any use so."""
    work.tell("storing", {"count": len(work.images)})
    pictures: list[Picture] = []
    failure: StorageError | None = None
    for image in work.images:
        picture = Picture(meta_of(image, work), image.data, image.revised_prompt, image.seed)
        try:
            if isinstance(failure, StorageDownError):
                # Its tries are not for each of many: their caller waits, and all of them are tried again later.
                raise failure.copied()
            # Each picture may cost as much as the first: one that cannot be kept must not take the others along.
            picture = await _stored(picture, storage)
        except StorageError as error:
            failure = error
            log.warning("job %s: %s%s", job.id, NOT_STORED, error.message)
            work = work.noted(NOT_STORED + error.message)
            picture = _unstored(picture, error)
            if not (picture.planned or job.inline):
                continue
        pictures.append(picture)
    if failure and not pictures:
        failure.again = False
        raise failure
    if keys := [picture.meta.key for picture in pictures if picture.meta.key]:
        work.tell("stored", {"keys": keys})
    return replace(work, pictures=tuple(pictures))


async def store_again(work: Work, storage: Storage, middlewares: Iterable[Middleware]) -> Work:
    """Store what a middleware remembered and the storage has no more: under a new key, for the old one may have been
    deleted, here or by another process, and nobody gets back what was deleted."""
    pictures = [await _restored(picture, storage, middlewares) for picture in work.pictures]
    for picture in pictures:
        if isinstance(picture, Picture) and picture.trouble and not picture.meta.key:
            work = work.noted(NOT_STORED + picture.trouble)
    return replace(work, pictures=tuple(pictures))


def forget(middlewares: Iterable[Middleware], key: str, instead: Picture | None = None) -> None:
    """Tell the middlewares that remember pictures that the one under *key* is no more, or has become *instead*."""
    for middleware in middlewares:
        told = getattr(middleware, "forget", None)
        if told is None:
            continue
        try:
            told(key, instead)
        except Exception:
            log.exception("a middleware could not forget a picture")


async def _stored(picture: Picture, storage: Storage) -> Picture:
    """Store a paid picture; a storage that is down for a moment gets three chances."""
    ends = time.monotonic() + STORE_TIMEOUT
    *first, last = STORE_TRIES
    for pause in first:
        if pause:
            await asyncio.sleep(pause)
        try:
            return await _tried(picture, storage, ends)
        except StorageDownError:
            if time.monotonic() >= ends:
                raise
    await asyncio.sleep(last)
    return await _tried(picture, storage, ends)


async def _tried(picture: Picture, storage: Storage, ends: float) -> Picture:
    seconds = max(0.0, ends - time.monotonic())
    return replace(picture, meta=await put(storage, picture.meta, picture.data, seconds))


async def _restored(picture: Picture, storage: Storage, middlewares: Iterable[Middleware]) -> Picture:
    if not isinstance(picture, Picture) or not picture.data:
        return picture
    old = picture.meta.key
    try:
        if old and await get(storage, old):
            return picture
    except StorageError:
        # Nobody knows whether it is there; most probably it is.
        return picture
    meta = replace(picture.meta, key=_new_key(), created=time.time(), expires=None)
    picture = replace(picture, meta=meta, planned="", trouble="")
    try:
        picture = await _stored(picture, storage)
    except StorageError as error:
        log.warning("%s%s", NOT_STORED, error.message)
        return _unstored(picture, error)
    if old:
        forget(middlewares, old, picture)
    return picture


def _unstored(picture: Picture, error: StorageError) -> Picture:
    """Give a picture without a key; what is too large for the storage will never have one."""
    planned = "" if isinstance(error, PictureTooLargeError) else picture.meta.key
    return replace(picture, meta=replace(picture.meta, key=""), planned=planned, trouble=error.message)


def _new_key() -> str:
    return secrets.token_hex(20)


def meta_of(image: Image, work: Work) -> PictureMeta:
    details = {
        "prompt": work.request.prompt,
        "original": work.original,
        "revised_prompt": image.revised_prompt,
        "seed": image.seed,
        "job": work.job,
        "receipt": work.receipt.as_json(),
    }
    return PictureMeta(
        key=_new_key(),
        media_type=image.media_type,
        width=image.width,
        height=image.height,
        length=len(image.data),
        sha256="",
        created=time.time(),
        owner=work.caller.name,
        model=work.receipt.model,
        details=details,
    )
