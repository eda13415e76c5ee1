"""From the sections of a configuration to its components: of which type each is, and each made of its options."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, get_args

from gateway.contracts import Stage
from gateway.document import Document, Steps
from gateway.registry import ComponentType, Registry
from gateway.settings import KINDS
from gateway.validation import InvalidError, anchored, option_hints, options_type, validate

STAGES = frozenset(get_args(Stage))
COMPONENT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def section(document: Document, name: str) -> dict[str, Any]:
    """Give a section that maps names; empty, and complained of, if it is anything else."""
    section = document.tree.get(name)
    if isinstance(section, dict):
        return section
    complaint = "expected a mapping of names, as in name: {use: …}" if name in KINDS else "expected a mapping of names"
    if section is not None and not document.has_complaint((name,)):
        document.complain((name,), complaint)
    return {}


def component_types(document: Document, registry: Registry, kind: str) -> dict[str, ComponentType]:
    """Find the type of each component of *kind*; those without are complained of."""
    types = {}
    for name, spec in section(document, kind).items():
        steps = (kind, name)
        if not COMPONENT_NAME.fullmatch(name):
            document.complain(steps, "a component's name is 1 to 64 letters, digits, _ . -", key=True)
        if not isinstance(spec, dict) or not isinstance(spec.get("use"), str):
            if not document.is_broken((*steps, "use")):
                known = ", ".join(sorted(registry.types[kind])) or "none are known here"
                document.complain(steps, f"expected {{use: TYPE, …}}; types: {known}")
        elif spec["use"] in registry.types[kind]:
            types[name] = registry.types[kind][spec["use"]]
        elif not document.is_broken((*steps, "use")):
            document.complain((*steps, "use"), registry.unknown(kind, spec["use"]))
    return types


def make_components(
    document: Document, kind: str, types: Mapping[str, ComponentType], names: Collection[str]
) -> dict[str, Any]:
    """Make what has a type, and let each of them look at the others; what cannot be made is complained of."""
    made: dict[str, Any] = {}
    for name, type_ in types.items():
        try:
            made[name] = _component(document, (kind, name), type_.cls)
        except InvalidError:
            continue
        if kind == "middlewares" and (unknown := _unknown_stages(getattr(made[name], "stages", None))):
            document.complain((kind, name), f"stages: {unknown[0]} is none; known: {', '.join(sorted(STAGES))}")
    if len(made) < len(names):
        return made  # what is missing would only be complained of a second time
    for name, component in made.items() if kind == "storages" else ():
        if callable(getattr(type(component), "connect", None)):
            try:
                component.connect(made)
            except Exception as error:  # noqa: BLE001  - a plugin's code may raise anything; the start tells where
                document.complain((kind, name), _told(error))
    return made


def _unknown_stages(stages: object) -> list[str]:
    listed = stages if isinstance(stages, Collection) and not isinstance(stages, str) else [stages]
    return [str(each) for each in listed if str(each) not in STAGES]


def _component(document: Document, steps: Steps, cls: type) -> Any:
    """Make one component of its validated options."""
    spec = {key: value for key, value in document.part(steps).items() if key != "use"}
    kind = options_type(cls)
    options = validate(document, steps, _with_paths(document, steps, spec, kind), kind)
    if document.is_broken(steps):
        raise InvalidError
    try:
        given = {each.name: getattr(options, each.name) for each in dataclasses.fields(options)}
        component = cls(**anchored(given, document.folder))
    except (Exception, SystemExit) as error:  # a plugin's code may raise anything; the start tells where
        document.complain(steps, _told(error))
        raise InvalidError from error
    if any(each.name == "name" and not each.init for each in dataclasses.fields(cls)):
        object.__setattr__(component, "name", steps[-1])
    return component


def _with_paths(document: Document, steps: Steps, spec: dict[str, Any], kind: type) -> dict[str, Any]:
    """Take an empty text for no path where there need be none; complain where there must be one.

    As a path it would be the folder of the configuration itself.
    """
    hints = option_hints(kind)
    empty = [
        name for name, value in spec.items() if value == "" and Path in (hints.get(name), *get_args(hints.get(name)))
    ]
    for name in empty:
        if type(None) not in get_args(hints[name]):
            document.complain((*steps, name), "empty; name a file or a folder")
            raise InvalidError
    return {name: None if name in empty else value for name, value in spec.items()}


def _told(error: BaseException) -> str:
    words = str(error) or "refused"
    return words if isinstance(error, (ValueError, ImportError)) else f"{type(error).__name__}: {words}"
