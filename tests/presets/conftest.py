"""One imitated world of upstreams for a module, and processes that are kept while their environment is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.presets.process import Process, serve
from tests.presets.vendors import Vendors, running

Start = Callable[..., Process]


@pytest.fixture(scope="module")
def world() -> Iterator[Vendors]:
    with running(Vendors()) as vendors:
        yield vendors


@pytest.fixture
def vendors(world: Vendors) -> Iterator[Vendors]:
    """The upstreams, as if nobody had called them."""
    world.reset()
    yield world
    world.release()


@pytest.fixture(scope="module")
def processes() -> Iterator[Start]:
    """Start the command with an environment, or give the process that already runs with it."""
    running: dict[tuple[str, frozenset[tuple[str, str]]], Process] = {}

    def start(preset: str, environ: Mapping[str, str]) -> Process:
        name = preset, frozenset(environ.items())
        if name not in running:
            running[name] = serve(preset, environ)
        return running[name]

    yield start
    for process in running.values():
        process.stop()
