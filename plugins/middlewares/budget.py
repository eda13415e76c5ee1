"""Lets each caller spend so much and no more."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from gateway import (
    BudgetError,
    BusyError,
    Calendar,
    Counters,
    Period,
    Proceed,
    RequestError,
    Stage,
    StateOption,
    Taken,
    UnavailableError,
    UpstreamError,
    Work,
    hookimpl,
    make_counters,
    take_surely,
)

log = logging.getLogger(__name__)

SPEND = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*/\s*([a-z]+)\s*", re.ASCII)
MEANWHILE = {"deny": "calls that cost something are refused", "allow": "nobody's spending is counted"}


def parse_spend(value: Any) -> Calendar:
    """Read ``5.00/day``, counted in millionths; raise ValueError for anything else."""
    if isinstance(value, Calendar):
        return value
    found = SPEND.fullmatch(value) if isinstance(value, str) else None
    periods = {period: period for period in get_args(Period)}
    if not found or found[2] not in periods:
        raise ValueError(f"not a budget; write it like 5.00/day (periods: {', '.join(periods)})")
    return Calendar(int(Decimal(found[1]) * 10**6), periods[found[2]])


_JSON = WithJsonSchema({"type": "string", "examples": ["5.00/day", "100/month"]})
SpendOption = Annotated[Calendar, BeforeValidator(parse_spend), _JSON, PlainSerializer(str)]


@dataclass
class Budget:
    """Lets each caller *spend* so much, such as ``5.00/day``, in the currency of the targets' prices; more gets 429.

    A period is a minute, hour, day or month of the calendar, in UTC. *callers* have budgets of their own, by name. What
    a call is reckoned to cost is reserved before anything is sent; afterwards it is what the receipt says, nothing if
    surely nothing is billed, and all of it if something may be. What optimizers cost is not counted.

    It is kept in the memory of this process, and forgotten at its end; or in *state*, a ``redis://`` URL or a file, for
    all gateways that have a component of this name there. While that cannot be asked, *on_store_error* ``deny`` refuses
    with 503, ``allow`` lets everything pass uncounted.
    """

    spend: SpendOption
    callers: Mapping[str, SpendOption] = field(default_factory=dict)
    state: StateOption = None
    on_store_error: Literal["deny", "allow"] = "deny"
    stages: tuple[Stage, ...] = field(init=False, default=("attempt",))
    needs_prices: bool = field(init=False, default=True)
    name: str = field(init=False, default="budget")
    _counters: Counters = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._counters = make_counters(self.state, MEANWHILE[self.on_store_error])
        if not self.state and self.on_store_error != "deny":
            raise ValueError("on_store_error is of no use without state: a redis:// URL or a file")

    async def __aenter__(self) -> Budget:
        if not self.state:
            log.warning(
                "middlewares.%s: what is spent is kept in memory and forgotten when the gateway stops; "
                "give it a state: a file or a redis:// URL",
                self.name,
            )
        await self._counters.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._counters.close()

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        """Reserve what the attempt is reckoned to cost, and settle it when it is over."""
        cost = _millionths(work.receipt.cost)
        if not cost:
            return await proceed(work)
        taken = await self._reserved(work.caller.name, cost)
        try:
            done = await proceed(work)
        except BaseException as error:
            if _is_free(error, work):
                await self._settle(taken, 0)
            raise
        await self._settle(taken, _millionths(done.receipt.cost))
        return done

    async def _reserved(self, caller: str, cost: int) -> Taken | None:
        """Take the cost from the caller's budget; None where nothing was counted."""
        budget = self.callers.get(caller, self.spend)
        whole = f"{_amount(budget.count)} per {budget.period}"
        if cost > budget.count:
            message = f"this call would cost {_amount(cost)}, more than the whole budget of {whole}"
            raise RequestError(message, code=BudgetError.code)
        try:
            taken = await take_surely(self._counters, f"{self.name}:{budget.period}:{caller}", cost, budget)
        except UnavailableError as error:
            if self.on_store_error == "allow":
                return None
            message = "what this caller has spent cannot be asked now, so nothing was drawn; try again soon"
            raise UnavailableError(message, code=error.code, retry_after=error.retry_after) from error
        if taken.wait:
            renews = datetime.fromtimestamp(time.time() + taken.wait, UTC)
            raise BudgetError(
                f"this call would cost {_amount(cost)}, and {_amount(taken.used)} of the budget of {whole} "
                f"are spent or reserved; it renews in {taken.wait:.0f} s, at {renews:%Y-%m-%d %H:%M} UTC",
                retry_after=taken.wait,
            )
        return taken

    async def _settle(self, taken: Taken | None, cost: int) -> None:
        if taken:
            # What cannot be given back stays spent: no budget is ever exceeded for that.
            with suppress(UnavailableError):
                await self._counters.settle(taken, min(cost, taken.count))


def _is_free(error: BaseException, work: Work) -> bool:
    """Say whether surely nothing is billed for an attempt that ended so."""
    if isinstance(error, UpstreamError):
        return error.billed is False or not error.sent
    # An earlier attempt may have been sent; these say that nothing was done in this one.
    return isinstance(error, BusyError | UnavailableError) or not work.sent()


def _millionths(cost: float | None) -> int:
    """Count a cost so that no call is ever cheaper than it was."""
    return math.ceil(round((cost or 0) * 10**6, 3))


def _amount(millionths: int) -> str:
    return f"{Decimal(millionths).scaleb(-6).normalize():f}"


@hookimpl
def provide_middlewares() -> dict[str, type]:
    """Offer `budget`."""
    return {"budget": Budget}
