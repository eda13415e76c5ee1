"""From the name that a caller asks for to the recipe that serves it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Literal

from gateway.errors import ModelNotFoundError, RequestError
from gateway.settings import ModelSettings

PASSED_ON = re.compile(r"[\w.@:+/-]{1,200}", re.ASCII)
"""What a wildcard may pass on to an upstream: it may end in a URL's path, so no spaces, no ``%``, no ``?``."""

SHOWN = 20
"""How many known names an error lists."""


def resolve(
    name: str | None,
    models: Mapping[str, ModelSettings],
    default_model: str | None = None,
    unknown_model: Literal["refuse", "default"] = "refuse",
    usable: Iterable[str] | None = None,
) -> tuple[str, str, str | None]:
    """Give the public name, the recipe's key and what a wildcard matched (None: the recipe's name is no pattern).

    Exact names win, then aliases, then the most specific pattern. No name means the default model, or the only one
    unless *default_model* is empty; so does an unknown name if *unknown_model* says so. Else raise
    `ModelNotFoundError`, which names *usable* models.
    """
    name = (name or "").strip()
    if name in models and "*" not in name:
        return name, name, None
    default = _only(models) if default_model is None else default_model
    if not name and not default:
        message = f"the call must name a model{_known('', models if usable is None else usable)}"
        raise RequestError(message, param="model", code="missing_required_parameter")
    found = find(name or default or "", models)
    if found is None and default and unknown_model == "default":
        found = find(default, models)
    if found is None:
        message = f"there is no model {name[:100]!r} here{_known(name, models if usable is None else usable)}"
        raise ModelNotFoundError(message, param="model")
    return found


def find(name: str, models: Mapping[str, ModelSettings]) -> tuple[str, str, str | None] | None:
    """Give what `resolve` does for a name that a model, an alias or a pattern stands for, else None."""
    if name in models and "*" not in name:
        return name, name, None
    patterns = []
    for pattern, key in _names(models):
        if pattern == name and "*" not in pattern:
            # An alias may stand for a pattern's recipe; then there is no name to pass on but its own.
            return (key, key, None) if "*" not in key else (name, key, name)
        if "*" in pattern:
            patterns.append((pattern, key))
    # The sort is stable: of equally long patterns the first in the YAML wins.
    for pattern, key in sorted(patterns, key=lambda item: -len(item[0].replace("*", ""))):
        matched = _matched(name, pattern)
        if matched is not None:
            return (name, key, matched) if "*" in key else (key, key, None)
    return None


def _names(models: Mapping[str, ModelSettings]) -> Iterator[tuple[str, str]]:
    for key, model in models.items():
        yield from ((alias, key) for alias in model.aliases)
        yield key, key


def _matched(name: str, pattern: str) -> str | None:
    """Give what ``*`` stands for; a pattern with several passes on what the first one matched."""
    if not PASSED_ON.fullmatch(name) or ".." in name or "//" in name:
        return None
    found = re.fullmatch("(.+)".join(re.escape(part) for part in pattern.split("*")), name)
    return found[1].strip("/") or None if found else None


def stands_for(alias: str, name: str) -> bool:
    """Say whether *name* is meant by *alias*, which may be a pattern."""
    return alias == name or ("*" in alias and _matched(name, alias) is not None)


def _only(models: Mapping[str, ModelSettings]) -> str | None:
    return next(iter(models)) if len(models) == 1 and "*" not in next(iter(models)) else None


def _known(name: str, usable: Iterable[str]) -> str:
    names = list(usable)
    close = get_close_matches(name[:100], names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    if not names:
        return f"{hint}; this key may use no model at all"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{hint}; known: {', '.join(names[:SHOWN])}{more}"
