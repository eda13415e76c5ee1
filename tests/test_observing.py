"""Observers get every event in order, and whatever ails one of them holds up nobody."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.contracts import Observer
from gateway.observing import FEW, WAITING, Observing
from gateway.values import Event
from tests.gateways import DEMO, start


def event(number: int, kind: str = "progress") -> Event:
    return Event("job_1", number, kind, 0.0)


@dataclass
class Diary:
    seen: list[int] = field(default_factory=list)

    async def observe(self, event: Event) -> None:
        self.seen.append(event.sequence)


@dataclass
class Broken:
    error: BaseException
    seen: int = 0

    async def observe(self, event: Event) -> None:
        self.seen += 1
        raise self.error


@dataclass
class Stuck:
    """Never comes back, and does not mind being cancelled."""

    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def observe(self, event: Event) -> None:
        while not self.over.is_set():
            try:
                await self.over.wait()
            except asyncio.CancelledError:
                continue


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given up at the end is given up soon."""
    monkeypatch.setattr("gateway.observing.LAST", 0.05)
    monkeypatch.setattr("gateway.observing.PAUSE", 0)


def opened(**observers: Observer) -> Observing:
    observing = Observing(observers)
    observing.open()
    return observing


async def test_every_observer_gets_every_event_in_order() -> None:
    """Those told before the end too."""
    one, two = Diary(), Diary()
    observing = opened(one=one, two=two)
    for number in range(500):
        observing.event(event(number))
        if number % 100 == 0:
            await asyncio.sleep(0.001)
    await observing.close()

    assert one.seen == two.seen == list(range(500))


async def test_without_observers_nothing_happens() -> None:
    """Events pass, and the end is at once."""
    observing = opened()
    observing.event(event(1))
    await observing.close()


@pytest.mark.parametrize("error", [RuntimeError("oh"), asyncio.CancelledError()], ids=["fails", "cancels itself"])
async def test_a_broken_observer_is_named_once_and_asked_again(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets each event all the same, the log has one line, the others see everything."""
    broken, diary = Broken(error), Diary()
    observing = opened(broken=broken, diary=diary)
    for number in range(20):
        observing.event(event(number))
    await observing.close()

    assert broken.seen == len(diary.seen) == 20
    assert len([record for record in caplog.records if "observer broken" in record.getMessage()]) == 1


async def test_an_observer_that_hangs_holds_up_neither_the_others_nor_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its line is bounded, the loss is told once, and the gateway ends although it swallows its cancelling."""
    stuck, diary = Stuck(), Diary()
    observing = opened(stuck=stuck, diary=diary)
    for number in range(WAITING + 500):
        observing.event(event(number))
        if number % 1000 == 0:
            await asyncio.sleep(0.001)
    await asyncio.wait_for(observing.close(), 2)

    assert len(diary.seen) == WAITING + 500
    assert len(observing._lines["stuck"]) <= WAITING
    assert len([record for record in caplog.records if "keep up; events" in record.getMessage()]) == 1
    stuck.over.set()
    await asyncio.sleep(0.01)


async def test_previews_do_not_pile_up() -> None:
    """They are large: only a few wait for an observer that does not keep up."""
    stuck = Stuck()
    observing = opened(stuck=stuck)
    for number in range(FEW * 5):
        observing.event(event(number, "partial"))

    assert len(observing._lines["stuck"]) <= FEW
    stuck.over.set()
    await observing.close()


async def test_an_observer_that_never_waits_leaves_the_loop_to_others() -> None:
    """Busy with thousands of events, it still lets everybody else have their turn between them."""

    @dataclass
    class Busy:
        async def observe(self, event: Event) -> None:
            time.sleep(0.0002)  # noqa: ASYNC251  - an observer that blocks is what is tried

    observing = opened(busy=Busy())
    for number in range(2000):
        observing.event(event(number))
    longest, began = 0.0, time.monotonic()
    while time.monotonic() - began < 0.2:
        before = time.monotonic()
        await asyncio.sleep(0)
        longest = max(longest, time.monotonic() - before)
    await observing.close()

    assert longest < 0.1


async def test_an_observer_gets_the_events_of_a_job(aiohttp_server: Any, tmp_path: Any) -> None:
    """Wired into a gateway, it sees a job from *accepted* to *finished*."""
    seen: list[str] = []

    @dataclass
    class Listening:
        async def observe(self, event: Event) -> None:
            seen.append(event.type)

    gateway = await start(
        aiohttp_server,
        DEMO + "observers: {ear: {use: listening}}\n",
        tmp_path,
        types={"observers": {"listening": Listening}},
    )
    await gateway.draw("a cat", size="64x64")
    await gateway.runtime.observing.close()

    assert (seen[0], seen[-1]) == ("accepted", "finished")
