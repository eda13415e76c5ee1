"""Calls and answers as they look, for readers of the OpenAPI document; a test holds them to the schemas."""

from __future__ import annotations

from typing import Any

TIME = 1_763_600_000
LINK = "https://images.example.com/image/3kTMd92jXq0vYw7hR5sLpA.png"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
RECEIPT: dict[str, Any] = {
    "model": "flux-schnell",
    "target": "cf-eu/@cf/black-forest-labs/flux-1-schnell",
    "asked": {"n": 1, "size": "1024x576", "style": "vivid"},
    "applied": {"steps": 4},
    "adjusted": [{"name": "size", "from": "1024x576", "to": "1024x1024", "reason": "cropped here to 1024x576"}],
    "dropped": [{"name": "style", "value": "vivid", "reason": "the target takes no style"}],
    "attempts": [{"target": "cf-eu/@cf/black-forest-labs/flux-1-schnell", "outcome": "ok", "seconds": 2.418}],
    "optimizer": None,
    "notes": [],
    "cost": 0.0007,
    "usage": None,
}
JOB = "job_9f2c41d07ab35e8811c0d6aa"
GATEWAY = {"job": JOB, "prompt": "a red fox in the snow", "receipt": RECEIPT}

REQUESTS: dict[str, Any] = {
    "ChatRequest": {
        "model": "flux-schnell",
        "messages": [{"role": "user", "content": "a red fox in the snow 16:9"}],
        "stream": True,
    },
    "ImageRequest": {
        "model": "flux-schnell",
        "prompt": "a red fox in the snow",
        "size": "1024x576",
        "response_format": "url",
        "seed": 7,
    },
    "EditRequest": {
        "model": "flux-kontext",
        "prompt": "make it night",
        "image": "https://example.com/fox.png",
        "response_format": "url",
    },
    "VariationRequest": {"image": {"image_url": f"data:image/png;base64,{PIXEL}"}, "n": 2},
    "ResponsesRequest": {
        "model": "flux-schnell",
        "input": "a red fox in the snow",
        "tools": [{"type": "image_generation", "size": "1024x1024", "partial_images": 2}],
        "stream": True,
    },
}

ANSWERS: dict[str, Any] = {
    "ChatCompletion": {
        "id": "chatcmpl-8f3b0c6d2a914e57b6d1c0aa",
        "object": "chat.completion",
        "created": TIME,
        "model": "flux-schnell",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": f"![Generated Image]({LINK})", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 6, "completion_tokens": 1, "total_tokens": 7},
        "gateway": GATEWAY,
    },
    "Images": {
        "created": TIME,
        "data": [{"url": LINK}],
        "size": "1024x576",
        "output_format": "png",
        "usage": {"input_tokens": 5, "output_tokens": 0, "total_tokens": 5},
        "gateway": GATEWAY,
    },
    "Response": {
        "id": JOB.replace("job_", "resp_"),
        "object": "response",
        "created_at": TIME,
        "status": "completed",
        "model": "flux-schnell",
        "output": [
            {
                "id": JOB.replace("job_", "ig_"),
                "type": "image_generation_call",
                "status": "completed",
                "result": PIXEL,
                "revised_prompt": "a red fox in the snow",
                "size": "1024x1024",
                "output_format": "png",
            },
            {
                "id": JOB.replace("job_", "msg_"),
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Here is the picture.", "annotations": [], "logprobs": []}],
            },
        ],
        "error": None,
        "usage": {
            "input_tokens": 5,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 5,
        },
        "tools": [{"type": "image_generation", "size": "1024x1024"}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "metadata": {},
        "gateway": GATEWAY,
    },
    "Job": {
        "id": JOB,
        "object": "job",
        "status": "in_progress",
        "model": "flux-schnell",
        "created_at": TIME,
        "started_at": TIME,
        "ended_at": None,
        "queue_position": 0,
        "progress": 0.5,
        "result": None,
        "error": None,
        "events_url": f"https://images.example.com/v1/jobs/{JOB}/events",
    },
    "Health": {
        "status": "ok",
        "models": 3,
        "jobs": {"running": 1, "waiting": 0},
        "memory": {"used": 98304000, "limit": 536870912, "full": False},
        "spool": {"pictures": 0, "bytes": 0},
    },
    "Error": {
        "error": {
            "message": "size is 'huge'; write it as 1024x1024, as a ratio like 16:9, or auto",
            "type": "invalid_request_error",
            "param": "size",
            "code": "invalid_value",
            "request_id": "req_0c57e1d29b3f4a86d1e0b7f2",
        }
    },
}
