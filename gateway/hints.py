"""Words that help whoever mistyped a name: what is known, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SHOWN = 40


def closest(word: str, known: Iterable[str]) -> str | None:
    """Find the known name that *word* most resembles, or None if none does."""
    lower = {name.lower(): name for name in known}
    if begins := [name for name in lower if len(word) > 2 and name.startswith(word.lower())]:
        return lower[min(begins, key=len)]
    found = difflib.get_close_matches(word.lower(), lower, 1, 0.6)
    return lower[found[0]] if found else None


def known_words(word: str, known: Iterable[str]) -> str:
    """Say which names are known and which is closest: ``known: root, ttl; did you mean "ttl"?``."""
    names = sorted(known)
    if not names:
        return "none are known here"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    meant = closest(word, names)
    return f"known: {', '.join(names[:SHOWN])}{more}" + (f'; did you mean "{meant}"?' if meant else "")
