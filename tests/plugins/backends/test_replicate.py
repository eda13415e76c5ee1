"""Replicate: predictions are waited for, polled, cancelled; refusals come as failures."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gateway_plugins.backends.replicate import Replicate

from gateway import (
    AllowanceError,
    BrokenAnswerError,
    Image,
    ImageRequest,
    RateLimitedError,
    RefusedError,
    RejectedError,
    Size,
    UpstreamError,
    UpstreamTimeoutError,
)
from tests.fake_upstream import png
from tests.plugins.backends.vendors import KEYS, Told, draw, open_vendor

SCHNELL = "black-forest-labs/flux-schnell"
WORKING = {"id": "p1", "status": "processing", "logs": " 25%|##| 1/4\n 50%|###| 2/4"}
ASKED = ImageRequest("a cat", model=SCHNELL)


def test_the_call_bears_flux_inputs_by_their_names():
    """jpeg is jpg there, n is num_outputs."""
    request = ImageRequest("a cat", model=SCHNELL, n=2, aspect_ratio="16:9", seed=1, steps=4, output_format="jpeg")
    outgoing = Replicate(KEYS, "https://api.example/v1", extra={"go_fast": True, "seed": 99}).outgoing(request)

    assert outgoing.url == "https://api.example/v1/models/black-forest-labs/flux-schnell/predictions"
    assert outgoing.headers == {"Prefer": "wait=30", "Cancel-After": "300s"}
    assert outgoing.json == {
        "input": {
            "prompt": "a cat",
            "aspect_ratio": "16:9",
            "num_outputs": 2,
            "num_inference_steps": 4,
            "output_format": "jpg",
            "seed": 1,
            "go_fast": True,
        }
    }


def test_a_version_goes_into_the_body():
    """Models of the community are called by version; SDXL takes a size and a mask."""
    picture = Image(png(), media_type="image/png")
    request = ImageRequest(
        "a cat", model="stability-ai/sdxl:39ed", size=Size(768, 512), guidance=7, images=(picture,), mask=picture
    )
    outgoing = Replicate(KEYS, wait=0).outgoing(request)
    inputs = outgoing.json["input"]

    assert outgoing.url.endswith("/v1/predictions")
    assert "Prefer" not in outgoing.headers
    assert outgoing.json["version"] == "39ed"
    assert inputs.pop("image").startswith("data:image/png;base64,")
    assert inputs.pop("mask").startswith("data:image/png;base64,")
    assert inputs == {"prompt": "a cat", "width": 768, "height": 512, "guidance_scale": 7}


async def test_a_prediction_that_is_done_at_once_needs_no_question():
    """201 with the output."""
    async with open_vendor("replicate") as (fake, backend):
        images = await draw(backend, ImageRequest("a cat", model=SCHNELL, n=2))

        assert images == [Image(url=fake.file_url())] * 2
        assert len(fake.calls) == 1


async def test_a_running_prediction_is_polled_and_its_progress_read_from_the_log():
    """The last percentage of the log is the progress."""
    told = Told()
    async with open_vendor("replicate") as (fake, backend):
        fake.states.extend([{"id": "p1", "status": "starting"}, {"id": "p1", "status": "starting"}, WORKING])
        await draw(backend, ASKED, told)

        assert fake.paths() == [f"POST /models/{SCHNELL}/predictions"] + ["GET /predictions/p1"] * 3
    assert told.done == [0, 0.5]


@pytest.mark.parametrize("output", ["https://replicate.delivery/x.webp", ["https://replicate.delivery/x.webp"]])
async def test_output_is_a_url_or_a_list(output: Any):
    """Both forms are known."""
    async with open_vendor("replicate") as (fake, backend):
        fake.result = {"id": "p1", "status": "succeeded", "output": output}
        images = await draw(backend, ASKED)

    assert images == [Image(url="https://replicate.delivery/x.webp")]


@pytest.mark.parametrize("output", [None, [], {}, [None], "", 5])
async def test_success_without_output_is_broken(output: Any):
    """Also when the data was removed already."""
    async with open_vendor("replicate") as (fake, backend):
        fake.result = {"id": "p1", "status": "succeeded", "output": output, "data_removed": True}
        with pytest.raises(BrokenAnswerError, match="removed"):
            await draw(backend, ASKED)


@pytest.mark.parametrize("words", ["NSFW content detected. Try again", "The input was flagged as sensitive (E005)."])
async def test_a_failure_about_the_content_is_a_refusal(words: str):
    """Replicate says it in the error of a failed prediction."""
    async with open_vendor("replicate") as (fake, backend):
        fake.result = {"id": "p1", "status": "failed", "error": words}
        with pytest.raises(RefusedError):
            await draw(backend, ASKED)


@pytest.mark.parametrize("status", ["failed", "canceled", "aborted"])
async def test_other_failures_may_be_tried_elsewhere(status: str):
    """There is no picture, and they say why."""
    async with open_vendor("replicate") as (fake, backend):
        fake.result = {"id": "p1", "status": status, "error": "CUDA out of memory"}
        with pytest.raises(UpstreamError, match="CUDA out of memory") as caught:
            await draw(backend, ASKED)

    assert caught.value.retryable


async def test_the_deadline_cancels_the_prediction():
    """Nothing goes on costing there."""
    async with open_vendor("replicate") as (fake, backend):
        backend.deadline, fake.result = 0.05, WORKING
        with pytest.raises(UpstreamTimeoutError):
            await draw(backend, ASKED)

        assert fake.paths()[-1] == "POST /predictions/p1/cancel"
        assert fake.last.key == fake.calls[0].key


async def test_cancelling_the_job_cancels_the_prediction():
    """A cancelled job does not go on costing."""
    told, running = Told(), asyncio.Event()
    async with open_vendor("replicate") as (fake, backend):
        fake.result = WORKING
        told.progress = lambda *_: running.set()  # type: ignore[method-assign]  # tells when it runs
        job = asyncio.create_task(draw(backend, ASKED, told))
        await running.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

        assert fake.paths()[-1] == "POST /predictions/p1/cancel"


@pytest.mark.parametrize(("status", "kind"), [(402, AllowanceError), (422, RejectedError), (429, RateLimitedError)])
async def test_problem_details_have_their_classes(status: int, kind: type[Exception]):
    """RFC 7807 bodies; a rate limit tells its end in words."""
    async with open_vendor("replicate") as (fake, backend):
        words = "Request was throttled. Your rate limit resets in ~9s."
        fake.error, fake.mode = {"title": "T", "detail": words, "status": status}, f"status:{status}"
        with pytest.raises(kind) as caught:
            await draw(backend, ASKED)

    assert kind is not RateLimitedError or 8 < caught.value.retry_after <= 9  # type: ignore[attr-defined]


@pytest.mark.parametrize(("reset", "wanted"), [("12", 12), ("later", None), ("999999", None)])
async def test_the_reset_header_counts_where_words_say_nothing(reset: str, wanted: float | None):
    """Only a plausible number."""
    async with open_vendor("replicate") as (fake, backend):
        fake.mode, fake.headers = "status:429", {"ratelimit-reset": reset}
        fake.error = {"detail": "slow down"}
        with pytest.raises(RateLimitedError) as caught:
            await draw(backend, ASKED)

    assert caught.value.retry_after == pytest.approx(wanted or 5, abs=0.5)
