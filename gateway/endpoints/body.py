"""Reads a request's body within limits of size, time and shape."""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from gateway.deadline import within
from gateway.errors import BodyTooLargeError, RequestError, SlowBodyError
from gateway.runtime import RUNTIME
from gateway.settings import Server

LARGE = 2**20
"""Bytes of a body from which memory is looked at before it is read."""
MOST_PARTS = 100_000
HOW = frozenset({"async", "webhook"})
PLAIN = ("", "identity")
STEP = 2**16
PACKED = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""The codings that are unpacked, with the window bits that tell zlib which it is."""
JSON_TYPES = {"application/json", "application/octet-stream", ""}


async def read_body(request: web.Request, server: Server) -> bytes:
    """Read the whole body, unpacked; raise `BodyTooLargeError`, or `SlowBodyError` after *body_timeout*."""
    if (request.content_length or 0) > server.max_body:
        raise _too_large(server)
    refuse_when_short(request)
    try:
        # Most bodies have come with their headers.
        body = await within(server.body_timeout, request.read())
    except TimeoutError:
        raise SlowBodyError(f"the body did not arrive within {server.body_timeout:g} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(server) from None
    except (ValueError, web.RequestPayloadError) as error:
        raise RequestError(f"the body could not be read: {error}", code="invalid_body") from error
    coding = _coding(request)
    return body if coding in PLAIN else await asyncio.to_thread(_unpacked, body, coding, server)


def refuse_packed(request: web.Request) -> None:
    """Raise for a form that is packed: its parts are read as they come."""
    coding = _coding(request)
    if coding not in PLAIN:
        raise _unsupported(f"a form is sent as it is, not packed as {coding[:40]!r}")


def _coding(request: web.Request) -> str:
    return request.headers.get("Content-Encoding", "").strip().lower()


def _unpacked(body: bytes, coding: str, server: Server) -> bytes:
    """Unpack a body that is known to have the length that it may have: a bomb takes time in a thread, but no memory."""
    if coding not in PACKED:
        raise _unsupported(f"the body is packed as {coding[:40]!r}; gzip and deflate are taken")
    inflater, length, packed = zlib.decompressobj(PACKED[coding]), 0, body
    try:
        while packed and length <= server.max_body:
            length += len(inflater.decompress(packed, STEP))
            packed = inflater.unconsumed_tail
    except zlib.error:
        raise RequestError(f"the body is not what {coding} makes", code="invalid_body") from None
    if length > server.max_body:
        raise _too_large(server)
    if not inflater.eof or inflater.unused_data:
        problem = "goes on after its end" if inflater.eof else "is cut"
        raise RequestError(f"the {coding} of the body {problem}", code="invalid_body")
    return zlib.decompressobj(PACKED[coding]).decompress(body)


def refuse_when_short(request: web.Request) -> None:
    """Raise before a large body, or one of unknown length, takes memory that there is too little of."""
    length = request.content_length
    if (length is None or length >= LARGE) and request.can_read_body:
        request.app[RUNTIME].jobs.refuse_when_short()


async def read_json(request: web.Request, server: Server) -> dict[str, Any]:
    """Read a JSON object; a repeated key counts as its last value, NaN and lone surrogates are refused."""
    body = await read_body(request, server)
    kind = request.content_type if "Content-Type" in request.headers else ""
    if kind not in JSON_TYPES and not kind.endswith("+json") and not server.any_content_type:
        raise _unsupported(f"the body's type is {kind[:100]!r}; send JSON with 'Content-Type: application/json'")
    if request.charset and not _is_utf8(request.charset):
        raise _unsupported(f"the body's charset is {request.charset[:40]!r}; JSON is UTF-8")
    return parse_json(body)


def _is_utf8(charset: str) -> bool:
    """Say whether a charset is UTF-8, by any of its names, or the part of it that is ASCII."""
    try:
        return codecs.lookup(charset).name in {"utf-8", "ascii"}
    except (LookupError, ValueError):
        return False


def _unsupported(message: str) -> RequestError:
    error = RequestError(message, code="unsupported_media_type")
    error.status = 415
    return error


def parse_json(body: bytes) -> dict[str, Any]:
    """Parse a JSON object or say what is wrong with it."""
    if not body.strip():
        raise RequestError("the body is empty; send a JSON object", code="invalid_json")
    if len(body) > LARGE and body.count(b"[") + body.count(b"{") > MOST_PARTS:
        # Each takes sixty bytes of memory and more; no call needs so many, and base64 has neither letter.
        raise RequestError(f"the body has more than {MOST_PARTS} lists and objects", code="invalid_json")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise RequestError(f"the body must be a JSON object, not {_kind(value)}", code="invalid_json")
    return value


def fingerprint(path: str, body: object) -> str:
    """Give a digest that is the same for the same call with the same values, whatever their order.

    How the caller wants to hear of the end does not count: a client that was cut may come back another way.
    """
    if isinstance(body, Mapping) and not HOW.isdisjoint(body):
        body = {name: value for name, value in body.items() if name not in HOW}
    try:
        text = orjson.dumps([path, body], option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=repr)
    except orjson.JSONEncodeError:
        # What was read can be written again, unless it is deeper than any call needs.
        raise RequestError("the body is nested too deeply", code="invalid_json") from None
    return hashlib.sha256(text).hexdigest()


def _too_large(server: Server) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is larger than {server.max_body} bytes, the limit here")


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
