"""The images API as a stream: previews and pictures as OpenAI's SDKs read them, and everything that can go wrong."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.errors import RefusedError, StorageDownError, UpstreamTimeoutError
from gateway.values import Image
from tests.fake_upstream import png
from tests.gateways import DEMO, Answered, Gateway, start
from tests.painters import DRAW, HELD, PICTURE, holding, painter, until

PATH = "/v1/images/generations"
PREVIEWS = [png(8 + number, 8) for number in range(5)]


@pytest.fixture
async def held(aiohttp_server: Any, tmp_path: Path) -> Gateway:
    """A gateway whose backend shows five previews and then draws at once."""
    gateway = await start(aiohttp_server, holding(), tmp_path, types=HELD)
    painter(gateway).previews = [Image(data) for data in PREVIEWS]
    painter(gateway).free.set()
    return gateway


def named(answer: Answered) -> list[tuple[str, Any]]:
    """Give the events of a stream: name and JSON; every name must be the type in its JSON."""
    found = []
    for block in filter(None, answer.text.split("\n\n")):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        data = json.loads(lines["data"])
        assert lines.get("event", data.get("type")) == data.get("type")
        found.append((lines.get("event", ""), data))
    return found


@pytest.mark.parametrize(("asked", "shown"), [(None, 0), (0, 0), (1, 1), (2, 2), (3, 3)])
async def test_as_many_previews_as_were_asked_for(held: Gateway, asked: int | None, shown: int) -> None:
    """At most; numbered from 0; then the picture."""
    answer = await held.post(PATH, {**DRAW, "stream": True, **({} if asked is None else {"partial_images": asked})})
    told = named(answer)

    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert [name for name, _ in told] == ["image_generation.partial_image"] * shown + ["image_generation.completed"]
    assert [data["partial_image_index"] for _, data in told[:-1]] == list(range(shown))
    assert [base64.b64decode(data["b64_json"]) for _, data in told[:-1]] == PREVIEWS[:shown]
    assert base64.b64decode(told[-1][1]["b64_json"]) == PICTURE


@pytest.mark.parametrize("value", [-1, 4, "many", 1.5, True, []])
async def test_an_odd_number_of_previews_is_a_400(held: Gateway, value: Any) -> None:
    """From 0 to 3, told with a status as the stream has not begun."""
    answer = await held.post(PATH, {**DRAW, "stream": True, "partial_images": value})

    assert (answer.status, answer.error["param"]) == (400, "partial_images")


async def test_each_picture_is_completed_by_itself(held: Gateway) -> None:
    """Three pictures: three events, each with its own usage and receipt."""
    told = named(await held.post(PATH, {**DRAW, "stream": True, "n": 3}))

    assert [name for name, _ in told] == ["image_generation.completed"] * 3
    assert all(data["usage"]["total_tokens"] >= 1 for _, data in told)
    assert all(data["gateway"]["job"].startswith("job_") for _, data in told)


async def test_who_asks_for_urls_gets_them_too(held: Gateway) -> None:
    """Base64 all the same, as the SDK's types demand it."""
    (told,) = named(await held.post(PATH, {**DRAW, "stream": True, "response_format": "url"}))
    picture = await held.get(told[1]["url"].removeprefix(held.base))

    assert picture.body == base64.b64decode(told[1]["b64_json"]) == PICTURE


@pytest.mark.parametrize("path", [PATH, "/v1/images/edits"])
async def test_openais_sdk_reads_every_event(aiohttp_server: Any, tmp_path: Path, path: str) -> None:
    """Its own types validate: every field is there, and of the kind that they promise."""
    gateway = await start(aiohttp_server, DEMO, tmp_path)
    async with openai.AsyncOpenAI(
        api_key=gateway.key, base_url=f"{gateway.base}/v1", max_retries=0, _strict_response_validation=True
    ) as client:
        if path == PATH:
            stream = await client.images.generate(
                model="demo", prompt="a red fox", size="256x256", stream=True, partial_images=3, output_format="webp"
            )
        else:
            stream = await client.images.edit(
                model="demo", prompt="in red", image=PICTURE, stream=True, partial_images=3, output_format="webp"
            )
        events: list[Any] = [event async for event in stream]
    kind = "image_generation" if path == PATH else "image_edit"

    assert [event.type for event in events] == [f"{kind}.partial_image"] * 3 + [f"{kind}.completed"]
    assert [event.partial_image_index for event in events[:-1]] == [0, 1, 2]
    assert events[-1].output_format == "webp"
    assert base64.b64decode(events[-1].b64_json)[8:12] == b"WEBP"
    assert events[-1].usage.total_tokens == events[-1].usage.input_tokens + events[-1].usage.output_tokens
    for event in events:
        type(event).model_validate(event.model_dump(), strict=True)


async def test_what_is_refused_at_once_has_a_status(held: Gateway) -> None:
    """No stream is opened for what fails before the first step; the SDK gets its own error class."""
    painter(held).faults[:] = [RefusedError("not this")]
    painter(held).previews = []
    answer = await held.post(PATH, {**DRAW, "stream": True, "model": "unknown"})
    strict = await held.post(PATH, {**DRAW, "stream": True, "strict": True, "style": "vivid"})

    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert strict.status == 400
    assert not painter(held).requests


async def test_what_fails_later_is_told_in_the_stream(held: Gateway) -> None:
    """An error event in OpenAI's form, and a clean end: never a second status line."""
    painter(held).delay = 0.05
    painter(held).faults[:] = [UpstreamTimeoutError("slow")]
    answer = await held.post(PATH, {**DRAW, "stream": True, "partial_images": 1})
    told = named(answer)

    assert answer.status == 200
    assert told[0][0] == "image_generation.partial_image"
    assert told[-1][1]["error"]["code"] == "upstream_timeout"
    assert b"HTTP/1.1" not in answer.body


async def test_the_sdk_raises_what_is_told_in_the_stream(held: Gateway) -> None:
    """Its users see an error, not a stream that just ends."""
    painter(held).delay = 0.05
    painter(held).faults[:] = [UpstreamTimeoutError("slow")]
    async with openai.AsyncOpenAI(api_key=held.key, base_url=f"{held.base}/v1", max_retries=0) as client:
        stream = await client.images.generate(**DRAW, stream=True, partial_images=1)
        with pytest.raises(openai.APIError, match="slow"):
            [event async for event in stream]


async def test_a_storage_that_is_down_takes_no_picture_from_a_stream(
    held: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Base64 needs no storage; the receipt says that the picture was not kept, and only the link is missing."""

    async def down(*_: Any) -> None:
        raise StorageDownError("down")

    painter(held).delay = 0.05
    monkeypatch.setattr("gateway.storing.STORE_TRIES", (0.0,))
    monkeypatch.setattr(held.runtime.storages["pictures"], "put", down)
    told = named(await held.post(PATH, {**DRAW, "stream": True}))
    urls = named(await held.post(PATH, {**DRAW, "stream": True, "response_format": "url"}))

    assert base64.b64decode(told[-1][1]["b64_json"]) == PICTURE
    assert "not stored" in told[-1][1]["gateway"]["receipt"]["notes"][-1]
    assert base64.b64decode(urls[-1][1]["b64_json"]) == PICTURE
    assert "url" not in urls[-1][1]


async def test_a_reader_that_leaves_takes_no_picture_with_it(aiohttp_server: Any, tmp_path: Path) -> None:
    """Cut after the first preview: the job ends, and its picture is in the list."""
    gateway = await start(aiohttp_server, holding(), tmp_path, types=HELD)
    painter(gateway).previews = [Image(PREVIEWS[0])]
    async with gateway.session.post(
        gateway.base + PATH, json={**DRAW, "stream": True, "partial_images": 1}
    ) as response:
        await response.content.readuntil(b"\n\n")
    painter(gateway).free.set()
    await until(lambda: not gateway.runtime.jobs.counts["running"])
    (job,) = (await gateway.get("/v1/jobs")).json["data"]

    assert job["status"] == "completed"
    assert (await gateway.get(job["result"]["data"][0]["url"].removeprefix(gateway.base))).body == PICTURE


async def test_a_quiet_stream_is_pinged(aiohttp_server: Any, tmp_path: Path) -> None:
    """While nothing happens comments keep the connection alive."""
    yaml = holding("chat: {ping: 50ms}\n", options=", delay: 300ms")
    gateway = await start(aiohttp_server, yaml, tmp_path, types=HELD)
    answer = await gateway.post(PATH, {**DRAW, "stream": True})

    assert 2 <= answer.text.count(": ping") <= 8
    assert answer.text.rstrip().endswith("}")


async def test_a_stream_in_the_line_begins_and_ends(aiohttp_server: Any, tmp_path: Path) -> None:
    """A waiting job's stream is opened at once and pinged until its turn has come."""
    gateway = await start(aiohttp_server, holding("jobs: {running: 1}\nchat: {ping: 50ms}\n"), tmp_path, types=HELD)
    first = asyncio.create_task(gateway.post(PATH, DRAW))
    await until(lambda: painter(gateway).requests)
    async with gateway.session.post(gateway.base + PATH, json={**DRAW, "stream": True}) as response:
        assert response.status == 200
        assert (await response.content.readuntil(b"\n\n")).startswith(b":")
        painter(gateway).free.set()
        rest = await response.read()

    assert b"image_generation.completed" in rest
    assert (await first).status == 200
