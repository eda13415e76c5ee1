"""Several gateways in front of one Valkey (or file): limits and budgets hold for all of them together."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.fake_upstream import FakeUpstream
from tests.gateways import Answered, drawing_by, start
from tests.plugins.storages.servers import Valkey
from tests.presets.process import Process, killed, serve_file

Serve = Callable[..., Any]
PATH = "/v1/images/generations"
DRAW = {"prompt": "a cat", "model": "flux"}


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Any]:
    """A Valkey of each test's own, which may be killed."""
    (tmp_path / "valkey").mkdir()
    server = Valkey(tmp_path / "valkey").start()  # type: ignore[no-untyped-call]  # a test's own server
    # A killed process loses nothing by it, and a busy disk must not look like a Valkey that stalls.
    with redis.from_url(server.url) as client:
        client.config_set("appendfsync", "no")
    yield server
    server.kill()


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Start the real command several times with one configuration."""
    started: list[Process] = []

    async def serve(yaml: str, count: int) -> list[Process]:
        begun = await asyncio.gather(*(asyncio.to_thread(serve_file, tmp_path, yaml) for _ in range(count)))
        started.extend(begun)
        return begun

    yield serve
    for process in started:
        killed(process)


def guarded(fake: FakeUpstream, middleware: str, price: str = "0.04") -> str:
    """Give a YAML whose model ``flux`` has this middleware."""
    yaml = drawing_by(fake.base, f"middlewares: {{guard: {{{middleware}}}}}\njobs: {{waiting: 4096}}\n")
    return yaml.replace("model: up-model}]", f"model: up-model, price: {price}}}], middlewares: [guard]")


def place(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> str:
    return str(tmp_path / "shared.db") if kind == "file" else str(request.getfixturevalue("valkey").url)


async def burst(processes: list[Process], clients: int, calls: int) -> list[Answered]:
    """Let so many clients, spread over the gateways, call so often one after the other, all at the same time.

    Where the counters were too slow on a busy machine they ask again.
    """

    async def call(process: Process) -> Answered:
        while (answer := await process.ask("POST", PATH, json=DRAW)).status == 503:
            assert answer.error["code"] == "counters_unavailable"
            await asyncio.sleep(int(answer.headers["Retry-After"]))
        return answer

    async def client(process: Process) -> list[Answered]:
        return [await call(process) for _ in range(calls)]

    turns = itertools.islice(itertools.cycle(processes), clients)
    return [answer for answers in await asyncio.gather(*map(client, turns)) for answer in answers]


def drawn(answers: list[Answered], processes: list[Process], most: int) -> int:
    """Count what was drawn: *most*, or fewer if a take was lost with an answer that came too late; never more."""
    count = sum(answer.status == 200 for answer in answers)
    late = any("cannot be used" in process.stderr.read_text() for process in processes)
    assert count == most or (late and 0.9 * most < count < most), Counter(answer.status for answer in answers)
    assert {answer.status for answer in answers} <= {200, 429}
    return count


@pytest.mark.parametrize("count", [1, 3])
async def test_fifty_clients_get_the_limit_and_no_picture_more(
    serve: Serve, fake: FakeUpstream, valkey: Any, count: int
) -> None:
    """Of 200 calls exactly as many are drawn as one window allows, whoever is asked; the others hear when to come."""
    options = f"use: limits, images: 90/hour, on_store_error: deny, state: '{valkey.url}'"
    processes = await serve(guarded(fake, options), count)
    answers = await burst(processes, 50, 4)
    refused = [answer for answer in answers if answer.status == 429]

    assert len(fake.paid()) == drawn(answers, processes, 90)
    assert {answer.error["code"] for answer in refused} == {"rate_limit_exceeded"}
    assert all(3500 < int(answer.headers["Retry-After"]) <= 3600 for answer in refused)


async def test_an_obedient_client_is_never_refused_twice(serve: Serve, fake: FakeUpstream, valkey: Any) -> None:
    """It asks a gateway after the other, waits as it was told, and is served by whichever it asks then."""
    processes = await serve(
        guarded(fake, f"use: limits, images: 5/second, on_store_error: deny, state: '{valkey.url}'"), 3
    )
    refused, turns = 0, itertools.cycle(processes)
    async with asyncio.timeout(60):
        while refused < 3:
            answers = await burst([next(turns) for _ in range(3)], 6, 1)
            for answer in [answer for answer in answers if answer.status == 429]:
                refused += 1
                await asyncio.sleep(int(answer.headers["Retry-After"]))
                assert (await burst([next(turns)], 1, 1))[0].status == 200


@pytest.mark.parametrize("kind", ["valkey", "file"])
async def test_no_picture_more_than_the_budget_allows_even_after_a_restart(
    serve: Serve, fake: FakeUpstream, tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """A hundred calls at once over three gateways, for half of which the money is there; then all are killed."""
    yaml = guarded(fake, f"use: budget, spend: 2.00/month, state: '{place(request, kind, tmp_path)}'")
    processes = await serve(yaml, 3)
    answers = await burst(processes, 100, 1)
    for process in processes:
        killed(process)
    again = await burst(await serve(yaml, 3), 6, 1)

    assert len(fake.paid()) == drawn(answers, processes, 50)
    assert {answer.status for answer in again} == {429}
    assert {answer.error["code"] for answer in again} == {"insufficient_quota"}


@pytest.mark.parametrize("kind", ["valkey", "file"])
async def test_what_failed_for_nothing_is_there_for_the_others(
    serve: Serve, fake: FakeUpstream, tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """Ten calls are rejected by the upstream, ten break off and may be billed: the others get the rest, exactly."""
    yaml = guarded(fake, f"use: budget, spend: 2.00/month, state: '{place(request, kind, tmp_path)}'")
    processes = await serve(yaml, 3)
    fake.modes.extend(["status:400", "cut"] * 10)
    failed = await burst(processes, 20, 1)
    answers = await burst(processes, 60, 1)

    assert Counter(answer.status for answer in failed) == {400: 10, 502: 10}
    assert len(fake.paid()) == 20 + drawn(answers, processes, 40)


@pytest.mark.parametrize(
    ("options", "statuses"),
    [
        ("use: limits, images: 9/hour, replicas: 3", [200, 200, 200, 429]),
        ("use: limits, images: 9/hour, on_store_error: deny", [503] * 4),
        ("use: limits, images: 9/hour, on_store_error: allow", [200] * 4),
        ("use: budget, spend: 1/month", [503] * 4),
        ("use: budget, spend: 1/month, on_store_error: allow", [200] * 4),
    ],
    ids=["local", "limits deny", "limits allow", "budget deny", "budget allow"],
)
async def test_a_valkey_that_is_killed_and_comes_back(
    aiohttp_server: Any,
    tmp_path: Path,
    fake: FakeUpstream,
    valkey: Any,
    caplog: pytest.LogCaptureFixture,
    options: str,
    statuses: list[int],
) -> None:
    """The stated policy meanwhile, no call slower for it, one line in the log; afterwards it counts on by itself."""
    yaml = guarded(fake, f"{options}, state: '{valkey.url}'")
    gateway = await start(aiohttp_server, yaml, tmp_path)
    assert (await gateway.draw(model="flux")).status == 200
    await asyncio.to_thread(valkey.kill)
    began = time.monotonic()
    answers = [await gateway.draw(model="flux") for _ in statuses]
    took = time.monotonic() - began
    await asyncio.to_thread(valkey.start)
    async with asyncio.timeout(20):
        while "can be used again" not in caplog.text:
            await gateway.draw(model="flux")
            await asyncio.sleep(0.05)

    assert [answer.status for answer in answers] == statuses
    for answer in answers:
        if answer.status == 503:
            assert answer.error["code"] == "counters_unavailable"
            assert answer.headers["Retry-After"] == "1"
    assert took < 0.3 * len(statuses) + 1
    assert caplog.text.count("cannot be used (") == 1
    assert (await gateway.draw(model="flux")).status == 200


async def test_a_gateway_starts_without_its_valkey(
    aiohttp_server: Any, tmp_path: Path, fake: FakeUpstream, valkey: Any
) -> None:
    """Limits are counted by itself until then."""
    valkey.kill()
    yaml = guarded(fake, f"use: limits, images: 2/hour, state: '{valkey.url}'")
    gateway = await start(aiohttp_server, yaml, tmp_path)

    assert [(await gateway.draw(model="flux")).status for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 11}, "n"),
        ({"n": 0}, "n"),
        ({"size": "99999x99999"}, "size"),
        ({"size": "9000x1024"}, "size"),
        ({"steps": 1001}, "steps"),
    ],
)
async def test_absurd_calls_are_refused_and_count_nothing(
    aiohttp_server: Any, tmp_path: Path, fake: FakeUpstream, fields: dict[str, Any], param: str
) -> None:
    """400 with the field's name; all of the limit is there afterwards, and a call for ten takes all of it."""
    gateway = await start(aiohttp_server, guarded(fake, "use: limits, images: 10/hour"), tmp_path)
    absurd = await gateway.draw(model="flux", **fields)
    ten = await gateway.draw(model="flux", n=10)
    another = await gateway.draw(model="flux")

    assert (absurd.status, absurd.error["param"]) == (400, param)
    assert len(ten.json["data"]) == len(fake.paid()) == 10
    assert another.status == 429
