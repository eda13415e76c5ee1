"""What each route takes and answers; its words come from the docstring of its handler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.endpoints.patience import ENVOY_TIMEOUT, TIMEOUT, WRITTEN
from gateway.imaging import EXTENSIONS
from gateway.openapi_schema import Schema, any_of, ref, text, whole
from gateway.transforms import FORMATS, QUALITIES

PICTURE: dict[str, Any] = {kind: {"schema": {"type": "string", "contentMediaType": kind}} for kind in EXTENSIONS}
JSON = "application/json"
FORM = "multipart/form-data"
EVENTS = "text/event-stream"
KEY_ERRORS = (401,)
JOB_ERRORS = (400, 401, 403, 404, 408, 409, 410, 413, 415, 429, 500, 502, 503, 504, 507)


@dataclass(frozen=True)
class Operation:
    """One route: *body* and *answers* are media type → schema, *errors* the statuses of errors to be expected."""

    tag: str
    answers: Mapping[int, Mapping[str, Any]]
    body: Mapping[str, Schema] = field(default_factory=dict)
    parameters: tuple[dict[str, Any], ...] = ()
    errors: tuple[int, ...] = ()
    more: str = ""


def parameter(place: str, name: str, schema: Schema, about: str, **more: Any) -> dict[str, Any]:
    required = {"required": True} if place == "path" else {}
    return {"name": name, "in": place, "schema": schema, "description": about, **required, **more}


def events(name: str, about: str) -> dict[str, Any]:
    """Give a stream: `x-event-schema` is what the data of each event is, since OpenAPI 3.1 has no word for it."""
    return {"schema": {"type": "string", "description": about}, "x-event-schema": ref(name)}


def _drawing(answer: str, event: str, ending: str, request: str, form: str = "", *, more: str = "") -> Operation:
    """Give an endpoint that takes a job: plain, streamed, answered later, or only explained."""
    told = f"With `stream`: the data of each event is one of these; {ending}"
    ok = {JSON: {"schema": any_of(ref(answer), ref("Explanation"))}, EVENTS: events(event, told)}
    body = ({FORM: ref(form)} if form else {}) | {JSON: ref(request)}
    return Operation("Drawing", {200: ok, 202: {JSON: {"schema": ref("Job")}}}, body, CALL, JOB_ERRORS, more)


def _json(name: str) -> dict[str, Any]:
    return {JSON: {"schema": ref(name)}}


CALL = (
    parameter(
        "header",
        "Idempotency-Key",
        text(pattern="^[!-~]{1,255}$"),
        "The same key with the same body is the same job, running or finished, paid for once; with another, a 409.",
    ),
    parameter(
        "header",
        "Prefer",
        text(),
        "`respond-async` answers 202 with a job, to be asked for later; with `wait=N` only if it takes N seconds.",
    ),
    parameter(
        "header",
        TIMEOUT,
        text(pattern=f"^{WRITTEN}$"),
        "How long you will wait: seconds, or `20s`, `500ms`. What has not been sent by then is dropped: a 504, and no "
        "bill. What was sent goes on, and jobs to be asked for later always do. Envoy's own "
        f"`{ENVOY_TIMEOUT}` says the same.",
    ),
    parameter(
        "query",
        "explain",
        text(enum=["true", "1", "false", "0"]),
        "Tell what would be done and sent, and spend nothing.",
    ),
)
PAGING = (
    parameter("query", "limit", whole("", 1, 100), "How many, 20 without it."),
    parameter("query", "after", text(), "The id of the last one of the page before."),
)
MODEL = parameter("path", "id", text(), "The model's name, as it is or percent-encoded; it may have slashes in it.")
JOB = parameter("path", "id", text(), "The job's id.")
KEY = parameter("path", "key", text(), "The picture's id.")
COPY = (
    parameter("path", "key", text(), "The picture's id, with or without the extension of its type."),
    parameter("query", "w", whole("", 1), "A smaller copy, this wide; one of the configured sizes, or signed."),
    parameter("query", "h", whole("", 1), "A smaller copy, this high; one of the configured sizes, or signed."),
    parameter("query", "format", text(enum=[*FORMATS, "jpg"]), "A copy of another type."),
    parameter("query", "quality", whole("", QUALITIES[0], QUALITIES[-1]), "Of the copy, in steps of five."),
    parameter("query", "expires", text(), "Until when a signed link holds."),
    parameter("query", "signature", text(), "The signature of a link of `POST /v1/pictures/{key}/links`."),
    parameter("query", "download", text(), "With `1` or `true` browsers save it."),
)
PROXIED = (
    parameter("query", "url", text(), "What to fetch.", required=True),
    parameter("query", "exp", text(), "Until when a signed link holds."),
    parameter("query", "sig", text(), "The signature of a link that this gateway made."),
)
LAST = parameter("header", "Last-Event-ID", text(pattern="^[0-9]{0,9}$"), "Begin after this event.")
SIZED = {304: {}, 400: _json("Error"), 404: _json("Error"), 412: _json("Error"), 416: _json("Error")}
HTML = {"text/html": {"schema": {"type": "string"}}}
SERVED_HERE = (
    "Served as far as pictures go: the one tool must be `image_generation`, nothing of a conversation is "
    "kept, and every other use is a 400."
)

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/v1/chat/completions"): _drawing(
        "ChatCompletion", "ChatChunk", "the last data is `[DONE]`; a failure is an `Error`.", "ChatRequest"
    ),
    ("POST", "/v1/images/generations"): _drawing(
        "Images", "ImageEvent", "previews, then each finished picture.", "ImageRequest"
    ),
    ("POST", "/v1/images/edits"): _drawing(
        "Images", "ImageEvent", "previews, then each finished picture.", "EditRequest", "EditForm"
    ),
    ("POST", "/v1/images/variations"): _drawing(
        "Images", "ImageEvent", "previews, then each finished picture.", "VariationRequest", "VariationForm"
    ),
    ("POST", "/v1/responses"): _drawing(
        "Response",
        "ResponseEvent",
        "the last is `response.completed` or `response.failed`.",
        "ResponsesRequest",
        more=SERVED_HERE,
    ),
    ("GET", "/v1/models"): Operation("Models", {200: _json("ModelList")}, errors=KEY_ERRORS),
    ("GET", "/v1/models/{id}"): Operation("Models", {200: _json("Model")}, {}, (MODEL,), (401, 403, 404)),
    ("GET", "/v1/jobs"): Operation("Jobs", {200: _json("JobList")}, {}, PAGING, (400, 401, 404)),
    ("GET", "/v1/jobs/{id}"): Operation("Jobs", {200: _json("Job")}, {}, (JOB,), (401, 404)),
    ("DELETE", "/v1/jobs/{id}"): Operation("Jobs", {200: _json("Job")}, {}, (JOB,), (401, 404, 409)),
    ("GET", "/v1/jobs/{id}/events"): Operation(
        "Jobs",
        {200: {EVENTS: events("JobEvent", "Each event of the job, with its number as the id.")}, 204: {}},
        {},
        (
            JOB,
            LAST,
            parameter(
                "query", "after", whole("", 0, 999_999_999), "The same as the header, for clients without headers."
            ),
        ),
        (400, 401, 404),
    ),
    ("GET", "/v1/pictures"): Operation("Pictures", {200: _json("PictureList")}, {}, PAGING, (400, 401)),
    ("GET", "/v1/pictures/{key}"): Operation("Pictures", {200: _json("PictureDetails")}, {}, (KEY,), (401, 404)),
    ("DELETE", "/v1/pictures/{key}"): Operation("Pictures", {200: _json("DeletedPicture")}, {}, (KEY,), (401, 404)),
    ("POST", "/v1/pictures/{key}/links"): Operation(
        "Pictures", {200: _json("PictureLink")}, {JSON: ref("LinkRequest")}, (KEY,), (400, 401, 404, 413, 415)
    ),
    ("GET", "/image/{key}"): Operation(
        "Pictures", {200: PICTURE, 206: PICTURE, 302: {}, **SIZED}, {}, COPY, (403, 502, 503)
    ),
    ("GET", "/image-proxy"): Operation("Pictures", {200: PICTURE}, {}, PROXIED, (400, 403, 404, 415, 422, 502, 504)),
    ("GET", "/health"): Operation("About", {200: _json("Health"), 503: _json("Health")}),
    ("GET", "/v1/health"): Operation("About", {200: _json("Health"), 503: _json("Health")}),
    ("GET", "/openapi.json"): Operation("About", {200: {JSON: {"schema": {"type": "object"}}}, 304: {}}),
    ("GET", "/"): Operation("About", {200: HTML, 304: {}}),
    ("GET", "/docs"): Operation("About", {200: HTML, 304: {}}),
    ("GET", "/pages/{name}"): Operation(
        "About",
        {200: {kind: {"schema": {"type": "string"}} for kind in ("text/html", "text/css", "text/javascript")}, 304: {}},
        {},
        (parameter("path", "name", text(), "A file of the pages."),),
        (404,),
    ),
}
