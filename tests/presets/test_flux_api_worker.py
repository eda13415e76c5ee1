"""The preset flux-api-worker: what the clients of Worker A rely on, and its faults mended (row N: seeds, section 3)."""

from __future__ import annotations

import asyncio
import io
import re
import time

import openai
import pytest
from PIL import Image

from tests.canaries import CALLER_KEY, UPSTREAM_KEY
from tests.presets.process import free_port, refused, serve, size_of
from tests.presets.vendors import SCHNELL, photo

NAME = "flux-api-worker"
RUN = f"/client/v4/accounts/acc-1/ai/run/{SCHNELL}"
LINK = re.compile(r"!\[[^\]]*\]\((\S+/image/[0-9a-f]{32,}\.\w+)\)")
CHAT = "/v1/chat/completions"


def worker(vendors, **more):
    """The variables that the Worker needs, and where the imitated API is."""
    environ = {
        "API_KEY": CALLER_KEY,
        "CF_ACCOUNT_ID": "acc-1",
        "CF_API_TOKEN": UPSTREAM_KEY,
        "CF_API_BASE": f"{vendors.base}/client/v4",
    }
    return {name: value for name, value in (environ | more).items() if value is not None}


def optimizing(vendors, **more):
    given = {
        "PROMPT_OPTIMIZATION": "true",
        "EXTERNAL_API_BASE": f"{vendors.base}/llm",
        "EXTERNAL_MODEL": "gpt-prompt",
        "EXTERNAL_API_KEY": f"{UPSTREAM_KEY}-llm",
    }
    return worker(vendors, **(given | more))


OWN_WORDS = 'Write prompts.\nAlways "vivid". {subject}, {size}, {max_words}, {}, ${HOME}, {{x}}'
"""A system message is sent letter for letter, whatever it looks like."""


@pytest.fixture
def gateway(vendors, processes):
    return processes(NAME, worker(vendors))


@pytest.fixture
def optimizer(vendors, processes):
    return processes(NAME, optimizing(vendors, PROMPT_TIMEOUT="1", SYSTEM_MESSAGE=OWN_WORDS))


def content_of(answer):
    assert answer.status == 200, answer.text
    return answer.json["choices"][0]["message"]["content"]


def receipt_of(answer):
    return answer.json["gateway"]["receipt"]


# A picture for a chat message ----------------------------------------------------------------------------------------


async def test_a_prompt_becomes_the_seven_lines_and_a_picture(gateway, vendors):
    """The content letter for letter, the link absolute, the picture what it says it is (rows 1, 2, 12)."""
    answer = await gateway.chat("a red fox in the snow 16:9")
    content = content_of(answer)
    url = LINK.search(content)[1]
    picture = await gateway.get(url, key=None)

    assert content == (
        "🎨 Original Prompt: a red fox in the snow 16:9\n💬 Prompt Model: Original Prompt\n"
        "🌐 Translated Prompt: a red fox in the snow\n📐 Image Size: 1024x576\n🌟 Image Successfully Generated!\n"
        f"Here is the result:\n\n![Generated Image]({url})"
    )
    assert url.startswith(f"{gateway.base}/image/")
    assert size_of(picture.body) == ("JPEG", "1024x576")
    assert picture.headers["Content-Type"] == "image/jpeg"
    assert 0 < int(re.search(r"max-age=(\d+)", picture.headers["Cache-Control"])[1]) <= 1800
    assert [(call.method, call.path, call.key, call.json) for call in vendors.calls] == [
        ("POST", RUN, UPSTREAM_KEY, {"prompt": "a red fox in the snow", "steps": 4})
    ]
    assert any(change["name"] == "size" for change in receipt_of(answer)["adjusted"])


async def test_the_answer_is_a_chat_completion(gateway):
    """Every field that typed clients read."""
    answer = (await gateway.chat("a fox", model="whatever-the-client-likes")).json

    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    assert answer["model"] == SCHNELL
    assert abs(answer["created"] - time.time()) < 60
    assert answer["choices"][0]["finish_reason"] == "stop"
    # What JavaScript calls the length: an emoji is two.
    length = len(answer["choices"][0]["message"]["content"].encode("utf-16-le")) // 2
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": length, "total_tokens": 5 + length}


@pytest.mark.parametrize("model", ["gpt-4o", SCHNELL, "dall-e-3", "", None, "x" * 300])
async def test_the_model_that_a_client_names_is_ignored(gateway, model):
    """NextChat and its like send what the user once chose."""
    assert content_of(await gateway.chat("a fox", model=model))


@pytest.mark.parametrize(
    ("prompt", "size", "sent"),
    [
        ("a fox", "1024x1024", "a fox"),
        ("a fox 1:1", "1024x1024", "a fox"),
        ("a fox 1:2", "512x1024", "a fox"),
        ("a fox 3:2", "768x512", "a fox"),
        ("a fox 3:4", "768x1024", "a fox"),
        ("a fox 16:9", "1024x576", "a fox"),
        ("a fox 9:16", "576x1024", "a fox"),
        ("16:9 a fox", "1024x576", "a fox"),
        ("a fox16:9", "1024x576", "a fox"),
        ("a fox 16:9 ---tl", "1024x576", "a fox"),
        ("a fox ---ntl", "1024x1024", "a fox"),
        ("a clock at 10:30, wide 16:9", "1024x576", "a clock at 10:30, wide"),
        ("a clock at 10:30 in a bar 16:9", "1024x576", "a clock at 10:30 in a bar"),
        ("a fox (16:9)", "1024x576", "a fox"),
        ("a fox 16:9.", "1024x576", "a fox."),
        ("a fox 16:9, at night", "1024x576", "a fox, at night"),
        ("一只狐狸 16：9", "1024x576", "一只狐狸"),
        ("a fox 4:3", "1024x768", "a fox"),
        ("a fox 2:3", "512x768", "a fox"),
        ("a fox 21:9", "1344x576", "a fox"),
    ],
)
async def test_ratios_of_the_worker_and_its_faults_mended(gateway, vendors, prompt, size, sent):
    """Section 1 of the seeds, and rows 1, 4, 5: the size is true, and only the ratio leaves the prompt."""
    content = content_of(await gateway.chat(prompt))
    picture = await gateway.get(LINK.search(content)[1], key=None)

    assert f"📐 Image Size: {size}\n" in content
    assert size_of(picture.body)[1] == size
    assert vendors.last.json["prompt"] == sent


async def test_the_flag_is_not_part_of_the_original_prompt(gateway):
    """It is taken out first, the ratio is not."""
    content = content_of(await gateway.chat("a red fox ---ntl 3:4"))

    assert content.startswith("🎨 Original Prompt: a red fox 3:4\n")
    assert "🌐 Translated Prompt: a red fox\n" in content


async def test_a_picture_is_cut_not_squeezed(gateway, vendors):
    """The middle of what came, in its own proportions."""
    picture = await gateway.get(LINK.search(content_of(await gateway.chat("a fox 16:9")))[1], key=None)

    with Image.open(io.BytesIO(picture.body)) as cut, Image.open(io.BytesIO(photo())) as whole:
        # The gradient is round: cut at top and bottom, its edges stay as bright as they were at that height.
        assert abs(cut.convert("L").getpixel((512, 1)) - whole.convert("L").getpixel((512, 225))) < 8
        assert abs(cut.convert("L").getpixel((1, 288)) - whole.convert("L").getpixel((1, 512))) < 8


@pytest.mark.parametrize("prompt", ["16:9", " 16:9 ", "(16：9)", "---tl", "", "   "])
async def test_a_prompt_of_nothing_but_a_ratio_is_refused(gateway, vendors, prompt):
    """Row 15: 400 before anything is paid."""
    answer = await gateway.chat(prompt)

    assert (answer.status, answer.error["code"], vendors.calls) == (400, "empty_prompt", [])


async def test_parts_and_history_and_odd_parameters(gateway, vendors):
    """Rows 7, 8: text parts are joined, the last user message counts, the rest of the chat is dropped."""
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "a dog 9:16"},
        {"role": "assistant", "content": "![x](http://127.0.0.1/image/old.png)"},
        {"role": "user", "content": [{"type": "text", "text": "a fox"}, {"type": "text", "text": "asleep 16:9"}]},
        {"role": "assistant", "content": "unfinished"},
    ]
    body = {"messages": messages, "temperature": 0.7, "top_p": 1, "tools": [], "max_tokens": 5, "n": 1, "stop": None}
    answer = await gateway.ask("POST", CHAT, json=body)

    assert "📐 Image Size: 1024x576" in content_of(answer)
    assert vendors.last.json["prompt"] == "a fox\nasleep"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"messages": []}',
        b'{"messages": "hi"}',
        b'{"messages": [{"role": "assistant", "content": "x"}]}',
        b'{"messages": [{"role": "user", "content": 7}]}',
    ],
)
async def test_bad_bodies_are_400_in_openai_form(gateway, vendors, body):
    """Rows 7 and 11: no 500, a message one can read, with CORS."""
    headers = {"Content-Type": "application/json", "Origin": "https://chat.example"}
    answer = await gateway.ask("POST", CHAT, data=body, headers=headers)

    assert (answer.status, answer.error["type"], vendors.calls) == (400, "invalid_request_error", [])
    assert answer.headers["Access-Control-Allow-Origin"] in {"*", "https://chat.example"}


@pytest.mark.parametrize("kind", ["text/plain;charset=UTF-8", "application/x-www-form-urlencoded"])
async def test_no_content_type_is_asked_for(gateway, kind):
    """A page's fetch and curl -d send these where nobody wrote a header; the Worker read their JSON."""
    body = b'{"messages": [{"role": "user", "content": "a fox"}]}'
    answer = await gateway.ask("POST", CHAT, data=body, headers={"Content-Type": kind})
    broken = await gateway.ask("POST", CHAT, data=b"a=b", headers={"Content-Type": kind})

    assert LINK.search(content_of(answer))
    assert (broken.status, broken.error["code"]) == (400, "invalid_json")


# Routes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/openai", "/a/b/c", "/v1", "/"])
async def test_any_prefix_before_v1_works(gateway, prefix):
    """The Worker looked at the end of the path only; some clients build it oddly."""
    models = await gateway.get(f"{prefix}/v1/models")
    answer = await gateway.ask("POST", prefix + CHAT, json={"messages": [{"role": "user", "content": "a fox"}]})

    assert [model["id"] for model in models.json["data"]] == [SCHNELL]
    assert content_of(answer)


async def test_the_model_is_listed_alone(gateway):
    """Exactly one, the configured one, with all that typed clients read."""
    answer = await gateway.get("/v1/models")
    (model,) = answer.json["data"]

    assert answer.json["object"] == "list"
    assert (model["id"], model["object"], model["parent"], model["root"]) == (SCHNELL, "model", None, SCHNELL)
    assert isinstance(model["created"], int)
    assert isinstance(model["owned_by"], str)
    assert model["permission"][0]["object"] == "model_permission"


async def test_the_front_door_health_and_preflights_need_no_key(gateway):
    """As before, and health besides."""
    welcome = await gateway.get("/", key=None)
    preflight = {
        "Origin": "https://chat.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    allowed = await gateway.ask("OPTIONS", CHAT, key=None, headers=preflight)
    plain = await gateway.ask("OPTIONS", "/any/path", key=None)

    assert (welcome.status, welcome.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert (allowed.status, allowed.body) == (204, b"")
    assert allowed.headers["Access-Control-Allow-Origin"] in {"*", "https://chat.example"}
    assert "POST" in allowed.headers["Access-Control-Allow-Methods"]
    granted = allowed.headers["Access-Control-Allow-Headers"].lower()
    assert "authorization" in granted
    assert "content-type" in granted
    assert (plain.status, plain.headers["Access-Control-Allow-Origin"]) == (204, "*")
    assert {"GET", "POST", "OPTIONS"} <= set(plain.headers["Access-Control-Allow-Methods"].split(", "))
    assert (await gateway.get("/health", key=None)).json["status"] == "ok"
    assert (await gateway.get("/v1/health", key=None)).json["status"] == "ok"


@pytest.mark.parametrize(
    "authorization", [None, "Bearer", "Bearer ", "Bearer  x", f"Bearer {CALLER_KEY} junk", f"Basic {CALLER_KEY}"]
)
async def test_only_the_exact_key_opens(gateway, vendors, authorization):
    """Rows 9, 10, 11: no junk after the key, no empty key; 401 as JSON with CORS."""
    headers = {"Origin": "https://chat.example"} | ({"Authorization": authorization} if authorization else {})
    answer = await gateway.ask("POST", CHAT, key=None, headers=headers, json={"messages": []})

    assert (answer.status, answer.error["code"], vendors.calls) == (401, "invalid_api_key", [])
    assert answer.headers["Access-Control-Allow-Origin"] in {"*", "https://chat.example"}
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_key_with_a_comma_is_one_key(vendors):
    """The Worker compared the variable whole."""
    process = serve(NAME, worker(vendors, API_KEY=f" {CALLER_KEY},second"))
    try:
        halves = [await process.get("/v1/models", key=key) for key in (CALLER_KEY, "second")]
        whole = await process.get("/v1/models", key=f"{CALLER_KEY},second")
    finally:
        process.stop()

    assert [answer.status for answer in (*halves, whole)] == [401, 401, 200]


async def test_unknown_paths_and_pictures_are_404(gateway):
    """Row 11, and keys that climb."""
    for path in ("/nowhere", "/image/image_1_abc", "/image/..%2f..%2fetc%2fpasswd", "/image/" + "0" * 40):
        answer = await gateway.get(path, headers={"Origin": "https://chat.example"})

        assert (answer.status, answer.error["type"]) == (404, "invalid_request_error"), path
        assert answer.headers["Access-Control-Allow-Origin"]


# Streams and SDKs ----------------------------------------------------------------------------------------------------


async def test_a_stream_has_role_progress_picture_stop_and_done(gateway):
    """Row 13."""
    answer = await gateway.chat("a fox 16:9", stream=True, stream_options={"include_usage": True})
    chunks = answer.chunks()

    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert chunks[-1] == "[DONE]"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["usage"]["total_tokens"] > 0
    assert chunks[-3]["choices"][0]["finish_reason"] == "stop"
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks[:-1]}) == 1
    told = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-2]]
    assert sum(bool(LINK.search(text)) for text in told) == 1, "the Markdown picture comes in one chunk"
    assert any("Drawing" in text for text in told)
    assert "🎨 Original Prompt: a fox 16:9\n" in answer.content()


async def test_the_openai_sdk_generates_by_chat_stream_and_images(gateway, vendors):
    """The package from PyPI, unchanged."""
    async with openai.AsyncOpenAI(base_url=f"{gateway.base}/v1", api_key=CALLER_KEY, max_retries=0) as client:
        messages = [{"role": "user", "content": "a fox 3:4"}]
        plain = await client.chat.completions.create(model="gpt-4o", messages=messages)
        parts = [
            chunk.choices[0].delta.content or ""
            async for chunk in await client.chat.completions.create(model="gpt-4o", messages=messages, stream=True)
        ]
        pictures = await client.images.generate(prompt="a fox", model=SCHNELL, size="1024x1024", n=2)
        linked = await client.images.generate(prompt="a fox 9:16", response_format="url")
        models = await client.models.list()

    assert LINK.search(plain.choices[0].message.content)
    assert plain.usage.total_tokens
    assert LINK.search("".join(parts))
    assert all(image.b64_json for image in pictures.data)
    assert len(pictures.data) == 2
    assert size_of((await gateway.get(linked.data[0].url, key=None)).body)[1] == "576x1024"
    assert [model.id for model in models.data] == [SCHNELL]


async def test_prompts_that_clients_send_by_themselves_cost_no_picture(gateway, vendors):
    """A title is answered with words, under the model's name."""
    answer = await gateway.chat("Generate a concise, 3-5 word title with an emoji summarizing the chat history.")

    assert content_of(answer)
    assert (answer.json["model"], vendors.calls) == (SCHNELL, [])


async def test_errors_reach_the_sdk_with_their_code(gateway, vendors):
    """A refusal is a BadRequestError with the code, and is not repeated."""
    vendors.mode = "refuse"
    async with openai.AsyncOpenAI(base_url=f"{gateway.base}/v1", api_key=CALLER_KEY) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="x", messages=[{"role": "user", "content": "a fox"}])

    assert caught.value.code == "content_policy_violation"
    assert len(vendors.calls) == 1


# The optimizer -------------------------------------------------------------------------------------------------------


async def test_the_prompt_model_is_asked_as_before(optimizer, vendors):
    """URL, key, model, system message; the user message bears size and description; its answer is drawn."""
    vendors.words = "a majestic fox, golden hour"
    content = content_of(await optimizer.chat("a fox 16:9"))
    (asked,) = vendors.prompts
    system, user = asked.json["messages"]

    assert (asked.method, asked.path, asked.key) == ("POST", "/llm/v1/chat/completions", f"{UPSTREAM_KEY}-llm")
    assert asked.json["model"] == "gpt-prompt"
    assert system == {"role": "system", "content": OWN_WORDS}
    assert user == {
        "role": "user",
        "content": "Generate a prompt for an image with the aspect ratio 1024:576. The description is: a fox",
    }
    assert asked.headers["User-Agent"] == "CloudflareWorker/1.0"
    assert vendors.last.json["prompt"] == "a majestic fox, golden hour"
    assert "💬 Prompt Model: gpt-prompt\n🌐 Translated Prompt: a majestic fox, golden hour\n" in content
    assert "🎨 Original Prompt: a fox 16:9\n" in content


async def test_long_prompts_are_drawn_whole(optimizer, vendors):
    """This Worker counted no words; a SYSTEM_MESSAGE of one's own may ask for a page."""
    vendors.words = "a fox that looks at the sea while the sun goes down behind the hills. " * 20
    await optimizer.chat("a cub")

    assert vendors.drawn[0].json["prompt"] == vendors.words.strip()


@pytest.mark.parametrize(
    ("words", "reasoning", "drawn"),
    [
        ("<think>a fox, so orange</think>a fox, dawn", "", "a fox, dawn"),
        ("so orange</think>\n\na fox, dawn", "", "a fox, dawn"),
        ("a fox, dawn", "the user wants a fox", "a fox, dawn"),
        ("<think>x</think>a fox, dawn", "and more", "a fox, dawn"),
        ('Here is the prompt:\n"a fox, dawn"', "", "a fox, dawn"),
        ("```\na fox, dawn\n```", "", "a fox, dawn"),
        ("", "", "a cub"),
        ("<think>only thoughts</think>", "", "a cub"),
        ("<think>cut off", "", "a cub"),
        ("", "only thoughts", "a cub"),
        ("I'm sorry, I can't help with that.", "", "a cub"),
        ("…", "", "a cub"),
        ("a fox, dawn\x00", "", "a fox, dawn"),
    ],
)
async def test_only_prompts_are_drawn(optimizer, vendors, words, reasoning, drawn):
    """Rows 14, 24: thoughts never, empty answers never; then the caller's own words."""
    vendors.words, vendors.reasoning = words, reasoning
    answer = await optimizer.chat("a cub")

    assert vendors.last.json["prompt"] == drawn
    assert bool(receipt_of(answer)["notes"]) == (drawn == "a cub"), "the receipt says when it fell back"
    assert ("Prompt Model: Original Prompt" in content_of(answer)) == (drawn == "a cub")


@pytest.mark.parametrize(
    "mode", ["status:500", "status:401", "status:429", "status:404", "html:502", "html", "cut", "reset", "hang", "drip"]
)
async def test_a_failing_prompt_model_never_costs_the_picture(vendors, processes, mode):
    """Row 16 and the Worker's promise: whatever happens there, the original prompt is drawn, in time."""
    # A process of its own for those that rest or drop the key.
    base = f"{vendors.base}/llm/"
    process = processes(NAME, optimizing(vendors, PROMPT_TIMEOUT="1", SYSTEM_MESSAGE=mode, EXTERNAL_API_BASE=base))
    vendors.keys = {f"{UPSTREAM_KEY}-llm": mode}
    began = time.monotonic()
    answer = await process.chat("a cub 16:9")

    assert "🌐 Translated Prompt: a cub\n" in content_of(answer)
    assert vendors.drawn[0].json["prompt"] == "a cub"
    assert vendors.prompts[0].path == "/llm/v1/chat/completions"
    assert "not optimized" in receipt_of(answer)["notes"][0]
    assert time.monotonic() - began < 5


async def test_a_stream_does_not_boast_of_a_prompt_that_was_not_improved(optimizer, vendors):
    """It tells the improved one, and nothing where the caller's words are drawn."""
    vendors.words = "a majestic fox"
    improved = await optimizer.chat("a cub", stream=True)
    vendors.words = ""
    failed = await optimizer.chat("a cub", stream=True)

    assert "> ✨ Improved prompt: a majestic fox\n" in improved.content()
    assert "Improved prompt" not in failed.content()
    assert "Prompt Model: Original Prompt" in failed.content()


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"PROMPT_OPTIMIZATION": "true"}, True),
        ({"PROMPT_OPTIMIZATION": "True"}, False),
        ({"PROMPT_OPTIMIZATION": "1"}, False),
        ({"PROMPT_OPTIMIZATION": "false"}, False),
        ({"PROMPT_OPTIMIZATION": ""}, False),
        ({"PROMPT_OPTIMIZATION": None}, False),
        ({"PROMPT_OPTIMIZATION": None, "CF_IS_TRANSLATE": "true"}, True),
        ({"PROMPT_OPTIMIZATION": None, "CF_IS_TRANSLATE": "false"}, False),
        ({"PROMPT_OPTIMIZATION": "false", "CF_IS_TRANSLATE": "true"}, False),
    ],
)
async def test_only_the_exact_word_true_switches_it_on(vendors, given, asked):
    """The new name wins over the old one."""
    process = serve(NAME, optimizing(vendors, **given))
    try:
        await process.chat("a fox")
    finally:
        process.stop()

    assert bool(vendors.prompts) == asked


@pytest.mark.parametrize(
    ("given", "model"), [({"EXTERNAL_API_KEY": None}, "gpt-prompt"), ({"EXTERNAL_MODEL": None}, "default")]
)
async def test_a_prompt_model_of_ones_own_needs_no_key(vendors, given, model):
    """A server on this machine asks for none, and knows only one model."""
    process = serve(NAME, optimizing(vendors, **given))
    vendors.words = "a majestic fox"
    try:
        content = content_of(await process.chat("a fox"))
    finally:
        process.stop()
    (asked,) = vendors.prompts

    assert (asked.key or "").removeprefix(UPSTREAM_KEY) == ("-llm" if "EXTERNAL_MODEL" in given else "")
    assert asked.json["model"] == model
    assert f"💬 Prompt Model: {model}\n🌐 Translated Prompt: a majestic fox\n" in content


async def test_without_a_prompt_model_pictures_are_drawn_as_written(vendors):
    """The Worker fell back in silence; the start says what is missing."""
    process = serve(NAME, worker(vendors, PROMPT_OPTIMIZATION="true"))
    try:
        content = content_of(await process.chat("a fox 16:9"))
    finally:
        said = process.stop()

    assert "💬 Prompt Model: Original Prompt\n🌐 Translated Prompt: a fox\n" in content
    assert "EXTERNAL_API_BASE is not set" in said


async def test_without_optimization_its_variables_are_not_needed(gateway, vendors):
    """The process of most tests here has none of them."""
    await gateway.chat("a fox")

    assert vendors.prompts == []


# Numbers, names and places -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "steps"),
    [("1", 1), ("8", 8), ("20", 8), ("0", 4), ("", 4), ("many", 4), ("6 steps", 6), ("2.9", 2), ("-2", 4), ("NaN", 4)],
)
async def test_steps_are_read_as_the_worker_read_them(vendors, value, steps):
    """parseInt, 0 and no number are 4; more than the model takes is cut, and the receipt says so (row 1)."""
    process = serve(NAME, worker(vendors, FLUX_NUM_STEPS=value))
    try:
        answer = await process.chat("a fox")
    finally:
        process.stop()

    assert answer.status == 200, answer.text
    assert vendors.last.json["steps"] == steps
    assert ("steps" in {change["name"] for change in receipt_of(answer)["adjusted"]}) == (value == "20")


@pytest.mark.parametrize(
    ("model", "size", "kind"),
    [
        ("@cf/bytedance/stable-diffusion-xl-lightning", "1024x576", "json"),
        ("@cf/black-forest-labs/flux-2-klein-4b", "1024x576", "form"),
        ("@cf/leonardo/lucid-origin", "1024x576", "json"),
    ],
)
async def test_other_models_of_cloudflare_are_spoken_to_their_way(vendors, model, size, kind):
    """Row 3: binary answers, multipart, their own steps."""
    vendors.picture = photo(1024, 576)
    process = serve(NAME, worker(vendors, FLUX_MODEL=model))
    try:
        content = content_of(await process.chat("a fox 16:9"))
        picture = await process.get(LINK.search(content)[1], key=None)
        (listed,) = (await process.get("/v1/models")).json["data"]
    finally:
        process.stop()
    sent = vendors.last.json if kind == "json" else vendors.last.fields

    assert listed["id"] == model
    assert vendors.last.path.endswith(f"/ai/run/{model}")
    assert (str(sent["width"]), str(sent["height"])) == ("1024", "576")
    assert size_of(picture.body)[1] == size


async def test_pictures_go_when_their_time_is_over(vendors):
    """IMAGE_EXPIRATION in seconds; the cache may not outlive it (row 12)."""
    process = serve(NAME, worker(vendors, IMAGE_EXPIRATION="2"))
    try:
        url = LINK.search(content_of(await process.chat("a fox")))[1]
        fresh = await process.get(url, key=None)
        await asyncio.sleep(2.2)
        late = await process.get(url, key=None)
    finally:
        process.stop()

    assert fresh.status == 200
    assert re.search(r"max-age=[0-2]\b", fresh.headers["Cache-Control"])
    assert (late.status, late.error["type"]) == (404, "invalid_request_error")


async def test_pictures_on_disk_survive_a_restart(vendors, tmp_path):
    """The same URL, the same bytes, until the same hour; PORT and HOST say where."""
    port = str(free_port())
    given = worker(vendors, STORAGE_DIR=str(tmp_path / "pictures"), IMAGE_EXPIRATION="4", PORT=port, HOST="127.0.0.1")
    first = serve(NAME, given, tmp_path, "--host", "127.0.0.1")
    first.port = int(port)
    url = LINK.search(content_of(await first.chat("a fox")))[1]
    made = time.monotonic()
    before = await first.get(url, key=None)
    first.stop()
    second = serve(NAME, given, tmp_path, "--host", "127.0.0.1")
    try:
        after = await second.get(url, key=None)
        await asyncio.sleep(max(0.0, 4.2 - (time.monotonic() - made)))
        late = await second.get(url, key=None)
    finally:
        second.stop()

    assert f":{port}/" in url
    assert before.body == after.body
    assert before.headers["ETag"] == after.headers["ETag"]
    assert (after.status, late.status) == (200, 404)


async def test_links_bear_the_public_url(vendors):
    """Behind a proxy the address that the gateway sees is not the one that browsers use."""
    process = serve(NAME, worker(vendors, PUBLIC_URL="https://pictures.example/flux/"))
    try:
        content = content_of(await process.chat("a fox", stream=False))
    finally:
        process.stop()

    assert LINK.search(content)[1].startswith("https://pictures.example/flux/image/")


LINES = {
    "en": """\
🎨 Original Prompt: a fox 16:9
💬 Prompt Model: Original Prompt
🌐 Translated Prompt: a fox
📐 Image Size: 1024x576
🌟 Image Successfully Generated!
Here is the result:

![Generated Image](LINK)""",
    "de": """\
🎨 Ursprünglicher Prompt: a fox 16:9
💬 Prompt-Modell: Original Prompt
🌐 Übersetzter Prompt: a fox
📐 Bildgröße: 1024x576
🌟 Bild erfolgreich generiert!
Hier ist das Ergebnis:

![Generiertes Bild](LINK)""",
    "es": """\
🎨 Prompt Original: a fox 16:9
💬 Modelo de Prompt: Original Prompt
🌐 Prompt Traducido: a fox
📐 Tamaño de Imagen: 1024x576
🌟 ¡Imagen Generada con Éxito!
Aquí está el resultado:

![Imagen Generada](LINK)""",
    "fr": """\
🎨 Prompt original : a fox 16:9
💬 Modèle de génération de prompt : Original Prompt
🌐 Prompt traduit : a fox
📐 Spécifications de l'image : 1024x576
🌟 Génération d'image réussie !
Voici le résultat :

![Image générée](LINK)""",
    "ja": """\
🎨 元のプロンプト：a fox 16:9
💬 プロンプトモデル：Original Prompt
🌐 翻訳後のプロンプト：a fox
📐 画像サイズ：1024x576
🌟 画像が正常に生成されました！
以下が結果です：

![生成された画像](LINK)""",
    "ru": """\
🎨 Исходный запрос: a fox 16:9
💬 Модель генерации запроса: Original Prompt
🌐 Переведенный запрос: a fox
📐 Спецификации изображения: 1024x576
🌟 Генерация изображения успешна!
Вот результат:

![Сгенерированное изображение](LINK)""",
    "zh-cn": """\
🎨 原始提示词：a fox 16:9
💬 提示词生成模型：Original Prompt
🌐 翻译后的提示词：a fox
📐 图像规格：1024x576
🌟 图像生成成功！
以下是结果：

![生成的图像](LINK)""",
    "zh-hant": """\
🎨 原始提示詞：a fox 16:9
💬 提示詞生成模型：Original Prompt
🌐 轉換後的提示詞：a fox
📐 圖像規格：1024x576
🌟 圖像生成成功！
以下是結果：

![生成的圖像](LINK)""",
}


@pytest.mark.parametrize("language", LINES)
async def test_every_language_of_the_worker_is_there(vendors, language):
    """CHAT_LANGUAGE stands for the eight files that the Worker came in; each letter of the lines is theirs."""
    process = serve(NAME, worker(vendors, CHAT_LANGUAGE=language))
    try:
        content = content_of(await process.chat("a fox 16:9"))
    finally:
        process.stop()

    assert re.sub(r"\(http://[^)]+\)", "(LINK)", content) == LINES[language]


# Failing upstreams ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["hang", "drip", "hang_in_body"])
async def test_a_slow_upstream_is_a_504_in_time(vendors, processes, mode):
    """Row 16; IMAGE_TIMEOUT may have a fraction. The SDKs are told not to pay again."""
    process = processes(NAME, worker(vendors, IMAGE_TIMEOUT="1.5"))
    vendors.mode = mode
    began = time.monotonic()
    answer = await process.chat("a fox")

    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    assert 1 < time.monotonic() - began < 4
    assert answer.headers["x-should-retry"] == "false"
    vendors.mode = "ok"
    assert (await process.chat("a fox")).status == 200


@pytest.mark.parametrize(
    ("mode", "status", "code"),
    [
        ("refuse", 400, "content_policy_violation"),
        ("status:400", 400, "upstream_rejected"),
        ("status:500", 502, "upstream_overloaded"),
        ("html:502", 502, "upstream_overloaded"),
        ("html", 502, None),
        ("cut", 502, None),
        ("reset", 502, None),
        ("text", 200, None),
    ],
)
async def test_what_goes_wrong_upstream_is_told_clearly(vendors, processes, mode, status, code):
    """Refusals and 400 are the caller's; a broken API is a 502 or 503 that names the backend, never a 500 or 401."""
    # After failures in a row a target rests; that is not what is tried here.
    process = processes(NAME, worker(vendors, IMAGE_EXPIRATION="99" if status < 500 else mode))
    vendors.mode = mode
    answer = await process.chat("a fox")

    assert answer.status == status, answer.text
    if status != 200:
        assert code in (None, answer.error["code"])
        assert re.search("cloudflare|Workers AI", answer.error["message"])
        assert len(vendors.calls) == 1
    if status >= 500:
        assert "x-should-retry" in answer.headers or status == 503


@pytest.mark.parametrize(
    ("first", "keys_used", "status"),
    [("status:401", 2, 200), ("status:403", 2, 200), ("limited:1", 2, 200), ("refuse", 1, 400), ("status:400", 1, 400)],
)
async def test_keys_replace_each_other_only_where_that_helps(vendors, first, keys_used, status):
    """CF_API_TOKEN may hold several; a refused key is left out, a refused prompt burns no other (row 19)."""
    process = serve(NAME, worker(vendors, CF_API_TOKEN=f"{UPSTREAM_KEY}-a, {UPSTREAM_KEY}-b"))
    vendors.keys = {f"{UPSTREAM_KEY}-a": first}
    try:
        answer = await process.chat("a fox")
    finally:
        stderr = process.stop()

    assert answer.status == status
    assert [call.key[-1] for call in vendors.calls] == ["a", "b"][:keys_used]
    assert UPSTREAM_KEY not in stderr


async def test_a_used_up_allowance_is_told_with_its_end(vendors, processes):
    """4006 is the account's: no other key is tried, and Retry-After says midnight."""
    process = processes(NAME, worker(vendors, CF_API_TOKEN=f"{UPSTREAM_KEY}-c,{UPSTREAM_KEY}-d"))
    vendors.mode, vendors.error = "status:429", {"success": False, "errors": [{"code": 4006, "message": "daily free"}]}
    answer = await process.chat("a fox")

    assert (answer.status, answer.error["code"], len(vendors.calls)) == (429, "upstream_allowance", 1)
    assert int(answer.headers["Retry-After"]) > 0


# Starting ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"API_KEY": None}, "variable API_KEY is not set"),
        ({"API_KEY": ""}, "a key is empty; an unset or empty variable is not a key (empty here: API_KEY)"),
        ({"API_KEY": "   "}, "a key is empty"),
        ({"CF_ACCOUNT_ID": None}, "variable CF_ACCOUNT_ID is not set"),
        ({"CF_ACCOUNT_ID": ""}, "(empty here: CF_ACCOUNT_ID)"),
        ({"CF_API_TOKEN": None}, "variable CF_API_TOKEN is not set"),
        ({"CF_API_TOKEN": ""}, "a key is empty"),
        ({"CF_API_BASE": "api.example"}, "not a URL; it begins with http:// or https://"),
        ({"IMAGE_TIMEOUT": "soon"}, "not a duration; write it like 30s, 5m, 1h30m (from IMAGE_TIMEOUT)"),
        ({"IMAGE_TIMEOUT": "0"}, "must be more than 0"),
        ({"FETCH_ALLOW": "no-port"}, "host:port"),
        ({"CHAT_LANGUAGE": "tlh"}, "language"),
        ({"PORT": "http"}, "port"),
    ],
)
async def test_what_cannot_work_does_not_start(vendors, change, said):
    """Row 10: exit code 78 and a sentence that names what is missing, never a value that may be secret."""
    ended = refused(NAME, worker(vendors, **change))

    assert ended.returncode == 78
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert UPSTREAM_KEY not in ended.stderr + ended.stdout


async def test_nothing_secret_is_logged(vendors, tmp_path):
    """Row 26: neither keys nor prompts stand in the log, not even of failures."""
    process = serve(NAME, optimizing(vendors), tmp_path)
    vendors.modes.extend(["echo", "echo"])
    await process.chat("a canary-coloured fox")
    await process.chat("a canary-coloured fox")
    log = process.stop()

    assert UPSTREAM_KEY not in log
    assert CALLER_KEY not in log
    assert "canary-coloured" not in log
