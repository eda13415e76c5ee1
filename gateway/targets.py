"""One way to serve a model: what can be known of it without asking anything outside."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from gateway.capabilities import Capabilities
from gateway.care import health_of
from gateway.contracts import Backend
from gateway.errors import AllowanceError, BadKeyError, PluginError, RateLimitedError, UpstreamError
from gateway.negotiate import Plan
from gateway.settings import Fit, TargetSettings
from gateway.values import Size

log = logging.getLogger(__name__)

ASSUMED = Size(1024, 1024)
"""What a picture is reckoned as when nobody knows its size."""


@dataclass(frozen=True)
class Target:
    """One way to serve a model: *backend* asked for the upstream's *model*; *route* is what rests when it fails."""

    name: str
    backend_name: str
    backend: Backend = field(repr=False)
    model: str = ""
    weight: float = 1
    fit: Fit = "crop"
    price: float | None = None
    price_per_megapixel: float | None = None
    route: str = ""

    @classmethod
    def of(cls, entry: TargetSettings, backend: Backend, fit: Fit = "crop") -> Target:
        """Make a target as the YAML has it; *fit* is the model's own, for a target without one."""
        name = _name(entry.backend, entry.model)
        return cls(
            name,
            entry.backend,
            backend,
            entry.model,
            entry.weight,
            entry.fit or fit,
            entry.price,
            entry.price_per_megapixel,
            route=name,
        )

    def matching(self, matched: str) -> Target:
        """Give the target for what a wildcard matched; all of them share one *route*."""
        model = self.model.replace("*", matched)
        return replace(self, name=_name(self.backend_name, model), model=model)

    @property
    def capabilities(self) -> Capabilities:
        """What the upstream model can do, as far as the backend knows now; raise `PluginError` if it cannot tell."""
        try:
            found = self.backend.capabilities(self.model)
        except Exception as error:
            log.exception("backend %s cannot tell its capabilities", self.name)
            raise PluginError(f"{self.name}: the plugin cannot tell its capabilities; see the gateway's log") from error
        if not isinstance(found, Capabilities):
            raise PluginError(f"{self.name}: capabilities() must return Capabilities, not {type(found).__name__}")
        return found


def _name(backend: str, model: str) -> str:
    return f"{backend}/{model}" if model else backend


def known_capabilities(targets: Iterable[Target]) -> Iterator[Capabilities]:
    """Give what the targets can do, without those whose plugins cannot tell."""
    for target in targets:
        with suppress(PluginError):
            yield target.capabilities


def keys_out(target: Target) -> UpstreamError | None:
    """Give the error that a call would end in because no key of the target's backend can be used now, or None.

    It is read from the backend's health, where it counts its keys, if it has any.
    """
    found = health_of(target.backend)
    if not isinstance(found, Mapping) or not found.get("keys") or found.get("usable"):
        return None
    back = found.get("back")
    if not isinstance(back, int | float) or not back:
        return None
    if found.get("refused") == found["keys"]:
        return BadKeyError(f"{target.name}: every key was refused; give it new ones", sent=False)
    words = f"{target.name}: every usable key rests; the first is back in {back} s"
    kind = AllowanceError if found.get("used_up") and found["used_up"] == found.get("resting") else RateLimitedError
    return kind(words, sent=False, retry_after=float(back))


def estimate(target: Target, plan: Plan, unpaid: int = 0) -> float | None:
    """Reckon what the plan costs without its *unpaid* pictures, in the currency of the prices; None without a price."""
    if target.price is None and target.price_per_megapixel is None:
        return None
    size = plan.request.size or target.capabilities.native or plan.size or ASSUMED
    each = (target.price or 0) + (target.price_per_megapixel or 0) * size.pixels / 10**6
    return round(each * (sum(plan.calls) - unpaid), 9)
