"""How long a caller says that they will wait: what nobody waits for any more need not be paid for."""

from __future__ import annotations

import re

from aiohttp import web

from gateway.errors import RequestError
from gateway.job import Job
from gateway.options import parse_duration

TIMEOUT = "X-Request-Timeout"
ENVOY_TIMEOUT = "X-Envoy-Expected-Rq-Timeout-Ms"
"""What Envoy adds by itself: after so many milliseconds it answers a 504 of its own."""
WRITTEN = r"[0-9]{1,6}(?:\.[0-9]{1,3})?(?:ms|s|m|h)?"


def read_patience(request: web.Request) -> float | None:
    """Read the seconds that the caller will wait for a job to begin, None without such a header; of two the shorter.

    Raise `RequestError` for what is no time.
    """
    headers = request.headers
    if TIMEOUT not in headers and ENVOY_TIMEOUT not in headers:
        return None
    return min(_seconds(name, text) for name in (TIMEOUT, ENVOY_TIMEOUT) for text in headers.getall(name, ()))


def patience_for(request: web.Request, job: Job) -> float | None:
    """Give the seconds that the caller waits for this job; None if it is one to come back for."""
    return read_patience(request) if job.attached else None


def _seconds(name: str, text: str) -> float:
    milliseconds = name == ENVOY_TIMEOUT
    form, kind = (r"[0-9]{1,9}", "whole milliseconds") if milliseconds else (WRITTEN, "seconds, like 20, 1.5 or 500ms")
    seconds = parse_duration(text + "ms" * milliseconds) if re.fullmatch(form, text) else 0
    if not seconds:
        raise RequestError(f"{name} is {text[:40]!r}; it takes {kind}, more than 0", param=name)
    return seconds
