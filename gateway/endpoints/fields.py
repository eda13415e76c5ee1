"""Checks of the fields of a body: what was found, what is allowed, which field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.errors import RequestError
from gateway.prompt import clean_text

WHOLE = re.compile(r"\s*-?[0-9]{1,20}\s*")


class Spelled(dict[str, Any]):
    """A body by our own names, without nulls; it remembers how the caller spelled them.

    Of two spellings of one field our own counts.
    """

    def __init__(self, body: Mapping[str, Any], spellings: Mapping[str, str]) -> None:
        given = sorted((name for name in body if body[name] is not None), key=lambda name: name not in spellings)
        super().__init__({spellings.get(name, name): body[name] for name in given})
        self.sent = {spellings[name]: name for name in given if name in spellings and spellings[name] not in given}


def sent_name(body: Mapping[str, Any], name: str) -> str:
    """Give the name by which the caller sent a field: an error must name that one."""
    return body.sent.get(name, name) if isinstance(body, Spelled) else name


def text_field(body: Mapping[str, Any], name: str, *, limit: int = 32_000) -> str | None:
    """Read an optional string; null equals absent."""
    value, shown = body.get(name), sent_name(body, name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise RequestError(f"{shown} must be a string, not {describe(value)}", param=shown)
    return clean_field(value, shown, limit)


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
    value, shown = body.get(name), sent_name(body, name)
    if texts and isinstance(value, str):
        value = int(value) if WHOLE.fullmatch(value) else value
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{shown} must be a whole number, not {describe(value)}", param=shown)
    if not low <= value <= high:
        raise RequestError(f"{shown} is {value}; allowed are {low} to {high}", param=shown)
    return value


def number_field(body: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value, shown = body.get(name), sent_name(body, name)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise RequestError(f"{shown} must be a number, not {describe(value)}", param=shown) from None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RequestError(f"{shown} must be a number, not {describe(value)}", param=shown)
    if not low <= value <= high:
        raise RequestError(f"{shown} is {value}; allowed are {low:g} to {high:g}", param=shown)
    return value


def bool_field(body: Mapping[str, Any], name: str, default: bool = False) -> bool:
    value, shown = body.get(name), sent_name(body, name)
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        value = value.lower() == "true"
    if value is None:
        return default
    if not isinstance(value, bool):
        raise RequestError(f"{shown} must be true or false, not {describe(value)}", param=shown)
    return value


def choice_field(body: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str | None:
    value, shown = body.get(name), sent_name(body, name)
    if value is None:
        return None
    if value not in choices:
        found = repr(value) if isinstance(value, str) else describe(value)
        raise RequestError(f"{shown} is {found[:100]}; allowed are {', '.join(choices)}", param=shown)
    return str(value)


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
