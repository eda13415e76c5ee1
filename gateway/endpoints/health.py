"""``GET /health`` and ``/v1/health``: alive, and whether it takes work; asks nothing outside and costs nothing."""

from __future__ import annotations

from aiohttp import web

from gateway.endpoints.answers import json_response
from gateway.runtime import RUNTIME


async def health(request: web.Request) -> web.Response:
    """Answer 200 with ``ok``, or ``degraded`` while a storage fails or a backend has no usable key; and 503 while
    shutting down, so that load balancers look elsewhere."""
    runtime = request.app[RUNTIME]
    return json_response(
        runtime.health(), status=503 if runtime.jobs.draining else 200, headers={"Cache-Control": "no-store"}
    )
