"""The API reference in a real browser: everything is there, nothing comes from elsewhere, no data becomes a script."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Request, expect
from pytest_aiohttp import AiohttpServer

from tests.gateways import DEMO, Gateway, start

HOSTILE = '''
from aiohttp import web
from gateway import hookimpl


async def evil(request):
    """<img src=x onerror=alert(1)> `<script>alert(2)</script>`. *bold* <b>words</b>"""
    return web.Response()


@hookimpl
def setup_app(app):
    app.router.add_get("/evil/{name}", evil)
'''


@dataclass
class Visit:
    """An open reference; *asked* is every address that the browser has asked for, *complaints* what went wrong."""

    page: Page
    gateway: Gateway
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    async def open(self, path: str = "/docs") -> None:
        await self.page.goto(self.gateway.base + path)
        await expect(self.page.locator("#operations:not([aria-busy])")).to_be_visible()


@pytest.fixture
async def visit(browser: Browser, aiohttp_server: AiohttpServer, tmp_path: Path) -> AsyncIterator[Visit]:
    """A browser at a gateway with a plugin whose words are hostile; no complaint of the browser is let pass."""
    (tmp_path / "evil.py").write_text(HOSTILE)
    gateway = await start(aiohttp_server, DEMO + "plugins: [./evil.py]\n", tmp_path)
    page = await browser.new_page()
    visit = Visit(page, gateway)

    def note(request: Request) -> None:
        visit.asked.append(request.url)

    page.on("request", note)
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("console", lambda message: visit.complaints.append(message.text) if message.type == "error" else None)
    page.on("dialog", lambda dialog: visit.complaints.append("a script ran that came as data"))
    yield visit
    await page.close()
    assert visit.complaints == []


async def test_every_operation_can_be_opened_and_nothing_comes_from_elsewhere(visit: Visit) -> None:
    """All of the document is there, each operation with its answers, without any foreign host."""
    document = (await visit.gateway.get("/openapi.json")).json
    count = sum(len(found) for found in document["paths"].values())
    await visit.open()
    await visit.page.get_by_role("button", name="Open all").click()

    operations = visit.page.locator(".operation")
    await expect(operations).to_have_count(count)
    await expect(visit.page.locator("#contents a")).to_have_count(count)
    await expect(visit.page.get_by_role("heading", name="Answers")).to_have_count(count)
    assert all(url.startswith((visit.gateway.base, "data:")) for url in visit.asked)


async def test_fields_examples_and_schemas_within_schemas_are_shown(visit: Visit) -> None:
    """A link to an operation opens it; its fields have types and words, its example is a call that can be pasted."""
    await visit.open("/docs#post_images_generations")
    shown = visit.page.locator("#post_images_generations")

    await expect(shown.get_by_role("row", name="prompt required string")).to_be_visible()
    await expect(shown.get_by_role("row", name="n integer 1 to 10")).to_be_visible()
    await expect(shown.locator("pre").first).to_contain_text(f"curl {visit.gateway.base}/v1/images/generations")
    await shown.get_by_text("Images", exact=True).click()
    await shown.locator("summary", has_text="Gateway").first.click()
    await shown.locator("summary", has_text="Receipt").first.click()
    await expect(shown.get_by_role("row", name="dropped list of")).to_be_visible()


async def test_the_filter_finds_paths_words_and_fields(visit: Visit) -> None:
    """What does not fit is hidden, and an unknown word says so; a link followed from the contents shows all again."""
    await visit.open()
    box, there = visit.page.get_by_label("Filter"), visit.page.locator(".operation:visible")
    await box.fill("negative_prompt")
    await expect(there).to_have_count(5)
    await box.fill("POST edits")
    await expect(there).to_have_count(1)
    await box.fill("no such word")
    await expect(visit.page.get_by_text("Nothing here has these words.")).to_be_visible()
    await visit.page.locator("#contents a", has_text="/v1/jobs/{id}/events").click()

    await expect(visit.page.locator("#get_jobs_id_events")).to_have_attribute("open", "")
    await expect(box).to_have_value("")


async def test_hostile_words_stay_words(visit: Visit) -> None:
    """A plugin's docstring with markup in it is shown as written."""
    await visit.open("/docs#get_evil_name")
    shown = visit.page.locator("#get_evil_name")

    await expect(shown).to_contain_text("<img src=x onerror=alert(1)>")
    await expect(shown.locator("code", has_text="<script>alert(2)</script>")).to_be_visible()
    await expect(shown.locator("img, script, b")).to_have_count(0)


async def test_a_document_that_does_not_come_is_told(visit: Visit) -> None:
    """Instead of an empty page."""
    await visit.page.route("**/openapi.json", lambda route: route.fulfill(status=200, body="<html>"))
    await visit.page.goto(visit.gateway.base + "/docs")

    await expect(visit.page.get_by_role("alert")).to_contain_text("The reference cannot be shown.")
    visit.complaints.clear()


async def test_a_narrow_screen_does_not_scroll_sideways(visit: Visit) -> None:
    """Everything opened, on a telephone."""
    await visit.page.set_viewport_size({"width": 360, "height": 740})
    await visit.open()
    await visit.page.get_by_role("button", name="Open all").click()
    width = await visit.page.evaluate("document.documentElement.scrollWidth")

    assert width <= 360


async def test_it_bears_the_policy_of_the_other_pages(visit: Visit) -> None:
    """No foreign script, frame or form has a chance; who has the page gets a 304."""
    answer = await visit.gateway.get("/docs")
    again = await visit.gateway.get("/docs", headers={"If-None-Match": answer.headers["ETag"]})

    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert (answer.status, answer.headers["Content-Type"], again.status) == (200, "text/html; charset=utf-8", 304)
