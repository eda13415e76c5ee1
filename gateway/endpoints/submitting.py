"""From a parsed request to a job: a new one, or the one that a repeated call means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.claims import Again
from gateway.endpoints.answers import CALLER, public_base
from gateway.endpoints.body import fingerprint
from gateway.endpoints.job_answers import job_json
from gateway.endpoints.patience import read_patience, wants_async
from gateway.errors import GatewayError, RequestError
from gateway.explain import explain
from gateway.job import Job
from gateway.runtime import RUNTIME, Runtime
from gateway.values import ImageRequest
from gateway.webhooks import WEBHOOKS, read_webhook

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
EXPLAIN = {"true": True, "1": True, "false": False, "0": False}
COUNT = "x-stainless-retry-count"
"""How often a call was tried before, as OpenAI's SDKs say it."""
SILENT = {"ai-sdk": 15.0, "langchainjs": 70.0}
"""Clients that repeat every 5xx without saying so and whatever x-should-retry says, by a part of their User-Agent, and
after how many seconds at most: Vercel's AI SDK twice, after 2 and 4 s; LangChain.js six times, after up to 64 s."""


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
