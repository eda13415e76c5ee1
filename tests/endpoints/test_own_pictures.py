"""A link that this gateway gave is an input picture, although the guard would let nobody fetch from here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.endpoints.inputs import own_name
from gateway.values import Size
from tests.fake_upstream import png
from tests.gateways import Answered, Gateway, start
from tests.painters import HELD, holding, painter

Change = Callable[[Gateway, str], Awaitable[Answered]]
FIELDS = {"json": "image", "form": "image", "mask": "mask", "chat": "messages", "responses": "input"}


@pytest.fixture
async def held(aiohttp_server: Any, tmp_path: Path) -> Gateway:
    """A gateway that may fetch from nowhere near, and whose backend keeps what it was asked."""
    gateway = await start(aiohttp_server, holding(), tmp_path, types=HELD)
    painter(gateway).free.set()
    return gateway


async def change(gateway: Gateway, url: str, how: str) -> Answered:
    """Have the picture at *url* changed, by each of the ways that take a link."""
    asked = {"prompt": "in blue", "model": "held"}
    if how in {"json", "mask"}:
        mask = {"mask": {"image_url": url}} if how == "mask" else {}
        image = await drawn(gateway) if how == "mask" else url
        return await gateway.post("/v1/images/edits", {**asked, "image": image, **mask})
    if how == "form":
        form = aiohttp.FormData({**asked, "image": url}, default_to_multipart=True)
        return await gateway.ask("POST", "/v1/images/edits", data=form)
    if how == "chat":
        parts = [{"type": "text", "text": "in blue"}, {"type": "image_url", "image_url": {"url": url}}]
        return await gateway.chat(parts, model="held")
    parts = [{"type": "input_text", "text": "in blue"}, {"type": "input_image", "image_url": url}]
    message = {"role": "user", "content": parts}
    return await gateway.post(
        "/v1/responses", {"model": "held", "input": [message], "tools": [{"type": "image_generation"}]}
    )


async def drawn(gateway: Gateway, **more: Any) -> str:
    """Draw a picture; give its link."""
    answer = await gateway.draw(model="held", response_format="url", **more)
    return str(answer.json["data"][0]["url"])


@pytest.mark.parametrize("how", FIELDS)
async def test_a_link_of_this_gateway_is_read_from_its_storages(held: Gateway, how: str) -> None:
    """With its extension and without; the very bytes reach the backend."""
    url = await drawn(held)
    for link in (url, url.removesuffix(".png")):
        answer = await change(held, link, how)

        assert answer.status == 200, answer.text
        request = painter(held).requests[-1]
        given = request.mask if how == "mask" else request.images[0]
        assert given is not None
        assert (given.data, given.media_type) == (png(64, 64), "image/png")


@pytest.mark.parametrize("how", FIELDS)
async def test_a_link_to_nothing_is_a_clear_400(held: Gateway, how: str) -> None:
    """Unknown, deleted, no key at all, another type, a way out: nothing is fetched, nothing drawn."""
    url = await drawn(held)
    gone = await drawn(held)
    await held.ask("DELETE", f"/v1/pictures/{gone.rpartition('/')[2].removesuffix('.png')}")
    before = len(painter(held).requests)
    for link in (gone, f"{held.base}/image/{'0' * 40}.png", f"{held.base}/image/x", url.replace(".png", ".webp")):
        answer = await change(held, link, how)

        assert (answer.status, answer.error["code"]) == (400, "picture_not_found"), answer.text
        assert answer.error["param"] in {FIELDS[how], "input_image_mask"}
    before += 4 if how == "mask" else 0  # the picture that each mask would lie upon

    assert len(painter(held).requests) == before


@pytest.mark.parametrize("how", ["json", "chat"])
async def test_a_link_to_a_copy_means_the_copy(aiohttp_server: Any, tmp_path: Path, how: str) -> None:
    """What the link shows in a browser is what the backend gets: of a listed size, or of any that was signed."""
    keys = "proxy: {keys: [a-key-to-sign-links-with-0123456789]}\nserving: {sizes: [16, 32]}\n"
    gateway = await start(aiohttp_server, holding(keys), tmp_path, types=HELD)
    painter(gateway).free.set()
    url = await drawn(gateway)
    key = url.rpartition("/")[2].removesuffix(".png")
    signed = await gateway.post(f"/v1/pictures/{key}/links", {"width": 21})
    wanted = {f"{url}?w=32": 32, f"{url}?h=16&format=webp": 16, f"{url}?download=1": 64, signed.json["url"]: 21}
    for link, side in wanted.items():
        answer = await change(gateway, link, how)

        assert answer.status == 200, answer.text
        assert painter(gateway).requests[-1].images[0].size == Size(side, side)


async def test_a_link_to_a_copy_that_is_not_allowed_says_why(aiohttp_server: Any, tmp_path: Path) -> None:
    """A size that is on no list, a signature that is none: nothing is drawn."""
    keys = "proxy: {keys: [a-key-to-sign-links-with-0123456789]}\nserving: {sizes: [16, 32]}\n"
    gateway = await start(aiohttp_server, holding(keys), tmp_path, types=HELD)
    painter(gateway).free.set()
    url = await drawn(gateway)
    before = len(painter(gateway).requests)
    unlisted = await change(gateway, f"{url}?w=33", "json")
    forged = await change(gateway, f"{url}?w=33&expires=99999999999&signature={'0' * 64}", "json")

    assert (unlisted.status, unlisted.error["param"]) == (400, "image"), unlisted.text
    assert "16, 32" in unlisted.error["message"]
    assert (forged.status, forged.error["param"]) == (400, "image"), forged.text
    assert len(painter(gateway).requests) == before


async def test_other_places_of_this_gateway_are_not_its_pictures(held: Gateway) -> None:
    """They are addresses like all others, and the guard forbids them."""
    url = await drawn(held)
    port = held.base.rpartition(":")[2]
    for link in (
        f"{held.base}/health",
        f"{held.base}/v1/pictures",
        f"{held.base}/images/{url.rpartition('/')[2]}",
        url.replace("http://", "http://user:word@"),
        url.replace(f":{port}", f":{int(port) + 1}"),
        f"{url}?w=32",
    ):
        answer = await change(held, link, "json")

        assert (answer.status, answer.error["param"]) == (400, "image"), (link, answer.text)
        assert answer.error["code"] != "picture_not_found"


async def test_the_link_counts_as_the_client_was_given_it(aiohttp_server: Any, tmp_path: Path) -> None:
    """Below the public address, path and all; the machine's own address is no other name for it."""
    gateway = await start(
        aiohttp_server, holding("server: {public_url: 'https://img.example/gw/'}\n"), tmp_path, types=HELD
    )
    painter(gateway).free.set()
    url = await drawn(gateway)
    taken = await change(gateway, url, "json")
    local = await change(gateway, url.replace("https://img.example/gw", gateway.base), "json")

    assert url.startswith("https://img.example/gw/image/")
    assert taken.status == 200, taken.text
    assert (local.status, local.error["code"]) == (400, "blocked_address")


async def test_the_limit_of_fetched_pictures_holds_for_own_ones(aiohttp_server: Any, tmp_path: Path) -> None:
    """What is too large to be fetched is too large to be read."""
    gateway = await start(aiohttp_server, holding("fetch: {limit: 100}\n"), tmp_path, types=HELD)
    painter(gateway).free.set()
    answer = await change(gateway, await drawn(gateway), "json")

    assert (answer.status, answer.error["param"]) == (400, "image")
    assert "at most 100" in answer.error["message"]


def test_what_is_no_address_is_none_of_ours() -> None:
    """Whatever a caller sends for a link, it is not taken for a key."""
    base = "http://gw.example:8080"
    for url in ("http://", "http://[", "http://gw.example:99999/image/x", "https://gw.example:8080/image/x", "data:,x"):
        assert own_name(url, base) is None, url
    assert own_name("http://GW.example:8080/image/abc", base) == "abc"
    assert own_name("http://gw.example/image/abc", "http://gw.example:80") == "abc"
    assert own_name("http://gw.example:8080/image/../health", base) is None
