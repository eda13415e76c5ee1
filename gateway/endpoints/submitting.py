"""From a parsed request to a job, and from a waiting client to its answer: plain, kept alive, or 202."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from aiohttp import HttpVersion11, web

from gateway.claims import Again
from gateway.endpoints.answers import CALLER, REQUEST_ID, error_json, json_response, public_base
from gateway.endpoints.body import fingerprint
from gateway.endpoints.fields import bool_field
from gateway.endpoints.job_answers import job_json
from gateway.endpoints.patience import patience_for, read_patience
from gateway.errors import GatewayError, RequestError
from gateway.explain import explain
from gateway.job import Job
from gateway.runtime import RUNTIME, Runtime
from gateway.values import ImageRequest, Result
from gateway.webhooks import WEBHOOKS, read_webhook

log = logging.getLogger(__name__)

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
RESPOND_ASYNC = re.compile(r"(?i)(?:^|[,;\s])respond-async(?:$|[,;\s])")
EXPLAIN = {"true": True, "1": True, "false": False, "0": False}
WAIT = re.compile(r"(?i)(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})")
MOST_PATIENCE = 50.0
COUNT = "x-stainless-retry-count"
"""How often a call was tried before, as OpenAI's SDKs say it."""
SILENT = {"ai-sdk": 15.0, "langchainjs": 70.0}
"""Clients that repeat every 5xx without saying so and whatever x-should-retry says, by a part of their User-Agent, and
after how many seconds at most: Vercel's AI SDK twice, after 2 and 4 s; LangChain.js six times, after up to 64 s."""
LONG = 256 * 2**10
"""Bytes from which an answer is written part by part."""
Make = Callable[[Result], Awaitable[Any]]
Made = Callable[[], Awaitable[Any]]
Instead = Callable[[GatewayError], Any]


async def submit(
    request: web.Request, asked: ImageRequest, body: Mapping[str, Any], *, original: str, inline: bool = False
) -> Job:
    """Submit a job for this call, or find the one that its Idempotency-Key or its client's own retry means."""
    runtime = request.app[RUNTIME]
    resolved = runtime.resolve(asked.model or None, request[CALLER])
    asked = asked if asked.model == resolved.public else replace(asked, model=resolved.public)
    webhook = read_webhook(body, runtime.settings.fetch)
    read_patience(request)
    alone = wants_async(request, body)
    early = body.get("stream") or alone or asked.images or runtime.recipes[resolved.recipe].optimizers
    key, mark, again = _idempotency_key(request), fingerprint(request.path, body), _again(request)
    try:
        if not runtime.jobs.earlier(request[CALLER], key, mark, again):
            runtime.refuse_when_full(resolved, request[CALLER])
            if early:
                # What can be known now must be told now: before a stream has its status, before an optimizer is paid.
                runtime.check(asked, resolved, request[CALLER])
        job = runtime.jobs.submit(
            asked,
            request[CALLER],
            original,
            key=key,
            fingerprint=mark,
            again=again,
            inline=inline,
            attached=not alone,
        )
    except GatewayError as error:
        if COUNT in request.headers:
            runtime.jobs.turn_away(request[CALLER], mark, again, error)
        raise
    _call_back(request, job, webhook)
    return job


def claimed(request: web.Request, body: Mapping[str, Any]) -> Job | None:
    """Find the job that this call repeats, as `submit` would: its pictures may be gone where they were fetched from,
    and need no second look. None for a call that only wants to be explained."""
    if "explain" in request.query:
        return None
    mark = fingerprint(request.path, body)
    job = request.app[RUNTIME].jobs.earlier(request[CALLER], _idempotency_key(request), mark, _again(request))
    if job:
        webhook = read_webhook(body, request.app[RUNTIME].settings.fetch)
        job.attached = job.attached and not wants_async(request, body)
        _call_back(request, job, webhook)
    return job


def _call_back(request: web.Request, job: Job, webhook: str | None) -> None:
    if webhook:
        runtime = request.app[RUNTIME]
        base = public_base(request, runtime.settings.server)
        request.app[WEBHOOKS].on_end(job, webhook, lambda job: job_json(job, runtime, base))


def explained(
    request: web.Request, runtime: Runtime, asked: ImageRequest, body: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Give the explanation instead of a picture if the call has ``?explain=true``."""
    if "explain" not in request.query:
        return None
    words = {word.lower() for word in request.query.getall("explain")}
    if not words <= EXPLAIN.keys() or len(words) > 1:
        # Whoever means it otherwise must not find a picture on the bill.
        found = " and ".join(sorted(repr(word[:40]) for word in words))
        raise RequestError(f"explain must be true or false, not {found[:200]}", param="explain")
    if not EXPLAIN[words.pop()]:
        return None
    # What would be refused is no other for being explained.
    _idempotency_key(request)
    wants_async(request, body)
    read_webhook(body, runtime.settings.fetch)
    read_patience(request)
    return explain(runtime, asked, request[CALLER])


def wants_async(request: web.Request, body: Mapping[str, Any]) -> bool:
    """Say whether the caller wants to come back later: ``"async": true`` or ``Prefer: respond-async``."""
    return bool_field(body, "async") or bool(RESPOND_ASYNC.search(_preferred(request)))


def _preferred(request: web.Request) -> str:
    """Give all lines of Prefer as the one list that they are (RFC 7240)."""
    return ", ".join(request.headers.getall("Prefer", ()))


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
        patience = _patience(request, patience) if later else limits.accept_after
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


def _patience(request: web.Request, most: float) -> float:
    """Give the seconds that a caller who would come back waits for the answer itself first (RFC 7240 ``wait``)."""
    found = WAIT.search(_preferred(request))
    return min(float(found[1]), most or MOST_PATIENCE) if found else 0.0


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
    if length < LONG:
        return web.Response(body=b"".join(value), headers=headers, content_type="application/json")
    response = web.StreamResponse(headers={**headers, "Content-Type": "application/json"})
    response.content_length = length
    await response.prepare(request)
    await _write(response, value)
    return response


async def _write(response: web.StreamResponse, value: Any) -> None:
    for part in value if isinstance(value, tuple) else (orjson.dumps(value),):
        await response.write(part)


def _idempotency_key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not IDEMPOTENCY_KEY.fullmatch(key):
        message = "the Idempotency-Key must be 1 to 255 visible ASCII characters"
        raise RequestError(message, param="Idempotency-Key")
    if len(request.headers.getall("Idempotency-Key")) > 1:
        raise RequestError("more than one Idempotency-Key was sent; which one counts?", param="Idempotency-Key")
    return key


def _again(request: web.Request) -> Again:
    count, agent = request.headers.get(COUNT, "0"), request.headers.get("User-Agent", "")
    said = count.isascii() and count.isdigit() and int(count[:6]) > 0
    return Again(said, max((seconds for name, seconds in SILENT.items() if name in agent), default=0.0))
