"""Stability AI: forms without files, filtered pictures with 200, its own refusals."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from gateway_plugins.backends.stability import Stability

from gateway import (
    AllowanceError,
    BrokenAnswerError,
    Image,
    ImageRequest,
    RateLimitedError,
    RefusedError,
)
from tests.plugins.backends.vendors import KEYS, PICTURE, Told, draw, open_vendor

ASKED = ImageRequest(
    "a cat",
    model="core",
    aspect_ratio="16:9",
    seed=5,
    negative_prompt="dogs",
    output_format="webp",
    style="anime",
)


async def test_the_form_bears_each_field():
    """A true multipart form even without files; the answer's seed is told."""
    async with open_vendor("stability") as (fake, backend):
        images = await draw(backend, ASKED)
        call = fake.last

    assert images == [Image(PICTURE, seed=343)]
    assert (call.method, call.path) == ("POST", "/v2beta/stable-image/generate/core")
    assert call.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert (call.headers["Accept"], call.headers["Authorization"]) == ("application/json", "Bearer canary-key-1")
    assert call.files == []
    assert call.fields == {
        "prompt": "a cat",
        "aspect_ratio": "16:9",
        "negative_prompt": "dogs",
        "seed": "5",
        "output_format": "webp",
        "style_preset": "anime",
    }


async def test_sd3_names_its_model_and_mode():
    """All SD 3.5 models share one address."""
    request = ImageRequest("a cat", model="sd3.5-large-turbo", aspect_ratio="1:1", guidance=4.0)
    async with open_vendor("stability") as (fake, backend):
        await draw(backend, request)

        assert fake.last.path == "/v2beta/stable-image/generate/sd3"
        assert fake.last.fields == {
            "prompt": "a cat",
            "model": "sd3.5-large-turbo",
            "mode": "text-to-image",
            "aspect_ratio": "1:1",
            "cfg_scale": "4.0",
        }


async def test_an_input_picture_goes_as_a_file():
    """Its ratio is the picture's own, so that none is sent."""
    picture = Image(PICTURE, media_type="image/png")
    request = ImageRequest("a cat", model="sd3.5-large", aspect_ratio="1:1", images=(picture,))
    async with open_vendor("stability") as (fake, backend):
        await draw(backend, request)

        assert fake.last.files == [("image", "image", "image/png", PICTURE)]
        assert fake.last.fields == {
            "prompt": "a cat",
            "model": "sd3.5-large",
            "mode": "image-to-image",
            "strength": "0.7",
        }


async def test_a_prompt_cannot_break_out_of_its_part():
    """Boundaries and headers in a prompt stay text."""
    prompt = 'a\r\n--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nultra'
    async with open_vendor("stability") as (fake, backend):
        await draw(backend, ImageRequest(prompt, model="core"))

        assert set(fake.last.fields) == {"prompt"}


async def test_a_blurred_picture_with_200_is_a_refusal():
    """finish_reason decides, not the status."""
    async with open_vendor("stability") as (fake, backend):
        fake.result = {"image": fake.encoded(), "finish_reason": "CONTENT_FILTERED", "seed": 1}
        with pytest.raises(RefusedError):
            await draw(backend, ASKED)

        assert len(fake.calls) == 1


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (403, "content_moderation", RefusedError),
        (402, "payment_required", AllowanceError),
        (429, "rate_limit_exceeded", RateLimitedError),
    ],
)
async def test_its_errors_have_their_classes(status: int, name: str, kind: type[Exception]):
    """403 is about the content, not about the key; 429 shuts out for a minute."""
    async with open_vendor("stability") as (fake, backend):
        fake.error, fake.mode = {"id": "1", "name": name, "errors": ["what they say"]}, f"status:{status}"
        with pytest.raises(kind, match="what they say") as caught:
            await draw(backend, ASKED)

        assert backend.health()["refused"] == 0
        assert kind is not RateLimitedError or caught.value.retry_after >= 55  # type: ignore[attr-defined]


@pytest.mark.parametrize("declared", ["image/png", "application/octet-stream"])
@pytest.mark.parametrize("reason", ["SUCCESS", "CONTENT_FILTERED"])
async def test_bytes_are_taken_as_well(reason: str, declared: str):
    """A filtered picture is told in a header then."""
    headers = {"finish-reason": reason, "seed": "8"}
    async with open_vendor("stability") as (fake, backend):
        fake.good = lambda _: web.Response(body=PICTURE, content_type=declared, headers=headers)  # type: ignore[method-assign]  # another form
        if reason == "SUCCESS":
            assert await draw(backend, ASKED) == [Image(PICTURE, seed=8)]
        else:
            with pytest.raises(RefusedError):
                await draw(backend, ASKED)


@pytest.mark.parametrize(
    "body",
    [
        {"finish_reason": "SUCCESS"},
        {"image": "%%%", "finish_reason": "SUCCESS"},
        {"image": 5},
        {"image": "", "finish_reason": "SUCCESS"},
        {"finish_reason": "ERROR", "image": "AAAA"},
    ],
)
async def test_an_answer_without_a_picture_is_broken(body: Any):
    """Success needs a picture."""
    async with open_vendor("stability") as (fake, backend):
        fake.result = body
        with pytest.raises(BrokenAnswerError):
            await draw(backend, ASKED)


async def test_an_edit_keeps_the_ratio_of_its_picture():
    """It takes none; the receipt says so."""
    told = Told()
    async with open_vendor("stability") as (fake, backend):
        request = ImageRequest("x", model="sd3.5-large", images=(Image(PICTURE),), aspect_ratio="16:9")
        await draw(backend, request, told)
        sent = set(fake.last.fields)

    assert "aspect_ratio" not in sent
    assert told.notes == ["aspect_ratio: an edit keeps that of its picture; not sent"]


@pytest.mark.parametrize("seed", [None, "x", -1, 1.5, [], "²", "7" * 5000])
async def test_a_strange_seed_is_no_seed(seed: Any):
    """It is no reason to lose the picture."""
    async with open_vendor("stability") as (fake, backend):
        fake.result = {"image": fake.encoded(), "finish_reason": "SUCCESS", "seed": seed}
        images = await draw(backend, ASKED)

    assert images == [Image(PICTURE)]


def test_the_table_follows_the_facts():
    """A ratio instead of a size, prompts up to 10,000 characters; inputs for SD 3.5 only."""
    backend = Stability(KEYS)

    assert backend.capabilities("ultra").ratios == ("1:1", "16:9", "21:9", "2:3", "3:2", "4:5", "5:4", "9:16", "9:21")
    assert backend.capabilities("core").prompt_limit == 10_000
    assert (backend.capabilities("core").inputs, backend.capabilities("sd3.5-medium").inputs) == (0, 1)
    assert "guidance" not in backend.capabilities("core").accepts
