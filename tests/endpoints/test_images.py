"""The images API takes what OpenAI's clients send, and answers what they read: never both forms, never a half one."""

import base64
import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fake_upstream import png
from tests.gateways import DEMO, drawing_by, start

IMAGES = "/v1/images/generations"
URL = re.compile(r"http://127\.0\.0\.1:\d+/image/[0-9a-f]{40}\.png")


@pytest.fixture
async def gateway(fake, aiohttp_server, tmp_path):
    return await start(aiohttp_server, drawing_by(fake.base), tmp_path)


@pytest.fixture
async def demo(aiohttp_server, tmp_path):
    return await start(aiohttp_server, DEMO, tmp_path)


BAD = {
    "no prompt": ({}, "prompt", "missing_prompt"),
    "a null prompt": ({"prompt": None}, "prompt", "missing_prompt"),
    "an empty prompt": ({"prompt": ""}, "prompt", "empty_prompt"),
    "white space": ({"prompt": " \n\u3000"}, "prompt", "empty_prompt"),
    "zero width": ({"prompt": "\u200b\u200b"}, "prompt", "empty_prompt"),
    "only a ratio": ({"prompt": "16:9"}, "prompt", "empty_prompt"),
    "only a ratio beside a size": ({"prompt": "16:9", "size": "512x512"}, "prompt", "empty_prompt"),
    "a list": ({"prompt": ["a fox"]}, "prompt", None),
    "a number": ({"prompt": 7}, "prompt", None),
    "a long prompt": ({"prompt": "x" * 32_001}, "prompt", None),
    "a NUL": ({"prompt": "a\0fox"}, "prompt", None),
    "an escape": ({"prompt": "a\x1b[31mfox"}, "prompt", None),
    "unknown model": ({"prompt": "x", "model": "nobody"}, "model", "model_not_found"),
    "model number": ({"prompt": "x", "model": 1}, "model", None),
    "model list": ({"prompt": "x", "model": []}, "model", None),
    "n zero": ({"prompt": "x", "n": 0}, "n", None),
    "n negative": ({"prompt": "x", "n": -1}, "n", None),
    "n eleven": ({"prompt": "x", "n": 11}, "n", None),
    "n huge": ({"prompt": "x", "n": 10**18}, "n", None),
    "n half": ({"prompt": "x", "n": 1.5}, "n", None),
    "n word": ({"prompt": "x", "n": "two"}, "n", None),
    "n true": ({"prompt": "x", "n": True}, "n", None),
    "n list": ({"prompt": "x", "n": [1]}, "n", None),
    "size zero": ({"prompt": "x", "size": "0x0"}, "size", None),
    "size one side zero": ({"prompt": "x", "size": "0x512"}, "size", None),
    "size absurd": ({"prompt": "x", "size": "99999x1"}, "size", None),
    "size absurd too": ({"prompt": "x", "size": "9999x9999"}, "size", None),
    "size very absurd": ({"prompt": "x", "size": "9" * 500 + "x1"}, "size", None),
    "size tiny": ({"prompt": "x", "size": "1x1"}, "size", None),
    "size one side tiny": ({"prompt": "x", "size": "1024x15"}, "size", None),
    "size negative": ({"prompt": "x", "size": "-512x512"}, "size", None),
    "size word": ({"prompt": "x", "size": "big"}, "size", None),
    "size full width": ({"prompt": "x", "size": "１０２４x1024"}, "size", None),
    "size number": ({"prompt": "x", "size": 1024}, "size", None),
    "size list": ({"prompt": "x", "size": [1024, 1024]}, "size", None),
    "size object": ({"prompt": "x", "size": {"width": 1}}, "size", None),
    "size NUL": ({"prompt": "x", "size": "1024x10\0" + "24"}, "size", None),
    "size unknown ratio": ({"prompt": "x", "size": "100:1"}, "size", None),
    "ratio of nothing": ({"prompt": "x", "aspect_ratio": "0:0"}, "aspect_ratio", None),
    "width alone": ({"prompt": "x", "width": 512}, "height", None),
    "width tiny": ({"prompt": "x", "width": 15, "height": 512}, "width", None),
    "height tiny": ({"prompt": "x", "width": 512, "height": 1}, "height", None),
    "width absurd": ({"prompt": "x", "width": 100_000, "height": 512}, "width", None),
    "form": ({"prompt": "x", "response_format": "png"}, "response_format", None),
    "form list": ({"prompt": "x", "response_format": ["url"]}, "response_format", None),
    "form object": ({"prompt": "x", "response_format": {"type": "url"}}, "response_format", None),
    "stream": ({"prompt": "x", "stream": "perhaps"}, "stream", None),
    "stream list": ({"prompt": "x", "stream": []}, "stream", None),
    "user list": ({"prompt": "x", "user": [1]}, "user", None),
    "seed word": ({"prompt": "x", "seed": "lucky"}, "seed", None),
    "steps zero": ({"prompt": "x", "steps": 0}, "steps", None),
    "guidance word": ({"prompt": "x", "guidance": "much"}, "guidance", None),
    "guidance NaN": ({"prompt": "x", "guidance": "NaN"}, "guidance", None),
    "guidance infinite": ({"prompt": "x", "guidance": "Infinity"}, "guidance", None),
    "quality number": ({"prompt": "x", "quality": 5}, "quality", None),
    "partial images": ({"prompt": "x", "partial_images": 9}, "partial_images", None),
    "compression": ({"prompt": "x", "output_compression": 101}, "output_compression", None),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("streamed", [False, True])
async def test_bad_input_is_a_400_that_names_the_field(gateway, fake, name, streamed):
    """Before any upstream call, with CORS headers and no advice to try again."""
    body, param, code = BAD[name]
    body = {"stream": True, **body} if streamed else body
    answer = await gateway.post(IMAGES, body, headers={"Origin": "https://app.example"})

    assert answer.status == (404 if code == "model_not_found" else 400), answer.text
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["param"] == param, answer.text
    assert code in {answer.error["code"], None}
    assert len(answer.text) < 1_000
    assert answer.headers["Access-Control-Allow-Origin"]
    assert answer.headers["x-should-retry"] == "false"
    assert not fake.calls
    assert (await gateway.draw()).status == 200


WORDS_OF = {"size": "size", "user": "user", "prompt": "prompt"}


@pytest.mark.parametrize("name", WORDS_OF)
async def test_a_long_value_is_told_by_its_own_name(gateway, name):
    """A size that is too long is no prompt."""
    answer = await gateway.draw(**{"prompt": "x", name: "x" * 40_000})
    others = set(WORDS_OF) - {name}

    assert name in answer.error["message"]
    assert not any(other in answer.error["message"] for other in others), answer.error["message"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
FIELDS = ["prompt", "model", "n", "size", "response_format", "user", "seed", "steps", "guidance", "style", "quality",
          "width", "height", "aspect_ratio", "background", "output_format", "output_compression", "strict", "optimize",
          "negative_prompt", "partial_images", "image_size", "num_inference_steps", "webhook", "async",
          "extra"]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
async def test_no_value_of_any_field_is_a_fault_of_the_gateway(demo, fields):
    """Whatever JSON stands in a field, the answer is a picture or an error of the caller's."""
    answer = await demo.post(IMAGES, {"prompt": "x", "size": "64x64", **fields})

    assert answer.status < 500, (fields, answer.text)
    assert answer.status in {200, 202} or answer.error["type"] == "invalid_request_error"


async def test_without_a_form_base64_is_answered(gateway, fake):
    """Bare, whole, and only that: every client of this API takes it."""
    answer = await gateway.draw()
    (picture,) = answer.json["data"]

    assert base64.b64decode(picture["b64_json"], validate=True) == fake.picture
    assert "url" not in picture
    assert isinstance(answer.json["created"], int)
    assert abs(answer.json["created"] - time.time()) < 5
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("form", ["url", "b64_json", None])
async def test_only_the_form_that_was_asked_for_is_answered(gateway, form):
    """Clients that find both take the one they cannot use."""
    (picture,) = (await gateway.draw(response_format=form)).json["data"]

    assert ("url" in picture) == (form == "url")
    assert ("b64_json" in picture) == (form != "url")


async def test_a_url_is_public_and_serves_the_same_bytes(gateway, fake):
    """Without a key, as long as it is kept."""
    (picture,) = (await gateway.draw(response_format="url")).json["data"]
    served = await gateway.get(picture["url"].removeprefix(gateway.base), headers={"Authorization": ""})

    assert URL.fullmatch(picture["url"])
    assert served.body == fake.picture
    assert served.headers["Content-Type"] == "image/png"


async def test_n_pictures_come_in_order(demo):
    """Each one its own, as many as were asked for."""
    answer = (await demo.draw("a fox", n=3, size="128x128", seed=1)).json
    pictures = [picture["b64_json"] for picture in answer["data"]]

    assert len(set(pictures)) == 3


@pytest.mark.parametrize(("asked", "made"), [("512x512", "512x512"), ("1024x768", "1024x768"), ("16:9", "1024x576"),
                                             ("auto", None), ("", None), (None, None)])  # fmt: skip
async def test_the_size_is_as_asked_whatever_the_upstream_makes(gateway, asked, made):
    """It is cut here, the receipt says so, and the answer names the true size."""
    answer = (await gateway.draw("a fox", size=asked)).json
    picture = base64.b64decode(answer["data"][0]["b64_json"])
    size = f"{int.from_bytes(picture[16:20], 'big')}x{int.from_bytes(picture[20:24], 'big')}"

    assert size == (made or "1024x1024") == answer["size"]
    assert answer["output_format"] == "png"


async def test_a_ratio_in_the_prompt_counts_without_a_size(gateway, fake):
    """And is taken out of the words; beside a size it stays what it is."""
    drawn = (await gateway.draw("a fox 16:9")).json

    assert drawn["size"] == "1024x576"
    assert fake.last.json["prompt"] == "a fox"


async def test_chat_only_parameters_break_nothing(gateway, fake):
    """They mean nothing here; the receipt says that they were dropped."""
    answer = await gateway.draw(
        "a fox", temperature=1, max_tokens=5, stop=["x"], tools=[], messages=[], user=None, style=None
    )
    dropped = {change["name"] for change in answer.json["gateway"]["receipt"]["dropped"]}

    assert answer.status == 200
    assert {"temperature", "max_tokens", "stop"} <= dropped
    assert not {"temperature", "max_tokens", "stop", "tools"} & set(fake.last.json)


async def test_strict_refuses_what_would_be_changed(gateway, fake):
    """Before any money is spent."""
    answer = await gateway.draw("a fox", size="512x512", strict=True)

    assert answer.status == 400
    assert answer.error["param"] == "size"
    assert not fake.calls


async def test_a_model_may_be_named_by_its_alias_with_slashes(gateway):
    """As Worker A's clients name it."""
    answer = await gateway.draw("a fox", model="@cf/black-forest-labs/flux-1-schnell")

    assert answer.status == 200, answer.text


async def test_an_explanation_equals_what_is_sent(gateway, fake):
    """And spends nothing."""
    body = {"prompt": "a fox", "n": 2, "seed": 5, "steps": 9, "size": "512x512"}
    explained = (await gateway.post(IMAGES + "?explain=true", body)).json
    assert not fake.calls
    await gateway.post(IMAGES, body)

    assert sorted(call["body"].encode() for call in explained["calls"]) == sorted(call.body for call in fake.calls)
    assert explained["target"] == "up/up-model"
    assert {change["name"] for change in explained["adjusted"]} == {"size"}


async def test_an_explanation_is_checked_like_a_call(gateway, fake):
    """Bad input, an unknown model and a missing key are refused alike."""
    for body, status in (({"prompt": ""}, 400), ({"prompt": "x", "model": "nobody"}, 404)):
        assert (await gateway.post(IMAGES + "?explain=true", body)).status == status
    answer = await gateway.post(IMAGES + "?explain=true", {"prompt": "x"}, headers={"Authorization": ""})

    assert answer.status == 401
    assert not fake.calls


async def test_a_stream_completes_with_the_fields_that_the_sdk_reads(gateway, fake):
    """An event with a type, the picture and its shape; the stream then ends by itself."""
    answer = await gateway.draw("a fox", stream=True)
    (event,) = answer.chunks()

    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert "event: image_generation.completed" in answer.text
    assert event["type"] == "image_generation.completed"
    assert base64.b64decode(event["b64_json"]) == fake.picture
    assert {"created_at", "size", "quality", "background", "output_format", "usage"} <= set(event)


@pytest.mark.parametrize("mode", ["refuse", "html", "status:400", "reset"])
async def test_a_failure_in_a_stream_is_told_in_it(gateway, fake, mode):
    """In OpenAI's form; no second status line, no page."""
    fake.mode = mode
    answer = await gateway.draw("a fox", stream=True)

    assert answer.status == 200
    assert {"message", "type", "code", "param"} <= set(answer.chunks()[-1]["error"])
    assert "<html" not in answer.text


GIANT = png(8, 8)[:16] + b"\0\0\xff\xff" * 2 + png(8, 8)[24:]
FAULTY = {
    "success false": {"success": False, "errors": [{"message": "no"}]},
    "null": None,
    "a list": [],
    "a number": 5,
    "no data": {"created": 1},
    "empty data": {"data": []},
    "null data": {"data": None},
    "data of words": {"data": ["x"]},
    "null picture": {"data": [{"b64_json": None}]},
    "a number as picture": {"data": [{"b64_json": 5}]},
    "no base64": {"data": [{"b64_json": "!!!"}]},
    "base64 of text": {"data": [{"b64_json": base64.b64encode(b"hello").decode()}]},
    "base64 of a page": {"data": [{"b64_json": base64.b64encode(b"<html><script>x</script>").decode()}]},
    "base64 of SVG": {"data": [{"b64_json": base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode()}]},
    "a torn PNG": {"data": [{"b64_json": base64.b64encode(png(64, 64)[:50]).decode()}]},
    "a giant header": {"data": [{"b64_json": base64.b64encode(GIANT).decode()}]},
    "a private URL": {"data": [{"url": "http://169.254.169.254/latest/meta-data"}]},
    "a file URL": {"data": [{"url": "file:///etc/passwd"}]},
    "a script URL": {"data": [{"url": "javascript:alert(1)"}]},
    "a loopback URL": {"data": [{"url": "http://127.0.0.1:22/"}]},
    "a data URL of a page": {"data": [{"url": "data:text/html;base64,PGh0bWw+"}]},
    "half JSON": b'{"data": [{"b64_json": "iVBOR',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "NaN": b'{"data": NaN}',
    "a deep nest": b"[" * 5_000 + b"]" * 5_000,
    "nothing": b"",
    "an error with 200": {"error": {"message": "quota", "code": "x"}},
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTY)
async def test_a_broken_answer_of_the_upstream_is_a_clear_502(gateway, fake, name):
    """It names the target and what was wrong, is paid once, and never reaches the client."""
    fake.mode, fake.error = "body", FAULTY[name]
    answer = await gateway.draw()

    assert answer.status == 502, answer.text
    assert answer.error["type"] == "upstream_error"
    assert "up/up-model" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert len(fake.calls) == 1
    assert "<html" not in answer.text
    fake.mode = "ok"
    assert (await gateway.draw()).status == 200


@pytest.mark.parametrize("mode", ["big", "endless", "bomb"])
async def test_an_endless_answer_is_cut(fake, aiohttp_server, tmp_path, mode):
    """At the limit, with a 502."""
    fake.mode = mode
    yaml = drawing_by(fake.base).replace("dialect: custom", "http: {limit: 1MiB}, dialect: custom")
    gateway = await start(aiohttp_server, yaml, tmp_path)
    answer = await gateway.draw()

    assert answer.status == 502, answer.text
    assert len(fake.calls) == 1


@pytest.mark.parametrize("mode", ["hang", "hang_in_body", "drip"])
async def test_an_upstream_that_hangs_is_a_504_and_no_second_call(fake, aiohttp_server, tmp_path, mode):
    """It may be paid already; the SDK is told not to repeat it."""
    fake.mode = mode
    yaml = drawing_by(fake.base).replace("dialect: custom", "http: {first_byte: 0.2, total: 0.3}, dialect: custom")
    gateway = await start(aiohttp_server, yaml, tmp_path)
    answer = await gateway.draw()

    assert answer.status == 504, answer.text
    assert answer.headers["x-should-retry"] == "false"
    assert len(fake.calls) == 1


@pytest.mark.parametrize("fields", [{"k" * 300_000: 1}, {f"field-{number}": 1 for number in range(5_000)}])
async def test_unknown_fields_are_told_in_brief(fake, aiohttp_server, tmp_path, fields):
    """Names of fields are kept with the job and with each picture; megabytes of them would soon fill both."""
    gateway = await start(aiohttp_server, drawing_by(fake.base), tmp_path)
    answer = await gateway.draw(response_format="url", **fields)
    job = next(gateway.runtime.jobs.all(job_caller(gateway)))

    assert answer.status == 200
    assert len(answer.body) < 20_000
    assert sum(map(len, job.request.unknown)) < 4_000
    assert answer.json["gateway"]["receipt"]["dropped"]


def job_caller(gateway):
    return next(iter(gateway.runtime.jobs._jobs.values())).caller
