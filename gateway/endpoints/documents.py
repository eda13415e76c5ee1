"""``GET /openapi.json``: everything that can be called here, for programs; people read it at ``/docs``."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
from aiohttp import ETag, web

from gateway.endpoints.answers import public_base
from gateway.runtime import RUNTIME

HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


async def openapi(request: web.Request) -> web.Response:
    """Answer the OpenAPI 3.1 document of this gateway, with the address it was asked at."""
    base = public_base(request, request.app[RUNTIME].settings.server)
    document = request.app[DOCUMENT]
    body = orjson.dumps({**document, "servers": [{"url": base}]})
    etag = hashlib.sha256(body).hexdigest()[:32]
    known = any(tag.value in (etag, "*") for tag in request.if_none_match or ())
    response = web.Response(status=304, headers=HEADERS) if known else web.Response(body=body, headers=HEADERS)
    if not known:
        response.content_type = "application/json"
    response.etag = ETag(etag)
    return response


DOCUMENT: web.AppKey[dict[str, Any]] = web.AppKey("openapi", dict)
"""The document, made once when all routes are there."""
