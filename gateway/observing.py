"""Hands events to observers without ever slowing or breaking a job: bounded lines, faults logged once."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping

from gateway.contracts import Observer
from gateway.values import Event

log = logging.getLogger(__name__)

WAITING = 10_000
"""Events an observer may lag behind before it loses some."""
FEW = 100
"""The same for previews, which are large."""
AT_ONCE = 50
"""Events an observer gets before others have their turn, even if it never waits for anything."""
PAUSE = 0.02
"""Seconds that events gather before an observer is woken: one waking serves many events."""
LAST = 2.0
"""Seconds that observers get for what still waits at the end."""


class Observing:
    """One bounded line and one task per observer."""

    def __init__(self, observers: Mapping[str, Observer]) -> None:
        self._observers = observers
        self._lines: dict[str, deque[Event]] = {}
        self._woken = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._complained: set[tuple[str, str]] = set()
        self._ending = False

    def open(self) -> None:
        for name, observer in self._observers.items():
            self._lines[name] = deque()
            self._tasks[name] = asyncio.create_task(self._serve(name, observer))

    async def close(self) -> None:
        """Give observers a moment for what still waits, then stop them."""
        self._ending = True
        self._woken.set()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=LAST)
        for name, task in self._tasks.items():
            if not task.done():
                log.warning("observer %s did not keep up; some events are lost", name)
                task.cancel()
        if self._tasks:
            # Bounded as well: an observer that swallows its cancelling must not keep the gateway from ending.
            await asyncio.wait(self._tasks.values(), timeout=LAST)

    def event(self, event: Event) -> None:
        for name, line in self._lines.items():
            if len(line) < (FEW if event.type == "partial" else WAITING):
                line.append(event)
            else:
                self._complain(name, "does not keep up; events are lost")
        self._woken.set()

    async def _serve(self, name: str, observer: Observer) -> None:
        line = self._lines[name]
        while line or not self._ending:
            if not line:
                self._woken.clear()
                await self._woken.wait()
                await asyncio.sleep(0 if self._ending else PAUSE)
            for _ in range(min(len(line), AT_ONCE)):
                try:
                    await observer.observe(line.popleft())
                except Exception:  # noqa: BLE001  - logged once with the observer's name
                    self._complain(name, "failed", with_trace=True)
                except asyncio.CancelledError:
                    if self._tasks[name].cancelling():
                        raise
                    self._complain(name, "was cancelled by a fault of its own")
            if line:
                await asyncio.sleep(0)

    def _complain(self, name: str, what: str, *, with_trace: bool = False) -> None:
        if (name, what) not in self._complained:
            self._complained.add((name, what))
            log.warning("observer %s %s (told once)", name, what, exc_info=with_trace)
