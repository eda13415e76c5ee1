"""The objects of the Responses API: the response, the image calls that bear pictures, and the message after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from gateway.endpoints.answers import gateway_field, picture_bytes
from gateway.endpoints.image_answers import image_usage
from gateway.endpoints.job_answers import revised
from gateway.endpoints.pieces import Base64
from gateway.endpoints.responses_input import CALL
from gateway.errors import GatewayError
from gateway.job import Job
from gateway.values import Result

CODES = {
    "content_policy_violation": "image_content_policy_violation",
    "invalid_image": "invalid_image",
    "too_many_jobs": "rate_limit_exceeded",
    "upstream_rate_limited": "rate_limit_exceeded",
    "upstream_allowance": "rate_limit_exceeded",
    "insufficient_quota": "rate_limit_exceeded",
}
"""Our codes among those that a failed response may have; ``gateway.error`` has the true one."""


class Response:
    """One response as its events and its answer show it; the job's id is also the response's and its items'.

    *words* are those of the message that ends it: agents take calls without a message for a step, and call again.
    """

    def __init__(self, job: Job, echo: Mapping[str, Any], action: str, words: str) -> None:
        self.job = job
        self.words = words
        self.echo = echo
        self.action = action
        self.id = job.id.replace("job_", "resp_")

    def item_id(self, place: int = 0) -> str:
        return self.job.id.replace("job_", "ig_") + (f"_{place}" if place else "")

    def begun(self) -> dict[str, Any]:
        """Give the response as it is while the picture is being drawn."""
        return self._object("in_progress", [])

    def completed(self, result: Result, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Give the finished response."""
        output = [*items, self.message()]
        return self._object("completed", output, usage=_usage(result), gateway=gateway_field(self.job, result))

    def failed(self, error: GatewayError) -> dict[str, Any]:
        """Give the response that has no picture, and why."""
        own = error.as_json()["error"]
        code = CODES.get(error.code) or ("invalid_prompt" if error.status < 500 else "server_error")
        told = {"code": code, "message": error.message, "param": error.param, "type": error.type}
        item = {**self.item("failed"), "error": own}
        return self._object("failed", [item], error=told, gateway={"job": self.job.id, "error": own})

    def item(self, status: str, place: int = 0, **fields: Any) -> dict[str, Any]:
        """Give the image call at *place*."""
        return {"id": self.item_id(place), "type": CALL, "status": status, "result": None, **fields}

    def message(self) -> dict[str, Any]:
        """Give the message that ends the response."""
        content = [self.part(self.words)]
        identity = self.job.id.replace("job_", "msg_")
        return {"id": identity, "type": "message", "role": "assistant", "status": "completed", "content": content}

    def part(self, text: str) -> dict[str, Any]:
        """Give the one part of the message, with as much of its *text* as is there."""
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _object(self, status: str, output: Sequence[Mapping[str, Any]], **fields: Any) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "response",
            "created_at": int(self.job.created),
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "model": self.job.request.model,
            "output": list(output),
            "previous_response_id": None,
            "store": False,
            "temperature": None,
            "text": {"format": {"type": "text"}},
            "top_p": None,
            "truncation": "disabled",
            "usage": None,
            "user": None,
            **self.echo,
            **fields,
        }


async def drawn_items(request: web.Request, result: Result, response: Response) -> list[dict[str, Any]]:
    """Give one finished image call for each picture."""
    asked = response.job.request
    items = []
    for place, picture in enumerate(result.pictures):
        items.append(
            response.item(
                "completed",
                place,
                result=Base64(await picture_bytes(request, picture)),
                revised_prompt=revised(result, place) or result.prompt,
                action="edit" if response.action == "edit" else "generate",
                background=asked.background or "auto",
                output_format=picture.meta.media_type.removeprefix("image/"),
                quality=asked.quality or "auto",
                size=str(picture.meta.size),
            )
        )
    return items


def _usage(result: Result) -> dict[str, Any]:
    counted = image_usage(result)
    given, made = int(counted.get("input_tokens", 0)), int(counted.get("output_tokens", 0))
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, **_told(result, "input")},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0, **_told(result, "output")},
        "total_tokens": int(counted.get("total_tokens", given + made)),
    }


def _told(result: Result, side: str) -> Mapping[str, int]:
    """Give what the upstream itself told of the kinds of tokens."""
    usage = result.receipt.usage
    if usage is None:
        return {}
    return usage.input_details if side == "input" else usage.output_details
