"""Finds where the pictures of a chat answer are: in lists, among parts, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

BASE64 = re.compile(r"[A-Za-z0-9+/=]+")
ADDRESS = re.compile(r"https?://[^\s<>\"')\]]{1,2000}")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif")
LONGEST_URL = 4096


def texts_of(parts: list[Any]) -> Iterator[str]:
    """Yield the words of a list of parts."""
    for part in parts:
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            yield part["text"]


def in_list(parts: Any) -> Iterator[str]:
    """Yield what the items of *images* or of a list of parts point to."""
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping):
            nested = part.get("image_url", part.get("source"))
            holder = nested if isinstance(nested, Mapping) else part
            for name in ("url", "b64_json", "data", "image_url", "result"):
                if isinstance(holder.get(name), str) and holder[name]:
                    yield holder[name]
                    break


def in_output(items: Any) -> Iterator[str]:
    """Yield the pictures of an OpenAI Responses answer."""
    for item in items if isinstance(items, list) else ():
        if isinstance(item, Mapping) and item.get("type") == "image_generation_call" and item.get("result"):
            yield str(item["result"])


def in_text(text: str) -> list[str]:
    """Find pictures in Markdown: image links first, else data URLs, else links that end like a picture.

    Every step only goes forward, so that megabytes of base64 cost no more than their length.
    """
    links = [target for is_image, target in _links(text) if is_image]
    if links:
        return links
    data = list(_data_urls(text))
    if data:
        return data
    return [found for found in ADDRESS.findall(text) if found.partition("?")[0].lower().endswith(ENDINGS)]


def _links(text: str) -> Iterator[tuple[bool, str]]:
    """Yield each Markdown link: whether it is a picture, and its target."""
    position = 0
    while (middle := text.find("](", position)) >= 0:
        start = middle + 2
        end = _end_of_target(text, start)
        if end < 0:
            return
        opening = text.rfind("[", position, middle)
        target = text[start:end].strip().removeprefix("<").partition(" ")[0].removesuffix(">")
        if target.startswith(("https://", "http://", "data:")):
            yield opening > 0 and text[opening - 1] == "!", target
        position = end


def _end_of_target(text: str, start: int) -> int:
    """Find the bracket that closes a link; a few opened inside the address must be closed first."""
    end = text.find(")", start)
    for _ in range(4):
        if not 0 < end < start + LONGEST_URL or text.count("(", start, end) <= text.count(")", start, end):
            break
        end = text.find(")", end + 1)
    return end


def _data_urls(text: str) -> Iterator[str]:
    position = 0
    while (start := text.find("data:image/", position)) >= 0:
        comma = text.find(";base64,", start, start + 200)
        content = BASE64.match(text, comma + 8) if comma >= 0 else None
        position = content.end() if content else start + 11
        if content:
            yield text[start:position]
