"""A network of its own, in which every address of the internet is this machine: a name server of ours is the system's,
one host answers at all addresses and writes down at which, and a gateway runs as its users run it.

`Lab` starts it in new namespaces for mounts and network, and asks it through pipes; run as a module it is the inside.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

from tests.fake_upstream import png
from tests.name_server import Answer, NameServer
from tests.rude_host import redirect, reply
from tests.ways import WAYS, Ways, config, links_api, serving, ways_to

OWN = "93.184.216.99"
"""The public address that this machine has itself."""
RESOLVER, PORT = "127.0.0.53", 8080
PROXY = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
"""A proxy would connect where the guard cannot see; nobody is at this one, so that whoever used it would fail."""
FILES = {
    "resolv.conf": f"nameserver {RESOLVER}\noptions timeout:2 attempts:1\n",
    "nsswitch.conf": "hosts: files dns\n",
    "hosts": "127.0.0.1 localhost\n",
}
SETUP = """
for name in resolv.conf nsswitch.conf hosts; do mount --bind "$0/$name" "/etc/$name"; done
ip link set lo up
ip route add local 0.0.0.0/0 dev lo src 127.0.0.1
ip -6 route add local ::/0 dev lo src ::1
ip address add OWN/32 dev lo
exec "$@"
""".replace("OWN", OWN)


class Seen(NamedTuple):
    """What one way said of a URL, which questions it took, and at which addresses somebody knocked."""

    said: str
    asked: list[str]
    connected: list[str]


class Lab:
    """The outside: a process in namespaces of its own."""

    def __init__(self, folder: Path) -> None:
        for name, text in FILES.items():
            (folder / name).write_text(text)
        # Whoever is not root may have such namespaces all the same, where the system allows it.
        unshare = ["unshare", "--mount", "--net", *([] if os.getuid() == 0 else ["--map-root-user"])]
        inside = ["sh", "-euc", SETUP, str(folder), sys.executable, "-m", __name__, str(folder)]
        self._log = folder / "lab.txt"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*unshare, *inside], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.trouble = "" if self._line() == "ready\n" else self._log.read_text()[-500:]

    def ask(self, url: str, names: Mapping[str, Sequence[Answer]], ttl: int = 0) -> list[Seen]:
        """Ask for *url* on each way, each beginning with the first of the answers; give what was seen."""
        self._pipe(self._process.stdin).write(json.dumps([url, names, ttl]) + "\n")
        self._pipe(self._process.stdin).flush()
        line = self._line()
        assert line, self._log.read_text()
        return [Seen(*each) for each in json.loads(line)]

    def close(self) -> None:
        """End it; with its network everything in it ends."""
        self._pipe(self._process.stdin).close()
        self._process.wait(30)
        self._pipe(self._process.stdout).close()

    def _line(self) -> str:
        return self._pipe(self._process.stdout).readline()

    def _pipe(self, pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


class Everywhere:
    """The host at all addresses: it shows a picture, and below ``/r`` redirects to itself."""

    def __init__(self) -> None:
        self.connected: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected.append(writer.get_extra_info("sockname")[0])
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(redirect("/") if head.startswith(b"GET /r ") else reply(png(8, 8)))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.close()


async def _one(ways: Ways, server: NameServer, host: Everywhere, asked: list[Any]) -> list[Seen]:
    url, names, ttl = asked
    seen = []
    for way in WAYS:
        server.teach(names, ttl)
        host.connected.clear()
        said = await ways.ask(way, url)
        seen.append(Seen(said, sorted(server.asked), [*host.connected]))
    return seen


async def _inside(folder: Path) -> None:
    server, host = NameServer(), Everywhere()
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: server, (RESOLVER, 53))
    await asyncio.start_server(host.serve, ["0.0.0.0", "::"], 80)
    async with AsyncExitStack() as stack:
        api, upstream = await stack.enter_async_context(links_api())
        text = config(upstream, "{timeout: 1s}", PORT)
        await stack.enter_async_context(serving(folder, text, PROXY))
        ways = await stack.enter_async_context(ways_to(f"http://127.0.0.1:{PORT}", api))
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await _one(ways, server, host, json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(_inside(Path(sys.argv[1])))
