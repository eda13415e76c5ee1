"""Clients that repeat a call without saying so, whatever ``x-should-retry`` says, or because they waited no longer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import BusyUpstreamError, RefusedError, UpstreamTimeoutError
from gateway.values import Caller
from tests.gateways import Gateway, start
from tests.painters import DRAW, HELD, holding, other, painter, until

AI_SDK = {"User-Agent": "ai/7.0.173 ai-sdk-provider-utils/5.0.81 node.js/v20.20.2"}
"""Recorded."""
LANGCHAIN = {"User-Agent": "langchainjs-openai/1.0.0 ((node/v20.20.2; linux; x64))", "x-stainless-retry-count": "0"}
"""OpenAI's SDK, told to repeat nothing: LangChain.js does it itself."""
OLD = {"User-Agent": "OpenAI/Python 1.30.0"}
"""It repeats what took too long, and does not count yet."""
URL = "/v1/images/generations"


@pytest.fixture
async def gateway(aiohttp_server: Any, tmp_path: Path) -> Gateway:
    """A gateway whose backend fails as the test says."""
    made = await start(aiohttp_server, holding(), tmp_path, types=HELD)
    painter(made).free.set()
    return made


@pytest.mark.parametrize("client", [AI_SDK, LANGCHAIN], ids=["AI SDK", "LangChain.js"])
async def test_what_may_be_billed_is_not_made_again(gateway: Gateway, client: Any) -> None:
    """Its three tries are one upstream call, and each is told the same."""
    painter(gateway).faults = [UpstreamTimeoutError("it took too long")]
    answers = [await gateway.post(URL, DRAW, headers=client) for _ in range(3)]

    assert [answer.status for answer in answers] == [504] * 3
    assert len({answer.error["message"] for answer in answers}) == 1
    assert len(painter(gateway).requests) == 1


@pytest.mark.parametrize(("client", "seconds"), [(AI_SDK, 16), (LANGCHAIN, 71)], ids=["AI SDK", "LangChain.js"])
async def test_it_ends_with_the_window(gateway: Gateway, client: Any, seconds: float) -> None:
    """Counted from its last try; after it, the same words are a new wish."""
    painter(gateway).faults = [UpstreamTimeoutError("it took too long")]
    await gateway.post(URL, DRAW, headers=client)
    (job,) = gateway.runtime.jobs.all(Caller("ann"))
    assert job.ended
    job.ended -= seconds - 2
    assert (await gateway.post(URL, DRAW, headers=client)).status == 504
    job.asked -= seconds - 2
    assert (await gateway.post(URL, DRAW, headers=client)).status == 504
    job.asked, job.ended = job.asked - seconds, job.ended - 3

    assert (await gateway.post(URL, DRAW, headers=client)).status == 200


async def test_nobody_is_told_the_same_for_ever(gateway: Gateway) -> None:
    """Who asks every ten seconds gets another try in the end."""
    painter(gateway).faults = [UpstreamTimeoutError("it took too long")]
    await gateway.post(URL, DRAW, headers=AI_SDK)
    (job,) = gateway.runtime.jobs.all(Caller("ann"))
    assert job.ended
    job.asked, job.ended = job.ended - 10, job.ended - 136

    assert (await gateway.post(URL, DRAW, headers=AI_SDK)).status == 200


@pytest.mark.parametrize("client", [AI_SDK, LANGCHAIN, OLD, {"User-Agent": "curl/8"}])
@pytest.mark.parametrize("finished", [False, True], ids=["while it is drawn", "when it is done"])
async def test_who_went_without_an_answer_gets_it_when_it_comes_again(
    gateway: Gateway, client: Any, finished: bool
) -> None:
    """A client's time was over, or a proxy cut the line: the picture is paid for, and still wanted."""
    painter(gateway).free.clear()
    first = asyncio.create_task(gateway.post(URL, DRAW, headers=client))
    await until(lambda: painter(gateway).requests)
    first.cancel()
    (job,) = gateway.runtime.jobs.all(Caller("ann"))
    await until(lambda: not job.readers)
    if finished:
        painter(gateway).free.set()
        await until(lambda: job.done)
    second = asyncio.create_task(gateway.post(URL, DRAW, headers=client))
    await asyncio.sleep(0.05)
    painter(gateway).free.set()

    assert (await second).status == 200
    assert len(painter(gateway).requests) == 1
    assert (await gateway.post(URL, DRAW, headers=client)).status == 200
    assert len(painter(gateway).requests) == 2


async def test_long_after_that_it_is_a_new_wish(gateway: Gateway) -> None:
    """The one who went does not come back any more."""
    painter(gateway).free.clear()
    first = asyncio.create_task(gateway.post(URL, DRAW, headers=OLD))
    await until(lambda: painter(gateway).requests)
    first.cancel()
    (job,) = gateway.runtime.jobs.all(Caller("ann"))
    await until(lambda: job.left)
    assert job.left
    painter(gateway).free.set()
    job.left -= 16

    assert (await gateway.post(URL, DRAW, headers=OLD)).status == 200
    assert len(painter(gateway).requests) == 2


async def test_one_of_several_alike_comes_again(gateway: Gateway) -> None:
    """Three pictures of the same words are three calls of the AI SDK; the failure of the first is that of the first."""
    painter(gateway).faults = [UpstreamTimeoutError("it took too long")]
    first = await gateway.post(URL, DRAW, headers=AI_SDK)
    others = [await gateway.post(URL, {**DRAW}, headers={"User-Agent": "curl/8"}) for _ in range(2)]
    again = await gateway.post(URL, DRAW, headers=AI_SDK)

    assert [first.status, *(each.status for each in others), again.status] == [504, 200, 200, 504]
    assert len(painter(gateway).requests) == 3


async def test_what_cost_nothing_is_tried_again(gateway: Gateway) -> None:
    """An upstream that was busy may have a place by now."""
    painter(gateway).faults = [BusyUpstreamError("busy")]
    assert (await gateway.post(URL, DRAW, headers=AI_SDK)).status == 502

    assert (await gateway.post(URL, DRAW, headers=AI_SDK)).status == 200


async def test_what_no_client_repeats_is_not_held_back(gateway: Gateway) -> None:
    """A refusal ends the SDK's tries: whoever asks once more means it."""
    painter(gateway).faults = [RefusedError("not this")]
    assert (await gateway.post(URL, DRAW, headers=AI_SDK)).status == 400

    assert (await gateway.post(URL, DRAW, headers=AI_SDK)).status == 200


async def test_pictures_that_came_well_may_be_asked_for_again(gateway: Gateway) -> None:
    """Two wishes for the same words are two pictures."""
    for _ in range(2):
        assert (await gateway.post(URL, DRAW, headers=AI_SDK)).status == 200

    assert len(painter(gateway).requests) == 2


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({**DRAW, "prompt": "other words"}, AI_SDK),
        (DRAW, other(AI_SDK)),
        (DRAW, {"User-Agent": "curl/8"}),
    ],
    ids=["other words", "other caller", "other client"],
)
async def test_nobody_else_gets_that_failure(gateway: Gateway, body: Any, headers: Any) -> None:
    """Only this client's own repetition is held back."""
    painter(gateway).faults = [UpstreamTimeoutError("it took too long")]
    await gateway.post(URL, DRAW, headers=AI_SDK)

    assert (await gateway.post(URL, body, headers=headers)).status == 200
