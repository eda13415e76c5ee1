"""Reads the body of a chat call: whatever chat clients send besides never breaks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from gateway.endpoints.fields import bool_field, clean_field, describe, text_field
from gateway.endpoints.inputs import input_images
from gateway.endpoints.picture_fields import KNOWN, SPELLINGS, image_request
from gateway.errors import RequestError
from gateway.prompt import PromptReading, read_prompt
from gateway.settings import RATIOS, Chat
from gateway.values import ImageRequest

PLUMBING = {"messages", "stream", "stream_options", "model", "n", "user", "prompt"}
PICTURE_PARTS = ("image_url", "input_image")
TEXT_PARTS = ("text", "input_text")
OTHER_SIDE = {"height": "width", "width": "height"}


@dataclass(frozen=True, slots=True)
class Form:
    """How a chat call is to be answered: in the name of which *model*, streamed or not, with the usage or not."""

    model: str
    stream: bool
    include_usage: bool


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A chat call, read: *text* is the last user message without flags, *pictures* the URLs of its image parts."""

    text: str
    pictures: tuple[str, ...]
    form: Form
    request: ImageRequest

    async def image_request(self, request: web.Request) -> ImageRequest:
        """Give the request with its input pictures fetched and checked."""
        if not self.pictures:
            return self.request
        images = await input_images(self.pictures, request, param="messages")
        # The size of all chats is none that anybody asked for; an edit keeps its picture's own.
        size = None if self.request.any_size else self.request.size
        return replace(self.request, images=images, size=size)


def parse_chat(body: Mapping[str, Any], chat: Chat) -> ChatCall:
    """Read a chat body; raise `RequestError` naming the field for anything that cannot be served."""
    form = read_form(body)
    text, pictures = _last_user_message(body)
    reading = read_prompt(text, {**RATIOS, **chat.ratios}, chat.default_size, chat.legacy_ratio)
    if not reading.prompt:
        raise RequestError(
            "the last user message has no words to draw" + (" besides a ratio" if text.strip() else ""),
            param="messages",
            code="empty_prompt",
        )
    return ChatCall(reading.written, pictures, form, _picture_parameters(body, chat, reading))


def read_form(body: Mapping[str, Any]) -> Form:
    """Read what says nothing of the picture; raise `RequestError` naming the field."""
    options = body.get("stream_options")
    include_usage = isinstance(options, Mapping) and options.get("include_usage") is True
    return Form(text_field(body, "model", limit=300) or "", bool_field(body, "stream"), include_usage)


def _last_user_message(body: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    messages = body.get("messages")
    if messages is None:
        raise RequestError("messages is missing; send a list with a user message", param="messages")
    if not isinstance(messages, list) or not messages:
        found = "an empty list" if messages == [] else describe(messages)
        raise RequestError(f"messages must be a list with a user message, not {found}", param="messages")
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if not isinstance(message, Mapping):
            raise RequestError(f"messages[{place}] must be an object, not {describe(message)}", param="messages")
        if message.get("role") == "user":
            return _content(message.get("content"), f"messages[{place}].content")
    raise RequestError("no message has the role 'user'", param="messages", code="missing_user_message")


def _content(content: object, where: str) -> tuple[str, tuple[str, ...]]:
    if isinstance(content, str):
        return clean_field(content, "messages"), ()
    if not isinstance(content, list):
        raise RequestError(f"{where} must be a string or a list of parts, not {describe(content)}", param="messages")
    texts, pictures = [], []
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, str):
            texts.append(part)
        elif kind in TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in PICTURE_PARTS:
            pictures.append(_picture_part(part, f"{where}[{place}]"))
        else:
            found = f"a part of type {kind!r}" if isinstance(kind, str) else describe(part)
            raise RequestError(f"{where}[{place}] is {found[:80]}; known are text and image_url", param="messages")
    return clean_field("\n".join(texts), "messages"), tuple(pictures)


def _picture_part(part: Mapping[str, Any], where: str) -> str:
    value = part.get("image_url")
    url = value.get("url") if isinstance(value, Mapping) else value
    if not isinstance(url, str) or not url:
        raise RequestError(f"{where}.image_url must bear a URL or a data: URL", param="messages")
    return url


def _picture_parameters(body: Mapping[str, Any], chat: Chat, reading: PromptReading) -> ImageRequest:
    """Take what means something for a picture; what cannot be read is dropped, and the receipt says so.

    A ratio in the prompt goes before a size in the body, and that before the configured one.
    """
    names = {name for name in body if SPELLINGS.get(name, name) in KNOWN} - PLUMBING
    if not names:
        model = text_field(body, "model", limit=300) or ""
        ratio = reading.aspect_ratio
        return ImageRequest(reading.prompt, model, size=reading.size, aspect_ratio=ratio, any_size=not ratio)
    asked: dict[str, Any] = {name: body[name] for name in names}
    asked["model"] = body.get("model")
    broken: list[str] = []
    while True:
        try:
            request = image_request(asked, chat, reading.prompt)
        except RequestError as error:
            # Of a width without a height, the height is what is complained of.
            culprit = error.param if error.param in asked else OTHER_SIDE.get(error.param or "")
            if culprit == "model" or culprit not in asked:
                raise
            broken.append(culprit)
            del asked[culprit]
        else:
            size = reading.size if reading.aspect_ratio or not request.size else request.size
            ratio = reading.aspect_ratio or request.aspect_ratio
            unasked = not (reading.aspect_ratio or request.size)
            unknown = (*request.unknown, *sorted(broken))
            return replace(request, size=size, aspect_ratio=ratio, unknown=unknown, any_size=unasked)
