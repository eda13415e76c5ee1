"""What a target has made, and what the receipt says of it: as planned, as delivered, or why it failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from gateway.asking import Telling
from gateway.errors import GatewayError
from gateway.negotiate import Plan
from gateway.receipt import Attempt, Change, Receipt
from gateway.targets import Target, estimate
from gateway.values import Image, Size


@dataclass(slots=True)
class Drawn:
    """What a target has made: *unpaid* counts the pictures that are surely not billed, as their calls failed so."""

    images: list[Image] = field(default_factory=list)
    failures: list[GatewayError] = field(default_factory=list)
    unpaid: int = 0


def planned(receipt: Receipt, target: Target, plan: Plan) -> Receipt:
    """Give the receipt of what *target* is about to be asked."""
    return replace(
        receipt,
        target=target.name,
        applied=plan.applied,
        adjusted=plan.adjusted,
        dropped=plan.dropped,
        notes=(*(note for note in receipt.notes if note not in plan.notes), *plan.notes),
    )


def delivered(receipt: Receipt, target: Target, plan: Plan, drawn: Drawn, telling: Telling, seconds: float) -> Receipt:
    """Give the receipt of what has come, and how it differs from the plan."""
    changes = (*_resized(receipt, plan, telling.came), *_fewer(plan, len(drawn.images)))
    applied, adjusted = receipt.applied, receipt.adjusted
    if changes:
        changed = {change.name for change in changes}
        applied = {name: value for name, value in applied.items() if name not in changed}
        adjusted = (*adjusted, *changes)
    missing = (f"a picture is missing: {error.code}: {error.message[:200]}" for error in drawn.failures)
    return replace(
        receipt,
        cost=estimate(target, plan, drawn.unpaid),
        applied=applied,
        adjusted=adjusted,
        attempts=(*receipt.attempts, Attempt(target.name, "ok", seconds)),
        notes=(*receipt.notes, *missing, *telling.notes),
        usage=telling.usage,
    )


def _fewer(plan: Plan, count: int) -> Iterator[Change]:
    if count < sum(plan.calls):
        yield Change("n", sum(plan.calls), count, "the target made fewer pictures than it was asked for")


def _resized(receipt: Receipt, plan: Plan, came: set[Size]) -> Iterator[Change]:
    """Say so if a target has not made the size that it was asked for, although it can be asked for one."""
    others = came - {plan.request.size}
    if "size" in receipt.applied and plan.request.size and others:
        answered = ", ".join(sorted(map(str, others)))
        done = {"leave": "it is left so", "scale": "it was scaled here", "pad": "it was padded here"}
        how = done.get(plan.fit, "it was cut and scaled here")
        yield Change(
            "size", receipt.applied["size"], plan.size and str(plan.size), f"the target answered {answered}; {how}"
        )


def failed(receipt: Receipt, target: Target, error: GatewayError, seconds: float) -> Receipt:
    """Give the receipt with one more attempt that came to nothing."""
    sent, billed = getattr(error, "sent", True), getattr(error, "billed", None)
    attempt = Attempt(target.name, error.code, seconds, error.message[:300], sent, billed)
    return replace(receipt, attempts=(*receipt.attempts, attempt))
