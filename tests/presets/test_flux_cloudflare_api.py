"""The preset flux-cloudflare-api: what Worker B's clients rely on, its faults mended (row N: seeds, section 3)."""

from __future__ import annotations

import base64
import re
import time
from urllib.parse import quote

import openai
import pytest

from tests.canaries import CALLER_KEY, UPSTREAM_KEY
from tests.presets.process import refused, serve, size_of
from tests.presets.vendors import photo

NAME = "flux-cloudflare-api"
SILICON = "/sf/v1/images/generations"
FLUX = "black-forest-labs/FLUX.1-schnell"
LINK = re.compile(r"!\[[^\]]*\]\((\S+/image/[0-9a-f]{32,}\.\w+)\)")
CHAT = "/v1/chat/completions"


def worker(vendors, **more):
    """One Flux vendor and two chat models that draw, as the Worker is set up; the links lead to a private host."""
    environ = {
        "AUTHORIZED_API_KEY": CALLER_KEY,
        "FLUX_GEN_MODEL": f"{FLUX}, other/flux",
        "FLUX_GEN_API_BASE": vendors.base + SILICON,
        "FLUX_GEN_API_KEY": f"{UPSTREAM_KEY}-flux",
        **group(vendors, 1, "gpt-4o-image"),
        **group(vendors, 2, "gemini-image"),
        "FETCH_ALLOW": vendors.base.removeprefix("http://"),
    }
    return {name: value for name, value in (environ | more).items() if value is not None}


def group(vendors, number, model):
    return {
        f"IMAGE_GEN_API_BASE_{number}": f"{vendors.base}/direct-{number}/v1/chat/completions",
        f"IMAGE_GEN_MODEL_{number}": model,
        f"IMAGE_GEN_API_KEY_{number}": f"{UPSTREAM_KEY}-direct-{number}",
    }


def optimizing(vendors, mode="OPENAI_MODEL", **more):
    given = {
        "OPENAI_API_BASE": f"{vendors.base}/llm/v1",
        "OPENAI_API_KEY": f"{UPSTREAM_KEY}-llm-a, {UPSTREAM_KEY}-llm-b",
        mode: "prompt-model",
        "PROMPT_TIMEOUT": "1",
    }
    return worker(vendors, **(given | more))


@pytest.fixture
def gateway(vendors, processes):
    return processes(NAME, worker(vendors))


@pytest.fixture
def thinker(vendors, processes):
    return processes(NAME, optimizing(vendors, "OPENAI_MODEL_REASONING"))


def content_of(answer):
    assert answer.status == 200, answer.text
    return answer.json["choices"][0]["message"]["content"]


def notes_of(answer):
    return answer.json["gateway"]["receipt"]["notes"]


# The Flux type -------------------------------------------------------------------------------------------------------


async def test_a_flux_model_is_asked_as_the_worker_asked_it(gateway, vendors):
    """The same body upstream; the picture is fetched once and served by us (rows 17, 18)."""
    answer = await gateway.chat("a red fox 16:9", model=FLUX)
    content = content_of(answer)
    url = LINK.search(content)[1]
    picture = await gateway.get(url, key=None)

    assert content == f"![Image]({url})\n\nOptimized prompt: a red fox"
    assert url.startswith(f"{gateway.base}/image/")
    assert [(call.path, call.key, call.json) for call in vendors.paid()] == [
        (
            SILICON,
            f"{UPSTREAM_KEY}-flux",
            {"model": FLUX, "prompt": "a red fox", "image_size": "1024x576", "num_inference_steps": 50},
        )
    ]
    assert size_of(picture.body) == ("JPEG", "1024x576")
    assert picture.headers["Content-Type"] == "image/jpeg"
    assert len([call for call in vendors.calls if call.path.startswith("/files/")]) == 1


async def test_the_answer_is_a_chat_completion(gateway):
    """Every field that typed clients read; the usage counts what JavaScript calls the length."""
    answer = (await gateway.chat("a 🦊 16:9", model="other/flux")).json
    length = len(answer["choices"][0]["message"]["content"]) + 1

    assert answer["id"].startswith("imggen-flux-")
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": length, "total_tokens": 4 + length}
    assert (answer["object"], answer["model"]) == ("chat.completion", "other/flux")
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("prompt", "size", "sent"),
    [
        ("a fox", "1024x1024", "a fox"),
        ("a fox 9:16", "576x1024", "a fox"),
        ("a clock at 10:30, wide, 16:9", "1024x576", "a clock at 10:30, wide"),
        ("a clock (10:30) and a fox (3:4)", "768x1024", "a clock (10:30) and a fox"),
        ("1:2 a fox", "512x1024", "a fox"),
    ],
)
async def test_ratios_leave_the_rest_of_the_prompt_alone(gateway, vendors, prompt, size, sent):
    """Row 6: no clock eats the place, no empty brackets stay."""
    await gateway.chat(prompt, model="other/flux")

    assert vendors.paid()[0].json["image_size"] == size
    assert vendors.paid()[0].json["prompt"] == sent


async def test_only_user_messages_are_prompts(gateway, vendors):
    """Rows 7, 8."""
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a fox"}, {"type": "text", "text": "asleep"}]},
        {"role": "assistant", "content": "a dog"},
    ]
    await gateway.ask("POST", CHAT, json={"model": FLUX, "messages": messages})

    assert vendors.paid()[0].json["prompt"] == "a fox\nasleep"


async def test_a_private_picture_host_must_be_allowed(vendors, processes):
    """Without FETCH_ALLOW a link to a private address is not followed; the answer says which backend gave it."""
    process = processes(NAME, worker(vendors, FETCH_ALLOW=None))
    answer = await process.chat("a fox", model=FLUX)

    assert answer.status == 502
    assert "flux/" in answer.error["message"]
    assert "may not be fetched" in answer.error["message"]
    assert len(vendors.calls) == 1


# Direct models: chat models that draw --------------------------------------------------------------------------------


def pictures_as(kind, base):
    """Give a message of each form that chat models give pictures in."""
    link = f"{base}/files/picture.png?Signature=a%2Fb%3D"
    data = f"data:image/jpeg;base64,{base64.b64encode(photo(640, 480)).decode()}"
    part = {"type": "image_url", "image_url": {"url": data}}
    return {
        "markdown": {"content": f"> progress 99%\n\nHere it is:\n\n![a fox]({link})\n\n[download]({link})"},
        "markdown with a title": {"content": f'![a fox]({link} "a fox")'},
        "data in markdown": {"content": f"Done! ![fox]({data})"},
        "bare data": {"content": data},
        "images": {"content": "", "images": [part]},
        "images without content": {"content": None, "images": [part]},
        "parts": {"content": [{"type": "text", "text": "here"}, part]},
        "output_image": {"content": [{"type": "output_image", "image_url": data}]},
        "a bare link": {"content": f"{base}/files/picture.png"},
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "markdown",
        "markdown with a title",
        "data in markdown",
        "bare data",
        "images",
        "images without content",
        "parts",
        "output_image",
        "a bare link",
    ],
)
async def test_pictures_of_chat_models_are_found_in_every_form(gateway, vendors, kind):
    """The body as the Worker sent it; the picture whole, since nobody asked for a size."""
    vendors.picture, vendors.message = photo(640, 480), pictures_as(kind, vendors.base)
    answer = await gateway.chat("a red fox", model="gpt-4o-image")
    picture = await gateway.get(LINK.search(content_of(answer))[1], key=None)

    assert size_of(picture.body) == ("JPEG", "640x480")
    (asked,) = vendors.paid()
    assert (asked.path, asked.key) == ("/direct-1/v1/chat/completions", f"{UPSTREAM_KEY}-direct-1")
    messages = [{"role": "user", "content": "a red fox"}]
    assert asked.json == {"model": "gpt-4o-image", "messages": messages, "stream": False}


async def test_a_ratio_reaches_chat_models_and_is_kept_here(gateway, vendors):
    """Row 25: told to the model in words, and what comes is cut to it."""
    vendors.picture, vendors.message = photo(1024, 1024), pictures_as("markdown", vendors.base)
    answer = await gateway.chat("a red fox 16:9", model="gemini-image")
    picture = await gateway.get(LINK.search(content_of(answer))[1], key=None)

    assert size_of(picture.body)[1] == "1024x576"
    assert "16:9" in vendors.paid()[0].json["messages"][0]["content"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_words_instead_of_a_picture_are_the_answer(gateway, vendors, streamed):
    """The Worker passed on what the model said: a question or a refusal. No foreign link comes with it."""
    vendors.message = {"content": "Which fox?\n\nA red one, or see [this](http://x.example/)?"}
    answer = await gateway.chat("a red fox", model="gpt-4o-image", stream=streamed)
    content = answer.content() if streamed else content_of(answer)

    assert answer.status == 200
    assert content.endswith("Which fox?\n\nA red one, or see \\[this\\](http:\\//x.example/)?")
    assert len(vendors.calls) == 1
    choice = answer.chunks()[-2]["choices"][0] if streamed else answer.json["choices"][0]
    assert choice["finish_reason"] == "stop"
    if streamed:
        assert "…\n\nWhich fox?" in content, "a blank line ends the quoted progress"


async def test_words_instead_of_a_picture_are_an_error_for_who_asks_for_pictures(gateway, vendors):
    """The images API has no place for words."""
    vendors.message = {"content": "I cannot draw real people."}
    body = {"prompt": "a red fox", "model": "gpt-4o-image"}
    answer = await gateway.ask("POST", "/v1/images/generations", json=body)

    assert (answer.status, answer.error["code"]) == (400, "content_policy_violation")
    assert "I cannot draw real people" in answer.error["message"]
    assert len(vendors.calls) == 1


# Names of both generations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "key"),
    [("IMAGE_GEN_API_BASE", "IMAGE_GEN_API_KEY"), ("API_BASE", "API_KEY"), ("FLUX_GEN_API_BASE", "FLUX_GEN_API_KEY")],
)
@pytest.mark.parametrize("model", ["IMAGE_GEN_MODEL", "FLUX_GEN_MODEL"])
async def test_the_names_of_both_generations_work(vendors, base, key, model):
    """IMAGE_GEN_* and API_BASE, API_KEY are the older file's; a comma list is a list of models."""
    environ = {
        "AUTHORIZED_API_KEY": CALLER_KEY,
        "FETCH_ALLOW": vendors.base.removeprefix("http://"),
        model: "m/one,m/two , ",
        base: vendors.base + SILICON,
        key: f"{UPSTREAM_KEY}-old",
    }
    process = serve(NAME, environ)
    try:
        listed = [each["id"] for each in (await process.get("/v1/models")).json["data"]]
        answer = await process.chat("a fox", model="m/two")
    finally:
        process.stop()

    assert listed == ["m/one", "m/two"]
    assert content_of(answer)
    assert (vendors.paid()[0].key, vendors.paid()[0].json["model"]) == (f"{UPSTREAM_KEY}-old", "m/two")


async def test_groups_count_from_1_to_10_until_the_first_gap(vendors):
    """A group without model or key is skipped; the first missing base ends the list, as it did."""
    ten = {name: value for n in range(1, 12) for name, value in group(vendors, n, f"model-{n}").items()}
    ten["IMAGE_GEN_MODEL_3"] = ""
    ten["IMAGE_GEN_API_KEY_4"] = ""
    process = serve(NAME, worker(vendors, **ten))
    try:
        whole = [each["id"] for each in (await process.get("/v1/models")).json["data"]]
        vendors.message = pictures_as("images", vendors.base)
        answer = await process.chat("a fox", model="model-10")
    finally:
        process.stop()
    process = serve(NAME, worker(vendors, **ten | {"IMAGE_GEN_API_BASE_6": ""}))
    try:
        until_gap = [each["id"] for each in (await process.get("/v1/models")).json["data"]]
    finally:
        process.stop()

    flux = [FLUX, "other/flux"]
    assert whole == flux + [f"model-{n}" for n in (1, 2, 5, 6, 7, 8, 9, 10)]
    assert until_gap == flux + [f"model-{n}" for n in (1, 2, 5)]
    assert content_of(answer)
    assert vendors.paid()[0].path.startswith("/direct-10/")


async def test_one_name_in_several_groups_is_a_pool(vendors):
    """Row 20: listed once, and when one vendor fails the next takes over."""
    process = serve(NAME, worker(vendors, IMAGE_GEN_MODEL_1=FLUX))
    vendors.message = pictures_as("images", vendors.base)
    vendors.keys = {f"{UPSTREAM_KEY}-flux": "status:500"}
    try:
        listed = [each["id"] for each in (await process.get("/v1/models")).json["data"]]
        answers = [await process.chat("a fox", model=FLUX) for _ in range(16)]
    finally:
        process.stop()

    assert listed.count(FLUX) == 1
    assert all(LINK.search(content_of(answer)) for answer in answers)
    assert {call.path for call in vendors.paid()} == {SILICON, "/direct-1/v1/chat/completions"}


async def test_without_any_model_the_list_is_honestly_empty(vendors):
    """Row 26: no placeholder that cannot be called."""
    process = serve(NAME, {"AUTHORIZED_API_KEY": CALLER_KEY})
    try:
        listed = await process.get("/v1/models")
        answer = await process.chat("a fox", model="default-model-not-configured")
    finally:
        stderr = process.stop()

    assert listed.json == {"object": "list", "data": []}
    assert (answer.status, answer.error["code"]) == (400, "unsupported_image_model")
    assert "FLUX_GEN_MODEL" in stderr


# Models, routes, errors ----------------------------------------------------------------------------------------------


async def test_models_are_listed_as_clients_know_them(gateway):
    """id, object, created, owned_by, one permission, root, parent."""
    answer = await gateway.get("/v1/models")

    assert answer.json["object"] == "list"
    assert [model["id"] for model in answer.json["data"]] == [FLUX, "other/flux", "gpt-4o-image", "gemini-image"]
    for model in answer.json["data"]:
        assert model["object"] == "model"
        assert model["created"] < time.time()
        assert model["owned_by"] == "organization-owner"
        assert len(model["permission"]) == 1
        assert model["permission"][0]["allow_view"] is True
        assert (model["root"], model["parent"]) == (model["id"], None)
    assert (await gateway.get(f"/v1/models/{quote(FLUX, safe='')}")).json["id"] == FLUX
    assert (await gateway.get(f"/v1/models/{FLUX}")).json["id"] == FLUX


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"model": "nope"}, "unsupported_image_model"),
        ({"model": None}, "missing_model_field"),
        ({"model": ""}, "missing_model_field"),
        ({"model": "  "}, "missing_model_field"),
        ({"model": 5}, "missing_model_field"),
        ({"model": [FLUX]}, "missing_model_field"),
        ({}, "missing_model_field"),
        ({"model": FLUX, "messages": None}, "invalid_parameters"),
        ({"model": FLUX, "messages": []}, "invalid_parameters"),
        ({"model": FLUX, "messages": "a fox"}, "invalid_parameters"),
        ({"model": FLUX, "messages": [{"role": "system", "content": "x"}]}, "invalid_parameters"),
        ({"model": FLUX, "messages": [{"role": "user", "content": "16:9"}]}, "empty_prompt"),
    ],
)
async def test_bad_calls_have_the_codes_of_the_worker(gateway, vendors, body, code):
    """400 with message, type and code; an unknown model is told which there are."""
    answer = await gateway.ask("POST", CHAT, json={"messages": [{"role": "user", "content": "a fox"}], **body})

    assert (answer.status, answer.error["type"], answer.error["code"]) == (400, "invalid_request_error", code)
    assert vendors.calls == []
    if code == "unsupported_image_model":
        assert "gpt-4o-image" in answer.error["message"]


async def test_even_one_model_must_be_named(vendors):
    """The Worker never guessed."""
    process = serve(NAME, worker(vendors, FLUX_GEN_MODEL=FLUX, IMAGE_GEN_MODEL_1=None, IMAGE_GEN_MODEL_2=None))
    try:
        answer = await process.chat("a fox")
        served = await process.chat("a fox", model=f" {FLUX} ")
    finally:
        process.stop()

    assert (answer.status, answer.error["code"]) == (400, "missing_model_field")
    assert content_of(served)


@pytest.mark.parametrize(
    ("method", "path", "key", "status", "code"),
    [
        ("GET", CHAT, CALLER_KEY, 405, "method_not_allowed"),
        ("POST", "/v1/nothing", CALLER_KEY, 404, "path_not_found"),
        ("GET", "/v2/models", CALLER_KEY, 404, "path_not_found"),
        ("GET", "/v1/models", "wrong", 401, "invalid_api_key"),
        ("GET", "/v1/models", None, 401, "invalid_api_key"),
        ("POST", CHAT, f"{CALLER_KEY} junk", 401, "invalid_api_key"),
    ],
)
async def test_routes_answer_with_the_codes_of_the_worker(gateway, method, path, key, status, code):
    """Section 2 of the seeds."""
    answer = await gateway.ask(method, path, key=key)

    assert (answer.status, answer.error["code"]) == (status, code)


@pytest.mark.parametrize("path", ["/health", "/v1/health"])
async def test_health_asks_for_no_key(gateway, path):
    """For probes."""
    answer = await gateway.get(path, key=None)

    assert (answer.status, answer.json["status"]) == (200, "ok")


async def test_broken_json_is_told(gateway):
    """invalid_json."""
    answer = await gateway.ask("POST", CHAT, data=b'{"model": ', headers={"Content-Type": "application/json"})

    assert (answer.status, answer.error["code"]) == (400, "invalid_json")


async def test_no_content_type_is_asked_for(gateway):
    """A page's fetch sends text/plain where nobody wrote a header; the Worker read its JSON."""
    answer = await gateway.ask("POST", CHAT, data=b'{"model": 7}', headers={"Content-Type": "text/plain"})

    assert (answer.status, answer.error["code"]) == (400, "missing_model_field")


# The image proxy -----------------------------------------------------------------------------------------------------


async def test_the_image_proxy_is_closed_by_default(gateway, vendors):
    """Row 17: an open proxy is a way into the network behind it."""
    for url in (f"{vendors.base}/files/picture.png", "http://169.254.169.254/latest/meta-data/"):
        answer = await gateway.get(f"/image-proxy?url={quote(url, safe='')}", key=None)

        assert answer.status == 404
    assert vendors.calls == []


async def test_listed_hosts_can_be_asked_for_by_old_links(vendors, processes):
    """PROXY_HOSTS: what the Worker's answers pointed at keeps working; only pictures, only from those hosts."""
    process = processes(NAME, worker(vendors, PROXY_HOSTS="127.0.0.1,*.example.com"))
    good = await process.get(f"/image-proxy?url={quote(vendors.file_url(), safe='')}", key=None)
    missing = await process.get("/image-proxy", key=None)
    other = await process.get(f"/image-proxy?url={quote('http://elsewhere.example/x.png', safe='')}", key=None)
    vendors.mode = "html"
    page = await process.get(f"/image-proxy?url={quote(vendors.file_url(), safe='')}", key=None)

    assert (good.status, good.headers["Content-Type"], good.body) == (200, "image/jpeg", photo())
    assert (missing.status, missing.error["message"]) == (400, "Missing image URL parameter")
    assert other.status == 403
    assert page.status in {415, 502}
    assert b"<script>" not in page.body


# Prompts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["OPENAI_MODEL", "OPENAI_MODEL_REASONING"])
async def test_the_prompt_model_is_asked(vendors, processes, mode):
    """Base with /v1, both kinds of model, the Worker's question; our own words, no placeholder left (row 22)."""
    process = processes(NAME, optimizing(vendors, mode))
    vendors.words = "a majestic fox, golden hour"
    answer = await process.chat("a fox 16:9", model=FLUX)
    (asked,) = vendors.prompts
    system, user = asked.json["messages"]

    assert (asked.path, asked.json["model"]) == ("/llm/v1/chat/completions", "prompt-model")
    assert "{" not in system["content"]
    assert ("<think>" in system["content"]) == (mode == "OPENAI_MODEL_REASONING")
    assert user == {"role": "user", "content": "Input: a fox\nOutput:"}
    assert vendors.drawn[0].json["prompt"] == "a majestic fox, golden hour"
    assert content_of(answer).endswith("\n\nOptimized prompt: a majestic fox, golden hour")


@pytest.mark.parametrize(
    ("words", "reasoning", "drawn"),
    [
        ("<think>\nso orange\n</think>\n\na fox, dawn", "", "a fox, dawn"),
        ("thoughts without a beginning</think>a fox, dawn", "", "a fox, dawn"),
        ("a fox, dawn", "so orange", "a fox, dawn"),
        ("<think>only thoughts</think>", "", "a cub"),
        ("", "only thoughts", "a cub"),
        ("Output: a fox, dawn", "", "a fox, dawn"),
    ],
)
@pytest.mark.parametrize("mode", ["OPENAI_MODEL", "OPENAI_MODEL_REASONING"])
async def test_thoughts_are_never_drawn(vendors, processes, mode, words, reasoning, drawn):
    """Row 24, in both modes."""
    process = processes(NAME, optimizing(vendors, mode))
    vendors.words, vendors.reasoning = words, reasoning
    await process.chat("a cub", model=FLUX)

    assert vendors.drawn[0].json["prompt"] == drawn


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (", ".join(["red fox"] * 40), ", ".join(["red fox"] * 25)),
        ("一只红色的狐狸在雪地里，" * 8 + "月光", "一只红色的狐狸在雪地里，" * 8 + "月光"),
        (
            ", ".join(["red fox"] * 30) + ', a sign that reads "open all night"',
            ", ".join(["red fox"] * 21) + ', a sign that reads "open all night"',
        ),
    ],
)
async def test_fifty_words_are_counted_as_people_do(thinker, vendors, words, kept):
    """Row 23: English is cut at a phrase, Chinese is not chopped, quoted text stays."""
    vendors.words = words
    await thinker.chat("a cub", model=FLUX)

    assert vendors.drawn[0].json["prompt"] == kept


@pytest.mark.parametrize(
    ("first", "keys_used"), [("status:401", ["a", "b", "b", "b"]), ("status:500", ["a", "b", "a", "b", "a", "b"])]
)
async def test_prompt_keys_replace_each_other(vendors, first, keys_used):
    """OPENAI_API_KEY is a comma list; only when every key failed the caller's own words are drawn."""
    process = serve(NAME, optimizing(vendors))
    vendors.keys = {f"{UPSTREAM_KEY}-llm-a": first}
    vendors.words = "a majestic fox"
    try:
        answers = [await process.chat("a cub", model=FLUX) for _ in range(3)]
    finally:
        process.stop()

    assert [call.key[-1] for call in vendors.prompts] == keys_used
    assert all(content_of(answer).endswith("a majestic fox") for answer in answers)


@pytest.mark.parametrize("mode", ["status:500", "status:400", "status:429", "hang", "html", "reset"])
async def test_a_failing_prompt_model_never_costs_the_picture(vendors, mode):
    """Every key fails, or nothing comes: the caller's own words are drawn, in time (row 16)."""
    process = serve(NAME, optimizing(vendors))
    vendors.keys = dict.fromkeys((f"{UPSTREAM_KEY}-llm-a", f"{UPSTREAM_KEY}-llm-b"), mode)
    began = time.monotonic()
    try:
        answer = await process.chat("a cub 16:9", model=FLUX)
    finally:
        process.stop()

    assert content_of(answer).endswith("\n\nOptimized prompt: a cub")
    assert "not optimized" in notes_of(answer)[0]
    assert time.monotonic() - began < 5


async def test_without_prompt_variables_prompts_are_drawn_as_they_are(gateway, vendors):
    """Row 21: the stage is optional."""
    answer = await gateway.chat("a cub", model=FLUX)

    assert (vendors.prompts, notes_of(answer)) == ([], [])
    assert answer.json["gateway"]["receipt"]["optimizer"] is None


# Failing vendors and keys --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "keys_used", "status"),
    [
        ("status:401", ["a", "b"], 200),
        ("status:403", ["a", "b"], 200),
        ("limited:30", ["a", "b"], 200),
        ("status:402", ["a", "b"], 200),
        ("refuse", ["a"], 400),
        ("status:400", ["a"], 400),
        ("status:422", ["a"], 400),
        ("status:500", ["a"], 502),
    ],
)
async def test_keys_replace_each_other_only_where_that_helps(vendors, first, keys_used, status):
    """Row 19: a bad key or a used-up one is the next one's turn, a bad prompt is final."""
    process = serve(NAME, worker(vendors, FLUX_GEN_API_KEY=f"{UPSTREAM_KEY}-a, {UPSTREAM_KEY}-b"))
    vendors.keys = {f"{UPSTREAM_KEY}-a": first}
    try:
        answer = await process.chat("a fox", model=FLUX)
    finally:
        process.stop()

    assert answer.status == status, answer.text
    assert [call.key[-1] for call in vendors.paid()] == keys_used


async def test_white_space_around_variables_is_no_part_of_them(vendors):
    """The Worker trimmed URLs, names and lists, which are pasted or come from files with a blank at their end."""
    names = ("FLUX_GEN_MODEL", "FLUX_GEN_API_BASE", "FLUX_GEN_API_KEY", *group(vendors, 1, ""))
    given = optimizing(vendors)
    blanks = {name: f" {given[name]} " for name in (*names, "OPENAI_API_BASE", "OPENAI_API_KEY", "OPENAI_MODEL")}
    process = serve(NAME, given | blanks)
    vendors.message = {"content": f"![x]({vendors.base}/files/1.jpg)"}
    try:
        answers = [await process.chat("a fox", model=model) for model in (FLUX, "gpt-4o-image")]
    finally:
        process.stop()

    assert [answer.status for answer in answers] == [200, 200]
    assert [call.path for call in vendors.drawn] == [SILICON, "/direct-1/v1/chat/completions"]
    assert {(call.path, call.json["model"]) for call in vendors.prompts} == {
        ("/llm/v1/chat/completions", "prompt-model")
    }


async def test_nothing_stands_between_some_commas(vendors):
    """A comma at the end, or two, brings no key, in every list; callers' keys are one, taken whole."""
    process = serve(
        NAME,
        optimizing(
            vendors,
            AUTHORIZED_API_KEY=f"{CALLER_KEY},",
            OPENAI_API_KEY=f"{UPSTREAM_KEY}-llm, ,",
            FLUX_GEN_API_KEY=f",{UPSTREAM_KEY}-a,, {UPSTREAM_KEY}-b ,",
            IMAGE_GEN_API_KEY_1=f"{UPSTREAM_KEY}-direct-1,",
        ),
    )
    vendors.message = pictures_as("images", vendors.base)
    key = {"key": f"{CALLER_KEY},"}
    body = {"messages": [{"role": "user", "content": "a fox"}]}
    try:
        for model in (FLUX, FLUX, "gpt-4o-image"):
            answer = await process.ask("POST", CHAT, json={**body, "model": model}, **key)
            assert content_of(answer)
        refused_half = await process.chat("a fox", model=FLUX)
    finally:
        process.stop()

    assert [call.key.removeprefix(UPSTREAM_KEY) for call in vendors.drawn] == ["-a", "-b", "-direct-1"]
    assert {call.key for call in vendors.prompts} == {f"{UPSTREAM_KEY}-llm"}
    assert refused_half.status == 401


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ({"FLUX_GEN_API_KEY": None}, "FLUX_GEN_API_KEY, IMAGE_GEN_API_KEY, API_KEY"),
        ({"FLUX_GEN_API_KEY": " , ,"}, None),
        ({"FLUX_GEN_API_BASE": None}, "FLUX_GEN_API_BASE, IMAGE_GEN_API_BASE, API_BASE"),
        ({"FLUX_GEN_API_BASE": ""}, "FLUX_GEN_API_BASE, IMAGE_GEN_API_BASE, API_BASE"),
    ],
)
async def test_half_a_vendor_does_not_stop_the_others(vendors, missing, named):
    """Its models are left out, and the start says why."""
    process = serve(NAME, worker(vendors, **missing))
    try:
        listed = [each["id"] for each in (await process.get("/v1/models")).json["data"]]
    finally:
        said = process.stop()

    assert listed == ["gpt-4o-image", "gemini-image"]
    for model in (FLUX, "other/flux"):
        line = f"models.{model} is left out: the conditions of its backends do not hold"
        assert line + (f" (empty here: {named})" if named else "") in said


async def test_keys_take_turns(vendors):
    """Row 19: the load is shared, not always key 0 first."""
    process = serve(NAME, worker(vendors, FLUX_GEN_API_KEY=",".join(f"{UPSTREAM_KEY}-{n}" for n in "abc")))
    try:
        for _ in range(6):
            await process.chat("a fox", model=FLUX)
    finally:
        process.stop()

    assert [call.key[-1] for call in vendors.paid()] == ["a", "b", "c"] * 2


async def test_when_every_key_is_refused_it_is_not_the_callers_fault(vendors):
    """502, never 401; nothing of the keys is told."""
    process = serve(NAME, worker(vendors))
    vendors.mode = "echo"
    try:
        answer = await process.chat("a fox", model=FLUX)
    finally:
        stderr = process.stop()

    assert (answer.status, answer.error["code"]) == (502, "upstream_key_refused")
    assert UPSTREAM_KEY not in answer.text + stderr


@pytest.mark.parametrize("model", [FLUX, "gpt-4o-image"])
async def test_a_slow_vendor_is_a_504_in_time(vendors, processes, model):
    """Row 16: IMAGE_TIMEOUT; nobody is asked again."""
    process = processes(NAME, worker(vendors, IMAGE_TIMEOUT="1.5", FLUX_GEN_API_KEY=f"{UPSTREAM_KEY}-x,y-{model[:3]}"))
    vendors.mode = "hang"
    began = time.monotonic()
    answer = await process.chat("a fox", model=model)

    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    assert time.monotonic() - began < 4
    assert len(vendors.calls) == 1
    assert answer.headers["x-should-retry"] == "false"


async def test_a_slow_picture_host_is_a_504_in_time(vendors, processes):
    """The fetching of the finished picture has the same limit, and is not paid for again."""
    process = processes(NAME, worker(vendors, IMAGE_TIMEOUT="1.5"))
    vendors.modes.extend(["ok", "hang"])
    began = time.monotonic()
    answer = await process.chat("a fox", model=FLUX)

    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    assert time.monotonic() - began < 6
    assert len(vendors.paid()) == 1
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("mode", ["html", "status:404", "cut"])
async def test_a_broken_picture_link_is_a_502(vendors, processes, mode):
    """What the link leads to must be a picture."""
    process = processes(NAME, worker(vendors, IMAGE_EXPIRATION="77"))
    vendors.modes.extend(["ok", mode])
    answer = await process.chat("a fox", model="other/flux")

    assert answer.status == 502, answer.text
    assert "flux/" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"


# Streams, SDKs, storage ----------------------------------------------------------------------------------------------


async def test_a_stream_is_a_stream(gateway):
    """Row 26: stream: true gets events, not JSON."""
    answer = await gateway.chat("a fox", model=FLUX, stream=True)
    chunks = answer.chunks()

    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1] == "[DONE]"
    assert re.search(r"!\[Image\]\(http[^)]+\)\n\nOptimized prompt: a fox", answer.content())


async def test_what_is_known_early_has_a_status_in_streams_too(gateway, vendors):
    """An unknown model, or a refusal at once, is no 200 with bad news."""
    unknown = await gateway.chat("a fox", model="nope", stream=True)
    vendors.mode = "refuse"
    declined = await gateway.chat("a fox", model="gpt-4o-image", stream=True)

    assert (unknown.status, unknown.error["code"]) == (400, "unsupported_image_model")
    assert "content_policy_violation" in declined.text


@pytest.mark.parametrize("model", [FLUX, "gpt-4o-image"])
async def test_the_openai_sdk_generates_by_chat_stream_and_images(gateway, vendors, model):
    """The package from PyPI, unchanged, against both types of model."""
    vendors.message = pictures_as("images", vendors.base)
    messages = [{"role": "user", "content": "a fox"}]
    async with openai.AsyncOpenAI(base_url=f"{gateway.base}/v1", api_key=CALLER_KEY, max_retries=0) as client:
        plain = await client.chat.completions.create(model=model, messages=messages)
        async with client.chat.completions.stream(model=model, messages=messages) as stream:
            streamed = (await stream.get_final_completion()).choices[0].message.content
        pictures = await client.images.generate(model=model, prompt="a fox")
        models = await client.models.list()

    assert LINK.search(plain.choices[0].message.content)
    assert plain.usage.total_tokens
    assert LINK.search(streamed)
    assert size_of(base64.b64decode(pictures.data[0].b64_json))[0] == "JPEG"
    assert model in [each.id for each in models.data]


async def test_pictures_on_disk_survive_a_restart(vendors, tmp_path):
    """STORAGE_DIR: the link stays good although the vendor's has long died (row 18)."""
    given = worker(vendors, STORAGE_DIR=str(tmp_path / "pictures"), PUBLIC_URL="https://pictures.example")
    first = serve(NAME, given, tmp_path)
    url = LINK.search(content_of(await first.chat("a fox", model=FLUX)))[1]
    first.stop()
    second = serve(NAME, given, tmp_path)
    vendors.mode = "status:403"
    try:
        picture = await second.get(url.removeprefix("https://pictures.example"), key=None)
    finally:
        second.stop()

    assert picture.status == 200
    assert size_of(picture.body) == ("JPEG", "1024x1024")


# Starting ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"AUTHORIZED_API_KEY": None}, "variable AUTHORIZED_API_KEY is not set"),
        ({"AUTHORIZED_API_KEY": ""}, "a key is empty"),
        ({"AUTHORIZED_API_KEY": "  "}, "a key is empty"),
        ({"AUTHORIZED_API_KEY": None, "API_KEY": CALLER_KEY}, "variable AUTHORIZED_API_KEY is not set"),
        (
            {"FLUX_GEN_API_KEY": None, "IMAGE_GEN_API_BASE_1": None},
            "backends do not hold (empty here: FLUX_GEN_API_KEY, IMAGE_GEN_API_KEY, API_KEY, IMAGE_GEN_API_BASE_1",
        ),
        ({"OPENAI_MODEL": "m"}, "variable OPENAI_API_KEY is not set"),
        ({"OPENAI_MODEL_REASONING": "m"}, "variable OPENAI_API_KEY is not set"),
        (
            {"OPENAI_MODEL": "m", "OPENAI_MODEL_REASONING": "r", "OPENAI_API_KEY": f"{UPSTREAM_KEY}-llm"},
            "OPENAI_MODEL and OPENAI_MODEL_REASONING are both set",
        ),
        ({"FLUX_GEN_API_BASE": "api.example/v1/images"}, "not a URL; it begins with http:// or https://"),
        ({"IMAGE_GEN_API_BASE_1": "https://api.example/v1 images"}, "not a URL"),
        ({"PROXY_HOSTS": "http://x.example/"}, "without scheme"),
        ({"IMAGE_EXPIRATION": "5", "PORT": "70000"}, "port"),
    ],
)
async def test_what_cannot_work_does_not_start(vendors, change, said):
    """Exit code 78 and a sentence that names what is missing, never a value that may be secret."""
    ended = refused(NAME, worker(vendors, **change))

    assert ended.returncode == 78
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert UPSTREAM_KEY not in ended.stderr + ended.stdout
