"""``POST /v1/images/edits`` and ``/v1/images/variations``: input pictures, a mask, words; multipart or JSON."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.endpoints.answers import json_response
from gateway.endpoints.body import read_json, refuse_packed, refuse_when_short
from gateway.endpoints.fields import bool_field, choice_field, describe, prompt_field
from gateway.endpoints.image_answers import answer_pictures, stream_pictures
from gateway.endpoints.inputs import MOST_INPUTS, check_mask, checked_image, input_images
from gateway.endpoints.picture_fields import image_request
from gateway.endpoints.submitting import claimed, explained, submit
from gateway.endpoints.waiting import waited
from gateway.errors import BodyTooLargeError, RequestError, SlowBodyError
from gateway.runtime import RUNTIME
from gateway.settings import Server
from gateway.values import Image

FORMS = ("url", "b64_json")
VARIATION = "a variation of the given picture: the same subject, style and mood, with small differences"
PICTURES = {"image", "image[]", "images", "images[]"}
MOST_FIELDS = 100


@dataclass
class Form:
    """A multipart or JSON body, read: *files* are raw bytes by what they are for, *fields* the rest."""

    fields: dict[str, Any] = field(default_factory=dict)
    images: list[bytes] = field(default_factory=list)
    mask: bytes | None = None
    urls: list[str] = field(default_factory=list)
    mask_url: str | None = None

    def digests(self) -> list[str]:
        """Tell the pictures apart by their bytes, or by the URLs they are fetched from; the mask comes last."""
        given: list[bytes] = [*self.images, b"|", *(url.encode() for url in self.urls), b"|"]
        given += [self.mask or b"", (self.mask_url or "").encode()]
        return [hashlib.sha256(one).hexdigest() for one in given]


async def edits(request: web.Request) -> web.StreamResponse:
    """Change the given pictures as the prompt says; transparent parts of the mask are drawn anew."""
    form = await _read(request, request.app[RUNTIME].settings.server)
    return await _answer(request, form, prompt_field(form.fields), "image_edit")


async def variations(request: web.Request) -> web.StreamResponse:
    """Vary the given picture: OpenAI has retired this, old clients still send it; served as an edit."""
    form = await _read(request, request.app[RUNTIME].settings.server)
    prompt = VARIATION if form.fields.get("prompt") in (None, "") else prompt_field(form.fields)
    return await _answer(request, form, prompt, "image_edit")


async def _answer(request: web.Request, form: Form, prompt: str, kind: str) -> web.StreamResponse:
    runtime = request.app[RUNTIME]
    shape = choice_field(form.fields, "response_format", FORMS) or "b64_json"
    stream = bool_field(form.fields, "stream")
    identity = {**form.fields, "stream": stream, "pictures": form.digests()}
    job = claimed(request, identity)
    if job is None:
        images, mask = await _pictures(form, request)
        asked = image_request(form.fields, runtime.settings.chat, prompt, texts=True)
        asked = replace(asked, images=images, mask=mask)
        if preview := explained(request, runtime, asked, identity):
            return json_response(preview)
        job = await submit(request, asked, identity, original=prompt, inline=stream or shape == "b64_json")
    if stream:
        return await stream_pictures(request, job, kind, shape)
    return await waited(request, job, lambda result: answer_pictures(request, job, result, shape), body=form.fields)


async def _pictures(form: Form, request: web.Request) -> tuple[tuple[Image, ...], Image | None]:
    runtime, count = request.app[RUNTIME], len(form.images) + len(form.urls)
    if not count:
        raise RequestError("image is missing; send the picture to change", param="image", code="missing_image")
    if count > MOST_INPUTS:
        raise RequestError(f"{count} pictures were sent; at most {MOST_INPUTS} are taken", param="image")
    images = [await checked_image(data, runtime, "image") for data in form.images]
    images += await input_images(form.urls, request, param="image")
    mask = await checked_image(form.mask, runtime, "mask") if form.mask is not None else None
    if form.mask_url:
        mask = (await input_images([form.mask_url], request, param="mask"))[0]
    if mask:
        check_mask(mask, images[0])
    return tuple(images), mask


async def _read(request: web.Request, server: Server) -> Form:
    if request.content_type == "multipart/form-data":
        return await _read_multipart(request, server)
    body = await read_json(request, server)
    form = Form({name: value for name, value in body.items() if name not in {"image", "images", "mask"}})
    for pictures in (body.get("image"), body.get("images")):
        for picture in pictures if isinstance(pictures, list) else [pictures] if pictures is not None else []:
            form.urls.append(_url(picture, "image"))
    if body.get("mask") is not None:
        form.mask_url = _url(body["mask"], "mask")
    return form


def _url(value: object, param: str) -> str:
    url = value.get("image_url", value.get("url")) if isinstance(value, Mapping) else value
    if isinstance(url, Mapping):
        url = url.get("url")
    if not isinstance(url, str) or not url:
        raise RequestError(f"{param} must bear a URL or data: URL, not {describe(value)}", param=param)
    return url


async def _read_multipart(request: web.Request, server: Server) -> Form:
    refuse_packed(request)
    refuse_when_short(request)
    form, size, count = Form(), 0, 0
    try:
        async with asyncio.timeout(server.body_timeout):
            async for part in await request.multipart():
                count += 1
                if not isinstance(part, BodyPartReader) or not part.name or not part.name.isprintable():
                    # A name that is not UTF-8 has come as surrogates, which cannot be written anywhere.
                    raise RequestError("every part of the form needs a printable name of its own", code="invalid_body")
                data = await _read_part(part, server.max_body - size)
                size += len(data)
                if count > MOST_FIELDS:
                    raise RequestError(f"the form has more than {MOST_FIELDS} fields", code="invalid_body")
                _put(form, part.name, data)
    except TimeoutError:
        raise SlowBodyError(f"the body did not arrive within {server.body_timeout:g} s") from None
    except (ValueError, AssertionError, RuntimeError, web.RequestPayloadError, HttpProcessingError) as error:
        found = " ".join(getattr(error, "message", str(error)).split())
        raise RequestError(f"the form could not be read: {found[:200]}", code="invalid_body") from error
    return form


async def _read_part(part: BodyPartReader, left: int) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk(2**16):
        data += chunk
        if len(data) > left:
            raise BodyTooLargeError("the form is larger than is taken here")
    return bytes(data)


def _put(form: Form, name: str, data: bytes) -> None:
    url = data[:8].lower().startswith((b"http://", b"https://", b"data:"))
    if name in PICTURES and url:
        form.urls.append(_text(name, data))
    elif name in PICTURES:
        form.images.append(data)
    elif name == "mask" and url:
        form.mask_url = _text(name, data)
    elif name == "mask":
        form.mask = data
    else:
        form.fields[name] = _text(name, data)


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RequestError(f"{name[:50]} is not UTF-8 text", param=name[:50]) from None
