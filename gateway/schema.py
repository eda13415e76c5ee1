"""The configuration as JSON Schema, made from the same dataclasses that check it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema
from pydantic_core.core_schema import DatetimeSchema

from gateway.hookspecs import PROJECT
from gateway.registry import ComponentType, Registry
from gateway.settings import KINDS, Settings
from gateway.validation import adapter, option_hints, options_type

DIALECT = "https://json-schema.org/draft/2020-12/schema"
VARIABLE = {"type": "string", "pattern": r"\$\{", "description": "A variable that is replaced before the check."}
WHEN = {
    "description": "Counts only if this holds: texts that are filled, or set, unset, equal.",
    "anyOf": [
        {"type": ["string", "boolean", "null"]},
        {"type": "array", "items": {"type": ["string", "boolean", "null", "array"]}},
        {
            "type": "object",
            "properties": {"set": {}, "unset": {}, "equal": {"type": "array"}},
            "additionalProperties": False,
        },
    ],
}
CHECK = {
    "type": "object",
    "properties": {"when": WHEN, "warn": {"type": "string"}, "refuse": {"type": "string"}},
    "required": ["when"],
    "oneOf": [{"required": ["warn"]}, {"required": ["refuse"]}],
    "additionalProperties": False,
}
KEY_WORDS = {
    "checks": "What is said at the start about variables that do not go together: a warning, or a refusal to start.",
    "plugins": "Files and folders with plugins, relative to this file; installed ones need no line.",
    "authenticators": "Who may call: asked in order, the first that knows the caller wins.",
    "optimizers": "What makes better prompts.",
    "middlewares": "What stands around the stages of a job: limits, moderation, conversion.",
    "backends": "What makes pictures: accounts of vendors, or models on this machine.",
    "storages": "Where pictures are kept.",
    "observers": "What watches the events of jobs.",
    "models": "The names that callers may ask for, each with its recipe.",
    "default_model": "The model for calls that name none; empty if they must name one.",
    "unknown_model": "What happens to calls that name an unknown model: refused, or served by default_model.",
}


class _Quiet(GenerateJsonSchema):
    """Leaves out defaults that JSON cannot express, without a warning for each."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}

    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> JsonSchemaValue:
        """Say nothing of an option of a type that JSON does not know: the start checks it."""
        return {}

    def datetime_schema(self, schema: DatetimeSchema) -> JsonSchemaValue:
        """Let a date alone stand for its beginning, as the start does; the format of a moment would forbid it."""
        return {"type": "string", "examples": ["2027-01-31", "2027-01-31T12:00:00Z"]}


def schema_of(registry: Registry) -> dict[str, Any]:
    """Describe every key of the YAML, with one variant per registered type in each section of components."""
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for name, hint in option_hints(Settings).items():
        # A section whose lines are all comments is null.
        properties[name] = _described({"anyOf": [_of(hint, definitions), {"type": "null"}]}, hint, name, Settings)
    for kind in KINDS:
        variants = [_component(each, definitions) for _, each in sorted(registry.types[kind].items())]
        named = {"anyOf": variants} if variants else {"type": "object", "required": ["use"]}
        properties[kind] = {"type": ["object", "null"], "additionalProperties": named, "description": KEY_WORDS[kind]}
    files = {"type": ["array", "null"], "items": {"type": "string"}, "description": KEY_WORDS["plugins"]}
    checks = {"type": ["array", "null"], "items": CHECK, "description": KEY_WORDS["checks"]}
    return {
        "$schema": DIALECT,
        "title": f"Configuration of the image {PROJECT}",
        "type": "object",
        "properties": properties | {"plugins": files, "checks": checks},
        "required": ["authenticators", "models", "storages"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _of(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Give the schema of an annotation; the dataclasses inside it go into *definitions* with their words."""
    schema = adapter(hint).json_schema(schema_generator=_Quiet, ref_template="#/$defs/{model}")
    classes = {cls.__name__: cls for cls in _classes(hint)}
    for name, definition in schema.pop("$defs", {}).items():
        if name in classes:
            _describe_fields(definition, classes[name])
        definitions[name] = _with_variables(definition)
    inner: dict[str, Any] = _with_variables(schema["prefixItems"][0])
    return inner


def _component(type_: ComponentType, definitions: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {}
    options = options_type(type_.cls)
    _of(options, own)
    schema = own.pop(options.__name__)
    _describe_fields(schema, type_.cls)
    # Two plugins may have an option class of the same name: the type's name keeps their definitions apart.
    prefix = f"{type_.kind}.{type_.name}."
    definitions |= {prefix + name: _renamed(definition, prefix) for name, definition in own.items()}
    use = {"const": type_.name, "description": _first_sentence(type_.cls) or f"The type {type_.name}."}
    properties = {"use": use, "when": WHEN} | _renamed(schema.get("properties", {}), prefix)
    required = ["use", *schema.get("required", [])]
    return {"type": "object", "title": type_.name} | {
        "description": use["description"],
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _renamed(schema: Any, prefix: str) -> Any:
    if isinstance(schema, dict):
        return {
            key: f"#/$defs/{prefix}{value.removeprefix('#/$defs/')}" if key == "$ref" else _renamed(value, prefix)
            for key, value in schema.items()
        }
    return [_renamed(item, prefix) for item in schema] if isinstance(schema, list) else schema


def _with_variables(schema: Any) -> Any:
    """Let ``${NAME}`` stand wherever a number, a choice or a list stands: it is text until it is replaced."""
    if isinstance(schema, list):
        return [_with_variables(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inside = {key: value if key in ("default", "examples") else _with_variables(value) for key, value in schema.items()}
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    narrow = "enum" in schema or "pattern" in schema
    textual = "string" in kinds and not narrow and "const" not in schema
    closed = bool({"integer", "number", "boolean", "array"} & {kind for kind in kinds if kind}) or narrow
    if textual or not closed or "const" in schema:
        return inside
    words = {key: inside.pop(key) for key in ("description", "default", "title") if key in inside}
    return words | {"anyOf": [inside, VARIABLE]}


def _describe_fields(schema: dict[str, Any], cls: type) -> None:
    schema["description"] = _first_sentence(cls) or f"Options of {cls.__name__}."
    hints = option_hints(cls)
    for name, option in schema.get("properties", {}).items():
        schema["properties"][name] = _described(option, hints.get(name), name, cls)


def _described(schema: dict[str, Any], hint: Any, name: str, cls: type) -> dict[str, Any]:
    """Add words to an option: its own, those of its class that mention *name*, or those of the class it holds."""
    words = schema.get("description") or KEY_WORDS.get(name) if cls is Settings else schema.get("description")
    held = [sentence for each in _classes(hint) if (sentence := _first_sentence(each))]
    words = words or _mention(cls, name) or next(iter(held), None)
    return schema | {"description": words} if words else schema


def _mention(cls: type, name: str) -> str | None:
    """Find the clause of the docstring that says something about ``*name*``."""
    text = " ".join(_doc(cls).split())
    clauses = re.split(r"(?<=[.;])\s", text)
    return next((clause.rstrip(";").replace("*", "") for clause in clauses if f"*{name}*" in clause), None)


def _first_sentence(cls: type) -> str:
    text = " ".join(_doc(cls).split()).replace("*", "")
    return re.split(r"(?<=[.;])\s", text)[0].rstrip(";")


def _doc(cls: type) -> str:
    """Give the class's own docstring, unless it is the signature that dataclass puts where there is none."""
    text = cls.__dict__.get("__doc__") or ""
    return "" if text.startswith(f"{cls.__name__}(") else text


def _classes(hint: Any) -> list[type]:
    """Find the dataclasses in an annotation, those in their fields included."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return [hint, *(inner for each in option_hints(hint).values() for inner in _classes(each))]
    arguments = [argument for argument in get_args(hint) if isinstance(hint, Mapping) or argument is not Ellipsis]
    return [inner for argument in arguments for inner in _classes(argument)]
