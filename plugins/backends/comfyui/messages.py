"""Reads what ComfyUI says: messages and previews of its websocket, finished histories, rejected workflows."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from typing import Any

import orjson

from gateway import (
    Answer,
    BrokenAnswerError,
    GatewayError,
    Image,
    MisconfiguredError,
    RejectedError,
    Report,
    UpstreamError,
    classify,
    error_words,
    one_line,
)

ENDS = ("execution_success", "execution_error", "execution_interrupted")
PREVIEW, PREVIEW_WITH_WORDS = 1, 4


def tell(text: str, report: Report, wake: asyncio.Event) -> None:
    """Report a message's progress, or wake who waits if it says that the workflow is over."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        return
    kind, data = (message.get("type"), message.get("data")) if isinstance(message, dict) else (None, None)
    if not isinstance(data, dict):
        return
    if kind in ENDS or (kind == "executing" and data.get("node", "") is None):
        wake.set()
    value, most = data.get("value"), data.get("max")
    if kind == "progress" and isinstance(value, int | float) and isinstance(most, int | float) and most > 0:
        report.progress(value / most, f"node {data.get('node')}" if data.get("node") else "")


def show(frame: bytes, report: Report) -> None:
    """Report a preview: event type, format, picture; or event type, length of a JSON, JSON, picture."""
    if len(frame) <= 8:
        return
    kind, number = struct.unpack(">II", frame[:8])
    picture = frame[8:] if kind == PREVIEW else frame[8 + number :] if kind == PREVIEW_WITH_WORDS else b""
    if picture:
        report.partial(Image(picture))


def saved(entry: Mapping[str, Any], output: str | None) -> list[Mapping[str, str]]:
    """List what a finished workflow saved; what was only previewed counts if nothing else is there."""
    status = entry.get("status")
    if isinstance(status, dict) and status.get("status_str") == "error":
        raise UpstreamError(_failure(status.get("messages")), billed=False, retryable=True)
    outputs = entry.get("outputs")
    nodes = outputs.items() if isinstance(outputs, dict) else ()
    lists = [node.get("images") for name, node in nodes if output in (None, name) and isinstance(node, dict)]
    images = [image for each in lists if isinstance(each, list) for image in each if isinstance(image, dict)]
    places: list[Mapping[str, str]] = [
        {name: str(image.get(name) or "") for name in ("filename", "subfolder", "type")}
        for image in images
        if isinstance(image.get("filename"), str)
    ]
    kept = [place for place in places if place["type"] == "output"] or places
    if not kept:
        raise UpstreamError("ran the workflow, but it saved no picture (has it a SaveImage node?)", billed=False)
    return kept


def _failure(messages: object) -> str:
    rows = [row for row in messages if isinstance(row, list) and len(row) == 2] if isinstance(messages, list) else []
    told = {row[0]: row[1] for row in rows if isinstance(row[0], str)}
    error = told.get("execution_error")
    if isinstance(error, dict):
        return one_line(f"failed at {error.get('node_type')}: {error.get('exception_message')}")
    return "was interrupted there" if "execution_interrupted" in told else "failed without saying why"


def judge(answer: Answer) -> GatewayError | None:
    """See a rejected workflow as what it is: a matter of configuration, with the node's own words."""
    error = classify(answer)
    if not isinstance(error, RejectedError):
        return error
    try:
        body = answer.json()
    except BrokenAnswerError:
        return error
    nodes = body.get("node_errors") if isinstance(body, dict) else None
    first = next(iter(nodes.values()), None) if isinstance(nodes, dict) else None
    rows = first.get("errors") if isinstance(first, dict) else None
    row = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
    kind = first.get("class_type") if isinstance(first, dict) else None
    words = f"{error_words(answer)} {kind or ''} {row.get('message') or ''} {row.get('details') or ''}"
    return MisconfiguredError(f"rejected the workflow ({one_line(words)})")
