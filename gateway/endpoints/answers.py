"""Parts of answers that several endpoints share: public URLs, picture lines, headers, waiting for a job."""

from __future__ import annotations

import ipaddress
import math
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from gateway.collection import find_picture, outer
from gateway.errors import (
    AllowanceError,
    BadKeyError,
    GatewayError,
    GoneError,
    MisconfiguredError,
    NotStoredError,
    StorageError,
)
from gateway.imaging import EXTENSIONS
from gateway.job import Job
from gateway.options import bracketed
from gateway.pictures import is_alive
from gateway.runtime import RUNTIME
from gateway.settings import Server
from gateway.values import Caller, Picture, PictureMeta, Result

HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
FUTILE = (AllowanceError, BadKeyError, MisconfiguredError)
"""Errors that a client's own repetition within seconds cannot better."""
LATER = 10
"""Seconds after which a client may ask again for the link of a picture that is not stored yet."""
CALLER = web.RequestKey("caller", Caller)
REQUEST_ID = web.RequestKey("request_id", str)


def new_request_id() -> str:
    """Make up the id of a request that brought none."""
    return f"req_{secrets.token_hex(12)}"


def public_base(request: web.Request, server: Server) -> str:
    """Give the scheme and host (and path prefix) under which this gateway is reached, without a final slash.

    *public_url* if configured; else ``X-Forwarded-Proto``, ``-Host`` and ``-Prefix`` if the peer is a trusted proxy;
    else the Host header. A host that is not one is replaced by the address the request came in on.
    """
    if server.public_url:
        return server.public_url.rstrip("/")
    scheme, host, prefix = request.scheme, request.headers.get("Host", ""), ""
    if server.trusted_proxies and _trusted(request.remote, server.trusted_proxies):
        scheme = _first(request, "X-Forwarded-Proto") or scheme
        host = _first(request, "X-Forwarded-Host") or host
        prefix = _first(request, "X-Forwarded-Prefix").rstrip("/")
        prefix = prefix if re.fullmatch(r"(?:/[A-Za-z0-9._~-]+)*", prefix) else ""
    if scheme not in {"http", "https"}:
        scheme = request.scheme
    if not HOST.fullmatch(host):
        host = f"{bracketed(server.host)}:{server.port}"
    return f"{scheme}://{host}{prefix}"


def _trusted(remote: str | None, proxies: tuple[str, ...]) -> bool:
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(proxy, strict=False) for proxy in proxies)


def _first(request: web.Request, name: str) -> str:
    return request.headers.get(name, "").split(",")[0].strip()


def picture_url(base: str, meta: PictureMeta) -> str:
    """Give the stable URL of a stored picture."""
    extension = EXTENSIONS.get(meta.media_type)
    return f"{base}/image/{meta.key}" + (f".{extension}" if extension else "")


def picture_urls(base: str, result: Result) -> dict[int, str]:
    """Give the URLs of a result's pictures by their places; raise when one is gone, or when none is stored (yet)."""
    refuse_dead_links(result)
    urls = {place: picture_url(base, one.meta) for place, one in enumerate(result.pictures) if one.meta.key}
    if not urls:
        raise _not_stored(next((one for one in result.pictures if one.waits), result.pictures[0]))
    return urls


def refuse_dead_links(result: Result) -> None:
    """Raise when a stored picture has expired or was deleted, as far as that is known without asking a storage."""
    for picture in result.pictures:
        if picture.meta.key and is_gone(picture):
            raise _gone(picture)


def is_gone(picture: Picture) -> bool:
    """Say whether a picture is known to be there no more: expired, deleted, or let go before a storage took it."""
    if picture.meta.key:
        return not is_alive(picture.meta, time.time())
    return not (picture.data or picture.waits)


def _gone(picture: Picture) -> GoneError:
    if picture.meta.key:
        return GoneError("the picture was made, and has expired or was deleted since")
    return GoneError("the picture was made and is lost: no storage took it in time", code=NotStoredError.code)


def _not_stored(picture: Picture) -> StorageError:
    if is_gone(picture):
        return _gone(picture)
    message = "the picture was made but could not be stored" + (f": {picture.trouble}" if picture.trouble else "")
    if picture.waits:
        message += "; it is stored later: ask for its job then, or with the same Idempotency-Key"
        return NotStoredError(message, retry_after=LATER)
    error = NotStoredError(message)
    error.status = StorageError.status
    return error


async def picture_bytes(request: web.Request, picture: Picture) -> bytes:
    """Give the bytes of a finished picture, from the job, from the spool, or else from the storages."""
    if picture.data:
        return picture.data
    if is_gone(picture):
        raise _gone(picture)
    runtime = request.app[RUNTIME]
    if picture.spooled and (data := await runtime.late.read(picture.planned)):
        return data
    # What has just left the spool lies under the key that was planned.
    found = await find_picture(outer(runtime.storages), picture.meta.key or picture.planned)
    if found is None:
        raise _gone(picture)
    return await found.body.read()


def json_response(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, headers=headers, content_type="application/json")


def error_response(error: GatewayError, request_id: str) -> web.Response:
    """Give an error as OpenAI's clients understand it."""
    return json_response(error_json(error, request_id), status=error.status, headers=error_headers(error))


def error_json(error: GatewayError, request_id: str) -> dict[str, Any]:
    """Give an error with the id by which the gateway's owner finds it."""
    body: dict[str, Any] = error.as_json()
    body["error"]["request_id"] = request_id
    return body


def error_headers(error: GatewayError) -> dict[str, str]:
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.again is not None:
        headers["x-should-retry"] = "true" if error.again else "false"
    elif isinstance(error, FUTILE):
        headers["x-should-retry"] = "false"
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="image-gateway"'
    return headers


def gateway_field(job: Job, result: Result) -> dict[str, Any]:
    """Give the ``gateway`` field of an answer: the job and the receipt."""
    return {"job": job.id, "prompt": result.prompt, "receipt": result.receipt.as_json()}


def usage_of(result: Result) -> dict[str, int]:
    """Give a chat's usage block: as the upstream told, else words in, of roughly four letters, and pictures out."""
    if told := result.receipt.usage:
        return {"prompt_tokens": told.input, "completion_tokens": told.output, "total_tokens": told.total}
    words = max(1, len(result.original) // 4)
    return {
        "prompt_tokens": words,
        "completion_tokens": len(result.pictures),
        "total_tokens": words + len(result.pictures),
    }
