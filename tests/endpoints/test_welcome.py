"""The welcome page: what the server says of it, and what a visitor can do with it in a real browser."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from playwright.async_api import Browser, Page, expect

from gateway.endpoints.welcome import PAGES, page, welcome
from gateway.errors import NotFoundError

KEY = "key-of-a-visitor"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)
Client = Callable[[web.Application], Awaitable[TestClient[web.Request, web.Application]]]


def chunk(**delta: str) -> str:
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}) + "\n\n"


def answered(url: str) -> list[str]:
    receipt = {"adjusted": [{"name": "size", "reason": "the target makes 1024x1024, cropped here"}], "dropped": []}
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "gateway": {"receipt": receipt}}
    return [
        chunk(role="assistant", content=""),
        ": still here\n\n",
        chunk(content="> 🎨 Drawing…\n"),
        chunk(content="> 🖌️ 50 % drawn\n"),
        chunk(content="\n"),
        chunk(content=f"Prompt: a <b>cat</b> !\\[x\\](http://evil.example/)\n\n![Generated Image]({url})"),
        f"data: {json.dumps(last)}\r\n\r\n",
        "data: [DONE]\n\n",
    ]


class Gateway:
    """A gateway as far as the page sees it; *stream* is what a chat call answers, piece by piece."""

    def __init__(self) -> None:
        self.stream: list[str] = answered("/image/cat.png")
        self.calls: list[dict[str, Any]] = []
        self.seen: list[str] = []

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.around])
        app.router.add_get("/", welcome)
        app.router.add_get("/pages/{name}", page)
        app.router.add_get("/health", self.health)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/image/cat.png", self.picture)
        return app

    @web.middleware
    async def around(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.seen.append(str(request.rel_url))
        try:
            response: web.StreamResponse = await handler(request)
        except NotFoundError as error:
            return web.json_response(error.as_json(), status=error.status)
        return response

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "models": 2})

    async def models(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            error = {"message": "the API key is <i>not</i> valid here", "code": "invalid_api_key"}
            return web.json_response({"error": error}, status=401)
        return web.json_response({"data": [{"id": "flux"}, {"id": "it's \"<img src=x onerror=alert(1)>"}]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(await request.json())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for piece in self.stream:
            # Cut in the middle of everything, characters included: a network may do so.
            half = len(piece.encode()) // 2
            await response.write(piece.encode()[:half])
            await response.write(piece.encode()[half:])
        return response

    async def picture(self, request: web.Request) -> web.Response:
        return web.Response(body=PNG, content_type="image/png")


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
async def server(gateway: Gateway) -> AsyncIterator[TestServer]:
    async with TestServer(gateway.app()) as server:
        yield server


@pytest.fixture
async def client(server: TestServer) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(server) as client:
        yield client


@pytest.fixture
async def visit(browser: Browser, server: TestServer) -> AsyncIterator[Page]:
    """Open the page; whatever the console complains of, or a script that should not run, fails the test."""
    complaints: list[str] = []
    visit = await browser.new_page()
    visit.on("pageerror", lambda error: complaints.append(str(error)))
    visit.on("console", lambda message: complaints.append(message.text) if "Content Security" in message.text else None)
    visit.on("dialog", lambda dialog: complaints.append("a script ran that came as data"))
    await visit.goto(str(server.make_url("/")))
    yield visit
    await visit.close()
    assert complaints == []


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/pages/welcome.css", "text/css; charset=utf-8"),
        ("/pages/welcome.js", "text/javascript; charset=utf-8"),
    ],
)
async def test_files_are_served_closed_to_everything_foreign(client, path, content_type):
    """Every file bears a policy under which no foreign script, frame or form has a chance."""
    response = await client.get(path)

    assert (response.status, response.headers["Content-Type"]) == (200, content_type)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"


async def test_a_known_file_is_not_sent_again(client):
    """A browser that has the file gets 304 and no body."""
    etag = (await client.get("/pages/welcome.css")).headers["ETag"]
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        again = await client.get("/pages/welcome.css", headers={"If-None-Match": known})
        assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", etag)

    assert (await client.get("/", headers={"If-None-Match": etag})).status == 200


@pytest.mark.parametrize("name", ["nothing.js", "..%2f__init__.py", "%2e%2e%2fpages", "welcome.js%00", "py.typed"])
async def test_only_files_of_the_page_are_served(client, name):
    """No name reaches beyond the folder."""
    assert (await client.get(f"/pages/{name}")).status == 404


def test_the_page_asks_nothing_of_the_network():
    """Self-contained: no address of another host, no inline script or style, no HTML made from data."""
    for name, found in PAGES.items():
        text = found.body.decode()
        assert "https://" not in text, name
        assert "innerHTML" not in text, name
        assert "style=" not in text, name
        assert "onclick" not in text, name


async def test_a_visitor_makes_a_picture(visit, gateway, server):
    """Key, model, words, ratio: progress is shown as it comes, then the picture, its link and its Markdown."""
    await expect(visit.get_by_role("status").first).to_have_text("Up · 2 models")
    await visit.get_by_label("API key").fill(KEY)
    await visit.get_by_label("API key").blur()
    await expect(visit.get_by_label("Model", exact=True)).to_have_value("flux")
    await visit.get_by_label("What shall it show?").fill("a lighthouse")
    await visit.get_by_text("16:9").click()
    await visit.get_by_role("button", name="Generate").click()

    picture = str(server.make_url("/image/cat.png"))
    await expect(visit.get_by_role("img", name="a lighthouse")).to_have_attribute("src", picture)
    await expect(visit.get_by_role("link", name=picture)).to_have_attribute("rel", "noopener noreferrer")
    await expect(visit.get_by_label("Markdown")).to_have_value(f"![Image]({picture})")
    assert await visit.locator("#progress li").all_text_contents() == ["🎨 Drawing…", "🖌️ 50 % drawn"]
    await expect(visit.locator("#receipt li")).to_have_text("size: the target makes 1024x1024, cropped here")
    assert await visit.locator("#pictures img").count() == 1, "a picture that the prompt smuggled in is not shown"
    assert gateway.calls == [
        {"messages": [{"role": "user", "content": "a lighthouse 16:9"}], "stream": True, "model": "flux"}
    ]


async def test_the_key_is_in_no_address_and_can_be_forgotten(visit, gateway):
    """It lives in this tab only: in no URL, in no storage that outlives the tab, in no example."""
    await visit.get_by_label("API key").fill(KEY)
    await visit.get_by_label("API key").press("Enter")
    await expect(visit.locator("#model-help")).to_have_text("2 models for this key.")

    assert not any(KEY in address for address in gateway.seen)
    assert KEY not in visit.url
    assert await visit.evaluate("localStorage.length") == 0
    assert KEY not in await visit.locator("body").inner_text()
    assert await visit.get_by_label("API key").get_attribute("autocomplete") == "off"
    await visit.reload()
    await expect(visit.get_by_label("API key")).to_have_value(KEY)
    await visit.get_by_role("button", name="Forget").click()
    await visit.reload()
    await expect(visit.get_by_label("API key")).to_have_value("")


async def test_a_wrong_key_is_told_in_words(visit):
    """The gateway's own words, as text and never as HTML."""
    await visit.get_by_label("API key").fill("wrong")
    await visit.get_by_label("API key").blur()

    await expect(visit.locator("#model-help")).to_have_text("the API key is <i>not</i> valid here (invalid_api_key)")


FAILURES = [
    (
        ['data: {"error": {"message": "a <b>refusal</b>", "code": "content_policy_violation"}}\n\n'],
        "a <b>refusal</b> (content_policy_violation)",
    ),
    ([chunk(content="no picture today")], "There is no picture in the answer: no picture today"),
    ([chunk(content="![x](javascript:alert(1)) ![x](data:text/html,boo)")], "There is no picture in the answer: ![x]"),
    (["data: [DONE]\n\n"], "The answer is empty."),
    (["data: {broken\n\n"], "The answer could not be read."),
    ([], "The answer is empty."),
]


async def test_failures_are_told_and_the_form_is_free_again(visit, gateway):
    """Whatever a stream ends in, the visitor reads why and can try again, in the end with success."""
    await visit.get_by_label("What shall it show?").fill("a cat")
    for stream, words in FAILURES:
        gateway.stream = stream
        await visit.get_by_role("button", name="Generate").click()
        await expect(visit.get_by_role("alert")).to_contain_text(words)
        assert await visit.locator("#pictures img").count() == 0
    gateway.stream = answered("/image/cat.png")
    await visit.get_by_role("button", name="Generate").click()

    await expect(visit.get_by_role("img", name="a cat")).to_be_visible()
    await expect(visit.locator("#error")).to_be_hidden()


async def test_examples_fit_this_very_host(visit, server):
    """They can be copied as they are; a model's odd name is quoted, not run."""
    base = str(server.make_url("/v1"))
    await expect(visit.locator("#code-curl")).to_contain_text(f"curl {base}/images/generations")
    await expect(visit.get_by_label("Base URL")).to_have_value(base)
    await visit.get_by_label("API key").fill(KEY)
    await visit.get_by_label("API key").blur()
    await visit.get_by_label("Model", exact=True).select_option(index=2)
    await visit.get_by_role("tab", name="Python").click()
    python = await visit.locator("#code-python").inner_text()

    assert compile(python, "example", "exec")
    assert f'base_url="{base}"' in python
    assert r'model="it' in python
    assert r"it'\''s" in (await visit.locator("#code-curl").text_content() or "")


async def test_the_page_fits_a_telephone(visit):
    """No sideways scrolling at 360 pixels."""
    await visit.set_viewport_size({"width": 360, "height": 700})

    assert await visit.evaluate("document.documentElement.scrollWidth") <= 360
