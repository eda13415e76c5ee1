"""Tells in the log who holds the event loop up: a plugin that blocks it stops every request at once."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from types import FrameType

log = logging.getLogger(__name__)

LIMIT = 1.0
"""Seconds without a turn of the loop after which its stack is written down."""


class Watchdog:
    """Looks from a thread of its own whether the loop still turns; *plugins* names plugins by their modules."""

    def __init__(self, plugins: Mapping[str, str], limit: float | None = None) -> None:
        self._plugins = plugins
        self._limit = limit or LIMIT
        self._ended = threading.Event()
        self._turned = time.monotonic()
        self._told = False

    def __enter__(self) -> Watchdog:
        """Watch the running loop; call from it."""
        thread = threading.get_ident()
        self._turned = time.monotonic()
        self._thread = threading.Thread(
            target=self._watch, args=(asyncio.get_running_loop(), thread), name="watchdog", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        while not self._ended.wait(self._limit / 4):
            late = time.monotonic() - self._turned
            if late < self._limit:
                self._told = False
            elif not self._told:
                self._told = True
                self._tell(late, sys._current_frames().get(thread))
            try:
                loop.call_soon_threadsafe(self._turn)
            except RuntimeError:
                return  # the loop is closed

    def _turn(self) -> None:
        self._turned = time.monotonic()

    def _tell(self, late: float, frame: FrameType | None) -> None:
        """Write the stack without any value: file, line and function of each frame."""
        stack = traceback.extract_stack(frame) if frame else []
        names = [self._plugins[module] for module in _modules(frame) if module in self._plugins]
        who = f"the plugin {names[0]!r}" if names else "something"
        where = " < ".join(f"{each.name} ({each.filename}:{each.lineno})" for each in reversed(stack[-8:]))
        log.error("%s blocks the event loop for %.1f s now, and every request with it: %s", who, late, where)


def _modules(frame: FrameType | None) -> list[str]:
    """List the modules of a stack, the innermost first."""
    modules = []
    while frame is not None:
        modules.append(str(frame.f_globals.get("__name__", "")))
        frame = frame.f_back
    return modules
