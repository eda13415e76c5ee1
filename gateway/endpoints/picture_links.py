"""``POST /v1/pictures/{key}/links``: a link to a copy in a size of the caller's choice, for whoever it is given to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.copy_links import CopyLink, sign_copy, until
from gateway.endpoints.answers import json_response, picture_url
from gateway.endpoints.body import read_json
from gateway.endpoints.pictures import PRIVATE, own_picture
from gateway.errors import NotFoundError, RequestError
from gateway.options import parse_duration
from gateway.runtime import Runtime
from gateway.transforms import Transform, read_format

FIELDS = ("width", "height", "format", "quality", "expires_in")
DAY = 86_400


async def link_picture(request: web.Request, runtime: Runtime, base: str) -> web.Response:
    """Sign a link to a copy of one of the caller's pictures."""
    keys = runtime.settings.proxy.keys
    if not keys:
        raise NotFoundError("signed links need proxy.keys in the gateway's configuration", code="links_not_configured")
    meta = await own_picture(request, runtime.storages)
    copy, seconds = read_link(await read_json(request, runtime.settings.server))
    link = CopyLink(meta.key, copy, until(seconds))
    url = f"{picture_url(base, meta)}?{sign_copy(link, keys)}"
    return json_response({"object": "picture.link", "url": url, "expires": link.expires}, headers=PRIVATE)


def read_link(body: Mapping[str, Any]) -> tuple[Transform, float]:
    """Read which copy is wanted and for how many seconds; raise RequestError that names what is allowed."""
    for name in body:
        if name not in FIELDS:
            raise RequestError(f"there is no such field; known: {', '.join(FIELDS)}", param=str(name)[:60])
    kind = body.get("format")
    if kind is not None and not isinstance(kind, str):
        raise RequestError("format must be a string", param="format")
    width, height, quality = (_whole(body, name) for name in ("width", "height", "quality"))
    return Transform(width, height, read_format(kind), quality), _seconds(body)


def _whole(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is not None and type(value) is not int:
        raise RequestError(f"{name} must be a whole number", param=name)
    return value


def _seconds(body: Mapping[str, Any]) -> float:
    given = body.get("expires_in")
    try:
        return DAY if given is None else parse_duration(given)
    except ValueError as error:
        raise RequestError(f"expires_in: {error}", param="expires_in") from None
