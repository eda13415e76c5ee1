"""The handlers around stored pictures, with what they need from the runtime."""

from __future__ import annotations

from aiohttp import web

from gateway.collection import outer
from gateway.endpoints.answers import public_base
from gateway.endpoints.image import serve_picture
from gateway.endpoints.image_proxy import serve_proxy
from gateway.endpoints.picture_links import link_picture
from gateway.endpoints.pictures import delete_picture, list_pictures, show_picture
from gateway.runtime import RUNTIME


async def image(request: web.Request) -> web.StreamResponse:
    """Serve a picture from whichever storage has it."""
    runtime = request.app[RUNTIME]
    settings = runtime.settings
    storages = outer(runtime.storages)
    return await serve_picture(request, storages, settings.serving, runtime.derived, keys=settings.proxy.keys)


async def proxy(request: web.Request) -> web.StreamResponse:
    """Serve a picture of the web for a signed link or an allowed host."""
    runtime = request.app[RUNTIME]
    return await serve_proxy(request, runtime.fetcher, runtime.settings.proxy)


async def show_all(request: web.Request) -> web.StreamResponse:
    """List the caller's pictures."""
    runtime = request.app[RUNTIME]
    return await list_pictures(request, runtime.storages, public_base(request, runtime.settings.server))


async def show(request: web.Request) -> web.StreamResponse:
    """Show one of the caller's pictures."""
    runtime = request.app[RUNTIME]
    return await show_picture(request, runtime.storages, public_base(request, runtime.settings.server))


async def delete(request: web.Request) -> web.StreamResponse:
    """Delete one of the caller's pictures."""
    runtime = request.app[RUNTIME]
    return await delete_picture(request, runtime.storages, runtime.forget, runtime.late.forget)


async def link(request: web.Request) -> web.StreamResponse:
    """Make a signed link to a copy of one of the caller's pictures.

    Whoever has it sees the copy until *expires*, in any size up to the picture's own.
    """
    runtime = request.app[RUNTIME]
    return await link_picture(request, runtime, public_base(request, runtime.settings.server))
