"""A gateway that may open 256 files, and five hundred readers: nobody gets half a picture, nothing leaks."""

import asyncio
import hashlib
import json
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from gateway_plugins.storages.disk import Disk

from gateway import PictureMeta
from tests.fake_upstream import png
from tests.presets.process import free_port

KEY = "0123456789abcdef0123456789abcdef01234567"
LIMIT, READERS = 256, 500
CONFIG = """
authenticators: {keys: {use: api_keys, keys: [a-key-of-the-tests-0123456789]}}
storages: {pictures: {use: disk, root: ./pictures}}
backends: {here: {use: demo}}
models: {demo: {backends: [{backend: here}]}}
jobs: {running: RUNNING}
"""
# The hard limit too: the gateway cannot raise it.
LIMITED = (
    f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))\nfrom gateway.cli import main\n"
)


@dataclass
class Limited:
    """The process, its port, and the picture that it has."""

    popen: subprocess.Popen
    port: int
    data: bytes
    log: Path

    def files(self) -> int:
        return len(list(Path(f"/proc/{self.popen.pid}/fd").iterdir()))

    async def ask(self, path: str, begin: asyncio.Event | None = None) -> tuple[str, bytes]:
        """Read until the other side ends; give what kind of end it was, and the body."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return "refused", b""
        try:
            if begin:
                await begin.wait()  # all are connected before the first one asks
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            return head[9:12].decode() or "cut", body
        except ConnectionError:
            return "cut", b""
        finally:
            writer.close()

    async def crowd(self) -> Counter[str]:
        """Let all readers come at once; every answer must be whole or none."""
        begin = asyncio.Event()
        readers = [asyncio.create_task(self.ask(f"/image/{KEY}.png", begin)) for _ in range(READERS)]
        await asyncio.sleep(0.5)
        begin.set()
        kinds: Counter[str] = Counter()
        for kind, body in await asyncio.gather(*readers):
            assert kind in {"200", "503", "cut", "refused"}, (kind, body[:300])
            assert kind != "200" or hashlib.sha256(body).digest() == hashlib.sha256(self.data).digest()
            assert kind != "503" or json.loads(body)["error"]["message"]
            kinds[kind] += 1
        return kinds


async def stored(root, data):
    """Put one picture into the directory."""
    async with Disk(root) as disk:
        digest = hashlib.sha256(data).hexdigest()
        await disk.put(PictureMeta(KEY, "image/png", 1024, 1024, len(data), digest, 1_760_000_000.0), data)


@pytest.fixture(params=[64, 4])
def limited(request, tmp_path):
    """Run the real command under the limit, over a directory with one picture, with much and little kept for jobs."""
    data = png(1024, 1024, noise=400_000)
    asyncio.run(stored(tmp_path / "pictures", data))
    (tmp_path / "config.yaml").write_text(CONFIG.replace("RUNNING", str(request.param)))
    port, log = free_port(), tmp_path / "log"
    with log.open("w") as stderr:
        arguments = [sys.executable, "-c", LIMITED + "main()", "serve", "config.yaml", "--port", str(port)]
        popen = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        while "in a browser" not in (line := popen.stdout.readline()):
            assert line, log.read_text()
        yield Limited(popen, port, data, log)
    finally:
        popen.send_signal(signal.SIGTERM)
        popen.wait(20)
        popen.stdout.close()


async def test_five_hundred_readers_of_a_gateway_with_few_files(limited):
    """Three crowds: some are served, the others sent away; the files are given back, and then all is as before."""
    kind, _ = await limited.ask(f"/image/{KEY}.png")
    before = limited.files()
    crowds = [await limited.crowd() for _ in range(3)]
    for _ in range(100):
        if limited.files() <= before:
            break
        await asyncio.sleep(0.1)
    after = limited.files()
    calm = [await limited.ask(f"/image/{KEY}.png") for _ in range(20)]

    assert kind == "200"
    assert limited.popen.poll() is None
    assert all(crowd["200"] >= 50 for crowd in crowds), crowds
    assert all(crowd["503"] >= 0.9 * (READERS - crowd["200"]) for crowd in crowds), crowds
    assert after <= before
    assert Counter(kind for kind, _ in calm) == {"200": 20}
    said = limited.log.read_text()
    assert "Traceback" not in said
    assert len(said.splitlines()) < 20, said
