"""GET and HEAD /image/KEY: the bytes of a stored picture, or smaller and converted copies of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import orjson
from aiohttp import web

from gateway.collection import find_picture
from gateway.contracts import Storage
from gateway.copy_links import CopyLink, signed_copy
from gateway.derive import DerivedCache
from gateway.endpoints.sending import Sending
from gateway.errors import NotFoundError, RequestError, StorageError
from gateway.imaging import EXTENSIONS
from gateway.serving import SAFE, Shown, caching, disposition, fits, precondition, read_key, wanted_part
from gateway.settings import Serving
from gateway.transforms import Transform, negotiated, read_transform
from gateway.values import StoredPicture


async def serve_picture(
    request: web.Request,
    storages: Iterable[Storage],
    settings: Serving,
    cache: DerivedCache | None = None,
    clock: Callable[[], float] = time.time,
    keys: Sequence[str] = (),
) -> web.StreamResponse:
    """Answer with the picture that the path names, from whichever of *storages* has it.

    Links signed with one of *keys* may ask for copies of any size; without keys only the list of sizes counts.
    """
    name = read_key(request.match_info["key"])
    # A link that is not good is refused before anything is looked up for it.
    link = signed_copy(request.rel_url, name[0], keys, clock()) if name else None
    found = await find_picture(storages, name[0]) if name else None
    if name is None or found is None or not fits(name[1], found.meta.media_type):
        raise NotFoundError("there is no such picture, or it has expired")
    if found.meta.media_type not in EXTENSIONS:
        raise StorageError("what the storage holds under this key is not a picture")
    transform = _wanted(request, link, found.meta.media_type, settings)
    attached = request.query.get("download") in {"1", "true"}
    now = clock()
    kept = caching(found.meta, now, min(settings.max_age, link.expires - now) if link else settings.max_age)
    if transform.needed:
        return await _serve_copy(request, found, transform, cache, kept, attached)
    if attached:
        found = replace(found, redirect=None)
    shown = Shown(found.meta.media_type, found.meta.length, found.meta.sha256)
    headers = _headers(found, shown, transform, kept, attached)
    return await _answer(request, found, shown, headers, None)


def _wanted(request: web.Request, link: CopyLink | None, media_type: str, settings: Serving) -> Transform:
    wanted = link.copy if link else read_transform(request.query, settings.sizes)
    if settings.negotiate:
        wanted = negotiated(wanted, request.headers.get("Accept", ""), media_type)
    return wanted.for_type(media_type)


async def _serve_copy(
    request: web.Request,
    found: StoredPicture,
    transform: Transform,
    cache: DerivedCache | None,
    kept: dict[str, str],
    attached: bool,
) -> web.StreamResponse:
    image = await transform.make(found, cache)
    shown = Shown(image.media_type, len(image.data), f"{found.meta.sha256}-{transform.name}")
    headers = _headers(found, shown, transform, kept, attached)
    return await _answer(request, found, shown, headers, image.data)


def _headers(
    found: StoredPicture, shown: Shown, transform: Transform, kept: dict[str, str], attached: bool
) -> dict[str, str]:
    headers = SAFE | kept | {"ETag": f'"{shown.etag}"', "Accept-Ranges": "bytes", "Content-Type": shown.media_type}
    headers["Content-Disposition"] = disposition(found.meta, shown.media_type, attached)
    return headers | ({"Vary": "Accept"} if transform.negotiated else {})


async def _answer(
    request: web.Request, found: StoredPicture, shown: Shown, headers: dict[str, str], data: bytes | None
) -> web.StreamResponse:
    verdict = precondition(request.headers, shown.etag, found.meta.created)
    if verdict == 304:
        del headers["Content-Type"], headers["Content-Disposition"]
        return web.Response(status=304, headers=headers)
    if verdict == 412:
        return _refusal(412, "the picture is not the one that If-Match or If-Unmodified-Since names", {})
    if data is None and found.redirect and request.method == "GET":
        # Kept by nobody: the link ends before the picture does, and a deleted picture has none.
        return web.Response(status=302, headers={"Location": found.redirect, "Cache-Control": "no-store"})
    part = wanted_part(request.headers, shown, found.meta.created) if request.method == "GET" else "all"
    if part == "beyond":
        return _refusal(416, "the range lies beyond the picture", {"Content-Range": f"bytes */{shown.length}"})
    start, end = (0, shown.length) if part == "all" else part
    if part != "all":
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{shown.length}"
    sending = Sending(request, 200 if part == "all" else 206, headers, found, start, end)
    if request.method == "HEAD":
        return await sending.head()
    if data is None:
        return await sending.send()
    return web.Response(status=sending.status, headers=headers, body=data[start:end])


def _refusal(status: int, message: str, headers: dict[str, str]) -> web.Response:
    body = orjson.dumps(RequestError(message).as_json())
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
