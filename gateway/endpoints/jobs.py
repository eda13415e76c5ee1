"""``/v1/jobs``: ask for a job again, follow its events, cancel it."""

from __future__ import annotations

import re
from contextlib import nullcontext
from itertools import islice
from typing import Any

from aiohttp import web

from gateway.endpoints.answers import CALLER, json_response, public_base
from gateway.endpoints.job_answers import event_json, job_json
from gateway.endpoints.paging import page_limit
from gateway.endpoints.pieces import pieces
from gateway.endpoints.sse import open_stream
from gateway.endpoints.waiting import whole_answer
from gateway.errors import ConflictError, NotFoundError, RequestError
from gateway.job import Job
from gateway.runtime import RUNTIME

EVENT = re.compile(r"[0-9]{1,9}")


async def list_jobs(request: web.Request) -> web.Response:
    """List the caller's jobs, newest first; ``limit`` 1 to 100 (20), ``after`` a job's id."""
    runtime = request.app[RUNTIME]
    base = public_base(request, runtime.settings.server)
    limit = page_limit(request)
    after = request.query.get("after")
    jobs = runtime.jobs.all(request[CALLER])
    if after:
        jobs = iter(list(jobs))
        if not any(job.id == after for job in jobs):
            message = f"after: you have no job {after[:60]!r}; finished jobs are kept for a while only"
            raise RequestError(message, param="after")
    page = list(islice(jobs, limit + 1))
    data = [job_json(job, runtime, base) for job in page[:limit]]
    ends: dict[str, Any] = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    return json_response({"object": "list", "data": data, "has_more": len(page) > limit, **ends})


async def show_job(request: web.Request) -> web.StreamResponse:
    """Show a job: state, queue position, progress, result or error. A picture that no storage has taken yet is shown
    itself, as base64."""
    runtime = request.app[RUNTIME]
    job = _job(request)
    waits = job.result is not None and any(picture.waits for picture in job.result.pictures)
    headers = {"Retry-After": "2"} if waits or not job.done else {}
    inline = request.method == "GET"
    with runtime.jobs.reading(job) if waits else nullcontext():
        if waits and inline:
            await runtime.late.fill(job)
        shown = job_json(job, runtime, public_base(request, runtime.settings.server), inline=inline)
    return await whole_answer(request, tuple(pieces(shown)), headers)


async def follow_job(request: web.Request) -> web.StreamResponse:
    """Stream a job's events with ids; a reader that comes back with ``Last-Event-ID`` misses nothing."""
    runtime = request.app[RUNTIME]
    job = _job(request)
    base = public_base(request, runtime.settings.server)
    asked, told = request.query.get("after", "0"), request.headers.get("Last-Event-ID")
    for name, text in (("after", asked), ("Last-Event-ID", told or "0")):
        if not EVENT.fullmatch(text):
            raise RequestError(f"{name} must be the number of an event", param=name)
    last = int(told or asked)
    if job.done and last > len(job.events):
        # It was told more by a process that was killed: only the end is new to it.
        last = len(job.events) - 1
    if job.done and told is not None and last == len(job.events):
        # A browser's EventSource comes back for ever unless it is told that nothing will follow.
        return web.Response(status=204)
    with runtime.jobs.reading(job):
        async with open_stream(request, runtime.settings.chat.ping, done_mark=False) as (stream, response):
            async for event in job.watch(last):
                await stream.send(event_json(event, job, base), event=event.type, identity=str(event.sequence))
    return response


async def cancel_job(request: web.Request) -> web.Response:
    """Cancel a job that has sent nothing upstream yet; 409 if it is too late."""
    runtime = request.app[RUNTIME]
    job = _job(request)
    if not runtime.jobs.cancel(job):
        state = "has ended" if job.done else "was already sent to the upstream and is paid for; it will be finished"
        raise ConflictError(f"the job {state}", code="job_not_cancellable")
    return json_response(job_json(job, runtime, public_base(request, runtime.settings.server)))


def _job(request: web.Request) -> Job:
    identity = request.match_info["id"]
    job = request.app[RUNTIME].jobs.get(identity, request[CALLER])
    if job is None:
        raise NotFoundError(f"there is no job {identity[:60]!r}; finished jobs are kept for a while only")
    return job
