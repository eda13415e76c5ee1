"""Refuses prompts with certain words or patterns."""

from __future__ import annotations

import asyncio
import re
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway import Proceed, RefusedError, Stage, Words, Work, hookimpl

PIECE = 1_000
OVERLAP = 200
"""A pattern sees this much of a prompt at a time, so that none can take long."""

INLINE = 2_000
"""Characters; a longer prompt is looked at in a thread, since one character may stand for eighteen."""

MARKS = 30
"""Combining marks in a row, more than any language needs; sorting thousands of them takes a second."""

SLOW = 0.05
"""Seconds; an innocent pattern needs a thousandth of that for a piece."""

SIGN = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]"
    r"|(?P<open>\((?:\?(?:P<\w+>|<[=!]|[:=!>]|[aiLmsux-]+:))?)"
    r"|\(\?[^)]*\)|(?P<sign>[)|*+?]|\{\d*,?\d*\})",
    re.DOTALL,
)
TOKEN = re.compile(r"[^\W_]+|_|[^\w\s]")
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]")
"""What shows nothing although it is no control character (Default_Ignorable_Code_Point, and the empty Braille cell)."""
UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff]")


@dataclass
class Blocklist:
    """Looks for *words* (whole ones; phrases too), for those in *file* (one per line, ``#`` comments) and for
    *patterns* (regular expressions) in the caller's words and in what an optimizer made of them.

    Case, width, accents written as separate characters and invisible characters make no difference. A pattern is
    matched without regard to case, against at most 1000 characters at a time; one that could take for ever, such as
    ``(a+)+``, is refused at the start.
    """

    words: Words = ()
    patterns: tuple[str, ...] = ()
    file: Path | None = None
    stages: tuple[Stage, ...] = field(init=False, default=("optimize",))
    _phrases: Mapping[str, tuple[tuple[str, ...], ...]] = field(init=False, default_factory=dict, repr=False)
    _unspaced: tuple[str, ...] = field(init=False, default=(), repr=False)
    _patterns: tuple[re.Pattern[str], ...] = field(init=False, default=(), repr=False)

    def __post_init__(self) -> None:
        lines = self.file.read_text("utf-8").splitlines() if self.file is not None and self.file.exists() else []
        if self.file is not None and not self.file.exists():
            raise ValueError(f"there is no file {self.file.name}")
        listed = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        words = sorted({fold(word) for word in (*self.words, *listed)} - {""})
        if not words and not self.patterns:
            raise ValueError("it needs words, patterns or a file, else it refuses nothing")
        # Scripts without spaces have no word ends to look for.
        self._unspaced = tuple(word for word in words if UNSPACED.search(word))
        self._phrases = _by_first(tuple(TOKEN.findall(word)) for word in words if not UNSPACED.search(word))
        self._patterns = tuple(map(_compiled, self.patterns))

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        """Check the prompt, let it be optimized, and check what came of it."""
        await self._checked(work.request.prompt)
        done = await proceed(work)
        await self._checked(done.request.prompt)
        return done

    async def _checked(self, text: str) -> None:
        if len(text) > INLINE:
            await asyncio.to_thread(self._check, text)
        else:
            self._check(text)

    def _check(self, text: str) -> None:
        folded = fold(text)
        matches = (pattern.search(piece) for piece in _pieces(folded) for pattern in self._patterns)
        if self._has_word(folded) or any(matches):
            # The word itself is not named: a list that can be read out by trying is soon got around.
            raise RefusedError("the prompt was refused by the content policy of this gateway", param="prompt")

    def _has_word(self, folded: str) -> bool:
        if any(word in folded for word in self._unspaced):
            return True
        tokens = TOKEN.findall(folded)
        return any(
            tuple(tokens[place : place + len(phrase)]) == phrase
            for place, token in enumerate(tokens)
            for phrase in self._phrases.get(token, ())
        )


def _by_first(phrases: Iterable[tuple[str, ...]]) -> dict[str, tuple[tuple[str, ...], ...]]:
    found: dict[str, tuple[tuple[str, ...], ...]] = {}
    for phrase in phrases:
        found[phrase[0]] = (*found.get(phrase[0], ()), phrase)
    return found


def fold(text: str) -> str:
    """Make text alike that looks alike: case, width, composed accents, white space, nothing invisible."""
    # What cannot be seen goes first: between a letter and its accent it would keep them apart.
    seen = "".join(letter for letter in UNSEEN.sub("", text) if unicodedata.category(letter) != "Cf")
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", _fewer_marks(seen)).casefold())
    return " ".join(folded.split())


def _fewer_marks(text: str) -> str:
    kept, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= MARKS:
            kept.append(character)
    return "".join(kept)


def _compiled(pattern: str) -> re.Pattern[str]:
    pattern = unicodedata.normalize("NFC", pattern)
    for letter in pattern:
        if not letter.isascii() and not re.fullmatch(letter, seen := fold(letter), re.IGNORECASE):
            raise ValueError(
                f"pattern {pattern!r} has {letter!r}, for which prompts are searched as {seen!r}; write that"
            )
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"pattern {pattern!r} is no regular expression: {error}") from error
    if compiled.search(""):
        raise ValueError(f"pattern {pattern!r} matches an empty text, so it would refuse every prompt")
    if _may_run_away(pattern) or _slowest(compiled) > SLOW:
        raise ValueError(f"pattern {pattern!r} could take for ever; bound its repetitions, as in .{{0,40}}")
    return compiled


def _slowest(compiled: re.Pattern[str]) -> float:
    """Try a pattern on text that almost matches it, again and again."""
    letters = re.sub(r"\\.|\W", "", compiled.pattern) or "a"
    slowest = 0.0
    for text in (letters, letters[:-1], letters[1:], letters[0], "a", "0", " ", "a "):
        began = time.perf_counter()
        compiled.search((text * PIECE)[:PIECE] if text else "")
        slowest = max(slowest, time.perf_counter() - began)
    return slowest


def _may_run_away(pattern: str) -> bool:
    """Find a repetition of something that itself repeats or chooses, or more than two open repetitions."""
    loose = [False]
    closed = False
    count = 0
    for token in _tokens(pattern):
        if token == "(":
            loose.append(False)
        elif token == ")" and len(loose) > 1:
            closed = loose.pop()
            loose[-1] = loose[-1] or closed
            continue
        elif token == "|":
            loose[-1] = True
        elif token in ("*", "+") or (token[0] == "{" and token[1:-1] not in ("0", "1", "0,1", ",1")):
            if closed:
                return True
            if token in ("*", "+") or token.endswith(",}"):
                count += 1
            loose[-1] = True
        elif token == "?":
            loose[-1] = True
            closed = False
            continue
        closed = False
    return count > 2


def _tokens(pattern: str) -> Iterator[str]:
    """Yield the signs of a pattern that matter here; anything else is one character."""
    position = 0
    while position < len(pattern):
        found = SIGN.match(pattern, position)
        if found and found["open"] and not found["open"].endswith("?"):
            yield "("
        else:
            yield found["sign"] or "." if found else "."
        position = found.end() if found else position + 1


def _pieces(text: str) -> Iterable[str]:
    return (text[start : start + PIECE] for start in range(0, max(1, len(text) - OVERLAP), PIECE - OVERLAP))


@hookimpl
def provide_middlewares() -> dict[str, type]:
    """Offer `blocklist`."""
    return {"blocklist": Blocklist}
