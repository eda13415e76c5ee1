"""Answers the title, tag, follow-up and summary prompts that chat clients send by themselves, without a picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from gateway.task_prompts import (
    EMOJI_ASKED,
    FOLLOW_UPS_ASKED,
    OPEN_WEBUI,
    OWN_TEMPLATE,
    SUMMARY_ASKED,
    SUMMARY_ORDERED,
    TITLE_ASKED,
    TITLE_ORDERED,
)

Kind = str
"""``title``, ``summary``, ``tags``, ``follow_ups``, ``queries``, ``emoji``, ``tool_calls``, ``text`` or ``prompt``."""

NOTHING_SAID = "Picture"
EMOJI = "🎨"
SYSTEM = ("system", "developer")
MOST_SYSTEMS = 4
ALWAYS_JSON = ("tags", "follow_ups", "queries", "text", "prompt")
"""What Open WebUI reads as JSON, whatever its template says."""

SPOKEN = re.compile(
    r"^[ \t>|]*(?:user|human|用户)[ \t]*[:：][ \t]*(?:\n[ \t]*)?\"?(\S[^\n]*)", re.IGNORECASE | re.MULTILINE
)
APPENDED = re.compile(r"[\"“`]([^\"“”`\n]{2,500})[\"”`]\W*$")
TITLE_PROMPTED = re.compile(r"(?:title|summary|tags|tl;?dr)", re.IGNORECASE)
QUOTED_TURN = re.compile(r'"role"\s*:\s*"user"\s*,\s*"(?:mainText|content)"\s*:\s*("(?:[^"\\]|\\.)*")')
NOISE = re.compile(
    r"!?\[[^\[\]]*\]\([^()]*\)|https?://\S+|[0-9０-９]{1,4}[:：][0-9０-９]{1,4}|---?\w+|[#*_`<>{}|\"“”\\]"
)
CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
LISTED = 4_000
LONGEST_TEXT, MOST_TURNS = 32_000, 200
"""What is looked at: a conversation of megabytes must not hold up everybody else for a title."""


def answer_task(messages: Sequence[Any]) -> str | None:
    """Answer a client's own prompt in the conversation's words; None if a person asks for a picture.

    Each family is known by how it begins, word for word, so that ``a poster with the title …`` is still drawn: a title
    that costs a picture is a nuisance, but a person who gets words for a picture is lost.
    """
    said = [(message.get("role"), message) for message in messages if isinstance(message, Mapping)]
    if not said or not _has_words_alone(said[-1][1]):
        return None
    last = text_of(said[-1][1])
    standing = [text_of(message) for role, message in said[:-1] if role in SYSTEM][:MOST_SYSTEMS]
    kind, order = _order(said[-1][0], last, standing)
    if kind is None:
        return None
    turns = [(role, text_of(message)) for role, message in said[:-1] if role == "user"]
    asked = _asked_before(turns if order is last else [*turns, ("user", last)], last if order is last else "")
    return _answer(kind, order, asked)


def _answer(kind: Kind, order: str, asked: Sequence[str]) -> str:
    """Write what was ordered, as the JSON that the order shows if it shows any."""
    answers: dict[Kind, Callable[[], Any]] = {
        "title": lambda: _title(asked),
        "summary": lambda: "; ".join(asked)[:LISTED] or NOTHING_SAID,
        "tags": lambda: _tags(asked),
        "emoji": lambda: EMOJI,
        "prompt": lambda: asked[-1] if asked else "",
        "follow_ups": list,
        "queries": list,
        "tool_calls": list,
        "text": str,
    }
    value = answers[kind]()
    if re.search(rf"[\"']{kind}[\"']\s*:", order) or (kind in ALWAYS_JSON and order.startswith("### Task:")):
        return orjson.dumps({kind: value}).decode()
    if kind == "queries":
        return asked[-1] if asked else ""
    return ", ".join(value) if isinstance(value, list) else str(value)


def _has_words_alone(message: Mapping[str, Any]) -> bool:
    """Say whether no picture comes with a message: those that clients send by themselves bear none."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in parts)


def text_of(message: Mapping[str, Any]) -> str:
    """Join the text of a message, whether it is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content[:LONGEST_TEXT].strip()
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    return "\n".join(text for text in texts if isinstance(text, str))[:LONGEST_TEXT].strip()


def _order(role: Any, last: str, standing: Sequence[str]) -> tuple[Kind | None, str]:
    """Say which task it is, and in which text it was ordered: the last message, or a system message before it."""
    if role not in ("user", *SYSTEM):
        return None, ""
    if SUMMARY_ASKED.match(last):
        return "summary", last
    if last.startswith("### Task:"):
        return _open_webui_kind(last.removeprefix("### Task:").lstrip()), last
    if FOLLOW_UPS_ASKED.match(last):
        return "follow_ups", last
    if EMOJI_ASKED.match(last):
        return "emoji", last
    if TITLE_ASKED.match(last):
        return "title", last
    for text in standing:
        if text.startswith("Available Tools:") and "tool" in text[-2_000:]:
            return "tool_calls", text
        if TITLE_ORDERED.match(text) or TITLE_ASKED.match(text):
            return "title", text
        if SUMMARY_ORDERED.match(text):
            return "summary", text
    return None, ""


def _open_webui_kind(task: str) -> Kind | None:
    for kind, pattern in OPEN_WEBUI.items():
        if re.match(pattern, task, re.IGNORECASE):
            return kind
    if "<chat_history>" not in task:
        return None
    found = OWN_TEMPLATE.search(task.partition("<chat_history>")[0])
    return found[1] if found else None


def _asked_before(turns: Sequence[tuple[Any, str]], last: str) -> list[str]:
    """List what the person asked for: in the turns before, or in the history that the *last* message quotes."""
    said = [words for _, text in turns if text for words in _quoted(text) or [text]]
    if not said and last:
        history = last.partition("<chat_history>")[2].partition("</chat_history>")[0] or last
        said = _quoted(history) or _appended(last)
    if len(said) > MOST_TURNS:
        said = said[: MOST_TURNS // 2] + said[-MOST_TURNS // 2 :]
    clean = [" ".join(NOISE.sub(" ", turn[:2_000]).split()).strip(" ,;.:，。；：") for turn in said]
    return [turn for turn in clean if turn and not TITLE_PROMPTED.fullmatch(turn)]


def _quoted(history: str) -> list[str]:
    """Find what the user said in a conversation that a text quotes."""
    turns = [str(orjson.loads(found)) for found in QUOTED_TURN.findall(history) if _is_json(found)]
    return turns or SPOKEN.findall(history)


def _appended(order: str) -> list[str]:
    """Find the words that an order is about: behind its last colon that ends a line, or its last quotation."""
    _, found, after = order.rpartition(":\n")
    if found and after.strip():
        return [after.strip().partition("\n")[0]]
    quoted = APPENDED.search(order[-2_000:])
    return [quoted[1]] if quoted else []


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _title(asked: Sequence[str]) -> str:
    if not asked:
        return NOTHING_SAID
    words = asked[0].split()
    title = asked[0][:12] if len(words) < 3 and CJK.search(asked[0]) else " ".join(words[:6])
    return (title[:1].upper() + title[1:])[:60].rstrip(" ,;.:，。；：")


def _tags(asked: Sequence[str]) -> list[str]:
    words = dict.fromkeys(word.strip(",;.:!?()").capitalize() for text in asked for word in text.split())
    return [NOTHING_SAID, *[word for word in words if len(word) > 3 and word.isalpha()][:3]]
