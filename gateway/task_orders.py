"""Tells whether a text orders words about a conversation (a title, a summary, tags …) and not a picture."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.task_words import (
    BARE,
    ENGLISH,
    HINTS,
    LEAD,
    ONCE,
    ORDER,
    OTHERS,
    PICTURE,
    ROLE,
    ROLES,
    TITLED,
    Kind,
)

HEAD, TAIL, SENTENCE = 1_500, 800, 400
"""Where an order stands: in the first letters of a message, or in the last, after what it is about."""
END = re.compile(r"(?<=[.!?…])\s+|[。！？\n]+|\.{2,}\s*")
LEADING = " \t-–*#>•[(\"'`0123456789.)"
QUOTED = re.compile(r"[:：\"“«`{<]")


def order_in(text: str) -> Kind | None:
    """Give what a user's message orders, or a system message that comes last."""
    if not _promising(text[:HEAD]) and not _promising(text[HEAD:][-TAIL:]):
        return None
    for sentence in _sentences(text):
        if kind := _kind(sentence, text):
            return kind
    return None


def standing_order_in(text: str) -> Kind | None:
    """Give what a system message orders that goes before the conversation.

    Only its first sentences count, and only if they are for this very answer: an assistant may be told to name every
    picture, or to sum up when it is asked to.
    """
    if not _promising(text[:HEAD]):
        return None
    for count, sentence in enumerate(_sentences(text[:HEAD])):
        if count == 3 or ONCE.search(sentence):
            return None
        if kind := _role(sentence, first=not count) or _kind(sentence, text):
            return kind
    return None


def _promising(text: str) -> bool:
    text = text.lower()
    return any(hint in text for hint in HINTS)


def _sentences(text: str) -> Iterator[str]:
    edges = [text] if len(text) <= HEAD + TAIL else [text[:HEAD], text[-TAIL:]]
    for edge in edges:
        for piece in END.split(edge):
            sentence = " ".join(piece[: 2 * SENTENCE].split()).lstrip(LEADING)[:SENTENCE]
            if sentence:
                yield sentence


def _role(sentence: str, first: bool) -> Kind | None:
    """Read ``You are a conversation title generator``, ``You generate short titles for chats``."""
    if not first or not ROLE.match(sentence) or PICTURE.search(sentence):
        return None
    found = ROLES.search(sentence)
    if not found:
        return None
    return "summary" if (found[1] or found[2] or found[3]).lower().startswith("summar") else "title"


def _kind(sentence: str, text: str) -> Kind | None:
    return _english(sentence, text) or _foreign(sentence)


def _english(sentence: str, text: str) -> Kind | None:
    sentence = sentence[LEAD.match(sentence).end() :]  # type: ignore[union-attr]  # it matches the empty text, too
    if not ORDER.match(sentence):
        return None
    sentence = QUOTED.split(sentence, maxsplit=1)[0]
    if PICTURE.search(sentence):
        return None
    for kind, pattern in ENGLISH.items():
        if pattern.search(sentence):
            return kind
    bare = TITLED.search(sentence) and BARE.search(text, 0, HEAD) and not PICTURE.search(text, 0, HEAD)
    return "title" if bare else None


def _foreign(sentence: str) -> Kind | None:
    for tongue in OTHERS:
        if not tongue.talk.search(sentence) or tongue.picture.search(sentence):
            continue
        if tongue.anywhere and not tongue.order.search(sentence):
            continue
        if not tongue.anywhere and not tongue.order.match(sentence):
            continue
        for kind, pattern in tongue.things.items():
            if pattern.search(sentence):
                return kind
    return None
