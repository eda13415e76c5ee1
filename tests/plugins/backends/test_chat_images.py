"""Pictures are found wherever chat models put them, and words are not taken for pictures."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from gateway_plugins.backends.chat_images import ChatImages
from gateway_plugins.backends.chat_images.sources import in_text

from gateway import (
    AllowanceError,
    BrokenAnswerError,
    BusyUpstreamError,
    GatewayError,
    Image,
    RefusedError,
    Secret,
    Usage,
)
from tests.fake_upstream import FakeUpstream, png
from tests.plugins.backends.contract import CANARY, Remembered, asking, input_image

PICTURE = png(4, 4)
TEXT = base64.b64encode(PICTURE).decode()
DATA = f"data:image/png;base64,{TEXT}"
LARGE = png(8, 8, 200_000)
URL = "https://cdn.example/a.png?sig=a%2Fb"
CONFIGURED = {"modalities": ["image", "text"], "image_config": {"image_size": "2K"}}
LARGE_DATA = "data:image/png;base64," + base64.b64encode(LARGE).decode()
LOG = f"> drawing 10%\n> drawing 100%\n\n![image]( {URL} )\n\n[download](https://x.example/b.png)"
PARTS = [{"type": "text", "text": "ok"}, {"type": "image_url", "image_url": {"url": DATA}}]


def backend(fake: FakeUpstream, **options: Any) -> ChatImages:
    return ChatImages(**{"base_url": f"{fake.base}/v1", "keys": (CANARY,), **options})


async def test_worker_b_speaks_as_before(fake: FakeUpstream) -> None:
    """Exactly the fields of the seed's direct type."""
    fake.words = f"![image]({URL})"
    async with backend(fake) as chat:
        made = await chat.generate(asking("flux-pro"), Remembered())

    assert fake.last.path == "/v1/chat/completions"
    assert fake.last.json == {
        "model": "flux-pro",
        "messages": [{"role": "user", "content": "a cat"}],
        "stream": False,
    }
    assert made == [Image(url=URL)]


@pytest.mark.parametrize(
    ("options", "prompt", "more"),
    [
        ({}, "a cat", {}),
        ({"ratio": "words"}, "a cat\n\nAspect ratio: 16:9", {}),
        (
            {
                "ratio": "image_config",
                "fields": {"modalities": ["image", "text"], "image_config": {"image_size": "2K"}},
            },
            "a cat",
            {"modalities": ["image", "text"], "image_config": {"image_size": "2K", "aspect_ratio": "16:9"}},
        ),
    ],
)
def test_ratio_is_told_as_configured(options: dict[str, Any], prompt: str, more: Any, fake: FakeUpstream) -> None:
    """Not at all, in words, or as OpenRouter's image_config; the capabilities say which."""
    chat = backend(fake, **options)
    sent = chat.outgoing(asking("m", aspect_ratio="16:9")).json

    assert bool(chat.capabilities("m").ratios) == ("ratio" in options)
    assert sent == {"model": "m", "messages": [{"role": "user", "content": prompt}], "stream": False, **more}


def test_input_images_are_parts_of_the_message(fake: FakeUpstream) -> None:
    """As data URLs beside the text."""
    picture = input_image()
    content = backend(fake).outgoing(asking("m", images=(picture,))).json["messages"][0]["content"]

    assert [part["type"] for part in content] == ["text", "image_url"]
    assert content[1]["image_url"]["url"].startswith("data:image/png;base64,")


MESSAGES: list[tuple[Any, Image]] = [
    ({"content": f"![image]({URL})"}, Image(url=URL)),
    (
        {"content": LOG},
        Image(url=URL),
    ),
    ({"content": f'Here it is: ![a cat]({URL} "a title")'}, Image(url=URL)),
    ({"content": "![x](<https://cdn.example/a.png>)"}, Image(url="https://cdn.example/a.png")),
    ({"content": "![x](https://cdn.example/a_(1).png)"}, Image(url="https://cdn.example/a_(1).png")),
    ({"content": f"[![thumb]({URL})](https://x.example/page)"}, Image(url=URL)),
    ({"content": f"![image]({DATA})"}, Image(data=PICTURE)),
    ({"content": DATA}, Image(data=PICTURE)),
    ({"content": f'<img src="{DATA}">'}, Image(data=PICTURE)),
    ({"content": f"Look: {URL}"}, Image(url=URL)),
    ({"content": f"[see]({URL})"}, Image(url=URL)),
    ({"content": "", "images": [{"type": "image_url", "image_url": {"url": DATA}}]}, Image(data=PICTURE)),
    ({"content": None, "images": [{"image_url": {"url": URL}}]}, Image(url=URL)),
    ({"content": "Done.", "images": [{"url": URL}]}, Image(url=URL)),
    ({"content": "Done.", "images": [DATA]}, Image(data=PICTURE)),
    (
        {"content": PARTS},
        Image(data=PICTURE),
    ),
    ({"content": [{"type": "output_image", "image_url": URL}]}, Image(url=URL)),
    ({"content": [{"type": "image", "source": {"data": TEXT}}]}, Image(data=PICTURE)),
    ({"content": [{"type": "text", "text": f"![x]({URL})"}]}, Image(url=URL)),
    (
        {
            "content": "",
            "images": [{"image_url": {"url": LARGE_DATA}}],
        },
        Image(data=LARGE),
    ),
]


@pytest.mark.parametrize(("message", "expected"), MESSAGES)
async def test_pictures_are_found(message: Any, expected: Image, fake: FakeUpstream) -> None:
    """In Markdown, as data URLs, in `images`, in a list of parts."""
    fake.mode, fake.error = "body", fake.chat({"role": "assistant", **message})
    async with backend(fake) as chat:
        assert await chat.generate(asking("m"), Remembered()) == [expected]


@pytest.mark.parametrize("data", [DATA, LARGE_DATA])
async def test_tokens_are_told(data: str, fake: FakeUpstream) -> None:
    """A chat model counts prompt and completion; also when it drew nothing but words."""
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 1290,
        "total_tokens": 1299,
        "completion_tokens_details": {"image_tokens": 1280, "reasoning_tokens": None},
    }
    message = {"role": "assistant", "images": [{"image_url": {"url": data}}]}
    fake.mode, fake.error = "body", {**fake.chat(message), "usage": usage}
    report = Remembered()
    async with backend(fake) as chat:
        await chat.generate(asking("flux-pro"), report)
        fake.error = {**fake.chat({"role": "assistant", "content": "I would rather not"}), "usage": usage}
        with pytest.raises(RefusedError):
            await chat.generate(asking("flux-pro"), report)

    assert report.usages == [Usage(9, 1290, 1299, {}, {"image_tokens": 1280})] * 2


async def test_responses_api_is_read_too(fake: FakeUpstream) -> None:
    """OpenAI's newer shape."""
    fake.mode = "body"
    fake.error = {
        "output": [{"type": "message"}, {"type": "image_generation_call", "status": "completed", "result": TEXT}]
    }
    async with backend(fake) as chat:
        assert await chat.generate(asking("m"), Remembered()) == [Image(data=PICTURE)]


ILL: list[tuple[Any, type[GatewayError], str]] = [
    ({"choices": [{"message": {"content": "I cannot draw that."}}]}, RefusedError, "I cannot draw that."),
    ({"choices": [{"message": {"content": None, "refusal": "No."}}]}, RefusedError, "No."),
    ({"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}, RefusedError, "content_filter"),
    ({"choices": [{"message": {"content": "See https://x.example/page"}}]}, RefusedError, "words"),
    ({"choices": [{"message": {"content": "![x](javascript:alert(1))"}}]}, RefusedError, "words"),
    ({"choices": [{"message": {"content": "![x](file:///etc/passwd)"}}]}, RefusedError, "words"),
    ({"choices": [{"message": {"content": ""}}]}, BrokenAnswerError, "neither"),
    ({"choices": [{"message": {"content": "![x](data:image/png;base64,!!!)"}}]}, BrokenAnswerError, "base64"),
    ({"error": {"code": 402, "message": "no credits"}}, AllowanceError, "no credits"),
    ({"error": {"code": 403, "message": "flagged by moderation"}}, RefusedError, "flagged"),
    ({"error": {"code": 502, "message": "provider failed"}}, BusyUpstreamError, "provider failed"),
    ({"error": "it broke"}, BusyUpstreamError, "it broke"),
    ({"error": {"code": "content_policy_violation", "message": "not that"}}, RefusedError, "not that"),
    ({"error": {"code": "insufficient_quota", "message": "pay first"}}, AllowanceError, "pay first"),
    ({"error": {"code": "402", "message": "pay first"}}, AllowanceError, "pay first"),
    ({"error": {"code": 403, "message": "no", "metadata": {"flagged_input": "x"}}}, RefusedError, "no"),
    ({"error": {"code": "9" * 5000, "message": "odd"}}, BusyUpstreamError, "odd"),
    ({"error": {"message": f"who is {CANARY}?"}}, BusyUpstreamError, "who is ***?"),
]


@pytest.mark.parametrize(("answer", "kind", "words"), ILL)
async def test_words_are_no_picture(answer: Any, kind: type[GatewayError], words: str, fake: FakeUpstream) -> None:
    """A text is a refusal or a question: it is told, and nothing is tried again but another key without money."""
    fake.mode, fake.error = "body", answer
    async with backend(fake, keys=(CANARY, Secret("sk-second-000000000"))) as chat:
        with pytest.raises(GatewayError) as raised:
            await chat.generate(asking("m"), Remembered())

    assert type(raised.value) is kind
    assert words in raised.value.message
    assert len(fake.calls) == (2 if kind is AllowanceError else 1)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([{"content": "![x]("}, {"content": URL}, {"content": ")"}], Image(url=URL)),
        ([{"role": "assistant", "content": ""}, {"images": [{"image_url": {"url": LARGE_DATA}}]}], Image(data=LARGE)),
        ([{"content": DATA}], Image(data=PICTURE)),
    ],
)
async def test_a_stream_that_nobody_asked_for_is_read(
    deltas: list[Any], expected: Image, newline: str, fake: FakeUpstream
) -> None:
    """Some proxies stream always; the picture in it is paid for."""
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    chunks = [*({"choices": [{"delta": delta}]} for delta in deltas), {"choices": [], "usage": usage}]
    lines = [": hello", *(f"data: {json.dumps(chunk)}" for chunk in chunks), "data: [DONE]", ""]
    fake.mode, fake.error = "body", (newline * 2).join(lines).encode()
    report = Remembered()
    async with backend(fake) as chat:
        assert await chat.generate(asking("m"), report) == [expected]

    assert report.usages == [Usage(1, 2, 3)]


@pytest.mark.parametrize("place", ["error", "choices"])
async def test_an_error_in_a_stream_is_told(place: str, fake: FakeUpstream) -> None:
    """In a chunk of its own, or in a choice."""
    error = {"code": 402, "message": "no credits"}
    chunk = {"error": error} if place == "error" else {"choices": [{"error": error, "delta": {}}]}
    fake.mode, fake.error = "body", f"data: {json.dumps(chunk)}\n\n".encode()
    async with backend(fake) as chat:
        with pytest.raises(AllowanceError, match="no credits"):
            await chat.generate(asking("m"), Remembered())


async def test_drafts_have_room(fake: FakeUpstream) -> None:
    """The same picture in two places, and a draft before it, are no endless answer."""
    large = "data:image/png;base64," + base64.b64encode(png(8, 8, 6_000_000)).decode()
    fake.mode, fake.error = "body", fake.chat({"content": f"![x]({large})", "images": [{"url": large}, {"url": large}]})
    async with backend(fake) as chat:
        assert len((await chat.generate(asking("m"), Remembered()))[0].data) > 6_000_000


async def test_long_words_are_told_shortly(fake: FakeUpstream) -> None:
    """A megabyte of excuses, with a key in it, becomes one clean line."""
    fake.words = f"I cannot.\n\0{CANARY} " + "Because of rules. " * 60_000
    async with backend(fake) as chat:
        with pytest.raises(RefusedError) as raised:
            await chat.generate(asking("m"), Remembered())

    assert len(raised.value.message) < 400
    assert raised.value.message.isprintable()
    assert CANARY not in raised.value.message


TRAPS = [
    "](" * 500_000,
    "![" * 500_000,
    "![x](" * 200_000,
    "![x](" + "(" * 500_000 + ")" * 500_000,
    "](()" * 250_000,
    "![x](https://a.example/" + "(" * 500_000,
    "data:image/" * 100_000,
    "data:image/png;base64," * 50_000,
    "A" * 1_000_000,
    "https://" * 150_000,
    "[" * 500_000 + "](https://x.example/a.png)",
]


@pytest.mark.parametrize("number", range(len(TRAPS)))
def test_megabytes_are_searched_in_one_go(number: int) -> None:
    """No text makes the search go back over it again and again."""
    started = time.perf_counter()
    in_text(TRAPS[number])

    assert time.perf_counter() - started < 1.5


async def test_several_megabytes_in_one_string(fake: FakeUpstream) -> None:
    """A picture as a data URL in Markdown, as some models answer it."""
    large = png(8, 8, 4_000_000)
    content = f"Here:\n\n![image](data:image/png;base64,{base64.b64encode(large).decode()})\n\nEnjoy!"
    fake.mode, fake.error = "body", json.dumps(fake.chat({"content": content})).encode()
    async with backend(fake) as chat:
        assert (await chat.generate(asking("m"), Remembered()))[0].data == large


def test_address_is_needed() -> None:
    """A chat model lives somewhere."""
    with pytest.raises(ValueError, match="base_url"):
        ChatImages()


@pytest.mark.parametrize("place", ["error", "choices"])
async def test_an_error_in_a_200_is_the_next_keys_turn(place: str, fake: FakeUpstream) -> None:
    """OpenRouter writes the true status into it; one key is limited, the other is not."""
    error = {"code": 429, "message": "slow down"}
    fake.error = {"error": error} if place == "error" else {"choices": [{"error": error, "message": {"content": ""}}]}
    fake.keys, fake.words = {CANARY: "body"}, f"![image]({DATA})"
    async with backend(fake, keys=(CANARY, Secret("sk-second-000000000"))) as chat:
        made = [await chat.generate(asking("m"), Remembered()) for _ in range(2)]
        health = chat.health()

    assert made == [[Image(data=PICTURE)]] * 2
    assert (health["usable"], health["resting"]) == (1, 1)


@pytest.mark.parametrize(
    "message",
    [
        {"content": f"![a]({DATA}) ![b](data:image/png;base64,AAA)"},
        {"content": f"![a](data:image/png;base64,!!!) ![b]({DATA})"},
        {"content": [{"type": "image_url", "image_url": {"url": DATA}}, {"image_url": {"url": "attachment://x.png"}}]},
        {"images": [{"image_url": {"url": "data:image/png;base64,A"}}, {"image_url": {"url": DATA}}]},
    ],
)
async def test_one_broken_picture_spoils_no_other(message: dict[str, Any], fake: FakeUpstream) -> None:
    """The first that is whole is the answer: it is paid for."""
    fake.mode, fake.error = "body", {"choices": [{"message": message}]}
    async with backend(fake) as chat:
        assert await chat.generate(asking("m"), Remembered()) == [Image(data=PICTURE)]
