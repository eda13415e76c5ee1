"""``GET /``, ``/docs`` and ``/pages/{name}``: the page that shows the gateway is up, and the one that explains it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType

from aiohttp import ETag, web

from gateway.errors import NotFoundError

START = "welcome.html"
DOCS = "docs.html"
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob: http: https:; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class Page:
    """A file of the page, as it is sent."""

    body: bytes
    content_type: str
    etag: str


def load_pages() -> Mapping[str, Page]:
    """Read the files that came with the package."""
    pages = {}
    for file in (files("gateway") / "pages").iterdir():
        kind = TYPES.get(file.name.rpartition(".")[2])
        if kind:
            body = file.read_bytes()
            pages[file.name] = Page(body, kind, hashlib.sha256(body).hexdigest()[:32])
    return MappingProxyType(pages)


# Read once, at import: they never change while the gateway runs, and no request has to wait for a disk.
PAGES = load_pages()


async def welcome(request: web.Request) -> web.Response:
    """Answer the welcome page."""
    return _answer(request, PAGES[START])


async def docs(request: web.Request) -> web.Response:
    """Answer the page that shows the OpenAPI document to people; it loads nothing from elsewhere."""
    return _answer(request, PAGES[DOCS])


async def page(request: web.Request) -> web.Response:
    """Answer a file of the page; only names that were read at start exist."""
    found = PAGES.get(request.match_info["name"])
    if found is None:
        raise NotFoundError("there is no such page")
    return _answer(request, found)


def _answer(request: web.Request, found: Page) -> web.Response:
    known = any(tag.value in (found.etag, "*") for tag in request.if_none_match or ())
    response = web.Response(status=304, headers=HEADERS) if known else web.Response(body=found.body, headers=HEADERS)
    if not known:
        response.content_type, response.charset = found.content_type, "utf-8"
    response.etag = ETag(found.etag)
    return response
