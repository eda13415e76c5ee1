"""Adds fixed words to a prompt, without any model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway import ImageRequest, hookimpl

PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w{0,40})\}")


@dataclass
class Template:
    """Puts *prefix* before and *suffix* after the prompt, and the words of a style around it.

    *styles* are named; the request's ``style`` chooses one, *style* is the one without a choice. A style's words follow
    the prompt, or stand around it where they contain ``{prompt}``: ``{anime: "anime still of {prompt}, cel shading"}``.
    The request's ``style`` goes on to the target as well, which may know one of that name; the receipt says whether.
    """

    prefix: str = ""
    suffix: str = ""
    styles: Mapping[str, str] = field(default_factory=dict)
    style: str | None = None

    def __post_init__(self) -> None:
        for text in (self.prefix, self.suffix):
            if PLACEHOLDER.search(text):
                raise ValueError("prefix and suffix take no placeholders; {prompt} belongs into a style")
        for name, text in self.styles.items():
            unknown = set(PLACEHOLDER.findall(text)) - {"prompt"}
            if unknown:
                raise ValueError(f"style {name!r} has an unknown placeholder {{{min(unknown)}}}; known: {{prompt}}")
        if self.style is not None and self.style not in self.styles:
            raise ValueError(f"style {self.style!r} is not among the styles: {', '.join(self.styles) or 'none'}")
        if not (self.prefix.strip() or self.suffix.strip() or self.styles):
            raise ValueError("it needs a prefix, a suffix or styles, else it changes nothing")

    async def optimize(self, request: ImageRequest) -> str:
        """Return the prompt with the fixed words; a style that is not ours is left to the backend."""
        name = request.style if request.style in self.styles else self.style
        prompt = request.prompt
        if name is not None:
            words = self.styles[name]
            prompt = words.replace("{prompt}", prompt) if "{prompt}" in words else _joined(prompt, words)
        return _joined(_joined(self.prefix, prompt), self.suffix)


def _joined(first: str, second: str) -> str:
    first, second = first.strip(), second.strip()
    if not first or not second:
        return first or second
    if second[0] in ",;.，。；、":
        return first + second
    return f"{first} {second}" if first[-1] in ",;:.!?，。；：、" else f"{first}, {second}"


@hookimpl
def provide_optimizers() -> dict[str, type]:
    """Offer `template`."""
    return {"template": Template}
