"""The places of a backend: bounded, fair between callers, and no running place is held while a job waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.errors import BusyError
from gateway.places import Places
from tests.painters import until


class Ticket:
    """A job that notes what is done with it."""

    def __init__(self, name: str) -> None:
        self.id = name
        self.watched = True
        self.sent = False
        self.told: list[tuple[str, Mapping[str, Any]]] = []

    def tell(self, kind: str, data: Mapping[str, Any]) -> None:
        self.told.append((kind, data))

    def step_aside(self) -> None:
        self.told.append(("aside", {}))

    async def step_back(self) -> None:
        self.told.append(("back", {}))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Town:
    """One backend *b*, callers that call it, and a gate that lets calls end one after the other."""

    def __init__(self, count: int = 1, most: int = 100) -> None:
        self.places = Places({"b": count}, most)
        self.order: list[str] = []
        self.now = 0
        self.gates: dict[str, asyncio.Event] = {}

    async def call(self, name: str, ticket: Ticket | None = None) -> Ticket:
        """Call as the caller whose name is the first letter."""
        job = ticket or Ticket(name)
        async with self.places.place("b", name[0], job):
            self.order.append(name)
            self.now += 1
            try:
                await self.gates.setdefault(name, asyncio.Event()).wait()
            finally:
                self.now -= 1
        return job

    async def free(self, name: str) -> None:
        self.gates.setdefault(name, asyncio.Event()).set()
        await settle()


async def test_whoever_floods_waits_longer() -> None:
    """Ann's eight do not stand before Bob's one."""
    town = Town()
    calls = [asyncio.create_task(town.call(f"a{number}")) for number in range(8)]
    await settle()
    calls.append(asyncio.create_task(town.call("b0")))
    await settle()
    for name in ("a0", "a1", "b0", "a2", "a3", "a4", "a5", "a6", "a7"):
        await town.free(name)

    assert (await asyncio.gather(*calls))[-1].id == "b0"
    assert town.order.index("b0") <= 2


async def test_who_waits_is_told_where_and_frees_its_place_meanwhile() -> None:
    town = Town()
    first, second, third = (asyncio.create_task(town.call(name)) for name in ("a", "b", "c"))
    await settle()
    waiting = Ticket("d")
    fourth = asyncio.create_task(town.call("d", waiting))
    await settle()
    position = town.places.position(waiting)
    for name in "abcd":
        await town.free(name)
    done = [await task for task in (first, second, third, fourth)]

    assert position == 3
    assert [job.told for job in done[:2]] == [
        [],
        [("queued", {"position": 1, "backend": "b"}), ("aside", {}), ("back", {})],
    ]
    assert waiting.told[0] == ("queued", {"position": 3, "backend": "b"})
    assert town.places.position(waiting) == 0


async def test_the_line_moves_and_is_told() -> None:
    town = Town()
    waiting = Ticket("c")
    tasks = [asyncio.create_task(town.call(name)) for name in "ab"] + [asyncio.create_task(town.call("c", waiting))]
    await settle()
    await town.free("a")
    await until(lambda: len(waiting.told) >= 3)
    await town.free("b")
    await town.free("c")
    await asyncio.gather(*tasks)
    await town.places.close()

    assert [data["position"] for kind, data in waiting.told if kind == "queued"] == [2, 1]


async def test_too_many_are_refused_but_a_newcomer_still_finds_room() -> None:
    town = Town(most=3)
    tasks = [asyncio.create_task(town.call(f"a{number}")) for number in range(4)]
    await settle()
    with pytest.raises(BusyError) as refused:
        await town.call("a9")
    with pytest.raises(BusyError):
        town.places.refuse_when_full(["b"], "a")
    town.places.refuse_when_full(["b"], "z")
    town.places.refuse_when_full(["b", "idle"], "a")
    newcomer = asyncio.create_task(town.call("z"))
    await settle()
    for name in ("a0", "a1", "a2", "a3", "z"):
        await town.free(name)
    await asyncio.gather(*tasks, newcomer)

    assert refused.value.status == 429
    assert refused.value.retry_after
    assert "'b'" in refused.value.message


async def test_a_job_of_many_calls_steps_aside_once_and_is_not_refused_half_way() -> None:
    town = Town(most=1)
    busy = asyncio.create_task(town.call("a"))
    await settle()
    job = Ticket("n")
    calls = [asyncio.create_task(town.call(f"n{number}", job)) for number in range(4)]
    await settle()
    for name in ("a", "n0", "n1", "n2", "n3"):
        await town.free(name)
    await asyncio.gather(busy, *calls)

    assert [kind for kind, _ in job.told if kind != "queued"] == ["aside", "back"]


@pytest.mark.parametrize("steps", range(8))
@pytest.mark.parametrize("granted", [False, True])
async def test_cancelled_anywhere_no_place_is_lost(steps: int, granted: bool) -> None:
    """Also in the very moment in which the place is given."""
    town = Town()
    holder = asyncio.create_task(town.call("a"))
    await settle()
    unlucky = asyncio.create_task(town.call("b"))
    for _ in range(steps):
        await asyncio.sleep(0)
    if granted:
        town.gates.setdefault("a", asyncio.Event()).set()
        for _ in range(steps):
            await asyncio.sleep(0)
    unlucky.cancel()
    await asyncio.wait([unlucky])
    await town.free("a")
    await holder
    last = asyncio.create_task(town.call("c"))
    await town.free("c")
    async with asyncio.timeout(2):
        await last

    assert town.now == 0
