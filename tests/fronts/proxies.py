"""Real proxies before a gateway, run with the very files of ``examples/proxies``."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "proxies"
PROXIES = ("nginx", "haproxy", "envoy", "caddy")
FILES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "envoy": "envoy.yaml", "caddy": "Caddyfile"}
IDLE: Mapping[str, Mapping[str, str]] = {
    "nginx": {"proxy_read_timeout 60s": "proxy_read_timeout {idle}s"},
    "haproxy": {"timeout client 60s": "timeout client {idle}s", "timeout server 60s": "timeout server {idle}s"},
    "envoy": {"stream_idle_timeout: 60s": "stream_idle_timeout: {idle}s"},
    "caddy": {"127.0.0.1:8080\n": "127.0.0.1:8080 {{\n transport http {{\n read_timeout {idle}s\n }}\n }}\n"},
}
"""Where the files say how long a connection may be silent; Caddy has no such limit until it is told one."""
MARKED: Mapping[str, Mapping[str, str]] = {
    "nginx": {"proxy_http_version 1.1;": "proxy_http_version 1.1; proxy_set_header X-Front $request_uri;"},
    "haproxy": {
        "default_backend": "http-request set-header X-Front %[pathq]\n    default_backend",
        "option httpchk": "http-reuse always\n    option httpchk",
    },
    "envoy": {
        "domains:": 'request_headers_to_add: [{header: {key: X-Front, value: "%REQ(:PATH)%"}, '
        "append_action: OVERWRITE_IF_EXISTS_OR_ADD}]\n                      domains:",
    },
    "caddy": {"127.0.0.1:8080\n": "127.0.0.1:8080 {\n header_up X-Front {http.request.orig_uri}\n }\n"},
}
"""What makes a proxy write on every request that it means to send which address it read."""


@dataclass(frozen=True)
class Front:
    """A running proxy."""

    name: str
    port: int

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running(name: str, backend: int, folder: Path, *, idle: float = 60, marked: bool = False) -> Iterator[Front]:
    """Run the proxy *name* before the port *backend*; *marked* has it tell the gateway what it read."""
    port = free_port()
    folder = folder / f"{name}-{port}"
    folder.mkdir()
    changes = {old: new.format(idle=idle) for old, new in IDLE[name].items()} if idle != 60 else {}
    text = (EXAMPLES / FILES[name]).read_text()
    for old, new in {**changes, **(MARKED[name] if marked else {}), **_placed(name, port, backend, folder)}.items():
        assert old in text, (name, old)
        text = text.replace(old, new)
    path = folder / FILES[name]
    path.write_text(text)
    with (folder / "log.txt").open("w") as log:
        popen = subprocess.Popen(_command(name, path), stdout=log, stderr=log, cwd=folder, env=_environ(folder))
    try:
        _until(lambda: popen.poll() is not None or _answers(port), folder / "log.txt")
        assert popen.poll() is None, (folder / "log.txt").read_text()[-2000:]
        yield Front(name, port)
    finally:
        popen.terminate()
        try:
            popen.wait(5)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait(5)


def _placed(name: str, port: int, backend: int, folder: Path) -> dict[str, str]:
    """Say what must differ on a test's machine: ports, and where files may be written."""
    if name == "envoy":
        return {
            "port_value: 8080": f"port_value: {backend}",
            "0.0.0.0, port_value: 8000": f"127.0.0.1, port_value: {port}",
        }
    places = {"127.0.0.1:8080": f"127.0.0.1:{backend}"}
    if name == "nginx":
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        return {**places, "listen 8000": f"listen 127.0.0.1:{port}", "http {\n": f"http {{ access_log off; {paths}\n"}
    if name == "haproxy":
        return {**places, "bind :8000": f"bind 127.0.0.1:{port}"}
    return {**places, ":8000 {": f"{{\n admin off\n}}\nhttp://:{port} {{"}


def _command(name: str, path: Path) -> list[str]:
    if name == "nginx":
        # Folders of tests are closed to the user that nginx would become.
        user = "user root; " if os.geteuid() == 0 else ""
        extra = f"{user}daemon off; pid {path.parent}/pid; error_log stderr;"
        return [_found("nginx"), "-p", str(path.parent), "-c", str(path), "-g", extra]
    if name == "haproxy":
        return [_found("haproxy"), "-db", "-f", str(path)]
    if name == "envoy":
        return [_found("envoy"), "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning"]
    return [_found("caddy"), "run", "--config", str(path), "--adapter", "caddyfile"]


def installed(name: str) -> str | None:
    """Find a program: beside this Python, as PyPI's Envoy and Caddy are, or on the path with Debian's."""
    beside = Path(sys.executable).with_name(name)
    path = f"/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:{os.environ.get('PATH', '')}"
    return str(beside) if beside.exists() else shutil.which(name, path=path)


def _found(name: str) -> str:
    found = installed(name)
    if found is None:
        pytest.skip(f"{name} is not installed; haproxy and nginx are Debian's, as .ci/run installs them")
    return found


def _environ(folder: Path) -> dict[str, str]:
    return {"PATH": "/usr/sbin:/usr/bin:/bin", "HOME": str(folder), "XDG_DATA_HOME": str(folder)}


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _until(ready: Callable[[], bool], log: Path, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, log.read_text()[-2000:]
        time.sleep(0.05)
