"""Measures whether a directory of a hundred thousand pictures is served as quickly as one of a hundred.

``python benchmarks/many_pictures.py`` starts two gateways over two directories and asks them in turn for pictures drawn
by chance, so that what else the machine does meets both. Only the ratio carries over to other machines.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent.parent))

import aiohttp

from benchmarks.generation import HOST, process
from gateway import picture_files, plain_files
from gateway.picture_files import PictureFiles
from gateway.values import PictureMeta
from tests.fake_upstream import png

PORTS = (19210, 19211)
TOKEN = "benchmark-key-0123456789"
CONFIG = """
server: {{port: {port}}}
authenticators: {{keys: {{use: api_keys, keys: [{{name: benchmark, key: {token}}}]}}}}
backends: {{demo: {{use: demo}}}}
storages: {{pictures: {{use: disk, root: {root}}}}}
models: {{demo: {{backends: [{{backend: demo}}]}}}}
"""
AT_ONCE = 8
DETAILS = {"prompt": "a lighthouse at dusk " * 5, "receipt": {"notes": ["as asked"] * 20}}


def key_of(number: int) -> str:
    return hashlib.sha256(f"benchmark {number}".encode()).hexdigest()[:40]


def fill(root: Path, count: int, size: int) -> float:
    """Put *count* pictures of *size* bytes into a directory, without waiting for the disk; give the seconds taken."""
    begun = time.perf_counter()
    files = PictureFiles(root)
    files.open()
    data = png(64, 64, noise=size)
    digest = hashlib.sha256(data).hexdigest()
    for number in range(count):
        created = 1_760_000_000.0 + number
        files.write(
            PictureMeta(
                key_of(number),
                "image/png",
                64,
                64,
                len(data),
                digest,
                created,
                owner="benchmark",
                model="demo",
                details=DETAILS,
            ),
            data,
        )
    return time.perf_counter() - begun


def without_sync() -> Callable[[], None]:
    """Let filling not wait for the disk; give what brings the old state back."""
    names = {name: getattr(os, name) for name in dir(os)} | {"fsync": lambda descriptor: None}
    for module in (picture_files, plain_files):
        module.os = SimpleNamespace(**names)  # type: ignore[attr-defined]  # for a moment

    def back() -> None:
        for module in (picture_files, plain_files):
            module.os = os  # type: ignore[attr-defined]

    return back


async def ask(session: aiohttp.ClientSession, port: int, path: str) -> float:
    """Ask once; give the milliseconds until all was read."""
    begun = time.perf_counter()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with session.get(f"http://{HOST}:{port}{path}", headers=headers) as answer:
        assert answer.status == 200, (answer.status, await answer.text())
        await answer.read()
    return (time.perf_counter() - begun) * 1000


async def compare(counts: tuple[int, int], asks: int) -> dict[int, list[float]]:
    """Ask both in turn, *AT_ONCE* at a time; give the milliseconds by count."""
    chance = random.Random(7)
    times: dict[int, list[float]] = {count: [] for count in counts}
    async with aiohttp.ClientSession() as session:
        for turn in range(asks // AT_ONCE):
            # Who comes first changes, so that neither always meets the machine warmed up by the other.
            for count, port in sorted(zip(counts, PORTS, strict=True), reverse=bool(turn % 2)):
                paths = [f"/image/{key_of(chance.randrange(count))}.png" for _ in range(AT_ONCE)]
                times[count] += await asyncio.gather(*(ask(session, port, path) for path in paths))
    return times


async def pages(counts: tuple[int, int]) -> dict[int, list[float]]:
    """Ask for the first page of the list three times; the first reads what the others find in memory."""
    async with aiohttp.ClientSession() as session:
        return {
            count: [await ask(session, port, "/v1/pictures?limit=20") for _ in range(3)]
            for count, port in zip(counts, PORTS, strict=True)
        }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--counts", type=int, nargs=2, default=(100, 100_000), metavar=("FEW", "MANY"))
    arguments.add_argument("--asks", type=int, default=8000, help="how often each is asked")
    arguments.add_argument("--size", type=int, default=8_000, help="bytes of a picture")
    given = arguments.parse_args()
    counts = (given.counts[0], given.counts[1])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root, back = Path(folder), without_sync()
        for count, port in zip(counts, PORTS, strict=True):
            print(f"{count:8} pictures put in {fill(root / str(count), count, given.size):6.1f} s")
            (root / f"{count}.yaml").write_text(CONFIG.format(port=port, root=root / str(count), token=TOKEN))
        back()
        command = (str(Path(sys.executable).with_name("image-gateway")), "serve")
        for count, port in zip(counts, PORTS, strict=True):
            begun = time.perf_counter()
            stack.enter_context(process(*command, f"{count}.yaml", cwd=root, wait=f"http://{HOST}:{port}/health"))
            print(f"{count:8} pictures: ready after {time.perf_counter() - begun:5.1f} s")
        asyncio.run(compare(counts, 400))
        times = asyncio.run(compare(counts, given.asks))
        cuts = {count: statistics.quantiles(each, n=100) for count, each in times.items()}
        for count, cut in cuts.items():
            print(f"{count:8} pictures: get p50 {cut[49]:6.2f} ms   p99 {cut[98]:6.2f} ms")
        few, many = (cuts[count] for count in counts)
        print(f"   ratio  many to few: p50 {many[49] / few[49]:5.2f}      p99 {many[98] / few[98]:5.2f}")
        for count, each in asyncio.run(pages(counts)).items():
            print(f"{count:8} pictures: a page of 20: " + ", ".join(f"{one:.0f} ms" for one in each))


if __name__ == "__main__":
    main()
