"""/v1/pictures shows and deletes a caller's own pictures and nobody else's."""

import pytest
from aiohttp import web
from gateway_plugins.storages.memory import Memory

from gateway import Caller
from gateway.endpoints.answers import CALLER
from gateway.endpoints.pictures import delete_picture, list_pictures, show_picture
from gateway.errors import GatewayError
from tests.plugins.storages.pictures import PNG, picture

BASE = "https://pictures.example"


@pytest.fixture
async def storages():
    storages = {"one": Memory(ttl=0), "two": Memory(ttl=0)}
    for number in range(7):
        owner = "bob" if number == 3 else "ann"
        storage = storages["one" if number < 4 else "two"]
        details = {"prompt": f"cat {number}", "seed": number, "receipt": {"target": "x"}, "original": "cat"}
        await storage.put(picture(f"picture-{number}", owner=owner, created=1000.0 + number, details=details), PNG)
    return storages


@pytest.fixture
async def client(aiohttp_client, storages):
    @web.middleware
    async def as_ann(request, handler):
        request[CALLER] = Caller(request.headers.get("X-Caller", "ann"))
        try:
            return await handler(request)
        except GatewayError as error:
            return web.json_response(error.as_json(), status=error.status)

    async def all_of_them(request):
        return await list_pictures(request, storages, BASE)

    async def one(request):
        return await show_picture(request, storages, BASE)

    async def no_more(request):
        return await delete_picture(request, storages)

    app = web.Application(middlewares=[as_ann])
    app.router.add_get("/v1/pictures", all_of_them)
    app.router.add_get("/v1/pictures/{key}", one)
    app.router.add_delete("/v1/pictures/{key}", no_more)
    return await aiohttp_client(app)


async def test_lists_own_pictures_newest_first(client):
    """The list is OpenAI's kind of list, with the caller's own pictures only."""
    answer = await (await client.get("/v1/pictures")).json()

    assert answer["object"] == "list"
    assert [entry["id"] for entry in answer["data"]] == [f"picture-{number}" for number in (6, 5, 4, 2, 1, 0)]
    assert (answer["has_more"], answer["first_id"], answer["last_id"]) == (False, "picture-6", "picture-0")
    assert answer["data"][0]["url"] == f"{BASE}/image/picture-6.png"
    assert answer["data"][0]["prompt"] == "cat 6"


async def test_pages_without_gaps_or_doubles(client):
    """Following last_id gives every picture once."""
    seen, after = [], ""
    while True:
        answer = await (await client.get(f"/v1/pictures?limit=2{after}")).json()
        seen += [entry["id"] for entry in answer["data"]]
        if not answer["has_more"]:
            break
        after = f"&after={answer['last_id']}"

    assert seen == [f"picture-{number}" for number in (6, 5, 4, 2, 1, 0)]


async def test_an_empty_list_is_a_list(client):
    """Who has nothing gets an empty list."""
    answer = await (await client.get("/v1/pictures", headers={"X-Caller": "carol"})).json()

    assert (answer["data"], answer["has_more"], answer["first_id"]) == ([], False, None)


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=-1", "limit=1e1", "limit=٣", "limit="])
async def test_bad_limits_are_told(client, query):
    """A limit out of range is 400 and names the range."""
    response = await client.get(f"/v1/pictures?{query}")

    assert response.status == 400
    assert "1 to 100" in (await response.json())["error"]["message"]


async def test_an_unknown_cursor_is_told(client):
    """A cursor that is another caller's picture, or none, is 400 and says nothing more."""
    for after in ("picture-3", "no-such-picture", "..%2f"):
        assert (await client.get(f"/v1/pictures?after={after}")).status == 400


async def test_shows_everything_known(client):
    """One picture is shown with prompt, seed, receipt, hash and expiry."""
    answer = await (await client.get("/v1/pictures/picture-6")).json()

    assert (answer["seed"], answer["receipt"], answer["original_prompt"]) == (6, {"target": "x"}, "cat")
    assert (answer["bytes"], answer["expires"], len(answer["sha256"])) == (len(PNG), None, 64)
    assert "owner" not in answer


@pytest.mark.parametrize("method", ["get", "delete"])
async def test_other_callers_pictures_are_not_there(client, storages, method):
    """Another caller's key is 404, the same as no key at all, and stays."""
    foreign = await getattr(client, method)("/v1/pictures/picture-3")
    nothing = await getattr(client, method)("/v1/pictures/no-such-picture")

    assert (foreign.status, await foreign.json()) == (nothing.status, await nothing.json())
    assert foreign.status == 404
    assert await storages["one"].get("picture-3")


async def test_deletes_everywhere(client, storages):
    """After DELETE no storage has it, and a second DELETE is 404."""
    await storages["one"].put(picture("picture-6"), PNG)
    answer = await (await client.delete("/v1/pictures/picture-6")).json()

    assert answer["deleted"] is True
    assert [await storage.get("picture-6") for storage in storages.values()] == [None, None]
    assert (await client.delete("/v1/pictures/picture-6")).status == 404
