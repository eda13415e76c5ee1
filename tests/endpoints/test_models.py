"""The list of models is what the caller may use, in the form that clients read."""

from urllib.parse import quote

import pytest
from yarl import URL

from tests.gateways import CALLER_KEY, OTHER_KEY, STORAGES, start

CLOUDFLARE = "@cf/black-forest-labs/flux-1-schnell"
YAML = (
    STORAGES
    + f"""\
authenticators:
  keys:
    use: api_keys
    keys:
      - {{name: ann, key: {CALLER_KEY}}}
      - {{name: bob, key: {OTHER_KEY}, models: ["flux*"]}}
backends: {{here: {{use: demo}}}}
models:
  flux: {{backends: [{{backend: here}}], aliases: ["{CLOUDFLARE}", flux-fast], description: Draws}}
  "other:image": {{backends: [{{backend: here}}]}}
  "gpt-image-*": {{backends: [{{backend: here, model: "*"}}]}}
"""
)


MINE = {"Authorization": f"Bearer {OTHER_KEY}"}


@pytest.fixture
async def gateway(aiohttp_server, tmp_path):
    return await start(aiohttp_server, YAML, tmp_path)


async def test_the_list_has_the_form_of_openai(gateway):
    """Names, aliases included; each with every field that a typed client holds."""
    answer = await gateway.get("/v1/models")
    listed = answer.json

    assert answer.status == 200
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["flux", CLOUDFLARE, "flux-fast", "other:image"]
    for model in listed["data"]:
        assert model["object"] == "model"
        assert type(model["created"]) is int
        assert model["owned_by"]
        assert model["architecture"]["output_modalities"] == ["image"]


@pytest.mark.parametrize("name", [CLOUDFLARE, quote(CLOUDFLARE, safe=""), quote(CLOUDFLARE), "flux", "other:image",
                                  "other%3Aimage", "gpt-image-9"])  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "/openai"])
async def test_a_model_is_found_raw_and_encoded(gateway, name, prefix):
    """Slashes, at signs and colons as clients write them."""
    url = URL(f"{gateway.base}{prefix}/v1/models/{name}", encoded=True)
    async with gateway.session.get(url) as response:
        body = await response.json()

    assert response.status == 200, body
    assert body["object"] == "model"
    assert quote(body["id"], safe="") == quote(name, safe="%").replace("%25", "%") or body["id"] in {CLOUDFLARE, name}


@pytest.mark.parametrize(
    "name", ["nobody", "FLUX", "flux/", "flux/x", "%00", "..", "gpt-image", "x" * 3_000, "*", "<b>"]
)
async def test_an_unknown_model_is_a_404_that_names_the_known(gateway, name):
    """In OpenAI's form, without any name of an upstream."""
    answer = await gateway.get(f"/v1/models/{quote(name, safe='%')}")

    assert answer.status == 404, answer.text
    assert answer.error["code"] in {"model_not_found", "path_not_found"}
    assert len(answer.text) < 1_000


async def test_a_key_sees_only_what_it_may_use(gateway):
    """In the list, one by one, and in the words of errors."""
    listed = (await gateway.get("/v1/models", headers=MINE)).json["data"]
    other = await gateway.get("/v1/models/other:image", headers=MINE)
    drawn = await gateway.post("/v1/images/generations", {"prompt": "x", "model": "other:image"}, headers=MINE)
    unknown = await gateway.post("/v1/images/generations", {"prompt": "x", "model": "nobody"}, headers=MINE)

    assert [model["id"] for model in listed] == ["flux", "flux-fast"]
    assert other.status in {403, 404}
    assert drawn.status == 403
    assert drawn.error["code"] == "model_not_allowed"
    assert "other:image" not in unknown.error["message"]


async def test_the_list_shows_what_a_model_can_do(gateway):
    """As data, so that a client need not guess."""
    (model, *_) = (await gateway.get("/v1/models")).json["data"]

    assert model["description"] == "Draws"
    assert "parameters" in str(model["capabilities"])


async def test_a_limited_key_cannot_reach_the_default_model_by_an_unknown_name(aiohttp_server, tmp_path):
    """The name fits the key's pattern, but what stands in for it does not."""
    yaml = YAML + 'default_model: "other:image"\nunknown_model: default\n'
    gateway = await start(aiohttp_server, yaml, tmp_path)
    asked = {"prompt": "a cat", "size": "64x64", "response_format": "url"}
    refused = await gateway.post("/v1/images/generations", {**asked, "model": "flux-nobody"}, headers=MINE)
    drawn = await gateway.post("/v1/images/generations", {**asked, "model": "flux-fast"}, headers=MINE)

    assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
    assert drawn.status == 200


async def test_a_key_may_be_limited_to_an_alias(aiohttp_server, tmp_path):
    """Then the alias draws, and the model's own name does not."""
    gateway = await start(aiohttp_server, YAML.replace('models: ["flux*"]', "models: [flux-fast]"), tmp_path)
    asked = {"prompt": "a cat", "size": "64x64", "response_format": "url"}

    assert (await gateway.post("/v1/images/generations", {**asked, "model": "flux-fast"}, headers=MINE)).status == 200
    assert (await gateway.post("/v1/images/generations", {**asked, "model": "flux"}, headers=MINE)).status == 403


async def test_a_key_may_be_limited_to_an_alias_that_is_a_pattern(aiohttp_server, tmp_path):
    """What the pattern stands for is open to it by such a name, and by no other."""
    yaml = YAML.replace("flux-fast]", 'flux-fast, "quick-*"]').replace('["flux*"]', '["quick-*"]')
    gateway = await start(aiohttp_server, yaml, tmp_path)
    quick = await gateway.post("/v1/images/generations", {"prompt": "a fox", "model": "quick-1"}, headers=MINE)
    direct = await gateway.post("/v1/images/generations", {"prompt": "a fox", "model": "flux"}, headers=MINE)

    assert quick.status == 200, quick.text
    assert direct.status == 403
