"""Budgets per caller: what is reserved, kept and given back, and what is told."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from gateway_plugins.middlewares.budget import Budget, parse_spend

from gateway import Calendar, Middleware
from gateway.errors import ConfigError
from tests.canaries import OTHER_KEY
from tests.fake_upstream import FakeUpstream
from tests.gateways import Gateway, drawing_by, start
from tests.painters import TWO_CALLERS, other, until

TARGET = "{backend: up, model: up-model}"


def budgeted(fake: FakeUpstream, options: str, *, targets: str = "", http: str = "", more: str = "") -> str:
    """Give a YAML whose model ``flux`` costs 0.04 a picture and has a budget with *options*."""
    targets = targets or TARGET.replace("}", ", price: 0.04}")
    yaml = drawing_by(fake.base, f"middlewares: {{money: {{use: budget, {options}}}}}\n" + more)
    yaml = TWO_CALLERS + yaml[yaml.index("storages") :]
    return yaml.replace(f"[{TARGET}]", f"[{targets}], middlewares: [money]").replace(
        "dialect: custom,", f"dialect: custom, {http}"
    )


@pytest.fixture
def gateway_with(aiohttp_server: Any, tmp_path: Path, fake: FakeUpstream) -> Any:
    """Start a gateway with a budget."""

    async def make(options: str, **given: str) -> Gateway:
        return await start(aiohttp_server, budgeted(fake, options, **given), tmp_path)

    return make


async def statuses(gateway: Gateway, count: int, **fields: Any) -> list[int]:
    return [(await gateway.draw(model="flux", **fields)).status for _ in range(count)]


def test_it_fulfils_the_contract() -> None:
    """It stands around each attempt, where the cost is known, and wants prices."""
    budget = Budget(parse_spend("5.00/day"))

    assert isinstance(budget, Middleware)
    assert budget.stages == ("attempt",)
    assert budget.needs_prices


def test_budgets_are_read_as_people_write_them() -> None:
    """To the millionth, without a float between."""
    assert parse_spend("5.00/day") == Calendar(5_000_000, "day")
    assert parse_spend(" 0.000001 / month ") == Calendar(1, "month")
    assert parse_spend("0/hour") == Calendar(0, "hour")
    assert parse_spend("4.35/day").count == Decimal("4.35") * 10**6


@pytest.mark.parametrize("text", ["5", "5/week", "-1/day", "5,00/day", "$5/day", "5/", "0.0000001/day", 5, True, None])
def test_what_is_no_budget_is_refused(text: Any) -> None:
    """The complaint shows how to write one."""
    with pytest.raises(ValueError, match=r"5\.00/day \(periods: minute, hour, day, month\)"):
        parse_spend(text)


async def test_spent_is_spent(gateway_with: Any, fake: FakeUpstream) -> None:
    """Three pictures fit; the fourth is a 429 that no SDK repeats, says how things stand, and sends nothing."""
    gateway = await gateway_with("spend: 0.13/day")
    drawn = await statuses(gateway, 3)
    answer = await gateway.draw(model="flux")
    theirs = await gateway.draw(model="flux", user="x")
    await gateway.post("/v1/images/generations", {"prompt": "a cat", "model": "flux"}, headers=other())

    assert drawn == [200, 200, 200]
    assert (answer.status, answer.error["code"], answer.error["type"]) == (429, *["insufficient_quota"] * 2)
    assert "would cost 0.04, and 0.12 of the budget of 0.13 per day are spent" in answer.error["message"]
    assert "UTC" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert 0 < int(answer.headers["Retry-After"]) <= 86400
    assert theirs.status == 429
    assert len(fake.paid()) == 4  # three of one caller, one of the other


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_chat_hears_it_with_a_status(gateway_with: Any, streamed: bool) -> None:
    """Streams too: nothing has begun yet."""
    gateway = await gateway_with("spend: 0.04/day")
    assert (await gateway.chat(model="flux")).status == 200
    answer = await gateway.chat(model="flux", stream=streamed)

    assert (answer.status, answer.error["code"]) == (429, "insufficient_quota")


async def test_callers_have_budgets_of_their_own(gateway_with: Any) -> None:
    """By name, with their own period; 0 means nothing, and a call that could never fit is told so with a 400."""
    gateway = await gateway_with("spend: 0.04/day, callers: {bob: 0.08/month, ann: 0/day}")
    answer = await gateway.draw(model="flux")
    bobs = [
        (await gateway.post("/v1/images/generations", {"prompt": "a cat", "model": "flux"}, headers=other())).status
        for _ in range(3)
    ]

    assert answer.status == 400
    assert answer.error["message"] == "this call would cost 0.04, more than the whole budget of 0 per day"
    assert answer.headers["x-should-retry"] == "false"
    assert bobs == [200, 200, 429]


async def test_every_picture_costs(gateway_with: Any, fake: FakeUpstream) -> None:
    """Three at once cost three times as much, and are refused whole before the first is sent."""
    gateway = await gateway_with("spend: 0.16/day")
    assert (await gateway.draw(model="flux", n=3)).status == 200
    refused = await gateway.draw(model="flux", n=2)

    assert refused.status == 429
    assert "would cost 0.08, and 0.12" in refused.error["message"]
    assert len(fake.paid()) == 3
    assert await statuses(gateway, 2) == [200, 429]


async def test_a_price_by_size_is_reckoned_so(gateway_with: Any) -> None:
    """One megapixel and a bit at 0.01, as the receipt says."""
    gateway = await gateway_with("spend: 0.03/day", targets=TARGET.replace("}", ", price_per_megapixel: 0.01}"))
    first = await gateway.draw(model="flux", size="1024x1024")
    second = await gateway.draw(model="flux", size="1024x1024")
    third = await gateway.draw(model="flux", size="1024x1024")

    assert first.json["gateway"]["receipt"]["cost"] == pytest.approx(0.01048576)
    assert (second.status, third.status) == (200, 429)
    assert "0.020972 of the budget of 0.03" in third.error["message"]


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        ("status:400", False),
        ("status:500", False),
        ("refuse", True),
        ("cut", True),
        ("reset", True),
        ("hang", True),
        ("html:200", True),
    ],
)
async def test_what_may_be_billed_is_kept_and_nothing_else(
    gateway_with: Any, fake: FakeUpstream, mode: str, kept: bool
) -> None:
    """A clear no of the upstream costs nothing; what nobody can know, such as a time-out after sending, stays spent."""
    gateway = await gateway_with("spend: 0.04/day", http="http: {first_byte: 300ms, total: 500ms},")
    fake.modes.append(mode)
    failed = await gateway.draw(model="flux")
    again = await gateway.draw(model="flux")

    assert failed.status >= 400
    assert again.status == (429 if kept else 200), again.text


async def test_a_refused_connection_costs_nothing(aiohttp_server: Any, tmp_path: Path, fake: FakeUpstream) -> None:
    """Nothing was sent; the next target draws, and only its price is spent."""
    down = "  down: {use: openai_images, base_url: 'http://127.0.0.1:1/v1', keys: [k], dialect: localai}\nmodels:"
    targets = "{backend: down, model: m, price: 0.09}, {backend: up, model: up-model, price: 0.04, weight: 0}"
    yaml = budgeted(fake, "spend: 0.10/day", targets=targets).replace("models:", down)
    gateway = await start(aiohttp_server, yaml, tmp_path)
    answer = await gateway.draw(model="flux")

    assert [attempt["outcome"] for attempt in answer.json["gateway"]["receipt"]["attempts"]] == [
        "upstream_unreachable",
        "ok",
    ]
    assert (await gateway.draw(model="flux")).json["error"]["message"].count("0.04 of the budget") == 1


async def test_a_job_that_ran_out_of_time_after_sending_is_kept(gateway_with: Any, fake: FakeUpstream) -> None:
    """The job's own limit ends it while the upstream works: that may be billed."""
    gateway = await gateway_with("spend: 0.04/day", more="jobs: {timeout: 300ms}\n")
    fake.modes.append("hang")
    failed = await gateway.draw(model="flux")
    again = await gateway.draw(model="flux")

    assert (failed.status, again.status) == (504, 429)


async def test_some_of_several_that_surely_cost_nothing_are_given_back(gateway_with: Any, fake: FakeUpstream) -> None:
    """Of three calls of one job two fail without a bill: one picture is spent, as the receipt says."""
    gateway = await gateway_with("spend: 0.12/day")
    fake.modes.extend(["status:500", "ok", "status:500"])
    answer = await gateway.draw(model="flux", n=3)

    assert answer.json["gateway"]["receipt"]["cost"] == 0.04
    assert await statuses(gateway, 3) == [200, 200, 429]


async def test_one_of_several_that_may_be_billed_keeps_all(gateway_with: Any, fake: FakeUpstream) -> None:
    """Whichever error is told: the safe side is the one that never exceeds the budget."""
    gateway = await gateway_with("spend: 0.12/day")
    fake.modes.extend(["status:400", "cut", "status:400"])
    assert (await gateway.draw(model="flux", n=3)).status >= 400

    assert (await gateway.draw(model="flux")).status == 429


async def test_what_is_in_work_is_reserved(gateway_with: Any, fake: FakeUpstream) -> None:
    """While one picture is drawn its cost is not there for another."""
    gateway = await gateway_with("spend: 0.07/day")
    fake.mode = "hang"
    drawing = asyncio.create_task(gateway.draw(model="flux"))
    await until(fake.paid)
    refused = await gateway.draw(model="flux")
    fake.released.set()

    assert refused.status == 429
    assert (await drawing).status == 200
    assert len(fake.paid()) == 1


async def test_without_a_price_it_does_not_start(aiohttp_server: Any, tmp_path: Path, fake: FakeUpstream) -> None:
    """The complaint names the target's place, and says what to write."""
    yaml = budgeted(fake, "spend: 1/day", targets=TARGET)

    place = r"config\.yaml:\d+:\d+ models\.flux\.backends\[0\]: "
    with pytest.raises(ConfigError, match=place + '"money" reckons') as told:
        await start(aiohttp_server, yaml, tmp_path)
    assert "price_per_megapixel" in str(told.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("spend: 5", r"middlewares\.money\.spend: not a budget"),
        ("spend: 1/day, callers: {bob: much}", r"middlewares\.money\.callers\.bob: not a budget"),
        ("spend: 1/day, on_store_error: allow", "of no use without state"),
        ("spend: 1/day, state: 'redis://:a/b@c'", "state: this is not a URL of Redis"),
    ],
)
async def test_what_makes_no_sense_is_refused_at_the_start(
    aiohttp_server: Any, tmp_path: Path, fake: FakeUpstream, options: str, words: str
) -> None:
    """With the place."""
    with pytest.raises(ConfigError, match=words):
        await start(aiohttp_server, budgeted(fake, options), tmp_path)


async def test_free_pictures_ask_no_store(gateway_with: Any) -> None:
    """A target that costs nothing draws, whatever is spent and whether the store is there or not."""
    free = TARGET.replace("}", ", price: 0}")
    gateway = await gateway_with("spend: 0/day, state: 'redis://127.0.0.1:1/0'", targets=free)

    assert (await gateway.draw(model="flux")).status == 200


async def test_memory_says_at_the_start_that_it_forgets(
    gateway_with: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file says nothing."""
    caplog.set_level(logging.WARNING)
    await gateway_with(f"spend: 1/day, state: {tmp_path / 'spent.db'}")
    assert "forgotten" not in caplog.text
    await gateway_with("spend: 1/day")

    assert "middlewares.money: what is spent is kept in memory and forgotten" in caplog.text
    assert OTHER_KEY not in caplog.text
