"""Checks parts of a document against annotated dataclasses; every complaint says what was expected and found."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import ErrorDetails

from gateway.document import Document, Steps, dotted, is_secret
from gateway.hints import closest, known_words
from gateway.variables import at_home

CONFIG = ConfigDict(extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True, allow_inf_nan=False)
EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "set": "a list",
    "frozen_set": "a list",
    "dict": "a mapping",
    "mapping": "a mapping",
    "dataclass": "a mapping",
    "path": "a path",
}


class InvalidError(Exception):
    """A part of the document is wrong; the complaints are in the document."""


def adapter(hint: Any) -> TypeAdapter[Any]:
    """Make the validator of *hint*, in which unknown keys are errors at any depth."""
    return _adapter_of_class(hint) if isinstance(hint, type) else _adapter(hint)


def _adapter(hint: Any) -> TypeAdapter[Any]:
    # A dataclass alone would refuse the configuration; inside a tuple it takes it over, and its fields do, too.
    return TypeAdapter(tuple[hint], config=CONFIG)


# Making one takes milliseconds, and a hundred models share one.
_adapter_of_class = functools.lru_cache(maxsize=128)(_adapter)


def validate(document: Document, steps: Steps, value: Any, hint: Any) -> Any:
    """Give *value*, which stands at *steps*, as *hint* wants it; else complain and raise InvalidError."""
    try:
        check = adapter(hint)
        try:
            return check.validate_python((value,))[0]
        except ValidationError as error:
            value, mended = _numbers_as_written(document, steps, value, error)
            if not mended:
                raise
        return check.validate_python((value,))[0]
    except ValidationError as error:
        _complain(document, steps, value, hint, error.errors(include_url=False))
    except (PydanticUserError, NameError) as error:
        document.complain(steps, f"the plugin's options cannot be understood: {type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001  - a plugin's own validators may raise anything; the start must tell where
        document.complain(steps, f"cannot be read: {type(error).__name__}: {error}")
    raise InvalidError(dotted(steps))


@functools.lru_cache(maxsize=128)
def options_type(cls: type) -> type:
    """Make a dataclass of the options of *cls*: its init fields, with annotations resolved where they were written.

    Validating that one instead of *cls* runs the component's own ``__init__`` and ``__post_init__`` exactly once, and
    leaves alone the annotations of its other fields, which may name libraries that are not installed.
    """
    hints = option_hints(cls)
    options = [
        (
            field.name,
            hints[field.name],
            dataclasses.field(default=field.default)
            if field.default_factory is dataclasses.MISSING
            else dataclasses.field(default_factory=field.default_factory),
        )
        for field in dataclasses.fields(cls)
        if field.init
    ]
    return dataclasses.make_dataclass(cls.__name__, options, kw_only=True, namespace={"__doc__": cls.__doc__})


def option_hints(cls: type) -> dict[str, Any]:
    """Give the resolved annotation of each field of a dataclass that is an option."""
    hints: dict[str, Any] = {}
    for owner in reversed(cls.__mro__):
        annotations = inspect.get_annotations(owner)
        fields = [field.name for field in dataclasses.fields(cls) if field.init and field.name in annotations]
        names = vars(sys.modules[owner.__module__]) if owner.__module__ in sys.modules else {}
        holder = types.SimpleNamespace(__annotations__={name: annotations[name] for name in fields})
        # A field's default stands in the class under the field's name and would hide a function of the module.
        inner = {name: value for name, value in vars(owner).items() if name not in annotations}
        hints |= get_type_hints(holder, dict(names), inner, include_extras=True)
    return hints


def anchored(value: Any, folder: Path) -> Any:
    """Put *folder* before every relative path in *value*, ``~`` resolved; other values stay what they are.

    Raise ValueError for a ``~`` that leads nowhere.
    """
    if isinstance(value, Path):
        return folder / at_home(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [each.name for each in dataclasses.fields(value) if each.init]
        found = {name: anchored(getattr(value, name), folder) for name in fields}
        changed = {name: new for name, new in found.items() if new is not getattr(value, name)}
        return dataclasses.replace(value, **changed) if changed else value
    if isinstance(value, dict):
        items = {key: anchored(item, folder) for key, item in value.items()}
        return items if any(items[key] is not item for key, item in value.items()) else value
    if type(value) in (list, tuple):
        listed = [anchored(item, folder) for item in value]
        return type(value)(listed) if any(new is not old for new, old in zip(listed, value, strict=True)) else value
    return value


def _numbers_as_written(document: Document, steps: Steps, value: Any, error: ValidationError) -> tuple[Any, bool]:
    """Turn numbers where a text is wanted into what the file has, so that ``model: 1.10`` stays ``1.10``."""
    mended = False
    for detail in error.errors(include_url=False, include_input=False):
        inner = _real(value, detail["loc"][1:])
        text = document.written.get(steps + inner)
        if detail["type"] == "string_type" and text is not None:
            value, mended = _replaced(value, inner, text), True
    return value, mended


def _replaced(value: Any, steps: Steps, text: str) -> Any:
    if not steps:
        return text
    if isinstance(value, list):
        return [_replaced(item, steps[1:], text) if index == steps[0] else item for index, item in enumerate(value)]
    return {key: _replaced(item, steps[1:], text) if key == steps[0] else item for key, item in value.items()}


def _real(value: Any, loc: Sequence[str | int]) -> Steps:
    """Keep of pydantic's *loc* what is a path in *value*: unions add names of their branches."""
    steps: list[str | int] = []
    for step in loc:
        known = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
        if step not in known:
            break
        value = value[step]
        steps.append(step)
    return tuple(steps)


def _at(value: Any, steps: Steps) -> Any:
    for step in steps:
        value = value[step]
    return value


def _complain(document: Document, steps: Steps, value: Any, hint: Any, details: Sequence[ErrorDetails]) -> None:
    said: dict[tuple[Steps, bool], list[str]] = {}
    for detail in details:
        loc = detail["loc"][1:]
        inner = _real(value, loc)
        unknown = detail["type"] == "unexpected_keyword_argument"
        if unknown and len(inner) < len(loc):
            # Texts were split on their commas, and pydantic counts the parts: no place in the list can be trusted.
            inner = inner[: next((at for at, step in enumerate(inner) if isinstance(step, int)), len(inner))]
        where = steps + inner
        if detail["type"] == "missing":
            where = (*where, str(loc[-1]))
        if document.is_broken(where) or any(where[: len(broken)] == broken for broken in document.broken):
            continue
        message = _words(document, where, _at(value, inner), hint, inner, detail)
        said.setdefault((where, unknown), []).append(message)
    for (where, unknown), messages in said.items():
        document.complain(where, " or ".join(dict.fromkeys(messages)), key=unknown)


def _words(document: Document, where: Steps, found: Any, hint: Any, inner: Steps, detail: ErrorDetails) -> str:
    kind = detail["type"]
    if kind == "unexpected_keyword_argument":
        loc = detail["loc"][1:]
        return f"unknown key; {known_words(str(loc[-1]), _fields(_hint_at(hint, loc[:-1])))}"
    if kind == "missing":
        return "missing"
    if kind == "literal_error":
        return _choice(document, where, found, detail)
    if kind in ("value_error", "assertion_error"):
        return str(detail["ctx"]["error"])
    shown = _found(document, where, found)
    expected = EXPECTED.get(re.sub("_(type|parsing|from_float|parsing_size|exact_type)$", "", kind))
    if expected is None:
        message = detail["msg"]
        return f"{message[:1].lower()}{message[1:]}".replace("input should", "should") + f", found {shown}"
    keys = _fields(_hint_at(hint, inner)) if kind.startswith("dataclass") else ()
    return f"expected {expected}" + (f" with {', '.join(sorted(keys))}" if keys else "") + f", found {shown}"


def _choice(document: Document, where: Steps, found: Any, detail: ErrorDetails) -> str:
    choices = re.findall(r"'([^']*)'", detail["ctx"]["expected"]) or [detail["ctx"]["expected"]]
    shown = _found(document, where, found)
    if isinstance(found, str) and where not in document.variables and not is_secret(where):
        shown = repr(found[:40])
    meant = closest(found, choices) if isinstance(found, str) else None
    return f"expected one of {', '.join(choices)}, found {shown}" + (f'; did you mean "{meant}"?' if meant else "")


def _found(document: Document, where: Steps, value: Any) -> str:
    """Describe a value; only numbers are shown, since a text may be a secret in the wrong place."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "a number" if is_secret(where) else document.written.get(where, str(value))
    if isinstance(value, str):
        return "text" if value else "an empty text"
    return "a list" if isinstance(value, (list, tuple)) else "a mapping"


def _hint_at(hint: Any, steps: Steps) -> Any:
    """Follow *steps* into the annotation *hint*; None where it says nothing."""
    for step in steps:
        hint = _plain(hint)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            hint = option_hints(hint).get(str(step))
        elif get_origin(hint) in (Mapping, dict) and len(get_args(hint)) == 2:
            hint = get_args(hint)[1]
        else:
            hint = next((argument for argument in get_args(hint) if argument is not Ellipsis), None)
    return _plain(hint)


def _plain(hint: Any) -> Any:
    while get_origin(hint) in (Annotated, Union, types.UnionType):
        arguments = [argument for argument in get_args(hint) if argument is not type(None)]
        # What is written beside a type in Annotated may be an instance of a dataclass.
        classes = (argument for argument in arguments if isinstance(argument, type))
        hint = next((each for each in classes if dataclasses.is_dataclass(each)), arguments[0])
    return hint


def _fields(hint: Any) -> tuple[str, ...]:
    if not dataclasses.is_dataclass(hint):
        return ()
    return tuple(field.name for field in dataclasses.fields(hint) if field.init)
