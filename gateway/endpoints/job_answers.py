"""How a job looks as JSON, and how its events look."""

from __future__ import annotations

from typing import Any

from gateway.endpoints.answers import gateway_field, is_gone, picture_url
from gateway.endpoints.pieces import Base64
from gateway.job import Job
from gateway.runtime import Runtime
from gateway.values import Event, Image, Picture, Result

STATES = {"queued": "queued", "running": "in_progress", "finished": "completed"}


def job_json(job: Job, runtime: Runtime, base: str, *, inline: bool = False) -> dict[str, Any]:
    """Give a job's state, queue position, progress (0 to 1), and its result or error; times are epoch seconds.

    With *inline* pictures that have no URL show their bytes, as `Base64`.
    """
    progress = next((event.data["done"] for event in reversed(job.events) if event.type == "progress"), None)
    return {
        "id": job.id,
        "object": "job",
        "status": STATES.get(job.state, job.state),
        "model": job.request.model,
        "created_at": int(job.created),
        "started_at": int(job.started) if job.started else None,
        "ended_at": int(job.ended) if job.ended else None,
        "queue_position": (runtime.jobs.position(job) or runtime.places.position(job)) if job.state == "queued" else 0,
        "progress": 1.0 if job.state == "finished" else progress,
        "result": result_json(job, job.result, base, inline=inline) if job.result else None,
        "error": job.error.as_json()["error"] if job.error else None,
        "events_url": f"{base}/v1/jobs/{job.id}/events",
    }


def result_json(job: Job, result: Result, base: str, *, inline: bool = False) -> dict[str, Any]:
    """Give a result as the images API would, with URLs."""
    data = [
        {**_place(picture, base, inline), "revised_prompt": revised(result, i)}
        for i, picture in enumerate(result.pictures)
    ]
    return {"created": result.created, "data": data, "gateway": gateway_field(job, result)}


def _place(picture: Picture, base: str, inline: bool) -> dict[str, Any]:
    """Say where a picture is: at its URL, here, or nowhere any more."""
    if is_gone(picture):
        return {"url": None, "expired": True}
    if picture.meta.key:
        return {"url": picture_url(base, picture.meta)}
    return {"url": None, "b64_json": Base64(picture.data)} if inline and picture.data else {"url": None}


def revised(result: Result, place: int) -> str | None:
    """Give the prompt that was truly drawn, if it is not what the caller wrote."""
    told = result.pictures[place].revised_prompt
    return told or (result.prompt if result.prompt != result.original else None)


def event_json(event: Event, job: Job, base: str) -> dict[str, Any]:
    """Give an event as plain JSON; previews as base64, results as URLs."""
    data: dict[str, Any] = {}
    for name, value in event.data.items():
        if isinstance(value, Image):
            data["b64_json"] = Base64(value.data)
        elif isinstance(value, Result):
            # The job knows what has become of its pictures since.
            data["result"] = result_json(job, job.result or value, base)
        else:
            data[name] = value
    return {"type": event.type, "job": event.job, "sequence": event.sequence, "at": event.at, **data}
