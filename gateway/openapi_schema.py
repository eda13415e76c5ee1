"""The few words that the OpenAPI document's schemas are written with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]


def obj(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, about: str = "") -> Schema:
    """Give an object; more fields than these may be in it, so that clients must not break on new ones."""
    schema = {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}
    return described(schema, about)


def text(about: str = "", **more: Any) -> Schema:
    return described({"type": "string", **more}, about)


def whole(about: str = "", low: int | None = None, high: int | None = None) -> Schema:
    return described({"type": "integer", **_bounds(low, high)}, about)


def number(about: str = "", low: float | None = None, high: float | None = None) -> Schema:
    return described({"type": "number", **_bounds(low, high)}, about)


def flag(about: str = "", **more: Any) -> Schema:
    return described({"type": "boolean", **more}, about)


def one_of(*values: str, about: str = "") -> Schema:
    """Give a string out of *values*."""
    return described({"type": "string", "enum": list(values)}, about)


def always(value: str) -> Schema:
    return {"type": "string", "const": value}


def listed(item: Schema, about: str = "", **more: Any) -> Schema:
    return described({"type": "array", "items": item, **more}, about)


def mapped(about: str = "") -> Schema:
    """Give an object whose names are not known beforehand."""
    return described({"type": "object"}, about)


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def or_null(schema: Schema) -> Schema:
    """Give *schema* with null as one more value; in a call, null is the same as leaving the field out."""
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    kind = schema.get("type")
    if kind is None:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    words = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [kind, "null"], **words}


def any_of(*schemas: Schema, about: str = "") -> Schema:
    return described({"anyOf": list(schemas)}, about)


def described(schema: Schema, about: str) -> Schema:
    return {**schema, "description": about} if about else schema


def _bounds(low: float | None, high: float | None) -> Schema:
    bounds = {"minimum": low, "maximum": high}
    return {name: value for name, value in bounds.items() if value is not None}
