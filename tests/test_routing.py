"""Which targets serve a request, and which rest."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.breaker import LONGEST_REST, LONGEST_RETRY_AFTER, PROBE_TIMEOUT, Breaker
from gateway.capabilities import Capabilities, Range
from gateway.contracts import Report
from gateway.errors import (
    BusyUpstreamError,
    MisconfiguredError,
    RejectedError,
    RequestError,
    UnavailableError,
    UnreachableError,
    UpstreamTimeoutError,
)
from gateway.negotiate import negotiate
from gateway.routing import Router
from gateway.settings import TargetSettings
from gateway.targets import Target, estimate
from gateway.values import Image, ImageRequest, Size

CAT = ImageRequest("a cat", model="flux")


@dataclass(frozen=True)
class Painter:
    can: Capabilities = Capabilities()

    def capabilities(self, model: str) -> Capabilities:
        return self.can

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        return []


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def target(name: str, weight: float = 1, can: Capabilities = Capabilities(), **settings: object) -> Target:  # noqa: B008  - frozen
    entry = TargetSettings(backend=name, weight=weight, **settings)  # type: ignore[arg-type]  # checked by the dataclass
    return Target.of(entry, Painter(can))


def names(router: Router, request: ImageRequest, targets: list[Target]) -> list[str]:
    return [chosen.name for chosen, _ in router.order(request, targets)]


def break_down(router: Router, victim: Target, times: int = 5, retry_after: float | None = None) -> None:
    for _ in range(times):
        router.failed(victim, BusyUpstreamError("down", retry_after=retry_after))


def test_load_is_shared_by_weight():
    """Over 10,000 requests each target's share lies within 2 % of its weight; 0 gets nothing."""
    router = Router(chance=random.Random(7).random)
    targets = [target("a", 3), target("b", 1), target("c", 0), target("d", 6)]

    firsts = Counter(names(router, CAT, targets)[0] for _ in range(10_000))

    assert firsts["a"] == pytest.approx(3000, abs=200)
    assert firsts["b"] == pytest.approx(1000, abs=200)
    assert firsts["d"] == pytest.approx(6000, abs=200)
    assert "c" not in firsts


def test_the_rest_stands_by_in_the_order_of_the_yaml():
    """After the one drawn come the others as written, weightless ones last."""
    router = Router(chance=lambda: 0.99)
    targets = [target("zero", 0), target("a"), target("b"), target("c")]

    assert names(router, CAT, targets) == ["c", "a", "b", "zero"]


def test_weightless_targets_serve_when_there_is_no_other():
    """With nothing but weights of 0 the first written serves."""
    assert names(Router(), CAT, [target("a", 0), target("b", 0)]) == ["a", "b"]


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.9999999999999999])
def test_any_chance_draws_somebody(chance):
    """The ends of the range, and rounding, never draw nobody."""
    targets = [target(name, weight) for name, weight in (("a", 0.1), ("b", 0.2), ("c", 0.7))]

    assert len(names(Router(chance=lambda: chance), CAT, targets)) == 3


def test_a_target_that_can_do_it_beats_one_that_cannot():
    """Weight does not help a target that would drop the seed."""
    router = Router()
    targets = [target("blind", 1000), target("seeing", 0.001, Capabilities(accepts={"seed": True}))]
    route = router.consider(replace(CAT, seed=7), targets)

    assert [chosen.name for chosen, _ in route.choices] == ["seeing", "blind"]
    assert route.why == {
        "blind": "stands by: it can do less of what was asked: seed would be dropped (the target does not take seed)"
    }


def test_strict_leaves_only_targets_that_can_do_all():
    """A strict request is refused rather than adjusted, and the words say what would happen."""
    request = replace(CAT, steps=50, strict=True)
    able, clamps = (
        target("able", 1, Capabilities(accepts={"steps": True})),
        target("clamps", 1, Capabilities(accepts={"steps": Range(1, 8)})),
    )

    assert names(Router(), request, [clamps, able]) == ["able"]
    with pytest.raises(RequestError, match="steps would be 8") as caught:
        Router().order(request, [clamps])
    assert caught.value.param == "steps"


def test_a_target_that_cannot_at_all_is_left_out():
    """An edit goes only to targets that edit; without any it is the caller's error, by name."""
    request = replace(CAT, images=(Image(data=b"png"),))

    assert names(Router(), request, [target("draws"), target("edits", 1, Capabilities(inputs=1))]) == ["edits"]
    with pytest.raises(RequestError, match="takes no input images"):
        Router().order(request, [target("draws")])


def test_no_target_at_all_is_an_error_not_an_empty_list():
    """Nobody has to check for an empty list."""
    with pytest.raises(UnavailableError):
        Router().order(CAT, [])


def test_a_resting_target_gets_none_and_comes_back():
    """Five failures in a row: none of 1,000 requests goes there until the rest is over, then it has its share."""
    clock = Clock()
    router = Router(clock=clock, chance=random.Random(1).random)
    a, b = target("a"), target("b")
    break_down(router, a)

    assert {tuple(names(router, CAT, [a, b])) for _ in range(1000)} == {("b",)}
    assert router.consider(CAT, [a, b]).why["a"] == "rests for 5.0 s more after 5 failures in a row"

    clock.now += 5
    with router.attempt(a):
        assert names(router, CAT, [a, b]) == ["b"], "while the probe is out, nobody else follows"
    firsts = Counter(names(router, CAT, [a, b])[0] for _ in range(1000))
    assert firsts["a"] == pytest.approx(500, abs=60)


def two_at_rest() -> tuple[Router, Target, Target]:
    """Two broken targets: *a* is back in a minute, *b* in twelve seconds, by a clock that stands still."""
    router = Router(clock=Clock())
    a, b = target("a"), target("b")
    break_down(router, a, retry_after=60)
    break_down(router, b, retry_after=12)
    return router, a, b


def test_when_all_rest_the_first_to_come_back_is_asked_one_call_at_a_time():
    """What is wrong is not hidden behind a rest; a storm meets one probe and learns when to come again."""
    router, a, b = two_at_rest()

    for _ in range(3):
        assert names(router, CAT, [a, b]) == ["b"]
        with pytest.raises(UnreachableError), router.attempt(b, alone=True):
            raise UnreachableError("still down")
    with pytest.raises(BusyUpstreamError), router.attempt(b):
        raise AssertionError("with others to ask it rests")
    assert router.breaker(b).wait == pytest.approx(12)
    with router.attempt(b, alone=True):
        assert names(router, CAT, [a, b]) == ["a"]
        with router.attempt(a, alone=True), pytest.raises(UnavailableError):
            router.order(CAT, [a, b])
    assert sorted(names(router, CAT, [a, b])) == ["a", "b"]


def test_all_being_probed_says_when_the_first_is_back():
    """The caller learns the soonest return, so that it can come again in time."""
    router, a, b = two_at_rest()

    with router.attempt(a, alone=True), router.attempt(b, alone=True), pytest.raises(UnavailableError) as caught:
        router.order(CAT, [a, b])

    assert caught.value.retry_after == pytest.approx(12)
    assert (caught.value.status, caught.value.again) == (503, None)


@pytest.mark.parametrize(
    "error",
    [
        RejectedError("prompt too odd"),
        RequestError("mine"),
        asyncio.CancelledError(),
        ValueError("a bug of ours"),
    ],
)
def test_mistakes_and_cancellations_do_not_count(error):
    """A hundred callers' mistakes do not make a healthy target rest, nor does a probe end by one."""
    clock = Clock()
    router = Router(clock=clock)
    a = target("a")
    break_down(router, a)
    clock.now += 5
    for _ in range(100):
        with pytest.raises(type(error)), router.attempt(a):
            raise error

    assert router.breaker(a).state == "half-open"
    assert names(router, CAT, [a]) == ["a"]


def test_time_outs_count_although_they_are_not_retried():
    """An upstream that answers nobody is as good as down."""
    router = Router()
    a = target("a")
    for _ in range(5):
        with pytest.raises(UpstreamTimeoutError), router.attempt(a):
            raise UpstreamTimeoutError("slow")

    assert router.breaker(a).state == "open"
    assert router.health()["a"]["failures"] == 5


def test_an_attempt_on_a_target_gone_to_rest_sends_nothing():
    """A request that chose before the breaker opened goes on to the next target, with nothing billed."""
    router = Router()
    a = target("a")
    break_down(router, a)

    with pytest.raises(BusyUpstreamError) as caught, router.attempt(a):
        pytest.fail("must not be called")

    assert (caught.value.sent, caught.value.retryable) == (False, True)


def test_a_wildcard_route_cannot_be_rested_by_asking_for_nonsense():
    """Models that do not exist say nothing of those that do; a broken upstream rests them all at once."""
    router = Router()
    route = target("openai", model="*")
    break_missing = [route.matching(f"nonsense-{i}") for i in range(50)]
    for one in break_missing:
        router.failed(one, MisconfiguredError("no such model"))

    assert names(router, CAT, [route.matching("gpt-image-2")]) == ["openai/gpt-image-2"]
    break_down(router, break_missing[0])
    assert router.breaker(route.matching("gpt-image-2")).state == "open"


def test_a_success_ends_the_row():
    """Four failures and a success, again and again, are no reason to rest."""
    router = Router()
    a = target("a")
    for _ in range(10):
        break_down(router, a, times=4)
        router.succeeded(a)

    assert router.health() == {}


def test_target_fit_is_its_own_or_the_model_s():
    """A target's fit wins over the model's."""
    assert Target.of(TargetSettings("a", fit="pad"), Painter(), "crop").fit == "pad"
    assert Target.of(TargetSettings("a"), Painter(), "leave").fit == "leave"


@pytest.mark.parametrize(
    ("prices", "size", "n", "cost"),
    [
        ({}, None, 1, None),
        ({"price": 0.04}, None, 3, 0.12),
        ({"price_per_megapixel": 0.01}, Size(2000, 1000), 2, 0.04),
        ({"price_per_megapixel": 1}, None, 1, 1.048576),
        ({"price": 0}, None, 1, 0.0),
    ],
)
def test_cost_is_estimated_for_all_pictures(prices, size, n, cost):
    """Per picture and per megapixel of what the target makes; free is 0, unknown is None."""
    a = target("a", **prices)

    assert estimate(a, negotiate(replace(CAT, size=size, n=n), a.capabilities, "", "crop")) == cost


def test_cost_counts_the_pixels_made_not_those_delivered():
    """What is cropped away here was paid for."""
    a = target("a", 1, Capabilities(sizes=(), native=Size(1000, 1000)), price_per_megapixel=1)

    assert estimate(a, negotiate(replace(CAT, size=Size(10, 10)), a.capabilities, "", "crop")) == 1.0


class Breaking(RuleBasedStateMachine):
    """Against a simple model: the breaker opens after three in a row, admits one probe, and never stays shut."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(3, self.clock)
        self.row = 0
        self.back = 0.0
        self.probing = False

    @property
    def tripped(self) -> bool:
        return self.back > 0

    @rule(seconds=st.sampled_from([0.1, 1, 5, 30, 300]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        if seconds == 300:
            self.probing = False if self._probe_given_up() else self.probing

    def _probe_given_up(self) -> bool:
        return self.probing and self.clock.now - self.since >= PROBE_TIMEOUT

    @precondition(lambda self: self.clock.now >= self.back and not self.probing)
    @rule()
    def a_call_passes(self) -> None:
        assert self.breaker.take()
        if self.tripped:
            self.probing, self.since = True, self.clock.now

    @precondition(lambda self: self.clock.now < self.back)
    @rule()
    def no_call_passes_a_rest(self) -> None:
        assert not self.breaker.take()
        assert 0 < self.breaker.wait <= self.back - self.clock.now + 1e-6

    @precondition(lambda self: self.probing and not self._probe_given_up())
    @rule()
    def no_second_probe(self) -> None:
        assert not self.breaker.take()

    @rule()
    def a_call_succeeds(self) -> None:
        self.breaker.succeeded()
        self.row, self.back, self.probing = 0, 0.0, False

    @rule()
    def a_call_is_cancelled(self) -> None:
        self.breaker.released()
        self.probing = False

    @rule(retry_after=st.sampled_from([None, 0, 7, 10**9]))
    def a_call_fails(self, retry_after: float | None) -> None:
        resting = self.clock.now < self.back
        self.breaker.failed(retry_after)
        self.row += 1
        if resting:
            return
        self.probing = False
        if self.tripped or self.row >= 3:
            wait = self.breaker.wait
            assert max(5, min(retry_after or 0, LONGEST_RETRY_AFTER)) <= wait + 1e-6
            assert wait <= max(LONGEST_REST, min(retry_after or 0, LONGEST_RETRY_AFTER)) + 1e-6
            self.back = self.clock.now + wait

    @invariant()
    def state_is_as_the_model_says(self) -> None:
        if not self.tripped:
            assert self.breaker.state == "closed"
        else:
            assert self.breaker.state == ("open" if self.clock.now < self.back else "half-open")


TestBreaking = Breaking.TestCase


def test_rests_double_up_to_five_minutes_and_start_anew():
    """5, 10, 20 … 300, 300 seconds; a success forgets it all."""
    clock = Clock()
    breaker = Breaker(1, clock)
    rests = []
    for _ in range(8):
        breaker.failed()
        rests.append(breaker.wait)
        clock.now += breaker.wait
    breaker.succeeded()
    breaker.failed()

    assert rests == [5, 10, 20, 40, 80, 160, 300, 300]
    assert breaker.wait == 5


def test_failures_of_calls_begun_earlier_do_not_lengthen_the_rest():
    """Fifty calls in flight fail together: that is one outage, not fifty."""
    breaker = Breaker(5, Clock())
    for _ in range(50):
        breaker.failed()

    assert breaker.wait == 5


def test_the_wildcard_s_match_is_put_into_the_target_s_model():
    """``black-forest-labs/*`` asked for by ``flux-dev`` becomes ``black-forest-labs/flux-dev``."""
    made = target("together", model="black-forest-labs/*").matching("flux-dev")

    assert (made.name, made.model) == ("together/black-forest-labs/flux-dev", "black-forest-labs/flux-dev")
