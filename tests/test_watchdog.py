"""Whoever blocks the event loop is named in the log while it still does."""

import asyncio
import logging
import time
from dataclasses import dataclass

from gateway import Capabilities, Image
from gateway.watchdog import Watchdog
from tests.fake_upstream import png
from tests.gateways import AUTHENTICATORS, STORAGES, start


@dataclass
class Blocker:
    """Draws without ever giving the loop a turn."""

    seconds: float = 0.6

    def capabilities(self, model):
        return Capabilities()

    async def generate(self, request, report):
        time.sleep(self.seconds)  # noqa: ASYNC251  - this is the fault
        return [Image(png(64, 64))]


async def test_a_loop_that_turns_is_not_complained_of(caplog):
    """However busy it is with short things."""
    with Watchdog({}, limit=0.2):
        for _ in range(30):
            await asyncio.sleep(0.01)

    assert not caplog.records


async def test_a_block_is_told_once_with_its_place_and_without_values(caplog):
    """Once per block, while it lasts; a second block is told again."""
    secret = "a value of a local variable"
    with Watchdog({__name__: "blocker"}, limit=0.1):
        for _ in range(2):
            time.sleep(0.5)  # noqa: ASYNC251  - this is the fault
            await asyncio.sleep(0.2)

    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "'blocker'" in told[0]
    assert "test_watchdog.py" in told[0]
    assert "\n" not in told[0]
    assert secret not in told[0]


async def test_a_plugin_that_blocks_is_named_and_others_go_on_after_it(aiohttp_server, tmp_path, monkeypatch, caplog):
    """The picture comes, the log names the plugin, and the next request is served."""
    monkeypatch.setattr("gateway.watchdog.LIMIT", 0.15)
    yaml = AUTHENTICATORS + STORAGES + "backends: {slow: {use: blocker}}\nmodels: {m: {backends: [{backend: slow}]}}\n"
    gateway = await start(aiohttp_server, yaml, tmp_path, types={"backends": {"blocker": Blocker}})
    drawn, health = await asyncio.gather(gateway.draw(), gateway.get("/health"))

    assert (drawn.status, health.status) == (200, 200)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert any("'blocker' blocks the event loop" in line for line in told), caplog.text
