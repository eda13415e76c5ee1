"""Gemini: drafts are skipped, refusals come with 200, a bad key with 400, a used-up day with 429."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from gateway_plugins.backends.gemini import Gemini

from gateway import (
    AllowanceError,
    BrokenAnswerError,
    Image,
    ImageRequest,
    MisconfiguredError,
    RateLimitedError,
    RefusedError,
    RejectedError,
    Usage,
)
from tests.plugins.backends.vendors import KEYS, PICTURE, Told, draw, open_vendor

FLASH = "gemini-3.1-flash-image"
ASKED = ImageRequest("a cat", model=FLASH)


def test_the_call_bears_prompt_pictures_and_ratio():
    """Field by field."""
    picture = Image(b"abc", media_type="image/webp")
    safety = ({"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"},)
    backend = Gemini(KEYS, image_size="2K", safety=safety)
    outgoing = backend.outgoing(ImageRequest("a cat", model=FLASH, aspect_ratio="16:9", images=(picture,)))

    assert outgoing.method == "POST"
    assert outgoing.url == f"https://generativelanguage.googleapis.com/v1beta/models/{FLASH}:generateContent"
    assert outgoing.json == {
        "contents": [
            {
                "role": "user",
                "parts": [{"text": "a cat"}, {"inlineData": {"mimeType": "image/webp", "data": "YWJj"}}],
            }
        ],
        "generationConfig": {
            "responseModalities": ["IMAGE"],
            "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
        },
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    }


def test_a_plain_call_is_plain():
    """What is not asked is not sent."""
    assert Gemini(KEYS).outgoing(ASKED).json == {
        "contents": [{"role": "user", "parts": [{"text": "a cat"}]}],
        "generationConfig": {"responseModalities": ["IMAGE"]},
    }


@pytest.mark.parametrize("broken", ["first", "last"])
async def test_one_broken_picture_spoils_no_other(broken: str):
    """The whole one is paid for."""
    whole, torn = ({"inlineData": {"data": data}} for data in (base64.b64encode(PICTURE).decode(), "%%"))
    async with open_vendor("gemini") as (fake, backend):
        fake.mode, fake.error = "body", answer("STOP", *((torn, whole) if broken == "first" else (whole, torn)))

        assert await draw(backend, ASKED) == [Image(PICTURE)]


async def test_the_picture_is_taken_and_the_draft_is_not():
    """Parts with ``thought`` hold drafts; the key goes in its own header."""
    async with open_vendor("gemini") as (fake, backend):
        images = await draw(backend, ASKED)

        assert images == [Image(PICTURE)]
        assert fake.last.headers["x-goog-api-key"] == "canary-key-1"
        assert "key" not in fake.last.query


@pytest.mark.parametrize(
    ("told", "usages"),
    [
        (
            {
                "promptTokenCount": 12,
                "candidatesTokenCount": 1290,
                "thoughtsTokenCount": 100,
                "totalTokenCount": 1402,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 4}, {"modality": "IMAGE", "tokenCount": 8}],
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
            },
            [Usage(12, 1390, 1402, {"text_tokens": 4, "image_tokens": 8}, {"image_tokens": 1290})],
        ),
        ({"totalTokenCount": 5}, [Usage(0, 0, 5)]),
        ({"promptTokenCount": "12", "promptTokensDetails": 7, "candidatesTokensDetails": [None, {}]}, []),
        ([], []),
        (None, []),
    ],
)
async def test_tokens_are_told_in_openais_words(told: Any, usages: list[Usage]):
    """Thoughts are part of what came out; what is no number is none."""
    report = Told()
    async with open_vendor("gemini") as (fake, backend):
        part = {"inlineData": {"data": base64.b64encode(PICTURE).decode()}}
        fake.mode, fake.error = "body", {**answer("STOP", part), "usageMetadata": told}
        await draw(backend, ASKED, report)

    assert report.usages == usages


def answer(finish: str | None = "STOP", *parts: Any, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts)}, "finishReason": finish, **more}]}


REFUSALS = [
    *(answer(reason) for reason in ("SAFETY", "IMAGE_SAFETY", "PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT")),
    *(answer(reason) for reason in ("RECITATION", "IMAGE_RECITATION", "BLOCKLIST", "SPII")),
    {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}},
    {"promptFeedback": {"blockReason": "OTHER"}, "candidates": []},
    {"candidates": [{"finishReason": "IMAGE_SAFETY", "finishMessage": "Unable to show it."}]},
    answer("STOP", {"text": "I cannot draw that."}),
    answer("IMAGE_SAFETY", {"thought": True, "inlineData": {"data": "AAAA"}}),
]


@pytest.mark.parametrize("body", REFUSALS)
async def test_refusals_with_200_are_final(body: Any):
    """Nothing is asked again, with no other key."""
    async with open_vendor("gemini") as (fake, backend):
        fake.result = body
        with pytest.raises(RefusedError):
            await draw(backend, ASKED)

        assert len(fake.calls) == 1


async def test_the_words_of_a_refusal_are_told():
    """In one line."""
    async with open_vendor("gemini") as (fake, backend):
        fake.result = answer("STOP", {"text": "Which cat\nwould you like?"})
        with pytest.raises(RefusedError, match=r"Which cat would you like\?"):
            await draw(backend, ASKED)


@pytest.mark.parametrize(
    "body",
    [
        answer("NO_IMAGE"),
        answer("IMAGE_OTHER"),
        answer("MALFORMED_FUNCTION_CALL"),
        answer(None),
        answer("STOP", {"thought": True, "inlineData": {"data": "AAAA"}}),
        answer("STOP", {"inlineData": {"mimeType": "image/png", "data": "%%%"}}),
        answer("STOP", {"inlineData": {"mimeType": "image/png", "data": 5}}),
        {"candidates": []},
        {"candidates": [{"finishReason": "STOP", "content": {"parts": {"a": 1}}}]},
    ],
)
async def test_no_picture_is_a_broken_answer_and_not_paid_twice(body: Any):
    """The API says "try again", but the first try may be billed."""
    async with open_vendor("gemini") as (fake, backend):
        fake.result = body
        with pytest.raises(BrokenAnswerError) as caught:
            await draw(backend, ASKED)

        assert len(fake.calls) == 1
    assert caught.value.retryable is False


def error(status: str, *details: Any) -> dict[str, Any]:
    return {"error": {"code": 400, "message": "what Google says", "status": status, "details": list(details)}}


INVALID = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
DAILY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "100"}]}
MINUTE = {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]}


async def test_a_bad_key_comes_as_400():
    """Only the details tell; the next key is used."""
    async with open_vendor("gemini") as (fake, backend):
        fake.error = error("INVALID_ARGUMENT", INVALID)
        fake.modes.append("status:400")
        await draw(backend, ASKED)

        assert backend.health()["refused"] == 1
        assert fake.last.headers["x-goog-api-key"] == "canary-key-2"


@pytest.mark.parametrize(
    "body", [error("INVALID_ARGUMENT"), {"error": {"details": [5]}}, {"error": {"details": "x"}}, [], b"<html>"]
)
async def test_another_400_is_the_callers(body: Any):
    """Final, whatever the details look like."""
    async with open_vendor("gemini") as (fake, backend):
        fake.error, fake.mode = body, "status:400"
        with pytest.raises(RejectedError):
            await draw(backend, ASKED)

        assert len(fake.calls) == 1


async def test_a_rate_limit_tells_its_delay():
    """RetryInfo counts."""
    async with open_vendor("gemini") as (fake, backend):
        fake.error, fake.mode = error("RESOURCE_EXHAUSTED", MINUTE, RETRY), "status:429"
        with pytest.raises(RateLimitedError) as caught:
            await draw(backend, ASKED)

    assert caught.value.retry_after == pytest.approx(34.5, abs=0.5)


async def test_a_used_up_day_is_an_allowance():
    """A PerDay quota is not back when the delay of the minute is over."""
    async with open_vendor("gemini") as (fake, backend):
        fake.error, fake.mode = error("RESOURCE_EXHAUSTED", DAILY, RETRY), "status:429"
        with pytest.raises(AllowanceError) as caught:
            await draw(backend, ASKED)

    assert caught.value.retry_after > 600  # type: ignore[operator]  # it has one


def test_imagen_is_gone_at_google():
    """The words say what to use instead; nothing is sent."""
    with pytest.raises(MisconfiguredError, match=r"gemini-3\.1-flash-image"):
        Gemini(KEYS).outgoing(ImageRequest("a cat", model="imagen-4.0-generate-001"))


async def test_imagen_elsewhere_is_called_by_predict():
    """Vertex-like places have their own bodies; the token is a Bearer there."""
    request = ImageRequest("a cat", model="imagen-4.0-generate-001", n=2, aspect_ratio="3:4")
    async with open_vendor("gemini") as (fake, plain):
        async with Gemini(KEYS, fake.base, auth="bearer", http=plain.http) as backend:
            images = await draw(backend, request)

        assert images == [Image(PICTURE)] * 2
        assert fake.last.path == "/models/imagen-4.0-generate-001:predict"
        assert fake.last.key == "canary-key-1"
        assert fake.last.json == {
            "instances": [{"prompt": "a cat"}],
            "parameters": {"sampleCount": 2, "aspectRatio": "3:4"},
        }
        fake.result = {"predictions": [{"raiFilteredReason": "violence"}]}
        with pytest.raises(RefusedError, match="violence"):
            await draw(plain, request)
