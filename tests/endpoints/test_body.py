"""Whatever bytes a stranger sends, the answer is an OpenAI error, nothing was spent, and the next call works."""

import asyncio
import gzip
import time

import pytest

from gateway.endpoints.body import fingerprint, parse_json
from gateway.errors import RequestError
from gateway.memory import statm
from tests.gateways import drawing_by, start

ORIGIN = {"Origin": "https://app.example"}
PATHS = ["/v1/chat/completions", "/v1/images/generations"]
DEEP = {depth: b'{"prompt":%s%s}' % (b"[" * depth, b"]" * depth) for depth in (1_000, 1_025, 100_000)}
BROKEN = {
    "nothing": b"",
    "white space": b" \n\t ",
    "half": b'{"prompt": "x"',
    "quotes": b"{'prompt': 'x'}",
    "a comment": b'{"prompt": "x"} // yes',
    "two values": b'{"prompt": "x"}{"prompt": "y"}',
    "a form": b"prompt=x",
    "byte order mark": b'\xef\xbb\xbf{"prompt":"x"}',
    "utf-16": '{"prompt":"x"}'.encode("utf-16"),
    "latin-1": '{"prompt":"café"}'.encode("latin-1"),
    "NaN": b'{"prompt":"x","n":NaN}',
    "Infinity": b'{"prompt":"x","n":-Infinity}',
    "lone surrogate": b'{"prompt":"\\ud800"}',
    "NUL between": b'{"prompt":"x"}\0',
    "raw control character": b'{"prompt":"a\x01b"}',
    "a list": b"[]",
    "a string": b'"prompt"',
    "null": b"null",
    "a number": b"1",
    "a key that is no string": b'{1: "x"}',
    **{f"{depth} deep": body for depth, body in DEEP.items()},
}


@pytest.fixture
async def gateway(fake, aiohttp_server, tmp_path):
    return await start(aiohttp_server, drawing_by(fake.base, "server: {max_body: 400kB}\n"), tmp_path)


async def goes_on(gateway, fake):
    """Nothing was sent upstream so far, and a good call works."""
    assert not fake.calls
    assert (await gateway.draw()).status == 200


@pytest.mark.parametrize("path", PATHS)
async def test_what_is_not_a_json_object_is_a_400(gateway, fake, path):
    """Each body is refused at once, in OpenAI's form, with CORS headers."""
    for name, body in BROKEN.items():
        began = time.monotonic()
        answer = await gateway.post(path, data=body, headers={"Content-Type": "application/json", **ORIGIN})

        assert answer.status == 400, (name, answer.text)
        assert answer.error["type"] == "invalid_request_error", name
        assert answer.error["code"] in {"invalid_json", "invalid_value", "missing_prompt"}, name
        assert answer.headers["Access-Control-Allow-Origin"] in {"*", ORIGIN["Origin"]}, name
        assert time.monotonic() - began < 1, name
    await goes_on(gateway, fake)


@pytest.mark.parametrize("digits", [b"1e400", b"-1e400", b"9" * 5_000])
async def test_numbers_beyond_all_bounds_are_refused(gateway, fake, digits):
    """A number that no machine holds is a 400, wherever it stands."""
    for field in (b"n", b"seed", b"guidance"):
        answer = await gateway.post(PATHS[1], data=b'{"prompt":"x","%s":%s}' % (field, digits))

        assert answer.status == 400, answer.text
    await goes_on(gateway, fake)


@pytest.mark.parametrize(("depth", "status"), [(200, 200), (300, 400), (900, 400)])
async def test_deep_nesting_in_a_parameter_nobody_knows_is_no_fault_of_the_gateway(gateway, depth, status):
    """Far below the depth that cannot be read there is one that cannot be compared with later calls."""
    for path, start_of in zip(PATHS, (b'"messages":[{"role":"user","content":"a fox"}]', b'"prompt":"x"'), strict=True):
        body = b'{%s,"extra":%s%s}' % (start_of, b"[" * depth, b"]" * depth)
        answer = await gateway.post(path, data=body, headers={"Content-Type": "application/json"})

        assert answer.status == status, answer.text


async def test_the_last_of_repeated_keys_counts(gateway, fake):
    """Every path reads the same one."""
    body = b'{"prompt":"first","prompt":"second","model":"nobody","model":"flux"}'
    answer = await gateway.post(PATHS[1], data=body, headers={"Content-Type": "application/json"})

    assert answer.status == 200
    assert fake.last.json["prompt"] == "second"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("text/html", 415),
        ("application/jsonp", 415),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=latin-1", 415),
        ("application/json; charset=utf-8-sig", 415),
        ("application/json; charset=no-such-charset", 415),
        ("application/vnd.api+json; charset=utf-7", 415),
        ("application/json; charset=" + "x" * 3000, 415),
        ("application/json; charset=../utf-8", 415),
        ("application/json;charset=utf-8", 200),
        ("application/json; charset=UTF-8", 200),
        ('application/json; charset="utf8"', 200),
        ("application/json; charset=us-ascii", 200),
        ("application/json; charset=", 200),
        ("APPLICATION/JSON", 200),
        ("application/vnd.api+json", 200),
    ],
)
async def test_the_declared_type_and_charset_decide(gateway, fake, kind, status):
    """JSON is UTF-8; what is declared as something else is a 415."""
    answer = await gateway.post(PATHS[1], data=b'{"prompt":"x"}', headers={"Content-Type": kind})

    assert answer.status == status, answer.text
    assert status == 200 or answer.error["code"] == "unsupported_media_type"
    assert len(fake.calls) == (status == 200)


@pytest.mark.parametrize(("length", "status"), [(400_000, 400), (400_001, 413), (900_000, 413)])
@pytest.mark.parametrize("path", PATHS)
async def test_the_limit_of_the_body_is_exact(gateway, fake, path, length, status):
    """At the limit it is read (here: refused as no JSON), one byte above it is a 413 with CORS headers."""
    answer = await gateway.post(path, data=b"x" * length, headers={"Content-Type": "application/json", **ORIGIN})

    assert answer.status == status, answer.text
    assert answer.error["code"] == ("request_too_large" if status == 413 else "invalid_json")
    assert "Access-Control-Allow-Origin" in answer.headers
    await goes_on(gateway, fake)


async def test_a_body_without_a_length_is_held_to_the_limit_too(gateway, fake):
    """Chunked bodies are counted as they come."""

    async def parts():
        for _ in range(60):
            yield b"x" * 10_000

    answer = await gateway.post(PATHS[1], data=parts(), headers={"Content-Type": "application/json"})

    assert answer.status == 413
    await goes_on(gateway, fake)


@pytest.mark.parametrize("path", PATHS)
async def test_a_packed_body_is_counted_unpacked(gateway, fake, path):
    """A bomb of zeros is a 413; a small packed body is read."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    bomb = await gateway.post(path, data=gzip.compress(b" " * 50_000_000), headers=headers)
    broken = await gateway.post(path, data=b"not packed at all", headers=headers)

    cut = await gateway.post(path, data=gzip.compress(b'{"prompt": "' + b"a fox " * 999)[:-9], headers=headers)
    strange = await gateway.post(path, data=b"{}", headers={**headers, "Content-Encoding": "br"})

    assert bomb.status == 413, bomb.text
    assert (cut.status, strange.status) == (400, 415), (cut.text, strange.text)
    for more in (b"x", gzip.compress(b"{}")):
        longer = await gateway.post(path, data=gzip.compress(b'{"prompt": "a fox"}') + more, headers=headers)
        assert (longer.status, longer.error["message"]) == (400, "the gzip of the body goes on after its end")
    assert broken.status == 400, broken.text
    assert broken.error["type"] == "invalid_request_error"
    await goes_on(gateway, fake)


def test_the_fingerprint_is_the_same_for_the_same_values():
    """Order does not matter; values, names and paths do."""
    one = fingerprint("/v1/x", {"a": 1, "b": [1, 2]})

    assert one == fingerprint("/v1/x", {"b": [1, 2], "a": 1})
    assert len({one, fingerprint("/v1/y", {"a": 1, "b": [1, 2]}), fingerprint("/v1/x", {"a": 1, "b": [2, 1]})}) == 3


async def test_a_bomb_takes_no_memory_and_no_time(gateway):
    """200 MB in 200 KB, eight times at once: no more is unpacked than a body may have, and the loop goes on."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    bomb = gzip.compress(b'{"prompt": "' + b"a" * 200_000_000)
    before = statm()[1]
    bombs = [asyncio.create_task(gateway.post("/v1/images/generations", data=bomb, headers=headers)) for _ in range(8)]
    waits = []
    while not all(task.done() for task in bombs):
        began = time.monotonic()
        await asyncio.sleep(0.005)
        waits.append(time.monotonic() - began)

    assert {task.result().status for task in bombs} == {413}
    assert max(waits) < 1
    assert statm()[1] - before < 60 * 2**20


def test_a_body_of_lists_is_refused_before_it_takes_memory():
    """A list of two letters takes sixty bytes and more; base64 has neither bracket nor brace."""
    with pytest.raises(RequestError, match="more than 100000 lists and objects"):
        parse_json(b'{"x": [' + b"[]," * 500_000 + b"[]]}")
    assert parse_json(b'{"image": "' + b"A" * 2**21 + b'", "more": [{}, {}]}')["more"] == [{}, {}]
