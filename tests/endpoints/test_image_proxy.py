"""The image proxy shows pictures for signed links and listed hosts, and is no use for anything else."""

import io
import struct
import zlib
from urllib.parse import quote, urlencode

import pytest
from aiohttp import web
from PIL import Image as Pillow

from gateway.endpoints.image_proxy import listed, serve_proxy
from gateway.errors import GatewayError
from gateway.fetch import Fetcher
from gateway.settings import Fetch, Proxy
from gateway.signing import sign
from gateway.values import Secret
from tests.rude_host import RudeHost, redirect, reply

KEY, OLD = Secret("a-key-of-sixteen-or-more"), Secret("an-old-key-of-sixteen+")
NOW = 1_800_000_000
SIGNED = Proxy(keys=(KEY, OLD))


def picture(kind: str) -> bytes:
    """Make a small true picture."""
    with io.BytesIO() as out:
        Pillow.new("RGB", (8, 6), "teal").save(out, kind)
        return out.getvalue()


PNG = picture("PNG")


@web.middleware
async def errors(request, handler):
    """Stand in for the gateway's own middleware."""
    try:
        return await handler(request)
    except GatewayError as error:
        return web.json_response(error.as_json(), status=error.status)


@pytest.fixture
def client_for(aiohttp_client):
    """Make a client of a proxy that may fetch from *host*, which also answers to the names given."""

    async def make(host, proxy, *names, allow=None, **settings):
        async def lookup(name, port):
            return ["127.0.0.1"] if name in names else ["10.0.0.1"]

        limits = Fetch(allow=(host.pair,) if allow is None else allow, ports=(80, 443, host.port), **settings)
        fetcher = Fetcher(limits, lookup=lookup)

        async def handler(request):
            return await serve_proxy(request, fetcher, proxy, lambda: NOW)

        app = web.Application(middlewares=[errors])
        app.router.add_get("/image-proxy", handler)
        return await aiohttp_client(app)

    return make


async def ask(client, query, method="GET"):
    """Ask the proxy; give the status, the answer's headers and its bytes."""
    async with client.request(method, f"/image-proxy?{query}") as response:
        return response.status, response.headers, await response.read()


def link(url, key=KEY, seconds=600):
    return sign(url, [key], NOW + seconds)


async def code(client, query):
    """Give status and error code of a refusal."""
    async with client.get(f"/image-proxy?{query}") as response:
        return response.status, (await response.json())["error"]["code"]


async def test_signed_link_shows_the_picture_with_our_headers_only(client_for):
    """The host's headers end here; type, life and safety are ours."""
    hostile = {
        "Content_Type": "text/html", "Set_Cookie": "a=b", "Location": "/x", "Refresh": "0", "Link": "</x>; rel=preload",
        "Content_Security_Policy": "default-src *", "X_Evil": "1", "Content_Disposition": "attachment; filename=x.exe",
        "Access_Control_Allow_Origin": "null", "Server": "evil", "ETag": '"x"', "Cache_Control": "no-store",
        "Clear_Site_Data": "*",
    }  # fmt: skip
    async with RudeHost({"/a.png?x=1": reply(PNG, **hostile)}) as host:
        client = await client_for(host, SIGNED)
        status, headers, body = await ask(client, link(f"{host.url}/a.png?x=1"))

    assert (status, body) == (200, PNG)
    assert {name: value for name, value in headers.items() if name not in ("Date", "Server")} == {
        "Content-Type": "image/png",
        "Content-Length": str(len(PNG)),
        "Cache-Control": "public, max-age=600",
        "Content-Disposition": 'inline; filename="image.png"',
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "X-Content-Type-Options": "nosniff",
    }
    assert "evil" not in headers["Server"]


async def test_old_key_still_opens(client_for):
    """After a rotation the links of the key before live on."""
    async with RudeHost({"/": reply(PNG)}) as host:
        client = await client_for(host, SIGNED)

        assert (await ask(client, link(f"{host.url}/", OLD)))[0] == 200


async def test_head_tells_all_but_the_bytes(client_for):
    """HEAD has the type and the length of the picture, and no body."""
    async with RudeHost({"/": reply(PNG)}) as host:
        client = await client_for(host, SIGNED)
        status, headers, body = await ask(client, link(f"{host.url}/"), "HEAD")

    assert (status, headers["Content-Type"], headers["Content-Length"], body) == (200, "image/png", str(len(PNG)), b"")


async def test_unconfigured_proxy_does_not_exist(client_for):
    """Without keys and hosts there is no proxy, whatever the query."""
    async with RudeHost({"/": reply(PNG)}) as host:
        client = await client_for(host, Proxy())
        queries = ["", f"url={host.url}/", link(f"{host.url}/")]

        assert [(await code(client, query))[0] for query in queries] == [404, 404, 404]
        assert host.heads == []


@pytest.mark.parametrize("query", ["", "url=", "u=x", "url", "URL=http://a", "&&", "exp=1&sig=2"])
async def test_missing_url_is_a_400(client_for, query):
    """Worker B's clients know this answer."""
    async with RudeHost() as host:
        client = await client_for(host, Proxy(keys=(KEY,), hosts=("images.example.com",)))
        async with client.get(f"/image-proxy?{query}") as response:
            error = (await response.json())["error"]

    assert (response.status, error["message"], error["param"]) == (400, "Missing image URL parameter", "url")


async def test_nothing_is_fetched_without_a_good_signature(client_for):
    """Unsigned, expired, altered, reordered, doubled: 403, and the host never hears of it."""
    async with RudeHost({"/": reply(PNG)}) as host:
        client = await client_for(host, SIGNED)
        url = f"{host.url}/"
        good = link(url)
        first, exp, sig = good.split("&")
        queries = [
            f"url={quote(url, safe='')}", f"{first}&{exp}", f"{first}&{sig}", link(url, seconds=0),
            link(url, seconds=-1),
            link(url, Secret("a-stranger's-key-of-16")), good[:-1], good.replace(sig, sig.upper()), f"{good}&{first}",
            f"{first}&{good}", f"{sig}&{first}&{exp}", f"{good}&x=1", link(f"{host.url}/other").replace("other", ""),
            good.replace(str(NOW + 600), str(NOW + 601)), urlencode({"url": url, "exp": "x", "sig": "y"}),
        ]  # fmt: skip
        answers = {await code(client, query) for query in queries}

    assert answers == {(403, "invalid_link")}
    assert host.heads == []


async def test_life_of_the_answer_is_the_life_of_the_link(client_for):
    """Caches forget the picture when the link dies, and after a week at the latest."""
    async with RudeHost({"/": reply(PNG)}) as host:
        client = await client_for(host, SIGNED)
        ages = [
            (await ask(client, link(f"{host.url}/", seconds=life)))[1]["Cache-Control"] for life in (1, 3600, 10**9)
        ]

    assert ages == ["public, max-age=1", "public, max-age=3600", "public, max-age=604800"]


DECLARED = [
    "text/html",
    "image/svg+xml",
    "image/png, text/html",
    "image/png text/html",
    "",
    "IMAGE/PNG; x",
    "image/png",
    "a/b",
]
TRUE = {kind.lower(): picture(kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "AVIF")}
FALSE = {
    "html": b"<!doctype html><script>alert(1)</script>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "script": b"alert(1)",
    "polyglot": b"GIF89a/*\x00\x00\x00*/=1;alert(1)//",
    "head only": PNG[:8],
    "cut": PNG[: len(PNG) // 2],
    "bmp": picture("BMP"),
    "tiff": picture("TIFF"),
    "ico": picture("ICO"),
    "pdf": b"%PDF-1.7\n",
    "json": b'{"error": "no"}',
    "html before": b"<html>" + PNG,
}


@pytest.mark.parametrize("declared", DECLARED)
async def test_type_is_read_from_the_bytes(client_for, declared):
    """Whatever the host declares: a true picture leaves under its true type, and nothing else leaves."""
    bodies = {**TRUE, **FALSE}
    answers = {f"/{quote(name)}": reply(body, Content_Type=declared) for name, body in bodies.items()}
    async with RudeHost(answers) as host:
        client = await client_for(host, SIGNED)
        types = {}
        for name in bodies:
            status, headers, _ = await ask(client, link(f"{host.url}/{quote(name)}"))
            types[name] = headers["Content-Type"] if status == 200 else status

    assert types == {**{name: f"image/{name}" for name in TRUE}, **dict.fromkeys(FALSE, 415)}


def film() -> bytes:
    """Make an animation of ten thousand frames in a few hundred kilobytes."""
    frames = [Pillow.new("L", (2, 2), number % 256) for number in range(10_000)]
    with io.BytesIO() as out:
        frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=20)
        return out.getvalue()


async def test_bombs_are_refused(client_for):
    """A small file that would unfold into a huge picture, or into very many, is not passed on."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    bomb = PNG[:12] + head + struct.pack(">I", zlib.crc32(head)) + PNG[33:]
    async with RudeHost({"/great": reply(bomb), "/long": reply(film())}) as host:
        client = await client_for(host, SIGNED)

        for path in host.answers:
            assert await code(client, link(f"{host.url}{path}")) == (422, "picture_too_large")


async def test_signature_does_not_open_what_the_guard_shuts(client_for):
    """A signed link to a private address, another scheme or nonsense is still refused."""
    async with RudeHost({"/": redirect("http://127.0.0.1:1/")}) as host:
        client = await client_for(host, SIGNED)
        urls = [f"http://127.0.0.2:{host.port}/", "http://inside.example.com/", "http://localhost/", f"{host.url}/"]
        assert {await code(client, link(url)) for url in urls} == {(403, "blocked_address")}

        urls = [
            "data:image/png;base64,AAAA",
            "DATA:,x",
            "file:///etc/passwd",
            "http://u:p@a.example.com/",
            "http://127.1/",
            "x",
        ]
        assert {await code(client, link(url)) for url in urls} == {(400, "invalid_url")}


async def test_faults_of_the_host_are_told_as_its_own(client_for):
    """A host that fails gives 502, a silent one 504; its status and its words stay with it."""
    async with RudeHost({"/missing": reply(b"secret words", "404 Not Found")}) as host:
        host.answers["/silent"] = host.forever
        client = await client_for(host, SIGNED, timeout=0.2)
        async with client.get(f"/image-proxy?{link(f'{host.url}/missing?token=hunter2')}") as response:
            text = await response.text()
        silent = await code(client, link(f"{host.url}/silent"))

    assert response.status == 502
    assert "secret words" not in text
    assert "hunter2" not in text
    assert silent == (504, "upstream_timeout")


LISTED = Proxy(hosts=("images.example.com", "*.cdn.example.com"))
NAMES = ("images.example.com", "a.cdn.example.com", "b.a.cdn.example.com", "evil.example.com")


def plain(host, name, path="/"):
    return "url=" + quote(f"http://{name}:{host.port}{path}", safe="")


async def test_listed_host_needs_no_signature(client_for):
    """Worker B's clients ask with a plain url= for hosts that the operator listed."""
    async with RudeHost({"/": reply(PNG)}) as host:
        client = await client_for(host, LISTED, *NAMES, allow=(host.pair,))
        for name in (*NAMES[:3], "IMAGES.example.com", "images.example.com."):
            status, headers, body = await ask(client, plain(host, name))

            assert (status, body, headers["Cache-Control"]) == (200, PNG, "public, max-age=3600")


async def test_unlisted_host_is_refused_without_a_packet(client_for):
    """Neither another host nor a trick with the URL gets past the list."""
    async with RudeHost({"/": reply(PNG)}) as host:
        client = await client_for(host, LISTED, *NAMES, "cdn.example.com", "evilimages.example.com", allow=(host.pair,))
        names = [
            "evil.example.com",
            "cdn.example.com",
            "evilimages.example.com",
            "images.example.com.evil.com",
            "127.0.0.1",
        ]
        assert {await code(client, plain(host, name)) for name in names} == {(403, "blocked_address")}

        good = plain(host, "images.example.com")
        doubled = [
            f"{good}&{plain(host, 'evil.example.com')}",
            f"{plain(host, 'evil.example.com')}&{good}",
            f"{good}&sig=x",
        ]
        assert {await code(client, query) for query in doubled} == {(403, "invalid_link")}
        assert (await code(client, "url=" + quote("http://images.example.com@evil.example.com/")))[0] == 400

    assert host.heads == []


async def test_open_redirect_of_a_listed_host_does_not_open_the_proxy(client_for):
    """A redirect may lead to another listed host, not off the list."""
    async with RudeHost({"/": reply(PNG)}) as host:
        host.answers["/in"] = redirect(f"http://a.cdn.example.com:{host.port}/")
        host.answers["/out"] = redirect(f"http://evil.example.com:{host.port}/")
        client = await client_for(host, LISTED, *NAMES, allow=(host.pair,))

        assert (await ask(client, plain(host, "images.example.com", "/in")))[0] == 200
        assert await code(client, plain(host, "images.example.com", "/out")) == (403, "blocked_address")
        assert host.paths == ["/in", "/", "/out"]


async def test_listed_name_with_a_private_address_is_blocked(client_for):
    """The list names hosts; where they point is still checked."""
    async with RudeHost({"/": reply(PNG)}) as host:
        client = await client_for(host, LISTED, *NAMES, allow=())

        assert await code(client, plain(host, "images.example.com")) == (403, "blocked_address")
        assert host.heads == []


def test_patterns_match_whole_labels():
    """A star stands for one or more whole labels in front, and only there."""
    assert listed("images.example.com", ("Images.Example.com",))
    assert listed("a.b.example.com", ("*.example.com",))
    assert not listed("example.com", ("*.example.com",))
    assert not listed("badexample.com", ("*.example.com", "example.com"))
    assert not listed("images.example.com", ())
