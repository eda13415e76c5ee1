"""``POST /v1/images/generations``: parameters in, pictures as URLs or base64 out, whole or as a stream."""

from __future__ import annotations

from aiohttp import web

from gateway.endpoints.answers import json_response
from gateway.endpoints.body import read_json
from gateway.endpoints.fields import bool_field, choice_field, prompt_field
from gateway.endpoints.image_answers import answer_pictures, stream_pictures
from gateway.endpoints.picture_fields import image_request, with_ratio_of_prompt
from gateway.endpoints.submitting import explained, submit
from gateway.endpoints.waiting import waited
from gateway.runtime import RUNTIME

FORMS = ("url", "b64_json")


async def generations(request: web.Request) -> web.StreamResponse:
    """Make pictures. Without *response_format* they come as base64, which every client of this API takes."""
    runtime = request.app[RUNTIME]
    body = await read_json(request, runtime.settings.server)
    form = choice_field(body, "response_format", FORMS) or "b64_json"
    stream = bool_field(body, "stream")
    prompt = prompt_field(body)
    asked = with_ratio_of_prompt(image_request(body, runtime.settings.chat, prompt), body, runtime.settings.chat)
    if preview := explained(request, runtime, asked, body):
        return json_response(preview)
    job = await submit(request, asked, body, original=prompt, inline=stream or form == "b64_json")
    if stream:
        return await stream_pictures(request, job, "image_generation", form)
    return await waited(request, job, lambda result: answer_pictures(request, job, result, form), body=body)
