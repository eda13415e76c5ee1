"""``POST /v1/images/generations``: parameters in, pictures as URLs or base64 out, whole or as a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.endpoints.answers import json_response
from gateway.endpoints.body import read_json
from gateway.endpoints.fields import bool_field, choice_field, image_request, prompt_field
from gateway.endpoints.image_answers import answer_pictures, stream_pictures
from gateway.endpoints.submitting import explained, submit, waited
from gateway.errors import RequestError
from gateway.prompt import read_prompt
from gateway.runtime import RUNTIME
from gateway.settings import RATIOS, Chat
from gateway.values import ImageRequest

FORMS = ("url", "b64_json")


async def generations(request: web.Request) -> web.StreamResponse:
    """Make pictures. Without *response_format* they come as base64, which every client of this API takes."""
    runtime = request.app[RUNTIME]
    body = await read_json(request, runtime.settings.server)
    form = choice_field(body, "response_format", FORMS) or "b64_json"
    stream = bool_field(body, "stream")
    prompt = prompt_field(body)
    asked = _with_ratio_of_prompt(image_request(body, runtime.settings.chat, prompt), body, runtime.settings.chat)
    if preview := explained(request, runtime, asked):
        return json_response(preview)
    job = await submit(request, asked, body, original=prompt, inline=form == "b64_json")
    if stream:
        return await stream_pictures(request, job, "image_generation", form)
    return await waited(request, job, lambda result: answer_pictures(request, job, result, form), body=body)


def _with_ratio_of_prompt(asked: ImageRequest, body: Mapping[str, Any], chat: Chat) -> ImageRequest:
    """Take a ratio that the prompt names, if the call gives no size of its own."""
    reading = read_prompt(asked.prompt, {**RATIOS, **chat.ratios}, chat.default_size)
    if not reading.prompt:
        raise RequestError("prompt has no words to draw besides a ratio", param="prompt", code="empty_prompt")
    if asked.size or not reading.aspect_ratio or body.get("size"):
        return asked
    return replace(asked, prompt=reading.prompt, size=reading.size, aspect_ratio=reading.aspect_ratio)
