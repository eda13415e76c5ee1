"""The application as the network meets it: raw bytes, paths, and addresses in answers; see ``fronts`` for torn ones."""

import asyncio
import time

import pytest

from tests.canaries import MARK
from tests.gateways import CALLER_KEY, DEMO, OTHER_KEY, drawing_by, start

AUTH = f"Authorization: Bearer {CALLER_KEY}\r\n"
JSON = "Content-Type: application/json\r\n"
BODY = '{"prompt":"a fox"}'
GOOD = f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n"


def post(headers, body=BODY, path="/v1/images/generations"):
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{AUTH}{JSON}{headers}\r\n{body}"


@pytest.fixture
async def gateway(fake, aiohttp_server, tmp_path):
    return await start(aiohttp_server, drawing_by(fake.base, "server: {body_timeout: 0.3}\n"), tmp_path)


async def raw(gateway, sent, seconds=3.0):
    """Send bytes as they are and read until the server closes or falls silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    got = b""
    try:
        writer.write(sent.encode("latin-1") if isinstance(sent, str) else sent)
        await writer.drain()
        async with asyncio.timeout(seconds):
            while part := await reader.read(65_536):
                got += part
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    assert MARK.encode() not in got, got
    return got


def statuses(got):
    """Give the status of every answer in *got*."""
    return [int(part[:3]) for part in got.split(b"HTTP/1.1 ")[1:] + got.split(b"HTTP/1.0 ")[1:]]


@pytest.mark.parametrize("line", [f"Authorization : Bearer {CALLER_KEY}", f"Authorization: Bearer {CALLER_KEY}\x01"])
async def test_a_torn_header_does_not_carry_a_key_into_the_log(gateway, line):
    """The server's parser would write the line down; the watch over all logs looks for it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n".encode())
    got = await reader.read()

    assert statuses(got) == [400]
    writer.close()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET //v1/models HTTP/1.1", 200),
        ("GET /openai/v1/models HTTP/1.1", 200),
        ("GET /a/b/c/v1/models HTTP/1.1", 200),
        ("GET /v1/models?x=y HTTP/1.1", 200),
        ("GET http://evil.example/v1/models HTTP/1.1", 200),
        ("GET /v1/./models HTTP/1.1", None),
        ("GET /v1/../v1/models HTTP/1.1", None),
        ("GET /v1/%6dodels HTTP/1.1", None),
        ("GET /v1/models;a=b HTTP/1.1", 404),
        ("GET /v1/models/..%2f..%2fhealth HTTP/1.1", 404),
        ("GET /v1/models/%2e%2e/%2e%2e/health HTTP/1.1", None),
        ("GET * HTTP/1.1", None),
        ("OPTIONS * HTTP/1.1", None),
        ("CONNECT evil.example:443 HTTP/1.1", None),
    ],
)
async def test_odd_paths_are_read_or_refused(gateway, line, status):
    """Whatever is made of them, it is no fault; with no key none of them opens anything."""
    got = await raw(gateway, f"{line}\r\nHost: x\r\n{AUTH}Connection: close\r\n\r\n", seconds=1)
    shut = await raw(gateway, f"{line}\r\nHost: x\r\nConnection: close\r\n\r\n", seconds=1)

    assert all(each < 500 for each in statuses(got)), got
    assert statuses(got) == [status] or status is None
    assert b'"object":"list"' not in shut


async def test_a_body_that_never_comes_is_a_408(gateway, fake):
    """The deadline is for the whole body, so that a byte now and then does not stretch it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(post("Content-Length: 18\r\n", "").encode())
    began = time.monotonic()
    got = b""
    for byte in (b"{", b'"', b"p", b"r", b"o", b"m", b"p"):
        writer.write(byte)
        try:
            async with asyncio.timeout(0.1):
                got = await reader.read(65_536)
        except TimeoutError:
            continue
        break
    else:
        got = await reader.read(65_536)

    assert statuses(got) == [408], got
    assert b'"code":"request_timeout"' in got
    assert b"x-should-retry: false" in got
    assert time.monotonic() - began < 2
    assert not fake.calls
    writer.close()


async def test_a_form_that_never_ends_is_a_408_too(gateway, fake):
    """Files of edits have the same deadline."""
    head = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 500\r\n"
    request = post(head, "--b\r\n", "/v1/images/edits").replace(JSON, "")
    got = await raw(gateway, request, seconds=1.5)

    assert statuses(got) == [408], got
    assert not fake.calls


@pytest.mark.parametrize("length", ["26214401", "99999999999"])
async def test_a_body_too_large_is_refused_before_it_is_sent(gateway, length):
    """The announced length is enough."""
    began = time.monotonic()
    got = await raw(gateway, post(f"Content-Length: {length}\r\n", ""), seconds=0.5)

    assert statuses(got) == [413]
    assert time.monotonic() - began < 1


async def test_who_asks_comes_before_the_body_is_asked_for(gateway):
    """With Expect: 100-continue a wrong key is a 401 at once; a right one is told to go on."""
    head = "Expect: 100-continue\r\nContent-Length: 18\r\n"
    wrong = await raw(gateway, post(head, "").replace(CALLER_KEY, OTHER_KEY), seconds=0.5)
    right = await raw(gateway, post(head, ""), seconds=0.25)
    late = await raw(gateway, post(head + "Connection: close\r\n"), seconds=3)

    assert statuses(wrong) == [401]
    assert right.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert statuses(late)[-1] == 200


async def test_an_expectation_nobody_knows_is_a_417(gateway, fake):
    """In the one form of all errors."""
    got = await raw(gateway, post("Expect: foo\r\nContent-Length: 18\r\nConnection: close\r\n"))

    assert statuses(got) == [417]
    assert b'"code":"expectation_failed"' in got
    assert not fake.calls


async def test_two_authorizations_are_a_400(gateway):
    """Proxies and gateway could read different ones."""
    got = await raw(gateway, GOOD.replace(AUTH, AUTH + "Authorization: Bearer x\r\n" + "Connection: close\r\n"))

    assert statuses(got) == [400]


async def test_http_1_0_gets_plain_answers_and_streams_without_chunks(gateway, fake):
    """nginx speaks it to what is behind it, unless told otherwise."""
    plain = await raw(gateway, post("Content-Length: 18\r\n").replace("HTTP/1.1", "HTTP/1.0"))
    body = '{"stream":true,"messages":[{"role":"user","content":"a fox"}]}'
    request = post(f"Content-Length: {len(body)}\r\n", body, "/v1/chat/completions").replace("HTTP/1.1", "HTTP/1.0")
    stream = await raw(gateway, request)

    assert statuses(plain) == [200]
    assert statuses(stream) == [200]
    head, _, content = stream.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    assert content.startswith(b"data: {")
    assert content.endswith(b"data: [DONE]\n\n")


# Where answers point --------------------------------------------------------------------------------------------


async def link(gateway, **headers):
    """Draw and give the address of the picture up to its path."""
    url = (
        await gateway.post("/v1/images/generations", {"prompt": "a fox", "response_format": "url"}, headers=headers)
    ).json
    return url["data"][0]["url"].partition("/image/")[0]


async def test_the_configured_address_always_wins(aiohttp_server, tmp_path):
    """Whatever the client or a proxy says."""
    yaml = DEMO + "server: {public_url: https://gw.example/pictures/, trusted_proxies: [127.0.0.1]}\n"
    gateway = await start(aiohttp_server, yaml, tmp_path)
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher"}

    assert await link(gateway, **headers) == "https://gw.example/pictures"


async def test_a_trusted_proxy_is_believed(aiohttp_server, tmp_path):
    """Scheme, host and prefix as it saw them; the first of several."""
    gateway = await start(aiohttp_server, DEMO + "server: {trusted_proxies: [10.0.0.0/8, 127.0.0.0/8]}\n", tmp_path)
    headers = {
        "X-Forwarded-Host": "gw.example:8443, inner",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Prefix": "/img/",
    }

    assert await link(gateway, **headers) == "https://gw.example:8443/img"


@pytest.mark.parametrize("proxies", ["[]", "[10.0.0.0/8]", '["::1"]'])
async def test_anybody_else_is_not(aiohttp_server, tmp_path, proxies):
    """The headers of a stranger change nothing."""
    gateway = await start(aiohttp_server, DEMO + f"server: {{trusted_proxies: {proxies}}}\n", tmp_path)
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=evil.example"}

    assert await link(gateway, **headers) == gateway.base


@pytest.mark.parametrize(
    "host",
    ["evil.example/x", "evil.example)", "a b", "evil.example#", "user@evil.example", "<script>", "x" * 300, "", "a\\b"],
)
async def test_a_host_that_is_none_never_gets_into_a_link(aiohttp_server, tmp_path, host):
    """It could end the Markdown link, or lead elsewhere."""
    gateway = await start(aiohttp_server, DEMO + "server: {trusted_proxies: [127.0.0.1]}\n", tmp_path)
    forwarded = await link(gateway, **{"X-Forwarded-Host": host, "X-Forwarded-Proto": "javascript"})

    assert forwarded.startswith("http://127.0.0.1:")
    assert forwarded.count("/") == 2


async def test_an_absolute_request_line_does_not_change_links(gateway):
    """The Host header counts, as for any other request."""
    body = '{"prompt":"a fox","response_format":"url"}'
    request = post(
        f"Content-Length: {len(body)}\r\nConnection: close\r\n", body, "http://evil.example/v1/images/generations"
    )
    got = await raw(gateway, request)

    assert statuses(got) == [200]
    assert b"evil.example" not in got


@pytest.mark.parametrize("prefix", ["/openai", "/a/b/c", "/", "/v1", "/deployments/x"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/images/generations"])
async def test_any_prefix_before_v1_works(gateway, prefix, path):
    """Worker A took whatever ended so."""
    body = {"messages": [{"role": "user", "content": "a fox"}], "prompt": "a fox"}

    assert (await gateway.post(prefix + path, body)).status == 200


async def test_without_routes_of_its_own_a_prefix_opens_nothing(gateway):
    """What asks for a key asks for it below any path."""
    for prefix in ("/image", "/health", "/pages", "/image-proxy", "/"):
        answer = await gateway.get(f"{prefix}/v1/models", headers={"Authorization": ""})

        assert answer.status in {401, 404}, prefix
