"""Inputs of a hostile caller: forms, heads of parts, pictures by link, and what they take from others."""

import asyncio
import threading
import time

import aiohttp
import pytest

from gateway.endpoints import inputs
from gateway.runtime import DECODED_AT_ONCE
from tests.fake_upstream import png
from tests.gateways import DEMO, drawing_by, start


@pytest.fixture
async def gateway(aiohttp_server, tmp_path):
    return await start(aiohttp_server, DEMO, tmp_path)


def form(**fields):
    made = aiohttp.FormData({"prompt": "a fox", **fields})
    made.add_field("image", png(64, 64), filename="a.png")
    return made


@pytest.mark.parametrize("field", ["n", "seed", "steps", "width", "partial_images"])
@pytest.mark.parametrize("text", ["--5", "---1", "9" * 5_000, "-" + "9" * 4_400, "-", "1-", "0x1", "²"])
async def test_a_number_of_a_form_that_is_none_is_a_400(gateway, field, text):
    """Python's own limits on numbers are no faults of the gateway."""
    answer = await gateway.post("/v1/images/edits", data=form(**{field: text}))

    assert answer.status == 400
    assert answer.error["param"] == field
    assert len(answer.body) < 500


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Disposition: form-data; name="a\x01"',
        b'Content-Disposition: form-data; name="a\x00"',
        b"no colon",
        b": empty",
        b"X" * 10_000 + b": y",
        b"\r\n".join(b"X-%d: y" % number for number in range(1_000)),
        b'Content-Disposition: form-data; name="\xff\xfe"',
        b"Content-Disposition: form-data",
        b'Content-Disposition: form-data; name="_charset_"\r\n\r\n' + b"u" * 40,
    ],
    ids=["control", "NUL", "no colon", "no name", "long", "many", "not UTF-8", "nameless", "charset"],
)
async def test_a_part_with_a_broken_head_is_a_400(gateway, head):
    """The head of a part is as foreign as that of a request."""
    body = b"--b\r\n" + head + b"\r\n\r\nx\r\n--b--\r\n"
    answer = await gateway.post(
        "/v1/images/edits", data=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )

    assert answer.status == 400
    assert len(answer.body) < 1_000


async def test_pictures_are_decoded_a_few_at_a_time(gateway):
    """A caller cannot fill the memory with the largest pictures side by side."""
    for _ in range(DECODED_AT_ONCE):
        await gateway.runtime.decoding.acquire()
    waiting = asyncio.create_task(gateway.post("/v1/images/edits", data=form()))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    gateway.runtime.decoding.release()

    assert (await waiting).status == 200


async def test_callers_who_leave_give_their_places_back_when_the_work_is_done(gateway, monkeypatch):
    """A thread cannot be stopped: whoever comes next waits for it, or the memory would have no bound."""
    working, most, lock = 0, 0, threading.Lock()

    def slow(*_):
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
        time.sleep(0.1)
        with lock:
            working -= 1

    monkeypatch.setattr(inputs, "verify", slow)
    for _ in range(4):
        callers = [asyncio.create_task(inputs.checked_image(b"x", gateway.runtime, "image")) for _ in range(2)]
        await asyncio.sleep(0.02)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    await inputs.checked_image(b"x", gateway.runtime, "image")

    assert most == DECODED_AT_ONCE
    assert not gateway.runtime.decoding.locked()


async def test_pictures_by_url_are_bounded_together(fake, aiohttp_server, tmp_path):
    """Sixteen links of the largest size each are half a gigabyte, from a body of a few bytes."""
    fake.picture = png(64, 64, noise=200)
    kept = len(fake.picture) + 100
    limits = f"server: {{max_body: {kept}}}\nfetch: {{limit: {kept}, allow: ['{fake.base.removeprefix('http://')}']}}\n"
    gateway = await start(aiohttp_server, DEMO + limits, tmp_path)
    one = await gateway.post("/v1/images/edits", {"prompt": "a fox", "image": fake.file_url()})
    two = await gateway.post("/v1/images/edits", {"prompt": "a fox", "image": [fake.file_url()] * 2})

    assert one.status == 200
    assert (two.status, two.error["code"]) == (400, "invalid_image")
    assert "bytes" in two.error["message"]


async def test_slow_hosts_of_callers_take_no_place_of_finished_pictures(fake, aiohttp_server, tmp_path):
    """A picture that was paid for is fetched although every place for callers' links is taken."""
    yaml = drawing_by(fake.base).replace("dialect: custom,", "dialect: custom, fields: {response_format: url},")
    gateway = await start(aiohttp_server, yaml, tmp_path)
    for _ in range(128):
        await gateway.runtime.fetcher._total.acquire()

    assert (await gateway.draw("a fox", response_format="url")).status == 200
