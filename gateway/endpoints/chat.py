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
from gateway.endpoints.patience import patience_for
from gateway.endpoints.sse import FIRST_STEP, Stream, open_stream
from gateway.endpoints.submitting import claimed, explained, submit
from gateway.endpoints.waiting import waited
from gateway.errors import GatewayError, RefusedError
from gateway.job import Job
from gateway.runtime import RUNTIME, Runtime
from gateway.settings import Chat
from gateway.tasks import answer_task
from gateway.texts import Template, answer_text, escape, make_template, progress_text
from gateway.values import Result

STEPS = {"queued", "optimizing", "optimized", "generating", "progress", "attempt_failed", "storing"}


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer a chat call, plain or streamed; task prompts of chat clients are answered with words if so configured."""
    runtime = request.app[RUNTIME]
    body = await read_json(request, runtime.settings.server)
    if (words := _words_for(body, runtime.settings.chat)) is not None:
        return await _tell_words(request, runtime, read_form(body), words)
    call = parse_chat(body, runtime.settings.chat)
    answer = Answer(call.form, runtime.settings.chat)
    job = claimed(request, body) if call.pictures else None
    if job is None:
        asked = await call.image_request(request)
        if preview := explained(request, runtime, asked, body):
            return json_response(preview)
        job = await submit(request, asked, body, original=call.text)
    answer.identify(job)
    if call.form.stream:
        return await _stream(request, runtime, job, answer)
    return await waited(
        request, job, lambda result: _plain(request, runtime, job, result, answer), body=body, instead=answer.instead
    )


def _words_for(body: Mapping[str, Any], chat: Chat) -> str | None:
    """Answer what a client asks by itself; that may be a system message alone, which would be no call for a picture."""
    messages = body.get("messages")
    return answer_task(messages) if chat.tasks == "text" and isinstance(messages, list) else None


class Answer:
    """The identity that all chunks of one answer share."""

    def __init__(self, form: Form, chat: Chat) -> None:
        self.chat = chat
        self.id = f"{chat.id_prefix}{secrets.token_hex(12)}"
        self.created = int(time.time())
        self.model = form.model
        self.include_usage = form.include_usage

    def identify(self, job: Job) -> None:
        """Take the identity of *job*, so that a repeated call is answered with the same bytes."""
        self.id = f"{self.chat.id_prefix}{job.id.removeprefix('job_')}"
        self.created = int(job.created)
        self.model = job.request.model

    def instead(self, error: GatewayError) -> dict[str, Any] | None:
        """Give the answer in a model's own words, if it has drawn nothing and that counts as an answer."""
        words = self.words_of(error)
        return None if words is None else self.whole(words, words_usage(words), {})

    def words_of(self, error: GatewayError | None) -> str | None:
        if self.chat.refusals == "error" or not isinstance(error, RefusedError) or not error.said:
            return None
        return "\n".join(escape(line) for line in error.said.split("\n"))

    def usage(self, result: Result, content: str) -> dict[str, int]:
        """Count tokens, or as the Workers did: what JavaScript calls the length of the drawn prompt and the answer."""
        if self.chat.usage == "tokens":
            return usage_of(result)
        given, made = (len(text.encode("utf-16-le")) // 2 for text in (result.prompt, content))
        return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}

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
    with runtime.jobs.reading(job, patience_for(request, job)):
        try:
            await job.begin(FIRST_STEP)
        except RefusedError as error:
            if answer.words_of(error) is None:
                raise
        if job.result:
            # An answer that is known now can still have a status.
            picture_urls(public_base(request, runtime.settings.server), job.result)
        async with open_stream(request, chat.ping) as (stream, response):
            await stream.send(answer.chunk({"role": "assistant", "content": ""}))
            await _tell_progress(stream, job, answer, chat)
            try:
                result = await job.wait()
            except RefusedError as error:
                if (words := answer.words_of(error)) is None:
                    raise
                await _end(stream, answer, words, words_usage(words))
                return response
            content = answer_content(request, runtime, result)
            await _end(stream, answer, content, answer.usage(result, content), gateway=gateway_field(job, result))
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
    if told and field == "content" and (job.result or answer.words_of(job.error) is not None):
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
    return answer.whole(content, answer.usage(result, content), {"gateway": gateway_field(job, result)})


async def _tell_words(request: web.Request, runtime: Runtime, form: Form, words: str) -> web.StreamResponse:
    answer = Answer(form, runtime.settings.chat)
    answer.model = runtime.resolve(form.model or None, request[CALLER]).public
    usage = words_usage(words)
    if not form.stream:
        return json_response(answer.whole(words, usage, {}))
    async with open_stream(request, 15) as (stream, response):
        await stream.send(answer.chunk({"role": "assistant", "content": ""}))
        await _end(stream, answer, words, usage)
    return response


def words_usage(words: str) -> dict[str, int]:
    count = len(words.split())
    return {"prompt_tokens": 1, "completion_tokens": count, "total_tokens": 1 + count}


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
