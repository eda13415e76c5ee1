"""The handlers around stored pictures, with what they need from the runtime."""

from __future__ import annotations

from aiohttp import web

from gateway.endpoints.answers import CALLER, public_base
from gateway.endpoints.image import serve_picture
from gateway.endpoints.image_proxy import serve_proxy
from gateway.runtime import RUNTIME


async def image(request: web.Request) -> web.StreamResponse:
    """Serve a picture from whichever storage has it."""
    runtime = request.app[RUNTIME]
    return await serve_picture(request, runtime.storages.values(), runtime.settings.serving, runtime.derived)


async def proxy(request: web.Request) -> web.StreamResponse:
    """Serve a picture of the web for a signed link or an allowed host."""
    runtime = request.app[RUNTIME]
    return await serve_proxy(request, runtime.fetcher, runtime.settings.proxy)
