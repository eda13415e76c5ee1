"""What a hostile picture, prompt, model name or web page can do in a real browser: nothing."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import AsyncIterator
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image as Pillow
from playwright.async_api import Browser, Page, expect

from gateway.signing import sign
from tests.fake_upstream import FakeUpstream
from tests.gateways import CALLER_KEY, DEMO, Gateway, drawing_by, start

HACK = b"window.HACKED=1;document.title='HACKED'"
MARKUP = b"<html><body><script>" + HACK + b"</script><img src=x onerror=" + HACK + b"><svg onload=" + HACK + b"></svg>"
SIGNING_KEY = "a signing key of the tests"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _gif() -> bytes:
    """Make a GIF that is a script as well: its width begins a comment, and its own comment ends that one."""
    words = b"*/=1;" + HACK + b"//"
    pixel = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    colours = b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    return b"GIF89a/*\x01\x00" + colours + pixel + b"\x21\xfe" + bytes([len(words)]) + words + b"\0\x3b"


def _png() -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    chunks = [
        head,
        _chunk(b"tEXt", b"Title\0" + MARKUP),
        _chunk(b"IDAT", zlib.compress(b"\0\0\0\0")),
        _chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _jpeg() -> bytes:
    buffer = BytesIO()
    Pillow.new("RGB", (8, 8)).save(buffer, "JPEG", comment=MARKUP + b"<?php system('id') ?>")
    return buffer.getvalue()


POLYGLOTS = {"gif": _gif(), "png": _png(), "jpg": _jpeg()}


@pytest.fixture
async def page(browser: Browser) -> Page:
    page = await browser.new_page()
    page.set_default_timeout(10_000)
    return page


@pytest.fixture
async def evil() -> AsyncIterator[Any]:
    """Another origin: call it with the HTML of its page, and it gives the page's address."""
    pages: list[str] = []

    async def show(request: web.Request) -> web.Response:
        return web.Response(text=pages[-1], content_type="text/html")

    app = web.Application()
    app.router.add_get("/", show)
    server = TestServer(app)
    await server.start_server()

    def put(html: str) -> str:
        pages.append(f"<!doctype html><body>{html}</body>")
        return f"http://localhost:{server.port}/"

    yield put
    await server.close()


@pytest.fixture
async def gateway(fake: FakeUpstream, aiohttp_server: Any, tmp_path: Path) -> Gateway:
    return await start(aiohttp_server, drawing_by(fake.base, f'proxy: {{keys: ["{SIGNING_KEY}"]}}\n'), tmp_path)


async def addresses(gateway: Gateway, fake: FakeUpstream) -> list[str]:
    """Give every address under which the gateway shows the fake's picture: stored, made anew, and proxied."""
    stored = (await gateway.draw(response_format="url")).json["data"][0]["url"]
    proxied = f"{gateway.base}/image-proxy?{sign(fake.file_url(), [SIGNING_KEY], 4e9)}"
    return [stored, stored.rpartition(".")[0], f"{stored}?format=png&w=64", f"{stored}?download=1", proxied]


async def nothing_ran(page: Page) -> bool:
    """Look into the page and all that it holds."""
    seen = [await frame.evaluate("[window.HACKED, document.title]") for frame in page.frames]
    return all(hacked is None and "HACKED" not in title for hacked, title in seen)


@pytest.mark.parametrize("kind", POLYGLOTS)
async def test_a_picture_that_is_a_page_as_well_is_only_a_picture(
    gateway: Gateway, fake: FakeUpstream, page: Page, kind: str
) -> None:
    """Opened as a document, under every address, it is shown and nothing in it runs."""
    fake.picture = POLYGLOTS[kind]
    for url in await addresses(gateway, fake):
        if "download" in url:
            continue
        response = await page.goto(url)
        assert response
        assert response.status == 200, url
        assert await nothing_ran(page)
        assert await page.evaluate("document.images.length") == 1
        assert await page.evaluate("document.scripts.length") == 0


@pytest.mark.parametrize("kind", POLYGLOTS)
@pytest.mark.parametrize("tag", ["script", "iframe", "object", "embed", "link"])
async def test_a_picture_is_no_script_and_no_frame_of_another_page(
    gateway: Gateway, fake: FakeUpstream, page: Page, evil: Any, kind: str, tag: str
) -> None:
    """Whatever a page takes it for, the declared type and ``nosniff`` say that it is a picture."""
    fake.picture = POLYGLOTS[kind]
    name = {"object": "data", "link": "rel=stylesheet href"}.get(tag, "src")
    urls = await addresses(gateway, fake)
    await page.goto(evil("".join(f"<{tag} {name}='{escape(url)}'></{tag}>" for url in urls)))
    await page.wait_for_load_state("load")

    assert await nothing_ran(page)


async def test_the_script_of_the_test_would_run(page: Page, evil: Any) -> None:
    """The GIF truly is a script: served as one, it runs. Otherwise the tests above would prove nothing."""
    script = POLYGLOTS["gif"].decode("latin-1")
    await page.goto(evil("a page"))
    append = "text => { const tag = document.createElement('script'); tag.text = text; document.head.append(tag); }"
    await page.evaluate(append, script)

    assert await page.evaluate("window.HACKED") == 1


@pytest.mark.parametrize("answer", [MARKUP, b"<svg xmlns='http://www.w3.org/2000/svg' onload='" + HACK + b"'/>"])
async def test_markup_is_never_stored(gateway: Gateway, fake: FakeUpstream, answer: bytes) -> None:
    """An upstream's page or drawing is no picture, wherever it comes from."""
    fake.picture = answer
    drawn = await gateway.draw()
    proxied = await gateway.get(f"/image-proxy?{sign(fake.file_url(), [SIGNING_KEY], 4e9)}")

    assert (drawn.status, proxied.status) == (502, 415)
    assert b"HACKED" not in drawn.body + proxied.body


async def test_every_picture_bears_the_headers_that_protect(gateway: Gateway, fake: FakeUpstream) -> None:
    """The type that the bytes have, no sniffing, nothing that runs, and no cookie."""
    for url in await addresses(gateway, fake):
        answer = await gateway.get(url.removeprefix(gateway.base))
        headers = answer.headers

        assert answer.status == 200
        assert headers["Content-Type"] == "image/png"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert {"default-src 'none'", "sandbox"} <= set(headers["Content-Security-Policy"].split("; "))
        assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert headers["Content-Disposition"].startswith(("inline; filename=", "attachment; filename="))
        assert "Set-Cookie" not in headers


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_our_pages_show_in_no_frame(gateway: Gateway, page: Page, evil: Any, path: str) -> None:
    """Nobody can lay our buttons under his own."""
    await page.goto(evil(f"<iframe src='{gateway.base}{path}'></iframe>"))
    await page.wait_for_load_state("load")
    (frame,) = page.main_frame.child_frames

    assert not frame.url.startswith(gateway.base) or not await frame.evaluate("document.scripts.length")
    headers = (await gateway.get(path)).headers
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]


EVIL = "<img src=x onerror=window.HACKED=1>"


async def test_words_of_others_stay_words_on_the_welcome_page(aiohttp_server: Any, tmp_path: Path, page: Page) -> None:
    """Names of models, prompts, receipts and errors are shown as they are, and run nowhere."""
    yaml = DEMO.replace("models: {demo:", f"models: {{{json.dumps(EVIL)}:")
    gateway = await start(aiohttp_server, yaml, tmp_path)
    prompt = f"{EVIL} ](javascript:window.HACKED=1) ![x](http://127.0.0.1:9/?{EVIL}) <script>window.HACKED=1</script>"
    await page.goto(f"{gateway.base}/")
    await page.fill("#key", CALLER_KEY)
    await page.locator("#key").dispatch_event("change")
    await expect(page.locator("#model-help")).to_contain_text("1 model")
    await page.fill("#prompt", prompt)
    await page.click("#generate")
    await expect(page.locator("#pictures img")).to_have_count(1)
    await page.fill("#key", "wrong")
    await page.click("#generate")
    await expect(page.locator("#error")).to_be_visible()

    assert await nothing_ran(page)
    links = await page.eval_on_selector_all("a, img, script", "all => all.map(each => each.href || each.src)")
    assert all(link.startswith((gateway.base, "data:")) for link in links), links
    assert CALLER_KEY not in page.url


async def test_words_of_plugins_stay_words_in_the_reference(aiohttp_server: Any, tmp_path: Path, page: Page) -> None:
    """A plugin's route and its docstring are shown in the API reference as they are."""
    (tmp_path / "plugin.py").write_text(
        "from aiohttp import web\n"
        "from gateway import hookimpl\n\n"
        f"async def mine(request):\n    '''{EVIL} <script>window.HACKED=1</script>. `{EVIL}`'''\n"
        "    return web.Response()\n\n"
        "@hookimpl\ndef setup_app(app):\n    app.router.add_get('/v1/mine', mine)\n"
    )
    gateway = await start(aiohttp_server, DEMO + "plugins: [plugin.py]\n", tmp_path)
    await page.goto(f"{gateway.base}/docs")
    await page.click("#unfold")
    await expect(page.locator("body")).to_contain_text("onerror=window.HACKED")

    assert await nothing_ran(page)
    assert not await page.evaluate("document.images.length")
