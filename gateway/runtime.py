"""Everything that a configuration means, as one object: components, recipes, jobs, fetcher."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, cast

from aiohttp import web

from gateway.abilities import unable
from gateway.authenticating import authenticate
from gateway.care import care, health_of, is_failing, is_out_of_keys
from gateway.config import Configuration
from gateway.contracts import Authenticator, Backend, Middleware, Observer, Optimizer, Storage
from gateway.derive import DerivedCache
from gateway.errors import (
    GatewayError,
    PermissionError_,
    RequestError,
    UnavailableError,
)
from gateway.fetch import Fetcher
from gateway.generation import Generation
from gateway.job import Job
from gateway.job_records import JobRecords
from gateway.jobs import Jobs
from gateway.late_storing import LAST_TRY, LateStoring
from gateway.memory import make_memory
from gateway.names import resolve, stands_for
from gateway.observing import Observing
from gateway.pipeline import Pipeline, Recipe
from gateway.places import Places
from gateway.reaching import reason
from gateway.registry import Registry
from gateway.routing import Router
from gateway.settings import ModelSettings, Settings
from gateway.spool import Spool
from gateway.state import make_records
from gateway.storing import forget
from gateway.targets import Target, keys_out, known_capabilities
from gateway.values import Caller, Credentials, ImageRequest, Result

log = logging.getLogger(__name__)

DECODED_AT_ONCE = 2
"""Pictures of callers that are decoded side by side: of the largest allowed each takes 200 MB."""
OPEN_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Resolved:
    """A name that a caller asked for: the public name, and the recipe's name with what a wildcard matched."""

    public: str
    recipe: str
    matched: str | None


class Runtime:
    """What the endpoints work with. Open it before the first request, close it at shutdown."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.settings: Settings = configuration.settings
        self.registry: Registry = configuration.registry
        self.warnings = configuration.warnings
        components = configuration.components
        self.authenticators = cast("Mapping[str, Authenticator]", components["authenticators"])
        self.storages = cast("Mapping[str, Storage]", components["storages"])
        self.backends = cast("Mapping[str, Backend]", components["backends"])
        self.router = Router()
        self.fetcher = Fetcher(self.settings.fetch)
        # What was paid for is fetched apart: slow hosts that callers name must not take its places.
        self._results = Fetcher(self.settings.fetch, per_host=128)
        self.decoding = asyncio.Semaphore(DECODED_AT_ONCE)
        self.catalogue: dict[tuple[str, ...] | None, tuple[float, bytes]] = {}
        self.derived = DerivedCache(self.settings.serving.cache)
        self.recipes = {name: self._recipe(name, model) for name, model in self.settings.models.items()}
        self.places = Places(self.settings.jobs.per_backend, self.settings.jobs.waiting)
        generation = Generation(self.router, self._results, self.settings.fetch.pixels, self.places)
        self._pipeline = Pipeline(generation)
        self.observing = Observing(cast("Mapping[str, Observer]", components["observers"]))
        self.memory = make_memory(self.settings.jobs.memory)
        self.jobs = Jobs(self.settings.jobs, self._run, self.observing.event, self.memory)
        limits = self.settings.jobs
        spool = Spool(limits.spool, limits.spool_limit) if limits.spool else None
        self.late = LateStoring(self.jobs, self.storages, self._storage_of, spool)
        records = make_records(self.settings.jobs.state)
        self._records = JobRecords(records, self.settings.jobs.keep) if records else None
        self._stack = AsyncExitStack()
        self._sweeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open every component; raise what the first broken one raises, with its name, when the others are closed."""
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _open(self) -> None:
        for fetcher in (self.fetcher, self._results):
            await self._stack.enter_async_context(fetcher)
        for kind, components in self.configuration.components.items():
            for name, component in components.items():
                if hasattr(component, "__aenter__"):
                    await self._enter(component, f"{kind}.{name}")
        if self._records:
            self._stack.push_async_callback(self._records.close)
            await self._records.open(self.jobs)
            self.jobs.on_end.append(self._records.ended)
            self.jobs.on_sent = self._records.sent
            self.jobs.on_amended = self._records.ended
        self.jobs.on_end.append(self.late.ended)
        self.observing.open()
        self._sweeper = asyncio.create_task(care(self.storages, self._tidy))

    def _tidy(self) -> None:
        self.derived.sweep()
        self.memory.tidy()

    async def _enter(self, component: object, name: str) -> None:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT) as limit:
                await self._stack.enter_async_context(_Closing(component, name))
        except GatewayError:
            log.error("%s could not be opened", name)
            raise
        except (Exception, SystemExit) as error:
            if limit.expired():
                raise UnavailableError(f"{name} could not be opened within {OPEN_TIMEOUT:g} s") from error
            log.exception("%s could not be opened", name)
            raise UnavailableError(f"{name} could not be opened: {reason(error)}") from error

    async def close(self) -> None:
        """Wait for running jobs (at most the configured time), then close what was opened."""
        await self.jobs.drain(self.settings.server.shutdown_timeout)
        await self.late.close(min(LAST_TRY, self.settings.server.shutdown_timeout))
        if self._sweeper:
            self._sweeper.cancel()
        await self.places.close()
        await self.observing.close()
        await self.derived.close()
        await self._stack.aclose()

    async def authenticate(self, credentials: Credentials) -> Caller:
        """Say who a caller is; raise `AuthenticationError` when no authenticator knows."""
        return await authenticate(self.authenticators, credentials)

    def resolve(self, name: str | None, caller: Caller) -> Resolved:
        """Find the recipe for the name asked, or raise `ModelNotFoundError` naming those the caller may use."""
        found = self._named(name, (known for known in self.settings.models if "*" in known or caller.may_use(known)))
        # A key may be limited to an alias; a name that only the default model stands in for opens nothing.
        asked, aliases = (name or "").strip(), self.settings.models[found.recipe].aliases
        aliased = caller.may_use(asked) and any(stands_for(alias, asked) for alias in aliases)
        if not (caller.may_use(found.public) or aliased):
            raise PermissionError_(f"this key may not use the model {found.public!r}", param="model")
        return found

    def _named(self, name: str | None, usable: Iterable[str] | None = None) -> Resolved:
        settings = self.settings
        return Resolved(*resolve(name, settings.models, settings.default_model, settings.unknown_model, usable))

    def recipe_for(self, resolved: Resolved) -> Recipe:
        """Give the recipe; a wildcard's match replaces ``*`` in the targets' upstream names."""
        recipe = self.recipes[resolved.recipe]
        if resolved.matched is None:
            return recipe
        targets = tuple(target.matching(resolved.matched) for target in recipe.targets)
        return replace(recipe, model=resolved.public, targets=targets)

    def with_defaults(self, request: ImageRequest, resolved: Resolved) -> ImageRequest:
        """Fill what was not asked from the model's defaults; a strict model makes every request strict."""
        model = self.recipes[resolved.recipe].settings
        values = {name: value for name, value in vars(model.defaults).items() if value is not None}
        missing = {name: value for name, value in values.items() if getattr(request, name) is None}
        if "size" in values and request.any_size:
            # The model's own goes before the one of all chats.
            missing |= {"size": values["size"], "any_size": False}
        if not missing and model.strict == request.strict:
            return request
        return replace(request, **missing, strict=request.strict or model.strict)

    def refuse_when_full(self, resolved: Resolved, caller: Caller) -> None:
        """Raise `BusyError` if every backend of the model has more calls waiting than it may."""
        targets = self.recipes[resolved.recipe].targets
        self.places.refuse_when_full([target.backend_name for target in targets], caller.name)

    def check(self, request: ImageRequest, resolved: Resolved, caller: Caller) -> None:
        """Raise what is known before anything is done: that no target can do this, or that all of them rest."""
        targets = self.recipe_for(resolved).targets
        if request.images and (problem := unable(request, known_capabilities(targets))):
            recipes = self.recipes.items()
            others = (name for name, recipe in recipes if not unable(request, known_capabilities(recipe.targets)))
            able = ", ".join(name for name in others if caller.may_use(name)) or "none here"
            message = f"the model {resolved.public!r} {problem.words}; models that can: {able}"
            raise RequestError(message, param=problem.param, code=problem.code)
        choices = self.router.order(self.with_defaults(request, resolved), targets)
        out = [keys_out(target) for target, _ in choices]
        if out[0] and all(out):
            raise out[0]

    def health(self) -> dict[str, Any]:
        """Say how things are, without asking anything outside."""
        backends = {name: health_of(backend) for name, backend in self.backends.items()}
        storages = {name: health_of(storage) for name, storage in self.storages.items()}
        counts = self.jobs.counts
        failing = any(map(is_failing, storages.values())) or any(map(is_out_of_keys, backends.values()))
        return {
            "status": "draining" if self.jobs.draining else "degraded" if failing else "ok",
            "models": len(self.settings.models),
            "jobs": {**counts, "waiting": counts["waiting"] + self.places.waiting},
            "memory": self.memory.health(),
            "spool": self.late.health(),
            "backends": backends,
            "storages": storages,
            "resting": self.router.health(),
            "quarantined": [plugin.name for plugin in self.registry.quarantined],
        }

    def forget(self, key: str) -> None:
        """Forget a deleted picture wherever this process holds its bytes, or a job its link."""
        self.derived.forget(key)
        middlewares = cast("Mapping[str, Middleware]", self.configuration.components["middlewares"])
        forget(middlewares.values(), key)
        self.jobs.forget_picture(key)

    def _storage_of(self, job: Job) -> str:
        return self._storage_name(self.recipes[self._named(job.request.model).recipe].settings)

    def _storage_name(self, model: ModelSettings) -> str:
        return model.storage or next(iter(self.storages))

    async def _run(self, job: Job) -> Result:
        # Whether the caller may use it was asked when the job was submitted.
        resolved = self._named(job.request.model)
        job.request = self.with_defaults(job.request, resolved)
        result = await self._pipeline.run(job, self.recipe_for(resolved))
        if any(picture.waits for picture in result.pictures):
            return await self.late.keep(job, result)
        return result

    def _recipe(self, name: str, model: ModelSettings) -> Recipe:
        components = self.configuration.components
        return Recipe(
            model=name,
            settings=model,
            targets=tuple(self._target(entry, model) for entry in model.backends),
            storage=self.storages[self._storage_name(model)],
            optimizers={n: cast("Optimizer", components["optimizers"][n]) for n in model.optimizers},
            middlewares={n: cast("Middleware", components["middlewares"][n]) for n in model.middlewares},
        )

    def _target(self, entry: Any, model: ModelSettings) -> Target:
        return Target.of(entry, self.backends[entry.backend], model.fit)


class _Closing:
    """Closes a component without letting its fault keep the others from being closed."""

    def __init__(self, component: Any, name: str) -> None:
        self._component = component
        self._name = name

    async def __aenter__(self) -> Any:
        return await self._component.__aenter__()

    async def __aexit__(self, *details: Any) -> None:
        try:
            await self._component.__aexit__(*details)
        except Exception:
            log.exception("%s could not be closed cleanly", self._name)


def make_runtime(configuration: Configuration) -> Runtime:
    """Make everything that *configuration* means; nothing is opened or started yet."""
    return Runtime(configuration)


RUNTIME = web.AppKey("runtime", Runtime)
