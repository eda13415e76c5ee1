"""Asks components how they are, and looks after the storages while the gateway runs."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from gateway.contracts import Storage
from gateway.deadline import is_stopped
from gateway.errors import StorageError
from gateway.probing import probe

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two looks at the storages."""
PROBE_TIMEOUT = 60.0


async def care(storages: Mapping[str, Storage], tidy: Callable[[], None], every: float = EVERY) -> None:
    """Care for all storages again and again, until cancelled; none's trouble keeps the others from their turn.

    *tidy* does the same for what is kept of their pictures in memory.
    """
    while True:
        await asyncio.sleep(every)
        tidy()
        for name, storage in storages.items():
            try:
                await care_for(storage)
            except StorageError as error:
                log.warning("the storage %s could not be swept: %s", name, error.message)
            except asyncio.CancelledError:
                if is_stopped():
                    raise
                log.error("sweeping the storage %s was cancelled by a fault of its own", name)
            except Exception:
                log.exception("sweeping the storage %s failed", name)


async def care_for(storage: Storage) -> None:
    """Sweep a storage, and try one that was in trouble, so that health hears of its recovery though nobody calls."""
    try:
        await storage.sweep()
    finally:
        # What is made of tiers is as well as these are.
        if is_failing(health_of(storage)) and not hasattr(storage, "tiers"):
            async with asyncio.timeout(PROBE_TIMEOUT):
                await probe(storage)


def health_of(component: object) -> Any:
    """Ask a component for its health, if it tells any; this waits for nothing, and gives what JSON can tell."""
    try:
        health = getattr(component, "health", None)
        found = health() if callable(health) else {}
        if inspect.iscoroutine(found):
            found.close()
            raise TypeError("it must not be async")
        orjson.dumps(found)
    except Exception as error:  # noqa: BLE001  - a plugin's fault must not take the gateway from its load balancer
        return {"status": "unknown", "reason": f"its health cannot be told: {type(error).__name__}"}
    return found


def is_failing(health: Any) -> bool:
    """Say whether a storage's health tells of trouble."""
    return isinstance(health, Mapping) and health.get("status", "ok") != "ok"


def is_out_of_keys(health: Any) -> bool:
    """Say whether a backend has keys, and none that can be used now."""
    return isinstance(health, Mapping) and bool(health.get("keys")) and not health.get("usable", True)
