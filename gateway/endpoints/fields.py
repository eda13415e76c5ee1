"""Checks of the fields of a body: what was found, what is allowed, which field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from gateway.errors import RequestError
from gateway.prompt import clean_text, read_prompt
from gateway.settings import RATIOS, Chat
from gateway.values import ImageRequest, Size

WHOLE = re.compile(r"\s*-?[0-9]{1,20}\s*")
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
HANDLED = {"response_format", "stream", "async", "webhook", "image", "images", "mask"}
"""Fields that the endpoints read themselves."""


def text_field(body: Mapping[str, Any], name: str, *, limit: int = 32_000) -> str | None:
    """Read an optional string; null equals absent."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise RequestError(f"{name} must be a string, not {describe(value)}", param=name)
    return clean_field(value, name, limit)


def clean_field(value: str, name: str, limit: int = 32_000) -> str:
    try:
        return clean_text(value, limit, "prompt" if name == "messages" else name)
    except RequestError as error:
        raise RequestError(error.message, param=name, code=error.code) from None


def prompt_field(body: Mapping[str, Any]) -> str:
    """Read the prompt; raise when it is missing or empty."""
    if body.get("prompt") is None:
        raise RequestError("prompt is missing; say what the picture shall show", param="prompt", code="missing_prompt")
    prompt = text_field(body, "prompt")
    if not prompt:
        raise RequestError("prompt is empty; say what the picture shall show", param="prompt", code="empty_prompt")
    return prompt


def int_field(body: Mapping[str, Any], name: str, low: int, high: int, *, texts: bool = False) -> int | None:
    """Read an optional whole number; *texts* accepts digits as text, as multipart forms send them."""
    value = body.get(name)
    if texts and isinstance(value, str):
        value = int(value) if WHOLE.fullmatch(value) else value
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{name} must be a whole number, not {describe(value)}", param=name)
    if not low <= value <= high:
        raise RequestError(f"{name} is {value}; allowed are {low} to {high}", param=name)
    return value


def number_field(body: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = body.get(name)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise RequestError(f"{name} must be a number, not {describe(value)}", param=name) from None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RequestError(f"{name} must be a number, not {describe(value)}", param=name)
    if not low <= value <= high:
        raise RequestError(f"{name} is {value}; allowed are {low:g} to {high:g}", param=name)
    return value


def bool_field(body: Mapping[str, Any], name: str, default: bool = False) -> bool:
    value = body.get(name)
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        value = value.lower() == "true"
    if value is None:
        return default
    if not isinstance(value, bool):
        raise RequestError(f"{name} must be true or false, not {describe(value)}", param=name)
    return value


def choice_field(body: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if value not in choices:
        found = repr(value) if isinstance(value, str) else describe(value)
        raise RequestError(f"{name} is {found[:100]}; allowed are {', '.join(choices)}", param=name)
    return str(value)


def size_fields(body: Mapping[str, Any], chat: Chat) -> tuple[Size | None, str | None]:
    """Read ``size`` (``auto``, ``1024x576``, ``16:9``), ``aspect_ratio``, or ``width`` with ``height``."""
    ratio = text_field(body, "aspect_ratio", limit=20)
    text = text_field(body, "size", limit=20)
    width, height = (int_field(body, name, SMALLEST_SIDE, LARGEST_SIDE) for name in ("width", "height"))
    if text and text.lower() != "auto":
        if ":" in text:
            return size_of_ratio(text, chat, "size"), text
        return _size(text), None
    if width and height:
        return Size(width, height), None
    if width or height:
        missing = "height" if width else "width"
        raise RequestError(f"width and height belong together; {missing} is missing", param=missing)
    if ratio and ratio.lower() != "auto":
        return size_of_ratio(ratio, chat, "aspect_ratio"), ratio
    return None, None


def size_of_ratio(text: str, chat: Chat, param: str) -> Size:
    """Give the size for a ratio: from the table, else about one megapixel in steps of 16."""
    known = {**RATIOS, **chat.ratios}
    if text in known:
        return known[text]
    parts = text.split(":")
    if len(parts) == 2 and all(part.isascii() and part.isdigit() and 0 < int(part) < 1000 for part in parts):
        across, down = int(parts[0]), int(parts[1])
        if max(across, down) <= 4 * min(across, down):
            unit = (1024 * 1024 / (across * down)) ** 0.5
            return Size(*(max(64, round(side * unit / 16) * 16) for side in (across, down)))
    raise RequestError(f"{param} is {text!r}; write a ratio like {', '.join(known)}, at most 4:1", param=param)


def _size(text: str) -> Size:
    try:
        size = Size.parse(text)
    except ValueError:
        message = f"size is {text!r}; write it as 1024x1024, as a ratio like 16:9, or auto"
        raise RequestError(message, param="size") from None
    if not SMALLEST_SIDE <= min(size.width, size.height) <= max(size.width, size.height) <= LARGEST_SIDE:
        message = f"size is {size}; each side must have {SMALLEST_SIDE} to {LARGEST_SIDE} pixels"
        raise RequestError(message, param="size")
    return size


def image_request(body: Mapping[str, Any], chat: Chat, prompt: str, *, texts: bool = False) -> ImageRequest:
    """Read every parameter of a picture from an images-API body; unknown names are kept for the receipt."""
    body = {SPELLINGS.get(name, name): value for name, value in sorted(body.items(), key=lambda item: item[0] in KNOWN)}
    size, ratio = size_fields(body, chat)
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
        unknown=shortened(
            name for name, value in body.items() if value is not None and name not in KNOWN and name not in HANDLED
        ),
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
    if asked.size or not reading.aspect_ratio or body.get("size"):
        return asked
    return replace(asked, prompt=reading.prompt, size=reading.size, aspect_ratio=reading.aspect_ratio)


def describe(value: object) -> str:
    """Name a JSON value for a message: its kind, and the value itself if it is short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {str(value)[:30]}"
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    return "a list" if isinstance(value, list) else "an object"
