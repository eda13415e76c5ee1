"""The gateway as a user of a preset runs it: the installed command, environment variables, a port."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image

from tests.canaries import CALLER_KEY, MARK
from tests.gateways import Answered

COMMAND = [str(Path(sys.executable).with_name("image-gateway")), "serve", "--preset"]


@dataclass
class Process:
    """A running command and a client for it."""

    popen: subprocess.Popen[str]
    port: int
    banner: str = ""
    stderr: Path = field(default_factory=Path)
    own_folder: bool = False

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ask(self, method: str, path: str, *, key: str | None = CALLER_KEY, **given: Any) -> Answered:
        """Send one request with the key; no answer may show a secret."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers |= given.pop("headers", {})
        url = path if path.startswith("http") else self.base + path
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=40)) as session,
            session.request(method, url, headers=headers, **given) as response,
        ):
            answer = Answered(response.status, response.headers.copy(), await response.read())
        assert MARK.encode() not in answer.body, answer.body[:500]
        return answer

    async def get(self, path: str, **given: Any) -> Answered:
        return await self.ask("GET", path, **given)

    async def chat(self, prompt: Any = "a red fox", **fields: Any) -> Answered:
        body = {"messages": [{"role": "user", "content": prompt}], **fields}
        return await self.ask("POST", "/v1/chat/completions", json=body)

    def stop(self) -> str:
        """End it like a service manager, and give what it wrote to stderr."""
        self.popen.send_signal(signal.SIGTERM)
        self.popen.wait(30)
        if self.popen.stdout:
            self.popen.stdout.close()
        said = self.stderr.read_text()
        if self.own_folder:
            shutil.rmtree(self.stderr.parent)
        return said


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def serve(preset: str, environ: Mapping[str, str], folder: Path | None = None, *options: str) -> Process:
    """Start the command with *environ* alone and wait until it says that it is ready."""
    port = free_port()
    own_folder = folder is None
    folder = folder or Path(tempfile.mkdtemp(prefix="preset-"))
    log = folder / f"stderr-{port}.txt"
    arguments = [*COMMAND, preset, *(options or ("--host", "127.0.0.1", "--port", str(port)))]
    with log.open("w") as stderr:
        popen = subprocess.Popen(
            arguments, env=_clean(environ), cwd=folder, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    assert popen.stdout is not None
    banner = ""
    while line := popen.stdout.readline():
        banner += line
        if "in a browser" in line:
            return Process(popen, port, banner, log, own_folder)
    popen.wait(30)
    popen.stdout.close()
    raise AssertionError(f"{preset} ended with {popen.returncode}: {banner}{log.read_text()}")


def serve_file(folder: Path, yaml: str) -> Process:
    """Start the command with *yaml* as its configuration, relative paths below *folder*; wait until it is ready."""
    port = free_port()
    config, log = folder / f"config-{port}.yaml", folder / f"stderr-{port}.txt"
    config.write_text(yaml)
    arguments = [*COMMAND[:2], str(config), "--port", str(port)]
    with log.open("w") as stderr:
        popen = subprocess.Popen(
            arguments, env=_clean({"HOME": str(folder)}), cwd=folder, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    assert popen.stdout is not None
    while line := popen.stdout.readline():
        if "in a browser" in line:
            return Process(popen, port, "", log)
    popen.stdout.close()
    raise AssertionError(log.read_text())


def killed(process: Process) -> None:
    """End it without a word, as a crash does."""
    if process.popen.poll() is None:
        process.popen.send_signal(signal.SIGKILL)
        process.popen.wait(10)
    if process.popen.stdout:
        process.popen.stdout.close()


def refused(preset: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Start what must not start; give its exit code and words."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*COMMAND, preset, "--port", "0"]
        return subprocess.run(
            arguments, env=_clean(environ), cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )


def size_of(data: bytes) -> tuple[str, str]:
    """Give the kind and the size of a picture, as Pillow sees it."""
    with Image.open(io.BytesIO(data)) as image:
        return str(image.format), f"{image.width}x{image.height}"


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/"), **environ}
