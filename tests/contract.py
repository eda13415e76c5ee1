"""Holds requests and answers to the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

JSON = "application/json"
EVENTS = "text/event-stream"


def check(document: Mapping[str, Any], method: str, path: str, status: int, body: Any) -> None:
    """Raise unless *body* is what the document promises: a JSON value, a list of a stream's events, or bytes."""
    responses = operation(document, method, path)["responses"]
    response = responses.get(str(status))
    if response is None:
        assert status >= 400, f"{method} {path} answers {status}, which the document does not know"
        response = responses["default"]
    content = response.get("content", {})
    if isinstance(body, list):
        assert EVENTS in content, f"{method} {path} streams, which the document does not know"
        for event in body:
            hold(document, content[EVENTS]["x-event-schema"], event, f"event of {method} {path}")
    elif isinstance(body, bytes):
        assert body or not content, f"{method} {path} answers {status} with nothing"
        assert not body or JSON not in content or len(content) > 1
    else:
        assert JSON in content, f"{method} {path} answers {status} with JSON, which the document does not know"
        hold(document, content[JSON]["schema"], body, f"{status} of {method} {path}")


def check_headers(document: Mapping[str, Any], method: str, path: str, status: int, headers: Mapping[str, str]) -> None:
    """Raise unless every header that the document promises is there, and is as its schema says."""
    responses = operation(document, method, path)["responses"]
    for name in responses.get(str(status), responses["default"])["headers"]:
        header = document["components"]["headers"][name]
        value: Any = headers.get(name)
        assert value is not None or not header["required"], f"{status} of {method} {path} has no {name}"
        if value is not None:
            value = int(value) if header["schema"]["type"] == "integer" else value
            hold(document, header["schema"], value, f"{name} of {status} of {method} {path}")


def check_request(document: Mapping[str, Any], method: str, path: str, body: Any) -> None:
    """Raise unless the document allows *body* as JSON."""
    hold(document, operation(document, method, path)["requestBody"]["content"][JSON]["schema"], body, f"call of {path}")


def operation(document: Mapping[str, Any], method: str, path: str) -> Mapping[str, Any]:
    """Find the operation that a path means; the one with the most letters of its own wins."""
    path = path.partition("?")[0]
    literal = {template: re.split(r"\{[a-z_]+\}", template) for template in document["paths"]}
    for template in sorted(literal, key=lambda template: -len("".join(literal[template]))):
        pattern = "[^?]+".join(re.escape(part) for part in literal[template])
        found = document["paths"][template].get(method.lower())
        if found and re.fullmatch(pattern, path):
            assert isinstance(found, Mapping)
            return found
    raise AssertionError(f"the document does not know {method} {path}")


def hold(document: Mapping[str, Any], schema: Mapping[str, Any], value: Any, what: str) -> None:
    """Raise with every place at which *value* breaks *schema*."""
    errors = list(validator(document, schema).iter_errors(value))
    assert not errors, f"{what}: " + "; ".join(f"{error.json_path}: {error.message[:300]}" for error in errors)


def validator(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Draft202012Validator:
    """Give a validator for *schema*, whose references lead into *document*."""
    return Draft202012Validator({**schema, "components": document["components"]})
