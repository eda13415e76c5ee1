"""Parts of a configuration that depend on the environment: ``when:``, ``checks:``, and models that a variable names.

With these a configuration can stand in for a program that is set up by environment variables alone::

    backends:
      second:
        when: ["${SECOND_URL:-}", "${SECOND_KEY:-}"]    # left out unless both are filled
        use: openai_images
        …
    models:
      "${MODELS:-}":                                    # one model for each name in a comma list; none if it is empty
        backends: [{backend: second, model: "{name}"}]  # {name} is the model's own name
    checks:                                             # what is said at the start: warn, or refuse to start
      - {when: {set: "${SECOND_URL:-}", unset: "${SECOND_KEY:-}"}, warn: "SECOND_URL is of no use without SECOND_KEY"}
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.document import Document, Steps
from gateway.hints import known_words
from gateway.settings import KINDS, ModelSettings
from gateway.variables import expand

TESTS = ("set", "unset", "equal")
CHECKS = ("when", "warn", "refuse")
BLANK = ", \t\r\n"
"""What fills no list: a variable of nothing but commas holds as much as an empty one."""
Names = Mapping[str, frozenset[str]]


def drop_unwanted(document: Document) -> Names:
    """Take the components out of the tree whose ``when:`` does not hold; return their names by kind.

    Nothing is said about what is wrong inside of them, such as variables that are not set.
    """
    dropped: dict[str, frozenset[str]] = {}
    for kind in KINDS:
        section = document.tree.get(kind)
        if not isinstance(section, dict):
            continue
        names = frozenset(name for name, spec in section.items() if not _wanted(document, (kind, name), spec))
        for name in names:
            del section[name]
            document.unmet[kind, name] = document.empty_inside((kind, name, "when"))
            document.forget((kind, name))
        dropped[kind] = names
    return dropped


def heed_checks(document: Document) -> None:
    """Warn of, or complain of, what ``checks:`` says about variables that do not go together."""
    checks = document.tree.pop("checks", None) or []
    if not isinstance(checks, list):
        document.complain(("checks",), "expected a list of checks, as in - {when: …, warn: …}")
        return
    for index, check in enumerate(checks):
        steps: Steps = ("checks", index)
        words = [check[name] for name in ("warn", "refuse") if name in check] if isinstance(check, dict) else []
        if len(words) != 1 or not isinstance(words[0], str) or "when" not in check or set(check) - set(CHECKS):
            document.complain(steps, "expected {when: …, warn: text} or {when: …, refuse: text}")
        elif not document.is_broken(steps) and _wanted(document, steps, check) and not _faulty(document, steps):
            document.complain(steps, words[0]) if "refuse" in check else document.warnings.append(words[0])


def name_models(document: Document, environ: Mapping[str, str]) -> None:
    """Replace the keys under ``models:`` that hold variables by the names that these stand for.

    A name that comes out of several keys is one model with the targets of all of them.
    """
    section = document.tree.get("models")
    if not isinstance(section, dict):
        return
    models: dict[str, Any] = {}
    for key, recipe in section.items():
        if "${" not in key:
            _add(document, models, key, key, recipe)
            continue
        for name in _names(document, key, environ):
            _add(document, models, key, name, recipe)
        document.forget(("models", key))
    document.tree["models"] = models
    if section and not models and not document.has_complaint(("models",)):
        # As Worker B did: it runs, and says honestly that it has nothing to offer.
        document.warnings.append(f"models: every name is a variable, and all are empty: {', '.join(section)}"[:300])
        document.without_models = True


def without(recipe: ModelSettings, dropped: Names) -> ModelSettings:
    """Leave out of a recipe what its components' conditions left out."""
    return replace(
        recipe,
        backends=tuple(each for each in recipe.backends if each.backend not in dropped.get("backends", ())),
        optimizers=tuple(name for name in recipe.optimizers if name not in dropped.get("optimizers", ())),
        middlewares=tuple(name for name in recipe.middlewares if name not in dropped.get("middlewares", ())),
        storage=None if recipe.storage in dropped.get("storages", ()) else recipe.storage,
    )


def _wanted(document: Document, steps: Steps, spec: Any) -> bool:
    if not isinstance(spec, dict) or "when" not in spec:
        return True
    condition = spec.pop("when")
    at = (*steps, "when")
    if document.is_broken(at):
        return True
    listed = [condition] if not isinstance(condition, dict) else [condition.get("set"), condition.get("unset")]
    if any(_holds_mapping(each) for each in listed):
        document.complain(at, "expected texts, or one mapping with set, unset and equal; not a list of mappings")
        return True
    if not isinstance(condition, dict):
        return _filled(condition)
    for name in condition:
        if name not in TESTS:
            document.complain((*at, name), f"unknown key; {known_words(name, TESTS)}", key=True)
            return True
    equal = condition.get("equal", [])
    if not isinstance(equal, list):
        document.complain((*at, "equal"), 'expected a list of texts that must be equal, as in ["${A:-}", "true"]')
        return True
    unset = condition.get("unset", [])
    return (
        _filled(condition.get("set", []))
        and not any(_filled(item) for item in (unset if isinstance(unset, list) else [unset]))
        and len({_text(item) for item in equal}) <= 1
    )


def _faulty(document: Document, steps: Steps) -> bool:
    return any(each.steps[: len(steps)] == steps for each in document.complaints)


def _holds_mapping(condition: Any) -> bool:
    return isinstance(condition, dict) or (isinstance(condition, list) and any(map(_holds_mapping, condition)))


def _filled(condition: Any) -> bool:
    if isinstance(condition, list):
        return all(_filled(item) for item in condition)
    if isinstance(condition, str):
        return bool(condition.strip(BLANK))
    return condition is not None and condition is not False


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _names(document: Document, key: str, environ: Mapping[str, str]) -> list[str]:
    try:
        expanded = expand(key, environ, document.folder)
    except ValueError as error:
        document.complain(("models",), str(error), place=document.keys[("models", key)])
        return []
    return [name.strip() for name in expanded.text.split(",") if name.strip()]


def _add(document: Document, models: dict[str, Any], key: str, name: str, recipe: Any) -> None:
    old, new = ("models", key), ("models", name)
    recipe = _with_name(copy.deepcopy(recipe), name)
    known = models.get(name)
    if known is None:
        models[name] = recipe
        document.also_at(old, new)
    elif isinstance(known, dict) and isinstance(recipe, dict):
        mine, theirs = known.setdefault("backends", []), recipe.get("backends")
        for index, target in enumerate(theirs if isinstance(theirs, list) else ()):
            if isinstance(mine, list):
                document.also_at((*old, "backends", index), (*new, "backends", len(mine)))
                mine.append(target)


def _with_name(recipe: Any, name: str) -> Any:
    targets = recipe.get("backends") if isinstance(recipe, dict) else None
    for target in targets if isinstance(targets, list) else ():
        if isinstance(target, dict) and isinstance(target.get("model"), str):
            target["model"] = target["model"].replace("{name}", name)
    return recipe
