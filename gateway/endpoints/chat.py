"""``POST /v1/chat/completions``: the last user message is the prompt, the answer is a Markdown picture."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.endpoints.answers import (
    CALLER,
    gateway_field,
    json_response,
    picture_urls,
    public_base,
    usage_of,
)
from gateway.endpoints.body import read_json
from gateway.endpoints.chat_body import Form, parse_chat, read_form
from gateway.endpoints.sse import FIRST_STEP, Stream, open_stream
from gateway.endpoints.submitting import earlier, explained, submit, waited
from gateway.job import Job
from gateway.runtime import RUNTIME, Runtime
from gateway.settings import Chat
from gateway.tasks import answer_task
from gateway.texts import Template, answer_text, make_template, progress_text
from gateway.values import Result

STEPS = {"queued", "optimizing", "optimized", "generating", "progress", "attempt_failed", "storing"}


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer a chat call, plain or streamed; task prompts of chat clients are answered with words if so configured."""
    runtime = request.app[RUNTIME]
    body = await read_json(request, runtime.settings.server)
    if (words := _words_for(body, runtime.settings.chat)) is not None:
        return await _tell_words(request, runtime, read_form(body), words)
    call = parse_chat(body, runtime.settings.chat)
    answer = Answer(call.form.model, call.form.include_usage)
    job = earlier(request, body) if call.pictures else None
    if job is None:
        asked = await call.image_request(request)
        if preview := explained(request, runtime, asked, body):
            return json_response(preview)
        job = await submit(request, asked, body, original=call.text)
    answer.identify(job)
    if call.form.stream:
        return await _stream(request, runtime, job, answer)
    return await waited(request, job, lambda result: _plain(request, runtime, job, result, answer), body=body)


def _words_for(body: Mapping[str, Any], chat: Chat) -> str | None:
    """Answer what a client asks by itself; that may be a system message alone, which would be no call for a picture."""
    messages = body.get("messages")
    return answer_task(messages) if chat.tasks == "text" and isinstance(messages, list) else None


class Answer:
    """The identity that all chunks of one answer share."""

    def __init__(self, model: str, include_usage: bool) -> None:
        self.id = f"chatcmpl-{secrets.token_hex(12)}"
        self.created = int(time.time())
        self.model = model
        self.include_usage = include_usage

    def identify(self, job: Job) -> None:
        """Take the identity of *job*, so that a repeated call is answered with the same bytes."""
        self.id = f"chatcmpl-{job.id.removeprefix('job_')}"
        self.created = int(job.created)
        self.model = job.request.model

    def whole(self, content: str, usage: Mapping[str, int], extra: Mapping[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": content, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {**self._head("chat.completion"), "choices": [choice], "usage": dict(usage), **extra}

    def chunk(self, delta: Mapping[str, str], finish: str | None = None, **extra: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **extra}

    def usage_chunk(self, usage: Mapping[str, int]) -> dict[str, Any]:
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": dict(usage)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


async def _stream(request: web.Request, runtime: Runtime, job: Job, answer: Answer) -> web.StreamResponse:
    chat = runtime.settings.chat
    with runtime.jobs.reading(job):
        await job.begin(FIRST_STEP)
        if job.result:
            # An answer that is known now can still have a status.
            picture_urls(public_base(request, runtime.settings.server), job.result)
        async with open_stream(request, chat.ping) as (stream, response):
            await stream.send(answer.chunk({"role": "assistant", "content": ""}))
            await _tell_progress(stream, job, answer, chat)
            result = await job.wait()
            content = answer_content(request, runtime, result)
            await _end(stream, answer, content, usage_of(result), gateway=gateway_field(job, result))
    return response


async def _tell_progress(stream: Stream, job: Job, answer: Answer, chat: Chat) -> None:
    field = {"content": "content", "reasoning": "reasoning_content"}.get(chat.progress)
    told = False
    last = ""
    async for event in job.watch():
        line = progress_text(event.type, event.data, chat.language) if field and event.type in STEPS else None
        if field and line and line != last:
            last, told = line, True
            await stream.send(answer.chunk({field: f"> {line}\n" if field == "content" else f"{line}\n"}))
    if told and field == "content" and job.result:
        # A blank line ends the quoted progress, so that the answer's Markdown begins afresh.
        await stream.send(answer.chunk({"content": "\n"}))


async def _end(stream: Stream, answer: Answer, content: str, usage: Mapping[str, int], **extra: Any) -> None:
    await stream.send(answer.chunk({"content": content}))
    await stream.send(answer.chunk({}, "stop", **extra))
    if answer.include_usage:
        await stream.send(answer.usage_chunk(usage))
    await stream.done()


async def _plain(request: web.Request, runtime: Runtime, job: Job, result: Result, answer: Answer) -> dict[str, Any]:
    content = answer_content(request, runtime, result)
    return answer.whole(content, usage_of(result), {"gateway": gateway_field(job, result)})


async def _tell_words(request: web.Request, runtime: Runtime, form: Form, words: str) -> web.StreamResponse:
    answer = Answer(runtime.resolve(form.model or None, request[CALLER]).public, form.include_usage)
    usage = {"prompt_tokens": 1, "completion_tokens": len(words.split()), "total_tokens": 1 + len(words.split())}
    if not form.stream:
        return json_response(answer.whole(words, usage, {}))
    async with open_stream(request, 15) as (stream, response):
        await stream.send(answer.chunk({"role": "assistant", "content": ""}))
        await _end(stream, answer, words, usage)
    return response


def answer_content(request: web.Request, runtime: Runtime, result: Result) -> str:
    """Write the Markdown with absolute links."""
    return answer_text(
        request.app[TEMPLATE],
        original=result.original,
        prompt=result.prompt,
        optimizer=result.receipt.optimizer,
        size=result.pictures[0].meta.size,
        urls=list(picture_urls(public_base(request, runtime.settings.server), result).values()),
        model=result.receipt.model,
    )


def make_chat_template(chat: Chat) -> Template:
    """Check the configured text once, at start."""
    return make_template(chat.template, chat.language)


TEMPLATE = web.AppKey("chat_template", Template)
