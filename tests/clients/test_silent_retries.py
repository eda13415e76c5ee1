"""Clients that repeat a failed call without saying so: Vercel's AI SDK does, whatever ``x-should-retry`` says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import BusyUpstreamError, RefusedError, UpstreamTimeoutError
from gateway.values import Caller
from tests.gateways import Gateway, start
from tests.painters import DRAW, HELD, holding, other, painter

AI_SDK = {"User-Agent": "ai/7.0.173 ai-sdk-provider-utils/5.0.81 node.js/v20.20.2"}
"""Recorded."""
URL = "/v1/images/generations"


@pytest.fixture
async def gateway(aiohttp_server: Any, tmp_path: Path) -> Gateway:
    """A gateway whose backend fails as the test says."""
    made = await start(aiohttp_server, holding(), tmp_path, types=HELD)
    painter(made).free.set()
    return made


async def test_what_may_be_billed_is_not_made_again_for_the_ai_sdk(gateway: Gateway) -> None:
    """Its three tries are one upstream call, and each is told the same."""
    painter(gateway).faults = [UpstreamTimeoutError("it took too long")]
    answers = [await gateway.post(URL, DRAW, headers=AI_SDK) for _ in range(3)]

    assert [answer.status for answer in answers] == [504] * 3
    assert len({answer.error["message"] for answer in answers}) == 1
    assert len(painter(gateway).requests) == 1


async def test_it_ends_with_the_window(gateway: Gateway) -> None:
    """After it, the same words are a new wish."""
    painter(gateway).faults = [UpstreamTimeoutError("it took too long")]
    await gateway.post(URL, DRAW, headers=AI_SDK)
    (job,) = gateway.runtime.jobs.all(Caller("ann"))
    assert job.ended
    job.ended -= 16

    assert (await gateway.post(URL, DRAW, headers=AI_SDK)).status == 200


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
