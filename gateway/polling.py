"""Waiting for a job at an upstream that answers "later": ask again and again, give up in time, cancel what is left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

from gateway.errors import (
    BrokenAnswerError,
    BusyUpstreamError,
    GatewayError,
    MisconfiguredError,
    RateLimitedError,
    UnreachableError,
    UpstreamError,
    UpstreamTimeoutError,
)

Found = TypeVar("Found")

PASSING = (
    BrokenAnswerError,
    BusyUpstreamError,
    MisconfiguredError,
    RateLimitedError,
    UnreachableError,
    UpstreamTimeoutError,
)
"""What a question about a running job may meet without the job being lost: a server that has not heard of the job yet
answers 404."""

LONGEST = 15.0
"""Seconds between two questions while they fail, at most, whatever is asked for; each failure doubles the pause."""
GOODBYE = 5.0
"""Seconds that cancelling upstream may take; nobody waits for it longer."""


async def poll(
    check: Callable[[], Awaitable[Found | None]],
    *,
    every: float,
    deadline: float,
    cancel: Callable[[], Awaitable[object]] | None = None,
    wake: asyncio.Event | None = None,
    patience: int = 5,
) -> Found:
    """Call *check* every *every* seconds until it gives something other than None, and return that.

    After *deadline* seconds `UpstreamTimeoutError` is raised. When it, a cancellation or an error ends the waiting,
    *cancel* is called, once and briefly, so that nothing goes on running (and costing) for nobody. *wake* ends a
    pause early. *patience* calls in a row may fail in passing ways (busy, unreachable, garbled, 404): the paid job
    goes on meanwhile. No error that leaves here allows a second paid job by itself.
    """
    try:
        async with asyncio.timeout(deadline) as limit:
            return await _ask(check, every, wake, patience)
    except TimeoutError as error:
        await _give_up(cancel)
        if not limit.expired():
            raise
        raise UpstreamTimeoutError(f"the job was not done after {deadline:g} s and was given up") from error
    except UpstreamError as error:
        await _give_up(cancel)
        error.sent, error.retryable, error.billed = True, False, None  # the job was submitted, whatever became of it
        raise
    except (asyncio.CancelledError, GatewayError):
        await _give_up(cancel)
        raise


def may_follow(url: object, base_url: str, domain: str) -> bool:
    """Say whether a *url* that an upstream gave may be called with its key.

    It must be at *base_url*'s own origin, or reached by https at *domain* (if not empty) or below it.
    """
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or "\\" in url:
        return False
    try:
        place, home = urlsplit(url), urlsplit(base_url)
        below = bool(domain) and f".{place.hostname}".endswith(f".{domain}")
        theirs = below and place.scheme == "https" and place.port in (None, 443)
        same = (place.scheme, place.hostname, place.port) == (home.scheme, home.hostname, home.port)
    except ValueError:
        return False
    return (theirs or same) and "@" not in place.netloc


async def _ask(
    check: Callable[[], Awaitable[Found | None]], every: float, wake: asyncio.Event | None, patience: int
) -> Found:
    failures, left_alone = 0, 0.0
    while True:
        pause = every
        try:
            found = await check()
            failures = 0
        except PASSING as error:
            now = asyncio.get_running_loop().time()
            # What asks to be left alone for longer than anybody waits here has not failed again until then.
            failures += now >= left_alone
            if failures > patience:
                raise
            left_alone = max(left_alone, now + (error.retry_after or 0))
            wanted = max(every * 2 ** (failures - 1), error.retry_after or 0)
            found, pause = None, max(min(wanted, LONGEST), every)
        if found is not None:
            return found
        await _sleep(pause, wake)


async def _sleep(seconds: float, wake: asyncio.Event | None) -> None:
    if wake is None:
        await asyncio.sleep(seconds)
        return
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(wake.wait(), seconds)
    wake.clear()


async def _give_up(cancel: Callable[[], Awaitable[object]] | None) -> None:
    if cancel is None:
        return
    with contextlib.suppress(GatewayError, TimeoutError):
        async with asyncio.timeout(GOODBYE):
            await cancel()
