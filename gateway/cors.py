"""Cross-origin rules for every route: aiohttp-cors, and what it leaves out (404, 405, Vary, plain OPTIONS)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import aiohttp_cors
from aiohttp import hdrs, web

from gateway.settings import Server

EXPOSED = (
    "x-request-id, retry-after, location, x-should-retry, x-ratelimit-limit-requests, "
    "x-ratelimit-remaining-requests, x-ratelimit-reset-requests, etag, content-disposition"
)
METHODS = "GET, POST, DELETE, HEAD, OPTIONS"
MAX_AGE = 86_400
PRIVATE_NETWORK_ASKED = "Access-Control-Request-Private-Network"


def make_cors(app: web.Application, server: Server) -> aiohttp_cors.CorsConfig:
    """Allow the configured origins on every route that is added to the returned object."""
    rules = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]  # the library has no annotations
        allow_credentials=False,
        expose_headers=[name.strip() for name in EXPOSED.split(",")],
        allow_headers="*",
        max_age=MAX_AGE,
        allow_methods=METHODS.split(", "),
    )
    app.on_response_prepare.append(_make_room)
    cors = aiohttp_cors.setup(app, defaults=dict.fromkeys(server.origins, rules))
    app.on_response_prepare.append(_filling_in(frozenset(server.origins)))
    return cors


def is_preflight(request: web.Request) -> bool:
    return request.method == "OPTIONS" and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers


def plain_options(request: web.Request) -> web.Response:
    """Answer an OPTIONS that aiohttp-cors would refuse: no preflight header, or a path without a route."""
    wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS)
    headers = {
        hdrs.ALLOW: _methods_at(request),
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: METHODS,
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: wanted or "authorization, content-type",
    }
    if is_preflight(request):
        headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(MAX_AGE)
    return web.Response(status=204, headers=headers)


def _methods_at(request: web.Request) -> str:
    """Name the methods of a path, or all there are for a path that is nobody's."""
    refused, resource = request.match_info.http_exception, request.match_info.route.resource
    known = set(refused.allowed_methods) if isinstance(refused, web.HTTPMethodNotAllowed) else set()
    known = known or {route.method for route in resource or ()}
    return METHODS if not known or hdrs.METH_ANY in known else ", ".join(sorted(known | {hdrs.METH_OPTIONS}))


async def _make_room(request: web.Request, response: web.StreamResponse) -> None:
    """Take away what a plugin's handler set itself: aiohttp-cors would drop the connection over it."""
    response.headers.popall(hdrs.ACCESS_CONTROL_ALLOW_ORIGIN, None) if not is_preflight(request) else None


def _filling_in(origins: frozenset[str]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    anyone = "*" in origins

    async def fill_in(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        vary = headers.get(hdrs.VARY)
        headers[hdrs.VARY] = f"{vary}, Origin" if vary else "Origin"
        origin = request.headers.get(hdrs.ORIGIN)
        if not origin and anyone:
            # A cache in between may keep this answer for a web page; Worker A said so to everybody, too.
            headers.setdefault(hdrs.ACCESS_CONTROL_ALLOW_ORIGIN, "*")
            return
        if not origin or (origin not in origins and not anyone):
            headers.popall(hdrs.ACCESS_CONTROL_ALLOW_HEADERS, None)
            headers.popall(hdrs.ACCESS_CONTROL_ALLOW_METHODS, None)
            return
        if hdrs.ACCESS_CONTROL_ALLOW_ORIGIN not in headers:
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED
        if is_preflight(request) and request.headers.get(PRIVATE_NETWORK_ASKED) == "true":
            headers["Access-Control-Allow-Private-Network"] = "true"

    return fill_in
