"""The way of a job: middlewares around optimize → generate → store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from gateway.contracts import Middleware, Optimizer, Proceed, Stage, Storage, Work
from gateway.deadline import is_stopped, within
from gateway.errors import GatewayError, PluginError, UpstreamError
from gateway.generation import Generation
from gateway.imaging import inspect
from gateway.job import Job
from gateway.negotiate import asked
from gateway.prompt import clean_text
from gateway.receipt import Receipt
from gateway.settings import ModelSettings
from gateway.storing import store as store_pictures
from gateway.storing import store_again
from gateway.targets import Target
from gateway.values import Image, Result

log = logging.getLogger(__name__)

OPTIMIZE_TIMEOUT = 120.0
"""Seconds after which any optimizer is given up; those of ours have shorter limits of their own."""


@dataclass(frozen=True)
class Recipe:
    """Everything one model needs, as objects; the names are those of the YAML."""

    model: str
    settings: ModelSettings
    targets: tuple[Target, ...]
    storage: Storage
    optimizers: Mapping[str, Optimizer] = field(default_factory=dict)
    middlewares: Mapping[str, Middleware] = field(default_factory=dict)


class Pipeline:
    """Runs jobs by the recipe of their model."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    async def run(self, job: Job, recipe: Recipe) -> Result:
        """Make, store and describe the pictures of *job*; raise `GatewayError` kinds."""
        receipt = Receipt(model=recipe.model, asked=asked(job.request))
        work = Work(
            job.id,
            job.caller,
            job.request,
            job.original,
            receipt,
            tell=job.tell,
            sent=lambda: job.sent,
            aside=job.waiting,
        )
        around = recipe.middlewares
        attempts = partial(_chain, "attempt", middlewares=around) if _stand(around, "attempt") else None

        async def optimize(work: Work) -> Work:
            return await self._optimize(work, recipe, job)

        checked: list[Image] = []

        async def generate(work: Work) -> Work:
            done = await self._generation.generate(work, recipe.targets, recipe.settings, job, attempts)
            checked.extend(done.images)
            return done

        async def store(work: Work) -> Work:
            if not all(_among(image, checked) for image in work.images):
                images = tuple(image if _among(image, checked) else self._inspected(image) for image in work.images)
                work = replace(work, images=images)
            if not work.images:
                raise PluginError("a middleware has left no picture to store")
            return await store_pictures(work, recipe.storage, job)

        optimized, generated, stored = (
            _chain("optimize", optimize, around),
            _chain("generate", generate, around),
            _chain("store", store, around),
        )

        async def whole(work: Work) -> Work:
            return await stored(await generated(await optimized(work)))

        done = await _chain("job", whole, around)(work)
        if done.pictures and not checked:
            done = await store_again(done, recipe.storage, recipe.middlewares.values())
        return _result(done)

    async def _optimize(self, work: Work, recipe: Recipe, job: Job) -> Work:
        if not recipe.optimizers or not work.request.optimize:
            return work
        if job.words:
            return _reworded(work, *job.words)
        words: tuple[str, str] | None = None
        before = work.receipt.notes
        for name, optimizer in recipe.optimizers.items():
            work.tell("optimizing", {"optimizer": name})
            try:
                prompt = clean_text(await within(OPTIMIZE_TIMEOUT, optimizer.optimize(work.request)))
                label = str(getattr(optimizer, "label", name))
                if not prompt:
                    raise GatewayError("it gave no words", code="no_words")
            except TimeoutError:
                work = _unoptimized(work, name, f"it did not answer within {OPTIMIZE_TIMEOUT:g} s")
            except GatewayError as error:
                work = _unoptimized(work, name, error.message, error.code)
            except asyncio.CancelledError:
                if is_stopped():
                    raise
                work = _unoptimized(work, name, "it was cancelled by a fault of its own")
            except (Exception, SystemExit):
                log.exception("optimizer %s failed", name)
                work = _unoptimized(work, name, "it failed by a fault of its own")
            else:
                words = prompt, label
                work = replace(work, request=replace(work.request, prompt=prompt))
        if work.receipt.notes == before:
            # Words that one of them has had no part in are not handed on to whoever tries again.
            job.words = words
        return _reworded(work, *words) if words else _told(work)

    def _inspected(self, image: Image) -> Image:
        """Look at a picture that a middleware has changed or made: what it declares is not trusted either."""
        try:
            return inspect(image, self._generation.pixels)
        except (UpstreamError, AttributeError, TypeError) as error:
            raise PluginError(f"a middleware has made something that is no picture: {error}") from error


def _chain(stage: Stage, step: Proceed, middlewares: Mapping[str, Middleware]) -> Proceed:
    for name, middleware in reversed(list(middlewares.items())):
        if stage in middleware.stages:
            step = _around(stage, name, middleware, step)
    return step


def _stand(middlewares: Mapping[str, Middleware], stage: Stage) -> bool:
    return any(stage in middleware.stages for middleware in middlewares.values())


def _around(stage: Stage, name: str, middleware: Middleware, inner: Proceed) -> Proceed:
    async def step(work: Work) -> Work:
        try:
            done = await middleware.around(stage, work, inner)
        except GatewayError:
            raise
        except asyncio.CancelledError as error:
            if is_stopped():
                raise
            raise PluginError(f"middleware {name!r} was cancelled by a fault of its own") from error
        except (Exception, SystemExit) as error:
            log.exception("middleware %s failed", name)
            raise PluginError(f"middleware {name!r} failed at the stage {stage!r}; see the gateway's log") from error
        if not isinstance(done, Work):
            raise PluginError(f"middleware {name!r} must return a Work, not {type(done).__name__}")
        return done

    return step


def _reworded(work: Work, prompt: str, optimizer: str) -> Work:
    request, receipt = replace(work.request, prompt=prompt), replace(work.receipt, optimizer=optimizer)
    return _told(replace(work, request=request, receipt=receipt))


def _told(work: Work) -> Work:
    work.tell("optimized", {"prompt": work.request.prompt, "optimizer": work.receipt.optimizer})
    return work


def _unoptimized(work: Work, name: str, why: str, code: str | None = None) -> Work:
    """Note it for the caller; the log is not told *why* in others' words, which may repeat the prompt."""
    log.warning("job %s: the prompt was not optimized by %r: %s", work.job, name, code or why)
    return work.noted(f"the prompt was not optimized by {name!r}: {why}")


def _among(image: object, images: Sequence[Image]) -> bool:
    return any(image is known for known in images)


def _result(work: Work) -> Result:
    if not work.pictures:
        raise PluginError("a middleware has answered without a picture")
    return Result(
        pictures=work.pictures,
        prompt=work.request.prompt,
        original=work.original,
        receipt=work.receipt,
        created=int(time.time()),
    )
