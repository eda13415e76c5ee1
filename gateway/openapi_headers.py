"""The headers that answers bear, by their status: what a client is told besides the body."""

from __future__ import annotations

from typing import Any

from gateway.openapi_schema import Schema, text, whole

HEADERS: dict[str, tuple[Schema, str]] = {
    "x-request-id": (text(pattern="^[A-Za-z0-9._-]{8,64}$"), "The call's id, to ask the gateway's owner about."),
    "Location": (text(pattern="^https?://"), "Where to go on."),
    "Retry-After": (whole("", 1), "Seconds after which to ask again, reckoned from real waiting times."),
    "Preference-Applied": (text(), "Which preference was followed."),
    "WWW-Authenticate": (text(), "How to send a key."),
    "x-should-retry": (text(enum=["true", "false"]), "Whether OpenAI's SDKs repeat the call by themselves."),
    "ETag": (text(), "Names these very bytes."),
    "Cache-Control": (text(), "For how long the picture may be kept: never longer than it lives."),
    "Content-Disposition": (text(), "A file name for whoever saves it."),
    "Content-Range": (text(), "Which part of the picture this is."),
}
SOMETIMES = {"Retry-After", "x-should-retry"}
"""All the others are in every answer that names them."""
ACCEPTED = ("Location", "Retry-After", "Preference-Applied")
BY_STATUS = {
    202: ACCEPTED,
    302: ("Location",),
    401: ("WWW-Authenticate",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
WHOLE = ("ETag", "Cache-Control", "Content-Disposition")
OF_PICTURES = {200: WHOLE, 206: (*WHOLE, "Content-Range"), 304: ("ETag", "Cache-Control")}


def header_components() -> dict[str, Any]:
    """Give every header once; answers refer to them."""
    return {
        name: {"description": about, "schema": schema, "required": name not in SOMETIMES}
        for name, (schema, about) in HEADERS.items()
    }


def headers_of(status: int, *, picture: bool = False) -> dict[str, Any]:
    """Give the headers of an answer with *status*, 0 for any error; *picture*: its body is a stored picture."""
    names = ["x-request-id", *BY_STATUS.get(status, ()), *(OF_PICTURES.get(status, ()) if picture else ())]
    if status == 0 or status >= 400:
        names.append("x-should-retry")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
