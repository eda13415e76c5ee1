"""What a storage is asked, in bounded time; whatever ails it is raised as a `StorageError` kind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec

from gateway.contracts import Storage
from gateway.deadline import is_stopped, within
from gateway.errors import PluginError, StorageDownError, StorageError
from gateway.values import PictureMeta, StoredPicture

log = logging.getLogger(__name__)

LOOK_TIMEOUT = 60.0
"""Seconds after which a storage that is asked for a picture is passed over; those of ours have shorter limits."""
LATE_TIMEOUT = 120.0
"""Seconds that a storage has for a picture when nobody waits any more."""

P = ParamSpec("P")


async def put(storage: Storage, meta: PictureMeta, data: bytes, seconds: float = LATE_TIMEOUT) -> PictureMeta:
    """Try once to store a picture."""
    kept = await _asked(seconds, storage.put, meta, data)
    if not isinstance(kept, PictureMeta):
        raise _broken(kept, PictureMeta)
    return kept


async def get(storage: Storage, key: str) -> StoredPicture | None:
    """Find a picture; None if the storage has it not."""
    found = await _asked(LOOK_TIMEOUT, storage.get, key)
    if found is not None and not isinstance(found, StoredPicture):
        raise _broken(found, StoredPicture)
    return found


async def delete(storage: Storage, key: str) -> bool:
    """Forget a picture; False if the storage had none."""
    return bool(await _asked(LOOK_TIMEOUT, storage.delete, key))


async def _asked(seconds: float, ask: Callable[P, Awaitable[Any]], *args: P.args, **kwargs: P.kwargs) -> Any:
    try:
        return await within(seconds, ask(*args, **kwargs))
    except StorageError:
        raise
    except TimeoutError:
        raise StorageDownError("the storage took too long", retry_after=2) from None
    except asyncio.CancelledError as error:
        if is_stopped():
            raise
        log.error("the storage was cancelled by a fault of its own")
        raise StorageError("the storage was cancelled by a fault of its own; see the gateway's log") from error
    except Exception as error:
        log.exception("the storage failed")
        raise StorageError("the storage failed by a fault of its own; see the gateway's log") from error


def _broken(given: object, wanted: type) -> StorageError:
    log.error("the storage returned %s instead of a %s", type(given).__name__, wanted.__name__)
    return StorageError("the storage broke its contract; see the gateway's log", code=PluginError.code)
