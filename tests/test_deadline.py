"""A deadline that starts no timer for what never waits, and is a plain one for everything else."""

from __future__ import annotations

import asyncio

import pytest

from gateway.deadline import within


async def at_once() -> int:
    return 7


async def later(*pauses: float) -> list[float]:
    waited = []
    for pause in pauses:
        await asyncio.sleep(pause)
        waited.append(pause)
    return waited


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The moments for which the loop was asked to set timers."""
    loop, asked = asyncio.get_running_loop(), list[float]()
    call_at = loop.call_at
    monkeypatch.setattr(
        loop, "call_at", lambda when, *rest, **more: (asked.append(when), call_at(when, *rest, **more))[1]
    )
    return asked


async def test_what_never_waits_costs_no_timer(timers: list[float]) -> None:
    assert await within(5, at_once()) == 7
    assert timers == []


async def test_what_waits_gives_its_value_and_its_timer_is_set(timers: list[float]) -> None:
    assert await within(5, later(0, 0.001, 0)) == [0, 0.001, 0]
    assert len(timers) == 2


async def test_the_deadline_cancels_and_raises() -> None:
    seen = []

    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(TimeoutError):
        await within(0.01, stubborn())
    assert seen == ["cancelled"]
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # a test runs in a task


@pytest.mark.parametrize("pauses", [(), (0,), (0.001, 0)])
async def test_errors_come_through(pauses: tuple[float, ...]) -> None:
    async def broken() -> None:
        await later(*pauses)
        raise LookupError("nothing here")

    with pytest.raises(LookupError, match="nothing here"):
        await within(5, broken())


async def test_an_inner_deadline_stays_the_inner_ones() -> None:
    async def impatient() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            await asyncio.sleep(0)
            return "inner"
        return "none"

    assert await within(5, impatient()) == "inner"


async def test_cancelling_from_outside_is_no_time_out() -> None:
    task = asyncio.create_task(within(5, later(60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_swallows_its_cancelling_may_go_on() -> None:
    async def deaf() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "done"

    assert await within(0.01, deaf()) == "done"


async def test_any_awaitable_has_a_deadline() -> None:
    future = asyncio.get_running_loop().create_future()
    with pytest.raises(TimeoutError):
        await within(0.01, future)
    done = asyncio.get_running_loop().create_future()
    done.set_result("there")
    assert await within(5, done) == "there"


async def test_what_is_given_up_is_closed() -> None:
    closed = []

    async def open_ended() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            closed.append(True)

    coroutine = within(5, open_ended())
    coroutine.send(None)
    coroutine.close()
    assert closed == [True]
