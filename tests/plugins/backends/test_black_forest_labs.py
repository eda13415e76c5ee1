"""Black Forest Labs: what is sent, how the job is followed, how it refuses."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import pytest
from gateway_plugins.backends.black_forest_labs import MODELS, BlackForestLabs
from PIL import Image as Pillow

from gateway import (
    BrokenAnswerError,
    Image,
    ImageRequest,
    RefusedError,
    Size,
    UpstreamError,
    UpstreamTimeoutError,
)
from tests.fake_upstream import png
from tests.plugins.backends.vendors import KEYS, Told, draw, open_vendor

ASKED = ImageRequest(
    "a cat", model="flux-2-flex", size=Size(1024, 576), seed=3, steps=20, guidance=4.5, output_format="png"
)


def backend(**options: Any) -> BlackForestLabs:
    return BlackForestLabs(KEYS, "https://api.example/", **options)


def test_the_call_bears_all_that_the_model_takes():
    """Each field of FLUX.2 flex, by its name there."""
    outgoing = backend().outgoing(ASKED)

    assert (outgoing.method, outgoing.url) == ("POST", "https://api.example/v1/flux-2-flex")
    assert outgoing.json == {
        "prompt": "a cat",
        "width": 1024,
        "height": 576,
        "seed": 3,
        "steps": 20,
        "guidance": 4.5,
        "output_format": "png",
    }


def test_what_is_not_asked_is_not_sent():
    """The model's own defaults hold; an extra never overrides what was asked."""
    plain = backend(extra={"safety_tolerance": 2, "prompt": "x"}).outgoing(ImageRequest("a cat", model="flux-2-pro"))

    assert plain.json == {"safety_tolerance": 2, "prompt": "a cat"}


def test_kontext_takes_a_ratio_and_numbered_inputs():
    """The first input has no number."""
    pictures = tuple(Image(bytes([number])) for number in range(3))
    body = backend().outgoing(ImageRequest("x", model="flux-kontext-pro", aspect_ratio="16:9", images=pictures)).json

    assert body == {
        "prompt": "x",
        "aspect_ratio": "16:9",
        "input_image": "AA==",
        "input_image_2": "AQ==",
        "input_image_3": "Ag==",
    }


def test_older_models_call_the_input_a_prompt():
    """flux-pro-1.1 has ``image_prompt``."""
    body = backend().outgoing(ImageRequest("x", model="flux-pro-1.1", images=(Image(b"\0"),))).json

    assert body == {"prompt": "x", "image_prompt": "AA=="}


def test_fill_gets_a_mask_whose_white_part_is_repainted():
    """The caller's mask is transparent there."""
    buffer = BytesIO()
    Pillow.new("RGBA", (2, 2), (0, 0, 0, 0)).save(buffer, "PNG")
    request = ImageRequest("x", model="flux-pro-1.0-fill", images=(Image(png()),), mask=Image(buffer.getvalue()))
    body = backend().outgoing(request).json

    assert set(body) == {"prompt", "image", "mask"}
    assert Pillow.open(BytesIO(base64.b64decode(body["mask"]))).getpixel((0, 0)) == 255


def test_the_table_follows_the_facts():
    """Sizes, inputs and parameters as the vendor documents them."""
    assert MODELS["flux-2-pro"].inputs == 8
    assert MODELS["flux-2-klein-4b"].inputs == 4
    assert set(MODELS["flux-2-flex"].accepts) == {"seed", "output_format", "steps", "guidance"}
    assert set(MODELS["flux-2-pro"].accepts) == {"seed", "output_format"}
    assert MODELS["flux-kontext-max"].ratios
    assert MODELS["flux-pro-1.0-fill"].needs_input
    assert all(model.count == 1 and "negative_prompt" not in model.accepts for model in MODELS.values())


async def test_the_job_is_followed_to_its_picture():
    """Submit, ask where the answer said, give the signed URL without fetching it."""
    told = Told()
    async with open_vendor("black_forest_labs") as (fake, backend):
        fake.states.extend(
            [{"id": "job-1", "status": "Pending", "progress": 0.25}, {"id": "job-1", "status": "Queued"}]
        )
        images = await draw(backend, ImageRequest("a cat", model="flux-2-pro"), told)

        assert images == [Image(url=fake.file_url(), seed=7)]
        assert fake.paths() == ["POST /v1/flux-2-pro"] + ["GET /v1/get_result"] * 3
        assert fake.last.query == {"id": "job-1"}
        assert {call.headers["x-key"] for call in fake.calls} == {"canary-key-1"}
    assert (told.sent, told.done, told.notes) == (1, [0.25], ["Pending"])


@pytest.mark.parametrize("status", ["Request Moderated", "Content Moderated"])
async def test_moderation_is_final(status: str):
    """Before or after drawing, it is the caller's matter."""
    async with open_vendor("black_forest_labs") as (fake, backend):
        fake.result = {"id": "job-1", "status": status, "result": None, "details": {"Moderation Reasons": ["x"]}}
        with pytest.raises(RefusedError, match=status):
            await draw(backend, ImageRequest("a cat", model="flux-2-pro"))


@pytest.mark.parametrize("status", ["Error", "Failed"])
async def test_a_failed_job_may_be_tried_elsewhere(status: str):
    """They do not bill it."""
    async with open_vendor("black_forest_labs") as (fake, backend):
        fake.result = {"id": "job-1", "status": status, "result": None}
        with pytest.raises(UpstreamError) as caught:
            await draw(backend, ImageRequest("a cat", model="flux-2-pro"))

    assert (caught.value.retryable, caught.value.billed) == (True, False)


@pytest.mark.parametrize("unknown", [1, 9])
async def test_a_job_that_they_do_not_know_is_asked_for_again(unknown: int, monkeypatch: pytest.MonkeyPatch):
    """A server that has not heard of it yet says so; however long it stays lost, nobody else is paid for it."""
    monkeypatch.setattr("gateway.polling.LONGEST", 0.01)
    async with open_vendor("black_forest_labs") as (fake, backend):
        fake.states.extend([{"id": "job-1", "status": "Task not found", "result": None}] * unknown)
        if unknown == 1:
            assert len(await draw(backend, ImageRequest("a cat", model="flux-2-pro"))) == 1
        else:
            with pytest.raises(BrokenAnswerError) as caught:
                await draw(backend, ImageRequest("a cat", model="flux-2-pro"))
            assert (caught.value.retryable, caught.value.billed) == (False, None)


@pytest.mark.parametrize("result", [None, {}, {"sample": None}, {"sample": 5}, [], {"sample": ""}])
async def test_ready_without_a_picture_is_broken(result: Any):
    """Ready is not success."""
    async with open_vendor("black_forest_labs") as (fake, backend):
        fake.result = {"status": "Ready", "result": result}
        with pytest.raises(BrokenAnswerError):
            await draw(backend, ImageRequest("a cat", model="flux-2-pro"))


async def test_a_job_that_never_ends_is_given_up():
    """Time is up for the whole job; it may be billed."""
    async with open_vendor("black_forest_labs") as (fake, backend):
        backend.deadline = 0.05
        fake.result = {"id": "job-1", "status": "Pending"}
        with pytest.raises(UpstreamTimeoutError) as caught:
            await draw(backend, ImageRequest("a cat", model="flux-2-pro"))

    assert caught.value.retryable is False


@pytest.mark.parametrize("place", ["http://169.254.169.254/latest", "https://api.bfl.ai.evil.example/x", 5, None])
async def test_the_key_does_not_follow_to_a_foreign_host(place: Any):
    """No second call is made at all."""
    async with open_vendor("black_forest_labs") as (fake, backend):
        fake.mode, fake.error = "body", {"id": "job-1", "polling_url": place}
        with pytest.raises(BrokenAnswerError):
            await draw(backend, ImageRequest("a cat", model="flux-2-pro"))

        assert len(fake.calls) == 1
