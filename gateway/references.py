"""Whether every name that a model, a target or an option mentions exists."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gateway.document import Document, Steps
from gateway.hints import known_words
from gateway.names import find
from gateway.settings import Settings


def check_references(
    document: Document, settings: Settings, names: Mapping[str, Sequence[str]], dropped: Mapping[str, Collection[str]]
) -> None:
    """Complain of names that *names* (kind → names of its components) and the models do not know.

    The *dropped* components may be named, although they are not there.

    The recipes are read from the document, not from the settings, so that those with other faults are checked, too.
    """
    storages = names.get("storages", ())
    names = {kind: [*known, *dropped.get(kind, ())] for kind, known in names.items()}
    models = document.tree.get("models")
    for model, recipe in models.items() if isinstance(models, dict) else ():
        if isinstance(recipe, dict):
            _check_targets(document, ("models", model, "backends"), recipe.get("backends"), names)
            _check_lists(document, ("models", model), recipe, names)
            _check_storage(document, ("models", model, "storage"), recipe.get("storage"), storages, dropped)
    for name in settings.jobs.per_backend:
        _check(document, ("jobs", "per_backend", name), name, "backends", names)
    _check_names_of_models(document, settings)
    _check_default(document, settings)


def check_prices(
    document: Document, settings: Settings, middlewares: Mapping[str, Any], dropped: Mapping[str, Collection[str]]
) -> None:
    """Complain of targets without a price, but for those of *dropped* backends, where middlewares reckon with costs."""
    for model, recipe in settings.models.items():
        reckoning = [name for name in recipe.middlewares if getattr(middlewares.get(name), "needs_prices", False)]
        for index, target in enumerate(recipe.backends if reckoning else ()):
            priced = target.price is not None or target.price_per_megapixel is not None
            if not priced and target.backend not in dropped.get("backends", ()):
                words = f'"{reckoning[0]}" reckons with what this target costs; give it price: or price_per_megapixel:'
                document.complain(("models", model, "backends", index), f"{words} (0 if it costs nothing)")


def check_presence(document: Document, names: Mapping[str, Sequence[str]]) -> None:
    """Complain of what no gateway can do without."""
    if not names.get("authenticators"):
        document.complain(
            ("authenticators",),
            "none configured, and the gateway never runs open by accident; "
            'add keys: {use: api_keys, keys: ["${API_KEY}"]}, or {use: open} if everybody may use it',
        )
    meant = document.without_models or document.has_complaint(("models",))
    if not document.tree.get("models") and not meant:
        document.complain(("models",), "none configured; add name: {backends: [{backend: …, model: …}]}")
    if not names.get("storages"):
        document.complain(("storages",), "none configured; add memory: {use: memory}")


def unused(settings: Settings, names: Mapping[str, Sequence[str]]) -> list[str]:
    """Name the components that no model uses."""
    used: dict[str, set[str]] = {
        "optimizers": {name for model in settings.models.values() for name in model.optimizers},
        "middlewares": {name for model in settings.models.values() for name in model.middlewares},
        "backends": {target.backend for model in settings.models.values() for target in model.backends},
    }
    return [
        f"{kind}.{name} is not used by any model"
        for kind in used
        for name in names.get(kind, ())
        if name not in used[kind]
    ]


def _check_targets(document: Document, steps: Steps, targets: Any, names: Mapping[str, Sequence[str]]) -> None:
    if targets == []:
        document.complain(steps, "empty; a model needs at least one target: {backend: …, model: …}")
    for index, target in enumerate(targets if isinstance(targets, list) else ()):
        at = (*steps, index, "backend")
        name = _name(document, at, target.get("backend")) if isinstance(target, dict) else None
        if name is not None:
            _check(document, at, name, "backends", names)


def _check_lists(document: Document, steps: Steps, recipe: Any, names: Mapping[str, Sequence[str]]) -> None:
    for kind in ("optimizers", "middlewares"):
        listed = recipe.get(kind)
        items = listed if isinstance(listed, list) else [listed] if isinstance(listed, str) else []
        texts = [_name(document, (*steps, kind, at), item) for at, item in enumerate(items)]
        wanted = [name.strip() for text in texts if text for name in text.split(",") if name.strip()]
        for index, name in enumerate(wanted):
            _check(document, (*steps, kind, index), name, kind, names)
            if name in wanted[:index]:
                document.complain((*steps, kind, index), f'"{name}" is named twice')


def _check_storage(
    document: Document, steps: Steps, storage: Any, storages: Sequence[str], dropped: Mapping[str, Collection[str]]
) -> None:
    name = _name(document, steps, storage)
    if name and name not in dropped.get("storages", ()):
        _check(document, steps, name, "storages", {"storages": storages})
    elif len(storages) > 1 and (not storage or name is not None):
        document.complain(steps, f"missing, and there are several; name one of: {', '.join(storages)}")


def _check(document: Document, steps: Steps, name: str, kind: str, names: Mapping[str, Sequence[str]]) -> None:
    if name not in names.get(kind, ()) and not _is_broken(document, steps):
        document.complain(steps, f'no {kind} component is named "{name}"; {known_words(name, names.get(kind, ()))}')


def _name(document: Document, steps: Steps, value: Any) -> str | None:
    """Give a name as validation takes it: a plain number is what the file has; None for what is no name."""
    return value if isinstance(value, str) else document.written.get(steps)


def _is_broken(document: Document, steps: Steps) -> bool:
    # A list may stand in the file as one text with commas: then the whole option is what could not be read.
    return any(steps[: len(broken)] == broken for broken in document.broken)


def _check_names_of_models(document: Document, settings: Settings) -> None:
    claimed = dict.fromkeys(settings.models, "a model")
    for model, recipe in settings.models.items():
        for index, alias in enumerate(recipe.aliases):
            if alias in claimed:
                steps = ("models", model, "aliases", index)
                document.complain(steps, f'"{alias}" is already the name of {claimed[alias]}')
            claimed[alias] = f'an alias of "{model}"'


def _check_default(document: Document, settings: Settings) -> None:
    models = document.tree.get("models")
    known: dict[str, Any] = dict.fromkeys(models if isinstance(models, dict) else ())
    if len(settings.models) < len(known):
        return  # a broken model's aliases are not known yet
    known |= dict.fromkeys(alias for recipe in settings.models.values() for alias in recipe.aliases)
    default = settings.default_model
    if default and find(default, settings.models) is None and not _is_broken(document, ("default_model",)):
        words = "a pattern is no model; name one that it stands for" if "*" in default else known_words(default, known)
        document.complain(("default_model",), f'no model is named "{default}"; {words}')
    if settings.unknown_model == "default" and not default and (len(known) > 1 or any("*" in name for name in known)):
        document.complain(("unknown_model",), "default needs default_model: which model stands in for unknown ones?")
