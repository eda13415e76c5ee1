"""How long a caller says that they will wait: what nobody waits for any more need not be paid for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.endpoints.fields import bool_field
from gateway.errors import RequestError
from gateway.job import Job
from gateway.options import parse_duration

TIMEOUT = "X-Request-Timeout"
ENVOY_TIMEOUT = "X-Envoy-Expected-Rq-Timeout-Ms"
"""What Envoy adds by itself: after so many milliseconds it answers a 504 of its own."""
RESPOND_ASYNC = re.compile(r"(?i)(?:^|[,;\s])respond-async(?:$|[,;\s])")
WAIT = re.compile(r"(?i)(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})")
MOST_PATIENCE = 50.0
"""Seconds for which one who would come back waits first, where no ``keep_alive`` bounds it."""
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


def wants_async(request: web.Request, body: Mapping[str, Any]) -> bool:
    """Say whether the caller wants to come back later: ``"async": true`` or ``Prefer: respond-async``."""
    return bool_field(body, "async") or bool(RESPOND_ASYNC.search(_preferred(request)))


def preferred_wait(request: web.Request, most: float) -> float:
    """Give the seconds that a caller who would come back waits for the answer itself first (RFC 7240 ``wait``)."""
    found = WAIT.search(_preferred(request))
    return min(float(found[1]), most or MOST_PATIENCE) if found else 0.0


def _preferred(request: web.Request) -> str:
    """Give all lines of Prefer as the one list that they are (RFC 7240)."""
    return ", ".join(request.headers.getall("Prefer", ()))


def _seconds(name: str, text: str) -> float:
    milliseconds = name == ENVOY_TIMEOUT
    form, kind = (r"[0-9]{1,9}", "whole milliseconds") if milliseconds else (WRITTEN, "seconds, like 20, 1.5 or 500ms")
    seconds = parse_duration(text + "ms" * milliseconds) if re.fullmatch(form, text) else 0
    if not seconds:
        raise RequestError(f"{name} is {text[:40]!r}; it takes {kind}, more than 0", param=name)
    return seconds
