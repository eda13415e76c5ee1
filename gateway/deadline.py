"""What bounds a plugin in time: a deadline that costs nothing for what never waits, and whose cancelling it was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from dataclasses import dataclass
from types import CoroutineType
from typing import Any, TypeVar

T = TypeVar("T")


def is_stopped() -> bool:
    """Say whether the current task was told to stop; a `CancelledError` without that is a plugin's own fault."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Await *work* for at most *seconds*; raise `TimeoutError` after them.

    Most components that may wait for a network do not: a key is looked up, a picture is put into memory. So *work*
    runs to where it first waits, and only then a timer is started.
    """
    if not isinstance(work, CoroutineType):
        async with asyncio.timeout(seconds):
            return await work
    try:
        waits_for = work.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    async with asyncio.timeout(seconds):
        later: T = await _Begun(work, waits_for)
        return later


@dataclass(slots=True)
class _Begun:
    """A coroutine that has been started by hand and waits for something."""

    work: CoroutineType[Any, Any, Any]
    waits_for: Any

    def __await__(self) -> Generator[Any, Any, Any]:
        waits_for = self.waits_for
        try:
            while True:
                try:
                    answer = yield waits_for
                except BaseException as error:  # noqa: BLE001  - all of it is the coroutine's business
                    waits_for = self.work.throw(error)
                else:
                    waits_for = self.work.send(answer)
        except StopIteration as end:
            return end.value
