"""``/v1/pictures``: a caller's own stored pictures: list, look at, delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from gateway.collection import all_pictures, delete_everywhere, find_picture, outer
from gateway.contracts import Storage
from gateway.endpoints.answers import CALLER, json_response, picture_url
from gateway.endpoints.paging import page_limit
from gateway.errors import NotFoundError, RequestError
from gateway.serving import read_key
from gateway.values import PictureMeta

PRIVATE = {"Cache-Control": "no-store"}


async def list_pictures(request: web.Request, storages: Mapping[str, Storage], base: str) -> web.Response:
    """List the caller's pictures, newest first; ``limit`` 1 to 100 (20), ``after`` the last key of the page before."""
    limit, after = page_limit(request), request.query.get("after")
    page: list[PictureMeta] = []
    begun = not after
    async for meta in all_pictures(storages, request[CALLER].name):
        if begun:
            page.append(meta)
        begun = begun or meta.key == after
        if len(page) > limit:
            break
    if not begun:
        raise RequestError("after: there is no such picture, or it has expired", param="after")
    data = [_summary(meta, base) for meta in page[:limit]]
    ends: dict[str, Any] = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    ends = ends or {"first_id": None, "last_id": None}
    return json_response({"object": "list", "data": data, "has_more": len(page) > limit, **ends}, headers=PRIVATE)


async def show_picture(request: web.Request, storages: Mapping[str, Storage], base: str) -> web.Response:
    """Show what is known of one of the caller's pictures."""
    meta = await own_picture(request, storages)
    details = {"original_prompt": meta.details.get("original"), "job": meta.details.get("job")}
    details |= {name: meta.details.get(name) for name in ("revised_prompt", "seed", "receipt")}
    return json_response(_summary(meta, base) | {"sha256": meta.sha256} | details, headers=PRIVATE)


async def delete_picture(
    request: web.Request,
    storages: Mapping[str, Storage],
    forget: Callable[[str], None] = lambda key: None,
    unspool: Callable[[str], Awaitable[None]] | None = None,
) -> web.Response:
    """Delete one of the caller's pictures wherever its bytes lie; *forget* has memories let go of it, too, and
    *unspool* the spool."""
    meta = await own_picture(request, storages)
    if unspool:
        # First: what stayed there would be stored again.
        await unspool(meta.key)
    try:
        await delete_everywhere(storages.values(), meta.key)
    finally:
        forget(meta.key)
    return json_response({"id": meta.key, "object": "picture.deleted", "deleted": True}, headers=PRIVATE)


async def own_picture(request: web.Request, storages: Mapping[str, Storage]) -> PictureMeta:
    name = read_key(request.match_info["key"])
    found = await find_picture(outer(storages), name[0]) if name else None
    # Another caller's picture is answered like none at all: its key must not be confirmed.
    if found is None or found.meta.owner != request[CALLER].name:
        raise NotFoundError("you have no such picture, or it has expired")
    return found.meta


def _summary(meta: PictureMeta, base: str) -> dict[str, Any]:
    return {
        "id": meta.key,
        "object": "picture",
        "created": int(meta.created),
        "expires": None if meta.expires is None else int(meta.expires),
        "url": picture_url(base, meta),
        "model": meta.model,
        "prompt": meta.details.get("prompt"),
        "media_type": meta.media_type,
        "width": meta.width,
        "height": meta.height,
        "bytes": meta.length,
    }
