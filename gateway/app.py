"""The application: routes, who may call them, CORS, opening and closing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from aiohttp import web
from aiohttp_cors import CorsConfig

from gateway.cors import make_cors
from gateway.endpoints.chat import TEMPLATE, chat_completions, make_chat_template
from gateway.endpoints.documents import DOCUMENT, openapi
from gateway.endpoints.edits import edits, variations
from gateway.endpoints.health import health
from gateway.endpoints.images import generations
from gateway.endpoints.jobs import cancel_job, follow_job, list_jobs, show_job
from gateway.endpoints.models import list_models, show_model
from gateway.endpoints.responses import responses
from gateway.endpoints.stored import delete, image, link, proxy, show, show_all
from gateway.endpoints.welcome import docs, page, welcome
from gateway.middleware import OPEN, PUBLIC, add_identity, around, defer_expect
from gateway.openapi import make_document
from gateway.runtime import RUNTIME, Runtime
from gateway.torn_requests import unwritten_requests
from gateway.watchdog import Watchdog
from gateway.webhooks import WEBHOOKS, Webhooks

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PREFIX = "/{prefix:.*}"
"""Worker A served ``/v1/…`` below any path; so do we."""


def make_app(runtime: Runtime) -> web.Application:
    """Make the application for an opened or unopened *runtime*; it is opened at start and closed at the end."""
    server = runtime.settings.server
    app = web.Application(middlewares=[around], client_max_size=server.max_body + 1)
    app[RUNTIME] = runtime
    app[PUBLIC] = set()
    app[TEMPLATE] = make_chat_template(runtime.settings.chat)
    app[WEBHOOKS] = Webhooks(runtime)
    app.on_response_prepare.append(add_identity)
    app.cleanup_ctx.append(_opened)
    cors = make_cors(app, server)
    for method, path, handler in routes():
        _add(app, cors, method, path, handler)
    for method, path, handler in public_routes():
        app[PUBLIC].add(_add(app, cors, method, path, handler))
    app[OPEN] = frozenset(_open_routes(app))
    runtime.registry.setup_app(app)
    app[DOCUMENT] = make_document(app, app[PUBLIC])
    return app


def public_routes() -> list[tuple[str, str, Handler]]:
    """Give the routes that ask for no key."""
    return [
        ("GET", "/", welcome),
        ("GET", "/docs", docs),
        ("GET", "/openapi.json", openapi),
        ("GET", "/pages/{name}", page),
        ("GET", "/health", health),
        ("GET", "/v1/health", health),
        ("GET", "/image/{key:.+}", image),
        ("GET", "/image-proxy", proxy),
    ]


def routes() -> list[tuple[str, str, Handler]]:
    """Give the routes that ask for a key."""
    paths: list[tuple[str, str, Handler]] = [
        ("POST", "/v1/chat/completions", chat_completions),
        ("POST", "/v1/images/generations", generations),
        ("POST", "/v1/images/edits", edits),
        ("POST", "/v1/images/variations", variations),
        ("POST", "/v1/responses", responses),
        ("GET", "/v1/models", list_models),
        ("GET", "/v1/models/{id:.+}", show_model),
        ("GET", "/v1/jobs", list_jobs),
        ("GET", "/v1/jobs/{id}", show_job),
        ("DELETE", "/v1/jobs/{id}", cancel_job),
        ("GET", "/v1/jobs/{id}/events", follow_job),
        ("GET", "/v1/pictures", show_all),
        ("GET", "/v1/pictures/{key}", show),
        ("DELETE", "/v1/pictures/{key}", delete),
        ("POST", "/v1/pictures/{key}/links", link),
    ]
    return paths + [(method, PREFIX + path, handler) for method, path, handler in paths[:7]]


def _add(app: web.Application, cors: CorsConfig, method: str, path: str, handler: Handler) -> str:
    """Add a route, with HEAD beside GET as probes and caches expect; give the path as the router writes it."""
    methods = [method, "HEAD"] if method == "GET" and handler is not follow_job else [method]
    for each in methods:
        route = cors.add(app.router.add_route(each, path, handler, expect_handler=defer_expect))
    assert route.resource is not None
    return str(route.resource.canonical)


def _open_routes(app: web.Application) -> Iterator[web.AbstractRoute]:
    for route in app.router.routes():
        path = route.resource.canonical if route.resource else ""
        if route.method == "OPTIONS" or path in app[PUBLIC]:
            yield route


async def _opened(app: web.Application) -> AsyncIterator[None]:
    runtime = app[RUNTIME]
    with unwritten_requests():
        await runtime.open()
        await runtime.late.open()
        app[WEBHOOKS].open()
        with Watchdog(runtime.registry.modules()):
            yield
        await runtime.jobs.drain(runtime.settings.server.shutdown_timeout)
        await app[WEBHOOKS].close()
        await runtime.close()
