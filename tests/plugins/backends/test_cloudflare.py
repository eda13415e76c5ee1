"""Each model of Workers AI gets exactly the fields it takes, and Cloudflare's codes mean what they mean."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from gateway_plugins.backends.cloudflare import Cloudflare
from gateway_plugins.backends.cloudflare.errors import judge, judge_envelope, until_midnight

from gateway import (
    AllowanceError,
    Answer,
    BadKeyError,
    BrokenAnswerError,
    BusyUpstreamError,
    GatewayError,
    Image,
    MisconfiguredError,
    NotAnImageError,
    RateLimitedError,
    RefusedError,
    RejectedError,
    Secret,
    Size,
)
from gateway.negotiate import negotiate
from tests.fake_upstream import FakeUpstream, cloudflare_envelope, cloudflare_error, png
from tests.plugins.backends.contract import CANARY, Remembered, asking, input_image

KEYS = (CANARY, Secret("second-key-0123456789"))
SCHNELL = "@cf/black-forest-labs/flux-1-schnell"
EVERYTHING: dict[str, Any] = {
    "size": Size(768, 512),
    "steps": 8,
    "guidance": 3.5,
    "seed": 42,
    "negative_prompt": "dogs",
    "quality": "high",
    "user": "somebody",
}
SIZED = {"prompt": "a cat", "width": 768, "height": 512}
DIFFUSION = {**SIZED, "num_steps": 8, "guidance": 3.5, "seed": 42, "negative_prompt": "dogs"}

# What reaches each model when a caller asks for everything at once.
GOLDEN: dict[str, dict[str, Any]] = {
    SCHNELL: {"prompt": "a cat", "steps": 8},
    "@cf/black-forest-labs/flux-2-dev": {**SIZED, "steps": 8, "guidance": 3.5, "seed": 42},
    "@cf/black-forest-labs/flux-2-klein-4b": {**SIZED, "guidance": 3.5, "seed": 42},
    "@cf/black-forest-labs/flux-2-klein-9b": {**SIZED, "guidance": 3.5, "seed": 42},
    "@cf/leonardo/lucid-origin": {**SIZED, "num_steps": 8, "guidance": 3.5, "seed": 42},
    "@cf/leonardo/phoenix-1.0": DIFFUSION,
    "@cf/stabilityai/stable-diffusion-xl-base-1.0": DIFFUSION,
    "@cf/bytedance/stable-diffusion-xl-lightning": DIFFUSION,
    "@cf/lykon/dreamshaper-8-lcm": DIFFUSION,
    "@cf/somebody/brand-new": DIFFUSION,
}
FORMS = re.compile("flux-2")


def backend(fake: FakeUpstream, **options: Any) -> Cloudflare:
    return Cloudflare(**{"account_id": "acc", "keys": KEYS, "base_url": f"{fake.base}/client/v4", **options})


@pytest.mark.parametrize("model", GOLDEN)
async def test_model_gets_what_it_takes(model: str, fake: FakeUpstream) -> None:
    """Field by field, as JSON or as a form, and the receipt says the same."""
    async with backend(fake) as cloudflare:
        plan = negotiate(asking("ours", **EVERYTHING), cloudflare.capabilities(model), model, "crop")
        images = await cloudflare.generate(plan.request, Remembered())
    sent = fake.last.fields if FORMS.search(model) else fake.last.json

    assert images[0].data == fake.picture
    assert fake.last.path == f"/client/v4/accounts/acc/ai/run/{model}"
    expected = GOLDEN[model]
    assert sent == ({name: str(value) for name, value in expected.items()} if FORMS.search(model) else expected)
    told = {change.name for change in (*plan.dropped, *plan.adjusted)}
    names = {"steps": ("steps", "num_steps"), "size": ("width",)}
    for name in EVERYTHING:
        assert any(field in expected for field in names.get(name, (name,))) or name in told


@pytest.mark.parametrize("model", GOLDEN)
async def test_nothing_is_sent_that_nobody_asked_for(model: str, fake: FakeUpstream) -> None:
    """The model's own defaults hold."""
    async with backend(fake) as cloudflare:
        await cloudflare.generate(asking(model), Remembered())

    assert (fake.last.fields or fake.last.json) == {"prompt": "a cat"}


def test_schnell_is_square_and_short_of_words(fake: FakeUpstream) -> None:
    """It takes no size, always makes 1024x1024, refuses more than 8 steps and 2048 characters."""
    cloudflare = backend(fake)
    request = asking("ours", prompt="x" * 3000, size=Size(1024, 576), steps=50)
    plan = negotiate(request, cloudflare.capabilities(SCHNELL), SCHNELL, "crop")

    assert cloudflare.outgoing(plan.request).json == {"prompt": "x" * 2048, "steps": 8}
    assert plan.size == Size(1024, 576)
    assert {change.name for change in plan.adjusted} >= {"prompt", "steps"}


async def test_img2img_sends_the_picture_as_base64(fake: FakeUpstream) -> None:
    """With the strength that the options say."""
    model = "@cf/runwayml/stable-diffusion-v1-5-img2img"
    picture = input_image()
    async with backend(fake, strength=0.5) as cloudflare:
        await cloudflare.generate(asking(model, images=(picture,)), Remembered())

    assert fake.last.json == {
        "prompt": "a cat",
        "image_b64": base64.b64encode(picture.data).decode(),
        "strength": 0.5,
    }


async def test_inpainting_mask_is_white_where_to_repaint(fake: FakeUpstream) -> None:
    """Ours is transparent there; theirs is an array of the bytes of a black and white picture."""
    from io import BytesIO

    from PIL import Image as Pillow

    drawn = Pillow.new("RGBA", (4, 4), (0, 0, 0, 255))
    drawn.putpixel((1, 1), (0, 0, 0, 0))
    buffer = BytesIO()
    drawn.save(buffer, "PNG")
    mask = Image(data=buffer.getvalue(), media_type="image/png")
    model = "@cf/runwayml/stable-diffusion-v1-5-inpainting"
    async with backend(fake) as cloudflare:
        await cloudflare.generate(asking(model, images=(input_image(4, 4),), mask=mask), Remembered())
    sent = Pillow.open(BytesIO(bytes(fake.last.json["mask"])))

    assert sent.getpixel((1, 1)) == 255
    assert sent.getpixel((0, 0)) == 0


async def test_flux_2_inputs_are_files_below_512(fake: FakeUpstream) -> None:
    """Larger ones are made smaller here; small ones go as they are."""
    from io import BytesIO

    from PIL import Image as Pillow

    small, large = input_image(100, 50), input_image(1024, 512)
    async with backend(fake) as cloudflare:
        await cloudflare.generate(asking("@cf/black-forest-labs/flux-2-dev", images=(small, large)), Remembered())
    first, second = fake.last.files

    assert (first[0], first[2], first[3]) == ("input_image_0", "image/png", small.data)
    assert second[0] == "input_image_1"
    assert Pillow.open(BytesIO(second[3])).size == (511, 256)


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "https://api.cloudflare.com/client/v4/accounts/acc/ai/run/{}"),
        ({"base_url": "http://x/client/v4/"}, "http://x/client/v4/accounts/acc/ai/run/{}"),
        ({"gateway": "mine"}, "https://gateway.ai.cloudflare.com/v1/acc/mine/workers-ai/{}"),
        ({"gateway": "https://gw.example/v1/acc/mine/"}, "https://gw.example/v1/acc/mine/workers-ai/{}"),
        ({"gateway": "https://gw.example/v1/acc/mine/workers-ai"}, "https://gw.example/v1/acc/mine/workers-ai/{}"),
    ],
)
def test_addresses(options: dict[str, str], url: str) -> None:
    """Directly or through an AI Gateway; the slashes of the model stay."""
    cloudflare = Cloudflare(account_id="acc", keys=KEYS, **options)  # type: ignore[arg-type]  # texts only

    assert cloudflare.outgoing(asking(SCHNELL)).url == url.format(SCHNELL)


async def test_gateway_token_goes_along_unseen(fake: FakeUpstream) -> None:
    """A gateway with authentication wants a second header; `explain` never shows it."""
    token = Secret("canary-gateway-token")
    async with backend(fake, gateway=f"{fake.base}/v1/acc/mine", gateway_token=token) as cloudflare:
        await cloudflare.generate(asking(SCHNELL), Remembered())

        assert fake.last.headers["cf-aig-authorization"] == f"Bearer {token}"
        assert "canary" not in f"{cloudflare!r}{cloudflare.outgoing(asking(SCHNELL))!r}"


@pytest.mark.parametrize("model", ["../../user/tokens", "a?b=c", "a#b", "", "a/../b", "a\nb"])
def test_model_name_leads_nowhere_else(model: str, fake: FakeUpstream) -> None:
    """A wildcard route passes on what the caller wrote; it must not reach other parts of the API."""
    with pytest.raises(MisconfiguredError):
        backend(fake).outgoing(asking(model))


@pytest.mark.parametrize("options", [{"keys": ()}, {"keys": (Secret("a\nb"),)}])
def test_unusable_options(options: dict[str, Any]) -> None:
    """What cannot work is refused at start."""
    with pytest.raises(ValueError, match="key"):
        Cloudflare(account_id="acc", **options)


ROWS: list[tuple[int, int, type[GatewayError]]] = [
    (400, 5004, RejectedError),
    (400, 5006, RejectedError),
    (400, 3003, RejectedError),
    (400, 8001, RejectedError),
    (400, 5007, MisconfiguredError),
    (400, 8007, RefusedError),
    (400, 3030, RefusedError),
    (400, 7003, MisconfiguredError),
    (404, 7003, MisconfiguredError),
    (401, 10000, BadKeyError),
    (403, 10000, BadKeyError),
    (403, 9109, BadKeyError),
    (400, 6003, BadKeyError),
    (400, 6111, BadKeyError),
    (403, 5016, MisconfiguredError),
    (403, 5018, MisconfiguredError),
    (403, 3041, MisconfiguredError),
    (403, 3023, BadKeyError),
    (403, 5035, MisconfiguredError),
    (404, 3042, MisconfiguredError),
    (405, 5019, RejectedError),
    (408, 3007, BusyUpstreamError),
    (408, 3008, BusyUpstreamError),
    (413, 3006, RejectedError),
    (429, 3036, AllowanceError),
    (429, 4006, AllowanceError),
    (429, 3040, RateLimitedError),
    (429, 9999, RateLimitedError),
    (500, 5000, BusyUpstreamError),
    (500, 3000, BusyUpstreamError),
    (500, 5001, BusyUpstreamError),
    (502, 7009, BusyUpstreamError),
    (200, 8007, RefusedError),
    (200, 3036, AllowanceError),
    (200, 10000, BadKeyError),
    (200, 1, BrokenAnswerError),
]


@pytest.mark.parametrize(("status", "code", "kind"), ROWS)
def test_codes(status: int, code: int, kind: type[GatewayError]) -> None:
    """The table of codes, row by row, with the upstream's words in the message; also when it says so with 200."""
    import orjson

    answer = Answer(status, {}, orjson.dumps(cloudflare_error(code, "AiError: what was wrong")))
    error = judge(answer)

    assert type(error) is kind
    assert "AiError: what was wrong" in str(error)


def test_allowance_lasts_until_midnight() -> None:
    """It comes back at 00:00 UTC, not in a second."""
    evening = datetime(2026, 11, 21, 23, 30, tzinfo=UTC).timestamp()
    error = judge_envelope(cloudflare_error(4006, "10,000 neurons"), Answer(429), now=evening)

    assert error.retry_after == 1800
    assert until_midnight(datetime(2026, 11, 22, tzinfo=UTC).timestamp()) == 86400


async def test_used_up_allowance_rests_the_account(fake: FakeUpstream) -> None:
    """The second token would spend the same allowance: it is not even tried."""
    fake.mode, fake.error = "status:429", cloudflare_error(3036, "allocation used up")
    async with backend(fake) as cloudflare:
        for _ in range(2):
            with pytest.raises(AllowanceError) as raised:
                await cloudflare.generate(asking(SCHNELL), Remembered())

        assert len(fake.calls) == 1
        assert cloudflare.health()["resting"] == 2
        assert 0 < (raised.value.retry_after or 0) <= 86400


async def test_lack_of_capacity_tries_the_other_key(fake: FakeUpstream) -> None:
    """3040 passes: the key rests a little, the other one is asked."""
    fake.modes.append("status:429")
    fake.error = cloudflare_error(3040, "Capacity temporarily exceeded, please try again.")
    async with backend(fake) as cloudflare:
        assert await cloudflare.generate(asking(SCHNELL), Remembered())
        assert cloudflare.health()["resting"] == 1

    assert len(fake.calls) == 2


ENVELOPES: list[tuple[dict[str, Any], bool]] = [
    ({"result": {"image": "PNG"}, "success": True}, True),
    ({"success": True, "messages": [], "result": {"seed": 1, "image": "PNG"}}, True),
    ({"result": {"image": "data:image/png;base64,PNG"}, "success": True}, True),
    ({"result": {"images": ["PNG"]}, "success": True}, True),
    ({"result": "PNG", "success": True}, True),
    ({"result": {"image": "PNG"}, "success": False}, False),
    ({"result": {"image": "PNG"}, "success": False, "errors": None}, False),
    ({"result": {}, "success": True}, False),
]


@pytest.mark.parametrize("noise", [0, 200_000])
@pytest.mark.parametrize(("envelope", "good"), ENVELOPES)
async def test_envelopes(envelope: dict[str, Any], good: bool, noise: int, fake: FakeUpstream) -> None:
    """The flag counts, whatever else is there, for short answers and long ones."""
    import json

    picture = png(8, 8, noise)
    text = json.dumps(envelope).replace("PNG", base64.b64encode(picture).decode())
    fake.mode, fake.error = "body", text.encode()
    async with backend(fake) as cloudflare:
        if good:
            assert (await cloudflare.generate(asking(SCHNELL), Remembered()))[0].data == picture
            return
        with pytest.raises(BrokenAnswerError):
            await cloudflare.generate(asking(SCHNELL), Remembered())


async def test_url_answers_are_handed_on_unfetched(fake: FakeUpstream) -> None:
    """Fetching is the address guard's work."""
    fake.mode = "body"
    for place in ("https://x.example/a.png", {"url": "https://x.example/a.png"}):
        fake.error = {"result": {"image": place}, "success": True}
        async with backend(fake) as cloudflare:
            images = await cloudflare.generate(asking(SCHNELL), Remembered())

        assert images == [Image(url="https://x.example/a.png")]


@pytest.mark.parametrize("declared", ["application/json", "text/plain", "image/jpeg", "application/octet-stream"])
async def test_bytes_are_recognised_whatever_they_are_called(declared: str, fake: FakeUpstream) -> None:
    """Some models answer the picture itself, under any name."""
    fake.mode = f"type:{declared}"
    async with backend(fake) as cloudflare:
        images = await cloudflare.generate(asking("@cf/leonardo/phoenix-1.0"), Remembered())

    assert images == [Image(data=fake.picture)]


async def test_other_bytes_are_no_image(fake: FakeUpstream) -> None:
    """An SVG may run scripts, so it is no picture here."""
    fake.mode, fake.error = "body", b"<svg xmlns='http://www.w3.org/2000/svg'></svg>"
    async with backend(fake) as cloudflare:
        with pytest.raises(NotAnImageError):
            await cloudflare.generate(asking("@cf/leonardo/phoenix-1.0"), Remembered())


def test_envelope_of_the_fake_is_the_documented_one() -> None:
    """The other tests stand on it."""
    assert cloudflare_envelope("x") == {"result": {"image": "x"}, "success": True, "errors": [], "messages": []}
