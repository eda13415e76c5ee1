"""One request being served, from its first event to its result; knows no HTTP."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Any

from gateway.errors import GatewayError
from gateway.values import Caller, Event, ImageRequest, Picture, Result

FINISHED = {"finished", "failed", "cancelled"}
RECORD_TIMEOUT = 2.0
"""Seconds that an answer waits for the job's record; a slow disk must not hold it up for longer."""


class Job:
    """One request being served. *sent* is True once a paid call may have gone out: then it is finished, not cancelled.

    *left* is when the last client that waited for it went without its answer, *asked* when one was given it once more,
    *settled* says that one who was told of its failure has a new job. *untold* marks a failure that no client has heard
    of. *words* are the optimized prompt and who wrote it. *inline* says that the caller takes the bytes themselves, so
    that a failing storage need not fail the job.
    """

    __slots__ = (
        "_dismissed",
        "_enders",
        "_watchers",
        "aside",
        "asked",
        "attached",
        "caller",
        "created",
        "ended",
        "error",
        "events",
        "fingerprint",
        "hurry",
        "id",
        "inline",
        "kept",
        "key",
        "left",
        "on_aside",
        "on_back",
        "on_event",
        "on_sent",
        "on_waiting",
        "original",
        "readers",
        "request",
        "result",
        "sent",
        "settled",
        "started",
        "state",
        "task",
        "timer",
        "untold",
        "webhook",
        "words",
    )

    def __init__(self, request: ImageRequest, caller: Caller, original: str, on_event: Callable[[Event], None]) -> None:
        self.id = f"job_{secrets.token_hex(12)}"
        self.request = request
        self.caller = caller
        self.original = original
        self.created = time.time()
        self.started: float | None = None
        self.ended: float | None = None
        self.state = "queued"
        self.sent = False
        self.aside = False
        self.inline = False
        self.attached = True
        self.events: list[Event] = []
        self.result: Result | None = None
        self.error: GatewayError | None = None
        self.fingerprint = ""
        self.key: str | None = None
        self.kept: asyncio.Task[None] | None = None
        self.on_event = on_event
        self.on_sent: Callable[[Job], None] = lambda job: None
        self.on_aside: Callable[[Job], None] = lambda job: None
        self.on_back: Callable[[Job], Awaitable[None]] | None = None
        self.on_waiting: Callable[[Job], AbstractContextManager[None]] = lambda job: nullcontext()
        self.webhook: str | None = None
        self.words: tuple[str, str] | None = None
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.hurry: Callable[[], bool] | None = None
        self.readers = 0
        self.left: float | None = None
        self.asked = 0.0
        self.settled = False
        self.untold = False
        self._watchers: list[asyncio.Future[None]] = []
        self._enders: list[asyncio.Future[None]] = []
        self._dismissed: dict[asyncio.Task[Any], GatewayError] | None = None

    @property
    def done(self) -> bool:
        return self.state in FINISHED

    @property
    def watched(self) -> bool:
        return bool(self._watchers)

    @property
    def has_lost(self) -> bool:
        """Say whether a picture of it is nowhere any more."""
        pictures = self.result.pictures if self.result else ()
        return any(not (picture.meta.key or picture.data or picture.waits) for picture in pictures)

    def tell(self, kind: str, data: Mapping[str, Any]) -> None:
        """Record an event and wake whoever watches; after its end a job has nothing more to tell."""
        if self.done and kind not in FINISHED:
            return
        event = Event(self.id, len(self.events) + 1, kind, time.time(), data)
        self.events.append(event)
        self.on_event(event)
        self._wake()

    def sending(self) -> None:
        """Note that from now on the job may have been paid for."""
        if not self.sent:
            self.sent = True
            self.on_sent(self)

    def step_aside(self) -> None:
        """Free the place among the running jobs while a backend has none."""
        self.on_aside(self)

    async def step_back(self) -> None:
        """Wait for a place among the running jobs again."""
        if self.on_back:
            await self.on_back(self)

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Hold no place among the running jobs while this one waits for another; raise `BusyError` if too many do."""
        with self.on_waiting(self):
            self.step_aside()
            try:
                yield
            except Exception:
                await self.step_back()
                raise
        await self.step_back()

    def dismiss(self, reader: asyncio.Task[Any], error: GatewayError) -> None:
        """Have one reader raise *error* instead of waiting on, unless something is sent first; others are not told."""
        self._dismissed = {**(self._dismissed or {}), reader: error}
        _release(self._watchers)
        _release(self._enders)

    def forget_reader(self, reader: asyncio.Task[Any]) -> None:
        """Forget that a reader was dismissed."""
        if self._dismissed:
            self._dismissed.pop(reader, None)

    def _refuse_dismissed(self) -> None:
        if self._dismissed and not self.sent:
            reader = asyncio.current_task()
            if reader in self._dismissed:
                raise self._dismissed[reader].copied()

    def _wake(self) -> None:
        if self._watchers:
            _release(self._watchers)
        if self._enders and self.done:
            _release(self._enders)

    async def watch(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield every event with a sequence above *after*, in order, until the job has ended."""
        after = min(after, len(self.events))
        while True:
            while after < len(self.events):
                event = self.events[after]
                after += 1
                yield event
            if self.done:
                return
            self._refuse_dismissed()
            await _woken(self._watchers)

    async def begin(self, seconds: float) -> None:
        """Wait until the job waits in line or does its first real step; raise its error if it fails before.

        What refuses a job at once (limits, blocked words) can so be told with a status, before a stream begins.
        """
        try:
            async with asyncio.timeout(seconds):
                while self.state == "running" and len(self.events) == 1:
                    self._refuse_dismissed()
                    await _woken(self._watchers)
        except TimeoutError:
            return
        if self.error:
            raise self.error.copied() from None

    async def wait(self) -> Result:
        """Wait for the end, and until it is on record; give the result or raise the job's error."""
        await self.ends()
        if self.error:
            raise self.error.copied() from None
        assert self.result is not None
        return self.result

    async def ends(self, seconds: float = 0) -> bool:
        """Wait for the end, and until it is on record; False if it has not come after *seconds* (0: however long)."""
        over = time.monotonic() + seconds
        while not self.done:
            left = over - time.monotonic() if seconds else 0
            if seconds and left <= 0:
                return False
            self._refuse_dismissed()
            await _woken(self._enders, left)
        if self.kept and not self.kept.done():
            # Told too early, a caller could come again after a crash and find nothing of what it has paid for.
            await asyncio.wait({self.kept}, timeout=RECORD_TIMEOUT)
        return self.done

    def forget_bytes(self, *, all_of_them: bool = False) -> int:
        """Let go of pixels that only waiting callers needed; tell how many bytes remain because no storage has them."""
        if self.result:
            self.result = without_bytes(self.result, all_of_them=all_of_them)
        self.request = replace(self.request, images=(), mask=None) if self.request.images else self.request
        for place, event in enumerate(self.events):
            if event.type == "partial" and "image" in event.data:
                self.events[place] = replace(event, data={k: v for k, v in event.data.items() if k != "image"})
        return sum(len(picture.data) for picture in self.result.pictures) if self.result else 0


def without_bytes(result: Result, *, all_of_them: bool = True) -> Result:
    """Give the same result without its pixels, or at least without those that a storage has."""
    if not any(picture.data for picture in result.pictures):
        return result
    pictures = [replace(one, data=b"") if all_of_them or one.meta.key else one for one in result.pictures]
    return replace(result, pictures=tuple(pictures))


def changed(result: Result, key: str, /, **changes: Any) -> Result:
    """Give the same result with *changes* to the picture whose planned key is *key*."""
    pictures = (replace(one, **changes) if one.planned == key else one for one in result.pictures)
    return replace(result, pictures=tuple(pictures))


def deleted(picture: Picture, key: str) -> Picture:
    """Give what is left of a picture that was deleted under *key*: it has expired, and has no bytes."""
    meta = replace(picture.meta, key=key, expires=time.time())
    return replace(picture, meta=meta, data=b"", planned="", trouble="", spooled=False)


async def _woken(waiters: list[asyncio.Future[None]], seconds: float = 0) -> None:
    """Wait among *waiters* until they are released, or until *seconds* (0: any number) are over."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    waiters.append(waiter)
    timer = loop.call_later(seconds, _let_go, waiter) if seconds else None
    try:
        await waiter
    finally:
        if timer:
            timer.cancel()
        if waiter in waiters:
            waiters.remove(waiter)


def _release(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        _let_go(waiter)
    waiters.clear()


def _let_go(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
