"""Reads the body of a Responses call: what the last user message and the image tool ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.endpoints.fields import (
    bool_field,
    choice_field,
    describe,
    text_field,
)
from gateway.endpoints.picture_fields import image_request, shortened, with_ratio_of_prompt
from gateway.endpoints.responses_input import picture_url, read_input
from gateway.errors import RequestError
from gateway.settings import Chat
from gateway.values import ImageRequest

TOOL = "image_generation"
SERVED = f"served here is one answer per call by the tool {TOOL}: send model, input and tools:[{{'type':'{TOOL}'}}]"
KEPT_ELSEWHERE = ("previous_response_id", "conversation", "prompt")
"""Fields that refer to something OpenAI keeps; here nothing of a conversation is kept."""
EXTRAS = ("user", "safety_identifier", "strict", "optimize", "seed", "negative_prompt", "n")
"""What may also stand beside the tool instead of in it."""
ACTIONS = ("auto", "generate", "edit")


@dataclass(frozen=True, slots=True)
class ResponsesCall:
    """A Responses call, read. *pictures* are URLs, or ids of earlier image calls, of what shall be changed."""

    text: str
    pictures: tuple[str, ...]
    mask: str | None
    models: tuple[str, ...]
    stream: bool
    action: str
    request: ImageRequest
    echo: Mapping[str, Any] = field(default_factory=dict)
    """The fields of a response that only repeat the call."""


def parse_responses(body: Mapping[str, Any], chat: Chat) -> ResponsesCall:
    """Read a body; raise `RequestError` naming the field, and what is served, for anything else than one picture."""
    _refuse_the_rest(body)
    tool = _image_tool(body)
    if body.get("input") is None:
        raise RequestError(f"input is missing; {SERVED}", param="input", code="missing_required_parameter")
    text, pictures = read_input(body["input"])
    if not text:
        raise RequestError("input has no words that say what to draw", param="input", code="empty_prompt")
    action = choice_field(tool, "action", ACTIONS) or "auto"
    if action == "edit" and not pictures:
        raise RequestError("action is 'edit', but input has no picture to change", param="tools")
    mask = _mask(tool, pictures)
    models = tuple(filter(None, (text_field(tool, "model", limit=300), text_field(body, "model", limit=300))))
    unused = ("input_image",) if action == "generate" and pictures else ()
    asked = _picture_request(body, tool, chat, text)
    asked = replace(asked, model=models[-1] if models else "", unknown=shortened((*unused, *asked.unknown)))
    return ResponsesCall(
        text=text,
        pictures=() if action == "generate" else pictures,
        mask=None if action == "generate" else mask,
        models=models,
        stream=bool_field(body, "stream"),
        action=action,
        request=asked,
        echo=_echo(body, tool),
    )


def _refuse_the_rest(body: Mapping[str, Any]) -> None:
    for name in KEPT_ELSEWHERE:
        if body.get(name) is not None:
            words = "; to change an earlier picture, send its image_generation_call item in input"
            raise RequestError(f"{name} is not served: {SERVED}{words}", param=name, code="unsupported_parameter")
    if bool_field(body, "background"):
        words = "; for an answer later, send the header 'Prefer: respond-async'"
        raise RequestError(
            f"background is not served: {SERVED}{words}", param="background", code="unsupported_parameter"
        )


def _image_tool(body: Mapping[str, Any]) -> Mapping[str, Any]:
    tools = body.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise RequestError(f"tools must be a list, not {describe(tools)}", param="tools")
    for place, tool in enumerate(tools or []):
        if not isinstance(tool, Mapping):
            raise RequestError(f"tools[{place}] must be an object, not {describe(tool)}", param="tools")
        if tool.get("type") != TOOL:
            raise _unsupported(f"tools[{place}] is {_named(tool)}; {SERVED}")
    if not tools:
        raise _unsupported(f"tools is missing; {SERVED}")
    if len(tools) > 1:
        raise _unsupported(f"tools[1] is {TOOL} a second time; {SERVED}")
    if not _may_draw(body.get("tool_choice")):
        raise RequestError(f"tool_choice forbids the only tool there is; {SERVED}", param="tool_choice")
    return {name: value for name, value in tools[0].items() if name != "type"}


def _named(tool: Mapping[str, Any]) -> str:
    """Name a tool by its type, and by its own name if it has one: ``'function' (get_weather)``."""
    inner = tool.get("function")
    name = tool.get("name") or (inner.get("name") if isinstance(inner, Mapping) else None)
    return f"{tool.get('type')!r:.60}" + (f" ({name:.60})" if isinstance(name, str) else "")


def _unsupported(message: str) -> RequestError:
    return RequestError(message, param="tools", code="unsupported_tools")


def _may_draw(choice: object) -> bool:
    if isinstance(choice, Mapping):
        allowed = choice.get("tools")
        named = allowed if isinstance(allowed, list) else [choice]
        return any(isinstance(tool, Mapping) and tool.get("type") == TOOL for tool in named)
    return choice in (None, "auto", "required")


def _mask(tool: Mapping[str, Any], pictures: tuple[str, ...]) -> str | None:
    mask = tool.get("input_image_mask")
    if mask is None:
        return None
    if not isinstance(mask, Mapping):
        raise RequestError(f"input_image_mask must be an object, not {describe(mask)}", param="tools")
    if not pictures:
        raise RequestError("input_image_mask needs a picture in input to lie upon", param="tools")
    return picture_url(mask, "input_image_mask", "tools")


def _picture_request(body: Mapping[str, Any], tool: Mapping[str, Any], chat: Chat, text: str) -> ImageRequest:
    beside = {name: body[name] for name in EXTRAS if name in body}
    asked = {**beside, **{name: value for name, value in tool.items() if name not in ("action", "input_image_mask")}}
    return with_ratio_of_prompt(image_request(asked, chat, text), asked, chat, "input")


def _echo(body: Mapping[str, Any], tool: Mapping[str, Any]) -> dict[str, Any]:
    metadata, instructions = body.get("metadata"), body.get("instructions")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise RequestError(f"metadata must be an object, not {describe(metadata)}", param="metadata")
    return {
        "instructions": instructions if isinstance(instructions, str) else None,
        "metadata": metadata or {},
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "tool_choice": body.get("tool_choice") or "auto",
        # Without the mask: it is as large as a picture.
        "tools": [{"type": TOOL, **{name: value for name, value in tool.items() if name != "input_image_mask"}}],
    }
