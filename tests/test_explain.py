"""What an explanation shows to callers, and what it never shows."""

from dataclasses import dataclass

import pytest

from gateway import Capabilities, Outgoing
from tests.canaries import MARK
from tests.fake_upstream import png
from tests.gateways import AUTHENTICATORS, STORAGES, drawing_by, start


async def explained(aiohttp_server, tmp_path, yaml, types=None, **body):
    gateway = await start(aiohttp_server, yaml, tmp_path, types=types)
    path = "/v1/images/edits" if "image" in body else "/v1/images/generations"
    answer = await gateway.post(f"{path}?explain=true", {"prompt": "a red fox", **body})
    assert answer.status == 200
    return answer


async def test_secrets_of_the_configuration_are_not_explained(fake, aiohttp_server, tmp_path):
    """A proxy's password may stand in a header; callers see that it is there, not what it is."""
    headers = f"headers: {{cf-aig-authorization: Bearer {MARK}, X-Key: {MARK}}}, dialect: custom"
    yaml = drawing_by(fake.base).replace("dialect: custom", headers)
    call = (await explained(aiohttp_server, tmp_path, yaml)).json["calls"][0]

    assert call["url"].endswith("/v1/images/generations")
    assert set(call["headers"].values()) <= {"…"}


@dataclass
class Spoken:
    """A plugin that puts what its upstream asks for into the address."""

    def capabilities(self, model):
        return Capabilities()

    async def generate(self, request, report):
        return []

    def outgoing(self, request):
        return Outgoing("GET", f"http://user:{MARK}@up.example/draw")


async def test_a_password_in_an_address_is_not_explained(aiohttp_server, tmp_path):
    """Our own options take none, but a plugin may."""
    yaml = AUTHENTICATORS + STORAGES + "backends: {up: {use: spoken}}\nmodels: {flux: {backends: [{backend: up}]}}\n"
    call = (await explained(aiohttp_server, tmp_path, yaml, types={"backends": {"spoken": Spoken}})).json["calls"][0]

    assert call["url"] == "http://up.example/draw"


async def test_secrets_in_a_query_are_not_explained(fake, aiohttp_server, tmp_path):
    """Some upstreams take their key as a parameter of the address."""
    yaml = drawing_by(fake.base).replace(
        "dialect: custom", f'endpoint: "{fake.base}/images?key={MARK}&api-version=3", dialect: custom'
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


PAID = [
    ("/v1/images/generations", {"prompt": "a fox"}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a fox"}]}),
    ("/v1/responses", {"input": "a fox", "tools": [{"type": "image_generation"}]}),
]


@pytest.mark.parametrize(("path", "body"), PAID)
async def test_a_misspelt_explain_draws_nothing(fake, aiohttp_server, tmp_path, path, body):
    """Whoever writes yes for true, nothing, or both must not find a picture on the bill; false is false."""
    gateway = await start(aiohttp_server, drawing_by(fake.base), tmp_path)
    for query in ("explain=yes", "explain", "explain=", "explain=0&explain=1", "explain=true&explain=false"):
        wrong = await gateway.post(f"{path}?{query}", body)
        assert (wrong.status, wrong.error["param"]) == (400, "explain"), query
    drawn = await gateway.post(f"{path}?explain=false&explain=FALSE", body)

    assert drawn.status == 200
    assert len(fake.calls) == 1


@pytest.mark.parametrize(("path", "body"), PAID)
async def test_an_explanation_refuses_what_the_call_itself_would(fake, aiohttp_server, tmp_path, path, body):
    """A webhook, a wish to wait, or a key that is none."""
    gateway = await start(aiohttp_server, drawing_by(fake.base), tmp_path)
    for more, headers, param in (
        ({"webhook": "ftp://x"}, {}, "webhook"),
        ({"async": "perhaps"}, {}, "async"),
        ({}, {"Idempotency-Key": "x" * 256}, "Idempotency-Key"),
    ):
        answer = await gateway.post(f"{path}?explain=true", {**body, **more}, headers=headers)

        assert (answer.status, answer.error["param"]) == (400, param)


async def test_metadata_of_a_response_is_an_object(fake, aiohttp_server, tmp_path):
    """As the document says; null is none."""
    gateway = await start(aiohttp_server, drawing_by(fake.base), tmp_path)
    path, body = PAID[2]
    wrong = await gateway.post(path, {**body, "metadata": ["x"]})
    right = await gateway.post(path, {**body, "metadata": {"order": "7"}})
    none = await gateway.post(path, {**body, "metadata": None})

    assert (wrong.status, wrong.error["param"]) == (400, "metadata")
    assert (right.json["metadata"], none.json["metadata"]) == ({"order": "7"}, {})
