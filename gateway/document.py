"""A parsed file that knows where everything stands in it, and collects what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

Steps = tuple[str | int, ...]

SHORTEST_HIDDEN = 4
SECRET = re.compile(r"(^|_)(api_?)?(key|token|secret|password)s?$")


class Place(NamedTuple):
    """A line and a column, both counted from 1."""

    line: int
    column: int


class Complaint(NamedTuple):
    """One thing that is wrong, and where; complaints sort in the order of the file."""

    place: Place
    path: str
    message: str


@dataclass
class Document:
    """A parsed file: its *tree*, where everything stands in it, and what is wrong with it so far.

    *written* is each plain number as the file has it, so that ``1.10`` can still become a text. *broken* are the
    values whose variables could not be read: complained of already, so nothing else is said about them. *variables*
    are the values that came from outside the file, *hidden* the texts that no message may show.
    """

    name: str
    folder: Path
    tree: dict[str, Any] = field(default_factory=dict)
    keys: dict[Steps, Place] = field(default_factory=dict)
    values: dict[Steps, Place] = field(default_factory=dict)
    written: dict[Steps, str] = field(default_factory=dict, repr=False)
    broken: set[Steps] = field(default_factory=set)
    variables: set[Steps] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set, repr=False)
    complaints: list[Complaint] = field(default_factory=list)
    path: Path | None = None
    warnings: list[str] = field(default_factory=list)
    literal_secrets: bool = False

    def complain(self, steps: Steps, message: str, *, key: bool = False) -> None:
        """Note what is wrong at *steps* (with *key*, at the key itself), without what may be secret in the message."""
        place = self.keys.get(steps) if key else None
        known = next((steps[:end] for end in range(len(steps), 0, -1) if steps[:end] in self.values), ())
        # A value that is not there has no place of its own: the key that it belongs under stands for it.
        missing = self.keys.get(known) if known != steps else None
        place = place or missing or self.values.get(known) or Place(1, 1)
        self.complaints.append(Complaint(place, dotted(steps), self.without_secrets(" ".join(message.split()))))

    def hide(self, texts: Iterable[str]) -> None:
        """Let no message show these texts; very short ones would blank half of every message and hide nothing."""
        self.hidden.update(text for text in texts if len(text) >= SHORTEST_HIDDEN)

    def without_secrets(self, message: str) -> str:
        """Blank what came from variables or stands under a key that names a secret."""
        for text in sorted(self.hidden, key=len, reverse=True):
            message = message.replace(text, "…")
        return message

    def is_broken(self, steps: Steps) -> bool:
        """Tell whether a variable of this value, or of one inside it, could not be read."""
        return any(broken[: len(steps)] == steps for broken in self.broken)

    def has_complaint(self, steps: Steps) -> bool:
        """Tell whether something was said about exactly this part."""
        return any(complaint.path == dotted(steps) for complaint in self.complaints)

    def part(self, steps: Steps) -> Any:
        """Give the part of the tree that stands at *steps*."""
        value: Any = self.tree
        for step in steps:
            value = value[step]
        return value

    def lines(self) -> tuple[str, ...]:
        """Give the complaints as lines, in file order, each once."""
        return tuple(
            f"{self.name}:{place.line}:{place.column} {path + ': ' if path else ''}{message}"
            for place, path, message in sorted(dict.fromkeys(self.complaints))
        )


def dotted(steps: Steps) -> str:
    """Write a path as people read it: ``models.flux.backends[0]``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def is_secret(steps: Steps) -> bool:
    """Tell by the names of its keys whether a value may be a secret."""
    return any(isinstance(step, str) and SECRET.search(step) for step in steps[-2:])
