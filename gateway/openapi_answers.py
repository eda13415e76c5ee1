"""What the endpoints answer, as schemas."""

from __future__ import annotations

from gateway.endpoints.responses_input import CALL
from gateway.openapi_schema import (
    Schema,
    always,
    any_of,
    flag,
    listed,
    mapped,
    number,
    obj,
    one_of,
    or_null,
    ref,
    text,
    whole,
)

TIME = whole("Seconds since 1970.", 0)
BASE64 = text("The picture as plain base64.", pattern="^[A-Za-z0-9+/]+={0,2}$")
LINK = text("A stable link to the picture.", pattern="^https?://")
CHANGE = {"name": text(), "reason": text()}
PREVIEWED = {"created_at": TIME, "size": text(), "quality": text(), "background": text(), "output_format": text()}


def answers() -> dict[str, Schema]:
    """Give the schemas of all answers and events, by name."""
    return {**_shared(), **_chat(), **_images(), **_responses(), **_models(), **_jobs(), **_pictures(), **_about()}


def _shared() -> dict[str, Schema]:
    error = {
        "message": text("What went wrong and what would be right."),
        "type": text(
            "`invalid_request_error`, `rate_limit_error`, `insufficient_quota`, `upstream_error` or `server_error`."
        ),
        "param": or_null(text("The field that is meant.")),
        "code": or_null(text("A word for programs.")),
    }
    attempt = obj({"target": text(), "outcome": text(), "seconds": number("", 0)}, {"reason": text()})
    receipt = {
        "model": text("The model's public name."),
        "target": text("The backend and upstream model that drew it."),
        "asked": mapped("The parameters of the call."),
        "applied": mapped("What the target was really sent."),
        "adjusted": listed(obj({**CHANGE, "from": {}, "to": {}}), "What was changed, and why."),
        "dropped": listed(obj({**CHANGE, "value": {}}), "What was not taken, and why."),
        "attempts": listed(attempt, "Each call of a target, and how it ended."),
        "optimizer": or_null(text("Who rewrote the prompt.")),
        "notes": listed(text()),
        "cost": or_null(number("An estimate in the currency of the configured prices.")),
        "usage": or_null(mapped("The tokens that the upstream told, all calls together.")),
    }
    gateway = {"job": text(), "prompt": text("What was drawn."), "receipt": ref("Receipt")}
    usage = {"prompt_tokens": whole("", 0), "completion_tokens": whole("", 0), "total_tokens": whole("", 0)}
    return {
        "ErrorDetails": obj(error, {"request_id": text("The id to ask the gateway's owner about.")}),
        "Error": obj({"error": ref("ErrorDetails")}, about="Every error, in the form that OpenAI's clients read."),
        "Receipt": obj(receipt, about="What was asked, and what became of it: nothing is dropped in silence."),
        "Gateway": obj(gateway, about="What only this gateway tells."),
        "Usage": obj({}, usage),
    }


def _chat() -> dict[str, Schema]:
    head = {"id": text(), "created": TIME, "model": text()}
    message = obj({"role": always("assistant"), "content": text("Markdown with the picture."), "refusal": {}})
    choice = obj({"index": whole(), "message": message, "finish_reason": always("stop"), "logprobs": {}})
    delta = obj({}, {"role": text(), "content": text(), "reasoning_content": text("Steps of the work.")})
    piece = obj({"index": whole(), "delta": delta, "finish_reason": or_null(one_of("stop")), "logprobs": {}})
    whole_answer = {**head, "object": always("chat.completion"), "choices": listed(choice), "usage": ref("Usage")}
    chunk = {**head, "object": always("chat.completion.chunk"), "choices": listed(piece)}
    return {
        "ChatCompletion": obj(whole_answer, {"gateway": ref("Gateway")}),
        "ChatChunk": obj(chunk, {"usage": ref("Usage"), "gateway": ref("Gateway")}),
    }


def _images() -> dict[str, Schema]:
    told = {"revised_prompt": text("What was drawn, where it is not what you wrote.")}
    data = any_of(obj({"url": LINK}, told), obj({"b64_json": BASE64}, told))
    tokens = {name: whole("", 0) for name in ("input_tokens", "output_tokens", "total_tokens")}
    usage = obj({}, {**tokens, "input_tokens_details": mapped(), "output_tokens_details": mapped()})
    described = {"size": text(), "output_format": text(), "usage": usage}
    kinds = [
        f"{kind}.{state}" for state in ("partial_image", "completed") for kind in ("image_generation", "image_edit")
    ]
    preview = {"type": one_of(*kinds[:2]), "b64_json": BASE64, "partial_image_index": whole("", 0), **PREVIEWED}
    finished = {"type": one_of(*kinds[2:]), "b64_json": BASE64, **PREVIEWED, "usage": usage, "gateway": ref("Gateway")}
    return {
        "Images": obj({"created": TIME, "data": listed(data, minItems=1)}, {**described, "gateway": ref("Gateway")}),
        "ImageEvent": any_of(obj(preview), obj(finished, {**told, "url": LINK}), ref("Error")),
    }


def _responses() -> dict[str, Schema]:
    shape = {name: text() for name in ("revised_prompt", "size", "quality", "background", "output_format", "action")}
    state = one_of("in_progress", "completed", "failed")
    item = obj(
        {"id": text(), "type": always(CALL), "status": state, "result": or_null(BASE64)},
        {**shape, "error": ref("ErrorDetails")},
    )
    part = obj({"type": always("output_text"), "text": text(), "annotations": listed(mapped()), "logprobs": listed({})})
    told = {"id": text(), "type": always("message"), "role": always("assistant"), "status": state}
    message = obj({**told, "content": listed(part)})
    tokens = {name: whole("", 0) for name in ("input_tokens", "output_tokens", "total_tokens")}
    usage = obj({**tokens, "input_tokens_details": mapped(), "output_tokens_details": mapped()})
    failure = obj({"code": text(), "message": text()}, {"param": or_null(text()), "type": text()})
    response = {
        "id": text(),
        "object": always("response"),
        "created_at": TIME,
        "status": state,
        "model": text(),
        "output": listed(any_of(ref("ImageCall"), ref("DrawnMessage"))),
        "error": or_null(failure),
        "usage": or_null(usage),
        "tools": listed(mapped()),
        "tool_choice": {},
        "parallel_tool_calls": flag(),
        "metadata": mapped(),
    }
    numbered = {"sequence_number": whole("Counts from 0.", 0)}
    placed = {**numbered, "output_index": whole("", 0)}
    called = {**placed, "item_id": text()}
    states = [f"response.{name}" for name in ("created", "in_progress", "completed", "failed")]
    steps = [f"response.{CALL}.{name}" for name in ("in_progress", "generating", "completed")]
    spoken = {**called, "content_index": whole("", 0)}
    words = {
        "content_part.added": {"part": part},
        "output_text.delta": {"delta": text(), "logprobs": listed({})},
        "output_text.done": {"text": text(), "logprobs": listed({})},
        "content_part.done": {"part": part},
    }
    preview = {"partial_image_index": whole("", 0), "partial_image_b64": BASE64}
    events = (
        obj({"type": one_of(*states), "response": ref("Response"), **numbered}),
        obj(
            {
                "type": one_of("response.output_item.added", "response.output_item.done"),
                "item": any_of(ref("ImageCall"), ref("DrawnMessage")),
                **placed,
            }
        ),
        obj({"type": one_of(*steps), **called}),
        obj({"type": always(f"response.{CALL}.partial_image"), **preview, **called}),
        *(obj({"type": always(f"response.{name}"), **fields, **spoken}) for name, fields in words.items()),
        ref("Error"),
    )
    return {
        "ImageCall": item,
        "DrawnMessage": message,
        "Response": obj(response, {"gateway": mapped("The job, and its receipt or its error.")}),
        "ResponseEvent": any_of(*events),
    }


def _models() -> dict[str, Schema]:
    model = {
        "id": text("The name to ask for."),
        "object": always("model"),
        "created": TIME,
        "owned_by": text(),
        "description": text(),
        "capabilities": listed(obj({"target": text()}), "What each target of the model can do."),
    }
    return {
        "Model": obj(model),
        "ModelList": obj({"object": always("list"), "data": listed(ref("Model"))}),
    }


def _jobs() -> dict[str, Schema]:
    told = {
        "b64_json": {**BASE64, "description": "The picture itself, while no storage has taken it; for one job only."},
        "expired": flag("True once the picture is there no more: it has expired, was deleted, or could not be kept."),
    }
    data = obj({"url": or_null(LINK), "revised_prompt": or_null(text())}, told)
    result = obj({"created": TIME, "data": listed(data), "gateway": ref("Gateway")})
    job = {
        "id": text(),
        "object": always("job"),
        "status": one_of("queued", "in_progress", "completed", "failed", "cancelled"),
        "model": text(),
        "created_at": TIME,
        "started_at": or_null(TIME),
        "ended_at": or_null(TIME),
        "queue_position": whole("How many jobs start before this one, plus one; 0 once it works.", 0),
        "progress": or_null(number("From 0 to 1, where the backend tells it.", 0, 1)),
        "result": or_null(result),
        "error": or_null(ref("ErrorDetails")),
        "events_url": text("Where its events can be followed.", pattern="^https?://"),
    }
    event = {"type": text("`accepted`, `queued`, `generating`, `progress`, `partial`, `finished` …"), "job": text()}
    return {
        "Job": obj(job),
        "JobList": _page(ref("Job")),
        "JobEvent": obj({**event, "sequence": whole("Counts from 1; also the event's id.", 1), "at": number()}),
    }


def _pictures() -> dict[str, Schema]:
    picture = {
        "id": text("The key in its link."),
        "object": always("picture"),
        "created": TIME,
        "expires": or_null(TIME),
        "url": LINK,
        "model": text(),
        "prompt": or_null(text()),
        "media_type": text(),
        "width": whole("", 1),
        "height": whole("", 1),
        "bytes": whole("", 1),
    }
    more = {"sha256": text(), "original_prompt": or_null(text()), "job": or_null(text()), "receipt": {}}
    gone = {"id": text(), "object": always("picture.deleted"), "deleted": flag()}
    return {
        "Picture": obj(picture),
        "PictureDetails": obj({**picture, **more}, {"revised_prompt": or_null(text()), "seed": or_null(whole())}),
        "PictureList": _page(ref("Picture")),
        "DeletedPicture": obj(gone),
        "PictureLink": obj({"object": always("picture.link"), "url": LINK, "expires": TIME}),
    }


def _about() -> dict[str, Schema]:
    memory = {
        "used": or_null(whole("Bytes in use, where there is a limit.", 0)),
        "limit": or_null(whole("Bytes that may be.", 1)),
        "full": flag("New pictures are refused with a 503 until it is false again."),
    }
    spool = {"pictures": whole("That were paid for and wait for their storage.", 0), "bytes": whole("", 0)}
    health = {
        "status": one_of("ok", "degraded", "draining"),
        "models": whole("", 0),
        "jobs": mapped(),
        "memory": obj(memory),
        "spool": or_null(obj(spool)),
    }
    call = obj({"body": or_null(text())}, {"method": text(), "url": text(), "headers": mapped(), "target": text()})
    explanation = {
        "object": always("explanation"),
        "model": text(),
        "target": or_null(text("Who would draw it.")),
        "then": listed(text(), "Who would take over, in this order."),
        "why": mapped("Why the others would not."),
        "calls": listed(call, "The upstream calls as they would be sent, without credentials."),
        "applied": mapped(),
        "adjusted": listed(mapped()),
        "dropped": listed(mapped()),
        "error": or_null(ref("ErrorDetails")),
        "cost": or_null(number()),
    }
    return {"Health": obj(health), "Explanation": obj(explanation)}


def _page(item: Schema) -> Schema:
    ends = {"first_id": or_null(text()), "last_id": or_null(text())}
    return obj({"object": always("list"), "data": listed(item), "has_more": flag()}, ends)
