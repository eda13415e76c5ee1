"""The OpenAPI document: it is valid, it knows every route, and what is sent and answered is what it says."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator
from PIL import Image as Pillow
from pytest_aiohttp import AiohttpServer

from gateway.app import public_routes, routes
from gateway.endpoints.picture_fields import KNOWN, SPELLINGS, image_request
from gateway.errors import GatewayError
from gateway.middleware import PUBLIC
from gateway.openapi import described_routes, error_codes, make_document
from gateway.openapi_answers import answers
from gateway.openapi_examples import ANSWERS, REQUESTS
from gateway.openapi_fields import picture_fields, requests
from gateway.openapi_operations import OPERATIONS
from gateway.settings import Chat
from tests.contract import check, check_headers, check_request, operation, validator
from tests.gateways import DEMO, Answered, Gateway, start

Document = dict[str, Any]
SMALL = {"prompt": "a red fox", "size": "64x64"}


@pytest.fixture
async def gateway(aiohttp_server: AiohttpServer, tmp_path: Path) -> Gateway:
    """A gateway whose only model draws here."""
    return await start(aiohttp_server, DEMO, tmp_path)


@pytest.fixture
async def document(gateway: Gateway) -> Document:
    """The document as a client gets it."""
    found: Document = (await gateway.get("/openapi.json")).json
    return found


def png(mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Pillow.new(mode, (64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


def data_url() -> str:
    return "data:image/png;base64," + base64.b64encode(png()).decode()


def plain(path: str) -> str:
    return re.sub(r"\{([a-z]+):[^}]*\}", r"{\1}", path)


def events(answer: Answered) -> list[Any]:
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    return [chunk for chunk in answer.chunks() if chunk != "[DONE]"]


async def exchanged(gateway: Gateway, document: Document, path: str, body: dict[str, Any], **given: Any) -> Answered:
    """Post a JSON body, with the body and the answer held to the document."""
    check_request(document, "POST", path, body)
    answer = await gateway.post(path, body, **given)
    streamed = body.get("stream") and answer.status == 200
    check(document, "POST", path, answer.status, events(answer) if streamed else answer.json)
    check_headers(document, "POST", path, answer.status, answer.headers)
    return answer


async def test_the_document_is_valid(document: Document) -> None:
    """It is OpenAPI 3.1 to the validator of the specification's own schema."""
    OpenAPIV31SpecValidator(document).validate()

    assert document["openapi"].startswith("3.1")
    identities = [found["operationId"] for path in document["paths"].values() for found in path.values()]
    assert len(identities) == len(set(identities))


async def test_it_knows_exactly_the_routes_there_are(document: Document) -> None:
    """Every route of the application is in it, and nothing else; the same routes below other paths are not repeated."""
    there = {(method, plain(path)) for method, path, _ in [*routes(), *public_routes()] if "{prefix" not in path}
    described = {(method.upper(), path) for path, found in document["paths"].items() for method in found}

    assert described == there
    assert set(OPERATIONS) == there


async def test_every_operation_says_what_it_does(document: Document) -> None:
    """The words come from the handlers; none is without them, and no docstring marks are left in them."""
    for path, found in document["paths"].items():
        for method, described in found.items():
            assert len(described["summary"]) > 10, (method, path)
            assert described["summary"] != f"{method.upper()} {path}"
            assert "``" not in described["summary"] + described.get("description", "")


async def test_the_key_is_asked_for_where_the_document_says(gateway: Gateway, document: Document) -> None:
    """Without a key the secured routes answer 401 and the public ones something else."""
    async with aiohttp.ClientSession() as stranger:
        for path, found in document["paths"].items():
            for method, described in found.items():
                url = gateway.base + re.sub(r"\{[a-z]+\}", "unknown", path)
                async with stranger.request(method, url) as response:
                    secured = described.get("security") != []

                    assert (response.status == 401) == secured, (method, path)


@pytest.mark.parametrize("name", [*REQUESTS, *ANSWERS])
def test_every_example_is_what_its_schema_says(name: str) -> None:
    """Readers copy examples."""
    schemas = {**requests(), **answers()}
    example = {**REQUESTS, **ANSWERS}[name]

    validator({"components": {"schemas": schemas}}, schemas[name]).validate(example)


@pytest.mark.parametrize("name", [name for name in REQUESTS if name != "EditRequest"])
async def test_every_example_of_a_call_is_served(gateway: Gateway, document: Document, name: str) -> None:
    """With a model that is there instead of the example's own."""
    (path,) = (
        path
        for path, found in document["paths"].items()
        if found.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        == {"$ref": f"#/components/schemas/{name}"}
    )
    answer = await exchanged(gateway, document, path, {**REQUESTS[name], "model": "demo"})

    assert answer.status == 200


def test_every_field_of_a_picture_is_described() -> None:
    """What the code reads is what the document lists."""
    assert set(picture_fields()) | {"prompt"} == KNOWN | set(SPELLINGS)


VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "n": ([1, 10, None], [0, 11, 1.5, "two", True, [1]]),
    "size": (["64x64", "16:9", "auto", None], [7, {}, "x" * 21]),
    "aspect_ratio": (["16:9", "auto", None], [1.5, "x" * 21]),
    "seed": ([-1, 0, 2**63 - 1, None], [-2, 2**63, 0.5, "s"]),
    "steps": ([1, 1000, None], [0, 1001, "many"]),
    "guidance": ([0, 7.5, 100, None], [-0.1, 100.1, "strong", False]),
    "output_compression": ([0, 100, None], [-1, 101]),
    "partial_images": ([0, 3, None], [-1, 4]),
    "strict": ([True, False, None], [1, "yes", []]),
    "optimize": ([True, False, None], [0, "no"]),
    "quality": (["hd", "", None], [1, "x" * 501]),
    "negative_prompt": (["ugly", "", None], [1, ["ugly"]]),
    "model": (["demo", "", None], [3, {}, "x" * 301]),
    "user": (["ann", None], [1]),
}


@pytest.mark.parametrize("name", VALUES)
def test_the_code_and_the_document_agree_on_every_value(name: str) -> None:
    """What the schema allows is read, what it forbids is refused; no limit stands in one of them only."""
    schema = picture_fields()[name]
    allowed, forbidden = VALUES[name]
    told = validator({"components": {}}, schema)

    for value in allowed:
        assert told.is_valid(value), value
        image_request({name: value}, Chat(), "a fox")
    for value in forbidden:
        assert not told.is_valid(value), value
        with pytest.raises(GatewayError):
            image_request({name: value}, Chat(), "a fox")


async def test_chat_answers_what_is_promised(gateway: Gateway, document: Document) -> None:
    """Plain, streamed with usage, and the words that answer a chat client's own question for a title."""
    path, messages = "/v1/chat/completions", [{"role": "user", "content": "a red fox"}]
    await exchanged(gateway, document, path, {"messages": messages, "size": "64x64"})
    options = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0.3}
    await exchanged(gateway, document, path, {"messages": messages, "size": "64x64", **options})
    title = "Generate a concise, 3-5 word title with an emoji summarizing the chat history."
    await exchanged(gateway, document, path, {"messages": [{"role": "user", "content": title}]})
    parts = [{"type": "text", "text": "night"}, {"type": "image_url", "image_url": {"url": data_url()}}]
    await exchanged(gateway, document, path, {"messages": [{"role": "user", "content": parts}]})


@pytest.mark.parametrize("form", ["url", "b64_json"])
async def test_images_answer_what_is_promised(gateway: Gateway, document: Document, form: str) -> None:
    """Plain and streamed, as links and as base64, several pictures, and parameters under other names."""
    path = "/v1/images/generations"
    body = {**SMALL, "response_format": form, "n": 2, "random_seed": 5, "style": "vivid", "num_inference_steps": None}
    await exchanged(gateway, document, path, body)
    streamed = await exchanged(gateway, document, path, {**body, "stream": True, "partial_images": 2})

    assert [event["type"].rpartition(".")[2] for event in events(streamed)] == [
        "partial_image",
        "partial_image",
        "completed",
        "completed",
    ]


async def test_edits_answer_what_is_promised(gateway: Gateway, document: Document) -> None:
    """With links in JSON, and with files in a form."""
    body = {"prompt": "night", "image": [{"image_url": data_url()}], "mask": {"image_url": data_url()}}
    await exchanged(gateway, document, "/v1/images/edits", {**body, "stream": True, "partial_images": 1})
    await exchanged(gateway, document, "/v1/images/variations", {"image": data_url()})
    form = aiohttp.FormData({"prompt": "night", "n": "1"})
    form.add_field("image[]", png(), filename="fox.png", content_type="image/png")
    answer = await gateway.post("/v1/images/edits", data=form)

    check(document, "POST", "/v1/images/edits", answer.status, answer.json)
    assert answer.status == 200


async def test_responses_answer_what_is_promised(gateway: Gateway, document: Document) -> None:
    """Plain and streamed."""
    tool = {"type": "image_generation", "size": "64x64", "partial_images": 1}
    body = {"model": "demo", "input": "a red fox", "tools": [tool]}
    await exchanged(gateway, document, "/v1/responses", body)
    await exchanged(gateway, document, "/v1/responses", {**body, "stream": True})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a red fox"}]}),
        ("/v1/images/generations", SMALL),
        ("/v1/images/edits", {"prompt": "night", "image": data_url()}),
        ("/v1/images/variations", {"image": data_url()}),
        ("/v1/responses", {"input": "a red fox", "tools": [{"type": "image_generation"}]}),
    ],
)
async def test_every_drawing_call_can_be_explained_put_off_and_refused(
    gateway: Gateway, document: Document, path: str, body: dict[str, Any]
) -> None:
    """A wait, an explanation, an unknown model and a wrong field are answered alike everywhere."""
    later = await exchanged(gateway, document, path, body, headers={"Prefer": "respond-async"})
    explained = await exchanged(gateway, document, path + "?explain=true", body)
    unknown = await exchanged(gateway, document, path, {**body, "model": "nobody's"})
    wrong = await gateway.post(path, {**body, "stream": "perhaps"})
    check(document, "POST", path, wrong.status, wrong.json)

    assert (later.status, explained.status, unknown.status, wrong.status) == (202, 200, 404, 400)


async def test_jobs_and_pictures_answer_what_is_promised(gateway: Gateway, document: Document) -> None:
    """A job and its picture, asked for, listed, followed, and taken away."""
    made = await gateway.draw(size="64x64", response_format="url")
    job, key = made.json["gateway"]["job"], made.json["data"][0]["url"].rpartition("/")[2].partition(".")[0]
    gets = ["/v1/jobs", f"/v1/jobs/{job}", "/v1/pictures", f"/v1/pictures/{key}", "/v1/models", "/v1/models/demo"]
    for path in [*gets, "/health", "/v1/health", "/v1/jobs/none", "/v1/pictures/none", "/v1/jobs?limit=0"]:
        answer = await gateway.get(path)
        check(document, "GET", path, answer.status, answer.json)
        assert (answer.status == 200) == (path in gets or "health" in path), path
    followed = await gateway.get(f"/v1/jobs/{job}/events")
    check(document, "GET", f"/v1/jobs/{job}/events", 200, events(followed))
    for path, status in ((f"/v1/jobs/{job}", 409), (f"/v1/pictures/{key}", 200), (f"/v1/pictures/{key}", 404)):
        answer = await gateway.ask("DELETE", path)
        check(document, "DELETE", path, answer.status, answer.json)
        assert answer.status == status


async def test_pictures_themselves_are_answered_as_promised(gateway: Gateway, document: Document) -> None:
    """Whole, in part, unchanged, as a copy, and when there is none: with the statuses and types that are told."""
    made = await gateway.draw(size="64x64", response_format="url")
    path = made.json["data"][0]["url"].removeprefix(gateway.base)
    whole = await gateway.get(path)
    for query, headers, status in (
        ("", {}, 200),
        ("?w=64&format=webp", {}, 200),
        ("", {"Range": "bytes=0-9"}, 206),
        ("", {"If-None-Match": whole.headers["ETag"]}, 304),
        ("", {"Range": "bytes=999999999-"}, 416),
        ("", {"If-Match": '"other"'}, 412),
        ("?w=7", {}, 400),
    ):
        answer = await gateway.get(path + query, headers=headers)
        check(document, "GET", path, answer.status, answer.json if status >= 400 else answer.body)
        check_headers(document, "GET", path, answer.status, answer.headers)
        assert answer.status == status
        assert (
            status >= 300
            or answer.headers["Content-Type"] in operation(document, "GET", path)["responses"]["200"]["content"]
        )
    proxied = await gateway.get("/image-proxy?url=https://example.com/x.png")
    check(document, "GET", "/image-proxy", proxied.status, proxied.json)


async def test_errors_before_any_endpoint_have_the_promised_form(gateway: Gateway, document: Document) -> None:
    """A missing key, a wrong method, a body that is none: as the error schema says."""
    drawn = "/v1/images/generations"
    wrong_key = await gateway.post(drawn, SMALL, headers={"Authorization": "Bearer wrong"})
    no_json = await gateway.post(drawn, data=b"{", headers={"Content-Type": "application/json"})
    no_type = await gateway.post(drawn, data=b"a fox", headers={"Content-Type": "text/plain"})
    for answer, status in ((wrong_key, 401), (no_json, 400), (no_type, 415)):
        check(document, "POST", drawn, answer.status, answer.json)
        check_headers(document, "POST", drawn, answer.status, answer.headers)
        assert answer.status == status


def test_the_codes_come_from_the_tree_of_errors() -> None:
    """What is told of each status is what the code raises, without what no caller can meet."""
    codes = error_codes()

    assert "content_policy_violation" in codes[400]
    assert codes[401] == ["invalid_api_key"]
    assert "upstream_timeout" in codes[504]
    assert "configuration_error" not in codes[500]


async def test_it_tells_strangers_nothing_of_the_configuration(aiohttp_server: AiohttpServer, tmp_path: Path) -> None:
    """The document asks for no key, so it must be the same whatever models and backends there are."""
    (tmp_path / "other").mkdir()
    one = await start(aiohttp_server, DEMO, tmp_path)
    other = await start(aiohttp_server, DEMO.replace("demo:", "secret-model:"), tmp_path / "other")
    documents = [(await gateway.get("/openapi.json")).json for gateway in (one, other)]
    for found in documents:
        del found["servers"]

    assert documents[0] == documents[1]
    assert "secret-model" not in str(documents)


async def test_it_bears_the_address_it_was_asked_at_and_is_sent_once(gateway: Gateway) -> None:
    """Clients generated from it call this gateway; who has it already gets a 304."""
    first = await gateway.get("/openapi.json")
    again = await gateway.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    elsewhere = await gateway.get("/openapi.json", headers={"Host": "images.example.com"})
    hostile = await gateway.get("/openapi.json", headers={"Host": 'x"><script>'})

    assert first.json["servers"] == [{"url": gateway.base}]
    assert (again.status, again.body) == (304, b"")
    assert elsewhere.json["servers"] == [{"url": "http://images.example.com"}]
    assert "<script" not in hostile.text


def app_with(*handlers: tuple[str, str, Any]) -> web.Application:
    app = web.Application()
    for method, path, handler in handlers:
        app.router.add_route(method, path, handler)
    return app


def test_routes_of_plugins_are_described_too() -> None:
    """A plugin's own route is listed with the words of its handler and the placeholders of its path."""

    async def report(request: web.Request) -> web.Response:
        """Report ``everything``. It takes a while."""
        return web.Response()

    made = make_document(app_with(("GET", "/plugin/{name}/{rest:.+}", report)), public={"/plugin/{name}/{rest}"})
    found = made["paths"]["/plugin/{name}/{rest}"]["get"]

    OpenAPIV31SpecValidator(made).validate()
    assert (found["summary"], found["description"]) == ("Report `everything`", "It takes a while.")
    assert [parameter["name"] for parameter in found["parameters"]] == ["name", "rest"]
    assert (found["tags"], found["security"]) == (["Plugins"], [])


def test_a_handler_without_words_still_makes_a_valid_document() -> None:
    """A plugin's author who wrote no docstring must not break everybody's document."""

    async def silent(request: web.Request) -> web.Response:
        return web.Response()

    made = make_document(app_with(("POST", "/x", silent), ("*", "/y", silent)), public=set())

    OpenAPIV31SpecValidator(made).validate()
    assert made["paths"]["/x"]["post"]["summary"] == "POST /x"


async def test_what_is_public_is_told_by_the_application_itself(gateway: Gateway, document: Document) -> None:
    """The document's list of open paths is the very one that the middleware goes by."""
    assert gateway.server.app is not None
    app: web.Application = gateway.server.app
    secured = {path for _, path, _ in described_routes(app)} - app[PUBLIC]

    assert {path for path, found in document["paths"].items() if open_to_all(found)} == app[PUBLIC]
    assert not any(open_to_all(document["paths"][path]) for path in secured)


def open_to_all(found: Mapping[str, Any]) -> bool:
    return all(described.get("security") == [] for described in found.values())


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


async def test_every_schema_is_used_and_every_reference_leads_somewhere(document: Document) -> None:
    """No schema and no header is left over from an endpoint that is gone."""
    components = document["components"]
    known = {f"#/components/{kind}/{name}" for kind in ("schemas", "headers") for name in components[kind]}

    assert set(references(document)) == known
