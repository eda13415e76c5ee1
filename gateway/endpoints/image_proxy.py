"""``GET /image-proxy``: fetches a picture for a link that the gateway signed, or from a host that is on the list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from urllib.parse import parse_qsl

from aiohttp import web
from yarl import URL

from gateway.errors import (
    BadAddressError,
    NotAnImageError,
    NotFoundError,
    PermissionError_,
    RequestError,
    UnsupportedMediaError,
)
from gateway.fetch import Fetcher, Permit
from gateway.imaging import EXTENSIONS, inspect
from gateway.settings import Proxy
from gateway.signing import verify
from gateway.sniffing import HugePicture
from gateway.values import Image

# How long a picture of a listed host may be kept by browsers, and the most that a signed one may.
LISTED, LONGEST = 3600, 604_800


async def serve_proxy(
    request: web.Request, fetcher: Fetcher, proxy: Proxy, clock: Callable[[], float] = time.time
) -> web.StreamResponse:
    """Answer with the picture that the request's ``url=`` names, with our own headers only."""
    if not (proxy.keys or proxy.hosts):
        raise NotFoundError("the image proxy is not configured")
    url, seconds, permit = _permission(request.rel_url.raw_query_string, proxy, clock())
    if url[:5].lower() == "data:":
        raise BadAddressError("only http and https URLs go through the image proxy")
    image = await _fetch(url, fetcher, permit)
    return web.Response(body=image.data, content_type=image.media_type, headers=_headers(image.media_type, seconds))


def listed(host: str, patterns: tuple[str, ...]) -> bool:
    """Say whether *host* is one of *patterns*: ``images.example.com``, or ``*.example.com`` for all names below it."""
    return any(
        host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
        for pattern in (pattern.lower() for pattern in patterns)
    )


def _permission(query: str, proxy: Proxy, now: float) -> tuple[str, int, Permit | None]:
    """Give the URL that may be fetched, for how many seconds the answer may be kept, and a rule for its redirects."""
    pairs = parse_qsl(query, keep_blank_values=True) if query.count("&") < 32 else []
    urls = [value for name, value in pairs if name == "url"]
    if not urls or not urls[0]:
        raise RequestError("Missing image URL parameter", param="url")
    signed = any(name in ("sig", "exp") for name, _ in pairs)
    if signed and proxy.keys:
        link = verify(query, proxy.keys, now)
        return link.url, min(int(link.expires - now), LONGEST), None
    if signed or not proxy.hosts or len(urls) > 1:
        raise PermissionError_("this link is not signed by this gateway", code="invalid_link")
    return urls[0], LISTED, lambda hop: _by_list(hop, proxy)


def _by_list(hop: URL, proxy: Proxy) -> bool:
    """A listed host may redirect, but only to another listed one: otherwise any open redirect there opens the proxy."""
    return listed(hop.raw_host or "", proxy.hosts)


async def _fetch(url: str, fetcher: Fetcher, permit: Permit | None) -> Image:
    data = await fetcher.fetch(url, permit=permit)
    try:
        return await asyncio.to_thread(inspect, Image(data=data), fetcher.settings.pixels)
    except NotAnImageError as error:
        if isinstance(error.__cause__, HugePicture):
            raise _too_large(error.__cause__) from error
        raise UnsupportedMediaError("what this URL leads to is not a PNG, JPEG, WebP, GIF or AVIF picture") from error


def _too_large(found: HugePicture) -> RequestError:
    error = RequestError(f"this URL leads to {found}", param="url", code="picture_too_large")
    error.status = 422
    return error


def _headers(media_type: str, seconds: int) -> dict[str, str]:
    return {
        "Cache-Control": f"public, max-age={seconds}",
        "Content-Disposition": f'inline; filename="image.{EXTENSIONS[media_type].lstrip(".")}"',
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "X-Content-Type-Options": "nosniff",
    }
