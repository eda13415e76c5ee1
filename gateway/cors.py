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

Prepare = Callable[[web.Request, web.StreamResponse], Awaitable[object]]


def make_cors(app: web.Application, server: Server) -> aiohttp_cors.CorsConfig:
    """Allow the configured origins on every route that is added to the returned object."""
    rules = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]  # the library has no annotations
        allow_credentials=False,
        expose_headers=[name.strip() for name in EXPOSED.split(",")],
        allow_headers="*",
        max_age=MAX_AGE,
        allow_methods=METHODS.split(", "),
    )
    cors = aiohttp_cors.setup(app, defaults=dict.fromkeys(server.origins, rules))
    # Without an Origin the library would only look up the route's rules, for every answer.
    theirs = app.on_response_prepare.pop()
    app.on_response_prepare.append(_cross_origin(theirs, frozenset(server.origins)))
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


def _cross_origin(theirs: Prepare, origins: frozenset[str]) -> Prepare:
    """Give what adds the cross-origin headers to an answer: *theirs*, aiohttp-cors', and what it leaves out."""
    anyone = "*" in origins

    async def cross_origin(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        origin = request.headers.get(hdrs.ORIGIN)
        preflight = is_preflight(request)
        if not preflight:
            # What a plugin's handler set itself: aiohttp-cors would drop the connection over it.
            headers.popall(hdrs.ACCESS_CONTROL_ALLOW_ORIGIN, None)
            if origin is not None:
                await theirs(request, response)
        vary = headers.get(hdrs.VARY)
        headers[hdrs.VARY] = f"{vary}, Origin" if vary else "Origin"
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
        if preflight and request.headers.get(PRIVATE_NETWORK_ASKED) == "true":
            headers["Access-Control-Allow-Private-Network"] = "true"

    return cross_origin
