"""What an explanation shows to callers, and what it never shows."""

import pytest

from tests.canaries import MARK
from tests.fake_upstream import png
from tests.gateways import drawing_by, start


async def explained(aiohttp_server, tmp_path, yaml, **body):
    gateway = await start(aiohttp_server, yaml, tmp_path)
    path = "/v1/images/edits" if "image" in body else "/v1/images/generations"
    answer = await gateway.post(f"{path}?explain=true", {"prompt": "a red fox", **body})
    assert answer.status == 200
    return answer


@pytest.mark.parametrize(
    ("found", "written"),
    [
        ("dialect: custom", f"headers: {{cf-aig-authorization: Bearer {MARK}, X-Key: {MARK}}}, dialect: custom"),
        ("http://", f"http://user:{MARK}@"),
    ],
    ids=["headers", "address"],
)
async def test_secrets_of_the_configuration_are_not_explained(fake, aiohttp_server, tmp_path, found, written):
    """A proxy's password may stand in a header or an address; callers see that it is there, not what it is."""
    yaml = drawing_by(fake.base)
    yaml = yaml[: yaml.index(found)] + written + yaml[yaml.index(found) + len(found) :]
    call = (await explained(aiohttp_server, tmp_path, yaml)).json["calls"][0]

    assert call["url"].endswith("/v1/images/generations")
    assert set(call["headers"].values()) <= {"…"}


async def test_secrets_in_a_query_are_not_explained(fake, aiohttp_server, tmp_path):
    """Some upstreams take their key as a parameter of the address."""
    yaml = drawing_by(fake.base).replace(
        "dialect: custom", f'endpoint: "/images?key={MARK}&api-version=3", dialect: custom'
    )
    call = (await explained(aiohttp_server, tmp_path, yaml)).json["calls"][0]

    assert "key=…" in call["url"]
    assert "api-version=3" in call["url"]


async def test_the_pictures_of_an_edit_are_shown_in_part(fake, aiohttp_server, tmp_path):
    """Ten calls with the caller's own pictures in them would be the largest answer of all."""
    fake.picture = png(400, 400, noise=100_000)
    yaml = drawing_by(fake.base).replace("custom: {", "custom: {inputs: 1, edits: /edits, image_field: image, ")
    answer = await explained(aiohttp_server, tmp_path, yaml, image=fake.file_url(), n=10)

    assert len(answer.body) < 1_000_000
    assert "bytes" in answer.json["calls"][0]["note"]
