"""From a waiting client to its answer: plain, kept alive by white space, or a 202 with a place to ask."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import orjson
from aiohttp import HttpVersion11, web

from gateway.endpoints.answers import REQUEST_ID, error_json, json_response, public_base
from gateway.endpoints.job_answers import job_json
from gateway.endpoints.patience import patience_for, preferred_wait, wants_async
from gateway.errors import GatewayError
from gateway.job import Job
from gateway.runtime import RUNTIME, Runtime
from gateway.values import Result

log = logging.getLogger(__name__)

LONG = 256 * 2**10
"""Bytes from which an answer is written part by part."""
Make = Callable[[Result], Awaitable[Any]]
Made = Callable[[], Awaitable[Any]]
Instead = Callable[[GatewayError], Any]


async def waited(
    request: web.Request,
    job: Job,
    make: Make,
    *,
    body: Mapping[str, Any] | None = None,
    instead: Instead = lambda _: None,
) -> web.StreamResponse:
    """Wait for the job and answer with what *make* makes of its result: a value for JSON, or a tuple of its bytes.

    What *instead* makes of an error, if anything, is an answer, too.
    """
    runtime = request.app[RUNTIME]
    limits = runtime.settings.jobs
    later, patience = wants_async(request, body or {}), limits.keep_alive
    given = None if later else patience_for(request, job)
    if later or limits.accept_after:
        patience = preferred_wait(request, patience) if later else limits.accept_after
        if not patience:
            return accepted(request, runtime, job)
        later = True
    made = partial(_made, job, make, instead)
    with runtime.jobs.reading(job, given):
        if await job.ends(patience):
            return await whole_answer(request, await made())
        if later:
            job.attached = False
            return accepted(request, runtime, job)
        return await _kept_alive(request, job, made, patience)


async def _made(job: Job, make: Make, instead: Instead) -> Any:
    try:
        result = await job.wait()
    except GatewayError as error:
        if (answer := instead(error)) is None:
            raise
        return answer
    return await make(result)


def accepted(request: web.Request, runtime: Runtime, job: Job) -> web.Response:
    """Answer 202 with the place where the job can be asked for."""
    base = public_base(request, runtime.settings.server)
    headers = {"Location": f"{base}/v1/jobs/{job.id}", "Retry-After": "2", "Preference-Applied": "respond-async"}
    return json_response(job_json(job, runtime, base), status=202, headers=headers)


async def _kept_alive(request: web.Request, job: Job, made: Made, seconds: float) -> web.StreamResponse:
    """Send white space before the JSON, so that proxies see a living connection."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "X-Accel-Buffering": "no"})
    if request.version < HttpVersion11:
        # Without chunks only the connection's end is the answer's end.
        response.force_close()
    await response.prepare(request)
    with suppress(GatewayError):
        while not job.done:
            await response.write(b" ")
            await job.ends(seconds)
    value = await _late(request, job, made)
    if value is not None:
        await _write(response, value)
    return response


async def _late(request: web.Request, job: Job, made: Made) -> Any:
    """Give the value for an answer whose status is out already, or None after cutting the connection.

    An SDK takes a 200 for success. Cut off, it asks again and gets the remembered error with its status.
    """
    try:
        return await made()
    except GatewayError as error:
        failure = error
    except (ConnectionError, TimeoutError):
        raise
    except Exception:
        log.exception("the answer of %s could not be made", job.id)
        failure = GatewayError(f"an internal error; the gateway's log names it by {job.id}")
    if "x-stainless-lang" not in request.headers and not request.headers.get("User-Agent", "").startswith("litellm/"):
        return error_json(failure, request[REQUEST_ID])
    job.untold = True
    if request.transport:
        request.transport.abort()
    return None


async def whole_answer(
    request: web.Request, value: Any, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Answer with JSON; the parts of a long one are written as they are, since each joining copies megabytes."""
    headers = headers or {}
    if not isinstance(value, tuple):
        return json_response(value, headers=headers)
    length = sum(map(len, value))
    if length < LONG or request.method == "HEAD":
        return web.Response(body=b"".join(value), headers=headers, content_type="application/json")
    response = web.StreamResponse(headers={**headers, "Content-Type": "application/json"})
    response.content_length = length
    await response.prepare(request)
    await _write(response, value)
    return response


async def _write(response: web.StreamResponse, value: Any) -> None:
    for part in value if isinstance(value, tuple) else (orjson.dumps(value),):
        await response.write(part)
