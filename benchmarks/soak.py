"""Hours at half load: does anything grow?

``python benchmarks/soak.py --minutes 120`` needs nothing but the package. The gateway runs as a process of its own,
with pictures on disk. First its peak is measured, then every kind of call comes at half of that rate, as from
independent clients: some leave early, some come back by key, some follow events. Sampled every few seconds are the
memory, the open files and the loop's tasks. Printed are the medians of the four quarters after a warm-up. If the last
has more than 5 % more memory than the first, or more files or tasks, it exits with 1; files and tasks must also fall
back when the load ends.

By default the processor is what bounds the peak. ``--running 24 --draw 1s`` lets the backend bound it instead, so that
hours of half load leave the machine to others.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import statistics
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from string import Template
from typing import Any

import aiohttp
from waiting import CALM, FLOOD, gateway, open_files, resident

CONFIG = Template("""
plugins: [slow.py]
server: {max_connections: 4000}
jobs: {running: $running, waiting: 512, keep: 30s, keep_alive: 1s}
authenticators: {keys: {use: api_keys, keys: [{name: flood, key: $flood}, {name: calm, key: $calm}]}}
backends: {slow: {use: slow, seconds: $draw}}
storages: {pictures: {use: disk, root: pictures, ttl: 30s}}
models: {slow: {backends: [{backend: slow}]}}
chat: {ping: 1s}
""")
TASKS = """
import asyncio
from aiohttp import web
from gateway import hookimpl

@hookimpl
def setup_app(app):
    async def tasks(request):
        return web.json_response(len(asyncio.all_tasks()))
    app.router.add_get("/tasks", tasks)
"""
DRIFT, SLACK = 5.0, 5
PEAK_SECONDS, PEAK_CLIENTS = 10.0, 96
SAY: dict[str, Any] = {"model": "slow", "messages": [{"role": "user", "content": "a cat"}]}
DRAW: dict[str, Any] = {"model": "slow", "prompt": "a cat"}
TOOL: dict[str, Any] = {"model": "slow", "input": "a cat", "tools": [{"type": "image_generation"}]}
CHAT, IMAGES, RESPONSES = "/v1/chat/completions", "/v1/images/generations", "/v1/responses"


@dataclass
class Soak:
    """The clients, what they met, and the samples."""

    session: aiohttp.ClientSession
    base: str
    process: int
    answers: int = 0
    left: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    samples: list[tuple[float, float, int, int]] = field(default_factory=list)

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send a call and read all of its answer; JSON comes read."""
        headers["Authorization"] = f"Bearer {random.choice((FLOOD, CALM))}"
        async with self.session.request(method, self.base + path, json=body, headers=headers) as response:
            content = await response.read()
            self.answers += 1
            if response.status not in {200, 202}:
                code = f"{response.status} {content[:80]!r}"
                self.errors[code] = self.errors.get(code, 0) + 1
                return None
            return await response.json() if response.content_type == "application/json" else content

    async def call(self, number: int) -> None:
        """Be one client: each kind comes in turn."""
        kinds = (self._plain, self._streamed, self._shown, self._async, self._leaving, self._again, self._tool)
        try:
            await kinds[number % len(kinds)](number)
        except (aiohttp.ClientError, TimeoutError) as error:
            self.errors[repr(error)[:100]] = self.errors.get(repr(error)[:100], 0) + 1

    async def _plain(self, number: int) -> None:
        await self.ask("POST", IMAGES, DRAW)

    async def _streamed(self, number: int) -> None:
        await self.ask("POST", CHAT, {**SAY, "stream": True})

    async def _shown(self, number: int) -> None:
        answer = await self.ask("POST", IMAGES, {**DRAW, "response_format": "url"})
        if answer:
            await self.ask("GET", answer["data"][0]["url"].removeprefix(self.base))
            await self.ask("GET", answer["data"][0]["url"].removeprefix(self.base) + "?w=256")

    async def _async(self, number: int) -> None:
        headers = {"Authorization": f"Bearer {CALM}"}
        async with self.session.post(self.base + IMAGES, json={**DRAW, "async": True}, headers=headers) as response:
            job = await response.json()
        if response.status == 202:
            async with self.session.get(job["events_url"], headers=headers) as response:
                await response.read()
            self.answers += 1

    async def _leaving(self, number: int) -> None:
        body = {**DRAW, "stream": bool(number % 2)}
        with suppress(TimeoutError):
            async with asyncio.timeout(random.random() * 0.4):
                await self.ask("POST", IMAGES, body)
        self.left += 1

    async def _again(self, number: int) -> None:
        headers = {"Idempotency-Key": f"soak-{number}", "Authorization": f"Bearer {CALM}"}
        for _ in range(2):
            async with self.session.post(self.base + CHAT, json=SAY, headers=headers) as response:
                await response.read()
            self.answers += 1

    async def _tool(self, number: int) -> None:
        await self.ask("POST", RESPONSES, {**TOOL, "stream": number % 3 == 0})

    async def peak(self) -> float:
        """Measure how many calls a second are answered when clients ask as fast as they can."""
        numbers, until, done = itertools.count(), time.monotonic() + PEAK_SECONDS, 0

        async def client() -> None:
            nonlocal done
            while time.monotonic() < until:
                await self.call(next(numbers))
                done += 1

        await asyncio.gather(*(client() for _ in range(PEAK_CLIENTS)))
        return done / PEAK_SECONDS

    async def sample(self, began: float) -> None:
        headers = {"Authorization": f"Bearer {CALM}"}
        async with self.session.get(self.base + "/tasks", headers=headers) as response:
            tasks = int(await response.text())
        self.samples.append((time.monotonic() - began, resident(self.process), open_files(self.process), tasks))

    async def load(self, rate: float, seconds: float, every: float) -> None:
        """Let calls come at *rate*, whether or not earlier ones were answered, and sample meanwhile."""
        began, calls = time.monotonic(), set[asyncio.Task[None]]()
        sampled, number = 0.0, 0
        while (now := time.monotonic() - began) < seconds:
            while number < now * rate:
                number += 1
                task = asyncio.create_task(self.call(number))
                calls.add(task)
                task.add_done_callback(calls.discard)
            if now >= sampled:
                sampled += every
                await self.sample(began)
            await asyncio.sleep(0.02)
        await asyncio.gather(*calls)


def verdict(soak: Soak, warm: float, before: tuple[float, float, int, int]) -> bool:
    """Print what has drifted; True if nothing has."""
    *steady, after = [sample for sample in soak.samples if sample[0] >= warm]
    quarter = max(1, len(steady) // 4)
    quarters = [steady[start : start + quarter] for start in range(0, 4 * quarter, quarter)]
    good = True
    for place, name, unit in ((1, "memory", "MiB"), (2, "files", ""), (3, "tasks", "")):
        medians = [statistics.median(sample[place] for sample in part) for part in quarters if part]
        first, last = medians[0], medians[-1]
        most = max(sample[place] for sample in steady)
        drift = 100 * (last - first) / first
        flat = drift <= DRIFT if place == 1 else last - first <= max(SLACK, first * DRIFT / 100)
        back = place == 1 or after[place] <= before[place] + SLACK
        good = good and flat and back
        print(
            f"{name:>6}: {before[place]:.0f} before, {' '.join(f'{median:.1f}' for median in medians)} {unit} "
            f"({drift:+.1f} %), {most:.0f} at most, {after[place]:.0f} after{'' if flat and back else '   <-- GREW'}"
        )
    return good


async def measure(base: str, process: int, minutes: float) -> bool:
    """Run it all and print what came of it; True if nothing grew and nothing failed."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=5)
    timeout = aiohttp.ClientTimeout(total=60)
    seconds = minutes * 60
    warm, every = max(75.0, seconds * 0.2), max(1.0, seconds / 600)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        soak = Soak(session, base, process)
        await soak.sample(time.monotonic())
        before = soak.samples.pop()
        peak = await soak.peak()
        soak.answers = 0
        print(
            f"peak: {peak:.0f} clients a second; half of that for {minutes:g} minutes, {warm:.0f} s of them to warm up"
        )
        await soak.load(peak / 2, seconds, every)
        await asyncio.sleep(15)  # connections that are kept alive end meanwhile
        began = time.monotonic()
        await soak.sample(began - seconds - 15)
    print(f"{soak.answers} answers, {soak.left} clients left early, {sum(soak.errors.values())} errors")
    for code, count in list(soak.errors.items())[:5]:
        print(f"  {count} × {code}")
    good = verdict(soak, warm, before) and not soak.errors
    print("flat" if good else "NOT FLAT, OR WITH ERRORS")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--running", type=int, default=64, help="pictures that are drawn at once")
    parser.add_argument("--draw", default="100ms", help="how long the backend takes for one")
    options = parser.parse_args()
    config = CONFIG.substitute(running=options.running, draw=options.draw, flood=FLOOD, calm=CALM)
    with gateway(config, TASKS) as (base, process):
        good = asyncio.run(measure(base, process, options.minutes))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
