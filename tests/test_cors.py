"""Web pages of allowed origins can call everything, errors included; others get no permission."""

import pytest

from tests.gateways import DEMO, drawing_by, start

APP = "https://app.example"
SENT = (
    "authorization, content-type, accept, x-requested-with, x-api-key, api-key, http-referer, x-title, "
    "openai-organization, openai-project, openai-beta, idempotency-key, x-stainless-arch, "
    "x-stainless-async, x-stainless-custom-poll-interval, x-stainless-helper-method, x-stainless-lang, "
    "x-stainless-os, x-stainless-package-version, x-stainless-poll-helper, x-stainless-raw-response, "
    "x-stainless-read-timeout, x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, "
    "x-stainless-timeout"
)
PATHS = {
    "/v1/chat/completions": "POST",
    "/openai/v1/chat/completions": "POST",
    "/v1/images/generations": "POST",
    "/v1/images/edits": "POST",
    "/v1/models": "GET",
    "/v1/models/demo": "GET",
    "/v1/jobs/job_x": "DELETE",
    "/image/abc": "GET",
    "/health": "GET",
    "/nowhere": "POST",
}


@pytest.fixture(params=["*", APP])
async def gateway(request, aiohttp_server, tmp_path):
    return await start(aiohttp_server, DEMO + f'server: {{origins: ["{request.param}"]}}\n', tmp_path)


@pytest.fixture
async def strict(fake, aiohttp_server, tmp_path):
    return await start(aiohttp_server, drawing_by(fake.base, f'server: {{origins: ["{APP}"]}}\n'), tmp_path)


def preflight(method, origin=APP, headers=SENT):
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
        "Authorization": "",
    }


@pytest.mark.parametrize(("path", "method"), PATHS.items())
async def test_every_preflight_is_answered_without_a_key(gateway, path, method):
    """With the origin, the method, every header that clients send by name, and a day of rest."""
    answer = await gateway.ask("OPTIONS", path, headers=preflight(method))
    named = {name.strip().lower() for name in answer.headers["Access-Control-Allow-Headers"].split(",")}

    assert answer.status in {200, 204}
    assert answer.headers["Access-Control-Allow-Origin"] in {APP, "*"}
    assert method in answer.headers["Access-Control-Allow-Methods"]
    assert {name.strip() for name in SENT.split(",")} <= named
    assert int(answer.headers["Access-Control-Max-Age"]) == 86_400
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(("path", "method"), PATHS.items())
async def test_a_preflight_of_another_origin_gets_no_permission(strict, path, method):
    """No header allows it, and no key is asked for; the answer still varies by origin."""
    answer = await strict.ask("OPTIONS", path, headers=preflight(method, "https://evil.example"))

    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Access-Control-Allow-Headers" not in answer.headers
    assert answer.status != 401
    assert "Origin" in answer.headers["Vary"]


async def test_a_preflight_for_a_method_that_is_not_there_is_no_fault(gateway):
    """A page that asks for PUT is told no, in whatever form, but not by a 500."""
    answer = await gateway.ask("OPTIONS", "/v1/models", headers=preflight("PUT"))

    assert answer.status < 500


async def test_options_without_a_preflight_is_answered(gateway):
    """Some tools ask what is allowed, and send no key."""
    for path, method in PATHS.items():
        answer = await gateway.ask("OPTIONS", path, headers={"Authorization": ""})
        allowed = set(answer.headers["Allow"].split(", "))

        assert answer.status in {200, 204}, path
        assert {method, "OPTIONS"} <= allowed
        assert path == "/nowhere" or (await gateway.ask("PUT", path)).headers["Allow"] == ", ".join(sorted(allowed))


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/models", None, 200),
        ("GET", "/", None, 200),
        ("GET", "/health", None, 200),
        ("GET", "/nowhere", None, 404),
        ("GET", "/image/abc", None, 404),
        ("GET", "/image-proxy?url=x", None, None),
        ("PUT", "/v1/models", None, 405),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b"x" * 30_000, 413),
        ("POST", "/v1/images/generations", b'{"prompt":"x","model":"nobody"}', 404),
        ("POST", "/v1/images/generations", b'{"prompt":"a fox"}', 200),
        ("POST", "/v1/chat/completions", b'{"stream":true,"messages":[{"role":"user","content":"a fox"}]}', 200),
    ],
)
async def test_every_answer_bears_the_headers_and_varies(fake, aiohttp_server, tmp_path, method, path, body, status):
    """Success, error and stream alike, for the allowed origin; none for another; the null origin is another."""
    yaml = drawing_by(fake.base, f'server: {{origins: ["{APP}"], max_body: 20kB}}\n')
    gateway = await start(aiohttp_server, yaml, tmp_path)
    headers = {"Content-Type": "application/json"} if body else {}
    mine = await gateway.ask(method, path, data=body, headers={**headers, "Origin": APP})
    bare = await gateway.ask(method, path, data=body, headers=headers)

    assert status in {mine.status, None}
    assert mine.headers["Access-Control-Allow-Origin"] == APP
    exposed = {name.strip().lower() for name in mine.headers["Access-Control-Expose-Headers"].split(",")}
    assert {"x-request-id", "retry-after", "x-should-retry"} <= exposed
    assert "Access-Control-Allow-Credentials" not in mine.headers
    for origin in ("https://evil.example", "null", APP + ".evil.example", APP.upper()):
        other = await gateway.ask(method, path, data=body, headers={**headers, "Origin": origin})

        assert "Access-Control-Allow-Origin" not in other.headers
        assert "Origin" in other.headers["Vary"]
    assert "Access-Control-Allow-Origin" not in bare.headers
    assert "Origin" in bare.headers["Vary"]


async def test_a_401_can_be_read_by_the_page(strict):
    """Otherwise a browser shows a network error instead of a wrong key."""
    answer = await strict.get("/v1/models", headers={"Authorization": "Bearer wrong", "Origin": APP})

    assert answer.status == 401
    assert answer.headers["Access-Control-Allow-Origin"] == APP


async def test_a_500_can_be_read_by_the_page(strict):
    """The gateway's own fault bears the headers too."""

    async def broken(_):
        raise RuntimeError("broken")

    strict.runtime.authenticate = broken
    answer = await strict.get("/v1/models", headers={"Origin": APP})

    assert answer.status == 500
    assert answer.headers["Access-Control-Allow-Origin"] == APP


async def test_a_picture_can_be_used_by_a_page_of_any_kind(gateway):
    """On a canvas, and in a page that isolates itself."""
    url = (await gateway.draw(response_format="url")).json["data"][0]["url"]
    answer = await gateway.get(url.removeprefix(gateway.base), headers={"Origin": APP, "Authorization": ""})

    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] in {APP, "*"}
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert "Set-Cookie" not in answer.headers


async def test_a_public_page_may_call_a_gateway_in_the_local_network(gateway):
    """Chrome asks for that by a header of its own."""
    headers = {**preflight("POST"), "Access-Control-Request-Private-Network": "true"}
    answer = await gateway.ask("OPTIONS", "/v1/chat/completions", headers=headers)

    assert answer.headers["Access-Control-Allow-Private-Network"] == "true"


async def test_another_origin_may_not_reach_into_the_local_network(strict):
    """The permission is for allowed origins only."""
    headers = {**preflight("POST", "https://evil.example"), "Access-Control-Request-Private-Network": "true"}
    answer = await strict.ask("OPTIONS", "/v1/chat/completions", headers=headers)

    assert "Access-Control-Allow-Private-Network" not in answer.headers


async def test_a_handler_with_headers_of_its_own_breaks_nothing(aiohttp_server, tmp_path):
    """A plugin that sets the header itself is overruled, not dropped."""
    plugin = tmp_path / "own_cors.py"
    plugin.write_text(
        "from aiohttp import web\n"
        "from gateway import hookimpl\n\n"
        "async def mine(request):\n"
        "    return web.Response(text='in', headers={'Access-Control-Allow-Origin': 'https://own.example'})\n\n"
        "@hookimpl\ndef setup_app(app):\n    app.router.add_get('/v1/mine', mine)\n"
    )
    yaml = DEMO + f'plugins: ["{plugin}"]\nserver: {{origins: ["{APP}"]}}\n'
    gateway = await start(aiohttp_server, yaml, tmp_path)
    answer = await gateway.get("/v1/mine", headers={"Origin": APP})

    assert answer.status == 200
    assert answer.headers.getall("Access-Control-Allow-Origin") == [APP]
