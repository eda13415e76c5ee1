"""``GET /v1/models`` and ``GET /v1/models/{id}``: what the caller may use, with capabilities."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import unquote

import orjson
from aiohttp import web

from gateway.endpoints.answers import CALLER, json_response
from gateway.errors import ModelNotFoundError
from gateway.runtime import RUNTIME, Runtime
from gateway.targets import Target, known_capabilities
from gateway.values import Caller

CREATED = 1_760_000_000
"""A fixed birthday: models of a configuration have none, and clients only want a number."""

PERMISSION = {
    "allow_create_engine": False,
    "allow_sampling": True,
    "allow_logprobs": False,
    "allow_search_indices": False,
    "allow_view": True,
    "allow_fine_tuning": False,
    "organization": "*",
    "group": None,
    "is_blocking": False,
}
"""What older clients of the models API expect beside each model; it says no more than that the model may be used."""


FRESH = 5.0
"""Seconds that the list is taken as it was: clients ask again and again, and backends learn little meanwhile."""
MOST_LISTS = 256
"""How many different lists are kept; one for each set of models that a key may be limited to."""


async def list_models(request: web.Request) -> web.Response:
    """List the models, aliases included, that this caller may use; wildcard routes have no single name to list."""
    runtime, caller = request.app[RUNTIME], request[CALLER]
    allowed = None if caller.models is None else tuple(caller.models)
    until, body = runtime.catalogue.get(allowed, (0.0, b""))
    now = time.monotonic()
    if now >= until:
        entries = [_entry(runtime, public, recipe) for public, recipe in _names(runtime, caller)]
        body = orjson.dumps({"object": "list", "data": entries})
        if len(runtime.catalogue) >= MOST_LISTS:
            runtime.catalogue.clear()
        runtime.catalogue[allowed] = now + FRESH, body
    return web.Response(body=body, content_type="application/json")


async def show_model(request: web.Request) -> web.Response:
    """Show one model; its name may come raw (``@cf/a/b``) or percent-encoded."""
    runtime, caller = request.app[RUNTIME], request[CALLER]
    name = unquote(request.match_info["id"])
    for public, recipe in _names(runtime, caller):
        if public == name:
            return json_response(_entry(runtime, public, recipe))
    if any("*" in pattern for pattern in runtime.settings.models):
        resolved = runtime.resolve(name, caller)
        if resolved.public == name:
            return json_response(_entry(runtime, name, resolved.recipe))
    known = ", ".join(public for public, _ in _names(runtime, caller))
    raise ModelNotFoundError(f"there is no model {name[:100]!r}; known here: {known}", param="model")


def _names(runtime: Runtime, caller: Caller) -> list[tuple[str, str]]:
    pairs = []
    for name, model in runtime.settings.models.items():
        if "*" not in name:
            pairs += [(name, name), *((alias, name) for alias in model.aliases if "*" not in alias)]
    return [(public, recipe) for public, recipe in pairs if caller.may_use(public)]


def _entry(runtime: Runtime, public: str, recipe: str) -> dict[str, Any]:
    made = runtime.recipes[recipe]
    return {
        "id": public,
        "object": "model",
        "created": CREATED,
        "owned_by": made.settings.owned_by,
        "name": public,
        "root": recipe,
        "parent": None,
        "permission": [{"id": f"modelperm-{public}", "object": "model_permission", "created": CREATED, **PERMISSION}],
        "description": made.settings.description,
        "architecture": {"input_modalities": ["text"], "output_modalities": ["image"]},
        "capabilities": [{"target": target.name, **_abilities(target)} for target in made.targets],
    }


def _abilities(target: Target) -> dict[str, Any]:
    """Give what a target can do; of one whose plugin cannot tell there is nothing to say."""
    return next((known.as_json() for known in known_capabilities([target])), {})
