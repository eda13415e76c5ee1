"""``POST /v1/responses`` with the tool ``image_generation``: an answer with a drawn picture, whole or as events."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.endpoints.answers import CALLER, json_response, picture_bytes
from gateway.endpoints.body import read_json
from gateway.endpoints.inputs import check_mask, checked_image, input_images
from gateway.endpoints.pieces import pieces
from gateway.endpoints.responses_answers import Response, drawn_items
from gateway.endpoints.responses_body import ResponsesCall, parse_responses
from gateway.endpoints.responses_stream import stream_response
from gateway.endpoints.submitting import claimed, explained, submit
from gateway.endpoints.waiting import waited
from gateway.errors import GoneError, ModelNotFoundError, RequestError, StorageError
from gateway.names import resolve
from gateway.runtime import RUNTIME, Runtime
from gateway.texts import load_locale
from gateway.values import Image, ImageRequest, Result

DRAWN = re.compile(r"ig_([0-9a-f]{24})(?:_([0-9]))?")


async def responses(request: web.Request) -> web.StreamResponse:
    """Draw what the last user message says, or change the pictures in it; anything but pictures is a 400."""
    runtime = request.app[RUNTIME]
    body = await read_json(request, runtime.settings.server)
    call = parse_responses(body, runtime.settings.chat)
    job = claimed(request, body) if call.pictures else None
    if job is None:
        asked = await _with_pictures(request, runtime, call)
        if preview := explained(request, runtime, asked, body):
            return json_response(preview)
        job = await submit(request, asked, body, original=call.text, inline=True)
    # The job lets go of its pictures when it ends.
    words = load_locale(runtime.settings.chat.language).drawn
    response = Response(job, call.echo, "edit" if call.pictures else call.action, words)
    if call.stream:
        return await stream_response(request, job, response)
    return await waited(request, job, lambda result: _whole(request, result, response), body=body)


async def _whole(request: web.Request, result: Result, response: Response) -> tuple[bytes, ...]:
    return tuple(pieces(response.completed(result, await drawn_items(request, result, response))))


async def _with_pictures(request: web.Request, runtime: Runtime, call: ResponsesCall) -> ImageRequest:
    asked = replace(call.request, **_model(runtime, call))
    images = [await _picture(request, runtime, address) for address in call.pictures]
    if not images or not call.mask:
        return replace(asked, images=tuple(images))
    (mask,) = await input_images([call.mask], request, param="input_image_mask")
    check_mask(mask, images[0])
    return replace(asked, images=tuple(images), mask=mask)


async def _picture(request: web.Request, runtime: Runtime, address: str) -> Image:
    """Give an input picture: from its URL, or from the job that an earlier image call was."""
    found = DRAWN.fullmatch(address)
    if not found:
        return (await input_images([address], request, param="input"))[0]
    job, place = runtime.jobs.get(f"job_{found[1]}", request[CALLER]), int(found[2] or 0)
    message = f"input: the picture {address} is not known (any more); send the item with its result"
    unknown = RequestError(message, param="input", code="picture_not_found")
    if job is None or job.result is None or place >= len(job.result.pictures):
        raise unknown
    try:
        data = await picture_bytes(request, job.result.pictures[place])
    except StorageError as error:
        raise (unknown if isinstance(error, GoneError) else error) from None
    return await checked_image(data, runtime, "input")


def _model(runtime: Runtime, call: ResponsesCall) -> dict[str, Any]:
    """Take the tool's model if it is one of ours, else the call's own: clients name OpenAI's models in either place."""
    for name in call.models:
        try:
            resolve(name, runtime.settings.models)
        except ModelNotFoundError:
            continue
        passed_over = call.models[: call.models.index(name)]
        return {"model": name, "unknown": (*call.request.unknown, *(["tools.model"] if passed_over else []))}
    return {}
