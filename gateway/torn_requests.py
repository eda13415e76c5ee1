"""Keeps torn requests out of the log: aiohttp would write down their bytes, keys included, with a traceback each."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

SERVER = logging.getLogger("aiohttp.server")


class TornRequests(logging.Filter):
    """Leaves of a parser's complaint one line at INFO that names its kind alone."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, (HttpProcessingError, RequestPayloadError)):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "a torn request was refused: %s", (type(error).__name__,)
            record.exc_info = record.exc_text = None
        return True


@contextmanager
def unwritten_requests() -> Iterator[None]:
    """Filter the server's log while the gateway runs."""
    torn = TornRequests()
    SERVER.addFilter(torn)
    try:
        yield
    finally:
        SERVER.removeFilter(torn)
