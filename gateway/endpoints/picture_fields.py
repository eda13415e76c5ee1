"""The parameters of a picture, by whatever names the field knows them, as one request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from gateway.endpoints.fields import Spelled, bool_field, int_field, number_field, sent_name, text_field
from gateway.errors import RequestError
from gateway.prompt import read_prompt
from gateway.settings import RATIOS, Chat
from gateway.values import ImageRequest, Size

SMALLEST_SIDE, LARGEST_SIDE = 16, 8192
MOST_PICTURES = 10
MOST_UNKNOWN, LONGEST_NAME = 50, 60
"""What is told of unknown fields: the receipt lies with each picture, so that it must stay small."""
WORDS = (
    "quality",
    "style",
    "background",
    "output_format",
    "moderation",
    "input_fidelity",
    "user",
)
SPELLINGS = {
    "num_inference_steps": "steps",
    "num_steps": "steps",
    "guidance_scale": "guidance",
    "cfg_scale": "guidance",
    "image_size": "size",
    "random_seed": "seed",
    "safety_identifier": "user",
}
"""How other APIs of the field spell our parameters."""
KNOWN = {
    "prompt",
    "model",
    "n",
    "size",
    "aspect_ratio",
    "width",
    "height",
    "seed",
    "steps",
    "guidance",
    "negative_prompt",
    "output_compression",
    "partial_images",
    "strict",
    "optimize",
    *WORDS,
}
EXACT = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
RATIO = re.compile(r"([1-9][0-9]{0,2}):([1-9][0-9]{0,2})")
"""As OpenAI writes them: anything else may be meant otherwise."""
HANDLED = {"response_format", "stream", "async", "webhook", "image", "images", "mask"}
"""Fields that the endpoints read themselves."""


def size_fields(body: Mapping[str, Any], chat: Chat, *, texts: bool = False) -> tuple[Size | None, str | None]:
    """Read ``size`` (``auto``, ``1024x576``, ``16:9``), ``aspect_ratio``, or ``width`` with ``height``."""
    ratio, text = _as_sent(body, "aspect_ratio"), _as_sent(body, "size")
    width, height = (int_field(body, name, SMALLEST_SIDE, LARGEST_SIDE, texts=texts) for name in ("width", "height"))
    if text and text != "auto":
        if ":" in text:
            return size_of_ratio(text, chat, sent_name(body, "size")), text
        return _size(text, sent_name(body, "size")), None
    if width and height:
        return Size(width, height), None
    if width or height:
        missing = "height" if width else "width"
        raise RequestError(f"width and height belong together; {missing} is missing", param=missing)
    if ratio and ratio != "auto":
        return size_of_ratio(ratio, chat, "aspect_ratio"), ratio
    return None, None


def size_of_ratio(text: str, chat: Chat, param: str) -> Size:
    """Give the size for a ratio: from the table, else about one megapixel in steps of 16."""
    known = {**RATIOS, **chat.ratios}
    if text in known:
        return known[text]
    if found := RATIO.fullmatch(text):
        across, down = int(found[1]), int(found[2])
        if max(across, down) <= 4 * min(across, down):
            unit = (1024 * 1024 / (across * down)) ** 0.5
            return Size(*(max(64, round(side * unit / 16) * 16) for side in (across, down)))
    raise RequestError(f"{param} is {text!r}; write a ratio like {', '.join(known)}, at most 4:1", param=param)


def _as_sent(body: Mapping[str, Any], name: str) -> str | None:
    """Give a field's text with the white space that it came with: a size is exact, or it is none."""
    return body[name] if text_field(body, name, limit=20) is not None else None


def _size(text: str, param: str) -> Size:
    found = EXACT.fullmatch(text)
    if not found:
        message = f"{param} is {text!r}; write it as 1024x1024, as a ratio like 16:9, or auto"
        raise RequestError(message, param=param)
    size = Size(int(found[1]), int(found[2]))
    if not SMALLEST_SIDE <= min(size.width, size.height) <= max(size.width, size.height) <= LARGEST_SIDE:
        message = f"{param} is {size}; each side must have {SMALLEST_SIDE} to {LARGEST_SIDE} pixels"
        raise RequestError(message, param=param)
    return size


def image_request(body: Mapping[str, Any], chat: Chat, prompt: str, *, texts: bool = False) -> ImageRequest:
    """Read every parameter of a picture from an images-API body; unknown names are kept for the receipt."""
    body = Spelled(body, SPELLINGS)
    size, ratio = size_fields(body, chat, texts=texts)
    words: dict[str, Any] = {name: text_field(body, name, limit=500) or None for name in WORDS}
    return ImageRequest(
        prompt=prompt,
        model=text_field(body, "model", limit=300) or "",
        n=int_field(body, "n", 1, MOST_PICTURES, texts=texts) or 1,
        size=size,
        aspect_ratio=ratio,
        seed=int_field(body, "seed", -1, 2**63 - 1, texts=texts),
        steps=int_field(body, "steps", 1, 1000, texts=texts),
        guidance=number_field(body, "guidance", 0, 100),
        negative_prompt=text_field(body, "negative_prompt") or None,
        output_compression=int_field(body, "output_compression", 0, 100, texts=texts),
        partial_images=int_field(body, "partial_images", 0, 3, texts=texts) or None,
        strict=bool_field(body, "strict"),
        optimize=bool_field(body, "optimize", default=True),
        unknown=shortened(name for name in body if name not in KNOWN and name not in HANDLED),
        spelled=tuple(body.sent.items()),
        **words,
    )


def shortened(names: Iterable[str]) -> tuple[str, ...]:
    """Give the first names of unknown fields, none longer than a name is."""
    return tuple(dict.fromkeys(name[:LONGEST_NAME] for name in islice(names, MOST_UNKNOWN)))


def with_ratio_of_prompt(
    asked: ImageRequest, body: Mapping[str, Any], chat: Chat, param: str = "prompt"
) -> ImageRequest:
    """Take a ratio that the prompt names, if the call gives no size of its own."""
    reading = read_prompt(asked.prompt, {**RATIOS, **chat.ratios}, chat.default_size)
    if not reading.prompt:
        raise RequestError(f"{param} has no words to draw besides a ratio", param=param, code="empty_prompt")
    if asked.size or not reading.aspect_ratio or Spelled(body, SPELLINGS).get("size"):
        return asked
    return replace(asked, prompt=reading.prompt, size=reading.size, aspect_ratio=reading.aspect_ratio)
