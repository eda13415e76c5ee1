"""AUTOMATIC1111: one job at a time, progress beside it, an interrupt when nobody waits any more."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from gateway_plugins.backends.automatic1111 import Automatic1111
from PIL import Image as Pillow

from gateway import (
    BrokenAnswerError,
    BusyUpstreamError,
    GatewayError,
    Image,
    ImageRequest,
    Secret,
    Size,
    UpstreamTimeoutError,
)
from tests.fake_upstream import png
from tests.plugins.backends.vendors import PICTURE, QUICK, Told, draw, open_vendor

ASKED = ImageRequest("a cat")


class Watched(Told):
    """Tells when progress was reported *often* times."""

    def __init__(self, often: int) -> None:
        super().__init__()
        self.often = often
        self.seen = asyncio.Event()

    def progress(self, done: float, note: str = "") -> None:
        super().progress(done, note)
        if len(self.done) >= self.often:
            self.seen.set()


def test_the_call_bears_each_field():
    """By its name there; several pictures are drawn one after the other."""
    request = ImageRequest(
        "a cat",
        model="sdxl.safetensors",
        n=3,
        size=Size(768, 512),
        seed=1,
        steps=20,
        guidance=6,
        negative_prompt="dogs",
    )
    outgoing = Automatic1111("http://gpu:7860/", extra={"sampler_name": "Euler"}).outgoing(request)

    assert (outgoing.method, outgoing.url) == ("POST", "http://gpu:7860/sdapi/v1/txt2img")
    assert outgoing.json == {
        "prompt": "a cat",
        "negative_prompt": "dogs",
        "width": 768,
        "height": 512,
        "steps": 20,
        "cfg_scale": 6,
        "seed": 1,
        "n_iter": 3,
        "batch_size": 1,
        "sampler_name": "Euler",
        "override_settings": {"sd_model_checkpoint": "sdxl.safetensors"},
        "override_settings_restore_afterwards": False,
    }


def test_flux_in_forge_has_its_guidance_elsewhere():
    """cfg_scale is 1 then."""
    body = Automatic1111(distilled=True).outgoing(ImageRequest("x", guidance=3.5)).json

    assert (body["distilled_cfg_scale"], body["cfg_scale"]) == (3.5, 1)


def test_an_edit_goes_to_img2img():
    """With the picture, how far it may be left behind, and the mask."""
    picture = Image(png())
    outgoing = Automatic1111(denoising=0.5).outgoing(ImageRequest("x", images=(picture,), mask=picture))

    assert outgoing.url.endswith("/sdapi/v1/img2img")
    assert outgoing.json["init_images"] == [base64.b64encode(png()).decode()]
    assert outgoing.json["denoising_strength"] == 0.5
    assert {"mask", "inpainting_fill", "inpaint_full_res"} <= set(outgoing.json)


@pytest.mark.parametrize(
    ("given", "asked", "sent"),
    [
        ((1536, 1024), None, (1536, 1024)),
        ((4000, 1000), None, (2048, 512)),
        ((33, 1001), None, (64, 1000)),
        ((1536, 1024), Size(768, 512), (768, 512)),
        ((0, 0), None, (None, None)),
    ],
)
def test_an_edit_has_the_size_of_its_picture(given: tuple[int, int], asked: Size | None, sent: tuple[Any, Any]):
    """Without one the server would squash it to 512x512; an option of one's own wins."""
    picture = Image(png(), None, "image/png", *given)
    request = ImageRequest("x", images=(picture,), size=asked)
    body = Automatic1111().outgoing(request).json

    assert (body.get("width"), body.get("height")) == sent
    assert Automatic1111(extra={"width": 640}).outgoing(replace(request, size=None)).json["width"] == 640


def test_a_picture_on_its_side_is_sent_upright():
    """With a mask it goes as it is stored, for the mask lies on that."""
    exif, buffer = Pillow.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Pillow.new("RGB", (120, 80), "red").save(buffer, "JPEG", exif=exif)
    lying = Image(buffer.getvalue(), None, "image/jpeg", 120, 80)
    mask = Image(png(120, 80))
    alone = Automatic1111().outgoing(ImageRequest("x", images=(lying,))).json
    masked = Automatic1111().outgoing(ImageRequest("x", images=(lying,), mask=mask)).json

    assert (alone["width"], alone["height"]) == (80, 120)
    assert Pillow.open(io.BytesIO(base64.b64decode(alone["init_images"][0]))).size == (80, 120)
    assert masked["init_images"] == [base64.b64encode(lying.data).decode()]
    assert (masked["width"], masked["height"]) == (120, 80)


async def test_the_pictures_are_the_first_of_the_list():
    """A grid may follow; the seeds are in a JSON within the JSON."""
    async with open_vendor("automatic1111") as (_, backend):
        images = await draw(backend, ImageRequest("a cat", n=2))

    assert images == [Image(PICTURE, seed=11), Image(PICTURE, seed=12)]


@pytest.mark.parametrize(("first", "expected"), [(1, 1), (0, 0), (7, 0), (-1, 0), ("1", 0)])
async def test_a_grid_before_the_pictures_is_none_of_them(first: Any, expected: int):
    """The server says where the pictures begin."""
    async with open_vendor("automatic1111") as (fake, backend):
        pictures = [png(16, 8), png(8, 8), png(8, 16)]
        texts = [base64.b64encode(picture).decode() for picture in pictures]
        fake.result = {"images": texts, "info": json.dumps({"all_seeds": [5, 6], "index_of_first_image": first})}
        made = await draw(backend, ImageRequest("a cat", n=2))

    assert made == [Image(pictures[expected], seed=5), Image(pictures[expected + 1], seed=6)]


@pytest.mark.parametrize("info", [None, "", "{", "[]", '{"all_seeds": 5}', '{"all_seeds": ["x"]}', {"all_seeds": []}])
async def test_strange_seeds_are_no_seeds(info: Any):
    """They are no reason to lose the picture."""
    async with open_vendor("automatic1111") as (fake, backend):
        fake.result = {"images": [fake.encoded()], "info": info}

        assert await draw(backend, ASKED) == [Image(PICTURE)]


@pytest.mark.parametrize("images", [None, [], [5], "x", [""], ["%%"]])
async def test_no_pictures_are_a_broken_answer(images: Any):
    """200 is not success."""
    async with open_vendor("automatic1111") as (fake, backend):
        fake.result = {"images": images}
        with pytest.raises(BrokenAnswerError):
            await draw(backend, ASKED)


async def test_a_broken_picture_does_not_spoil_the_others():
    """The rest keep their own seeds, and the receipt says that one is missing."""
    told = Told()
    async with open_vendor("automatic1111") as (fake, backend):
        texts = [fake.encoded(), "%%", fake.encoded()]
        fake.result = {"images": texts, "info": json.dumps({"all_seeds": [5, 6, 7]})}
        made = await draw(backend, ImageRequest("a cat", n=3), told)

    assert made == [Image(PICTURE, seed=5), Image(PICTURE, seed=7)]
    assert told.notes == ["a picture is missing: answered a picture that is not valid base64"]


async def test_progress_and_previews_are_told_meanwhile():
    """Asked for beside the call; the same preview is shown once."""
    told = Watched(3)
    async with open_vendor("automatic1111") as (fake, backend):
        fake.modes.append("hang")
        job = asyncio.create_task(draw(backend, ASKED, told))
        await told.seen.wait()
        fake.released.set()
        await job

    assert set(told.done) == {0.5}
    assert told.partials == [b"preview"]


async def test_broken_progress_does_not_lose_the_picture():
    """What is told meanwhile is not what is wanted."""
    async with open_vendor("automatic1111") as (fake, backend):
        fake.modes.append("slow:0.1")
        fake.modes.extend(["html", "status:500", "reset"])

        assert await draw(backend, ASKED) == [Image(PICTURE, seed=11)]


async def test_cancelling_interrupts():
    """One's own engine does not draw for nobody."""
    async with open_vendor("automatic1111") as (fake, backend):
        told = Watched(1)
        fake.modes.append("hang")
        job = asyncio.create_task(draw(backend, ASKED, told))
        await told.seen.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

        assert "POST /sdapi/v1/interrupt" in fake.paths()


async def test_a_timeout_interrupts_and_may_be_tried_elsewhere():
    """It cost nothing but electricity."""
    async with open_vendor("automatic1111") as (fake, _):
        fake.modes.append("hang")
        async with Automatic1111(fake.base, http=type(QUICK)(first_byte=0.05, connect=0.05, total=0.1)) as backend:
            with pytest.raises(UpstreamTimeoutError) as caught:
                await draw(backend, ASKED)

        assert fake.paths()[-1] == "POST /sdapi/v1/interrupt"
    assert (caught.value.retryable, caught.value.billed) == (True, False)


async def test_jobs_wait_for_each_other():
    """The progress is one for all, and an interrupt stops whatever runs."""
    async with open_vendor("automatic1111") as (fake, backend):
        told = Watched(3)
        fake.modes.append("hang")
        first = asyncio.create_task(draw(backend, ASKED, told))
        second = asyncio.create_task(draw(backend, ASKED))
        await told.seen.wait()
        drawn = [path for path in fake.paths() if path.endswith("txt2img")]
        fake.released.set()
        await asyncio.gather(first, second)

    assert len(drawn) == 1


async def test_the_login_is_basic_and_never_shown():
    """As ``--api-auth`` wants it."""
    async with open_vendor("automatic1111") as (fake, _):
        async with Automatic1111(fake.base, "user", Secret("canary"), QUICK) as backend:
            await draw(backend, ASKED)
            fake.mode = "status:401"
            with pytest.raises(Exception, match="key") as caught:
                await draw(backend, ASKED)

        assert fake.calls[0].headers["Authorization"] == "Basic " + base64.b64encode(b"user:canary").decode()
    assert "canary" not in f"{caught.value} {backend!r}"


@pytest.mark.parametrize("echoed", ["Basic dXNlcjpjYW5hcnktMTIz", "user:canary-123", "canary-123"])
async def test_a_login_that_the_server_repeats_is_not_told(echoed: str):
    """Neither as it was sent nor in its parts."""
    async with (
        open_vendor("automatic1111") as (fake, _),
        Automatic1111(fake.base, "user", Secret("canary-123"), QUICK) as backend,
    ):
        fake.mode, fake.error = "status:400", {"detail": f"bad header Authorization: {echoed}"}
        with pytest.raises(GatewayError, match="bad header") as caught:
            await draw(backend, ASKED)

    assert "canary" not in caught.value.message
    assert "dXNl" not in caught.value.message


async def test_out_of_memory_is_told_in_its_words():
    """500 with an error's name."""
    async with open_vendor("automatic1111") as (fake, backend):
        fake.error = {"error": "OutOfMemoryError", "detail": "", "errors": "CUDA out of memory."}
        fake.mode = "status:500"
        with pytest.raises(BusyUpstreamError, match="OutOfMemoryError"):
            await draw(backend, ASKED)


def test_a_colon_in_the_user_name_is_refused():
    """It would end the name."""
    with pytest.raises(ValueError, match="colon"):
        Automatic1111(username="a:b")
