"""A thousand clients wait on one gateway while its backend takes two seconds for each picture.

``python benchmarks/waiting.py`` needs nothing but the package. The gateway runs as a process of its own with 64 places.
One caller floods it with all its clients at once; another sends a few in between. Printed are errors, times, the
other's waits beside the flood's, and the memory before, at most and after.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

FLOOD, CALM = "flood-key-0123456789", "calm-key-0123456789"
PLUGIN = '''
import asyncio
from dataclasses import dataclass

from gateway import Capabilities, Duration, Image, Size, hookimpl
from tests.fake_upstream import png

PICTURE = png(1024, 1024, 200_000)


@dataclass
class Slow:
    """Draws one picture, slowly."""

    seconds: Duration = 2

    def capabilities(self, model):
        return Capabilities(sizes=(Size(1024, 1024),))

    async def generate(self, request, report):
        report.sending()
        await asyncio.sleep(self.seconds)
        return [Image(PICTURE)]


@hookimpl
def provide_backends():
    return {"slow": Slow}
'''
CONFIG = """
plugins: [slow.py]
jobs: {{running: {places}, waiting: {clients}, keep_alive: 10}}
authenticators: {{keys: {{use: api_keys, keys: [{{name: flood, key: {flood}}}, {{name: calm, key: {calm}}}]}}}}
backends: {{slow: {{use: slow, seconds: {seconds}s}}}}
storages: {{pictures: {{use: memory, ttl: 60, limit: 128MiB}}}}
models: {{slow: {{backends: [{{backend: slow}}]}}}}
"""


@dataclass
class Waits:
    """What the clients of one caller met: seconds of each answer, and everything else."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def line(self, name: str) -> str:
        if not self.seconds:
            return f"{name:>6}: none answered"
        ordered = sorted(self.seconds)
        return (
            f"{name:>6}: {len(ordered)} answered, {len(self.errors)} errors, "
            f"median {statistics.median(ordered):.1f} s, last {ordered[-1]:.1f} s"
        )


async def ask(session: aiohttp.ClientSession, base: str, key: str, waits: Waits) -> None:
    """Send one chat call and wait for its picture."""
    body = {"model": "slow", "messages": [{"role": "user", "content": "a cat"}]}
    began = time.monotonic()
    try:
        async with session.post(
            f"{base}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}
        ) as response:
            text = await response.text()
            if response.status == 200 and "/image/" in text:
                waits.seconds.append(time.monotonic() - began)
            else:
                waits.errors.append(f"{response.status} {text[:100]}")
    except (aiohttp.ClientError, TimeoutError) as error:
        waits.errors.append(repr(error)[:100])


async def measure(base: str, process: int, clients: int, others: int, seconds: float) -> bool:
    """Flood, come in between, and print what became of it; True if all is as promised."""
    flood, calm = Waits(), Waits()
    before = resident(process)
    peak = before
    done = asyncio.Event()

    async def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, resident(process))
            with suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), 0.2)

    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        watching = asyncio.create_task(watch())
        began = time.monotonic()
        flooding = [asyncio.create_task(ask(session, base, FLOOD, flood)) for _ in range(clients)]
        await asyncio.sleep(1)
        for _ in range(others):
            await ask(session, base, CALM, calm)
        await asyncio.gather(*flooding)
        took = time.monotonic() - began
        done.set()
        await watching
    print(f"{clients} clients, all answered after {took:.1f} s")
    print(flood.line("flood"))
    print(calm.line("calm"))
    print(f"memory: {before:.0f} MiB before, {peak:.0f} MiB at most, {resident(process):.0f} MiB after")
    for error in (flood.errors + calm.errors)[:5]:
        print("error:", error)
    fair = bool(calm.seconds) and max(calm.seconds) < 3 * seconds
    print("fair" if fair else f"NOT FAIR: the calm caller waited longer than {3 * seconds:g} s")
    return fair and not flood.errors and not calm.errors


def open_files(process: int) -> int:
    """Count a process's open files, sockets among them."""
    return sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())


def resident(process: int) -> float:
    """Give a process's resident memory in MiB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def gateway(config: str, more: str = "") -> Iterator[tuple[str, int]]:
    """Run a gateway of this YAML, whose plugin is ``slow.py`` with *more* in it; give its URL and its process id."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "slow.py").write_text(PLUGIN + more)
        (Path(folder) / "config.yaml").write_text(config)
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        command = [sys.executable, "-c", "from gateway.cli import main; main()", "serve", "--port", str(port)]
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            while line := process.stdout.readline():
                if "in a browser" in line:
                    break
            else:
                raise SystemExit("the gateway did not start")
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()
            process.wait(30)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--others", type=int, default=10, help="calls of the second caller, one after the other")
    parser.add_argument("--places", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2)
    options = parser.parse_args()
    config = CONFIG.format(
        places=options.places, clients=options.clients, seconds=options.seconds, flood=FLOOD, calm=CALM
    )
    with gateway(config) as (base, process):
        good = asyncio.run(measure(base, process, options.clients, options.others, options.seconds))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
