"""Measures a generation through the gateway beside nginx and bare aiohttp in the same run.

``python benchmarks/generation.py`` needs wrk and nginx. nginx is the upstream too: it answers a Cloudflare-style JSON
with a picture of 200 KB or 1.5 MB at once, so it is no bottleneck. Only ratios of one run carry over to other machines.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.fake_upstream import png

KEY = "benchmark-key-0123456789"
HOST = "127.0.0.1"
UPSTREAM, PROXY, BARE, GATEWAY = 19100, 19101, 19102, 19103
MODEL = "@cf/black-forest-labs/flux-1-schnell"
PATH = "/client/v4/accounts/bench/ai/run/{model}"
SIZES = {"200 KB": 200_000, "1.5 MB": 1_500_000}

NGINX = """
daemon off; worker_processes 1; error_log {root}/error.log; pid {root}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000; keepalive_timeout 300s; client_body_buffer_size 1m;
  client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/f;
  uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
  upstream images {{ server {host}:{upstream}; keepalive 64; }}
  server {{
    listen {host}:{upstream};
    location / {{
      error_page 405 =200 $uri;
      root {root};
      default_type application/json;
      try_files /$arg_none /answer.json =404;
    }}
  }}
  server {{
    listen {host}:{proxy};
    location / {{
      proxy_pass http://images;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffers 64 64k;
    }}
  }}
}}
"""

BARE_APP = """
import sys
from aiohttp import ClientSession, web

async def session(app):
    async with ClientSession(auto_decompress=False, read_bufsize=2**20) as app["session"]:
        yield

async def models(request):
    return web.Response(body=b'{"object": "list", "data": []}', content_type="application/json")

async def relay(request):
    body = await request.read()
    async with request.app["session"].post(sys.argv[2] + request.path, data=body) as answer:
        return web.Response(body=await answer.read(), content_type="application/json")

app = web.Application()
app.cleanup_ctx.append(session)
app.router.add_get("/v1/models", models)
app.router.add_post("/{path:.*}", relay)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
"""

CONFIG = """
server: {{port: {port}}}
authenticators: {{keys: {{use: api_keys, keys: [{key}]}}}}
backends: {{cf: {{use: cloudflare, base_url: "http://{host}:{upstream}/client/v4", account_id: bench, keys: [bench]}}}}
storages: {{pictures: {{use: memory, ttl: 30m, limit: 64MiB}}}}
observers: {{log: {{use: log}}}}
models: {{flux: {{backends: [{{backend: cf, model: "{model}"}}], fit: leave}}}}
"""

LUA = """
wrk.method = "POST"
wrk.body = [[{body}]]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
"""


@dataclass(frozen=True)
class Figures:
    """What wrk printed: requests per second, median latency in milliseconds; and CPU milliseconds per request."""

    rate: float
    median: float
    errors: int
    cpu: float = 0


@contextmanager
def process(*command: str, cwd: Path, wait: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run *command* until the block ends; wait until *wait* answers."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with (cwd / f"{Path(command[0]).name}.log").open("ab") as log:
        running = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log, env=environment)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(wait, timeout=1).read()
                break
            except OSError as error:
                if getattr(error, "code", None):
                    break
                time.sleep(0.05)
        yield running
    finally:
        running.terminate()
        running.wait(20)


def wrk(url: str, seconds: int, clients: int, script: Path | None = None, pid: int = 0) -> Figures:
    """Load *url* and read wrk's figures, and the CPU time of process *pid*."""
    began = cpu_seconds(pid)
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", "--timeout", "30s"]
    command += ["-s", str(script)] if script else ["-H", f"Authorization: Bearer {KEY}"]
    text = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])  # type: ignore[index]  # wrk always prints it
    median, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]  # as above
    errors = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", text)))
    requests = int(re.search(r"(\d+) requests in", text)[1])  # type: ignore[index]  # as above
    cpu = 1000 * (cpu_seconds(pid) - began) / max(requests, 1)
    return Figures(rate, float(median) * {"us": 0.001, "ms": 1, "s": 1000}[unit], errors, cpu)


def cpu_seconds(pid: int) -> float:
    """Read how much processor time a process has used."""
    if not pid:
        return 0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(root: Path, size: int, seconds: int, pids: tuple[int, int]) -> dict[str, Figures]:
    """Measure one picture size through every contender."""
    picture = png(1024, 1024, noise=size)
    answer = {"result": {"image": base64.b64encode(picture).decode()}, "success": True, "errors": [], "messages": []}
    (root / "answer.json").write_text(json.dumps(answer, separators=(",", ":")))
    path = PATH.format(model=MODEL)
    bodies = {
        "raw": {"prompt": "a cat"},
        "images": {"prompt": "a cat", "model": "flux", "response_format": "b64_json"},
        "images-url": {"prompt": "a cat", "model": "flux", "response_format": "url"},
        "chat": {"model": "flux", "messages": [{"role": "user", "content": "a cat"}]},
    }
    scripts = {}
    for name, body in bodies.items():
        scripts[name] = root / f"{name}.lua"
        scripts[name].write_text(LUA.format(body=json.dumps(body), key=KEY))
    base = f"http://{HOST}"
    gateway = f"{base}:{GATEWAY}/v1"
    plan = {
        "nginx proxy_pass": (f"{base}:{PROXY}{path}", "raw", 0),
        "bare aiohttp pass-through": (f"{base}:{BARE}{path}", "raw", pids[0]),
        "gateway images b64_json": (f"{gateway}/images/generations", "images", pids[1]),
        "gateway images url": (f"{gateway}/images/generations", "images-url", pids[1]),
        "gateway chat": (f"{gateway}/chat/completions", "chat", pids[1]),
    }
    results = {name: wrk(url, seconds, 16, scripts[script], pid) for name, (url, script, pid) in plan.items()}
    results["one client: upstream directly"] = wrk(f"{base}:{UPSTREAM}{path}", 3, 1, scripts["raw"])
    results["one client: gateway chat"] = wrk(f"{gateway}/chat/completions", 3, 1, scripts["chat"])
    return results


def lag(script: Path) -> float:
    """Ask for the cheapest answer again and again while others are drawn; give the 99th percentile in milliseconds."""
    load = threading.Thread(target=wrk, args=(f"http://{HOST}:{GATEWAY}/v1/chat/completions", 5, 16, script))
    load.start()
    connection = http.client.HTTPConnection(HOST, GATEWAY, timeout=10)
    waits = []
    while load.is_alive():
        began = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        waits.append(1000 * (time.perf_counter() - began))
        time.sleep(0.01)
    return sorted(waits)[int(0.99 * len(waits))]


def memory(pid: int, field: str) -> float:
    """Read VmRSS or VmHWM of a process, in MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]  # Linux always has it


def show(title: str, results: dict[str, Figures]) -> None:
    bare = results["bare aiohttp pass-through"].rate
    print(f"\n{title}  (16 clients)          requests/s   of bare   p50 ms   CPU ms   errors")
    for name, figures in results.items():
        share, cpu = figures.rate / bare, figures.cpu
        print(f"  {name:32}{figures.rate:12.0f}{share:10.2f}{figures.median:9.2f}{cpu:9.2f}{figures.errors:9d}")
    added = results["one client: gateway chat"].median - results["one client: upstream directly"].median
    print(f"  added p50 at one client: {added:.2f} ms")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=int, default=8)
    seconds = arguments.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder)
        root.chmod(0o755)
        (root / "answer.json").write_text("{}")
        (root / "nginx.conf").write_text(NGINX.format(root=root, host=HOST, upstream=UPSTREAM, proxy=PROXY))
        (root / "bare.py").write_text(BARE_APP)
        (root / "gateway.yaml").write_text(
            CONFIG.format(port=GATEWAY, key=KEY, host=HOST, upstream=UPSTREAM, model=MODEL)
        )
        upstream = f"http://{HOST}:{UPSTREAM}"
        stack.enter_context(process("nginx", "-c", str(root / "nginx.conf"), cwd=root, wait=upstream))
        relay = [sys.executable, "bare.py", str(BARE), upstream]
        bare = stack.enter_context(process(*relay, cwd=root, wait=f"http://{HOST}:{BARE}/v1/models"))
        began = time.monotonic()
        serve = [sys.executable, "-c", "from gateway.cli import main; main()", "serve", "gateway.yaml"]
        gateway = stack.enter_context(process(*serve, cwd=root, wait=f"http://{HOST}:{GATEWAY}/health"))
        print(f"first answer after {time.monotonic() - began:.2f} s, idle {memory(gateway.pid, 'VmRSS'):.0f} MB")
        for title, size in SIZES.items():
            show(title, measure(root, size, seconds, (bare.pid, gateway.pid)))
        chat = root / "chat.lua"
        print(f"\nanswer of /health while 16 clients chat: p99 {lag(chat):.1f} ms (the lag of the event loop)")
        wrk(f"http://{HOST}:{GATEWAY}/v1/chat/completions", 5, 64, chat)
        print(f"\npeak memory with 64 clients x 1.5 MB: {memory(gateway.pid, 'VmHWM'):.0f} MB")
        plain = wrk(f"http://{HOST}:{BARE}/v1/models", 4, 16)
        ours = wrk(f"http://{HOST}:{GATEWAY}/v1/models", 4, 16)
        print(
            f"/v1/models: {ours.rate:.0f}/s, {ours.rate / plain.rate:.2f} of a bare aiohttp answer ({plain.rate:.0f}/s)"
        )


if __name__ == "__main__":
    main()
