"""Input pictures of edits: from data: URLs, from the web through the address guard, or as uploaded files."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.errors import BlockedAddressError, RequestError, UpstreamError
from gateway.imaging import verify
from gateway.runtime import Runtime
from gateway.values import Image

MOST_INPUTS = 16


async def input_images(urls: Sequence[str], runtime: Runtime, param: str) -> tuple[Image, ...]:
    """Fetch and check every input picture; raise `RequestError` naming *param*."""
    if len(urls) > MOST_INPUTS:
        raise RequestError(f"{len(urls)} input pictures were sent; at most {MOST_INPUTS} are taken", param=param)
    if urls:
        runtime.jobs.refuse_when_short()
    left = most = max(runtime.settings.server.max_body, runtime.settings.fetch.limit)
    images: list[Image] = []
    for url in urls:
        if left <= 0:
            raise RequestError(f"the input pictures have more than {most} bytes together", param=param)
        images.append(await _input_image(url, runtime, param, min(left, runtime.settings.fetch.limit)))
        left -= len(images[-1].data)
    return tuple(images)


async def checked_image(data: bytes, runtime: Runtime, param: str) -> Image:
    """Decode an uploaded picture fully, so that a broken or hostile one never reaches a backend."""
    async with runtime.decoding:
        return await asyncio.to_thread(verify, data, runtime.settings.fetch.pixels, param)


def check_mask(mask: Image, picture: Image) -> None:
    """Raise unless the mask is as large as the picture that it lies upon."""
    if mask.size != picture.size:
        message = f"the mask is {mask.size}, the first picture {picture.size}; they must be of one size"
        raise RequestError(message, param="mask")


async def _input_image(url: str, runtime: Runtime, param: str, limit: int) -> Image:
    if not url.startswith(("data:", "http://", "https://")):
        raise RequestError(f"{param} must be a data:, http: or https: URL", param=param)
    try:
        data = await runtime.fetcher.fetch(url, limit=limit)
    except BlockedAddressError as error:
        raise RequestError(f"{param}: {error.message}", param=param, code=error.code) from None
    except UpstreamError as error:
        raise RequestError(
            f"{param} could not be fetched: {error.message}", param=param, code="invalid_image"
        ) from None
    return await checked_image(data, runtime, param)
