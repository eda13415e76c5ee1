"""The words of an answer and of its progress, in eight languages or in a template of one's own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property
from importlib.resources import files
from string import Formatter
from typing import Any

import orjson

from gateway.settings import Language
from gateway.values import Size

PLACEHOLDERS = ("model", "optimizer", "original", "pictures", "prompt", "size", "url")
NAMED = {
    "worker-b": "![Image]({url})\n\nOptimized prompt: {prompt}",
    "plain": "{pictures}",
}
"""Templates that can be asked for by name; without one the language's own is used."""

OWN_WORDS = "Original Prompt"
"""What stands for the optimizer when the caller's own words were drawn; Worker A said it so in every language."""

MARKDOWN = re.compile(r"([\\`<\[\]]|\A~)")
BARE_LINK = re.compile(r"(?<=:)(?=//)|(?<=\bwww)(?=\.)|(?<=\w)(?=@\w)", re.IGNORECASE)
"""Where clients see a link without any brackets: ``https://…``, ``www.…``, a mail address."""
HARMLESS = re.compile(r"[A-Za-z0-9,;!?-]+(?: [A-Za-z0-9,;!?-]+)*")
"""Words that need no second look, as most prompts are."""
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
UNSAFE_IN_URL = str.maketrans(
    {" ": "%20", "(": "%28", ")": "%29", "<": "%3C", ">": "%3E", "\\": "%5C", "\n": "", "\r": ""}
)


@dataclass(frozen=True, slots=True)
class Locale:
    """One language: the *answer* template, a sentence that goes with what was *drawn*, the *picture*'s description, and
    a line for each step that is told in *progress*."""

    answer: str
    drawn: str
    picture: str
    progress: Mapping[str, str]


@dataclass(frozen=True)
class Template:
    """A checked template and the language that its words come from."""

    text: str
    locale: Locale

    @cached_property
    def lines(self) -> tuple[tuple[str, bool], ...]:
        """Each line, and whether it is repeated for every picture."""
        return tuple((line, "{url}" in line.replace("{{", "")) for line in self.text.split("\n"))


@cache
def load_locale(language: Language) -> Locale:
    """Read a language's words."""
    return Locale(**orjson.loads((files("gateway") / "locales" / f"{language}.json").read_bytes()))


def make_template(text: str | None, language: Language) -> Template:
    """Check a template of one's own, a name of `NAMED`, or None for the language's; raise ValueError for a bad one.

    Placeholders: ``{original}`` what the caller wrote, ``{prompt}`` what was drawn, ``{optimizer}`` who changed it,
    ``{size}``, ``{model}``, ``{pictures}`` the Markdown of all pictures, ``{url}`` the address of a picture; a line
    with ``{url}`` is repeated for every picture. Braces are doubled to be written.
    """
    locale = load_locale(language)
    text = locale.answer if text is None else NAMED.get(text.strip(), text)
    used = _placeholders(text)
    if not used & {"url", "pictures"}:
        raise ValueError("the template shows no picture; put {pictures} or {url} where it belongs")
    return Template(text, locale)


def _placeholders(text: str) -> set[str]:
    try:
        parts = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise ValueError(f"the template cannot be read ({error}); double a brace to write it: {{{{ }}}}") from error
    for name, spec, conversion in parts:
        if name not in PLACEHOLDERS:
            near = get_close_matches(name, PLACEHOLDERS, 1)
            hint = f"; did you mean {{{near[0]}}}?" if near else ";"
            known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
            raise ValueError(f"the template has an unknown placeholder {{{name}}}{hint} known: {known}")
        if spec or conversion:
            raise ValueError(f"the template's placeholder {{{name}}} takes no format")
    return {name for name, _, _ in parts}


def answer_text(
    template: Template,
    *,
    original: str,
    prompt: str,
    optimizer: str | None,
    size: Size,
    urls: Sequence[str],
    model: str = "",
) -> str:
    """Write the answer; words of the caller or of a model can bring no picture, link or HTML of their own into it."""
    safe = [safe_url(url) for url in urls]
    values = {
        "original": escape(original),
        "prompt": escape(prompt),
        "optimizer": escape(optimizer) if optimizer else OWN_WORDS,
        "model": escape(model),
        "size": str(size),
        "pictures": "\n\n".join(f"![{template.locale.picture}]({url})" for url in safe),
    }
    lines = []
    for line, repeated in template.lines:
        if repeated:
            lines += [line.format(**values, url=url) for url in safe]
        else:
            lines.append(line.format_map(values))
    return "\n".join(lines)


def progress_text(event_type: str, data: Mapping[str, Any], language: Language) -> str | None:
    """Say in one line how far a job is; None for events that are not worth a line."""
    words = load_locale(language).progress
    position, done, prompt = data.get("position"), data.get("done"), data.get("prompt")
    if event_type == "queued" and isinstance(position, int) and position > 0:
        return words["queued_at"].format(position=position)
    if event_type == "attempt_failed" and data.get("final"):
        return None  # the error says it
    if event_type == "optimized":
        if not data.get("optimizer", True):
            return None  # it failed, and the caller's own words are drawn
        return words["optimized"].format(prompt=escape(prompt)) if isinstance(prompt, str) and prompt else None
    if event_type == "progress":
        known = isinstance(done, (int, float)) and 0 <= done <= 1
        return words["progress"].format(percent=int(done * 100)) if known and done is not None else None
    return words.get(event_type) if event_type != "queued_at" else None


def escape(text: str) -> str:
    """Make *text* one line of plain words for Markdown: no picture, link, code or HTML can begin in it."""
    if HARMLESS.fullmatch(text):
        return text
    return BARE_LINK.sub(r"\\", MARKDOWN.sub(r"\\\1", " ".join(UNSEEN.sub(" ", text).split())))


def safe_url(url: str) -> str:
    """Encode what would end a Markdown link early."""
    return url.translate(UNSAFE_IN_URL)
