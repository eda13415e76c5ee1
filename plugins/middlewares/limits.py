"""Limits how many pictures a caller may ask for in a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field

from gateway import (
    BusyError,
    Counters,
    MemoryCounters,
    Proceed,
    Rate,
    RateOption,
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

PERIODS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}
MEANWHILE = {
    "local": "each process counts its share of the pictures by itself",
    "deny": "calls are refused whose pictures cannot be counted",
    "allow": "pictures are not counted",
}


@dataclass
class Limits:
    """Lets each caller have *images*, such as ``20/minute``, in any window of that length; more gets 429.

    Counted over all models that name this component, in the memory of this process; or in *state*, a ``redis://`` URL
    or a file, for all gateways that have a component of this name there. While that cannot be asked, *on_store_error*
    ``local`` lets each of the *replicas* count its share of the limit by itself, ``deny`` refuses with 503, ``allow``
    lets everything pass. Pictures that were refused or failed before anything was sent to a backend are not counted.
    """

    images: RateOption
    state: StateOption = None
    on_store_error: Literal["local", "deny", "allow"] = "local"
    replicas: Annotated[int, Field(ge=1)] = 1
    stages: tuple[Stage, ...] = field(init=False, default=("job",))
    name: str = field(init=False, default="limits")
    clock: Callable[[], float] = field(init=False, default=time.monotonic, repr=False)
    _local: MemoryCounters = field(init=False, repr=False)
    _shared: Counters | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self._local = MemoryCounters(lambda: self.clock())
        if self.state:
            self._shared = make_counters(self.state, MEANWHILE[self.on_store_error])
        elif self.on_store_error != "local" or self.replicas != 1:
            raise ValueError("on_store_error and replicas are of no use without state: a redis:// URL or a file")

    async def __aenter__(self) -> Limits:
        if self._shared:
            await self._shared.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._shared:
            await self._shared.close()

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        """Take the pictures from the caller's allowance, and give them back if none could be paid for."""
        if self._shared:
            return await self._around(self._shared, work, proceed)
        taken = self._granted(self._local.take_now(work.caller.name, self._count(work), self.images))
        try:
            return await proceed(work)
        except BaseException as error:
            if not _may_cost(error, work):
                self._local.settle_now(taken)
            raise

    async def _around(self, shared: Counters, work: Work, proceed: Proceed) -> Work:
        counters, taken = await self._taken(shared, work)
        try:
            return await proceed(work)
        except BaseException as error:
            if taken and not _may_cost(error, work):
                # What cannot be given back counts until its window is over.
                with suppress(UnavailableError):
                    await counters.settle(taken)
            raise

    async def _taken(self, shared: Counters, work: Work) -> tuple[Counters, Taken | None]:
        """Take the pictures where it can be done, and say where that was; None where nothing was counted."""
        caller, count = work.caller.name, self._count(work)
        try:
            return shared, self._granted(await take_surely(shared, f"{self.name}:{caller}", count, self.images))
        except UnavailableError as error:
            if self.on_store_error == "deny":
                message = "the pictures of this caller cannot be counted now, so nothing was drawn; try again soon"
                raise UnavailableError(message, code=error.code, retry_after=error.retry_after) from error
        if self.on_store_error == "allow":
            return shared, None
        # One call may ask for more than a share: it gets it when nothing else was asked for.
        share = replace(self.images, count=max(self.images.count // self.replicas, count))
        return self._local, self._granted(self._local.take_now(caller, count, share))

    def _count(self, work: Work) -> int:
        count = work.request.n
        if count > self.images.count:
            raise RequestError(f"n is {count}, but at most {_words(self.images)} may be asked for", param="n")
        return count

    def _granted(self, taken: Taken) -> Taken:
        if not taken.wait:
            return taken
        seconds = max(1, math.ceil(taken.wait))
        raise BusyError(
            f"the limit of {_words(self.images)} is reached; come back in {seconds} s",
            code="rate_limit_exceeded",
            retry_after=seconds,
        )


def _may_cost(error: BaseException, work: Work) -> bool:
    """Say whether a paid call may have gone out: a job that is cut off in its middle has no error that knows it."""
    if isinstance(error, UpstreamError):
        return error.sent
    # Of a picture that was drawn and then spoilt or not stored the error knows nothing.
    return work.sent() and not isinstance(error, RequestError | BusyError)


def _words(rate: Rate) -> str:
    period = PERIODS.get(int(rate.period), f"{rate.period:g} seconds")
    return f"{rate.count} {'picture' if rate.count == 1 else 'pictures'} per {period}"


@hookimpl
def provide_middlewares() -> dict[str, type]:
    """Offer `limits`."""
    return {"limits": Limits}
