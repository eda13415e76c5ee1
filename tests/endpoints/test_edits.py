"""Edits and variations: pictures in every form that clients send them, and none that is broken or hostile."""

from __future__ import annotations

import asyncio
import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from PIL import Image as Pillow

from tests.fake_upstream import FakeUpstream, png
from tests.gateways import AUTHENTICATORS, DEMO, STORAGES, Answered, Gateway, start
from tests.painters import HELD, PICTURE, holding, painter

EDITS = "/v1/images/edits"
FORM = "multipart/form-data; boundary=x"
DATA_URL = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
SMALL = png(32, 32)


@pytest.fixture
async def held(aiohttp_server: Any, tmp_path: Path, fake: FakeUpstream) -> Gateway:
    """A gateway whose backend draws at once, keeps what it was asked, and may fetch from the imitated upstream."""
    allow = f"fetch: {{allow: ['{fake.base.removeprefix('http://')}'], pixels: 1000000}}\n"
    gateway = await start(aiohttp_server, holding(allow), tmp_path, types=HELD)
    painter(gateway).free.set()
    return gateway


def form(*parts: tuple[Any, ...], **fields: str) -> aiohttp.FormData:
    """Make a form of file parts (name, bytes[, type[, file name]]) and text fields."""
    made = aiohttp.FormData(default_to_multipart=True)
    for name, data, *more in parts:
        made.add_field(
            name, data, content_type=more[0] if more else "image/png", filename=more[1] if len(more) > 1 else "a.png"
        )
    for name, value in fields.items():
        made.add_field(name, value)
    return made


async def edit(gateway: Gateway, *parts: tuple[Any, ...], path: str = EDITS, **fields: str) -> Answered:
    fields = {"prompt": "in blue", "model": "held", **fields}
    return await gateway.ask("POST", path, data=form(*parts, **fields))


def mask_of(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGBA", size, (0, 0, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["image", "image[]", "images", "images[]"])
@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "text/plain", "image/webp"])
async def test_a_picture_is_taken_by_what_it_is(held: Gateway, name: str, kind: str) -> None:
    """Whatever the part and its type are called, the bytes decide."""
    answer = await edit(held, (name, PICTURE, kind))
    (request,) = painter(held).requests

    assert answer.status == 200
    assert base64.b64decode(answer.json["data"][0]["b64_json"]) == PICTURE
    assert [(image.data, image.media_type) for image in request.images] == [(PICTURE, "image/png")]
    assert request.prompt == "in blue"
    assert answer.json["gateway"]["receipt"]["asked"]["images"] == 1


async def test_several_pictures_keep_their_order(held: Gateway) -> None:
    """As they stand in the form."""
    await edit(held, ("image[]", PICTURE), ("image[]", SMALL), ("image[]", PICTURE))

    assert [image.size.width for image in painter(held).requests[0].images] == [64, 32, 64]


async def test_text_fields_of_a_form_are_read_as_what_they_mean(held: Gateway) -> None:
    """Numbers and booleans come as text there."""
    answer = await edit(held, ("image", PICTURE), n="2", seed="7", size="64x64", strict="true", response_format="url")

    assert answer.status == 200, answer.text
    assert (painter(held).requests[0].n, painter(held).requests[0].seed) == (2, 7)
    assert len(answer.json["data"]) == 2
    assert answer.json["data"][0]["url"].startswith(held.base)


@pytest.mark.parametrize(
    ("field", "value"),
    [("n", "0"), ("n", "many"), ("n", "2.5"), ("size", "big"), ("response_format", "png"), ("stream", "perhaps")],
)
async def test_a_bad_field_of_a_form_is_named(held: Gateway, field: str, value: str) -> None:
    """400, before anything is drawn."""
    answer = await edit(held, ("image", PICTURE), **{field: value})

    assert (answer.status, answer.error["param"]) == (400, field)
    assert not painter(held).requests


async def test_a_mask_goes_with_its_picture(held: Gateway) -> None:
    """It reaches the backend; one of another size is refused in words."""
    good = await edit(held, ("image", PICTURE), ("mask", mask_of((64, 64))))
    wrong = await edit(held, ("image", PICTURE), ("mask", mask_of((32, 64))))
    alone = await edit(held, ("mask", mask_of((32, 64))))

    assert good.status == 200
    mask = painter(held).requests[0].mask
    assert mask is not None
    assert mask.data == mask_of((64, 64))
    assert (wrong.status, wrong.error["param"]) == (400, "mask")
    assert "32x64" in wrong.error["message"]
    assert "64x64" in wrong.error["message"]
    assert (alone.status, alone.error["code"]) == (400, "missing_image")
    assert len(painter(held).requests) == 1


def bomb() -> bytes:
    """A PNG of 65 KB that would be 30000 x 30000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" * 30001) for _ in range(1000)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


BROKEN = {
    "nothing": b"",
    "text": b"hello",
    "html": b"<!doctype html><script>alert(1)</script>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "pdf": b"%PDF-1.4",
    "cut": PICTURE[: len(PICTURE) // 2],
    "head only": PICTURE[:33],
    "signature": b"\x89PNG\r\n\x1a\n",
    "flipped": PICTURE[:60] + bytes(byte ^ 0xFF for byte in PICTURE[60:80]) + PICTURE[80:],
    "bomb": bomb(),
    "large": png(2000, 2000),
    "zip": b"PK\x03\x04" + b"\0" * 100,
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("how", ["file", "data URL", "URL", "mask"])
async def test_what_is_no_usable_picture_never_reaches_a_backend(
    held: Gateway, fake: FakeUpstream, name: str, how: str
) -> None:
    """400 that names the field, by whichever way it came; nothing is drawn."""
    data = BROKEN[name]
    fake.picture = data
    if how == "file":
        answer = await edit(held, ("image", data))
    elif how == "mask":
        answer = await edit(held, ("image", PICTURE), ("mask", data))
    else:
        url = fake.file_url() if how == "URL" else "data:image/png;base64," + base64.b64encode(data).decode()
        answer = await held.post(EDITS, {"prompt": "in blue", "model": "held", "image": url})

    assert answer.status == 400, answer.text
    assert answer.error["param"] == ("mask" if how == "mask" else "image")
    assert not painter(held).requests


@pytest.mark.parametrize(
    "value",
    [
        DATA_URL,
        [DATA_URL],
        {"image_url": DATA_URL},
        {"url": DATA_URL},
        [{"image_url": DATA_URL}],
        [{"image_url": {"url": DATA_URL}}],
        "{fake}",
        [{"image_url": "{fake}"}],
    ],
    ids=["text", "list", "image_url", "url", "list of objects", "deep", "link", "list of links"],
)
@pytest.mark.parametrize("field", ["image", "images"])
async def test_json_may_name_pictures_by_url(held: Gateway, fake: FakeUpstream, field: str, value: Any) -> None:
    """Data URLs and links, in all the forms that the field's APIs know."""
    fake.picture = PICTURE

    def filled(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: filled(one) for name, one in part.items()}
        return [filled(one) for one in part] if isinstance(part, list) else part.replace("{fake}", fake.file_url())

    answer = await held.post(EDITS, {"prompt": "in blue", "model": "held", field: filled(value)})

    assert answer.status == 200, answer.text
    assert painter(held).requests[0].images[0].data == PICTURE


async def test_image_and_images_are_taken_together(held: Gateway) -> None:
    """Neither is dropped in silence; none at all is an empty list."""
    body = {"model": "held", "prompt": "night", "image": DATA_URL, "images": [{"image_url": DATA_URL}, DATA_URL]}
    both = await held.post("/v1/images/edits", body)
    one = await held.post("/v1/images/edits", {**body, "images": []})
    many = await held.post("/v1/images/edits", {**body, "images": [DATA_URL] * 16})

    assert both.json["gateway"]["receipt"]["asked"]["images"] == 3
    assert one.json["gateway"]["receipt"]["asked"]["images"] == 1
    assert (many.status, many.error["param"]) == (400, "image")


@pytest.mark.parametrize("prompt", [0, False, [], {}, 7])
async def test_the_words_of_a_variation_are_words_if_there_are_any(held: Gateway, prompt: Any) -> None:
    """Null and nothing stand for none."""
    wrong = await held.post("/v1/images/variations", {"model": "held", "image": DATA_URL, "prompt": prompt})
    none = await held.post("/v1/images/variations", {"model": "held", "image": DATA_URL, "prompt": ""})

    assert (wrong.status, wrong.error["param"], none.status) == (400, "prompt", 200)


async def test_a_form_may_name_pictures_by_url_too(held: Gateway) -> None:
    """``curl -F image=https://…`` is meant as a link."""
    answer = await held.ask("POST", EDITS, data=form(prompt="in blue", model="held", image=DATA_URL, mask=DATA_URL))

    assert answer.status == 200, answer.text
    assert painter(held).requests[0].mask is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/a.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/a.png",
        "http://localhost/a.png",
        "file:///etc/passwd",
        "ftp://example.com/a.png",
        "javascript:alert(1)",
        "a.png",
        "",
        "data:,",
        "data:image/png;base64,!!!",
        "https://user:word@example.com/a.png",
    ],
)
async def test_forbidden_addresses_are_refused(held: Gateway, url: str) -> None:
    """400 that names the field; in a chat message too; nothing is fetched or drawn."""
    answer = await held.post(EDITS, {"prompt": "in blue", "model": "held", "image": url})
    parts = [{"type": "text", "text": "in blue"}, {"type": "image_url", "image_url": {"url": url}}]
    chat = await held.chat(parts, model="held")

    assert (answer.status, answer.error["param"]) == (400, "image")
    assert (chat.status, chat.error["param"]) == (400, "messages")
    assert not painter(held).requests


@pytest.mark.parametrize("value", [7, True, {}, [7], [None], {"file_id": "file-1"}, {"image_url": 7}, [[]]])
async def test_odd_pictures_in_json_are_a_400(held: Gateway, value: Any) -> None:
    """Named, whatever they are."""
    answer = await held.post(EDITS, {"prompt": "in blue", "model": "held", "image": value})

    assert (answer.status, answer.error["param"]) == (400, "image")


@pytest.mark.parametrize("value", [None, []])
async def test_no_picture_is_a_400(held: Gateway, value: Any) -> None:
    """An edit needs one."""
    answers = [await held.post(EDITS, {"prompt": "in blue", "model": "held", "image": value}), await edit(held)]

    assert [(answer.status, answer.error["code"]) for answer in answers] == [(400, "missing_image")] * 2


async def test_too_many_pictures_are_a_400(held: Gateway) -> None:
    """More than any upstream takes, and more than this one takes."""
    many = await edit(held, *[("image[]", SMALL)] * 17)
    several = await edit(held, *[("image[]", SMALL)] * 5)

    assert (many.status, many.error["param"]) == (400, "image")
    assert (several.status, several.error["param"]) == (400, "image")
    assert "at most 4" in several.error["message"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", FORM),
        (b"--x\r\n", FORM),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\nhello\r\n--x--\r\n", FORM),
        (
            b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xff\xfe\r\n--x--\r\n',
            FORM,
        ),
        (b"junk", "multipart/form-data"),
        (b"junk", "multipart/form-data; boundary="),
        (b"junk" * 10000, FORM),
        (
            b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + PICTURE[:50],
            FORM,
        ),
        (
            b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--\r\n",
            FORM,
        ),
        (b"a=b", "application/x-www-form-urlencoded"),
        (b"[]", "application/json"),
        (b"{", "application/json"),
    ],
)
@pytest.mark.parametrize("path", [EDITS, "/v1/images/variations"])
async def test_a_broken_body_is_a_clear_refusal(held: Gateway, path: str, body: bytes, kind: str) -> None:
    """400 or 415 in OpenAI's form, never a 500."""
    answer = await held.ask("POST", path, data=body, headers={"Content-Type": kind})

    assert answer.status in {400, 415}, answer.text
    assert answer.error["type"] == "invalid_request_error"


async def test_a_form_that_is_too_large_is_a_413(aiohttp_server: Any, tmp_path: Path) -> None:
    """Over all parts together, and with very many of them a 400."""
    gateway = await start(aiohttp_server, holding("server: {max_body: 100KiB}\n"), tmp_path, types=HELD)
    large = await edit(gateway, ("image[]", b"x" * 60_000), ("image[]", b"x" * 60_000))
    many = await gateway.ask("POST", EDITS, data=form(**{f"field{number}": "x" for number in range(200)}))

    assert (large.status, large.error["code"]) == (413, "request_too_large")
    assert (many.status, many.error["code"]) == (400, "invalid_body")


async def test_a_form_that_never_ends_is_a_408(aiohttp_server: Any, tmp_path: Path) -> None:
    """A client that stalls in the middle of a part loses its place."""
    gateway = await start(aiohttp_server, holding("server: {body_timeout: 100ms}\n"), tmp_path, types=HELD)

    async def stalling() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + PICTURE[:50]
        await asyncio.sleep(5)

    answer = await gateway.ask("POST", EDITS, data=stalling(), headers={"Content-Type": FORM})

    assert (answer.status, answer.error["code"]) == (408, "request_timeout")


async def test_a_variation_needs_no_words(held: Gateway) -> None:
    """Retired by OpenAI and still sent: served as an edit with words of our own, or with the caller's."""
    bare = await held.ask("POST", "/v1/images/variations", data=form(("image", PICTURE), model="held", n="2"))
    worded = await edit(held, ("image", PICTURE), path="/v1/images/variations")

    assert (bare.status, worded.status) == (200, 200)
    assert len(bare.json["data"]) == 2
    assert "variation" in painter(held).requests[0].prompt
    assert painter(held).requests[1].prompt == "in blue"


async def test_a_chat_message_with_a_picture_is_an_edit(held: Gateway) -> None:
    """The parts of the last user message: words and pictures."""
    parts = [{"type": "text", "text": "in blue"}, {"type": "image_url", "image_url": {"url": DATA_URL}}]
    answer = await held.chat(parts, model="held")

    assert answer.status == 200, answer.text
    assert painter(held).requests[0].images[0].data == PICTURE


MIXED = (
    AUTHENTICATORS
    + STORAGES
    + """\
backends: {painter: {use: held, edits: false}, changer: {use: held}}
models:
  draws: {backends: [{backend: painter}]}
  changes: {backends: [{backend: changer}]}
  both: {backends: [{backend: painter}, {backend: changer}]}
  wild-*: {backends: [{backend: painter, model: "*"}]}
default_model: draws
"""
)


@pytest.mark.parametrize("how", ["form", "json", "variation", "chat", "chat stream", "later", "responses"])
async def test_a_model_that_cannot_edit_names_those_that_can(aiohttp_server: Any, tmp_path: Path, how: str) -> None:
    """A 400 before anything is drawn, with the models that this caller may use instead."""
    gateway = await start(aiohttp_server, MIXED, tmp_path, types=HELD)
    parts = [{"type": "text", "text": "in blue"}, {"type": "image_url", "image_url": {"url": DATA_URL}}]
    asked = {"prompt": "in blue", "model": "draws", "image": DATA_URL}
    answer = await {
        "form": lambda: edit(gateway, ("image", PICTURE), model="draws"),
        "json": lambda: gateway.post(EDITS, asked),
        "variation": lambda: edit(gateway, ("image", PICTURE), model="wild-x", path="/v1/images/variations"),
        "chat": lambda: gateway.chat(parts),
        "chat stream": lambda: gateway.chat(parts, stream=True),
        "later": lambda: gateway.post(EDITS, {**asked, "async": True}),
        "responses": lambda: gateway.post(
            "/v1/responses",
            {
                "model": "draws",
                "tools": [{"type": "image_generation"}],
                "input": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "input_text", "text": "in blue"},
                            {"type": "input_image", "image_url": DATA_URL},
                        ],
                    }
                ],
            },
        ),
    }[how]()

    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "edits_not_supported", "model")
    assert answer.error["message"].endswith("models that can: changes, both")
    assert not list(gateway.runtime.jobs._jobs)


LIMITED = (
    AUTHENTICATORS.replace("name: ann", "name: ann, models: ['one', 'full', 'wild*', 'none']")
    + STORAGES
    + """\
backends:
  painter: {use: held, edits: false}
  one: {use: held, inputs: 1, masks: false}
  full: {use: held, inputs: 3}
models:
  none: {backends: [{backend: painter}]}
  one: {backends: [{backend: one}, {backend: painter}]}
  full: {backends: [{backend: one}, {backend: full}]}
  wild-*: {backends: [{backend: full, model: "*"}]}
  secret: {backends: [{backend: full}]}
"""
)


@pytest.mark.parametrize("how", ["form", "json", "stream", "later"])
async def test_a_model_that_takes_no_mask_names_those_that_do(aiohttp_server: Any, tmp_path: Path, how: str) -> None:
    """Only those that this caller may use, and before anything is drawn."""
    gateway = await start(aiohttp_server, LIMITED, tmp_path, types=HELD)
    asked = {"prompt": "in blue", "model": "one", "image": DATA_URL, "mask": DATA_URL}
    answer = await {
        "form": lambda: edit(gateway, ("image", PICTURE), ("mask", mask_of((64, 64))), model="one"),
        "json": lambda: gateway.post(EDITS, asked),
        "stream": lambda: gateway.post(EDITS, {**asked, "stream": True}),
        "later": lambda: gateway.post(EDITS, {**asked, "async": True}),
    }[how]()

    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "mask_not_supported", "mask")
    assert answer.error["message"] == "the model 'one' takes no mask; models that can: full, wild-*"
    assert not list(gateway.runtime.jobs._jobs)


async def test_a_model_that_takes_fewer_pictures_names_those_that_take_more(
    aiohttp_server: Any, tmp_path: Path
) -> None:
    """Two are too many for one model, four for all that this caller may use; a mask counts as well."""
    gateway = await start(aiohttp_server, LIMITED, tmp_path, types=HELD)
    two = await edit(gateway, ("image[]", PICTURE), ("image[]", PICTURE), model="one")
    four = await edit(gateway, *[("image[]", PICTURE)] * 4, ("mask", mask_of((64, 64))), model="full")

    assert (two.status, two.error["code"], two.error["param"]) == (400, "too_many_images", "image")
    assert two.error["message"] == (
        "the model 'one' takes at most 1 input images, not 2; models that can: full, wild-*"
    )
    assert four.error["message"] == (
        "the model 'full' takes at most 3 input images beside a mask, not 4; models that can: none here"
    )


async def test_an_edit_goes_to_the_target_that_can(aiohttp_server: Any, tmp_path: Path) -> None:
    """Of two targets of one model only one changes pictures: it is asked, never the other."""
    gateway = await start(aiohttp_server, MIXED, tmp_path, types=HELD)
    changer: Any = gateway.runtime.backends["changer"]
    changer.free.set()
    for _ in range(5):
        assert (await edit(gateway, ("image", PICTURE), model="both")).status == 200

    assert len(changer.requests) == 5


async def test_the_same_upload_with_the_same_key_is_one_job(held: Gateway, fake: FakeUpstream) -> None:
    """The boundary of the form is no difference, the bytes of the picture are; a link is not fetched again."""
    key = {"Idempotency-Key": "k"}
    fields = {"prompt": "in blue", "model": "held"}
    answers = [await held.ask("POST", EDITS, data=form(("image", PICTURE), **fields), headers=key) for _ in range(2)]
    other = await held.ask("POST", EDITS, data=form(("image", SMALL), **fields), headers=key)
    fake.picture = PICTURE
    link = {**fields, "image": fake.file_url()}
    first = await held.post(EDITS, link, headers={"Idempotency-Key": "link"})
    fake.mode = "status:404"
    second = await held.post(EDITS, link, headers={"Idempotency-Key": "link"})

    assert answers[0].body == answers[1].body
    assert (other.status, other.error["code"]) == (409, "idempotency_conflict")
    assert (first.status, second.status) == (200, 200)
    assert first.body == second.body
    assert len(painter(held).requests) == 2


async def test_openais_sdk_edits_with_a_mask(aiohttp_server: Any, tmp_path: Path) -> None:
    """Raw bytes, tuples and lists of files, plain and streamed, as its users send them."""
    gateway = await start(aiohttp_server, DEMO, tmp_path)
    async with openai.AsyncOpenAI(api_key=gateway.key, base_url=f"{gateway.base}/v1", max_retries=0) as client:
        picture = png(128, 96)
        raw = await client.images.edit(model="demo", image=picture, prompt="in blue", mask=mask_of((128, 96)))
        several = await client.images.edit(
            model="demo", image=[("a.png", picture, "image/png"), ("b.png", SMALL, "image/png")], prompt="in blue", n=2
        )
        stream = await client.images.edit(model="demo", image=picture, prompt="in blue", stream=True, partial_images=1)
        events = [event async for event in stream]
        with pytest.raises(openai.BadRequestError) as refused:
            await client.images.edit(model="demo", image=b"no picture", prompt="in blue")

    assert raw.data is not None
    assert Pillow.open(io.BytesIO(base64.b64decode(raw.data[0].b64_json or ""))).size == (128, 96)
    assert len(several.data or []) == 2
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]
    assert refused.value.param == "image"


async def test_openais_sdk_varies(aiohttp_server: Any, tmp_path: Path) -> None:
    """``images.create_variation`` still works."""
    gateway = await start(aiohttp_server, DEMO, tmp_path)
    async with openai.AsyncOpenAI(api_key=gateway.key, base_url=f"{gateway.base}/v1", max_retries=0) as client:
        with pytest.warns(DeprecationWarning, match="deprecated"):
            answer = await client.images.create_variation(
                image=png(128, 128), model="demo", size="256x256", response_format="url"
            )

    assert answer.data is not None
    assert (answer.data[0].url or "").startswith(f"{gateway.base}/image/")


@pytest.mark.parametrize("query", ["", "?explain=true"])
@pytest.mark.parametrize("value", [b"1", b"\xff"])
async def test_a_field_whose_name_cannot_be_written_is_refused(held: Gateway, query: str, value: bytes) -> None:
    """Its bytes come as surrogates, which no answer and no log can bear."""
    part = b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    parts = [part % (name, data) for name, data in ((b"prompt", b"a cat"), (b"n\xff", value))]
    answer = await held.ask("POST", EDITS + query, data=b"".join(parts) + b"--x--\r\n", headers={"Content-Type": FORM})

    assert answer.status == 400, answer.text
    assert "printable name" in answer.error["message"]
