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
    steps: Steps = ()


@dataclass
class Document:
    """A parsed file: its *tree*, where everything stands in it, and what is wrong with it so far.

    *written* is each plain number as the file has it, so that ``1.10`` can still become a text. *broken* are the
    values whose variables could not be read: complained of already, so nothing else is said about them. *variables*
    are the values that came from outside the file, *hidden* the texts that no message may show. *behind* are the names
    of the variables in a value, *empty* the values that they left empty; *unmet* says which of them left a component
    (kind, name) out.
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
    behind: dict[Steps, str] = field(default_factory=dict)
    empty: set[Steps] = field(default_factory=set)
    unmet: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    complaints: list[Complaint] = field(default_factory=list)
    path: Path | None = None
    warnings: list[str] = field(default_factory=list)
    literal_secrets: bool = False
    without_models: bool = False
    """Every model has a variable for its name, and all are empty: meant, not forgotten."""

    def complain(self, steps: Steps, message: str, *, key: bool = False, place: Place | None = None) -> None:
        """Note what is wrong at *steps* (with *key*, at the key itself), without what may be secret in the message."""
        place = place or (self.keys.get(steps) if key else None)
        known = next((steps[:end] for end in range(len(steps), 0, -1) if steps[:end] in self.values), ())
        # A value that is not there has no place of its own: the key that it belongs under stands for it.
        missing = self.keys.get(known) if known != steps else None
        place = place or missing or self.values.get(known) or Place(1, 1)
        message = self.without_secrets(" ".join(message.split())) + self._origin(steps, message)
        self.complaints.append(Complaint(place, dotted(steps), message, steps))

    def _origin(self, steps: Steps, message: str) -> str:
        """Name the variables behind a complaint: those are what the user of a preset can mend."""
        if "empty" in message:
            names = self.empty_inside(steps)
            return f" (empty here: {', '.join(names)})" if names else ""
        return f" (from {self.behind[steps]})" if steps in self.behind and steps not in self.broken else ""

    def empty_inside(self, steps: Steps) -> list[str]:
        """Name the variables that left a value at *steps*, or inside of it, empty; each once."""
        left = [self.behind[at] for at in self.behind if at in self.empty and at[: len(steps)] == steps]
        return list(dict.fromkeys(name for names in left for name in names.split(", ")))

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

    def also_at(self, old: Steps, new: Steps) -> None:
        """Let what is known of *old* (where it stands, how it is written, what is broken) hold for *new*, too."""
        if old == new:
            return
        size = len(old)
        for places in (self.keys, self.values):
            places.update({new + steps[size:]: place for steps, place in places.items() if steps[:size] == old})
        self.written.update({new + steps[size:]: text for steps, text in self.written.items() if steps[:size] == old})
        for marked in (self.broken, self.variables):
            marked.update({new + steps[size:] for steps in marked if steps[:size] == old})
        for each in [each for each in self.complaints if each.steps[:size] == old]:
            steps = new + each.steps[size:]
            self.complaints.append(each._replace(path=dotted(steps), steps=steps))

    def forget(self, steps: Steps) -> None:
        """Take back what was said about a part that turned out not to be wanted."""
        self.complaints = [each for each in self.complaints if each.steps[: len(steps)] != steps]
        self.broken = {broken for broken in self.broken if broken[: len(steps)] != steps}

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
            for place, path, message, _ in sorted(dict.fromkeys(self.complaints), key=lambda each: each[:3])
        )


def dotted(steps: Steps) -> str:
    """Write a path as people read it: ``models.flux.backends[0]``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def is_secret(steps: Steps) -> bool:
    """Tell by the names of its keys whether a value may be a secret."""
    names = [step for step in steps if isinstance(step, str)]
    return bool(names and SECRET.search(names[-1]))
