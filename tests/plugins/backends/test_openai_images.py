"""Each dialect gets exactly the fields it takes, and its answers are read from where it puts them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
from typing import Any, get_args

import pytest
from aiohttp import web
from gateway_plugins.backends.openai_images import DIALECTS, DialectName, OpenAIImages
from PIL import Image as Pillow
from pydantic import TypeAdapter, ValidationError

from gateway import (
    AllowanceError,
    BadKeyError,
    BrokenAnswerError,
    BusyUpstreamError,
    GatewayError,
    Image,
    NoAccessError,
    Outgoing,
    RateLimitedError,
    RefusedError,
    RejectedError,
    Secret,
    Size,
    Usage,
)
from gateway.negotiate import negotiate, strict_complaint
from tests.fake_upstream import FakeUpstream, png
from tests.plugins.backends.contract import CANARY, Remembered, asking, input_image

HASHED = hashlib.sha256(b"somebody").hexdigest()
EVERYTHING: dict[str, Any] = {
    "n": 2,
    "size": Size(1024, 576),
    "steps": 4,
    "guidance": 3.5,
    "seed": 42,
    "negative_prompt": "dogs",
    "quality": "high",
    "background": "opaque",
    "output_format": "jpeg",
    "output_compression": 80,
    "moderation": "low",
    "user": "somebody",
    "style": "vivid",
}
GPT = {
    "prompt": "a cat",
    "n": 2,
    "quality": "high",
    "background": "opaque",
    "output_format": "jpeg",
    "output_compression": 80,
    "moderation": "low",
    "safety_identifier": HASHED,
}
SAMPLED = {"seed": 42, "num_inference_steps": 4, "guidance_scale": 3.5, "negative_prompt": "dogs"}
B64 = {"response_format": "b64_json"}
FLUX = "black-forest-labs/FLUX.1-dev"
EXTRA = '<sd_cpp_extra_args>{"seed": 42, "sample_params": {"sample_steps": 4, "guidance": {"txt_cfg": 3.5}}}'

# dialect, model → the body when a caller asks for everything at once; the size is checked beside the negotiation.
GOLDEN: list[tuple[str, str, dict[str, Any]]] = [
    ("openai", "gpt-image-1-mini", {"model": "gpt-image-1-mini", "size": "1536x1024", **GPT}),
    ("openai", "gpt-image-1.5", {"model": "gpt-image-1.5", "size": "1536x1024", **GPT}),
    ("openai", "gpt-image-2", {"model": "gpt-image-2", "size": "1088x608", **GPT}),
    ("openai", "gpt-image-2.6-flare", {"model": "gpt-image-2.6-flare", "size": "1088x608", **GPT}),
    ("openai", "chatgpt-image-latest", {"model": "chatgpt-image-latest", "size": "1536x1024", **GPT}),
    ("azure", "my-deployment", {"model": "my-deployment", "size": "1536x1024", **GPT}),
    ("azure-deployments", "my-deployment", {"size": "1536x1024", **GPT}),
    ("siliconflow", "Kwai-Kolors/Kolors", {"model": "Kwai-Kolors/Kolors", "batch_size": 2, **SAMPLED}),
    ("siliconflow", "Qwen/Qwen-Image", {"model": "Qwen/Qwen-Image", "image_size": "1664x928", **SAMPLED}),
    ("siliconflow", FLUX, {"model": FLUX, "image_size": "1024x576", **SAMPLED}),
    (
        "siliconflow",
        "black-forest-labs/FLUX.1-schnell",
        {"model": "black-forest-labs/FLUX.1-schnell", "image_size": "1024x576", "seed": 42},
    ),
    (
        "together",
        FLUX,
        {
            "model": FLUX,
            "width": 1024,
            "height": 576,
            "steps": 4,
            "n": 2,
            "seed": 42,
            "guidance_scale": 3.5,
            "negative_prompt": "dogs",
            "output_format": "jpeg",
            "response_format": "base64",
        },
    ),
    (
        "fireworks",
        "flux-1-dev-fp8",
        {"aspect_ratio": "16:9", "num_inference_steps": 4, "guidance_scale": 3.5, "seed": 42},
    ),
    ("deepinfra", FLUX, {"model": FLUX, "n": 2, "size": "1024x576", **B64}),
    (
        "nebius",
        "black-forest-labs/flux-dev",
        {
            "model": "black-forest-labs/flux-dev",
            "width": 1024,
            "height": 576,
            "num_inference_steps": 4,
            "negative_prompt": "dogs",
            "seed": 42,
            "response_extension": "jpg",
            **B64,
        },
    ),
    ("xai", "grok-2-image", {"model": "grok-2-image", "n": 2, "aspect_ratio": "16:9", **B64}),
    (
        "localai",
        "flux",
        {"model": "flux", "prompt": "a cat|dogs", "n": 2, "size": "1024x576", "seed": 42, "step": 4, **B64},
    ),
    (
        "stable-diffusion.cpp",
        "flux",
        {
            "model": "flux",
            "prompt": f"a cat {EXTRA}</sd_cpp_extra_args>",
            "n": 2,
            "size": "1024x576",
            "output_format": "jpeg",
            "output_compression": 80,
        },
    ),
    ("vllm-omni", "Qwen/Qwen-Image", {"model": "Qwen/Qwen-Image", "n": 2, "size": "1024x576", **SAMPLED, **B64}),
    (
        "sglang",
        "flux",
        {
            "model": "flux",
            "n": 2,
            "size": "1024x576",
            "output_format": "jpeg",
            "background": "opaque",
            **SAMPLED,
            **B64,
        },
    ),
]
SENT_AS = {
    "n": ("n", "batch_size"),
    "size": ("size", "image_size", "width", "aspect_ratio"),
    "steps": ("steps", "num_inference_steps", "step", "prompt"),
    "guidance": ("guidance_scale", "prompt"),
    "seed": ("seed", "prompt"),
    "negative_prompt": ("negative_prompt", "prompt"),
    "output_format": ("output_format", "response_extension"),
    "user": ("safety_identifier",),
}


def backend(fake: FakeUpstream, dialect: str = "openai", **options: Any) -> OpenAIImages:
    return OpenAIImages(**{"dialect": dialect, "base_url": f"{fake.base}/v1", "keys": (CANARY,), **options})


@pytest.mark.parametrize(("dialect", "model", "expected"), GOLDEN, ids=[f"{d}-{m}" for d, m, _ in GOLDEN])
async def test_dialect_gets_what_it_takes(
    dialect: str, model: str, expected: dict[str, Any], fake: FakeUpstream
) -> None:
    """Field by field; what does not go along stands in the receipt."""
    async with backend(fake, dialect) as images:
        plan = negotiate(asking("ours", **EVERYTHING), images.capabilities(model), model, "crop")
        made = await images.generate(plan.request, Remembered())
    sent = fake.last.json
    size = sent.pop("image_size", None) if "image_size" not in expected else None

    assert sent == {"prompt": "a cat", **expected}
    assert not size or Size.parse(size) in images.capabilities(model).sizes  # type: ignore[operator]  # a tuple here
    assert len(made) == min(plan.request.n, 2 if dialect != "fireworks" else 1)
    told = {change.name for change in (*plan.dropped, *plan.adjusted)}
    done_here = {"n", "size", "output_format", "output_compression"}
    for name in EVERYTHING:
        assert any(field in sent for field in SENT_AS.get(name, (name,))) or name in told | done_here


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_plain_prompt_is_sent_plainly(dialect: str, fake: FakeUpstream) -> None:
    """Who asks for nothing special gets the model's own defaults, and GPT models no response_format."""
    async with backend(fake, dialect) as images:
        await images.generate(asking("gpt-image-2"), Remembered())
    sent = fake.last.json

    assert sent["prompt"] == "a cat"
    assert set(sent) <= {"prompt", "model", "n", "response_format", "batch_size"}
    assert ("response_format" in sent) == ("response_format" in DIALECTS[dialect].fixed)


def test_every_dialect_can_be_named() -> None:
    """The option and the table hold the same names."""
    assert set(get_args(DialectName)) == {*DIALECTS, "custom"}


@pytest.mark.parametrize(
    ("dialect", "options", "path"),
    [
        ("openai", {}, "/v1/images/generations"),
        ("azure", {}, "/v1/openai/v1/images/generations?api-version=preview"),
        ("azure", {"api_version": "v1"}, "/v1/openai/v1/images/generations?api-version=v1"),
        (
            "azure-deployments",
            {},
            "/v1/openai/deployments/gpt-image-2/images/generations?api-version=2025-04-01-preview",
        ),
        ("fireworks", {}, "/v1/image_generation/accounts/fireworks/models/gpt-image-2"),
        ("siliconflow", {"endpoint": "https://x.example/any/path"}, None),
    ],
)
def test_addresses(dialect: str, options: dict[str, str], path: str | None, fake: FakeUpstream) -> None:
    """Paths by dialect, or the whole URL as Worker B gave it."""
    url = backend(fake, dialect, **options).outgoing(asking("gpt-image-2")).url

    assert url == (f"{fake.base}{path}" if path else options["endpoint"])


@pytest.mark.parametrize(
    ("dialect", "header", "value"),
    [("openai", "Authorization", f"Bearer {CANARY}"), ("azure", "api-key", str(CANARY))],
)
async def test_key_goes_where_it_belongs(dialect: str, header: str, value: str, fake: FakeUpstream) -> None:
    """Azure's header is its own."""
    async with backend(fake, dialect) as images:
        await images.generate(asking("gpt-image-2"), Remembered())

    assert fake.last.headers[header] == value


async def test_worker_b_speaks_as_before(fake: FakeUpstream) -> None:
    """Exactly the fields of the seed: prompt, image_size, 50 steps, model; the URL of the answer."""
    images = backend(fake, "siliconflow", endpoint=f"{fake.base}/any/where", steps=50)
    request = asking("black-forest-labs/FLUX.1-schnell", size=Size(576, 1024))
    async with images:
        made = await images.generate(request, Remembered())

    assert fake.last.path == "/any/where"
    assert fake.last.json == {
        "prompt": "a cat",
        "image_size": "576x1024",
        "num_inference_steps": 50,
        "model": "black-forest-labs/FLUX.1-schnell",
    }
    assert made == [Image(url=fake.file_url(), seed=123)]


async def test_retired_names_lead_to_their_successors(fake: FakeUpstream) -> None:
    """Old clients still ask for DALL·E."""
    async with backend(fake) as images:
        await images.generate(asking("dall-e-3"), Remembered())

    assert fake.last.json["model"] == "gpt-image-1.5"
    assert images.capabilities("dall-e-3") == images.capabilities("gpt-image-1.5")


def test_quality_beyond_high_is_for_some() -> None:
    """Only 2.5 knows xhigh and max."""
    images = OpenAIImages()

    assert "max" in images.capabilities("gpt-image-2.5-flare").accepts["quality"]  # type: ignore[operator]  # words
    assert "max" not in images.capabilities("gpt-image-2").accepts["quality"]  # type: ignore[operator]  # words


@pytest.mark.parametrize(
    "tag",
    [
        "<sd_cpp_extra_args>{}</sd_cpp_extra_args>",
        "<SD_CPP_EXTRA_ARGS >x",
        "<sd_cpp_<sd_cpp_extra_args>extra_args>{}</sd_cpp_</sd_cpp_extra_args>extra_args>",
    ],
)
def test_callers_cannot_set_engine_options(tag: str, fake: FakeUpstream) -> None:
    """sd-server reads options out of the prompt; those of a caller are taken out."""
    prompt = (
        backend(fake, "stable-diffusion.cpp").outgoing(asking("flux", prompt=f"a cat {tag}", seed=7)).json["prompt"]
    )

    assert prompt.lower().count("<sd_cpp_extra_args") == 1
    assert prompt.endswith('<sd_cpp_extra_args>{"seed": 7}</sd_cpp_extra_args>')


@pytest.mark.parametrize(
    ("model", "taken"), [("gpt-image-1.5", True), ("gpt-image-2", False), ("gpt-image-1-mini", False)]
)
def test_some_models_cannot_be_told_how_close_to_look(model: str, taken: bool, fake: FakeUpstream) -> None:
    """They answer 400 to it."""
    assert ("input_fidelity" in backend(fake).capabilities(model).accepts) == taken


def test_what_goes_with_edits_alone_or_without_them_is_known_before(fake: FakeUpstream) -> None:
    """OpenAI takes moderation for generations alone, input_fidelity for edits alone: strict refuses the rest."""
    known = backend(fake).capabilities("gpt-image-1.5")
    edit = negotiate(asking("gpt-image-1.5", images=(input_image(),), moderation="low"), known, "gpt-image-1.5", "crop")
    draw = negotiate(asking("gpt-image-1.5", input_fidelity="high"), known, "gpt-image-1.5", "crop")
    good = negotiate(asking("gpt-image-1.5", moderation="low"), known, "gpt-image-1.5", "crop")

    assert [change.name for change in (*edit.dropped, *draw.dropped)] == ["moderation", "input_fidelity"]
    assert "moderation would be dropped" in (strict_complaint(edit) or "")
    assert "with input pictures only" in (strict_complaint(draw) or "")
    assert "moderation" not in fields(backend(fake).outgoing(edit.request))
    assert backend(fake).outgoing(good.request).json["moderation"] == "low"


def fields(outgoing: Outgoing) -> dict[str, Any]:
    return {part.name: part.value for part in outgoing.form}


def test_bar_in_a_prompt_is_no_negative_prompt(fake: FakeUpstream) -> None:
    """LocalAI would take what follows the bar as what must not be drawn."""
    assert "|" not in backend(fake, "localai").outgoing(asking("flux", prompt="a|b")).json["prompt"]


def painted(mode: str, colour: Any, form: str) -> Image:
    buffer = io.BytesIO()
    Pillow.new(mode, (16, 16), colour).save(buffer, form)
    return Image(buffer.getvalue(), None, f"image/{form.lower()}", 16, 16)


CLEAR = painted("RGBA", (0, 0, 0, 0), "PNG")


@pytest.mark.parametrize(
    ("mask", "opacity"),
    [
        (painted("L", 255, "JPEG"), 0),
        (painted("RGB", (0, 0, 0), "PNG"), 255),
        (painted("RGBA", (9, 9, 9, 0), "WEBP"), 0),
        (painted("RGB", (255, 255, 255), "WEBP"), 0),
    ],
)
async def test_a_mask_becomes_what_openai_takes(mask: Image, opacity: int, fake: FakeUpstream) -> None:
    """A PNG with transparency where it is to be repainted; the receipt will say that it was converted."""
    report = Remembered()
    async with backend(fake) as images:
        await images.generate(asking("gpt-image-2", images=(input_image(),), mask=mask), report)

    _, name, kind, content = next(file for file in fake.last.files if file[0] == "mask")
    with Pillow.open(io.BytesIO(content)) as sent:
        assert (name, kind, sent.format, sent.mode, sent.size) == ("mask.png", "image/png", "PNG", "RGBA", (16, 16))
        assert sent.getchannel("A").getextrema() == (opacity, opacity)
    assert report.notes == ["mask: converted to the PNG that the target takes"]


async def test_sd_server_takes_a_white_mask(fake: FakeUpstream) -> None:
    """It reads how light the mask is, not how transparent."""
    async with backend(fake, "stable-diffusion.cpp") as images:
        await images.generate(asking("sd", images=(input_image(),), mask=CLEAR), Remembered())

    content = next(content for field, _, _, content in fake.last.files if field == "mask")
    with Pillow.open(io.BytesIO(content)) as sent:
        assert (sent.mode, sent.getextrema()) == ("L", (255, 255))


@pytest.mark.parametrize(
    ("count", "mask", "names"),
    [
        (1, False, ["image"]),
        (2, False, ["image[]", "image[]"]),
        (1, True, ["image", "mask"]),
    ],
)
async def test_edits_are_forms_with_true_types(count: int, mask: bool, names: list[str], fake: FakeUpstream) -> None:
    """OpenAI refuses application/octet-stream; one picture is `image`, several are `image[]`."""
    pictures = tuple(input_image() for _ in range(count))
    request = asking(
        "gpt-image-1.5", images=pictures, mask=CLEAR if mask else None, quality="low", input_fidelity="high"
    )
    report = Remembered()
    async with backend(fake) as images:
        await images.generate(request, report)

    assert fake.last.path == "/v1/images/edits"
    assert [(name, kind, content) for name, _, kind, content in fake.last.files] == [
        (name, "image/png", CLEAR.data if name == "mask" else pictures[0].data) for name in names
    ]
    assert report.notes == []
    assert fake.last.fields == {
        "model": "gpt-image-1.5",
        "prompt": "a cat",
        "n": "1",
        "quality": "low",
        "input_fidelity": "high",
    }


@pytest.mark.parametrize(
    ("dialect", "model", "count", "path", "shape"),
    [
        ("xai", "grok", 1, "/v1/images/edits", {"image": {"type": "image_url", "url": "URL"}}),
        ("xai", "grok", 2, "/v1/images/edits", {"images": [{"type": "image_url", "url": "URL"}] * 2}),
        ("siliconflow", "Qwen/Qwen-Image-Edit-2509", 1, "/v1/images/generations", {"image": "URL"}),
        (
            "siliconflow",
            "Qwen/Qwen-Image-Edit-2509",
            3,
            "/v1/images/generations",
            {"image": "URL", "image2": "URL", "image3": "URL"},
        ),
        ("together", "black-forest-labs/FLUX.1-kontext-pro", 1, "/v1/images/generations", {"image_url": "URL"}),
    ],
)
async def test_edits_as_json(
    dialect: str, model: str, count: int, path: str, shape: dict[str, Any], fake: FakeUpstream
) -> None:
    """Three shapes of data URLs."""
    picture = input_image()
    url = f"data:image/png;base64,{base64.b64encode(picture.data).decode()}"
    async with backend(fake, dialect) as images:
        await images.generate(asking(model, images=(picture,) * count), Remembered())

    assert fake.last.path == path
    expected = json.loads(json.dumps(shape).replace("URL", url))
    assert {name: fake.last.json[name] for name in expected} == expected


def test_whole_endpoint_takes_no_edits(fake: FakeUpstream) -> None:
    """Where edits would go is not known, so the target does not claim them."""
    assert backend(fake, endpoint="https://x.example/y").capabilities("gpt-image-2").inputs == 0
    assert backend(fake).capabilities("gpt-image-2").inputs == 16


PICTURE = png(4, 4)
TEXT = base64.b64encode(PICTURE).decode()
LARGE = png(8, 8, 100_000)
ANSWERS: list[tuple[Any, list[Image]]] = [
    ({"data": [{"b64_json": TEXT}]}, [Image(data=PICTURE)]),
    ({"data": [{"b64_json": base64.b64encode(LARGE).decode()}]}, [Image(data=LARGE)]),
    ({"data": [{"b64_json": TEXT, "revised_prompt": "a big cat"}]}, [Image(data=PICTURE, revised_prompt="a big cat")]),
    ({"data": [{"b64_json": TEXT}, {"b64_json": TEXT}]}, [Image(data=PICTURE)] * 2),
    ({"data": [{"url": "https://x.example/a?b=c%2F"}]}, [Image(url="https://x.example/a?b=c%2F")]),
    ({"data": [{"url": f"data:image/png;base64,{TEXT}"}]}, [Image(data=PICTURE)]),
    ({"data": [{"url": None, "b64_json": TEXT}]}, [Image(data=PICTURE)]),
    ({"data": [{"b64_json": TEXT}, {"b64_json": None}]}, [Image(data=PICTURE)]),
    ({"data": [{"b64_json": TEXT}] * 5}, [Image(data=PICTURE)] * 5),
    ({"data": [{"b64_json": TEXT}, {"b64_json": "####"}]}, [Image(data=PICTURE)]),
    ({"data": [{"b64_json": "####"}, {"url": "https://x.example/a.png", "b64_json": TEXT}]}, [Image(data=PICTURE)]),
    ({"data": [{"b64_json": TEXT, "respect_moderation": False}, {"b64_json": TEXT}]}, [Image(data=PICTURE)]),
    ({"seed": 9, "data": [{"b64_json": TEXT}]}, [Image(data=PICTURE, seed=9)]),
]


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
async def test_answers_are_read(answer: Any, expected: list[Image], fake: FakeUpstream) -> None:
    """Base64, URLs, data URLs, several, some missing, more than asked."""
    fake.mode, fake.error = "body", answer
    async with backend(fake) as images:
        assert await images.generate(asking("gpt-image-2", n=2), Remembered()) == expected


REFUSALS: list[Any] = [
    {"data": [{"b64_json": TEXT, "respect_moderation": False}]},
    {"data": [{"url": None, "is_image_safe": False}]},
    {"error": {"message": "Content policy violation"}},
]


@pytest.mark.parametrize("answer", REFUSALS)
async def test_refusals_with_200(answer: Any, fake: FakeUpstream) -> None:
    """A 200 may still be a no; what comes with it is not the picture."""
    fake.mode, fake.error = "body", answer
    async with backend(fake) as images:
        with pytest.raises(RefusedError):
            await images.generate(asking("gpt-image-2"), Remembered())


ERRORS: list[tuple[str, int, Any, type[GatewayError]]] = [
    ("siliconflow", 400, {"code": 20012, "message": "model does not exist", "data": None}, RejectedError),
    ("siliconflow", 401, "Invalid token", BadKeyError),
    ("siliconflow", 403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}, AllowanceError),
    ("siliconflow", 403, {"code": 30003, "message": "real-name verification needed"}, AllowanceError),
    ("siliconflow", 429, {"message": "Request was rejected due to rate limiting. Details: IPM"}, RateLimitedError),
    ("siliconflow", 503, {"code": 50505, "message": "Model service overloaded"}, BusyUpstreamError),
    ("siliconflow", 451, "sensitive", RefusedError),
    ("together", 422, {"error": {"message": "NSFW content detected"}}, RefusedError),
    ("openai", 403, {"error": {"message": "Your organization must be verified to use the model"}}, NoAccessError),
    ("openai", 403, {"error": {"message": "no", "code": "model_not_found"}}, NoAccessError),
    ("openai", 403, {"error": {"message": "Project is disabled"}}, BadKeyError),
    (
        "openai",
        400,
        {"error": {"message": "Unknown parameter: 'moderation'.", "code": "unknown_parameter"}},
        RejectedError,
    ),
    ("openai", 400, {"error": {"message": "x", "code": "billing_hard_limit_reached"}}, AllowanceError),
    ("azure", 400, {"error": {"code": "contentFilter", "message": "filtered"}}, RefusedError),
    ("xai", 400, {"code": "invalid", "error": "text"}, RejectedError),
    ("deepinfra", 402, {"detail": {"error": "no balance"}}, AllowanceError),
    ("vllm-omni", 422, {"detail": [{"loc": ["size"], "msg": "bad", "type": "value_error"}]}, RejectedError),
    ("stable-diffusion.cpp", 500, {"error": "out of memory"}, BusyUpstreamError),
]


@pytest.mark.parametrize(("dialect", "status", "body", "kind"), ERRORS)
async def test_errors_of_the_dialects(
    dialect: str, status: int, body: Any, kind: type[GatewayError], fake: FakeUpstream
) -> None:
    """The same number means different things to different vendors."""
    fake.mode, fake.error = f"status:{status}", body
    async with backend(fake, dialect) as images:
        with pytest.raises(GatewayError) as raised:
            await images.generate(asking("m"), Remembered())

    assert type(raised.value) is kind


def streamed(*events: dict[str, Any]) -> bytes:
    """Write server-sent events as OpenAI does."""
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


async def test_previews_are_shown_while_they_come(fake: FakeUpstream) -> None:
    """`partial_images` makes it a stream; the finished picture is the result."""
    preview = {"type": "image_generation.partial_image", "partial_image_index": 0, "b64_json": TEXT}
    done = {"type": "image_generation.completed", "b64_json": base64.b64encode(LARGE).decode()}
    fake.mode, fake.error = "body", streamed(preview, {**preview, "b64_json": "broken!"}, preview, done)
    report = Remembered()
    async with backend(fake) as images:
        made = await images.generate(asking("gpt-image-2", partial_images=2), report)

    assert made == [Image(data=LARGE)]
    assert report.previews == [Image(data=PICTURE)] * 2
    assert (fake.last.json["stream"], fake.last.json["partial_images"]) == (True, 2)


TOKENS = {
    "input_tokens": 50,
    "output_tokens": 4160,
    "total_tokens": 4210,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
}
USED = Usage(50, 4160, 4210, {"text_tokens": 10, "image_tokens": 40})


@pytest.mark.parametrize("picture", [PICTURE, LARGE])
async def test_the_tokens_of_an_answer_are_told(picture: bytes, fake: FakeUpstream) -> None:
    """Plain answers, those read in one go included."""
    data = [{"b64_json": base64.b64encode(picture).decode()}]
    fake.mode, fake.error = "body", {"created": 1, "usage": TOKENS, "data": data}
    report = Remembered()
    async with backend(fake) as images:
        await images.generate(asking("gpt-image-2"), report)

    assert report.usages == [USED]


async def test_a_mark_at_the_start_of_a_stream_is_no_part_of_it(fake: FakeUpstream) -> None:
    """Some write a byte order mark before the first event, which may be the picture."""
    done = {"type": "image_generation.completed", "b64_json": TEXT}
    fake.mode, fake.error = "body", f"\ufeffdata: {json.dumps(done)}\n\n".encode()
    async with backend(fake) as images:
        made = await images.generate(asking("gpt-image-2", partial_images=1), Remembered())

    assert made == [Image(PICTURE)]


async def test_the_tokens_of_a_stream_are_told(fake: FakeUpstream) -> None:
    """They stand in the last event."""
    done = {"type": "image_generation.completed", "b64_json": TEXT, "usage": TOKENS}
    fake.mode, fake.error = "body", streamed({"type": "image_generation.partial_image", "b64_json": TEXT}, done)
    report = Remembered()
    async with backend(fake) as images:
        await images.generate(asking("gpt-image-2", partial_images=1), report)

    assert report.usages == [USED]


@pytest.mark.parametrize("usage", [None, {}, [], 7, {"cost_in_usd_ticks": 5}, {"input_tokens": 0, "total_tokens": 0}])
async def test_an_answer_that_tells_no_tokens_tells_none(usage: Any, fake: FakeUpstream) -> None:
    """LocalAI sends zeros, xAI only a price."""
    fake.mode, fake.error = "body", {"created": 1, "usage": usage, "data": [{"b64_json": TEXT}]}
    report = Remembered()
    async with backend(fake) as images:
        await images.generate(asking("gpt-image-2"), report)

    assert report.usages == []


async def test_upstream_that_does_not_stream_after_all(fake: FakeUpstream) -> None:
    """A plain answer to a streamed call is an answer."""
    async with backend(fake) as images:
        assert await images.generate(asking("gpt-image-2", partial_images=1), Remembered())


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ([{"type": "error", "error": {"message": "no", "code": "moderation_blocked"}}], RefusedError),
        ([{"type": "error", "error": {"message": "no", "type": "server_error"}}], BusyUpstreamError),
        ([{"type": "error", "error": "torn"}], RejectedError),
        ([{"type": "error", "error": {"message": "slow down", "code": "rate_limit_exceeded"}}], RateLimitedError),
        ([{"type": "error", "error": {"message": "no", "code": 402}}], AllowanceError),
        ([{"type": "error", "code": "server_error", "message": "it broke"}], BusyUpstreamError),
        ([{"type": "image_generation.partial_image", "b64_json": TEXT}], BrokenAnswerError),
        ([{"type": "image_generation.completed", "b64_json": "broken!"}], BrokenAnswerError),
    ],
)
async def test_streams_that_end_badly(events: list[Any], kind: type[GatewayError], fake: FakeUpstream) -> None:
    """Errors after the headers, previews without a picture."""
    fake.mode, fake.error = "body", streamed(*events)
    async with backend(fake) as images:
        with pytest.raises(kind):
            await images.generate(asking("gpt-image-2", partial_images=1), Remembered())


async def test_a_stream_that_repeats_the_key_shows_it_to_nobody(fake: FakeUpstream) -> None:
    """However long the stream is."""
    partial = {"type": "image_generation.partial_image", "b64_json": base64.b64encode(LARGE).decode()}
    fake.mode, fake.error = "body", streamed(partial, {"type": "error", "error": {"message": f"bad key: {CANARY}!"}})
    async with backend(fake) as images:
        with pytest.raises(RejectedError, match="bad key: ") as raised:
            await images.generate(asking("gpt-image-2", partial_images=1), Remembered())

    assert CANARY not in raised.value.message


async def test_unknown_api_needs_no_code(fake: FakeUpstream) -> None:
    """Field names and answer places come from the YAML, nested ones too."""
    options = {
        "dialect": "custom",
        "base_url": fake.base,
        "keys": "secret-key-one",
        "fields": {"safe": True, "input": {"mark": False, "steps": 4}, "extra": {"deep": 1}},
        "custom": {
            "path": "/draw",
            "prompt_field": "input.text",
            "model_field": "engine",
            "names": {"steps": "input.steps", "seed": "input.seed"},
            "size": "sides",
            "width_field": "input.w",
            "height_field": "input.h",
            "answers": ["output.*.picture"],
            "header": "X-Key",
            "scheme": "",
        },
    }
    images = TypeAdapter(OpenAIImages).validate_python(options)
    fake.mode, fake.error = "body", {"output": [{"picture": TEXT}]}
    async with images:
        made = await images.generate(asking("e1", size=Size(512, 256), steps=3, seed=5, guidance=9.0), Remembered())

    assert made == [Image(data=PICTURE)]
    assert (fake.last.path, fake.last.headers["X-Key"]) == ("/draw", "secret-key-one")
    assert fake.last.json == {
        "engine": "e1",
        "input": {"text": "a cat", "w": 512, "h": 256, "steps": 4, "seed": 5, "mark": False},
        "safe": True,
        "extra": {"deep": 1},
    }


@pytest.mark.parametrize(
    "options",
    [
        {"dialect": "custom"},
        {"dialect": "openai", "custom": {}},
        {"dialect": "localai"},
        {"dialect": "nobody"},
        {"dialect": "custom", "base_url": "http://x", "custom": {"names": {"stps": "steps"}}},
        {"dialect": "custom", "base_url": "http://x", "custom": {"answers": []}},
        {"dialect": "custom", "base_url": "http://x", "custom": {"size": "big"}},
    ],
)
def test_unusable_options(options: dict[str, Any]) -> None:
    """What cannot work is refused at start."""
    with pytest.raises(ValidationError):
        TypeAdapter(OpenAIImages).validate_python(options)


DONE = {"type": "image_generation.completed", "b64_json": TEXT}
FAILED = {"type": "error", "error": {"type": "server_error", "message": "failed"}}


@pytest.mark.parametrize(
    ("events", "notes"),
    [
        ([DONE, FAILED], 1),
        ([{**DONE, "error": None}], 0),
        ([DONE, {**DONE, "b64_json": "broken!"}], 1),
        ([{**DONE, "b64_json": "broken!"}, DONE], 1),
    ],
)
async def test_what_a_stream_has_finished_is_given(
    events: list[dict[str, Any]], notes: int, fake: FakeUpstream
) -> None:
    """It is paid for, whatever becomes of the others."""
    fake.mode, fake.error = "body", streamed(*events)
    report = Remembered()
    async with backend(fake) as images:
        made = await images.generate(asking("gpt-image-2", n=2, partial_images=1), report)

    assert made == [Image(data=PICTURE)]
    assert len(report.notes) == notes


async def test_a_stream_that_breaks_off_gives_what_was_finished(aiohttp_server: Any) -> None:
    """The connection is cut after the first of two."""

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": hello\n" + streamed(DONE) + b"event: image_generation.comp")
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
        return response

    app = web.Application()
    app.router.add_post("/{path:.*}", cut)
    server = await aiohttp_server(app)
    report = Remembered()
    async with OpenAIImages(base_url=str(server.make_url("/v1")), keys=(CANARY,)) as images:
        made = await images.generate(asking("gpt-image-2", n=2, partial_images=1), report)

    assert made == [Image(data=PICTURE)]
    assert "broke off" in report.notes[0]


async def test_previews_and_large_pictures_have_room(fake: FakeUpstream) -> None:
    """Three previews of the size of the picture itself are no endless answer."""
    large = base64.b64encode(png(64, 64, 5_000_000)).decode()
    preview = {"type": "image_generation.partial_image", "b64_json": large}
    fake.mode, fake.error = "body", streamed(preview, preview, preview, {**DONE, "b64_json": large})
    async with backend(fake) as images:
        made = await images.generate(asking("gpt-image-2", partial_images=3), Remembered())

    assert len(made[0].data) > 5_000_000


async def test_a_key_that_may_not_use_one_model_is_good_for_others(fake: FakeUpstream) -> None:
    """The next key is asked; none is dropped."""
    fake.mode, fake.error = "status:403", {"error": {"message": "You must be verified to use the model `x`"}}
    async with backend(fake, keys=(CANARY, Secret("sk-second-000000000"))) as images:
        with pytest.raises(NoAccessError):
            await images.generate(asking("gpt-image-2"), Remembered())
        tried, fake.mode = len(fake.calls), "ok"
        await images.generate(asking("gpt-image-1-mini"), Remembered())

        assert tried == 2
        assert images.health()["usable"] == 2


@pytest.mark.parametrize("before", [b" " * 100, b"\n \n", b"\xef\xbb\xbf\n"])
@pytest.mark.parametrize("picture", [PICTURE, LARGE])
async def test_white_space_before_an_answer_is_no_part_of_it(
    aiohttp_server: Any, before: bytes, picture: bytes
) -> None:
    """Some send it to keep the line alive while they draw."""
    body = json.dumps({"data": [{"b64_json": base64.b64encode(picture).decode()}]}).encode()

    async def alive(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for piece in (before, body):
            await response.write(piece)
            await asyncio.sleep(0.02)
        return response

    app = web.Application()
    app.router.add_post("/{path:.*}", alive)
    server = await aiohttp_server(app)
    async with OpenAIImages(base_url=str(server.make_url("/v1")), keys=(CANARY,)) as images:
        assert await images.generate(asking("gpt-image-2"), Remembered()) == [Image(data=picture)]


@pytest.mark.parametrize("answer", [{"data": [{"b64_json": "broken!", "url": "https://x.example/a.png"}]}])
async def test_an_address_stands_in_for_broken_base64(answer: Any, fake: FakeUpstream) -> None:
    """Both name the same picture."""
    fake.mode, fake.error = "body", answer
    async with backend(fake) as images:
        assert await images.generate(asking("gpt-image-2"), Remembered()) == [Image(url="https://x.example/a.png")]
