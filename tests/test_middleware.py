"""Who may come in, what every answer bears, and that no error is told in another form."""

import asyncio
import logging
import re
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import AuthenticationError, Caller
from gateway.app import public_routes, routes
from tests.gateways import CALLER_KEY, DEMO, OTHER_KEY, STORAGES, start

CHAT = "/v1/chat/completions"
MODELS = "/v1/models"
PUBLIC = {"/", "/docs", "/openapi.json", "/pages/{name}", "/health", "/v1/health", "/image/{key}", "/image-proxy"}


@pytest.fixture
async def gateway(aiohttp_server, tmp_path):
    return await start(aiohttp_server, DEMO, tmp_path)


def without_key(gateway, path, **headers):
    return gateway.get(path, headers={"Authorization": "", **headers})


async def test_every_route_but_the_public_ones_asks_for_a_key(gateway):
    """The router itself is asked which routes there are, so that a new one cannot be forgotten."""
    seen = set()
    for route in gateway.server.app.router.routes():
        path = route.resource.canonical
        if route.method == "OPTIONS" or path in PUBLIC:
            continue
        url = re.sub(r"\{[^}]*\}", "x", path)
        answer = await gateway.ask(route.method, url, headers={"Authorization": f"Bearer {OTHER_KEY}"})
        bare = await gateway.ask(route.method, url, headers={"Authorization": ""})

        for each in (answer, bare):
            assert each.status == 401, (route.method, path, each.status)
            assert each.headers["WWW-Authenticate"].startswith("Bearer")
            if route.method != "HEAD":
                assert each.error["code"] == "invalid_api_key"
        seen.add(path)

    assert len(seen) >= 10


async def test_the_public_list_is_as_short_as_promised(gateway):
    """Health, the welcome page and pictures; nothing else."""
    canonical = {re.sub(r":\.[+*]\}", "}", path) for _, path, _ in public_routes()}

    assert canonical == PUBLIC
    assert not {path for _, path, _ in routes()} & {path for _, path, _ in public_routes()}
    assert (await without_key(gateway, "/health")).status == 200
    assert (await without_key(gateway, "/")).status == 200


async def test_a_route_of_a_plugin_asks_for_a_key_too(aiohttp_server, tmp_path):
    """Deny is the default: a plugin cannot forget it."""
    plugin = tmp_path / "adds_a_route.py"
    plugin.write_text(
        "from aiohttp import web\n"
        "from gateway import hookimpl\n\n"
        "async def secret(request):\n    return web.Response(text='in')\n\n"
        "@hookimpl\ndef setup_app(app):\n    app.router.add_get('/v1/mine', secret)\n"
    )
    gateway = await start(aiohttp_server, DEMO + f'plugins: ["{plugin}"]\n', tmp_path)

    assert (await without_key(gateway, "/v1/mine")).status == 401
    assert (await gateway.get("/v1/mine")).text == "in"


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer ",
        "Bearer  x",
        f"Bearer  {CALLER_KEY}",
        f"Bearer {CALLER_KEY} x",
        f"Bearer\t{CALLER_KEY}",
        f"Basic {CALLER_KEY}",
        CALLER_KEY,
        f"Bearer {CALLER_KEY[:-1]}",
        f"Bearer {CALLER_KEY}x",
        f"Bearer {CALLER_KEY.upper()}",
        "Bearer " + "x" * 7_000,
        "Bearer ключ",
        "Bearer sha256:" + "0" * 64,
        "Bearer null",
        "Bearer undefined",
    ],
)
async def test_a_key_that_is_not_one_is_a_401(gateway, value):
    """Half a key, two keys, a key in another scheme: none opens the door."""
    answer = await gateway.get(MODELS, headers={"Authorization": value})

    assert answer.status == 401, answer.text
    assert answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {CALLER_KEY}"},
        {"Authorization": f"bearer {CALLER_KEY}"},
        {"Authorization": f"BEARER {CALLER_KEY}"},
        {"Authorization": "", "x-api-key": CALLER_KEY},
        {"Authorization": "", "api-key": CALLER_KEY},
    ],
)
async def test_the_key_opens_in_every_form_that_clients_send(gateway, headers):
    """The scheme is read whatever its case; Azure's and Anthropic's headers are known."""
    assert (await gateway.get(MODELS, headers=headers)).status == 200


async def test_a_key_in_the_query_opens_nothing(gateway):
    """URLs end in logs."""
    for name in ("key", "api_key", "access_token", "api-key"):
        assert (await without_key(gateway, f"{MODELS}?{name}=ig-guess-0f3a9b71")).status == 401


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(token=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FFF, exclude_characters="\x7f"), max_size=300))
async def test_no_text_as_key_is_a_fault(gateway, token):
    """Whatever stands in the header, the answer is a 401 (or a 400 of the parser), never a 500."""
    answer = await gateway.get(MODELS, headers={"Authorization": f"Bearer {token}"})

    assert answer.status in {400, 401}


# Authenticators that break their contract -------------------------------------------------------------------------


@dataclass
class Says:
    """Answers whatever the test wants."""

    what: str = "none"

    async def authenticate(self, credentials):
        answers = {"none": None, "true": True, "text": "ann", "caller-like": {"name": "ann"}, "list": ["ann"]}
        if self.what == "raise":
            raise RuntimeError(f"the database says {credentials.token}"[:20])
        if self.what == "refuse":
            raise AuthenticationError("expired", code="key_expired")
        if self.what == "system exit":
            raise KeyError("x")
        if self.what == "hang":
            await asyncio.Event().wait()
        return answers[self.what]


@dataclass
class Blocking:
    """Is no coroutine function at all."""

    def authenticate(self, credentials):
        return Caller("ann")


def guarded_by(what):
    return (
        STORAGES
        + f"""\
authenticators: {{door: {{use: says, what: "{what}"}}}}
backends: {{here: {{use: demo}}}}
models: {{demo: {{backends: [{{backend: here}}]}}}}
"""
    )


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("none", 401),
        ("true", 500),
        ("text", 500),
        ("caller-like", 500),
        ("list", 500),
        ("raise", 503),
        ("system exit", 503),
        ("refuse", 401),
        ("hang", 503),
    ],
)
async def test_a_broken_authenticator_lets_nobody_in(aiohttp_server, tmp_path, monkeypatch, what, status):
    """None is a 401; an exception or silence is a 503; anything but a Caller is a fault of the plugin."""
    monkeypatch.setattr("gateway.authenticating.AUTHENTICATION_TIMEOUT", 0.05)
    gateway = await start(aiohttp_server, guarded_by(what), tmp_path, types={"authenticators": {"says": Says}})

    answer = await gateway.get(MODELS)

    assert answer.status == status, answer.text
    assert "database" not in answer.text
    assert (await gateway.get("/health")).status == 200


async def test_an_authenticator_that_is_no_coroutine_lets_nobody_in(aiohttp_server, tmp_path):
    """A plain function's answer cannot be awaited: that is a fault, not a caller."""
    yaml = guarded_by("").replace(', what: ""', "")
    gateway = await start(aiohttp_server, yaml, tmp_path, types={"authenticators": {"says": Blocking}})

    assert (await gateway.get(MODELS)).status in {500, 503}


async def test_the_next_authenticator_is_asked_when_one_does_not_know(aiohttp_server, tmp_path):
    """The first that knows the caller wins."""
    yaml = guarded_by("none").replace(
        "{door:", f"{{first: {{use: says}}, keys: {{use: api_keys, keys: [{CALLER_KEY}]}}, door:"
    )
    gateway = await start(aiohttp_server, yaml, tmp_path, types={"authenticators": {"says": Says}})

    assert (await gateway.get(MODELS)).status == 200


# Ids, headers, errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", ["abcd1234", "req_0.9-A", "a" * 64])
async def test_a_good_request_id_is_echoed(gateway, sent):
    """In the header of every answer and in the body of every error."""
    for path in (MODELS, "/nowhere"):
        answer = await gateway.get(path, headers={"X-Request-Id": sent})

        assert answer.headers["x-request-id"] == sent
    assert answer.error["request_id"] == sent


@pytest.mark.parametrize(
    "sent", ["", "short", "a" * 65, "a b c d e f", '{"a":"b"}', "ключключ", "a" * 5_000, "abcd/1234"]
)
async def test_a_bad_request_id_is_replaced(gateway, sent):
    """What could spoil a log is never echoed."""
    answer = await gateway.get(MODELS, headers={"X-Request-Id": sent})

    assert re.fullmatch(r"req_[0-9a-f]{24}", answer.headers["x-request-id"])


async def test_no_two_requests_get_the_same_id(gateway):
    """Ids are made at random."""
    assert len({(await gateway.get("/health")).headers["x-request-id"] for _ in range(20)}) == 20


async def test_no_answer_names_versions(gateway):
    """Neither the server's nor the language's."""
    for path in ("/", "/health", MODELS, "/nowhere"):
        answer = await gateway.get(path)

        assert answer.headers["Server"] == "image-gateway"
        assert "aiohttp" not in str(answer.headers).lower()
        assert "python" not in str(answer.headers).lower()
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/v1",
        "/v1/",
        "/v1/chat",
        f"{CHAT}/",
        "/V1/MODELS",
        "/v1/models/",
        "/image",
        "/image/",
        "/v2/chat/completions",
        "/.env",
        "/v1/chat/completions/x",
        "/pages",
        "/%00",
        "/<script>",
        "/v1/jobs/",
    ],
)
async def test_an_unknown_path_is_a_404_in_openai_form(gateway, path):
    """With a key or without, the same words; no stack, no HTML."""
    answer = await gateway.get(path, headers={"Origin": "https://app.example"})

    assert answer.status in {404, 405}, (path, answer.status)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.error["code"] in {"path_not_found", "not_found", "method_not_allowed"}
    assert answer.headers["Access-Control-Allow-Origin"]
    assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST"),
        ("PUT", CHAT, "POST"),
        ("DELETE", "/v1/images/generations", "POST"),
        ("POST", MODELS, "GET"),
        ("PATCH", "/v1/models/demo", "GET"),
        ("POST", "/image/abc", "GET"),
        ("PUT", "/image/abc", "GET"),
        ("DELETE", "/image/abc", "GET"),
        ("POST", "/health", "GET"),
        ("TRACE", CHAT, "POST"),
    ],
)
async def test_a_wrong_method_is_a_405_that_names_the_right_one(gateway, method, path, allowed):
    """In the Allow header and in words."""
    answer = await gateway.ask(method, path, headers={"Origin": "https://app.example"})

    assert answer.status == 405
    assert allowed in answer.headers["Allow"].split(", ")
    assert answer.error["code"] == "method_not_allowed"
    assert answer.headers["Access-Control-Allow-Origin"]


@pytest.mark.parametrize("path", ["/", "/health", "/v1/health", MODELS, "/v1/models/demo"])
async def test_head_is_answered_like_get_without_a_body(gateway, path):
    """Probes and caches ask so."""
    head, get = await gateway.ask("HEAD", path), await gateway.get(path)

    assert head.status == get.status == 200
    assert head.body == b""
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


async def test_a_picture_can_be_asked_for_with_head(gateway):
    """Clients look at type and size before they load."""
    url = (await gateway.draw(response_format="url")).json["data"][0]["url"]
    answer = await gateway.ask("HEAD", url.removeprefix(gateway.base))

    assert answer.status == 200
    assert int(answer.headers["Content-Length"]) > 100
    assert answer.headers["Content-Type"] == "image/png"


async def test_errors_can_be_renamed_for_clients_of_an_older_service(aiohttp_server, tmp_path):
    """Status and code as the configuration says; the words stay."""
    yaml = DEMO + "server: {error_codes: {model_not_found: 400 unsupported_image_model}}\n"
    gateway = await start(aiohttp_server, yaml, tmp_path)
    answer = await gateway.draw(model="nobody")

    assert (answer.status, answer.error["code"]) == (400, "unsupported_image_model")
    assert "demo" in answer.error["message"]


async def test_a_fault_of_the_gateway_is_told_without_its_words(gateway, caplog):
    """The log has the traceback; the caller has the id to find it."""

    async def broken(body):
        raise RuntimeError("/srv/private/path is broken")

    gateway.runtime.authenticate = broken
    answer = await gateway.get(MODELS)

    assert answer.status == 500
    assert answer.error["code"] == "internal_error"
    assert "private" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text


async def test_no_request_can_write_a_second_line_into_the_log(gateway, caplog):
    """Line breaks, escapes and quotes of a path, an id, a prompt or a model stay within one line."""
    caplog.set_level(logging.DEBUG)
    evil = 'x"}\r\n2026-01-01 CRITICAL forged\x1b[31m'
    await gateway.get("/" + "%0d%0aforged")
    await gateway.draw("a fox\n2026 forged line", model="demo", user="u\tforged")
    await gateway.draw(evil)
    await gateway.draw(model=evil)

    messages = [record.getMessage() for record in caplog.records if record.name.startswith("gateway")]
    assert not [message for message in messages if re.search(r"[\r\n\x1b]", message)]


BEHIND_THE_BACK = """
from aiohttp import web
from gateway import hookimpl

async def secret(request):
    return web.Response(text="in")

class View(web.View):
    async def options(self):
        return web.Response(text="in")

@hookimpl
def setup_app(app):
    app.router.add_route("*", "/v1/any", secret)
    app.router.add_route("OPTIONS", "/v1/options", secret)
    app.router.add_view("/v1/view", View)
    app.router.add_post("/", secret)
    app.router.add_post("/health", secret)
    app.router.add_delete("/image/{key:.+}", secret)
    inner = web.Application()
    inner.router.add_route("*", "/any", secret)
    app.add_subapp("/inner", inner)
"""


@pytest.fixture
async def plugged(aiohttp_server, tmp_path):
    (tmp_path / "plugin.py").write_text(BEHIND_THE_BACK)
    return await start(aiohttp_server, DEMO + "plugins: [plugin.py]\n", tmp_path)


@pytest.mark.parametrize("path", ["/v1/any", "/v1/options", "/v1/view", "/inner/any"])
async def test_a_preflight_reaches_no_handler_of_a_plugin(plugged, path):
    """Preflights need no key, so that they must end before anybody's code."""
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST", "Authorization": ""}
    answer = await plugged.ask("OPTIONS", path, headers=asked)

    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] in ("*", "https://a.example")


@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("POST", "/health"), ("DELETE", "/image/abc")])
async def test_a_plugin_that_shares_a_public_path_asks_for_a_key(plugged, method, path):
    """Public are our routes, not whatever else answers at their addresses."""
    assert (await plugged.ask(method, path, headers={"Authorization": ""})).status == 401
    assert (await plugged.ask(method, path)).text == "in"
