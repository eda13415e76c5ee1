"""What a class must have to be a component of a kind, told by name where it is missing."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.contracts import Authenticator, Backend, Middleware, Observer, Optimizer, Storage
from gateway.validation import option_hints, options_type

CONTRACTS: Mapping[str, type] = {
    "authenticators": Authenticator,
    "optimizers": Optimizer,
    "middlewares": Middleware,
    "backends": Backend,
    "storages": Storage,
    "observers": Observer,
}

TAKEN = {"use", "when"}
"""Keys of a component in the YAML that are none of its options."""


def broken_promises(kind: str, cls: object) -> Iterator[str]:
    """Name what *cls* lacks to be a component of *kind*."""
    if not isinstance(cls, type):
        yield f"must be a class, not {type(cls).__name__}"
        return
    if not dataclasses.is_dataclass(cls):
        yield f"{cls.__name__} must be a dataclass; its fields are the YAML options"
        return
    contract = CONTRACTS[kind]
    fields = {each.name for each in dataclasses.fields(cls)}
    for name in (name for name, promised in vars(contract).items() if isinstance(promised, property)):
        if name not in fields and not hasattr(cls, name):
            yield f"{cls.__name__} lacks {name}"
    for name, promised in vars(contract).items():
        if inspect.isfunction(promised) and not name.startswith("_"):
            yield from _broken_method(cls, name, promised)
    if hasattr(cls, "__aenter__") != hasattr(cls, "__aexit__"):
        yield f"{cls.__name__} has only one of __aenter__ and __aexit__"
    yield from _broken_options(cls)


def _broken_options(cls: type) -> Iterator[str]:
    """Name what makes the options unreadable, such as a type that is imported for type checkers alone."""
    try:
        hints = option_hints(cls)
        options_type(cls)
    except Exception as error:  # noqa: BLE001  - annotations are a stranger's code, too
        yield f"{cls.__name__}: its options cannot be understood: {type(error).__name__}: {error}"
        return
    for name in sorted(TAKEN & set(hints)):
        yield f"{cls.__name__}: an option cannot be named {name}, which means something else in the YAML"


def _broken_method(cls: type, name: str, promised: Callable[..., Any]) -> Iterator[str]:
    method = inspect.getattr_static(cls, name, None)
    if method is None or not callable(getattr(cls, name)):
        yield f"{cls.__name__} lacks the method {name}{_parameters(promised)}"
        return
    if not inspect.isfunction(method):
        return
    if inspect.iscoroutinefunction(promised) and not inspect.iscoroutinefunction(inspect.unwrap(method)):
        yield f"{cls.__name__}.{name} must be async"
    elif inspect.iscoroutinefunction(method) and not inspect.iscoroutinefunction(promised):
        yield f"{cls.__name__}.{name} must not be a coroutine"
    try:
        inspect.signature(method).bind(*inspect.signature(promised).parameters)
    except TypeError:
        yield f"{cls.__name__}.{name} must take {_parameters(promised)}"


def _parameters(function: Callable[..., Any]) -> str:
    return f"({', '.join(inspect.signature(function).parameters)})"
