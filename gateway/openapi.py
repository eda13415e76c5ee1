"""The OpenAPI document of a running application: every route, what it takes, what it answers, and how it fails."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from inspect import getdoc
from typing import Any

from aiohttp import web

from gateway.errors import ConfigError, GatewayError
from gateway.openapi_answers import answers
from gateway.openapi_examples import ANSWERS, REQUESTS
from gateway.openapi_fields import requests
from gateway.openapi_headers import header_components, headers_of
from gateway.openapi_operations import JSON, OPERATIONS, Operation
from gateway.openapi_schema import ref

Document = dict[str, Any]

ABOUT = """\
One OpenAI-compatible address and one key in front of many image models. Any OpenAI client works with the base URL
`…/v1`; the endpoints for drawing are also served below any other path (`/any/path/v1/…`), and every GET but a job's
events answers HEAD.

Null is the same as leaving a field out, and unknown fields never fail a call that draws: the `gateway.receipt` of an
answer says what was asked, what was applied, and what was changed or dropped and why. `x-request-id` is in every
answer.
"""
TAGS = {
    "Drawing": "Calls that make pictures. Each is a job: it can be waited for, streamed, or asked for later.",
    "Models": "What may be asked for.",
    "Jobs": "Your own calls, while they run and for a while afterwards.",
    "Pictures": "What has been drawn.",
    "About": "The gateway itself. No key is needed.",
    "Plugins": "Routes that plugins have added.",
}
SECURITY = {
    "key": {"type": "http", "scheme": "bearer", "description": "A key of this gateway."},
    "x-api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The same key, otherwise sent.",
    },
}
STATUSES = {
    200: "Done.",
    202: "Accepted: a job, to be asked for at the address in `Location`.",
    204: "Nothing will follow.",
    206: "The part that was asked for.",
    302: "The picture lies at the address in `Location`.",
    304: "What you have is still right.",
    503: "Shutting down.",
}
STORED = "/image/{key}"
IN_PATH = re.compile(r"\{([a-z_]+)(?::[^{}]*)?\}")


def make_document(app: web.Application, public: set[str]) -> Document:
    """Describe every route of *app*, those of plugins too; *public* are the paths that ask for no key."""
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    tags = set()
    for method, path, handler in described_routes(app):
        operation = OPERATIONS.get((method, path)) or _of_plugin(path)
        tags.add(operation.tag)
        described = _described(method, path, handler, operation)
        paths[path][method.lower()] = described | ({"security": []} if path in public else {})
    return {
        "openapi": "3.1.0",
        "info": {"title": "Image gateway", "version": "1", "summary": ABOUT.split(". ")[0] + ".", "description": ABOUT},
        "servers": [{"url": "/"}],
        "security": [{name: []} for name in SECURITY],
        "tags": [{"name": name, "description": about} for name, about in TAGS.items() if name in tags],
        "paths": dict(paths),
        "components": {
            "schemas": {**requests(), **answers()},
            "headers": header_components(),
            "securitySchemes": SECURITY,
        },
    }


def described_routes(app: web.Application) -> Iterator[tuple[str, str, Any]]:
    """Yield (method, path, handler) of the routes that stand for themselves: no HEAD, no preflight, no other prefix."""
    for route in app.router.routes():
        path = route.resource.canonical if route.resource else ""
        if route.method not in ("HEAD", "OPTIONS", "*") and not path.startswith("/{prefix}"):
            yield route.method, path, route.handler


def error_codes() -> Mapping[int, list[str]]:
    """Give the codes of all errors by status, as the tree of errors has them."""
    codes: dict[int, list[str]] = defaultdict(list)
    waiting: list[type[GatewayError]] = [GatewayError]
    while waiting:
        cls = waiting.pop(0)
        waiting += cls.__subclasses__()
        seen = cls.code in codes[cls.status] or cls is ConfigError
        if not seen and cls.__module__ == "gateway.errors":
            codes[cls.status].append(cls.code)
    return codes


def _described(method: str, path: str, handler: Any, operation: Operation) -> Document:
    summary, _, rest = (getdoc(handler) or "").partition(".")
    about = " ".join(filter(None, (_plain(rest), operation.more)))
    described: Document = {
        "operationId": _name(method, path),
        "tags": [operation.tag],
        "summary": _plain(summary) or f"{method} {path}",
        **({"description": about} if about else {}),
        **({"parameters": list(operation.parameters)} if operation.parameters else {}),
        "responses": _responses(operation, path),
    }
    if operation.body:
        content = {kind: {"schema": schema, **_example(schema, REQUESTS)} for kind, schema in operation.body.items()}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _responses(operation: Operation, path: str) -> Document:
    found: Document = {}
    for status, content in operation.answers.items():
        shown = {kind: {**media, **_example(media["schema"], ANSWERS)} for kind, media in content.items()}
        words = _failure(status) if content == {JSON: {"schema": ref("Error")}} else STATUSES[status]
        headers = headers_of(status, picture=path == STORED)
        found[str(status)] = {"description": words, "headers": headers, **({"content": shown} if shown else {})}
    error = {JSON: {"schema": ref("Error"), "example": ANSWERS["Error"]}}
    for status in operation.errors:
        found[str(status)] = {"description": _failure(status), "headers": headers_of(status), "content": error}
    found["default"] = {"description": "Any other error.", "headers": headers_of(0), "content": error}
    return found


def _failure(status: int) -> str:
    codes = ", ".join(f"`{code}`" for code in error_codes().get(status, ()))
    return f"Error, with the code {codes} or a closer one." if codes else "Error."


def _example(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Document:
    first = schema.get("anyOf", [schema])[0].get("$ref", "").rpartition("/")[2]
    return {"example": known[first]} if first in known else {}


def _of_plugin(path: str) -> Operation:
    names = IN_PATH.findall(path)
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return Operation("Plugins", {200: {}}, parameters=tuple(parameters))


def _name(method: str, path: str) -> str:
    words = re.findall(r"[a-z0-9]+", path.removeprefix("/v1").lower()) or ["welcome"]
    return "_".join([method.lower(), *words]) + ("_v1" if path == "/v1/health" else "")


def _plain(words: str) -> str:
    """Turn a docstring's marks into Markdown's."""
    return " ".join(re.sub(r"(?<!\*)\*([A-Za-z_]+)\*(?!\*)", r"`\1`", words.replace("``", "`")).split())
