"""The hooks a plugin may have; each answers one question at start: which types of component are there?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

from gateway.contracts import Authenticator, Backend, Middleware, Observer, Optimizer, Storage

if TYPE_CHECKING:
    from aiohttp import web

PROJECT = "gateway"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def provide_authenticators() -> Mapping[str, type[Authenticator]]:  # type: ignore[empty-body]  # a spec has no body
    """Name the authenticator types of this plugin: ``{"api_keys": ApiKeys}``."""


@hookspec
def provide_optimizers() -> Mapping[str, type[Optimizer]]:  # type: ignore[empty-body]  # a spec has no body
    """Name the optimizer types of this plugin."""


@hookspec
def provide_middlewares() -> Mapping[str, type[Middleware]]:  # type: ignore[empty-body]  # a spec has no body
    """Name the middleware types of this plugin."""


@hookspec
def provide_backends() -> Mapping[str, type[Backend]]:  # type: ignore[empty-body]  # a spec has no body
    """Name the backend types of this plugin."""


@hookspec
def provide_storages() -> Mapping[str, type[Storage]]:  # type: ignore[empty-body]  # a spec has no body
    """Name the storage types of this plugin."""


@hookspec
def provide_observers() -> Mapping[str, type[Observer]]:  # type: ignore[empty-body]  # a spec has no body
    """Name the observer types of this plugin."""


@hookspec
def setup_app(app: web.Application) -> None:
    """Add routes to the application before it starts; each asks for a key."""
