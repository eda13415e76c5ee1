"""Tries what a configuration names: opens and closes each component; writes, reads and deletes in each storage."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, cast

from gateway.care import health_of, is_failing
from gateway.config import Configuration
from gateway.contracts import Storage
from gateway.errors import GatewayError, StorageError
from gateway.probing import probe
from gateway.state import Records, make_records

log = logging.getLogger(__name__)

PATIENCE = 15.0
"""Seconds that each component has to open, to be tried and to close; all are tried at once."""


async def complaints(configuration: Configuration, patience: float = PATIENCE) -> list[str]:
    """Say of everything that cannot be reached or refuses what it met, in the order of the file."""
    visits = [_visit(*each, patience) for each in _components(configuration)]
    said = await asyncio.gather(*visits, _visit_records(configuration.settings.jobs.state, patience))
    return [line for line in said if line]


def _components(configuration: Configuration) -> Iterator[tuple[str, object, bool]]:
    for kind, components in configuration.components.items():
        for name, component in components.items():
            # What is made of tiers can do what these can.
            tried = kind == "storages" and not hasattr(component, "tiers")
            yield f"{kind}.{name} ({configuration.uses[kind][name]})", component, tried


async def _visit(name: str, component: object, tried: bool, patience: float) -> str:
    """Open, try and close one component in one task, since it may open what only the same task can close."""
    try:
        async with asyncio.timeout(3 * patience):
            if not hasattr(component, "__aenter__"):
                await _try(component, tried, patience)
                return ""
            async with asyncio.timeout(patience):
                opened = cast("AbstractAsyncContextManager[Any]", component)
                await opened.__aenter__()
            try:
                await _try(component, tried, patience)
            finally:
                await opened.__aexit__(None, None, None)
    except Exception as error:  # noqa: BLE001  - whatever ails one must not hide what ails the others
        return f"{name}: {_words(error, patience)}"
    return ""


async def _try(component: object, tried: bool, patience: float) -> None:
    health = health_of(component)
    if tried and is_failing(health):
        # What it met at its opening is reason enough; some stores even make the bucket that one writes to.
        raise StorageError(str(health.get("reason", health["status"])))
    if tried:
        async with asyncio.timeout(patience):
            await probe(cast("Storage", component))


async def _visit_records(state: Path | str | None, patience: float) -> str:
    records: Records | None = None
    try:
        async with asyncio.timeout(patience):
            if records := make_records(state):
                await records.open()
                await records.all()
                # It has expired when it is written.
                await records.put("check", "", time.time())
    except Exception as error:  # noqa: BLE001  - as above
        words = _words(error, patience)
        return words if words.startswith("jobs.state") else f"jobs.state: {words}"
    finally:
        if records:
            await records.close()
    return ""


def _words(error: Exception, patience: float) -> str:
    """Give an error in words; those of libraries may hold a password, and are not shown."""
    if isinstance(error, GatewayError):
        return error.message
    if isinstance(error, TimeoutError):
        return f"does not answer within {patience:g} s"
    log.debug("while it was tried", exc_info=error)
    return reason(error)


def reason(error: BaseException) -> str:
    """Say why something failed, without the words of libraries: those may hold a password."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
    return f"fails with {type(error).__name__}"
