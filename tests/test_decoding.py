"""The scanner finds what the full parser finds, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import decoding
from gateway.decoding import decode, decode_base64, is_picture, unpack, value_at
from gateway.errors import BrokenAnswerError

PATH = ("result", "image")
PICTURE = bytes(range(256)) * 100
LONG = base64.b64encode(PICTURE).decode()


def picture_in(body: bytes, path: tuple[str | int, ...]) -> bytes | None:
    return asyncio.run(unpack(body, path))[1]


def by_the_parser(body: bytes, path: tuple[str | int, ...]) -> bytes | str | None:
    """Say what a plain parser and the strict decoder make of *body*."""
    try:
        value = value_at(orjson.loads(body), path)
        return decode_base64(value) if isinstance(value, str) else None
    except (orjson.JSONDecodeError, BrokenAnswerError):
        return "broken"


def by_the_scanner(body: bytes, path: tuple[str | int, ...]) -> bytes | str | None:
    try:
        return picture_in(body, path)
    except BrokenAnswerError:
        return "broken"


SAMPLES = ["image", "result", LONG, LONG[:-1], f"data:image/png;base64,{LONG}"]
WRITTEN = [LONG, LONG + "=", LONG[:-2] + "\\/", "x" + LONG, LONG + "\\n", f"data:;base64,{LONG}"]
texts = st.one_of(st.text(max_size=12), st.sampled_from(SAMPLES))
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(["image", "result", "data"]), texts), inner, max_size=4),
    ),
    max_leaves=8,
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Draw an answer near the expected shape: any order, white space, escapes, doubled keys, and what surrounds it."""
    picture = draw(st.sampled_from(WRITTEN))
    space = st.sampled_from(["", " ", "\n\t", "  \r\n"])
    members = [f'"image"{draw(space)}:{draw(space)}"{picture}"']
    members += [
        f"{json.dumps(draw(texts), ensure_ascii=draw(st.booleans()))}:{json.dumps(draw(values))}"
        for _ in range(draw(st.integers(0, 2)))
    ]
    inner = "{" + f",{draw(space)}".join(draw(st.permutations(members))) + "}"
    outer = [f'"result"{draw(space)}:{draw(space)}{inner}']
    outer += [f"{json.dumps(draw(texts))}:{json.dumps(draw(values))}" for _ in range(draw(st.integers(0, 3)))]
    whole = draw(space) + "{" + ",".join(draw(st.permutations(outer))) + "}" + draw(space)
    return whole.encode("utf-8", "surrogatepass")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(bodies())
def test_scanner_equals_parser_near_the_expected_shape(body: bytes) -> None:
    """Whatever legal JSON surrounds the picture, both give the same."""
    assert by_the_scanner(body, PATH) == by_the_parser(body, PATH)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(values, st.sampled_from([PATH, ("data", 0, "image"), ("image",), ()]))
def test_scanner_equals_parser_for_any_json(value: Any, path: tuple[str | int, ...]) -> None:
    """Shapes that nobody expects go to the parser, or come out the same."""
    body = json.dumps(value).encode("utf-8", "surrogatepass")

    assert by_the_scanner(body, path) == by_the_parser(body, path)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 60), st.binary(max_size=3), st.booleans())
def test_scanner_equals_parser_for_damaged_json(position: int, damage: bytes, at_end: bool) -> None:
    """A byte lost, doubled or replaced near either end never lets the scanner accept what the parser refuses."""
    body = json.dumps({"result": {"image": LONG, "seed": 1}, "success": True}).encode()
    place = len(body) - position if at_end else position
    damaged = body[:place] + damage + body[place + 1 :]

    assert by_the_scanner(damaged, PATH) == by_the_parser(damaged, PATH)


TRAPS = [
    b'{"result":{"%s":"image"}}',
    b'{"result":{"image":"a\\"%s"}}',
    b'{"result":{"image":"%s\\u003d"}}',
    b'{"result":{"image":"AAAA","x":"%s"}}',
    b'{"result":{"image":"%s","image":"AAAA"}}',
    b'{"result":{"image":"AAAA","image":"%s"}}',
    b'{"result":{"image":["%s"]}}',
    b'{"x":{"image":"%s"},"result":{"image":"AAAA"}}',
    b'{"result":{"image":"" %s ""}}',
    b'{"result":{"image":"%s"}',
    b'{"result":{"image":"%s"}}}',
    b'{"result":{"image":"%s"},"n":NaN}',
    b'{"result":{"image":"%s"},"s":"\xff"}',
    b'\xef\xbb\xbf{"result":{"image":"%s"}}',
    b'["%s"]',
    b'"%s"',
    b'"%s',
    b"%s",
]


@pytest.mark.parametrize("trap", TRAPS)
def test_traps(trap: bytes) -> None:
    """Shapes that a careless scanner reads wrongly."""
    body = trap % LONG.encode()

    assert by_the_scanner(body, PATH) == by_the_parser(body, PATH)


def test_expected_shape_is_not_parsed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The point of it all: the parser never sees the picture."""
    seen: list[int] = []

    def counting(body: bytes) -> Any:
        seen.append(len(body))
        return json.loads(body)

    monkeypatch.setattr(decoding.orjson, "loads", counting)
    body = json.dumps({"result": {"image": LONG}, "success": True}).encode()

    assert picture_in(body, PATH) == PICTURE
    assert max(seen) < 200


def test_mark_in_the_answer_is_no_picture() -> None:
    """Even who knows the mark cannot pass one string off as another."""
    body = json.dumps({"result": {"image": decoding.PLACE.decode(), "x": LONG}}).encode()

    assert by_the_scanner(body, PATH) == by_the_parser(body, PATH)


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("aGVsbG8=", b"hello"),
        ("data:image/png;base64,aGVsbG8=", b"hello"),
        ("DATA:image/png;BASE64,aGVsbG8=", b"hello"),
        ("data:;base64,aGVsbG8=", b"hello"),
        ("data:image/svg+xml;charset=utf-8;base64,aGVsbG8=", b"hello"),
        ("aGVsbG8", b"hello"),
        ("aGVs\nbG8=", b"hello"),
        ("aGVs\r\nbG8=\r\n", b"hello"),
        (" aGVsbG8=", b"hello"),
        ("data:image/png;base64,aGVs\nbG8", b"hello"),
        ("-_-_", b"\xfb\xff\xbf"),
        ("aGVsbG8==", None),
        ("aGVsb", None),
        ("aGVs=bG8=", None),
        ("aGVs*bG8=", None),
        ("data:image/png,hello", None),
        ("data:base64,aGVsbG8=", None),
        ("", None),
        ("====", None),
        ("data:image/png;base64,", None),
        ("aGVsbG8=ü", None),
        ("aGVsbG8=\0", None),
    ],
)
def test_base64_that_has_one_meaning_is_read(text: str, decoded: bytes | None) -> None:
    """With or without prefix, padding and line breaks, in either alphabet; what could mean two things is refused."""
    if decoded is not None:
        assert decode_base64(text) == decoded
        return
    with pytest.raises(BrokenAnswerError) as raised:
        decode_base64(text)

    assert len(raised.value.message) < 200


async def test_long_pictures_are_decoded_too() -> None:
    """Above the inline limit the work is done in a thread, with the same result."""
    picture = b"\x89PNG" + bytes(decoding.INLINE)
    text = base64.b64encode(picture).decode()
    body = json.dumps({"result": {"image": text}}).encode()

    assert await decode(text) == picture
    assert (await unpack(body, PATH))[1] == picture


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"\x89PNG\r\n\x1a\n", True),
        (b"\xff\xd8\xff\xe0", True),
        (b"RIFF\0\0\0\0WEBPVP8 ", True),
        (b"RIFF\0\0\0\0WAVEfmt ", False),
        (b"GIF89a", True),
        (b"\0\0\0\x20ftypavif", True),
        (b"<svg ", False),
        (b"", False),
    ],
)
def test_beginnings_of_pictures(start: bytes, expected: bool) -> None:
    """Only what a browser shows and cannot run."""
    assert is_picture(start) is expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file:///etc/passwd", "address that begins with file: and not with https: or http:"),
        ("ftp://files.example/fox.png", "address that begins with ftp:"),
        ("HTTPS://files.example/füchse.png", "address that begins with HTTPS:"),
        ("data:image/png,%89PNG", "a data: URL that is not valid base64"),
        ("data:image/png;base64,$$$$", "a picture that is not valid base64"),
        ("a fox: red", "a picture that is not valid base64"),
        ("füchse", "a picture that is not valid base64"),
    ],
)
def test_what_is_no_base64_is_called_what_it_is(text: str, said: str) -> None:
    """An address that is not fetched is not called broken; no more of it is told than its scheme."""
    with pytest.raises(BrokenAnswerError) as caught:
        decode_base64(text)

    assert said in caught.value.message
    assert "passwd" not in caught.value.message
