"""Which targets serve a request, in which order, and why the others do not."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gateway.breaker import FAILURES, Breaker
from gateway.errors import (
    AllowanceError,
    BadKeyError,
    BusyUpstreamError,
    GatewayError,
    MisconfiguredError,
    PluginError,
    RateLimitedError,
    RequestError,
    UnavailableError,
    UpstreamError,
)
from gateway.negotiate import Plan, negotiate, score, strict_complaint
from gateway.targets import Target
from gateway.values import ImageRequest

log = logging.getLogger(__name__)

KEYS_OUT = (AllowanceError, BadKeyError, RateLimitedError)


@dataclass(frozen=True)
class Route:
    """The targets to try, in order, with what each would be sent; *why* says of each other target why not it.

    *error* is set if there is none to try.
    """

    choices: list[tuple[Target, Plan]]
    why: Mapping[str, str]
    error: RequestError | PluginError | UnavailableError | None = None


class Router:
    """Orders targets: those that can do all that was asked before those that cannot, equals by weighted chance."""

    def __init__(
        self,
        failures: int = FAILURES,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._failures = failures
        self._clock = clock
        self._chance = chance
        self._breakers: dict[str, Breaker] = {}

    def order(self, request: ImageRequest, targets: Sequence[Target]) -> list[tuple[Target, Plan]]:
        """Give the targets to try, the best first; raise `RequestError` if none can do it, `UnavailableError` with
        the time of the first one's return if all that can are resting."""
        route = self.consider(request, targets)
        if route.error:
            raise route.error
        return route.choices

    def consider(self, request: ImageRequest, targets: Sequence[Target]) -> Route:
        """Order the targets and say why; a strict request leaves only those that can do all of it."""
        why: dict[str, str] = {}
        resting: list[tuple[Target, Plan]] = []
        able: list[tuple[Target, Plan]] = []
        refusals: list[RequestError | PluginError] = []
        for target in targets:
            try:
                plan = _plan(request, target)
            except (RequestError, PluginError) as error:
                refusals.append(error)
                why[target.name] = f"cannot do it: {error.message}"
                continue
            breaker = self.breaker(target)
            if breaker.wait:
                resting.append((target, plan))
                why[target.name] = f"rests for {breaker.wait:.1f} s more after {breaker.failures} failures in a row"
            else:
                able.append((target, plan))
        if able:
            choices = self._ranked(able)
            why |= _reasons(choices)
            return Route(choices, why)
        if resting:
            # Whoever may come back first is tried all the same, one call at a time: its own error says more than ours.
            resting.sort(key=lambda choice: self.breaker(choice[0]).wait)
            free = [choice for choice in resting if not self.breaker(choice[0]).probing]
            if free:
                why[free[0][0].name] += "; it is asked all the same, since nobody else can"
                return Route(free[:1], why)
            wait = self.breaker(resting[0][0]).wait
            message = "every target that can serve this is resting after failures; try again later"
            return Route([], why, UnavailableError(message, code="all_targets_resting", retry_after=wait))
        # What a caller can mend is told before what only a plugin's author can.
        refusals.sort(key=lambda error: isinstance(error, PluginError))
        return Route([], why, refusals[0] if refusals else UnavailableError("this model has no target"))

    def breaker(self, target: Target) -> Breaker:
        """Give the breaker of a target's route."""
        route = target.route or target.name
        if route not in self._breakers:
            self._breakers[route] = Breaker(self._failures, self._clock)
        return self._breakers[route]

    @contextmanager
    def attempt(self, target: Target, *, alone: bool = False) -> Iterator[None]:
        """Stand around one attempt: hold the probe's place, and note what comes of it.

        *alone* says that there is no other target; it is tried even while it rests.
        Raise `BusyUpstreamError`, with nothing sent, if the target went to rest since it was chosen.
        """
        breaker = self.breaker(target)
        if not breaker.take(alone=alone):
            words = "rests after failures in a row"
            error = BusyUpstreamError(words, code="target_resting", sent=False, retry_after=breaker.wait)
            error.status = 503
            raise error
        try:
            yield
        except UpstreamError as error:
            self.failed(target, error)
            raise
        except BaseException:
            breaker.released()
            raise
        else:
            breaker.succeeded()

    def succeeded(self, target: Target) -> None:
        """Note a good call."""
        self.breaker(target).succeeded()

    def failed(self, target: Target, error: BaseException | None = None) -> None:
        """Note a failure; a caller's own mistake, and a model that only one wildcard's name means, do not count."""
        breaker = self.breaker(target)
        if _counts(target, error):
            breaker.failed(getattr(error, "retry_after", None))
        else:
            breaker.released()

    def health(self) -> dict[str, Any]:
        """Say which targets are not well, and for how long they rest."""
        return {
            route: {"state": breaker.state, "failures": breaker.failures, "wait": round(breaker.wait, 1)}
            for route, breaker in self._breakers.items()
            if breaker.failures or breaker.state != "closed"
        }

    def _ranked(self, able: list[tuple[Target, Plan]]) -> list[tuple[Target, Plan]]:
        """Draw the first among the best by weight; the rest follows, best first, in the order of the YAML."""
        if len(able) == 1:
            return able
        ranked = sorted(able, key=_rank)
        equals = [choice for choice in ranked if _rank(choice) == _rank(ranked[0])]
        first = self._drawn(equals)
        return [first, *(choice for choice in ranked if choice is not first)]

    def _drawn(self, equals: list[tuple[Target, Plan]]) -> tuple[Target, Plan]:
        point = self._chance() * sum(target.weight for target, _ in equals)
        for choice in equals:
            point -= choice[0].weight
            if point < 0:
                return choice
        # Only without weights, or by rounding at the very end of the range.
        return equals[-1] if equals[-1][0].weight else equals[0]


def _plan(request: ImageRequest, target: Target) -> Plan:
    capabilities = target.capabilities
    try:
        plan = negotiate(request, capabilities, target.model, target.fit)
    except GatewayError:
        raise
    except Exception as error:
        log.exception("nothing can be negotiated with backend %s", target.name)
        raise PluginError(f"{target.name}: its Capabilities hold what they may not; see the gateway's log") from error
    complaint = strict_complaint(plan) if request.strict else None
    if complaint:
        param = next(change.name for change in (*plan.adjusted, *plan.dropped))
        param = dict(request.spelled).get(param, param)
        raise RequestError(f"strict: {complaint}", param=param, code="not_as_asked")
    return plan


def _rank(choice: tuple[Target, Plan]) -> tuple[tuple[int, int], bool]:
    target, plan = choice
    return score(plan), not target.weight


def _reasons(choices: list[tuple[Target, Plan]]) -> dict[str, str]:
    """Say of each target but the first why it only stands by."""
    first, *others = choices
    why = {}
    for target, plan in others:
        if score(plan) != score(first[1]):
            lost = strict_complaint(plan) or ""
            why[target.name] = f"stands by: it can do less of what was asked: {lost}"
        elif not target.weight and first[0].weight:
            why[target.name] = "stands by: its weight is 0"
        else:
            why[target.name] = f"stands by: its equal {first[0].name} was drawn (weights decide)"
    return {name: reason for name, reason in why.items() if name != first[0].name}


def _counts(target: Target, error: BaseException | None) -> bool:
    if isinstance(error, MisconfiguredError) and "*" in target.route:
        # Anybody could make a wildcard's whole route rest by asking for five models that do not exist.
        return False
    if isinstance(error, KEYS_OUT) and not error.sent:
        # Its keys rest, and come back at a time that is known; nobody has asked the upstream anything.
        return False
    return not isinstance(error, UpstreamError) or error.retryable or error.status >= 500
