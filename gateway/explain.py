"""Explains what a request would do, and spends nothing: target, why the others lost, the exact upstream call, cost."""

from __future__ import annotations

from typing import Any

from gateway.calls import Outgoing
from gateway.negotiate import asked, strict_complaint
from gateway.receipt import Change
from gateway.routing import Target, estimate
from gateway.runtime import Runtime
from gateway.values import Caller, ImageRequest


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
    return {
        "method": call.method,
        "url": call.url,
        "headers": dict(call.headers),
        "body": body.decode("utf-8", "replace") if body is not None else None,
    }


def _change(change: Change) -> dict[str, Any]:
    return {"name": change.name, "from": change.asked, "to": change.applied, "reason": change.reason}
