"""The log never waits for its reader, be it a pipe, a terminal or nobody."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import pty
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TextIO

import pytest

from gateway.log_lines import ReadyHandler, make_handler


def line(text: str) -> logging.LogRecord:
    return logging.LogRecord("gateway", logging.INFO, "f", 1, text, (), None)


@pytest.fixture(params=["pipe", "terminal"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, TextIO]]:
    """The end that is read, as a descriptor that does not wait, and the end that is written to."""
    reading, writing = os.pipe() if request.param == "pipe" else pty.openpty()
    os.set_blocking(reading, False)
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
    os.close(reading)


@pytest.mark.timeout(20)
def test_a_reader_that_stalls_holds_nobody_up(ends: tuple[int, TextIO]) -> None:
    """What it does not take is counted, and told when it reads again."""
    reading, stream = ends
    handler = make_handler(stream)
    for number in range(2000):
        handler.emit(line(f"{number} " + "x" * 200))
    read = b""
    with suppress(BlockingIOError):
        while True:
            read += os.read(reading, 65536)
    told = ""
    while not told.rstrip().endswith("here again"):
        # A terminal hands on what is written to it a moment later.
        handler.emit(line("here again"))
        time.sleep(0.01)
        with suppress(BlockingIOError):
            told += os.read(reading, 65536).decode()

    assert read.startswith(b"0 xxx")
    assert "lines of the log are missing: nobody was reading" in told
    assert not fcntl.fcntl(stream, fcntl.F_GETFL) & os.O_NONBLOCK


def test_a_reader_who_has_gone_harms_nobody() -> None:
    """The lines go nowhere."""
    reading, writing = os.pipe()
    handler = ReadyHandler(writing)
    os.close(reading)
    for _ in range(3):
        handler.emit(line("x"))
    os.close(writing)


def test_what_is_no_file_is_written_as_ever() -> None:
    """A text of the tests, or no stream at all."""
    stream = io.StringIO()
    make_handler(stream).emit(line("hello"))
    make_handler(None).emit(line("hello"))

    assert stream.getvalue() == "hello\n"


def test_letters_that_cannot_be_written_lose_no_line() -> None:
    """Half a letter of a plugin's is told by its number."""
    reading, writing = os.pipe()
    ReadyHandler(writing).emit(line("half \ud83d"))
    read = os.read(reading, 100)
    for end in (reading, writing):
        os.close(end)

    assert read == b"half \\ud83d\n"
