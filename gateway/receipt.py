"""The receipt: what was asked, what was applied, what was adjusted or dropped and why, and every attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.usage import Usage


@dataclass(frozen=True, slots=True)
class Change:
    """One parameter that was not taken as asked; *applied* is None when it was dropped."""

    name: str
    asked: Any
    applied: Any
    reason: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of one target: *outcome* is ``ok`` or the error's code; *seconds* is how long it took."""

    target: str
    outcome: str
    seconds: float
    reason: str = ""
    sent: bool = True
    billed: bool | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Grows by ``replace`` while a job runs; `as_json` is what clients, logs and events see."""

    model: str = ""
    target: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)
    applied: Mapping[str, Any] = field(default_factory=dict)
    adjusted: tuple[Change, ...] = ()
    dropped: tuple[Change, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    optimizer: str | None = None
    notes: tuple[str, ...] = ()
    cost: float | None = None
    usage: Usage | None = None

    def as_json(self) -> dict[str, Any]:
        """Give plain JSON values; cost is an estimate in the currency of the prices, usage the tokens told."""
        return {
            "model": self.model,
            "target": self.target,
            "asked": dict(self.asked),
            "applied": dict(self.applied),
            "adjusted": [{"name": c.name, "from": c.asked, "to": c.applied, "reason": c.reason} for c in self.adjusted],
            "dropped": [{"name": c.name, "value": c.asked, "reason": c.reason} for c in self.dropped],
            "attempts": [
                {
                    "target": a.target,
                    "outcome": a.outcome,
                    "seconds": round(a.seconds, 3),
                    **({"reason": a.reason} if a.reason else {}),
                }
                for a in self.attempts
            ],
            "optimizer": self.optimizer,
            "notes": list(self.notes),
            "cost": self.cost,
            "usage": self.usage.as_json() if self.usage else None,
        }
