"""fal.ai: the queue, black pictures with 200, refusals and balances in its own words."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest
from gateway_plugins.backends.fal import Fal

from gateway import (
    AllowanceError,
    Answer,
    BrokenAnswerError,
    Image,
    ImageRequest,
    RefusedError,
    Size,
    UpstreamError,
    UpstreamTimeoutError,
)
from tests.fake_upstream import png
from tests.plugins.backends.vendors import KEYS, QUICK, Told, draw, open_vendor

ASKED = ImageRequest("a cat", model="fal-ai/flux/schnell")
QUEUED = {"status": "IN_QUEUE", "queue_position": 2}


def test_the_call_bears_each_field_by_its_name():
    """A size is an object, n is num_images."""
    request = ImageRequest(
        "a cat", model="fal-ai/flux/dev", n=2, size=Size(1024, 576), seed=1, steps=28, guidance=3.5, output_format="png"
    )
    outgoing = Fal(KEYS, extra={"enable_safety_checker": False}).outgoing(request)

    assert (outgoing.method, outgoing.url) == ("POST", "https://queue.fal.run/fal-ai/flux/dev")
    assert outgoing.json == {
        "prompt": "a cat",
        "num_images": 2,
        "image_size": {"width": 1024, "height": 576},
        "seed": 1,
        "num_inference_steps": 28,
        "guidance_scale": 3.5,
        "output_format": "png",
        "enable_safety_checker": False,
    }


def test_input_pictures_go_as_data_urls():
    """One, or a list where the model takes several; the mask besides."""
    picture = Image(png(), media_type="image/png")
    one = Fal(KEYS).outgoing(ImageRequest("x", model="fal-ai/flux-general/inpainting", images=(picture,), mask=picture))
    several = Fal(KEYS).outgoing(ImageRequest("x", model="fal-ai/flux-2/edit", images=(picture, picture)))

    assert set(one.json) == {"prompt", "num_images", "image_url", "mask_url"}
    assert one.json["image_url"].startswith("data:image/png;base64,")
    assert len(several.json["image_urls"]) == 2


async def test_the_job_goes_through_the_queue():
    """Submit, ask, fetch; the key is a Key and no Bearer; the picture's URL is not fetched here."""
    told = Told()
    async with open_vendor("fal") as (fake, backend):
        fake.states.extend([QUEUED, {"status": "IN_PROGRESS"}])
        images = await draw(backend, ASKED, told)

        assert images == [Image(url=fake.file_url(), seed=9)]
        assert [path.rsplit("/", 1)[1] for path in fake.paths()] == ["schnell", "status", "status", "status", "r1"]
        assert {call.headers["Authorization"] for call in fake.calls} == {"Key canary-key-1"}
    assert told.notes[:2] == ["queued, place 2", "in_progress"]


async def test_a_blackened_picture_is_a_refusal():
    """has_nsfw_concepts with 200."""
    async with open_vendor("fal") as (fake, backend):
        fake.result = {"images": [{"url": fake.file_url()}], "has_nsfw_concepts": [True]}
        with pytest.raises(RefusedError):
            await draw(backend, ASKED)


async def test_only_the_blackened_ones_of_several_are_left_out():
    """The rest was drawn and paid for."""
    async with open_vendor("fal") as (fake, backend):
        fake.result = {
            "images": [{"url": f"https://x/{n}"} for n in range(3)],
            "has_nsfw_concepts": [False, True, False],
        }
        images = await draw(backend, ImageRequest("a cat", model="fal-ai/flux/schnell", n=3))

    assert [image.url for image in images] == ["https://x/0", "https://x/2"]


@pytest.mark.parametrize("result", [{}, {"images": []}, {"images": [{}]}, {"images": [None]}, {"images": 5}, [], "x"])
async def test_an_answer_without_pictures_is_broken(result: Any):
    """Completed is not success."""
    async with open_vendor("fal") as (fake, backend):
        fake.result = result
        with pytest.raises(BrokenAnswerError):
            await draw(backend, ASKED)


async def test_a_refusal_of_the_request_is_final():
    """422 with the type content_policy_violation."""
    detail = [
        {"loc": ["body", "prompt"], "msg": "The content could not be processed", "type": "content_policy_violation"}
    ]
    async with open_vendor("fal") as (fake, backend):
        fake.error = {"detail": detail}
        fake.modes.extend(["ok", "ok", "status:422"])
        with pytest.raises(RefusedError, match="could not be processed"):
            await draw(backend, ASKED)


async def test_an_empty_balance_is_an_allowance_and_not_a_bad_key():
    """403 with words about the balance."""
    async with open_vendor("fal") as (fake, backend):
        fake.mode, fake.error = "status:403", {"detail": "User is locked. Reason: Exhausted balance."}
        with pytest.raises(AllowanceError):
            await draw(backend, ASKED)

        assert backend.health()["refused"] == 0


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ({"status": "COMPLETED", "error": "Runner died"}, UpstreamError),
        ({"status": "CANCELLED"}, UpstreamError),
        ({"status": "COMPLETED", "error": "no", "error_type": "content_policy_violation"}, RefusedError),
    ],
)
async def test_a_failed_job_is_told(state: Any, kind: type[Exception]):
    """The answer is not even asked for."""
    async with open_vendor("fal") as (fake, backend):
        fake.states.append(state)
        with pytest.raises(kind):
            await draw(backend, ASKED)

        assert len(fake.calls) == 2


async def test_the_deadline_cancels_the_job():
    """By PUT, as fal wants it, and with the same key."""
    async with open_vendor("fal") as (fake, backend):
        backend.deadline = 0.05
        fake.states.extend([QUEUED] * 100)
        with pytest.raises(UpstreamTimeoutError):
            await draw(backend, ASKED)

        assert fake.paths()[-1] == "PUT /fal-ai/flux/requests/r1/cancel"


async def test_cancelling_the_job_cancels_it_there():
    """Whoever cancels does not pay on."""
    told, running = Told(), asyncio.Event()
    async with open_vendor("fal") as (fake, backend):
        fake.states.extend([QUEUED] * 1000)
        told.progress = lambda *_: running.set()  # type: ignore[method-assign]  # tells when it runs
        job = asyncio.create_task(draw(backend, ASKED, told))
        await running.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

        assert fake.paths()[-1] == "PUT /fal-ai/flux/requests/r1/cancel"


@pytest.mark.parametrize("name", ["status_url", "response_url"])
async def test_the_key_does_not_follow_to_a_foreign_host(name: str):
    """Each of the job's addresses must be theirs."""
    async with open_vendor("fal") as (fake, backend):
        urls = dict.fromkeys(("status_url", "response_url", "cancel_url"), f"{fake.base}/x")
        fake.mode, fake.error = "body", {"request_id": "r1", **urls, name: "https://fal.run.evil.example/x"}
        with pytest.raises(BrokenAnswerError, match=name):
            await draw(backend, ASKED)

        assert len(fake.calls) == 1


@pytest.mark.parametrize("told", [{}, {"cancel_url": "https://fal.run.evil.example/x"}, {"cancel_url": 5}])
async def test_a_job_that_cannot_be_cancelled_is_drawn_all_the_same(told: dict[str, Any]):
    """It is taken, and will be billed."""
    async with open_vendor("fal") as (fake, backend):
        job = f"{fake.base}/fal-ai/flux/requests/r1"
        fake.modes.append("body")
        fake.error = {"request_id": "r1", "status_url": f"{job}/status", "response_url": job, **told}

        assert len(await draw(backend, ASKED)) == 1


def test_behind_a_router_the_scheme_is_bearer():
    """Hugging Face passes fal's API on, but with its own keys."""
    assert Fal(KEYS, scheme="Bearer")._authorize("k") == {"Authorization": "Bearer k"}


async def test_pictures_that_come_at_once_are_taken():
    """Hugging Face's router waits itself; what it answers is paid for."""
    async with open_vendor("fal") as (fake, backend):
        fake.mode, fake.error = "body", {"images": [{"url": "https://x.example/a.png"}], "seed": 3}
        made = await draw(backend, ASKED)

        assert [image.url for image in made] == ["https://x.example/a.png"]
        assert len(fake.calls) == 1


async def test_several_pictures_that_come_at_once_have_room():
    """With ``sync_mode`` they come as data: URLs, all in the one answer."""
    async with open_vendor("fal") as (fake, backend):
        url = "data:image/png;base64," + "A" * (QUICK.limit // 2)
        fake.mode, fake.error = "body", {"images": [{"url": url}] * 4}
        made = await draw(backend, replace(ASKED, n=4))

        assert len(made) == 4


def test_the_key_of_a_router_goes_to_no_queue_of_fals():
    """It is Hugging Face's own."""
    urls = {"status_url": "https://queue.fal.run/fal-ai/x/requests/1/status"}
    answer = Answer(200, {}, orjson.dumps(urls))

    assert Fal(KEYS)._place(answer, "status_url") == urls["status_url"]
    with pytest.raises(BrokenAnswerError, match="not for"):
        Fal(KEYS, base_url="https://router.huggingface.co/fal-ai", scheme="Bearer")._place(answer, "status_url")
