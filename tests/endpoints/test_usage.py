"""What the upstream told of tokens and what was sent as a seed reaches the client, wherever it asks."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai.types.images_response import Usage as ImagesUsage
from PIL import Image as Pillow

from tests.fake_upstream import FakeUpstream, png
from tests.gateways import AUTHENTICATORS, STORAGES, UPSTREAM_KEY, Gateway, drawing_by, start

PICTURE = png(64, 64)
DATA_URL = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
TOKENS = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    "output_tokens": 4160,
    "total_tokens": 4210,
}


@pytest.fixture
async def openai_like(aiohttp_server: Any, tmp_path: Path, fake: FakeUpstream) -> Gateway:
    """A gateway whose model is drawn by an imitated OpenAI that tells its tokens, one picture a call."""
    yaml = (
        AUTHENTICATORS
        + STORAGES
        + f"backends: {{up: {{use: openai_images, base_url: '{fake.base}/v1', keys: [{UPSTREAM_KEY}]}}}}\n"
        + "models: {flux: {backends: [{backend: up, model: gpt-image-2}]}}\n"
    )
    fake.mode = "body"
    fake.error = {"created": 1, "data": [{"b64_json": base64.b64encode(PICTURE).decode()}], "usage": TOKENS}
    return await start(aiohttp_server, yaml, tmp_path)


async def test_the_images_api_tells_the_tokens_of_the_upstream(openai_like: Gateway) -> None:
    """Generations, edits and variations, as they came, and the receipt says the same."""
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("image", PICTURE, content_type="image/png", filename="a.png")
    answers = [
        await openai_like.draw(),
        await openai_like.post("/v1/images/edits", {"prompt": "night", "image": DATA_URL}),
        await openai_like.post("/v1/images/variations", data=form),
    ]

    for answer in answers:
        assert answer.status == 200, answer.text
        assert answer.json["usage"] == TOKENS
        assert answer.json["gateway"]["receipt"]["usage"] == TOKENS


@pytest.mark.parametrize(
    ("details", "told"),
    [
        (None, {"image_tokens": 0, "text_tokens": 0}),
        ({"text_tokens": 7}, {"image_tokens": 0, "text_tokens": 7}),
        ({"cached_tokens": 3}, {"image_tokens": 0, "text_tokens": 0, "cached_tokens": 3}),
    ],
    ids=["none", "one kind", "another kind"],
)
async def test_both_kinds_of_tokens_are_told(
    openai_like: Gateway, fake: FakeUpstream, details: dict[str, int] | None, told: dict[str, int]
) -> None:
    """OpenAI's types need both, and litellm refuses a whole answer that lacks one."""
    usage = {"input_tokens": 7, "output_tokens": 4, "total_tokens": 11} | (
        {"input_tokens_details": details, "output_tokens_details": details} if details else {}
    )
    fake.error = {**fake.error, "usage": usage}
    answer = await openai_like.draw()
    streamed = (await openai_like.draw(stream=True)).chunks()[-1]

    for shown in (answer.json["usage"], streamed["usage"]):
        assert shown["input_tokens_details"] == told
        assert shown.get("output_tokens_details", told) == told
        ImagesUsage.model_validate(shown, strict=True)


async def test_streams_tell_the_tokens_of_the_upstream(openai_like: Gateway) -> None:
    """In the event that brings the picture."""
    drawn = (await openai_like.draw(stream=True)).chunks()
    changed = await openai_like.post("/v1/images/edits", {"prompt": "night", "image": DATA_URL, "stream": True})

    assert drawn[-1]["type"] == "image_generation.completed"
    assert changed.chunks()[-1]["type"] == "image_edit.completed"
    assert drawn[-1]["usage"] == changed.chunks()[-1]["usage"] == TOKENS


async def test_responses_tell_the_tokens_of_the_upstream(openai_like: Gateway) -> None:
    """Plain and streamed, with the kinds of tokens beside the fields that the SDK's types need."""
    body = {"model": "flux", "input": "a fox", "tools": [{"type": "image_generation"}]}
    plain = (await openai_like.post("/v1/responses", body)).json["usage"]
    streamed = (await openai_like.post("/v1/responses", {**body, "stream": True})).chunks()[-1]["response"]["usage"]

    assert plain == streamed
    assert (plain["input_tokens"], plain["output_tokens"], plain["total_tokens"]) == (50, 4160, 4210)
    assert plain["input_tokens_details"].items() >= {"cached_tokens": 0, "image_tokens": 40, "text_tokens": 10}.items()
    assert plain["output_tokens_details"]["reasoning_tokens"] == 0


async def test_chat_tells_the_tokens_of_the_upstream(openai_like: Gateway) -> None:
    """In chat's own words."""
    plain = await openai_like.chat()
    streamed = await openai_like.chat(stream=True, stream_options={"include_usage": True})

    told = {"prompt_tokens": 50, "completion_tokens": 4160, "total_tokens": 4210}
    assert plain.json["usage"] == told
    assert streamed.chunks()[-2]["usage"] == told


@pytest.fixture
async def seeded(aiohttp_server: Any, tmp_path: Path, fake: FakeUpstream) -> Gateway:
    """A gateway that writes metadata, and whose upstream takes a seed for one picture a call and never speaks of it."""
    yaml = drawing_by(fake.base).replace("aliases:", "middlewares: [written], aliases:")
    fake.picture = PICTURE
    return await start(aiohttp_server, yaml + "middlewares: {written: {use: metadata}}\n", tmp_path)


async def test_an_asked_seed_is_known_of_the_picture(seeded: Gateway) -> None:
    """In what is known of it and within it; of three pictures each has its own."""
    urls = [each["url"] for each in (await seeded.draw(seed=42, n=3, response_format="url")).json["data"]]
    keys = [url.rpartition("/")[2].removesuffix(".png") for url in urls]
    seeds = [(await seeded.get(f"/v1/pictures/{key}")).json["seed"] for key in keys]
    written = [Pillow.open(io.BytesIO((await seeded.get(f"/image/{key}.png")).body)).info["seed"] for key in keys]

    assert seeds == [42, 43, 44]
    assert written == ["42", "43", "44"]


async def test_a_seed_that_nobody_knows_is_told_by_nobody(seeded: Gateway) -> None:
    """-1 means any, and which one was drawn the upstream has not said."""
    (drawn,) = (await seeded.draw(seed=-1, response_format="url")).json["data"]
    key = drawn["url"].rpartition("/")[2].removesuffix(".png")

    assert (await seeded.get(f"/v1/pictures/{key}")).json["seed"] is None


async def test_the_tokens_of_several_calls_are_added_up(seeded: Gateway, fake: FakeUpstream) -> None:
    """Three pictures from an upstream that gives one a call took three times as many."""
    fake.mode = "body"
    fake.error = {"data": [{"b64_json": base64.b64encode(PICTURE).decode()}], "usage": TOKENS}
    answer = await seeded.draw(n=3)

    assert len(fake.calls) == 3
    assert answer.json["usage"]["total_tokens"] == 3 * 4210
    assert answer.json["usage"]["input_tokens_details"] == {"text_tokens": 30, "image_tokens": 120}
