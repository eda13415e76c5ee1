"""A gateway as its own process, that writes down every request it gets, and real proxies before it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.canaries import CALLER_KEY
from tests.fronts.proxies import PROXIES, Front, free_port, installed, running

COMMAND = str(Path(sys.executable).with_name("image-gateway"))
YAML = f"""
server: {{{{port: {{port}}, body_timeout: 300ms, max_body: 64kB}}}}
authenticators: {{{{keys: {{{{use: api_keys, keys: [{CALLER_KEY}]}}}}}}}}
backends: {{{{here: {{{{use: demo}}}}}}}}
storages: {{{{here: {{{{use: memory}}}}}}}}
models: {{{{demo: {{{{backends: [{{{{backend: here}}}}], defaults: {{{{size: 64x64}}}}}}}}}}}}
plugins: [writes.py]
"""
WRITES = '''
import json
from aiohttp import web
from gateway import hookimpl

@web.middleware
async def written(request, handler):
    """Write down what reaches the application, before anybody refuses it."""
    with open("seen.txt", "a") as file:
        file.write(json.dumps([request.raw_path, request.headers.getall("X-Front", [])]) + "\\n")
    return await handler(request)

@hookimpl
def setup_app(app):
    app.middlewares.insert(0, written)
'''


@dataclass(frozen=True)
class Behind:
    """The gateway's process: its port, and what has reached its application so far."""

    port: int
    folder: Path

    def seen(self) -> list[tuple[str, list[str]]]:
        """Give the address and the ``X-Front`` headers of every request."""
        path = self.folder / "seen.txt"
        return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []

    def log(self) -> str:
        return (self.folder / "stderr.txt").read_text()


@contextmanager
def serving(folder: Path, yaml: str) -> Iterator[Behind]:
    """Run the gateway with *yaml* in *folder* until the block ends."""
    port = free_port()
    (folder / "config.yaml").write_text(yaml.format(port=port))
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    with (folder / "stderr.txt").open("w") as stderr:
        popen = subprocess.Popen(
            [COMMAND, "serve"], env=environ, cwd=folder, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    assert popen.stdout is not None
    try:
        while "in a browser" not in (line := popen.stdout.readline()):
            assert line, (folder / "stderr.txt").read_text()
        yield Behind(port, folder)
    finally:
        popen.terminate()
        popen.wait(20)
        popen.stdout.close()


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """The gateway of this module's tests."""
    folder = tmp_path_factory.mktemp("behind")
    (folder / "writes.py").write_text(WRITES)
    with serving(folder, YAML) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def fronts(behind: Behind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Front]]:
    """Every proxy before that gateway, by name; each tells the gateway what it read."""
    folder = tmp_path_factory.mktemp("fronts")
    with ExitStack() as stack:
        there = [name for name in PROXIES if installed(name)]
        yield {name: stack.enter_context(running(name, behind.port, folder, marked=True)) for name in there}


@pytest.fixture(params=PROXIES)
def front(request: Any, fronts: dict[str, Front]) -> Front:
    """One of them after the other."""
    if request.param not in fronts:
        pytest.skip(f"{request.param} is not installed here")
    return fronts[request.param]
