"""The generate stage: for each target that can do it, negotiate, call, fetch, check and finish the pictures."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from gateway.asking import Sendable, Telling, ask
from gateway.contracts import Proceed, Work
from gateway.decoding import decode
from gateway.drawn import Drawn, delivered, failed, planned
from gateway.errors import (
    BlockedAddressError,
    BrokenAnswerError,
    BusyError,
    GatewayError,
    PluginError,
    RejectedError,
    RequestError,
    UpstreamError,
    UpstreamTimeoutError,
)
from gateway.fetch import Fetcher
from gateway.imaging import inspected
from gateway.negotiate import Plan
from gateway.places import Places
from gateway.retouch import finish
from gateway.routing import Router
from gateway.settings import ModelSettings
from gateway.targets import Target, estimate
from gateway.values import Image, ImageRequest

log = logging.getLogger(__name__)

T = TypeVar("T")

FETCH_AGAIN = (0.5, 2.0)
"""Seconds before a picture that was paid for is fetched again, if that failed in a passing way."""
CALLS_AT_ONCE = 4
"""How many calls one job makes side by side when an upstream makes fewer pictures per call than were asked."""


class Generation:
    """Calls targets in the router's order until one delivers, and never pays twice for one picture."""

    def __init__(self, router: Router, fetcher: Fetcher, pixels: int, places: Places) -> None:
        self._router = router
        self._fetcher = fetcher
        self.pixels = pixels
        self._places = places

    async def generate(
        self,
        work: Work,
        targets: Sequence[Target],
        settings: ModelSettings,
        job: Sendable,
        around: Callable[[Proceed], Proceed] | None = None,
    ) -> Work:
        """Return *work* with its images and receipt; raise the error of the last target tried.

        *around* puts what stands around each attempt around it.
        """
        receipt, telling = work.receipt, Telling(job, work)
        lost: UpstreamError | None = None
        choices = self._router.order(work.request, targets)
        # Whose line is full would refuse at once: it stands behind the others.
        choices.sort(key=lambda choice: self._places.is_full(choice[0].backend_name, work.caller.name))
        for place, (target, plan) in enumerate(choices):
            receipt = planned(receipt, target, plan)
            telling.begin()
            if not around:
                work.tell("generating", _drawing(target, plan))
            began = time.monotonic()
            try:
                with self._router.attempt(target, alone=len(choices) == 1):
                    if around:
                        drawn = await self._guarded(around, replace(work, receipt=receipt), telling, target, plan)
                    else:
                        drawn = await self._drawn(telling, target, plan)
            except UpstreamError as error:
                again = error.retryable or (settings.retry_sent and not isinstance(error, RejectedError))
                final = not again or place == len(choices) - 1
                receipt = failed(receipt, target, error, time.monotonic() - began)
                work.tell("attempt_failed", _failure(target, error, final))
                failure = _named(error, target)
                if final:
                    raise _after(lost, failure) from None
                if error.sent and error.billed is not False:
                    lost = failure
            except GatewayError as error:
                if isinstance(error, RequestError):
                    work.tell("attempt_failed", _failure(target, error, True))
                raise _after(lost, error) from None
            else:
                counts = {"count": len(drawn.images), "missing": len(drawn.failures)}
                work.tell("generated", {"target": target.name, **counts})
                receipt = delivered(receipt, target, plan, drawn, telling, time.monotonic() - began)
                return replace(work, images=tuple(drawn.images), receipt=receipt)
        raise AssertionError("the router gives targets or raises")

    async def _guarded(
        self, around: Callable[[Proceed], Proceed], work: Work, telling: Telling, target: Target, plan: Plan
    ) -> Drawn:
        """Draw inside of what stands around each attempt, which is told the cost before and after."""
        drawn = Drawn()

        async def draw(work: Work) -> Work:
            nonlocal drawn
            # Only now: whoever is refused by then gets a status, since no stream has begun.
            work.tell("generating", _drawing(target, plan))
            drawn = await self._drawn(telling, target, plan)
            cost = estimate(target, plan, drawn.unpaid)
            return replace(work, images=tuple(drawn.images), receipt=replace(work.receipt, cost=cost))

        await around(draw)(replace(work, receipt=replace(work.receipt, cost=estimate(target, plan))))
        if not drawn.images:
            raise PluginError("a middleware has kept an attempt from being made, and raised no error")
        return drawn

    async def _drawn(self, telling: Telling, target: Target, plan: Plan) -> Drawn:
        """Make all calls of the plan; some may fail as long as one delivers."""
        requests, drawn = plan.requests(), Drawn()
        if len(requests) == 1:
            outcomes = await self._call(telling, target, plan, requests[0])
        else:
            answers = await self._calls(telling, target, plan, requests)
            drawn.unpaid = sum(count for count, answer in zip(plan.calls, answers, strict=True) if _is_unpaid(answer))
            outcomes = [part for answer in answers for part in (answer if isinstance(answer, list) else [answer])]
        drawn.images = [outcome for outcome in outcomes if isinstance(outcome, Image)]
        drawn.failures = [outcome for outcome in outcomes if isinstance(outcome, GatewayError)]
        if not drawn.images:
            raise _worst(drawn.failures)
        return drawn

    async def _calls(
        self, telling: Telling, target: Target, plan: Plan, requests: Sequence[ImageRequest]
    ) -> list[list[Image | GatewayError] | GatewayError]:
        """Make several calls side by side; when the job's time is over, those that have delivered are enough."""
        gate, late = asyncio.Semaphore(CALLS_AT_ONCE), False

        async def one(request: ImageRequest, first: int) -> list[Image | GatewayError]:
            own = telling.of_call(first)
            try:
                async with gate:
                    return await self._call(own, target, plan, request)
            except asyncio.CancelledError:
                if not late:
                    raise
                message = "it was not there when the time for the job was over"
                raise UpstreamTimeoutError(message, sent=own.sent, billed=None if own.sent else False) from None

        firsts = [sum(plan.calls[:place]) for place in range(len(requests))]
        tasks = [asyncio.create_task(one(*call)) for call in zip(requests, firsts, strict=True)]

        def hurry() -> bool:
            nonlocal late
            late = any(task.done() and not (task.cancelled() or task.exception()) for task in tasks)
            for task in tasks if late else ():
                task.cancel()
            return late

        telling.job.hurry = hurry
        try:
            return await _each(tasks)
        finally:
            telling.job.hurry = None

    async def _call(
        self, telling: Telling, target: Target, plan: Plan, request: ImageRequest
    ) -> list[Image | GatewayError]:
        if telling.job.done:
            # A plugin has swallowed its cancelling: what has ended takes no place and sends nothing.
            raise asyncio.CancelledError("the job has ended")
        if target.backend_name in self._places:
            async with self._places.place(target.backend_name, telling.work.caller.name, telling.job) as waited:
                if waited:
                    telling.work.tell("generating", _drawing(target, plan))
                images = await ask(target, request, telling)
        else:
            images = await ask(target, request, telling)
        if len(images) == 1:
            return [await self._ready(images[0], plan, telling)]
        return await _each(self._ready(image, plan, telling) for image in images)

    async def _ready(self, image: Image, plan: Plan, telling: Telling) -> Image:
        if not image.data:
            image = replace(image, data=await self._fetched(image.url or ""), url=None)
        try:
            image = await inspected(image, self.pixels)
        except UpstreamError as error:
            error.sent = telling.sent
            raise
        telling.came.add(image.size)
        wanted = plan.size if plan.size and plan.size != image.size and plan.fit != "leave" else None
        kind = plan.output_format
        if wanted or kind:
            return await asyncio.to_thread(
                finish,
                image,
                size=wanted,
                fit=plan.fit,
                output_format=kind,
                quality=plan.compression,
                # It was left to the target, whose own work is perhaps written anew here.
                otherwise=plan.request.output_compression,
                pixels=self.pixels,
            )
        return image

    async def _fetched(self, url: str) -> bytes:
        if url[:5].lower() == "data:":
            with suppress(BrokenAnswerError):
                # In whatever writing, it is paid for; what callers send is read more strictly.
                return await decode(url)
        for pause in (*FETCH_AGAIN, 0.0):
            try:
                return await self._fetcher.fetch(url)
            except BlockedAddressError as error:
                message = f"it answered with a link that may not be fetched: {error.message}"
                raise BrokenAnswerError(message) from error
            except UpstreamError as error:
                if not (pause and error.retryable):
                    # The picture was made and perhaps paid for; another target would be paid again.
                    error.retryable, error.sent, error.billed = False, True, None
                    raise
            await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")


def _drawing(target: Target, plan: Plan) -> dict[str, str]:
    return {"target": target.name, "size": str(plan.size or plan.request.size or "")}


def _failure(target: Target, error: GatewayError, final: bool) -> dict[str, Any]:
    return {"target": target.name, "code": error.code, "reason": error.message[:300], "final": final}


def _is_unpaid(answer: object) -> bool:
    return isinstance(answer, BusyError) or (isinstance(answer, UpstreamError) and answer.billed is False)


def _worst(failures: list[GatewayError]) -> GatewayError:
    """Of several failures take the one that allows least: what may be billed must not be tried again."""
    harmful = (error for error in failures if not _is_harmless(error))
    billed = (error for error in failures if not _is_unpaid(error))
    worst = next(harmful, None) or next(billed, failures[0])
    if isinstance(worst, UpstreamError) and not all(_is_unpaid(error) or _is_harmless(error) for error in failures):
        worst.sent, worst.billed = True, None
    return worst


def _is_harmless(error: GatewayError) -> bool:
    return isinstance(error, BusyError) or getattr(error, "retryable", False)


def _named(error: UpstreamError, target: Target) -> UpstreamError:
    error.message = f"{target.name}: {error.message}"
    error.args = (error.message,)
    # The SDKs repeat 408, 409, 429 and 5xx by themselves: that would be a second picture, perhaps a second bill.
    if error.sent and (not error.retryable or error.status >= 500):
        error.again = False
    return error


def _after(lost: UpstreamError | None, error: GatewayError) -> GatewayError:
    """Give the error to raise for *error* after *lost*: that an earlier target may be paid for holds whatever a later
    one did, so that neither a client nor its key may try again."""
    if lost is None:
        return error
    if not isinstance(error, UpstreamError):
        return lost
    error.sent, error.billed, error.again = True, None, False
    return error


async def _each(work: Iterable[Awaitable[T]]) -> list[T | GatewayError]:
    """Await all of them side by side; a failure is given in its place, so that the others are not lost."""
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, GatewayError):
            raise outcome
    return outcomes  # type: ignore[return-value]  # any other exception was raised above
