"""Files of pictures on their way: none stays open, and whoever leaves is no fault."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.endpoints import sending
from tests.gateways import DEMO, start


class Late(ThreadPoolExecutor):
    """Does the work at once and tells of it only when the test lets it."""

    def __init__(self) -> None:
        super().__init__(1)
        self.done, self.told = threading.Event(), threading.Event()

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        def late() -> Any:
            result = work(*arguments, **more)
            self.done.set()
            self.told.wait(10)
            return result

        return super().submit(late)


async def test_a_client_that_leaves_while_its_file_is_opened_leaves_no_open_file(tmp_path: Path) -> None:
    """The thread cannot be stopped any more; what it opened is closed when it comes back."""
    file = tmp_path / "picture"
    file.write_bytes(b"picture")
    threads = Late()
    asyncio.get_running_loop().set_default_executor(threads)
    opening = asyncio.create_task(sending._opened(str(file), 7))
    await asyncio.sleep(0)
    while not threads.done.is_set():  # noqa: ASYNC110  - it is another thread's
        await asyncio.sleep(0.001)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    held = times_open(file)
    threads.told.set()
    await asyncio.to_thread(lambda: None)
    gc.collect()

    assert (held, times_open(file)) == (1, 0)


def times_open(file: Path) -> int:
    return sum(_leads_to(link, file) for link in Path("/proc/self/fd").iterdir())


def _leads_to(link: Path, file: Path) -> bool:
    try:
        return Path(os.readlink(link)) == file  # noqa: PTH115  - what is not a path must not be resolved
    except OSError:
        return False


async def test_a_client_that_resets_in_time_is_no_fault(
    aiohttp_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It resets right before the head of its answer leaves: nobody is there, and nothing is wrong."""
    config = DEMO.replace("use: memory, ttl: 600", f"use: disk, root: {tmp_path / 'pictures'}")
    gateway = await start(aiohttp_server, config, tmp_path)
    drawn = await gateway.draw(size="64x64", response_format="url")
    path = drawn.json["data"][0]["url"].removeprefix(gateway.base)
    client = socket.create_connection(("127.0.0.1", gateway.port))
    begun, over = sending.Sending._begun, asyncio.Event()

    async def reset(self: sending.Sending) -> Any:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        asyncio.get_running_loop().call_later(0.2, over.set)
        return await begun(self)

    monkeypatch.setattr(sending.Sending, "_begun", reset)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await over.wait()

    assert "fault of the gateway" not in caplog.text
    monkeypatch.undo()
    assert (await gateway.get(path)).status == 200
