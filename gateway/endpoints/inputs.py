"""Input pictures: uploaded, in data: URLs, from the gateway's own storages, or from the web through the guard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from aiohttp import web
from yarl import URL

from gateway.collection import find_picture, outer
from gateway.copy_links import signed_copy
from gateway.endpoints.answers import public_base
from gateway.errors import BlockedAddressError, PermissionError_, RequestError, UpstreamError
from gateway.imaging import verify
from gateway.runtime import RUNTIME, Runtime
from gateway.serving import fits, read_key
from gateway.transforms import read_transform
from gateway.values import Image

MOST_INPUTS = 16


async def input_images(urls: Sequence[str], request: web.Request, param: str) -> tuple[Image, ...]:
    """Fetch and check every input picture; raise `RequestError` naming *param*."""
    runtime = request.app[RUNTIME]
    if len(urls) > MOST_INPUTS:
        raise RequestError(f"{len(urls)} input pictures were sent; at most {MOST_INPUTS} are taken", param=param)
    if urls:
        runtime.jobs.refuse_when_short()
    left = most = max(runtime.settings.server.max_body, runtime.settings.fetch.limit)
    images: list[Image] = []
    for url in urls:
        if left <= 0:
            raise RequestError(f"the input pictures have more than {most} bytes together", param=param)
        limit = min(left, runtime.settings.fetch.limit)
        name = own_name(url, public_base(request, runtime.settings.server))
        data = await (_stored(name, url, runtime, param, limit) if name else _fetched(url, runtime, param, limit))
        images.append(await checked_image(data, runtime, param))
        left -= len(images[-1].data)
    return tuple(images)


async def checked_image(data: bytes, runtime: Runtime, param: str) -> Image:
    """Decode an uploaded picture fully, so that a broken or hostile one never reaches a backend."""
    await runtime.decoding.acquire()
    work = asyncio.get_running_loop().run_in_executor(None, verify, data, runtime.settings.fetch.pixels, param)
    # A caller who leaves ends no thread: its place is free again when the picture is decoded.
    work.add_done_callback(lambda _: runtime.decoding.release())
    return await asyncio.shield(work)


def check_mask(mask: Image, picture: Image) -> None:
    """Raise unless the mask is as large as the picture that it lies upon."""
    if mask.size != picture.size:
        message = f"the mask is {mask.size}, the first picture {picture.size}; they must be of one size"
        raise RequestError(message, param="mask")


def own_name(url: str, base: str) -> str | None:
    """Give what *url* names below the gateway's own ``/image/``; None if it leads elsewhere.

    The gateway may not be allowed to fetch from its own address, and need not.
    """
    if not url.startswith(("http://", "https://")):
        return None
    try:
        asked, home = URL(url), URL(f"{base}/image/")
        own = _place(asked) == _place(home) and asked.path.startswith(home.path) and not asked.user
    except ValueError:
        return None
    return asked.path.removeprefix(home.path) if own else None


def _place(url: URL) -> tuple[str, str | None, int | None]:
    return url.scheme, url.host, url.port


async def _stored(name: str, url: str, runtime: Runtime, param: str, limit: int) -> bytes:
    """Read a picture of the gateway itself, or make the copy that *url* shows; whoever knows its key may see it."""
    read, link, settings = read_key(name), URL(url), runtime.settings
    try:
        signed = signed_copy(link, read[0], settings.proxy.keys, time.time()) if read else None
        copy = signed.copy if signed else read_transform(link.query, settings.serving.sizes)
    except (RequestError, PermissionError_) as error:
        raise RequestError(f"{param}: {error.message}", param=param, code=error.code) from None
    found = await find_picture(outer(runtime.storages), read[0]) if read else None
    if read is None or found is None or not fits(read[1], found.meta.media_type):
        message = f"{param}: there is no such picture here, or it has expired"
        raise RequestError(message, param=param, code="picture_not_found")
    if found.meta.length > limit:
        message = f"{param}: the picture has {found.meta.length} bytes; at most {limit} are taken"
        raise RequestError(message, param=param, code="invalid_image")
    copy = copy.for_type(found.meta.media_type)
    return (await copy.make(found, runtime.derived)).data if copy.needed else await found.body.read()


async def _fetched(url: str, runtime: Runtime, param: str, limit: int) -> bytes:
    if not url.startswith(("data:", "http://", "https://")):
        raise RequestError(f"{param} must be a data:, http: or https: URL", param=param)
    try:
        return await runtime.fetcher.fetch(url, limit=limit)
    except BlockedAddressError as error:
        raise RequestError(f"{param}: {error.message}", param=param, code=error.code) from None
    except UpstreamError as error:
        raise RequestError(
            f"{param} could not be fetched: {error.message}", param=param, code="invalid_image"
        ) from None
