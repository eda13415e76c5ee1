"""Around every HTTP request: its id, who asks, and one shape for every error."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from gateway.cors import is_preflight, plain_options
from gateway.endpoints.answers import CALLER, REQUEST_ID, error_response, new_request_id
from gateway.errors import (
    BodyTooLargeError,
    GatewayError,
    MethodError,
    NotFoundError,
    RequestError,
)
from gateway.runtime import RUNTIME
from gateway.values import Credentials, Secret

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BEGUN = web.RequestKey("begun", bool)
SPOKEN = (HttpVersion11, HttpVersion10)
VALID_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
PUBLIC: web.AppKey[set[str]] = web.AppKey("public_paths", set)
"""Paths (as the router writes them) that ask for no key; every other route does."""
OPEN: web.AppKey[frozenset[web.AbstractRoute]] = web.AppKey("open_routes", frozenset)
"""The routes themselves, and their preflights: a plugin's route is none of them, also where it shares their path."""


@web.middleware
async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, check the caller, and turn every error into an OpenAI error body."""
    asked = request.headers.get("X-Request-Id", "")
    request[REQUEST_ID] = identity = asked if VALID_ID.fullmatch(asked) else new_request_id()
    try:
        _check_form(request)
        if request.method == "OPTIONS" and not (is_preflight(request) and _is_public(request)):
            return plain_options(request)
        if request.match_info.http_exception is None and not _is_public(request):
            request[CALLER] = await request.app[RUNTIME].authenticate(_credentials(request))
        await _let_continue(request)
        response = await handler(request)
        if is_preflight(request) and response.status == 200:
            # Both are fine for browsers; the Workers said it so, and a body there is none.
            response.set_status(204)
    except GatewayError as error:
        return _told(request, error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _told(request, _translated(error, request))
    except (ConnectionError, TimeoutError) as error:
        return _told(request, GatewayError(f"the connection failed: {type(error).__name__}"))
    except Exception:
        log.exception("request %s failed by a fault of the gateway", identity)
        return _told(request, GatewayError("an internal error; the gateway's log names it by the request id"))
    return response


def _check_form(request: web.Request) -> None:
    """Refuse what aiohttp's parser lets pass: the HTTP of 1991 or of 2015, and bodies that nobody can unpack."""
    if request.version not in SPOKEN:
        error = RequestError("HTTP/1.1 and HTTP/1.0 are spoken here", code="malformed_request")
    elif hdrs.TRANSFER_ENCODING in request.headers and request.headers[hdrs.TRANSFER_ENCODING].lower() != "chunked":
        error = RequestError("the one transfer encoding known here is chunked", code="malformed_request")
    else:
        return
    # What comes next may be anything.
    request.protocol.close()
    raise error


async def add_identity(request: web.Request, response: web.StreamResponse) -> None:
    """Show the request's id in every answer, streams included; name no versions."""
    request[BEGUN] = True
    response.headers["x-request-id"] = request.get(REQUEST_ID, "")
    response.headers["Server"] = "image-gateway"
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    if response.status >= 400 and not request.content.is_eof():
        # The rest of the body may still come, or may be no body at all: nothing after it can be trusted.
        response.force_close()
        response.headers["Connection"] = "close"


async def defer_expect(request: web.Request) -> None:
    """Ask for no body yet, as aiohttp would: first comes the question who asks."""


async def _let_continue(request: web.Request) -> None:
    expected = request.headers.get("Expect")
    if expected is None or request.match_info.http_exception:
        return
    if expected.lower() != "100-continue":
        error = RequestError("the Expect header may only be 100-continue", code="expectation_failed")
        error.status = 417
        raise error
    if request.version >= HttpVersion11 and not request.content.is_eof():
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # aiohttp counts what is written as part of the answer, and would not send its head.
        request.writer.output_size = 0


def _told(request: web.Request, error: GatewayError) -> web.StreamResponse:
    if BEGUN in request and request.transport is not None:
        # The head of another answer is out: what came now would be taken for the rest of its body.
        request.transport.abort()
    codes = request.app[RUNTIME].settings.server.error_codes
    renamed = codes.get(f"{error.code}.{error.param}") or codes.get(error.code)
    if renamed:
        status, _, error.code = renamed.partition(" ")
        error.status = int(status)
    response = error_response(error, request[REQUEST_ID])
    if isinstance(error, MethodError):
        response.headers["Allow"] = error.allowed
    return response


def _is_public(request: web.Request) -> bool:
    return request.match_info.route in request.app[OPEN]


def _credentials(request: web.Request) -> Credentials:
    headers = request.headers
    if len(headers.getall("Authorization", ())) > 1:
        raise RequestError("more than one Authorization header was sent", code="invalid_authorization")
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    bearer = token if scheme.lower() == "bearer" else ""
    text = bearer or headers.get("x-api-key", "") or headers.get("api-key", "")
    return Credentials(Secret(text) if text else None, headers, request.remote)


def _translated(error: web.HTTPException, request: web.Request) -> GatewayError:
    if error.status == 404:
        return NotFoundError(f"there is no path {request.path[:100]!r} here", code="path_not_found")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return MethodError(f"{error.method} is not allowed here; allowed: {allowed}", allowed)
    if error.status == 413:
        return BodyTooLargeError("the body is too large")
    translated = RequestError(error.reason or "the request was refused", code="bad_request")
    translated.status = error.status
    return translated
