"""Two thousand streams and five thousand connections that only wait, and what they cost.

``python benchmarks/idle.py`` needs nothing but the package. The gateway runs as a process of its own. Half of the
streams are chats whose pictures take forever, half follow one job's events; the connections have asked once and are
kept alive. Printed are its memory after each step, how long a new client waits for its answer meanwhile, and what
happens to clients beyond ``max_connections``. It exits with 1 when memory exceeds 200 MiB, a new client waits 100 ms
or more, or the connections beyond the most are not refused.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from contextlib import suppress

from waiting import CALM, FLOOD, gateway, open_files, resident

CONFIG = """
plugins: [slow.py]
server: {{keep_alive: 10m, max_connections: {most}, shutdown_timeout: 1s}}
jobs: {{running: 64, waiting: {streams}, timeout: 1h}}
authenticators: {{keys: {{use: api_keys, keys: [{{name: flood, key: {flood}}}, {{name: calm, key: {calm}}}]}}}}
backends: {{slow: {{use: slow, seconds: 1h}}}}
storages: {{pictures: {{use: memory, ttl: 60, limit: 64MiB}}}}
models: {{slow: {{backends: [{{backend: slow}}]}}}}
"""
MEMORY, ACCEPT = 200, 0.1
AT_ONCE = 100
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def request(path: str, body: object = None) -> bytes:
    """Write one request."""
    content = json.dumps(body).encode() if body else b""
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {FLOOD}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content


async def connected(port: int, sent: bytes) -> tuple[int, Streams]:
    """Connect, ask, and read the head of the answer; 0 when the connection was cut instead."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**12)
    writer.write(sent)
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1]), (reader, writer)
    return 0, (reader, writer)


async def opened(port: int, sent: bytes, count: int) -> tuple[list[int], list[Streams]]:
    """Open *count* connections, some at once."""
    statuses, kept = [], []
    for start in range(0, count, AT_ONCE):
        answers = await asyncio.gather(*(connected(port, sent) for _ in range(min(AT_ONCE, count - start))))
        statuses += [status for status, _ in answers]
        kept += [streams for _, streams in answers]
    return statuses, kept


async def accept_times(port: int, count: int = 100) -> list[float]:
    """Measure how long a new client waits from its connect to its answer."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        _, (_, writer) = await connected(port, request("/health"))
        times.append(time.perf_counter() - began)
        writer.close()
        await asyncio.sleep(0.05)
    return sorted(times)


async def measure(base: str, process: int, streams: int, idle: int, most: int, seconds: float) -> bool:
    """Open everything step by step and print what it costs; True if all is as promised."""
    port = int(base.rsplit(":", 1)[1])
    print(f"memory: {resident(process):.0f} MiB at the start")
    say = {"model": "slow", "stream": True, "messages": [{"role": "user", "content": "a cat"}]}
    chats, _kept = await opened(port, request("/v1/chat/completions", say), streams // 2)
    draw = {"model": "slow", "prompt": "a cat", "async": True}
    _, (reader, _) = await connected(port, request("/v1/images/generations", draw))
    identity = await _identity(reader)
    events, _more = await opened(port, request(f"/v1/jobs/{identity}/events"), streams - streams // 2)
    print(f"memory: {resident(process):.0f} MiB with {streams} streams, {open_files(process)} files open")
    asked, _idle = await opened(port, request("/health"), idle)
    # Pings go out to all streams meanwhile.
    peak, until = 0.0, time.monotonic() + seconds
    times: list[float] = []
    while time.monotonic() < until:
        times += await accept_times(port)
        peak = max(peak, resident(process))
    times.sort()
    slowest = times[int(len(times) * 0.99)]
    print(f"memory: {peak:.0f} MiB at most with {idle} idle connections more, {open_files(process)} files open")
    print(
        f"a new client is answered after {times[len(times) // 2] * 1000:.1f} ms (median), {slowest * 1000:.1f} ms (p99)"
    )
    beyond, _beyond = await opened(port, request("/health"), most - streams - idle + 200)
    refused = sum(status != 200 for status in beyond)
    told = sum(status == 503 for status in beyond)
    print(f"of {len(beyond)} clients more {refused} are refused ({told} told so), {most} is the most")
    good = set(chats + events + asked) == {200} and peak <= MEMORY and slowest < ACCEPT and 150 <= refused <= 250
    print("as promised" if good else f"NOT AS PROMISED: at most {MEMORY} MiB, {ACCEPT * 1000:.0f} ms, 200 refused")
    return good


async def _identity(reader: asyncio.StreamReader) -> str:
    return str(json.loads((await reader.readuntil(b'"object"')).rsplit(b",", 1)[0] + b"}")["id"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--most", type=int, default=8000, help="max_connections")
    parser.add_argument("--seconds", type=float, default=30, help="how long all of them wait")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    config = CONFIG.format(most=options.most, streams=options.streams, flood=FLOOD, calm=CALM)
    with gateway(config) as (base, process):
        good = asyncio.run(measure(base, process, options.streams, options.idle, options.most, options.seconds))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
