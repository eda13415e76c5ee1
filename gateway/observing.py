"""Hands events to observers without ever slowing or breaking a job: bounded queues, faults logged once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from gateway.contracts import Observer
from gateway.values import Event

log = logging.getLogger(__name__)

QUEUE = 1000
"""Events an observer may lag behind before it loses some."""


class Observing:
    """One bounded queue and one task per observer."""

    def __init__(self, observers: Mapping[str, Observer]) -> None:
        self._observers = observers
        self._queues: dict[str, asyncio.Queue[Event]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._complained: set[str] = set()

    def open(self) -> None:
        for name, observer in self._observers.items():
            self._queues[name] = asyncio.Queue(QUEUE)
            self._tasks.append(asyncio.create_task(self._serve(name, observer)))

    async def close(self) -> None:
        """Give observers two seconds for what is queued, then stop them."""
        for queue in self._queues.values():
            try:
                async with asyncio.timeout(2):
                    await queue.join()
            except TimeoutError:
                log.warning("an observer did not keep up; some events are lost")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def event(self, event: Event) -> None:
        for name, queue in self._queues.items():
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._complain(name, "does not keep up; events are lost")

    async def _serve(self, name: str, observer: Observer) -> None:
        queue = self._queues[name]
        while True:
            event = await queue.get()
            try:
                await observer.observe(event)
            except Exception:  # noqa: BLE001  - logged once with the observer's name
                self._complain(name, "failed", with_trace=True)
            finally:
                queue.task_done()

    def _complain(self, name: str, what: str, *, with_trace: bool = False) -> None:
        if name not in self._complained:
            self._complained.add(name)
            log.warning("observer %s %s (told once)", name, what, exc_info=with_trace)
