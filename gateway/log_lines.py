"""Writes the log without ever waiting for whoever reads it: a reader that stalls must not stop the gateway."""

from __future__ import annotations

import logging
import os
import select
from contextlib import suppress
from typing import TextIO

PIECE = 4096
"""Bytes that a pipe which is ready takes at once (PIPE_BUF on Linux)."""


class ReadyHandler(logging.Handler):
    """Writes lines to *descriptor* while it is ready for them; those that it is not ready for are counted, not kept."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  - as the library does: a line that cannot be written harms nobody
            self.handleError(record)
            return
        if self._lost and self._write(f"{self._lost} lines of the log are missing: nobody was reading\n"):
            self._lost = 0
        if self._lost or not self._write(f"{line}\n"):
            self._lost += 1

    def _write(self, text: str) -> bool:
        rest = text.encode("utf-8", "backslashreplace")
        try:
            while rest:
                if not any(event & select.POLLOUT for _, event in self._poll.poll(0)):
                    return False
                rest = rest[os.write(self._descriptor, rest[:PIECE]) :]
        except OSError:
            # The reader has gone, or the disk is full.
            return False
        return True


def make_handler(stream: TextIO | None) -> logging.Handler:
    """Give the handler for *stream*: one that never waits if it is a file of the system, else the usual one."""
    try:
        return ReadyHandler(_own(stream.fileno())) if stream else logging.NullHandler()
    except (OSError, AttributeError):
        return logging.StreamHandler(stream)


def _own(descriptor: int) -> int:
    """Open a terminal once more, so that writing to it does not wait: it is ready for a byte, and not for a line.

    The descriptor that is there is shared with the shell, whose own writing must go on waiting.
    """
    if os.isatty(descriptor):
        with suppress(OSError):
            return os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    return descriptor
