"""Whatever a vendor's API does, the outcome, the number of calls and the state of the keys are as the rules say."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway import GatewayError, Http, ImageRequest, UpstreamError
from tests.plugins.backends.vendors import QUICK, VENDORS, Told, draw, open_vendor

KEYED = [name for name, vendor in VENDORS.items() if vendor.keyed]
CASES: dict[str, tuple[str, bool]] = {
    "status:400": ("upstream_rejected", False),
    "status:404": ("upstream_misconfigured", True),
    "status:413": ("upstream_rejected", False),
    "status:422": ("upstream_rejected", False),
    "status:500": ("upstream_overloaded", True),
    "status:502": ("upstream_overloaded", True),
    "status:503": ("upstream_overloaded", True),
    "status:529": ("upstream_overloaded", True),
    "html": ("upstream_bad_response", False),
    "html:502": ("upstream_overloaded", True),
    "cut": ("upstream_bad_response", False),
    "reset": ("upstream_bad_response", False),
    "reset:3": ("upstream_bad_response", False),
    "redirect": ("upstream_bad_response", True),
    "big": ("upstream_bad_response", False),
    "refuse": ("content_policy_violation", False),
}
BODIES: list[Any] = [
    None,
    [],
    {},
    [[]] * 50,
    "x",
    7,
    {"id": {}, "status": 1, "polling_url": 5, "prompt_id": [], "images": {}, "candidates": {}},
    {"status": "starting", "id": "../../x", "candidates": [None], "images": [None], "prompt_id": "../x"},
    {"candidates": [{"content": []}], "images": [], "image": [], "status_url": "ftp://x", "predictions": 3},
    b"\xef\xbb\xbf{}",
    b'{"image": NaN}',
    b"",
    b"[" * 100,
    '{"image": "é"}'.encode("utf-16"),
]


def request_of(name: str) -> ImageRequest:
    return ImageRequest("a cat", model=VENDORS[name].model)


async def failing(name: str, backend: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await draw(backend, request_of(name))
    assert "canary" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("name", VENDORS)
@pytest.mark.parametrize("mode", CASES)
async def test_a_fault_of_the_first_call_is_judged_and_not_repeated(name: str, mode: str):
    """Every fault has its class; nothing but the key's own faults makes a second call."""
    code, retryable = CASES[mode]
    if (name, mode) == ("comfyui", "status:400") or (name, mode) == ("comfyui", "status:413"):
        code, retryable = "upstream_misconfigured", True
    if (name, mode) == ("comfyui", "status:422"):
        code, retryable = "upstream_misconfigured", True
    if (name, mode) == ("huggingface", "cut"):
        pytest.skip("half a picture is the sniffing's business")
    async with open_vendor(name) as (fake, backend):
        fake.mode = mode
        error = await failing(name, backend)

    asked = [call for call in fake.calls if not call.path.endswith(("/progress", "/interrupt"))]
    assert (error.code, getattr(error, "retryable", False)) == (code, retryable)
    assert len(asked) == 1


@pytest.mark.parametrize("name", VENDORS)
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
async def test_a_nonsensical_answer_is_a_broken_answer(name: str, body: Any):
    """Whatever JSON or bytes come with 200, it ends as our error and not as a crash."""
    async with open_vendor(name) as (fake, backend):
        fake.error, fake.mode = body, "body"
        error = await failing(name, backend)

    assert isinstance(error, UpstreamError)
    assert error.code == "upstream_bad_response"


@pytest.mark.parametrize("name", KEYED)
async def test_a_refused_key_is_dropped_and_the_next_one_used(name: str):
    """401 costs the key, not the picture."""
    async with open_vendor(name) as (fake, backend):
        fake.modes.append("status:401")
        images = await draw(backend, request_of(name))

        assert images
        assert backend.health() == {"keys": 2, "usable": 1, "refused": 1, "resting": 0}


@pytest.mark.parametrize("name", KEYED)
@pytest.mark.parametrize(
    ("mode", "code"), [("limited:7", "upstream_rate_limited"), ("status:402", "upstream_allowance")]
)
async def test_keys_without_quota_rest(name: str, mode: str, code: str):
    """429 and 402 rest a key; when all rest, the error says when one is back, and no further call is made."""
    async with open_vendor(name) as (fake, backend):
        fake.mode = mode
        error = await failing(name, backend)
        again = await failing(name, backend)

        assert (error.code, again.code) == (code, code)
        assert error.retry_after
        assert len(fake.calls) == 2
        assert backend.health()["resting"] == 2


@pytest.mark.parametrize("name", VENDORS)
async def test_a_server_that_is_not_there_was_not_paid(name: str):
    """Nothing was sent, so that another target may be tried."""
    backend = VENDORS[name].make("http://127.0.0.1:9", QUICK)
    async with backend:
        error = await failing(name, backend)

    assert isinstance(error, UpstreamError)
    assert (error.code, error.sent, error.retryable) == ("upstream_unreachable", False, True)


@pytest.mark.parametrize("name", VENDORS)
async def test_only_paid_calls_say_that_they_are_sent(name: str):
    """A paid job must be finished once it is sent; one's own engine may be interrupted."""
    told = Told()
    async with open_vendor(name) as (_, backend):
        await draw(backend, request_of(name), told)

    assert told.sent == (1 if VENDORS[name].paid else 0)


@pytest.mark.parametrize("name", VENDORS)
async def test_what_explain_shows_is_what_is_sent(name: str):
    """The address and the body, byte for byte; no credentials in it."""
    request = replace(request_of(name), prompt='a "cat" 猫\n& 100% more', seed=3)
    async with open_vendor(name) as (fake, backend):
        outgoing = backend.outgoing(request)
        await draw(backend, request)

        assert fake.calls[0].body == outgoing.body()
        assert outgoing.url == fake.base + fake.calls[0].path
    assert "canary" not in repr(outgoing)


@pytest.mark.parametrize("name", VENDORS)
async def test_makes_the_number_of_pictures_asked(name: str):
    """Never more, and with as few calls as it can."""
    async with open_vendor(name) as (fake, backend):
        count = min(2, backend.capabilities(VENDORS[name].model).count)
        images = await draw(backend, replace(request_of(name), n=count))

    assert 1 <= len(images) <= count
    assert sum(call.method == "POST" for call in fake.calls) == 1


@pytest.mark.parametrize("name", VENDORS)
async def test_a_model_name_cannot_leave_its_place_in_the_path(name: str):
    """A caller's own name, passed on by a wildcard route, never becomes another address."""
    if name in ("automatic1111", "comfyui"):
        pytest.skip("the model is no part of the path")
    async with open_vendor(name) as (fake, backend):
        for model in ("../admin", "a/../../b", "x?y=1", "x#y", "a b", "a/./b", "x%2e%2e", "a\\b", "a\nb", "x" * 300):
            with pytest.raises(GatewayError):
                await draw(backend, ImageRequest("a cat", model=model))
        paths = fake.paths()

    assert not paths


@pytest.mark.parametrize("name", ["black_forest_labs", "replicate", "fal", "comfyui"])
async def test_questions_that_fail_in_passing_do_not_lose_the_job(name: str):
    """The job is paid for; a busy or garbled answer about it is asked again, with the same key."""
    async with open_vendor(name) as (fake, backend):
        fake.states.append({"id": "p1", "status": "processing"} if name == "replicate" else None)
        if name != "replicate":
            fake.states.clear()
        fake.modes.extend(["ok", "status:503", "html", "reset"])
        images = await draw(backend, request_of(name))
        keys = {call.headers.get("Authorization") or call.headers.get("x-key") for call in fake.calls}

    assert images
    assert len(keys) == 1


@pytest.mark.parametrize("name", ["black_forest_labs", "replicate", "fal", "comfyui"])
async def test_a_job_that_cannot_be_asked_for_is_not_paid_twice(name: str):
    """After the submission no error allows another paid job; one's own engine costs nothing."""
    async with open_vendor(name) as (fake, backend):
        fake.states.append({"id": "p1", "status": "processing"} if name == "replicate" else {})
        fake.modes.append("ok")
        fake.mode = "status:503"
        error = await failing(name, backend)

    paid = VENDORS[name].paid
    assert isinstance(error, UpstreamError)
    assert (error.sent, error.retryable, error.billed) == ((True, False, None) if paid else (True, True, False))
    assert sum(call.method == "POST" and "cancel" not in call.path for call in fake.calls) <= 2


@pytest.mark.parametrize("name", KEYED)
async def test_a_call_that_hangs_ends_in_time(name: str):
    """Time is up after the total; what was sent may be billed."""
    async with open_vendor(name, Http(connect=0.1, first_byte=0.1, total=0.2)) as (fake, backend):
        fake.mode = "hang_in_body"
        async with asyncio.timeout(10):
            error = await failing(name, backend)

    assert isinstance(error, UpstreamError)
    assert (error.code, error.retryable, error.billed) == ("upstream_timeout", False, None)
