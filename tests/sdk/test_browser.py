"""An application in a browser on another origin: it streams, draws, and shows the picture."""

import shutil

import pytest
from aiohttp import web

from tests.gateways import CALLER_KEY, DEMO, start

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

PAGE = """<!DOCTYPE html><meta charset="utf-8"><title>An application</title><body><script>
const headers = {"Content-Type": "application/json", "X-Title": "An application", "HTTP-Referer": location.origin,
                 "X-Stainless-Retry-Count": "0", "Idempotency-Key": "browser-1"};
async function call(base, key, path, body) {
  const more = body ? {method: "POST", body: JSON.stringify(body)} : {};
  const response = await fetch(base + path, {...more, headers: {...headers, Authorization: "Bearer " + key}});
  return {status: response.status, id: response.headers.get("x-request-id"), body: await response.json()};
}
async function streamed(base, key) {
  const body = {stream: true, messages: [{role: "user", content: "a lighthouse 16:9"}]};
  const sent = {method: "POST", body: JSON.stringify(body), headers: {...headers, Authorization: "Bearer " + key}};
  delete sent.headers["Idempotency-Key"];
  const response = await fetch(base + "/v1/chat/completions", sent);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", pieces = 0;
  for (;;) {
    const {done, value} = await reader.read();
    if (done) break;
    pieces += 1;
    text += value;
  }
  const lines = text.split("\\n").filter(line => line.startsWith("data: ") && line !== "data: [DONE]");
  const content = lines.map(line => JSON.parse(line.slice(6)).choices[0]?.delta.content || "").join("");
  return {pieces, url: content.match(/\\]\\((http[^)]+)\\)/)[1], done: text.trimEnd().endsWith("data: [DONE]")};
}
async function shown(url) {
  const image = new Image();
  image.crossOrigin = "anonymous";
  image.src = url;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  canvas.getContext("2d").drawImage(image, 0, 0);
  return {width: image.naturalWidth, height: image.naturalHeight, bytes: canvas.toDataURL("image/png").length};
}
</script>"""


@pytest.fixture
async def page(aiohttp_server):
    """A page of an application that lives elsewhere, and isolates itself from other origins."""
    if not CHROMIUM:
        pytest.skip("no Chromium is installed, so no browser can be tried")

    async def application(_):
        headers = {"Cross-Origin-Embedder-Policy": "require-corp", "Cross-Origin-Opener-Policy": "same-origin"}
        return web.Response(text=PAGE, content_type="text/html", headers=headers)

    app = web.Application()
    app.router.add_get("/", application)
    server = await aiohttp_server(app)
    async with playwright.async_playwright() as running:
        browser = await running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(f"http://localhost:{server.port}/")
        yield page
        await browser.close()


@pytest.fixture
async def gateway(aiohttp_server, tmp_path):
    return await start(aiohttp_server, DEMO, tmp_path)


async def test_a_stream_is_read_and_its_picture_shown(page, gateway):
    """Piece by piece, and the picture may be used on a canvas even by an isolated page."""
    told = await page.evaluate("([base, key]) => streamed(base, key)", [gateway.base, CALLER_KEY])
    seen = await page.evaluate("url => shown(url)", told["url"])

    assert told["done"]
    assert told["pieces"] >= 2
    assert (seen["width"], seen["height"]) == (1024, 576)
    assert seen["bytes"] > 1_000


async def test_plain_calls_models_and_errors_are_read(page, gateway):
    """With the headers that clients send, each behind a preflight; errors show their words and their id."""

    async def call(path, body=None, key=CALLER_KEY):
        return await page.evaluate(
            "([base, key, path, body]) => call(base, key, path, body)", [gateway.base, key, path, body]
        )

    models = await call("/v1/models")
    drawn = await call("/v1/images/generations", {"prompt": "a fox", "size": "128x128"})
    wrong = await call("/v1/models", key="ig-wrong")
    lost = await call("/v1/nowhere", {"x": 1})
    bad = await call("/v1/chat/completions", {"messages": []})

    assert models["body"]["data"][0]["id"] == "demo"
    assert drawn["body"]["data"][0]["b64_json"]
    assert (wrong["status"], wrong["body"]["error"]["code"]) == (401, "invalid_api_key")
    assert (lost["status"], lost["body"]["error"]["code"]) == (404, "path_not_found")
    assert (bad["status"], bad["body"]["error"]["param"]) == (400, "messages")
    assert all(answer["id"] for answer in (models, drawn, wrong, lost, bad))


async def test_an_application_of_another_origin_is_kept_out_if_so_configured(page, aiohttp_server, tmp_path):
    """The browser itself refuses it the answer."""
    gateway = await start(aiohttp_server, DEMO + 'server: {origins: ["https://app.example"]}\n', tmp_path)
    refused = await page.evaluate(
        "([base, key]) => call(base, key, '/v1/models').then(() => null, error => error.name)",
        [gateway.base, CALLER_KEY],
    )

    assert refused == "TypeError"
