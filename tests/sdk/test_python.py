"""OpenAI's Python SDK against the running gateway: everything a program of today would do, and how it sees errors."""

import asyncio
import base64
import re

import aiohttp
import openai
import pytest

from tests.gateways import CALLER_KEY, drawing_by, start

LINK = re.compile(r"!\[[^\]]*\]\((http://127\.0\.0\.1:\d+/image/[0-9a-f]{40}\.(?:png|jpg))\)")
ASKED = [{"role": "user", "content": "a red fox in snow 16:9"}]


def client_of(gateway, **options):
    given = {"api_key": CALLER_KEY, "base_url": f"{gateway.base}/v1", "max_retries": 0, "timeout": 20, **options}
    return openai.AsyncOpenAI(**given)


async def fetched(url):
    """Load a picture as a browser would, without a key."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        return response.content_type, await response.read()


def is_picture(data):
    return data.startswith((b"\x89PNG", b"\xff\xd8\xff"))


async def test_chat_gives_a_picture(served):
    """The content bears a link that anybody can open."""
    gateway, model = served
    async with client_of(gateway) as client:
        answer = await client.chat.completions.create(model=model, messages=ASKED, temperature=0.5)

    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.total_tokens > 0
    assert answer.model == model
    kind, data = await fetched(LINK.search(answer.choices[0].message.content)[1])
    assert kind.startswith("image/")
    assert is_picture(data)


async def test_a_stream_gives_a_picture(served):
    """Chunk by chunk, with the usage at the end if asked for."""
    gateway, model = served
    async with client_of(gateway) as client:
        stream = await client.chat.completions.create(
            model=model, messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    assert is_picture((await fetched(LINK.search(text)[1]))[1])
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.total_tokens > 0


async def test_the_stream_helper_gives_a_picture(served):
    """It is stricter than a plain stream: index and final message are needed."""
    gateway, model = served
    async with client_of(gateway) as client, client.chat.completions.stream(model=model, messages=ASKED) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()

    assert LINK.search(final.choices[0].message.content)


@pytest.mark.parametrize("form", ["url", "b64_json", None])
async def test_images_generate_gives_the_form_that_was_asked(served, form):
    """A link, base64, or, if nothing was said, base64."""
    gateway, model = served
    asked = {} if form is None else {"response_format": form}
    async with client_of(gateway) as client:
        answer = await client.images.generate(model=model, prompt="a red fox", size="512x512", n=1, **asked)
    (picture,) = answer.data

    if form == "url":
        assert picture.b64_json is None
        assert is_picture((await fetched(picture.url))[1])
    else:
        assert picture.url is None
        assert is_picture(base64.b64decode(picture.b64_json, validate=True))
    assert answer.created > 1_700_000_000
    assert answer.usage.total_tokens >= 0


async def test_images_generate_streams(served):
    """The completed event bears the picture and its shape."""
    gateway, model = served
    async with client_of(gateway) as client:
        stream = await client.images.generate(model=model, prompt="a red fox", size="512x512", stream=True)
        events = [event async for event in stream]

    assert events[-1].type == "image_generation.completed"
    assert is_picture(base64.b64decode(events[-1].b64_json, validate=True))
    assert events[-1].size == "512x512"
    assert events[-1].usage.total_tokens >= 0


async def test_models_are_listed_and_found(served):
    """Ids with slashes and at signs are found as well."""
    gateway, model = served
    async with client_of(gateway) as client:
        listed = [each async for each in client.models.list()]
        one = await client.models.retrieve(model)

    assert model in [each.id for each in listed]
    assert (one.id, one.object) == (model, "model")
    assert isinstance(one.created, int)
    assert one.owned_by


async def test_the_raw_response_shows_the_request_id(served):
    """For who looks into the gateway's log."""
    gateway, model = served
    async with client_of(gateway) as client:
        raw = await client.images.with_raw_response.generate(model=model, prompt="a red fox")

    assert raw.status_code == 200
    assert raw.headers["x-request-id"]
    assert raw.parse().data[0].b64_json


async def test_the_wrong_key_is_an_authentication_error(served):
    """With the gateway's words."""
    gateway, model = served
    async with client_of(gateway, api_key="ig-wrong") as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(model=model, messages=ASKED)

    assert caught.value.code == "invalid_api_key"
    assert caught.value.request_id
    assert "API key" in caught.value.message


@pytest.fixture
async def gateway(fake, aiohttp_server, tmp_path):
    more = "jobs: {timeout: 1}\n"
    yaml = drawing_by(fake.base, more).replace(
        "dialect: custom", "http: {first_byte: 0.3, total: 0.4}, dialect: custom"
    )
    return await start(aiohttp_server, yaml, tmp_path)


@pytest.mark.parametrize(
    ("mode", "kind", "code"),
    [
        ("refuse", openai.BadRequestError, "content_policy_violation"),
        ("limited:1", openai.RateLimitError, "upstream_rate_limited"),
        ("status:401", openai.InternalServerError, "upstream_key_refused"),
        ("html", openai.InternalServerError, "not_an_image"),
        ("status:500", openai.InternalServerError, "upstream_overloaded"),
        ("hang", openai.InternalServerError, "upstream_timeout"),
    ],
)
async def test_every_error_has_its_class_and_code(gateway, fake, mode, kind, code):
    """Plain as by status."""
    fake.mode = mode
    async with client_of(gateway) as client:
        with pytest.raises(kind) as caught:
            await client.images.generate(model="flux", prompt="a fox")

    assert caught.value.code == code
    assert caught.value.type
    assert caught.value.message


@pytest.mark.parametrize("mode", ["refuse", "html", "hang", "status:401"])
async def test_an_error_in_a_stream_is_raised_with_its_code(gateway, fake, mode):
    """Neither silence nor a made-up success."""
    fake.mode = mode
    async with client_of(gateway) as client:
        with pytest.raises(openai.APIError) as caught:
            async for _ in await client.chat.completions.create(model="flux", messages=ASKED, stream=True):
                pass

    assert caught.value.code
    assert caught.value.message


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ({"model": "nobody", "prompt": "x"}, openai.NotFoundError),
        ({"model": "flux", "prompt": ""}, openai.BadRequestError),
        ({"model": "flux", "prompt": "x", "n": 99}, openai.BadRequestError),
        ({"model": "flux", "prompt": "x", "size": "1x"}, openai.BadRequestError),
    ],
)
async def test_mistakes_of_the_caller_are_told_as_such(gateway, fake, call, kind):
    """And never repeated: with the SDK's own retries there is still one request, and none upstream."""
    async with client_of(gateway, max_retries=2) as client:
        with pytest.raises(kind) as caught:
            await client.images.generate(**call)

    assert caught.value.param in {"model", "prompt", "n", "size"}
    assert not fake.calls


@pytest.mark.parametrize(
    "mode", ["hang", "html", "cut", "reset", "refuse", "status:400", "status:401", "status:500", "status:503"]
)
async def test_the_sdk_s_own_retries_pay_nothing_twice(gateway, fake, mode):
    """It would repeat 5xx and 429 twice; x-should-retry stops it where money may be gone or nothing can change."""
    fake.mode = mode
    async with client_of(gateway, max_retries=2) as client:
        with pytest.raises(openai.APIStatusError):
            await client.images.generate(model="flux", prompt="a fox")

    assert len(fake.calls) == 1


async def test_the_sdk_s_own_retries_help_where_nothing_was_paid(gateway, fake):
    """After a 429 that passes the picture comes."""
    fake.modes.append("limited:1")
    async with client_of(gateway, max_retries=2) as client:
        answer = await client.images.generate(model="flux", prompt="a fox")

    assert answer.data[0].b64_json
    assert len(fake.calls) == 2


async def test_a_retry_after_the_client_s_own_timeout_pays_nothing_twice(fake, aiohttp_server, tmp_path):
    """The SDK gives up early and asks again: it gets the picture that was being made."""
    gateway = await start(aiohttp_server, drawing_by(fake.base), tmp_path)
    fake.mode = "slow:0.8"
    async with client_of(gateway, max_retries=4, timeout=0.5) as client:
        answer = await client.images.generate(model="flux", prompt="a fox")

    assert answer.data[0].b64_json
    assert len(fake.calls) == 1


async def test_many_calls_at_once_are_all_answered(fake, aiohttp_server, tmp_path):
    """Each with a picture of its own job."""
    gateway = await start(aiohttp_server, drawing_by(fake.base), tmp_path)
    async with client_of(gateway) as client:
        answers = await asyncio.gather(*[client.images.generate(model="flux", prompt=f"fox {n}") for n in range(12)])

    assert len({answer.model_extra["gateway"]["job"] for answer in answers}) == 12
    assert len(fake.calls) == 12


@pytest.mark.parametrize("mode", ["hang", "drip"])
async def test_a_failure_after_white_space_is_no_success_for_the_sdk(fake, aiohttp_server, tmp_path, mode):
    """A kept-alive call has its 200 already: it is cut off, and the SDK's next try gets the true error, unpaid."""
    fake.mode = mode
    yaml = drawing_by(fake.base, "jobs: {keep_alive: 0.05}\n")
    yaml = yaml.replace("dialect: custom", "http: {first_byte: 0.3, total: 0.4}, dialect: custom")
    gateway = await start(aiohttp_server, yaml, tmp_path)
    async with client_of(gateway, max_retries=2) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="flux", messages=ASKED)

    assert caught.value.code == "upstream_timeout"
    assert len(fake.calls) == 1


async def test_white_space_before_an_answer_is_no_matter_for_the_sdk(fake, aiohttp_server, tmp_path):
    """JSON may begin with it."""
    fake.mode = "slow:0.4"
    gateway = await start(aiohttp_server, drawing_by(fake.base, "jobs: {keep_alive: 0.05}\n"), tmp_path)
    async with client_of(gateway) as client:
        answer = await client.chat.completions.create(model="flux", messages=ASKED)
        pictures = await client.images.generate(model="flux", prompt="a fox")

    assert LINK.search(answer.choices[0].message.content)
    assert pictures.data[0].b64_json
