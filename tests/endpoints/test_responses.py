"""The Responses API through OpenAI's own SDK: drawing, changing, following, and what is refused."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response
from PIL import Image as Pillow
from pytest_aiohttp import AiohttpServer

from gateway.endpoints.responses_body import parse_responses
from gateway.errors import RequestError
from gateway.settings import Chat
from tests.fake_upstream import FakeUpstream
from tests.gateways import DEMO, Gateway, drawing_by, start

TOOL: dict[str, Any] = {"type": "image_generation", "size": "128x64"}


@pytest.fixture
async def gateway(aiohttp_server: AiohttpServer, tmp_path: Path) -> Gateway:
    """A gateway whose only model draws here."""
    return await start(aiohttp_server, DEMO, tmp_path)


@pytest.fixture
async def sdk(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client(gateway) as opened:
        yield opened


def client(gateway: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=gateway.key, base_url=f"{gateway.base}/v1", max_retries=0)


def picture(size: tuple[int, int] = (96, 64), mode: str = "RGB") -> str:
    buffer = io.BytesIO()
    Pillow.new(mode, size).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def opened(encoded: str | None) -> Pillow.Image:
    assert encoded
    return Pillow.open(io.BytesIO(base64.b64decode(encoded, validate=True)))


def message(*urls: str, words: str = "make it night") -> dict[str, Any]:
    images = [{"type": "input_image", "image_url": url, "detail": "auto"} for url in urls]
    return {"role": "user", "content": [{"type": "input_text", "text": words}, *images]}


def receipt(response: Response) -> dict[str, Any]:
    assert response.model_extra
    found: dict[str, Any] = response.model_extra["gateway"]["receipt"]
    return found


async def test_a_picture_is_drawn_by_the_tool(sdk: openai.AsyncOpenAI) -> None:
    """The first item of the answer bears the picture as base64; it has every field that the SDK types need."""
    response = await sdk.responses.create(model="demo", input="a red fox", tools=[TOOL])

    Response.model_validate(response.model_dump(exclude={"gateway"}))
    item, words = response.output
    assert item.type == "image_generation_call"
    assert item.status == "completed"
    assert opened(item.result).size == (128, 64)
    assert (words.type, words.status, response.output_text) == ("message", "completed", "Here is the picture.")
    assert (item.size, item.output_format, item.revised_prompt) == ("128x64", "png", "a red fox")
    assert (response.status, response.model, response.error) == ("completed", "demo", None)
    assert response.usage
    assert response.usage.total_tokens > 0
    assert receipt(response)["applied"]["size"] == "128x64"


async def test_the_stream_tells_every_step_in_order(sdk: openai.AsyncOpenAI) -> None:
    """Events come numbered from 0, previews before the picture, and end with the whole response."""
    tool = {**TOOL, "partial_images": 2}
    stream = await sdk.responses.create(model="demo", input="a red fox", tools=[tool], stream=True)
    events = [event async for event in stream]

    call = "response.image_generation_call"
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        f"{call}.in_progress",
        f"{call}.generating",
        f"{call}.partial_image",
        f"{call}.partial_image",
        f"{call}.completed",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(16))
    previews = [event for event in events if event.type == "response.image_generation_call.partial_image"]
    assert [preview.partial_image_index for preview in previews] == [0, 1]
    assert all(opened(preview.partial_image_b64).size == (128, 64) for preview in previews)
    last = events[-1]
    assert last.type == "response.completed"
    item, words = last.response.output
    assert item.type == "image_generation_call"
    assert words.type == "message"
    assert {preview.item_id for preview in previews} == {item.id}
    assert opened(item.result).size == (128, 64)


async def test_the_sdks_own_accumulator_understands_the_stream(sdk: openai.AsyncOpenAI) -> None:
    """``responses.stream`` follows the events and gives the finished response, several pictures included."""
    tool = {**TOOL, "n": 3}
    async with sdk.responses.stream(model="demo", input="a red fox", tools=[tool]) as stream:
        response = await stream.get_final_response()

    assert [item.type for item in response.output] == ["image_generation_call"] * 3 + ["message"]
    assert len({item.id for item in response.output}) == 4
    assert response.output_text == "Here is the picture."


async def test_a_picture_in_the_message_is_changed(sdk: openai.AsyncOpenAI) -> None:
    """An input_image part means an edit, and a mask of its size lies upon it."""
    tool = {"type": "image_generation", "input_image_mask": {"image_url": picture(mode="RGBA")}}
    response = await sdk.responses.create(model="demo", input=[message(picture())], tools=[tool])

    item = response.output[0]
    assert item.type == "image_generation_call"
    assert item.action == "edit"
    assert opened(item.result).size == (96, 64)
    assert "input_image_mask" not in response.tools[0].model_dump(exclude_none=True)


@pytest.mark.parametrize("kept", ["id", "whole"])
async def test_an_earlier_answer_is_changed_in_the_next_call(sdk: openai.AsyncOpenAI, kept: str) -> None:
    """The item of an answer, sent back whole or by its id, is the picture that the next message changes."""
    first = await sdk.responses.create(model="demo", input="a red fox", tools=[{**TOOL, "n": 2}])
    item = first.output[1].model_dump(exclude_none=True)
    item = item if kept == "whole" else {"type": item["type"], "id": item["id"]}
    second = await sdk.responses.create(
        model="demo",
        input=[{"role": "user", "content": "a red fox"}, item, message(words="make it night")],
        tools=[{"type": "image_generation"}],
    )

    changed = second.output[0]
    assert changed.type == "image_generation_call"
    assert changed.action == "edit"
    assert opened(changed.result).size == (128, 64)


async def test_nobody_reaches_a_picture_by_a_guessed_id(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    """An id that is not one of the caller's own jobs is told as unknown, and never taken for an address."""
    for identity in ("ig_" + "0" * 24, "ig_" + "0" * 24 + "_9", "file:///etc/passwd", "http://127.0.0.1:1/x.png"):
        answer = await gateway.post(
            "/v1/responses",
            {
                "model": "demo",
                "input": [{"type": "image_generation_call", "id": identity}, message()],
                "tools": [TOOL],
            },
        )

        assert answer.status == 400, identity
        assert answer.error["param"] == "input"


async def test_a_picture_that_has_gone_is_told_as_unknown(gateway: Gateway) -> None:
    """The job is still remembered, but its picture was deleted: the client is told what to send instead."""
    made = await gateway.draw(size="64x64", response_format="url")
    key = made.json["data"][0]["url"].rpartition("/")[2].partition(".")[0]
    await gateway.ask("DELETE", f"/v1/pictures/{key}")
    item = {"type": "image_generation_call", "id": made.json["gateway"]["job"].replace("job_", "ig_")}
    answer = await gateway.post("/v1/responses", {"model": "demo", "input": [item, message()], "tools": [TOOL]})

    assert (answer.status, answer.error["code"]) == (400, "picture_not_found")


@pytest.mark.parametrize("result", ["!!!", "AAAA", "data:text/html,x", "A" * 5])
async def test_an_earlier_answer_that_is_no_picture_is_refused(gateway: Gateway, result: str) -> None:
    """What comes back from a client is decoded as strictly as any other input picture."""
    item = {"type": "image_generation_call", "id": "ig_1", "result": result}
    answer = await gateway.post("/v1/responses", {"model": "demo", "input": [item, message()], "tools": [TOOL]})

    assert answer.status == 400, answer.text


async def test_the_tool_may_name_the_model(gateway: Gateway) -> None:
    """The tool's model counts if it is one of ours; OpenAI's own names in either place do no harm then."""
    ours = await gateway.post(
        "/v1/responses", {"model": "gpt-5.6", "input": "a fox", "tools": [{**TOOL, "model": "demo"}]}
    )
    theirs = await gateway.post(
        "/v1/responses", {"model": "demo", "input": "a fox", "tools": [{**TOOL, "model": "gpt-image-2"}]}
    )
    neither = await gateway.post("/v1/responses", {"model": "gpt-5.6", "input": "a fox", "tools": [TOOL]})

    assert (ours.status, ours.json["model"]) == (200, "demo")
    assert (theirs.status, theirs.json["model"]) == (200, "demo")
    assert [change["name"] for change in theirs.json["gateway"]["receipt"]["dropped"]] == ["tools.model"]
    assert (neither.status, neither.error["code"]) == (404, "model_not_found")


async def test_what_is_sent_in_vain_stands_in_the_receipt(gateway: Gateway) -> None:
    """Unknown fields of the tool, and pictures that a new drawing does not use, are told as dropped."""
    tools = [{**TOOL, "action": "generate", "complexity": "high"}]
    body = {"model": "demo", "input": [message(picture())], "tools": tools, "temperature": 1, "reasoning": {}}
    answer = await gateway.post("/v1/responses", body)

    assert answer.status == 200
    assert answer.json["output"][0]["action"] == "generate"
    dropped = {change["name"] for change in answer.json["gateway"]["receipt"]["dropped"]}
    assert dropped == {"complexity", "input_image"}


FUNCTION = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("tools", "named"),
    [
        ([TOOL, FUNCTION], "tools[1] is 'function' (get_weather)"),
        ([FUNCTION, TOOL], "tools[0] is 'function' (get_weather)"),
        ([TOOL, {"type": "function", "function": {"name": "old_form"}}], "tools[1] is 'function' (old_form)"),
        ([TOOL, {"type": "web_search"}], "tools[1] is 'web_search';"),
        ([TOOL, {"type": "mcp", "server_label": "x"}], "tools[1] is 'mcp';"),
        ([TOOL, {"type": "custom", "name": "y" * 5000}], "tools[1] is 'custom' (yyy"),
        ([TOOL, {}], "tools[1] is None;"),
        ([TOOL, {"type": {"a": ["b"] * 5000}}], "tools[1] is {'a': ['b'"),
        ([TOOL, TOOL], "tools[1] is image_generation a second time"),
        ([], "tools is missing"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_that_is_not_served_is_named_with_its_place(
    gateway: Gateway, tools: list[Any], named: str, stream: bool
) -> None:
    """Drawn without it, a client would wait for a call of its function that never comes."""
    body = {"model": "demo", "input": "a fox", "tools": tools, "stream": stream}
    answer = await gateway.post("/v1/responses", body)

    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "unsupported_tools", "tools")
    assert named in answer.error["message"]
    assert "image_generation" in answer.error["message"]
    assert len(answer.text) < 1000
    assert (await gateway.get("/v1/jobs")).json["data"] == []


async def test_a_refusal_at_once_has_a_status_in_streams_too(aiohttp_server: AiohttpServer, tmp_path: Path) -> None:
    """A blocked word and a spent limit are known before the first event: the SDK raises them as what they are."""
    yaml = DEMO.replace("models: {demo: {", "models: {demo: {middlewares: [words, limits], ")
    yaml += "middlewares:\n  words: {use: blocklist, words: [axe]}\n  limits: {use: limits, images: 1/day}\n"
    gateway = await start(aiohttp_server, yaml, tmp_path)
    async with client(gateway) as sdk:

        async def streamed(words: str) -> list[Any]:
            stream = await sdk.responses.create(model="demo", input=words, tools=[TOOL], stream=True)
            return [event async for event in stream]

        with pytest.raises(openai.BadRequestError) as blocked:
            await streamed("an axe")
        assert (await streamed("a fox"))[-1].type == "response.completed"
        with pytest.raises(openai.RateLimitError) as spent:
            await streamed("a fox")

    assert blocked.value.code == "content_policy_violation"
    assert spent.value.code == "rate_limit_exceeded"


async def test_a_ratio_in_the_words_is_the_size(gateway: Gateway) -> None:
    """The words mean the same as in every other endpoint: a ratio among them is not drawn, but sets the size."""
    body = {"model": "demo", "input": "a red fox 2:1", "tools": [{"type": "image_generation"}]}
    answer = await gateway.post("/v1/responses", body)

    assert answer.json["output"][0]["size"] == "1024x512"
    assert answer.json["gateway"]["prompt"] == "a red fox"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no tools": ({"tools": None}, "tools"),
    "empty tools": ({"tools": []}, "tools"),
    "only other tools": ({"tools": [{"type": "web_search"}]}, "tools"),
    "tools as text": ({"tools": "image_generation"}, "tools"),
    "a tool as text": ({"tools": ["image_generation"]}, "tools"),
    "the tool twice": ({"tools": [TOOL, TOOL]}, "tools"),
    "tool forbidden": ({"tool_choice": "none"}, "tool_choice"),
    "another tool demanded": ({"tool_choice": {"type": "web_search_preview"}}, "tool_choice"),
    "image tool not allowed": (
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}},
        "tool_choice",
    ),
    "earlier response": ({"previous_response_id": "resp_1"}, "previous_response_id"),
    "conversation": ({"conversation": "conv_1"}, "conversation"),
    "stored prompt": ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    "background": ({"background": True}, "background"),
    "no input": ({"input": None}, "input"),
    "empty input": ({"input": ""}, "input"),
    "only a ratio": ({"input": "16:9"}, "input"),
    "input as number": ({"input": 7}, "input"),
    "empty list": ({"input": []}, "input"),
    "no user message": ({"input": [{"role": "assistant", "content": "hello"}]}, "input"),
    "message as text": ({"input": ["a fox"]}, "input"),
    "a part unknown": ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input"),
    "a part as number": ({"input": [{"role": "user", "content": [1]}]}, "input"),
    "a picture as file": (
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]},
        "input",
    ),
    "a picture as null": (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": None}]}]},
        "input",
    ),
    "no picture to edit": ({"tools": [{**TOOL, "action": "edit"}]}, "tools"),
    "unknown action": ({"tools": [{**TOOL, "action": "destroy"}]}, "action"),
    "mask without picture": ({"tools": [{**TOOL, "input_image_mask": {"image_url": picture()}}]}, "tools"),
    "mask as text": ({"input": [message(picture())], "tools": [{**TOOL, "input_image_mask": "x"}]}, "tools"),
    "mask of another size": (
        {
            "input": [message(picture())],
            "tools": [{**TOOL, "input_image_mask": {"image_url": picture((32, 32))}}],
        },
        "mask",
    ),
    "bad size": ({"tools": [{**TOOL, "size": "huge"}]}, "size"),
    "too many previews": ({"tools": [{**TOOL, "partial_images": 4}]}, "partial_images"),
    "too many pictures": ({"tools": [{**TOOL, "n": 11}]}, "n"),
    "model as number": ({"model": 5}, "model"),
    "stream as text": ({"stream": "perhaps"}, "stream"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_not_served_is_a_clear_400(gateway: Gateway, case: str, stream: bool) -> None:
    """The error names the field, before any stream has begun and before any job was made."""
    changes, param = REFUSED[case]
    answer = await gateway.post(
        "/v1/responses", {"model": "demo", "input": "a fox", "tools": [TOOL], "stream": stream, **changes}
    )

    assert answer.status == 400, answer.text
    assert answer.error["param"] == param
    assert (await gateway.get("/v1/jobs")).json["data"] == []


NAMES = [
    "type",
    "role",
    "content",
    "text",
    "image_url",
    "input",
    "tools",
    "model",
    "tool_choice",
    "action",
    "n",
    "result",
]
WORDS = ["image_generation", "image_generation_call", "user", "input_text", "input_image", "auto", "edit", "16:9", ""]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
JSON = st.recursive(
    LEAVES | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(
    changes=st.dictionaries(st.sampled_from([*NAMES, "stream", "metadata", "instructions"]), JSON),
    tool=JSON,
    value=JSON,
)
def test_no_body_breaks_the_reading(changes: dict[str, Any], tool: Any, value: Any) -> None:
    """Whatever JSON comes is read or refused; nothing else may happen."""
    message = {"role": "user", "content": value}
    for body in (
        {"input": "a fox", "tools": [TOOL, tool], **changes},
        {"input": [value, message], "tools": [TOOL]},
        {"input": "a fox", "tools": [{**TOOL, "action": value, "input_image_mask": value, "size": value}]},
    ):
        with suppress(RequestError):
            parse_responses(body, Chat())


async def test_unserved_uses_are_told_what_is_served(gateway: Gateway) -> None:
    """A client that speaks Responses for text learns at once that this endpoint draws."""
    answer = await gateway.post("/v1/responses", {"model": "demo", "input": "hello"})

    assert answer.status == 400
    assert "image_generation" in answer.error["message"]


async def test_a_failing_upstream_ends_the_stream_as_failed(
    aiohttp_server: AiohttpServer, tmp_path: Path, fake: FakeUpstream
) -> None:
    """After the first event no status can follow: the SDK sees response.failed, with the reason and the job."""
    gateway = await start(aiohttp_server, drawing_by(fake.base), tmp_path)
    fake.mode = "refuse"
    async with client(gateway) as sdk:
        stream = await sdk.responses.create(model="flux", input="a fox", tools=[TOOL], stream=True)
        events = [event async for event in stream]

    last = events[-1]
    assert last.type == "response.failed"
    # Vercel's AI SDK takes no item without a picture, and would tell nothing else.
    assert not [event for event in events if event.type == "response.output_item.done"]
    Response.model_validate(last.response.model_dump(exclude={"gateway"}))
    assert last.response.error
    assert last.response.error.code == "image_content_policy_violation"
    (item,) = last.response.output
    assert item.type == "image_generation_call"
    assert item.status == "failed"


async def test_a_failing_upstream_is_an_http_error_without_a_stream(
    aiohttp_server: AiohttpServer, tmp_path: Path, fake: FakeUpstream
) -> None:
    """The plain call answers the refusal as every other endpoint does."""
    gateway = await start(aiohttp_server, drawing_by(fake.base), tmp_path)
    fake.mode = "refuse"
    async with client(gateway) as sdk:
        with pytest.raises(openai.BadRequestError) as told:
            await sdk.responses.create(model="flux", input="a fox", tools=[TOOL])

    assert told.value.code == "content_policy_violation"


@pytest.mark.parametrize(
    "old",
    [
        {"role": "user", "content": [{"type": "input_file", "file_id": "f1"}, {"type": "input_text", "text": "x"}]},
        {"role": "user", "content": [{"type": "input_image", "file_id": "f1"}]},
        {"role": "user", "content": "x" * 32_001},
        {"role": "user", "content": "a\x01b"},
        {"role": "user"},
        {"type": "image_generation_call", "status": "completed"},
    ],
    ids=["file", "file id", "long", "control", "empty", "call"],
)
async def test_what_was_said_before_kills_no_conversation(gateway: Gateway, old: dict[str, Any]) -> None:
    """Clients send the whole history with each call; only the last message counts, and the last picture."""
    drawn = {"type": "image_generation_call", "id": "ig_1", "result": picture().partition(",")[2]}
    history = [old, *([drawn] if old.get("type") else []), {"role": "user", "content": "a red fox"}]
    answer = await gateway.post("/v1/responses", {"model": "demo", "input": history, "tools": [TOOL]})

    assert answer.status == 200, answer.text


async def test_the_same_idempotency_key_gives_the_same_response(gateway: Gateway) -> None:
    """A repeated call gets the very picture of the first, under the same ids."""
    body = {"model": "demo", "input": "a fox", "tools": [TOOL]}
    first = await gateway.post("/v1/responses", body, headers={"Idempotency-Key": "k-1"})
    second = await gateway.post("/v1/responses", body, headers={"Idempotency-Key": "k-1"})
    other = await gateway.post("/v1/responses", {**body, "input": "a cat"}, headers={"Idempotency-Key": "k-1"})

    assert first.json == second.json
    assert other.status == 409


async def test_it_can_be_answered_later_and_explained(gateway: Gateway) -> None:
    """``Prefer: respond-async`` gives a job, ``?explain=true`` an explanation that costs nothing."""
    body = {"model": "demo", "input": "a fox", "tools": [TOOL]}
    later = await gateway.post("/v1/responses", body, headers={"Prefer": "respond-async"})
    explained = await gateway.post("/v1/responses?explain=true", body)

    assert (later.status, later.json["object"]) == (202, "job")
    assert (explained.status, explained.json["object"]) == (200, "explanation")


async def test_it_is_served_below_any_path(gateway: Gateway) -> None:
    """As the other POST endpoints are."""
    answer = await gateway.post("/my/proxy/v1/responses", {"model": "demo", "input": "a fox", "tools": [TOOL]})

    assert answer.status == 200
