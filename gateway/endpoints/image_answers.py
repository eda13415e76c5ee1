"""The answers of the images API: JSON with URLs or base64, or events as OpenAI's SDKs expect them."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pybase64
from aiohttp import web

from gateway.endpoints.answers import (
    gateway_field,
    picture_bytes,
    picture_url,
    picture_urls,
    public_base,
    refuse_dead_links,
)
from gateway.endpoints.job_answers import revised
from gateway.endpoints.patience import patience_for
from gateway.endpoints.pieces import Base64
from gateway.endpoints.sse import FIRST_STEP, open_stream
from gateway.job import Job
from gateway.runtime import RUNTIME
from gateway.values import Image, ImageRequest, Picture, Result

SMALL = 2**14
"""Bytes up to which parts of an answer are joined."""
INLINE = 4 * 2**20
"""Bytes up to which base64 is made on the loop; above that a thread is cheaper than the wait."""
KINDS = {"image_tokens": 0, "text_tokens": 0}
"""What OpenAI's types need of a usage's details; litellm refuses a whole answer without them."""


async def answer_pictures(request: web.Request, job: Job, result: Result, form: str) -> tuple[bytes, ...]:
    """Give the JSON body in parts; base64 is put between them without passing through a JSON writer."""
    if form == "url":
        urls = picture_urls(public_base(request, request.app[RUNTIME].settings.server), result)
        data = [{"url": url, **_revised(result, place)} for place, url in urls.items()]
        return (orjson.dumps({"created": result.created, "data": data, **_described(job, result)}),)
    parts = [b'{"created":%d,"data":[' % result.created]
    for place, picture in enumerate(result.pictures):
        parts += [b'{"b64_json":"' if not place else b',{"b64_json":"', await picture_base64(request, picture), b'"']
        extra = orjson.dumps(_revised(result, place))
        parts.append(b"," + extra[1:] if len(extra) > 2 else b"}")
    parts += [b"],", orjson.dumps(_described(job, result))[1:]]
    # The small parts go together: each write may become a packet of its own.
    return _merged(parts)


def _merged(parts: list[bytes]) -> tuple[bytes, ...]:
    merged = [parts[0]]
    for part in parts[1:]:
        if len(part) + len(merged[-1]) < SMALL:
            merged[-1] += part
        else:
            merged.append(part)
    return tuple(merged)


async def stream_pictures(request: web.Request, job: Job, kind: str, form: str) -> web.StreamResponse:
    """Stream previews as ``{kind}.partial_image`` and each finished picture as ``{kind}.completed``."""
    runtime = request.app[RUNTIME]
    with runtime.jobs.reading(job, patience_for(request, job)):
        await job.begin(FIRST_STEP)
        if job.result:
            refuse_dead_links(job.result)
        async with open_stream(request, runtime.settings.chat.ping, done_mark=False) as (stream, response):
            index = 0
            async for event in job.watch():
                image = event.data.get("image") if event.type == "partial" else None
                if isinstance(image, Image) and index < (job.request.partial_images or 0):
                    name = f"{kind}.partial_image"
                    body = {"type": name, "b64_json": Base64(image.data), "partial_image_index": index}
                    await stream.send({**body, **_shape(job.request, job.created)}, event=name)
                    index += 1
            result = await job.wait()
            name = f"{kind}.completed"
            base = public_base(request, runtime.settings.server)
            for place, picture in enumerate(result.pictures):
                body = {"type": name, "b64_json": Base64(await picture_bytes(request, picture))}
                # A picture that is not stored yet has no link; its bytes are here all the same.
                body |= {"url": picture_url(base, picture.meta)} if form == "url" and picture.meta.key else {}
                shape = _shape(job.request, result.created, picture)
                extra = {"usage": image_usage(result), "gateway": gateway_field(job, result), **_revised(result, place)}
                await stream.send({**body, **shape, **extra}, event=name)
    return response


def image_usage(result: Result) -> dict[str, Any]:
    """Give the images API's usage block: as the upstream told, else the prompt's words, roughly four letters each."""
    if result.receipt.usage:
        told = result.receipt.usage.as_json()
        given = (name for name in ("input_tokens_details", "output_tokens_details") if name in told)
        return told | {name: {**KINDS, **told[name]} for name in given}
    words = max(1, len(result.prompt) // 4)
    details = {"image_tokens": 0, "text_tokens": words}
    return {"input_tokens": words, "input_tokens_details": details, "output_tokens": 0, "total_tokens": words}


def _revised(result: Result, place: int) -> dict[str, str]:
    words = revised(result, place)
    return {"revised_prompt": words} if words else {}


def _described(job: Job, result: Result) -> dict[str, Any]:
    picture = result.pictures[0]
    return {
        "size": str(picture.meta.size),
        "output_format": picture.meta.media_type.removeprefix("image/"),
        "usage": image_usage(result),
        "gateway": gateway_field(job, result),
    }


def _shape(asked: ImageRequest, created: float, picture: Picture | None = None) -> dict[str, Any]:
    media_type = picture.meta.media_type if picture else f"image/{asked.output_format or 'png'}"
    return {
        "created_at": int(created),
        "size": str(picture.meta.size if picture else asked.size or "auto"),
        "quality": asked.quality or "auto",
        "background": asked.background or "auto",
        "output_format": media_type.removeprefix("image/"),
    }


async def picture_base64(request: web.Request, picture: Picture) -> bytes:
    """Give a picture's bytes as base64, without holding up the loop over a large one."""
    data = await picture_bytes(request, picture)
    if len(data) > INLINE:
        return await asyncio.to_thread(pybase64.b64encode, data)
    return pybase64.b64encode(data)
