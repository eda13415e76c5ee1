"""Reads a chat completion, also one that comes as a stream although none was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from gateway import Answer, value_at


def completion_of(answer: Answer) -> Any:
    """Parse *answer*; raise `BrokenAnswerError` if it is neither JSON nor a stream of it."""
    return _folded(answer.body) if answer.is_stream else answer.json()


def _folded(stream: bytes) -> dict[str, Any]:
    """Join the chunks to the completion that they make: the picture in them is paid for."""
    words: list[str] = []
    images: list[Any] = []
    whole: dict[str, Any] = {}
    ended: Any = None
    for chunk in _chunks(stream):
        whole |= {name: chunk[name] for name in ("error", "usage") if chunk.get(name)}
        choice = value_at(chunk, ("choices", 0))
        if not isinstance(choice, Mapping):
            continue
        ended = choice.get("finish_reason") or ended
        whole |= {"error": choice["error"]} if choice.get("error") else {}
        said = choice.get("delta") or choice.get("message")
        if isinstance(said, Mapping):
            words += [said["content"]] if isinstance(said.get("content"), str) else []
            images += said["images"] if isinstance(said.get("images"), list) else []
    message = {"content": "".join(words), "images": images}
    return {**whole, "choices": [{"message": message, "finish_reason": ended}]}


def _chunks(stream: bytes) -> Iterator[dict[str, Any]]:
    for line in stream.split(b"\n"):
        if line.startswith(b"data:"):
            try:
                chunk = orjson.loads(line[5:])
            except orjson.JSONDecodeError:
                continue
            if isinstance(chunk, dict):
                yield chunk
