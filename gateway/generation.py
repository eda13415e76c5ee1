"""The generate stage: for each target that can do it, negotiate, call, fetch, check and finish the pictures."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.contracts import Report, Work
from gateway.errors import (
    BlockedAddressError,
    BrokenAnswerError,
    GatewayError,
    PluginError,
    RejectedError,
    RequestError,
    UpstreamError,
)
from gateway.fetch import Fetcher
from gateway.imaging import inspect
from gateway.negotiate import Plan
from gateway.receipt import Attempt, Receipt
from gateway.retouch import finish
from gateway.routing import Router, Target, estimate
from gateway.settings import ModelSettings
from gateway.values import Image, ImageRequest

log = logging.getLogger(__name__)

CALLS_AT_ONCE = 4
"""How many calls one job makes side by side when an upstream makes fewer pictures per call than were asked."""


class Sendable(Protocol):
    """The job, as far as this stage minds it."""

    id: str
    sent: bool


@dataclass(slots=True)
class Telling:
    """The `Report` that a backend gets: it turns what the backend says into events of the job."""

    job: Sendable
    work: Work
    first: int
    """How many pictures of the job come before those of this call."""
    sent: bool = False

    def sending(self) -> None:
        self.sent = True
        self.job.sent = True

    def progress(self, done: float, note: str = "") -> None:
        self.work.tell("progress", {"done": round(min(max(float(done), 0.0), 1.0), 4), "note": str(note)[:200]})

    def partial(self, image: Image) -> None:
        self.work.tell("partial", {"picture": self.first, "image": image})


class Generation:
    """Calls targets in the router's order until one delivers, and never pays twice for one picture."""

    def __init__(self, router: Router, fetcher: Fetcher, pixels: int, per_backend: Mapping[str, int]) -> None:
        self._router = router
        self._fetcher = fetcher
        self._pixels = pixels
        self._places: dict[str, asyncio.Semaphore] = {name: asyncio.Semaphore(n) for name, n in per_backend.items()}

    async def generate(self, work: Work, targets: Sequence[Target], settings: ModelSettings, job: Sendable) -> Work:
        """Return *work* with its images and receipt; raise the error of the last target tried."""
        failure: UpstreamError | None = None
        for target, plan in self._router.order(work.request, targets):
            work = replace(work, receipt=_planned(work.receipt, target, plan))
            work.tell("generating", {"target": target.name, "size": str(plan.size or plan.request.size or "")})
            began = time.monotonic()
            try:
                with self._router.attempt(target):
                    images, failures = await self._pictures(work, target, plan, job)
            except UpstreamError as error:
                work = _failed(work, target, error, time.monotonic() - began)
                failure = _named(error, target)
                if not (error.retryable or (settings.retry_sent and not isinstance(error, RejectedError))):
                    raise failure from None
                continue
            except RequestError as error:
                _failed(work, target, error, time.monotonic() - began)
                raise
            return _delivered(work, target, plan, images, failures, time.monotonic() - began)
        assert failure is not None
        raise failure

    async def _pictures(
        self, work: Work, target: Target, plan: Plan, job: Sendable
    ) -> tuple[list[Image], list[GatewayError]]:
        """Make all calls of the plan; some may fail as long as one delivers."""
        requests = plan.requests()
        if len(requests) == 1:
            return await self._call(work, target, plan, requests[0], job, 0), []
        gate = asyncio.Semaphore(CALLS_AT_ONCE)

        async def one(request: ImageRequest, first: int) -> list[Image]:
            async with gate:
                return await self._call(work, target, plan, request, job, first)

        firsts = [sum(plan.calls[:place]) for place in range(len(requests))]
        answers = await asyncio.gather(*map(one, requests, firsts), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, GatewayError):
                raise answer
        images = [image for answer in answers if isinstance(answer, list) for image in answer]
        failures = [answer for answer in answers if isinstance(answer, GatewayError)]
        if not images:
            raise _worst(failures)
        return images, failures

    async def _call(
        self, work: Work, target: Target, plan: Plan, request: ImageRequest, job: Sendable, first: int
    ) -> list[Image]:
        telling = Telling(job, work, first)
        place = self._places.get(target.backend_name)
        if place:
            async with place:
                images = await self._ask(target, request, telling)
        else:
            images = await self._ask(target, request, telling)
        return [await self._ready(image, plan, telling) for image in images]

    async def _ask(self, target: Target, request: ImageRequest, telling: Telling) -> list[Image]:
        report: Report = telling
        try:
            images = await target.backend.generate(request, report)
        except GatewayError:
            raise
        except Exception as error:
            log.exception("backend %s failed", target.name)
            message = "the plugin failed by a fault of its own; see the gateway's log"
            raise UpstreamError(
                message, code=PluginError.code, sent=telling.sent, retryable=not telling.sent
            ) from error
        return _checked(images, request.n)

    async def _ready(self, image: Image, plan: Plan, telling: Telling) -> Image:
        if not image.data:
            image = replace(image, data=await self._fetched(image.url or ""), url=None)
        try:
            image = inspect(image, self._pixels)
        except UpstreamError as error:
            error.sent = telling.sent
            raise
        wanted = plan.size if plan.size and plan.size != image.size and plan.fit != "leave" else None
        kind = plan.output_format
        if wanted or kind:
            quality = plan.compression
            return await asyncio.to_thread(
                finish, image, size=wanted, fit=plan.fit, output_format=kind, quality=quality
            )
        return image

    async def _fetched(self, url: str) -> bytes:
        try:
            return await self._fetcher.fetch(url)
        except BlockedAddressError as error:
            message = f"it answered with a link that may not be fetched: {error.message}"
            raise BrokenAnswerError(message) from error
        except UpstreamError as error:
            # The picture was made and perhaps paid for; another target would be paid again.
            error.retryable, error.sent = False, True
            raise


def _failed(work: Work, target: Target, error: GatewayError, seconds: float) -> Work:
    sent, billed = getattr(error, "sent", True), getattr(error, "billed", None)
    attempt = Attempt(target.name, error.code, seconds, error.message[:300], sent, billed)
    work.tell("attempt_failed", {"target": target.name, "code": error.code, "reason": error.message[:300]})
    return replace(work, receipt=replace(work.receipt, attempts=(*work.receipt.attempts, attempt)))


def _delivered(
    work: Work, target: Target, plan: Plan, images: list[Image], failures: list[GatewayError], seconds: float
) -> Work:
    missing = tuple(f"a picture is missing: {error.code}: {error.message[:200]}" for error in failures)
    receipt = replace(
        work.receipt,
        attempts=(*work.receipt.attempts, Attempt(target.name, "ok", seconds)),
        cost=estimate(target, plan),
        notes=(*work.receipt.notes, *missing),
    )
    work.tell("generated", {"target": target.name, "count": len(images), "missing": len(failures)})
    return replace(work, images=tuple(images), receipt=receipt)


def _planned(receipt: Receipt, target: Target, plan: Plan) -> Receipt:
    return replace(
        receipt,
        target=target.name,
        applied=plan.applied,
        adjusted=plan.adjusted,
        dropped=plan.dropped,
        notes=(*receipt.notes, *plan.notes),
    )


def _worst(failures: list[GatewayError]) -> GatewayError:
    """Of several failures take the one that allows least: what may be billed must not be tried again."""
    return next((error for error in failures if not getattr(error, "retryable", False)), failures[0])


def _named(error: UpstreamError, target: Target) -> UpstreamError:
    error.message = f"{target.name}: {error.message}"
    error.args = (error.message,)
    # The SDKs repeat 408, 409, 429 and 5xx by themselves: that would be a second picture, perhaps a second bill.
    if error.sent and not error.retryable:
        error.again = False
    return error


def _checked(images: object, count: int) -> list[Image]:
    """Hold a plugin to its contract, naming the field; surplus pictures are cut."""
    if not isinstance(images, (list, tuple)):
        raise UpstreamError(
            f"the plugin must return a list of Image, not {type(images).__name__}", code="plugin_contract"
        )
    for image in images:
        if not isinstance(image, Image):
            message = f"the plugin must return Image objects, not {type(image).__name__}"
        elif not isinstance(image.data, (bytes, bytearray, memoryview)):
            message = f"Image.data must be bytes, not {type(image.data).__name__}"
        elif not image.data and not image.url:
            message = "Image.data and Image.url are both empty"
        else:
            continue
        raise UpstreamError(message, code="plugin_contract")
    if not images:
        raise BrokenAnswerError("it answered without a picture")
    return list(images)[:count]
