"""Reads the input of a Responses call: the words and pictures of the last user message, or the last picture drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.endpoints.fields import clean_field, describe
from gateway.errors import RequestError

CALL = "image_generation_call"
"""The item that bears a drawn picture, in answers and in later calls."""


def read_input(given: object) -> tuple[str, tuple[str, ...]]:
    """Give the words and pictures of the last user message; without pictures of its own, the last one drawn."""
    if isinstance(given, str):
        return clean_field(given, "input"), ()
    if not isinstance(given, list) or not given:
        raise RequestError(f"input must be a string or a list of messages, not {describe(given)}", param="input")
    asked: tuple[str, Mapping[str, Any]] | None = None
    drawn: tuple[str, Mapping[str, Any]] | None = None
    for place, item in enumerate(given):
        if not isinstance(item, Mapping):
            raise RequestError(f"input[{place}] must be an object, not {describe(item)}", param="input")
        if item.get("role") == "user":
            asked = f"input[{place}].content", item
        elif item.get("type") == CALL and item.get("status") != "failed":
            drawn = f"input[{place}]", item
    if asked is None:
        raise RequestError("input has no message of the role 'user'", param="input", code="missing_user_message")
    # What was said before counts no more, whatever it holds: it comes along with every call.
    text, pictures = _content(asked[1].get("content"), asked[0])
    return text, pictures or ((_drawn(drawn[1], drawn[0]),) if drawn else ())


def _content(content: object, where: str) -> tuple[str, tuple[str, ...]]:
    if isinstance(content, str):
        return clean_field(content, "input"), ()
    if not isinstance(content, list):
        raise RequestError(f"{where} must be a string or a list of parts, not {describe(content)}", param="input")
    texts, pictures = [], []
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in ("input_text", "text") and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "input_image":
            pictures.append(picture_url(part, f"{where}[{place}]", "input"))
        else:
            found = f"a part of type {kind!r}"[:80] if isinstance(kind, str) else describe(part)
            message = f"{where}[{place}] is {found}; known are input_text and input_image"
            raise RequestError(message, param="input")
    return clean_field("\n".join(texts), "input"), tuple(pictures)


def picture_url(part: Mapping[str, Any], where: str, param: str) -> str:
    """Give the URL that a part bears; files by id are not served."""
    url = part.get("image_url")
    if isinstance(url, str) and url:
        return url
    if part.get("file_id"):
        raise RequestError(f"{where}.file_id: no files are kept here; send image_url", param=param)
    raise RequestError(f"{where}.image_url must be a URL or a data: URL", param=param)


def _drawn(item: Mapping[str, Any], where: str) -> str:
    """Give an earlier picture: its bytes if the item has them, else its id."""
    result, identity = item.get("result"), item.get("id")
    if isinstance(result, str) and result:
        return f"data:image/png;base64,{result}"
    if not isinstance(identity, str) or not identity:
        raise RequestError(f"{where} needs the id or the result of an earlier picture", param="input")
    return identity
