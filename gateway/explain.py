"""Explains what a request would do, and spends nothing: target, why the others lost, the exact upstream call, cost."""

from __future__ import annotations

from typing import Any

from yarl import URL

from gateway.calls import Outgoing
from gateway.negotiate import asked, strict_complaint
from gateway.receipt import Change
from gateway.runtime import Runtime
from gateway.targets import Target, estimate
from gateway.values import Caller, ImageRequest

PLAIN = {"accept", "cancel-after", "content-type", "prefer", "api-version"}
"""Headers and query parameters whose values are shown; any other may be a secret of the configuration."""
SHOWN = 2**15
"""Letters of a body that are shown: input pictures would make megabytes of it, once per call."""


def explain(runtime: Runtime, request: ImageRequest, caller: Caller) -> dict[str, Any]:
    """Give the explanation as plain JSON values; the prompt is shown as written, since optimizing would cost a call."""
    resolved = runtime.resolve(request.model or None, caller)
    recipe = runtime.recipe_for(resolved)
    request = runtime.with_defaults(request, resolved)
    route = runtime.router.consider(request, recipe.targets)
    target, plan = route.choices[0] if route.choices else (None, None)
    return {
        "object": "explanation",
        "model": resolved.public,
        "asked": dict(asked(request)),
        "optimizers": list(recipe.optimizers) if request.optimize else [],
        "middlewares": list(recipe.middlewares),
        "target": target.name if target else None,
        "then": [other.name for other, _ in route.choices[1:]],
        "why": dict(route.why),
        "error": route.error.as_json()["error"] if route.error else None,
        "calls": [_call(target, call) for call in plan.requests()] if target and plan else [],
        "applied": dict(plan.applied) if plan else {},
        "adjusted": [_change(change) for change in plan.adjusted] if plan else [],
        "dropped": [_change(change) for change in plan.dropped] if plan else [],
        "strict": strict_complaint(plan) if plan else None,
        "cost": estimate(target, plan) if target and plan else None,
    }


def _call(target: Target, request: ImageRequest) -> dict[str, Any]:
    """Show one upstream call as it would go out; credentials are added at sending and are not in it."""
    outgoing = getattr(target.backend, "outgoing", None)
    if not callable(outgoing):
        return {"target": target.name, "body": None, "note": "this backend calls no server"}
    call: Outgoing = outgoing(request)
    body = call.body()
    shown: dict[str, Any] = {
        "method": call.method,
        "url": _plain_url(call.url),
        "headers": {name: value if name.lower() in PLAIN else "…" for name, value in call.headers.items()},
        "body": body[:SHOWN].decode("utf-8", "replace") if body is not None else None,
    }
    if body and len(body) > SHOWN:
        shown["note"] = f"the body has {len(body)} bytes; these are the first {SHOWN}"
    return shown


def _plain_url(text: str) -> str:
    """Give a URL without what may be a secret: user and password, and the values of most parameters."""
    if "@" not in text and "?" not in text:
        return text
    url = URL(text)
    url = url.with_user(None) if url.user or url.password else url
    query = [(name, value if name.lower() in PLAIN else "…") for name, value in url.query.items()]
    return str(url.with_query(query)).replace("%E2%80%A6", "…")


def _change(change: Change) -> dict[str, Any]:
    return {"name": change.name, "from": change.asked, "to": change.applied, "reason": change.reason}
