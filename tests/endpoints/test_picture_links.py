"""Callers make links to copies of their own pictures; strangers see what such a link shows, and nothing else."""

from io import BytesIO

import pytest
from aiohttp import ClientSession
from PIL import Image as Pillow

from gateway.copy_links import CopyLink, sign_copy
from gateway.transforms import Transform
from tests.canaries import CALLER_KEY, OTHER_KEY
from tests.gateways import DEMO, STORAGES, start

KEYS = ("the-first-link-key-0123", "an-older-link-key-0123")
SIGNED = DEMO + f"proxy: {{keys: [{', '.join(KEYS)}]}}\nserving: {{sizes: [64]}}\n"


@pytest.fixture
async def gateway(aiohttp_server, tmp_path):
    return await start(aiohttp_server, SIGNED, tmp_path)


async def drawn(gateway):
    """Have a picture of 128 by 128 drawn; give its path without the extension, and its key."""
    answer = await gateway.draw(size="128x128", response_format="url")
    path = answer.json["data"][0]["url"].removeprefix(gateway.base).rpartition(".")[0]
    return path, path.rpartition("/")[2]


async def linked(gateway, key, **fields):
    answer = await gateway.post(f"/v1/pictures/{key}/links", fields)
    assert answer.status == 200, answer.text
    return answer.json["url"].removeprefix(gateway.base)


async def test_a_link_shows_a_size_that_is_on_no_list(gateway):
    """Without a key of one's own, in the very size and type, kept no longer than the link holds."""
    path, key = await drawn(gateway)
    refused = await gateway.get(f"{path}?w=77")
    answer = await gateway.post(
        f"/v1/pictures/{key}/links", {"width": 77, "format": "webp", "quality": 33, "expires_in": 60}
    )

    assert refused.status == 400
    assert answer.json["object"] == "picture.link"
    async with ClientSession() as stranger, stranger.get(answer.json["url"]) as shown:
        assert (shown.status, shown.headers["Content-Type"]) == (200, "image/webp")
        assert int(shown.headers["Cache-Control"].partition("max-age=")[2].partition(",")[0]) <= 60
        assert Pillow.open(BytesIO(await shown.read())).size == (77, 77)


async def test_extension_head_and_range_work_with_a_link(gateway):
    """A link names the picture and not its spelling: with and without extension, in part, without body."""
    path, key = await drawn(gateway)
    link = await linked(gateway, key, width=77, format="webp")
    query = link.partition("?")[2]

    assert link.startswith(f"{path}.png?")
    assert (await gateway.get(f"{path}?{query}")).status == 200
    assert (await gateway.ask("HEAD", link)).status == 200
    part = await gateway.get(link, headers={"Range": "bytes=0-3"})
    assert (part.status, part.body) == (206, b"RIFF")
    assert (await gateway.get(f"{path}.gif?{query}")).status == 404


async def test_a_changed_link_is_a_403(gateway):
    """Another size, another picture, more and fewer parameters: refused, whether the picture is there or not."""
    path, key = await drawn(gateway)
    other, _ = await drawn(gateway)
    link = await linked(gateway, key, width=77, height=50)
    query = link.partition("?")[2]
    values = dict(pair.split("=") for pair in query.split("&"))
    tries = [
        f"{path}?{query}&quality=1",
        f"{path}?{query}&format=png",
        f"{path}?{query}&download=1",
        f"{path}?{query}&w=78",
        f"{path}?w=78&{query}",
        f"{path}?{query.replace('w=77', 'w=78')}",
        f"{path}?{query.replace('w=77&', '')}",
        f"{path}?{query.replace(values['signature'], values['signature'].upper())}",
        f"{path}?{query.replace('&signature', '&SIGNATURE')}",
        f"{path}?h=50&w=77&expires={values['expires']}&signature={values['signature']}",
        f"{path}?{query.replace(values['expires'], str(int(values['expires']) + 1))}",
        f"{path}?w=64&signature={values['signature']}",
        f"{path}?w=64&expires={values['expires']}",
        f"{path}?signature=",
        f"{other}?{query}",
        f"/image/nobody-has-this-one?{query}",
    ]
    for attempt in tries:
        answer = await gateway.get(attempt)
        assert (answer.status, answer.error["code"]) == (403, "invalid_link"), attempt
    assert (await gateway.get(link)).status == 200
    assert (await gateway.get(f"{path}?w=77")).status == 400
    assert (await gateway.get(f"{path}?w=64")).status == 200


async def test_expired_and_rotated_links(gateway):
    """A link of the older key holds; one of a stranger's key, and one whose time has come, do not."""
    path, key = await drawn(gateway)
    ends = 4_000_000_000
    statuses = [
        (await gateway.get(f"{path}?{sign_copy(CopyLink(key, Transform(77), until), [by])}")).status
        for by, until in ((KEYS[1], ends), ("a-strangers-key-0123", ends), (KEYS[0], 1_000_000_000))
    ]

    assert statuses == [200, 403, 403]


async def test_without_keys_only_the_list_counts(aiohttp_server, tmp_path):
    """A signature is then a parameter like any other unknown one, and no link can be made."""
    gateway = await start(aiohttp_server, DEMO + "serving: {sizes: [64]}\n", tmp_path)
    path, key = await drawn(gateway)
    query = sign_copy(CopyLink(key, Transform(77), 4_000_000_000), KEYS)
    made = await gateway.post(f"/v1/pictures/{key}/links", {"width": 77})

    assert (await gateway.get(f"{path}?{query}")).status == 400
    assert (await gateway.get(f"{path}?w=64&signature=x")).status == 200
    assert (made.status, made.error["code"]) == (404, "links_not_configured")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "width"),
        ({"width": None}, "width"),
        ({"width": "77"}, "width"),
        ({"width": True}, "width"),
        ({"width": 77.0}, "width"),
        ({"width": 0}, "width"),
        ({"width": 10**30}, "width"),
        ({"height": [1]}, "height"),
        ({"quality": 101}, "quality"),
        ({"format": "svg"}, "format"),
        ({"format": 5}, "format"),
        ({"width": 5, "expires_in": 0}, "expires_in"),
        ({"width": 5, "expires_in": -1}, "expires_in"),
        ({"width": 5, "expires_in": "never"}, "expires_in"),
        ({"width": 5, "expires_in": True}, "expires_in"),
        ({"width": 5, "expires_in": 1e300}, "expires_in"),
        ({"width": 5, "expires_in": {}}, "expires_in"),
        ({"width": 5, "url": "x"}, "url"),
        ({"w": 5}, "w"),
    ],
)
async def test_a_senseless_wish_is_told(gateway, body, param):
    """What cannot be signed is 400 and names the field."""
    _, key = await drawn(gateway)
    answer = await gateway.post(f"/v1/pictures/{key}/links", body)

    assert (answer.status, answer.error["param"]) == (400, param)


async def test_links_are_made_for_ones_own_pictures_only(aiohttp_server, tmp_path):
    """Another caller's picture is answered like none at all, and without a key there is no answer at all."""
    keys = f"keys: [{{name: ann, key: {CALLER_KEY}}}, {{name: bob, key: {OTHER_KEY}}}]"
    text = f"authenticators: {{keys: {{use: api_keys, {keys}}}}}\n" + STORAGES + SIGNED.partition(STORAGES)[2]
    gateway = await start(aiohttp_server, text, tmp_path)
    _, key = await drawn(gateway)
    path = f"/v1/pictures/{key}/links"
    as_bob = {"Authorization": f"Bearer {OTHER_KEY}"}

    assert (await gateway.post(path, {"width": 5}, headers=as_bob)).status == 404
    assert (await gateway.post("/v1/pictures/nobody-has-this/links", {"width": 5})).status == 404
    assert (await gateway.post(path, {"width": 5}, headers={"Authorization": ""})).status == 401
    assert (await gateway.post(path, {"width": 5})).status == 200


async def test_a_link_enlarges_nothing(gateway):
    """However large a copy was signed, none is larger than its picture."""
    _, key = await drawn(gateway)
    shown = await gateway.get(await linked(gateway, key, width=99_999, height=99_999, format="jpeg"))

    assert Pillow.open(BytesIO(shown.body)).size == (128, 128)
