"""Chat clients get a picture for their last words, whatever else they send, in the exact form they can read."""

import asyncio
import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateways import DEMO, SPARE_KEY, drawing_by, start

CHAT = "/v1/chat/completions"
PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEAwS2OUAAAAABJRU5ErkJggg=="  # noqa: E501  - one pixel
TITLE = "Generate a concise, 3-5 word title with an emoji summarizing the chat history."
LINK = re.compile(r"!\[[^\]]*\]\((http://127\.0\.0\.1:\d+/image/[0-9a-f]{40}\.png)\)")


@pytest.fixture
async def gateway(fake, aiohttp_server, tmp_path):
    return await start(aiohttp_server, drawing_by(fake.base), tmp_path)


@pytest.fixture
async def demo(aiohttp_server, tmp_path):
    return await start(aiohttp_server, DEMO, tmp_path)


def user(content):
    return {"role": "user", "content": content}


# What cannot be served ---------------------------------------------------------------------------------------------

BAD = {
    "no messages": ({}, "messages", None),
    "null": ({"messages": None}, "messages", None),
    "no list": ({"messages": "a fox"}, "messages", None),
    "an object": ({"messages": user("a fox")}, "messages", None),
    "an empty list": ({"messages": []}, "messages", None),
    "a list of words": ({"messages": ["a fox"]}, "messages", None),
    "a list of nulls": ({"messages": [None]}, "messages", None),
    "no user": ({"messages": [{"role": "system", "content": "x"}]}, "messages", "missing_user_message"),
    "only an assistant": ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", "missing_user_message"),
    "no content": ({"messages": [{"role": "user"}]}, "messages", None),
    "null content": ({"messages": [user(None)]}, "messages", None),
    "a number": ({"messages": [user(7)]}, "messages", None),
    "true": ({"messages": [user(True)]}, "messages", None),
    "an object as content": ({"messages": [user({"text": "x"})]}, "messages", None),
    "empty": ({"messages": [user("")]}, "messages", "empty_prompt"),
    "white space": ({"messages": [user(" \n\t\u3000")]}, "messages", "empty_prompt"),
    "zero width": ({"messages": [user("\u200b\u200d\ufeff")]}, "messages", "empty_prompt"),
    "only a ratio": ({"messages": [user("16:9")]}, "messages", "empty_prompt"),
    "only a ratio in brackets": ({"messages": [user(" (16：9). ")]}, "messages", "empty_prompt"),
    "only a flag": ({"messages": [user("---ntl")]}, "messages", "empty_prompt"),
    "no parts": ({"messages": [user([])]}, "messages", "empty_prompt"),
    "an empty part": ({"messages": [user([{"type": "text", "text": ""}])]}, "messages", "empty_prompt"),
    "a part without text": ({"messages": [user([{"type": "text"}])]}, "messages", None),
    "a part of sound": ({"messages": [user([{"type": "input_audio", "input_audio": {}}])]}, "messages", None),
    "a part that is a number": ({"messages": [user([5])]}, "messages", None),
    "a picture without an address": ({"messages": [user([{"type": "image_url"}])]}, "messages", None),
    "a NUL": ({"messages": [user("a\0fox")]}, "messages", None),
    "an escape sequence": ({"messages": [user("a \x1b[31mfox")]}, "messages", None),
    "a very long prompt": ({"messages": [user("x" * 32_001)]}, "messages", None),
    "an unknown model": ({"messages": [user("a fox")], "model": "nobody"}, "model", "model_not_found"),
    "a model that is a number": ({"messages": [user("a fox")], "model": 5}, "model", None),
    "a model that is a list": ({"messages": [user("a fox")], "model": ["flux"]}, "model", None),
    "a model with a NUL": ({"messages": [user("a fox")], "model": "fl\0ux"}, "model", None),
    "stream as a word": ({"messages": [user("a fox")], "stream": "yes"}, "stream", None),
    "stream as a number": ({"messages": [user("a fox")], "stream": 1}, "stream", None),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_cannot_be_served_is_a_400_that_names_the_field(gateway, fake, name, streamed):
    """Before any upstream call, never inside a stream, readable for a page of another origin."""
    body, param, code = BAD[name]
    body = {"stream": True, **body} if streamed else body
    answer = await gateway.post(CHAT, body, headers={"Origin": "https://app.example"})

    assert answer.status == (404 if code == "model_not_found" else 400), answer.text
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["param"] == param
    assert code in {answer.error["code"], None}
    assert answer.headers["Access-Control-Allow-Origin"]
    assert answer.headers["x-should-retry"] == "false"
    assert not fake.calls
    assert (await gateway.chat()).status == 200


async def test_an_unknown_model_is_told_with_those_there_are(gateway):
    """The caller can mend it at once."""
    answer = await gateway.chat(model="nobody")

    assert "flux" in answer.error["message"]
    assert "up-model" not in answer.text


async def test_twenty_thousand_messages_are_read_or_refused_quickly(gateway):
    """Only the last user message counts; the rest costs nothing."""
    began = time.monotonic()
    answer = await gateway.post(CHAT, {"messages": [user("old")] * 20_000 + [user("a fox")]})

    assert answer.status == 200
    assert time.monotonic() - began < 3


# What never breaks a call ------------------------------------------------------------------------------------------


async def test_nothing_that_chat_clients_send_besides_breaks_a_call(gateway, fake):
    """Sampling, tools, formats, metadata, nulls and what is not even of the right type."""
    noise = {
        "temperature": 0.7, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0, "max_tokens": 4000,
        "max_completion_tokens": 100, "stop": ["x"], "n": 5, "logit_bias": {}, "logprobs": True, "top_logprobs": 3,
        "seed": 42, "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": "auto", "parallel_tool_calls": True, "response_format": {"type": "json_object"},
        "user": "someone", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "stream_options": None,
        "reasoning_effort": "low", "modalities": ["text", "image"], "functions": [], "verbosity": None,
        "size": ["odd"], "quality": 7, "steps": "many", "background": {}, "output_format": None, "strict": None,
    }  # fmt: skip
    answer = await gateway.chat("a red fox", **noise)

    assert answer.status == 200, answer.text
    assert len(fake.calls) == 1
    assert len(LINK.findall(answer.json["choices"][0]["message"]["content"])) == 1
    assert {"prompt", "model"} <= set(fake.last.json)
    assert not {"temperature", "tools", "messages"} & set(fake.last.json)


async def test_null_equals_absent(gateway):
    """Clients of typed languages send every field they know."""
    names = ("model", "n", "stream", "stream_options", "size", "user", "seed", "steps", "tools", "temperature")

    assert (await gateway.chat("a fox", **dict.fromkeys(names))).status == 200


async def test_the_last_user_message_is_the_prompt(gateway, fake):
    """System words, earlier turns, our own Markdown and what follows are dropped."""
    messages = [
        {"role": "system", "content": "You are a poet."},
        {"role": "developer", "content": "Be brief."},
        user("a blue whale"),
        {"role": "assistant", "content": "![Generated Image](https://gw.example/image/abc.png)"},
        user("a red fox"),
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "7"},
    ]
    answer = await gateway.post(CHAT, {"messages": messages})

    assert answer.status == 200
    assert fake.last.json["prompt"] == "a red fox"


async def test_text_parts_are_joined(gateway, fake):
    """Both spellings, and plain strings among them."""
    parts = [{"type": "text", "text": "a red fox"}, {"type": "input_text", "text": "in snow"}, "at dusk 16:9"]
    answer = await gateway.chat(parts)

    assert answer.status == 200, answer.text
    assert fake.last.json["prompt"] == "a red fox\nin snow\nat dusk"


@pytest.mark.parametrize(
    ("words", "prompt", "size"),
    [
        ("a cat 1:1", "a cat", "1024x1024"),
        ("a cat 1:2", "a cat", "512x1024"),
        ("a cat 3:2", "a cat", "768x512"),
        ("a cat 3:4", "a cat", "768x1024"),
        ("a cat 16:9", "a cat", "1024x576"),
        ("9:16 a cat", "a cat", "576x1024"),
        ("a cat", "a cat", "1024x1024"),
        ("a cat 16：9", "a cat", "1024x576"),
        ("a cat (16:9).", "a cat.", "1024x576"),
        ("clock at 10:30 in a bar 16:9", "clock at 10:30 in a bar", "1024x576"),
        ("a clock that shows 10:30", "a clock that shows 10:30", "1024x1024"),
        ("a cat 5:7", "a cat 5:7", "1024x1024"),
        ("a cat 4:3", "a cat", "1024x768"),
        ("a cat 1:1 no, 16:9", "a cat 1:1 no", "1024x576"),
    ],
)
async def test_the_ratio_in_the_words_decides_the_size(gateway, fake, words, prompt, size):
    """As the Workers' users write it; a time of day is none; the picture really has that size."""
    answer = await gateway.chat(words)
    content = answer.json["choices"][0]["message"]["content"]
    picture = await gateway.get(LINK.search(content)[1].removeprefix(gateway.base))
    width, height = int.from_bytes(picture.body[16:20], "big"), int.from_bytes(picture.body[20:24], "big")

    assert fake.last.json["prompt"].rstrip(",. ") == prompt.rstrip(",. ")
    assert f"{width}x{height}" == size
    assert f"📐 Image Size: {size}" in content


async def test_more_ratios_come_from_the_configuration(fake, aiohttp_server, tmp_path):
    """And the default size."""
    more = 'chat: {ratios: {"5:7": 640x896}, default_size: 512x512}\n'
    gateway = await start(aiohttp_server, drawing_by(fake.base, more), tmp_path)

    assert "640x896" in (await gateway.chat("a cat 5:7")).text
    assert "512x512" in (await gateway.chat("a cat")).text


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.text(st.characters(), min_size=1, max_size=200))
async def test_no_words_are_a_fault_of_the_gateway(gateway, caplog, words):
    """Surrogates, controls, overrides, emoji: drawn or refused, and never a second line in the log."""
    answer = await gateway.chat(words)
    stream = await gateway.chat(words, stream=True)

    assert answer.status == stream.status
    assert answer.status in {200, 400}, answer.text
    assert answer.status == 200 or answer.error["param"] in {"messages", None}
    assert not [record for record in caplog.records if "\n" in record.getMessage()]


@pytest.mark.parametrize(
    "words",
    [
        "\u202egnp.exe",
        "e" + "\u0301" * 5_000,
        "👩‍👩‍👧‍👦 🏳️‍🌈",
        "a\u2028b\u2029c",
        "狐狸在雪地里",
        "ثعلب أحمر",
        "{original} {url}",
        "%s %d",
    ],
)
async def test_words_of_every_script_are_drawn_as_they_are(gateway, fake, words):
    """Nothing is lost on the way, and the answer stays one Markdown picture."""
    answer = await gateway.chat(words)

    assert answer.status == 200, answer.text
    assert fake.last.json["prompt"].split() == words.split()
    assert len(LINK.findall(answer.json["choices"][0]["message"]["content"])) == 1


@pytest.fixture
async def writing(fake, aiohttp_server, tmp_path):
    """A gateway whose prompts are rewritten by a chat model: the same fake."""
    more = f"""\
optimizers:
  pen: {{use: chat, base_url: "{fake.base}/v1", keys: [{SPARE_KEY}], model: writer-1,
         http: {{total: 0.4, first_byte: 0.3}}}}
"""
    yaml = drawing_by(fake.base, more).replace("model: up-model}]", "model: up-model}], optimizers: [pen]")
    return await start(aiohttp_server, yaml, tmp_path)


async def test_a_better_prompt_is_drawn_and_its_author_named(writing, fake):
    """In the text of the answer, in the receipt, and as revised_prompt of the images API."""
    answer = (await writing.chat("cat 16:9")).json
    content = answer["choices"][0]["message"]["content"]
    drawn = (await writing.draw("cat", response_format="url")).json["data"][0]

    assert fake.last.json["prompt"] == fake.words
    assert "🎨 Original Prompt: cat 16:9\n💬 Prompt Model: writer-1\n" in content
    assert f"🌐 Translated Prompt: {fake.words}\n" in content
    assert answer["gateway"]["receipt"]["optimizer"] == "writer-1"
    assert drawn["revised_prompt"] == fake.words


async def test_a_request_may_switch_optimizing_off(writing, fake):
    """Its own words are drawn, and no chat model is asked."""
    for answer in (await writing.chat("cat", optimize=False), await writing.draw("cat", optimize=False)):
        assert answer.status == 200
    assert [call.path for call in fake.calls] == ["/v1/images/generations"] * 2
    assert fake.last.json["prompt"] == "cat"


@pytest.mark.parametrize("mode", ["status:500", "hang", "html", "limited:5", "echo:401", "cut", "refuse", "reset"])
async def test_a_chat_model_that_fails_costs_nobody_the_picture(writing, fake, mode):
    """The user's own words are drawn within the time set, and the receipt says why."""
    fake.keys[SPARE_KEY] = mode
    began = time.monotonic()
    answer = await writing.chat("cat")

    assert answer.status == 200, answer.text
    assert fake.last.json["prompt"] == "cat"
    assert "pen" in str(answer.json["gateway"]["receipt"]["notes"])
    assert time.monotonic() - began < 3


# The form of answers -----------------------------------------------------------------------------------------------


async def test_a_plain_answer_has_the_exact_form(gateway):
    """Every field that clients read, with the right types; what is ours stands beside it."""
    began = int(time.time())
    answer = (await gateway.chat("a red fox 16:9")).json
    choice = answer["choices"][0]

    assert re.fullmatch(r"chatcmpl-[0-9a-f]{16,}", answer["id"])
    assert answer["object"] == "chat.completion"
    assert began <= answer["created"] <= time.time()
    assert answer["model"] == "flux"
    assert len(answer["choices"]) == 1
    assert set(choice) == {"index", "message", "logprobs", "finish_reason"}
    assert (choice["index"], choice["logprobs"], choice["finish_reason"]) == (0, None, "stop")
    assert set(choice["message"]) == {"role", "content", "refusal"}
    assert (choice["message"]["role"], choice["message"]["refusal"]) == ("assistant", None)
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
    assert set(answer) == {"id", "object", "created", "model", "choices", "usage", "gateway"}


async def test_the_content_is_worker_a_s(gateway):
    """Seven lines, the original words with their ratio, and an absolute link that needs no key."""
    content = (await gateway.chat("a red fox 16:9")).json["choices"][0]["message"]["content"]
    link = LINK.search(content)[1]
    picture = await gateway.get(link.removeprefix(gateway.base), headers={"Authorization": ""})

    assert content == (
        "🎨 Original Prompt: a red fox 16:9\n💬 Prompt Model: Original Prompt\n🌐 Translated Prompt: a red fox\n"
        "📐 Image Size: 1024x576\n🌟 Image Successfully Generated!\nHere is the result:\n\n"
        f"![Generated Image]({link})"
    )
    assert picture.status == 200
    assert picture.headers["Content-Type"] == "image/png"


async def test_worker_b_s_form_is_a_template(fake, aiohttp_server, tmp_path):
    """As its preset uses it."""
    gateway = await start(aiohttp_server, drawing_by(fake.base, "chat: {template: worker-b}\n"), tmp_path)
    content = (await gateway.chat("a red fox")).json["choices"][0]["message"]["content"]

    assert re.fullmatch(r"!\[Image\]\(http://[^)]+\)\n\nOptimized prompt: a red fox", content)


@pytest.mark.parametrize(
    "words", ["![x](http://evil.example/?c)", "[y](javascript:alert(1))", "<img src=x onerror=y>", "`a`"]
)
async def test_words_bring_no_picture_or_link_of_their_own(gateway, words):
    """What is echoed in Markdown is escaped: the only picture is ours."""
    answer = await gateway.chat(f"a fox {words}")
    content = answer.json["choices"][0]["message"]["content"]
    stream = (await gateway.chat(f"a fox {words}", stream=True)).content()

    for text in (content, stream):
        assert len(re.findall(r"(?<!\\)\]\(", text)) == 1
        assert not re.search(r"(?<!\\)<img", text)


async def test_a_stream_has_the_exact_form(gateway):
    """Role first, the whole picture in one chunk, an empty stop chunk, and the mark of the end."""
    answer = await gateway.chat("a red fox 16:9", stream=True)
    *chunks, end = answer.chunks()

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert "no-cache" in answer.headers["Cache-Control"]
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert end == "[DONE]"
    assert answer.text.endswith("data: [DONE]\n\n")
    assert "\r" not in answer.text
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    for chunk in chunks:
        (choice,) = chunk["choices"]
        assert choice["index"] == 0
        assert choice["logprobs"] is None
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert len([chunk for chunk in chunks if LINK.search(chunk["choices"][0]["delta"].get("content", ""))]) == 1
    assert not any("usage" in chunk for chunk in chunks)


@pytest.mark.parametrize("options", [{"include_usage": True}, {"include_usage": False}, {}, None, [], "x"])
async def test_the_usage_chunk_comes_only_when_asked_for(gateway, options):
    """After the stop chunk, with no choices."""
    *chunks, _ = (await gateway.chat(stream=True, stream_options=options)).chunks()
    usage = [chunk for chunk in chunks if "usage" in chunk]

    if options == {"include_usage": True}:
        assert usage == [chunks[-1]]
        assert chunks[-1]["choices"] == []
        assert set(chunks[-1]["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    else:
        assert usage == []


@pytest.mark.parametrize(
    ("progress", "field"), [("content", "content"), ("reasoning", "reasoning_content"), ("off", None)]
)
async def test_progress_is_told_where_it_was_configured(fake, aiohttp_server, tmp_path, progress, field):
    """Each step in a chunk of its own before the picture, or none at all."""
    gateway = await start(aiohttp_server, drawing_by(fake.base, f"chat: {{progress: {progress}}}\n"), tmp_path)
    *chunks, _ = (await gateway.chat(stream=True)).chunks()
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    place = next(n for n, delta in enumerate(deltas) if LINK.search(delta.get("content", "")))
    before = deltas[1:place]

    assert bool(before) is (field is not None)
    assert {name for delta in before for name in delta} == ({field} if field else set())


async def test_progress_of_the_backend_is_told_as_it_happens(demo):
    """The demo draws in steps; each becomes a chunk with a growing number."""
    content = (await demo.chat("a lighthouse", stream=True)).content()
    percents = [int(number) for number in re.findall(r"(\d+) ?%", content)]

    assert percents == sorted(set(percents))
    assert len(percents) >= 2


async def test_a_silent_stream_pings(fake, aiohttp_server, tmp_path):
    """Comment lines keep proxies from cutting it, and no client stumbles over them."""
    fake.mode = "slow:0.4"
    gateway = await start(aiohttp_server, drawing_by(fake.base, "chat: {ping: 0.1}\n"), tmp_path)
    answer = await gateway.chat(stream=True)
    comments = [line for line in answer.text.split("\n") if line.startswith(":")]

    assert len(comments) >= 2
    assert LINK.search(answer.content())


async def test_the_stream_begins_before_the_picture_is_there(fake, gateway):
    """The role chunk is out while the upstream still thinks."""
    fake.mode = "hang"
    body = {"messages": [user("a fox")], "stream": True}
    async with gateway.session.post(gateway.base + CHAT, json=body) as response:
        async with asyncio.timeout(2):
            first = await response.content.readuntil(b"\n\n")
        fake.released.set()
        rest = await response.read()

    assert response.status == 200
    assert b'"role":"assistant"' in first
    assert rest.endswith(b"data: [DONE]\n\n")


# Failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "status", "code", "retry"),
    [
        ("status:401", 502, "upstream_key_refused", "false"),
        ("status:403", 502, "upstream_key_refused", "false"),
        ("echo:401", 502, "upstream_key_refused", "false"),
        ("limited:7", 429, "upstream_rate_limited", None),
        ("limited:date", 429, "upstream_rate_limited", None),
        ("limited:", 429, "upstream_rate_limited", None),
        ("limited:soon", 429, "upstream_rate_limited", None),
        ("refuse", 400, "content_policy_violation", "false"),
        ("status:500", 502, "upstream_overloaded", None),
        ("status:400", 400, "upstream_rejected", "false"),
        ("status:404", 502, "upstream_misconfigured", "false"),
        ("html", 502, "not_an_image", "false"),
        ("html:502", 502, "upstream_overloaded", None),
        ("cut", 502, "upstream_bad_response", "false"),
        ("reset", 502, "upstream_bad_response", "false"),
        ("reset:20", 502, "upstream_bad_response", "false"),
        ("redirect", 502, "upstream_bad_response", None),
    ],
)
async def test_what_the_upstream_does_is_told_plainly(gateway, fake, mode, status, code, retry):
    """Its 401 is not the caller's, its refusal is a 400; its pages and keys are never shown; nothing is paid twice."""
    fake.mode = mode
    plain = await gateway.chat("a fox")
    paid = len(fake.calls)

    assert plain.status == status, plain.text
    assert plain.error["code"] == code
    assert retry is None or plain.headers["x-should-retry"] == retry
    assert paid == 1
    assert "<html" not in plain.text
    assert mode == "refuse" or "up/up-model" in plain.error["message"]
    assert (status == 429) == ("Retry-After" in plain.headers) or status == 503
    assert status != 429 or plain.headers["Retry-After"].isdigit()


async def test_an_allowance_used_up_is_not_asked_for_again(gateway, fake):
    """The SDKs would repeat a 429 twice for nothing."""
    fake.error = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    fake.mode = "status:429"
    for words in ("a fox", "a bear"):
        answer = await gateway.chat(words)

        assert (answer.status, answer.error["code"]) == (429, "upstream_allowance")
        assert answer.headers["x-should-retry"] == "false"
        assert int(answer.headers["Retry-After"]) > 60


@pytest.mark.parametrize("mode", ["refuse", "html", "status:400", "reset", "cut"])
async def test_a_failure_after_the_headers_is_told_in_the_stream(gateway, fake, mode):
    """One error event in OpenAI's form, then the end; never a second status line."""
    fake.mode = mode
    answer = await gateway.chat("a fox", stream=True)
    *chunks, error, end = answer.chunks()

    assert answer.status == 200
    assert end == "[DONE]"
    assert set(error) == {"error"}
    assert {"message", "type", "code", "param"} <= set(error["error"])
    assert all("choices" in chunk for chunk in chunks)
    assert answer.text.count("HTTP/1") == 0
    assert not LINK.search(answer.text)
    assert "<html" not in answer.text


async def test_a_refusal_speaks_the_words_that_clients_look_for(gateway, fake):
    """LiteLLM and others know it by code and by text."""
    fake.mode = "refuse"
    error = (await gateway.chat("something bad")).error

    assert error["type"] == "invalid_request_error"
    assert error["code"] == "content_policy_violation"
    assert "safety system" in error["message"] or "content policy" in error["message"]


async def test_a_dead_upstream_is_a_502_that_may_be_tried_again(aiohttp_server, tmp_path, unused_tcp_port):
    """Nothing was sent, so nothing can be paid twice."""
    gateway = await start(aiohttp_server, drawing_by(f"http://127.0.0.1:{unused_tcp_port}"), tmp_path)
    answer = await gateway.chat("a fox")

    assert answer.status == 502
    assert answer.error["code"] == "upstream_unreachable"
    assert answer.headers.get("x-should-retry") != "false"


# Task prompts, explanations, pictures in ---------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_s_own_prompt_gets_words_and_costs_nothing(gateway, fake, streamed):
    """Titles and the like are answered in the form that was asked for."""
    messages = [user("a red fox in snow"), {"role": "assistant", "content": "![x](http://x/y.png)"}, user(TITLE)]
    answer = await gateway.post(CHAT, {"messages": messages, "stream": streamed, "model": "flux"})
    text = answer.content() if streamed else answer.json["choices"][0]["message"]["content"]

    assert answer.status == 200
    assert "fox" in text.lower()
    assert "![" not in text
    assert not fake.calls


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_task_may_be_a_system_message_alone(gateway, fake, streamed):
    """LibreChat sends its conversation within the order; no user message is missed in it."""
    order = "Provide a concise, 5-word-or-less title for the conversation.\n\nUser: a red fox\nAI: done"
    answer = await gateway.post(CHAT, {"messages": [{"role": "system", "content": order}], "stream": streamed})
    text = answer.content() if streamed else answer.json["choices"][0]["message"]["content"]

    assert (answer.status, text, fake.calls) == (200, "A red fox", [])


async def test_a_task_for_an_unknown_model_is_still_a_404(gateway):
    """Words are no way around what a key may use."""
    answer = await gateway.chat(TITLE, model="nobody")

    assert answer.status == 404


async def test_tasks_are_drawn_if_so_configured(fake, aiohttp_server, tmp_path):
    """For who wants it as the Workers did."""
    gateway = await start(aiohttp_server, drawing_by(fake.base, "chat: {tasks: picture}\n"), tmp_path)
    answer = await gateway.chat(TITLE)

    assert LINK.search(answer.text.replace("\\n", "\n"))
    assert len(fake.calls) == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_explanation_spends_nothing_and_shows_what_is_sent(gateway, fake, streamed):
    """Byte for byte; and the call after it sends exactly that."""
    body = {"messages": [user("a red fox 16:9")], "seed": 7, "stream": streamed}
    explained = await gateway.post(CHAT + "?explain=true", body)
    calls = len(fake.calls)
    await gateway.post(CHAT, body)

    assert explained.status == 200
    assert calls == 0
    (shown,) = explained.json["calls"]
    assert shown["body"].encode() == fake.last.body
    assert shown["url"] == f"{fake.base}{fake.last.path}"
    assert "Authorization" not in str(shown)


async def test_an_input_picture_that_the_model_cannot_take_is_a_400(gateway, fake):
    """The field is named, and nothing is sent."""
    parts = [{"type": "text", "text": "make it blue"}, {"type": "image_url", "image_url": {"url": PNG}}]
    answer = await gateway.chat(parts)

    assert answer.status == 400, answer.text
    assert not fake.calls


@pytest.mark.parametrize(
    ("words", "body", "size"),
    [("a cat", {}, "768x512"), ("a cat 1:2", {}, "512x1024"), ("a cat", {"size": "256x256"}, "256x256")],
)
async def test_a_model_s_own_size_goes_before_the_one_of_all_chats(aiohttp_server, tmp_path, words, body, size):
    """Whoever asks for one gets that."""
    yaml = DEMO.replace("{backends: [{backend: here}]}", "{backends: [{backend: here}], defaults: {size: 768x512}}")
    assert "defaults" in yaml
    answer = await (await start(aiohttp_server, yaml, tmp_path)).chat(words, **body)

    assert answer.json["gateway"]["receipt"]["applied"]["size"] == size


@pytest.mark.parametrize(
    ("words", "body", "size"),
    [
        ("make it blue", {"size": "512x768"}, "512x768"),
        ("make it blue", {"width": 640, "height": 480}, "640x480"),
        ("make it blue", {"aspect_ratio": "16:9"}, "1024x576"),
        ("make it blue 1:2", {"size": "512x768"}, "512x1024"),
        ("make it blue", {}, None),
    ],
)
async def test_the_size_of_an_edit_is_what_was_asked_for(demo, words, body, size):
    """In the body or as a ratio in the words; the one configured for all chats does not cut a picture that came."""
    parts = [{"type": "text", "text": words}, {"type": "image_url", "image_url": {"url": PNG}}]
    answer = await demo.chat(parts, **body)

    assert answer.status == 200, answer.text
    assert answer.json["gateway"]["receipt"]["asked"].get("size") == size


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x.png",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "ftp://x/y",
        "data:text/html,x",
        "data:image/png;base64,!!!",
        "data:image/svg+xml;base64,PHN2Zy8+",
        "javascript:alert(1)",
        "x" * 5_000,
        "//host/x",
    ],
)
async def test_a_hostile_input_picture_is_refused(demo, url):
    """No packet to inside addresses, no file, no script."""
    parts = [{"type": "text", "text": "make it blue"}, {"type": "image_url", "image_url": {"url": url}}]
    answer = await demo.chat(parts)

    assert 400 <= answer.status < 500, answer.text
    assert answer.error["type"] == "invalid_request_error"
    assert "root:" not in answer.text


async def test_the_receipt_stands_in_the_answer(gateway):
    """What was asked, what came of it and why, in the plain answer and in the stop chunk."""
    plain = (await gateway.chat("a red fox 16:9", seed=3, steps="many")).json["gateway"]
    *chunks, _ = (await gateway.chat("a red fox 16:9", stream=True)).chunks()
    receipt = plain["receipt"]

    assert receipt["asked"]["size"] == "1024x576"
    assert receipt["applied"]["seed"] == 3
    assert [change["name"] for change in receipt["adjusted"]] == ["size"]
    assert "steps" in [change["name"] for change in receipt["dropped"]]
    assert receipt["attempts"][0]["outcome"] == "ok"
    assert plain["job"].startswith("job_")
    assert chunks[-1]["gateway"]["receipt"]["target"] == "up/up-model"


@pytest.mark.parametrize("kind", [["text"], {"type": "text"}, 5, None, True])
async def test_a_part_of_no_kind_is_refused(gateway, kind):
    """What no set can hold is no fault of the gateway's."""
    parts = [{"type": kind, "text": "a cat"}]
    answer = await gateway.post("/v1/chat/completions", {"messages": [{"role": "user", "content": parts}]})

    assert (answer.status, answer.error["param"]) == (400, "messages")


@pytest.mark.parametrize("sides", [{"width": 512}, {"height": 512}, {"width": "x", "height": 512}, {"width": -1}])
async def test_half_a_size_never_breaks_a_chat(gateway, sides):
    """It is dropped, and the receipt says so."""
    answer = await gateway.chat("a fox", **sides)

    assert answer.status == 200, answer.text
    assert set(sides) & {change["name"] for change in answer.json["gateway"]["receipt"]["dropped"]}
