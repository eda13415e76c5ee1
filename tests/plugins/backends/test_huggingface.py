"""Hugging Face: JSON in, bytes out; loading models say how long."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_plugins.backends.huggingface import HuggingFace

from gateway import AllowanceError, BrokenAnswerError, BusyUpstreamError, Image, ImageRequest, Size
from tests.plugins.backends.vendors import KEYS, PICTURE, draw, open_vendor

MODEL = "stabilityai/stable-diffusion-xl-base-1.0"
ASKED = ImageRequest("a cat", model=MODEL)


async def test_the_call_bears_each_parameter():
    """By its name there; the picture comes as bytes of whatever type."""
    request = ImageRequest(
        "a cat", model=MODEL, size=Size(1024, 576), seed=1, steps=20, guidance=7.5, negative_prompt="dogs"
    )
    async with open_vendor("huggingface") as (fake, backend):
        images = await draw(backend, request)
        call = fake.last

    assert images == [Image(PICTURE)]
    assert (call.method, call.path, call.headers["Accept"]) == ("POST", f"/{MODEL}", "image/png")
    assert call.json == {
        "inputs": "a cat",
        "parameters": {
            "width": 1024,
            "height": 576,
            "num_inference_steps": 20,
            "guidance_scale": 7.5,
            "negative_prompt": "dogs",
            "seed": 1,
        },
    }


def test_a_plain_call_has_no_parameters():
    """The model's defaults hold."""
    outgoing = HuggingFace(KEYS).outgoing(ASKED)

    assert outgoing.url == f"https://router.huggingface.co/hf-inference/models/{MODEL}"
    assert outgoing.json == {"inputs": "a cat"}


def test_in_an_edit_the_picture_is_the_input():
    """And the prompt a parameter."""
    request = ImageRequest("a hat", model="timbrooks/instruct-pix2pix", images=(Image(b"abc"),))

    assert HuggingFace(KEYS).outgoing(request).json == {"inputs": "YWJj", "parameters": {"prompt": "a hat"}}


def test_an_endpoint_of_ones_own_has_no_model():
    """Its address is the whole URL."""
    assert HuggingFace(KEYS, "https://mine.example/").outgoing(ImageRequest("x")).url == "https://mine.example"


def test_flux_takes_no_negative_prompt():
    """The receipt must be able to say so."""
    backend = HuggingFace(KEYS)

    assert "negative_prompt" not in backend.capabilities("black-forest-labs/FLUX.1-dev").accepts
    assert set(backend.capabilities("black-forest-labs/FLUX.1-schnell").accepts) == {"seed", "steps"}
    assert "negative_prompt" in backend.capabilities(MODEL).accepts
    assert backend.capabilities("Qwen/Qwen-Image-Edit").needs_input


@pytest.mark.parametrize(
    ("told", "wanted"), [(20.5, 21), (0, None), ("soon", None), (-3, None), (1e9, None), (None, None)]
)
async def test_a_loading_model_says_how_long(told: Any, wanted: float | None):
    """503 with estimated_time becomes a plausible Retry-After."""
    async with open_vendor("huggingface") as (fake, backend):
        fake.error, fake.mode = {"error": "Model is currently loading", "estimated_time": told}, "status:503"
        with pytest.raises(BusyUpstreamError, match="currently loading") as caught:
            await draw(backend, ASKED)

    assert caught.value.retry_after == wanted


async def test_used_up_credits_are_an_allowance():
    """402 with words."""
    async with open_vendor("huggingface") as (fake, backend):
        fake.error = {"error": "You have exceeded your monthly included credits"}
        fake.mode = "status:402"
        with pytest.raises(AllowanceError, match="monthly included credits"):
            await draw(backend, ASKED)


@pytest.mark.parametrize("declared", ["application/json", "text/html", "application/octet-stream"])
async def test_a_picture_is_known_by_its_bytes(declared: str):
    """Whatever a server in between declares."""
    async with open_vendor("huggingface") as (fake, backend):
        fake.mode = f"type:{declared}"

        assert await draw(backend, ASKED) == [Image(PICTURE)]


@pytest.mark.parametrize("body", [{"error": "x"}, [], b"", b"<!doctype html><html></html>"])
async def test_words_instead_of_bytes_are_broken(body: Any):
    """200 is not a picture."""
    async with open_vendor("huggingface") as (fake, backend):
        fake.error, fake.mode = body, "body"
        with pytest.raises(BrokenAnswerError):
            await draw(backend, ASKED)
