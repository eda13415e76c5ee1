"""``jobs.per_backend`` over HTTP: fair, visible, bounded, and of no harm to other backends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.capabilities import Capabilities
from gateway.contracts import Report
from gateway.errors import BusyUpstreamError
from gateway.values import Image, ImageRequest, Size
from tests.gateways import STORAGES, Gateway, start
from tests.painters import DRAW, HELD, PICTURE, TWO_CALLERS, finished, later, other, painter, until

TWO_BACKENDS = (
    TWO_CALLERS
    + STORAGES
    + "backends: {painter: {use: held}, idle: {use: held, delay: 1ms}}\n"
    + "models: {held: {backends: [{backend: painter}]}, idle: {backends: [{backend: idle}]}}\n"
)


async def gateway(aiohttp_server: Any, tmp_path: Path, jobs: str) -> Gateway:
    return await start(aiohttp_server, f"{TWO_BACKENDS}jobs: {jobs}\n", tmp_path, types=HELD)


async def of_bob(town: Gateway, prompt: str = "bob's") -> str:
    answer = await town.post("/v1/images/generations", {**DRAW, "prompt": prompt, "async": True}, headers=other())
    return str(answer.json["id"])


async def state(town: Gateway, identity: str) -> Any:
    return (await town.get(f"/v1/jobs/{identity}")).json


async def test_the_line_of_a_backend_is_fair_and_seen(aiohttp_server: Any, tmp_path: Path) -> None:
    """Bob's one comes before most of Ann's eight, who see where they stand."""
    town = await gateway(aiohttp_server, tmp_path, "{per_backend: {painter: 1}}")
    anns = [await later(town, prompt=f"ann's {number}") for number in range(8)]
    await of_bob(town)
    states = [await state(town, identity) for identity in anns]
    painter(town).free.set()
    events = await town.get(f"/v1/jobs/{anns[7]}/events")

    assert [found["status"] for found in states] == ["in_progress"] + ["queued"] * 7
    assert [found["queue_position"] for found in states][:2] == [0, 1]
    assert states[7]["queue_position"] == 8
    assert [request.prompt for request in painter(town).requests].index("bob's") <= 2
    assert "event: queued" in events.text
    assert '"backend":"painter"' in events.text
    assert (await finished(town, anns[7]))["status"] == "completed"


async def test_who_waits_for_one_backend_takes_no_place_of_another(aiohttp_server: Any, tmp_path: Path) -> None:
    """Four jobs fill all running places of a gateway, were they to hold them while they wait."""
    town = await gateway(aiohttp_server, tmp_path, "{per_backend: {painter: 1}, running: 4}")
    anns = [await later(town) for _ in range(4)]
    quick = await town.draw("bob's", model="idle")
    painter(town).free.set()

    assert quick.status == 200
    assert [(await finished(town, identity))["status"] for identity in anns] == ["completed"] * 4
    assert town.runtime.jobs.counts == {"running": 0, "waiting": 0}


@pytest.mark.parametrize("how", [{}, {"async": True}, {"stream": True}])
async def test_a_full_line_is_told_at_once(aiohttp_server: Any, tmp_path: Path, how: dict[str, bool]) -> None:
    """429 with Retry-After, streams and jobs to come back for included; others still find room."""
    town = await gateway(aiohttp_server, tmp_path, "{per_backend: {painter: 1}, waiting: 3}")
    anns = [await later(town, prompt=f"ann's {number}") for number in range(4)]
    await until(lambda: len(painter(town).requests) == 1)
    refused = await town.post("/v1/images/generations", {**DRAW, **how})
    bobs = await of_bob(town)
    painter(town).free.set()

    assert refused.status == 429
    assert int(refused.headers["Retry-After"]) >= 1
    assert (await finished(town, anns[3]))["status"] == "completed"
    assert (await town.get(f"/v1/jobs/{bobs}", headers=other())).json["status"] in (
        "queued",
        "in_progress",
        "completed",
    )


async def test_a_limit_for_each_caller_holds_beside_it(aiohttp_server: Any, tmp_path: Path) -> None:
    """Who comes back from waiting for a backend still runs no more jobs than the caller may."""
    town = await gateway(aiohttp_server, tmp_path, "{per_backend: {painter: 1}, per_caller: 2, running: 8}")
    anns = [await later(town) for _ in range(5)]
    running = []
    painter(town).free.set()
    for identity in anns:
        await finished(town, identity)
        running.append(town.runtime.jobs.counts["running"])

    assert max(running) <= 2
    assert town.runtime.jobs.counts == {"running": 0, "waiting": 0}


async def test_who_waits_for_a_backend_can_be_cancelled(aiohttp_server: Any, tmp_path: Path) -> None:
    """No place is lost by it, nothing is sent for it."""
    town = await gateway(aiohttp_server, tmp_path, "{per_backend: {painter: 1}, running: 2}")
    anns = [await later(town) for _ in range(3)]
    gone = await town.ask("DELETE", f"/v1/jobs/{anns[1]}")
    painter(town).free.set()
    ends = [(await finished(town, identity))["status"] for identity in anns]

    assert gone.status == 200
    assert ends == ["completed", "cancelled", "completed"]
    assert len(painter(town).requests) == 2
    assert town.runtime.jobs.counts == {"running": 0, "waiting": 0}
    assert (await town.draw("another", model="held")).status == 200


@dataclass
class OneByOne:
    """Makes one picture a call; those from the one numbered *hangs* on never come."""

    hangs: int = 100
    calls: int = field(init=False, default=0)

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(sizes=(Size(64, 64),), count=1)

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        report.sending()
        self.calls += 1
        await asyncio.sleep(0.02 if self.calls < self.hangs else 60)
        return [Image(PICTURE)]


async def lined_up(aiohttp_server: Any, tmp_path: Path, limits: str, middlewares: str = "") -> Gateway:
    """A gateway whose painter makes one picture a call, and one call at a time."""
    yaml = (
        TWO_CALLERS
        + STORAGES
        + "middlewares: {cache: {use: cache}}\nbackends: {painter: {use: one_by_one}}\n"
        + f"models: {{held: {{middlewares: [{middlewares}], backends: [{{backend: painter}}]}}}}\n"
        + f"jobs: {{{limits}, per_backend: {{painter: 1}}, timeout: 8s}}\n"
    )
    return await start(aiohttp_server, yaml, tmp_path, types={"backends": {"one_by_one": OneByOne}})


@pytest.mark.parametrize("limits", ["running: 2", "running: 64, per_caller: 2", "running: 1"])
async def test_jobs_of_many_calls_do_not_wait_for_each_other_for_ever(
    aiohttp_server: Any, tmp_path: Path, limits: str
) -> None:
    """Who waits for the next of its calls holds no running place, which the one whose turn it is needs."""
    town = await lined_up(aiohttp_server, tmp_path, limits)
    jobs = [await later(town, n=5) for _ in range(3)]
    ends = [await finished(town, identity) for identity in jobs]
    backend: Any = town.runtime.backends["painter"]

    assert [end["status"] for end in ends] == ["completed"] * 3
    assert [len(end["result"]["data"]) for end in ends] == [5, 5, 5]
    assert backend.calls == 15
    assert town.runtime.jobs.counts == {"running": 0, "waiting": 0}


@pytest.mark.parametrize("limits", ["running: 2", "running: 64, per_caller: 1"])
async def test_those_who_wait_for_the_same_picture_leave_it_its_place(
    aiohttp_server: Any, tmp_path: Path, limits: str
) -> None:
    """`cache` lets them wait for the one that draws, which stands in its backend's line and needs a place after it."""
    town = await lined_up(aiohttp_server, tmp_path, limits, middlewares="cache")
    first = await later(town, n=5)
    same = [await later(town, prompt="a dog", seed=5) for _ in range(3)]
    ends = [await finished(town, identity) for identity in (first, *same)]
    backend: Any = town.runtime.backends["painter"]

    assert [end["status"] for end in ends] == ["completed"] * 4
    assert backend.calls == 6
    assert town.runtime.jobs.counts == {"running": 0, "waiting": 0}


async def test_those_who_wait_for_the_same_picture_are_bounded(aiohttp_server: Any, tmp_path: Path) -> None:
    """They hold no places, but each holds its request."""
    yaml = (
        TWO_CALLERS
        + STORAGES
        + "middlewares: {cache: {use: cache}}\nbackends: {painter: {use: held}}\n"
        + "models: {held: {middlewares: [cache], backends: [{backend: painter}]}}\n"
        + "jobs: {running: 2, waiting: 3}\n"
    )
    town = await start(aiohttp_server, yaml, tmp_path, types=HELD)
    leader = await later(town, prompt="a dog", seed=5)
    await until(lambda: len(painter(town).requests) == 1)
    same = [await later(town, prompt="a dog", seed=5) for _ in range(4)]
    refused = await finished(town, same[-1])

    assert town.runtime.jobs.counts == {"running": 1, "waiting": 3}
    assert refused["error"]["code"] == "too_many_jobs"
    painter(town).free.set()
    ends = [await finished(town, identity) for identity in (leader, *same[:-1])]
    assert [end["status"] for end in ends] == ["completed"] * 4
    assert town.runtime.jobs.counts == {"running": 0, "waiting": 0}


async def narrow(aiohttp_server: Any, tmp_path: Path, models: str) -> Gateway:
    """One call works for the painter and one waits; the idle one draws at once."""
    yaml = (
        TWO_CALLERS
        + STORAGES
        + "backends: {painter: {use: held}, idle: {use: held, delay: 1ms}}\n"
        + f"models: {models}\njobs: {{waiting: 1, per_backend: {{painter: 1}}}}\n"
    )
    return await start(aiohttp_server, yaml, tmp_path, types=HELD)


async def test_a_full_line_is_the_next_targets_turn(aiohttp_server: Any, tmp_path: Path) -> None:
    """Nothing was sent: what stands idle beside it draws."""
    models = "{held: {backends: [{backend: painter}, {backend: idle, weight: 0}]}}"
    town = await narrow(aiohttp_server, tmp_path, models)
    jobs = [await later(town) for _ in range(2)]
    await until(lambda: len(painter(town).requests) == 1)
    answers = [await town.draw("a fox", model="held") for _ in range(3)]
    painter(town).free.set()
    idle: Any = town.runtime.backends["idle"]

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert len(idle.requests) == 3
    assert [(await finished(town, identity))["status"] for identity in jobs] == ["completed"] * 2


async def test_a_full_line_met_on_the_way_is_waited_in(aiohttp_server: Any, tmp_path: Path) -> None:
    """Something was sent for the job already: it is not refused for want of room in the next target's line."""
    first_then = "{held: {backends: [{backend: idle}, {backend: painter, weight: 0}]}"
    town = await narrow(aiohttp_server, tmp_path, first_then + ", full: {backends: [{backend: painter}]}}")
    jobs = [await later(town, model="full") for _ in range(2)]
    await until(lambda: len(painter(town).requests) == 1)
    first: Any = town.runtime.backends["idle"]
    first.faults.append(BusyUpstreamError("busy"))
    waits = await later(town)
    await until(lambda: first.requests and not first.faults)
    painter(town).free.set()

    assert [(await finished(town, identity))["status"] for identity in (*jobs, waits)] == ["completed"] * 3
    assert [len(first.requests), len(painter(town).requests)] == [1, 3]


@pytest.mark.parametrize(("hangs", "status", "came"), [(4, 200, 3), (1, 504, 0)])
async def test_what_came_in_time_is_given(
    aiohttp_server: Any, tmp_path: Path, hangs: int, status: int, came: int
) -> None:
    """Three of four calls were answered when the job's time was over: they are paid for, and the receipt says so."""
    yaml = (
        TWO_CALLERS
        + STORAGES
        + f"backends: {{painter: {{use: one_by_one, hangs: {hangs}}}}}\n"
        + "models: {held: {backends: [{backend: painter}]}}\njobs: {timeout: 500ms}\n"
    )
    town = await start(aiohttp_server, yaml, tmp_path, types={"backends": {"one_by_one": OneByOne}})
    answer = await town.draw("a fox", model="held", n=4)

    assert answer.status == status, answer.text
    assert len(answer.json.get("data", [])) == came
    if came:
        assert "upstream_timeout" in str(answer.json["gateway"]["receipt"]["notes"])
    assert town.runtime.jobs.counts == {"running": 0, "waiting": 0}
