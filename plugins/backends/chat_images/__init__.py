"""Draws with models that answer pictures in chat completions."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway import (
    Answer,
    BrokenAnswerError,
    Capabilities,
    GatewayError,
    Http,
    Image,
    ImageRequest,
    Keys,
    Outgoing,
    RefusedError,
    Report,
    Upstream,
    Url,
    as_data_url,
    classify,
    classify_told,
    hookimpl,
    image_of,
    one_line,
    read_usage,
    unpack,
    value_at,
    whole_images,
)

from .folding import completion_of
from .sources import LONGEST_URL, in_list, in_output, in_text, texts_of

log = logging.getLogger(__name__)

LONGEST_ERROR = 64 * 2**10
"""Bytes of an answer that may be an error; one with a picture is longer, or has none."""
RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
FIRST = ("choices", 0, "message", "images", 0, "image_url", "url")
MOST_LINES = 200


@dataclass
class ChatImages:
    """A chat model that draws.

    *base_url* ends with ``/v1`` or the like; *endpoint* is the full URL instead, if the path is unusual. *ratio* says
    how a wanted aspect ratio is told: not at all (``none``), as OpenRouter's ``image_config``, or by ``words`` at the
    end of the prompt. *fields* go along with every call (``modalities: [image, text]``), *headers* too.
    """

    base_url: Url = ""
    keys: Keys = ()
    endpoint: Url = ""
    ratio: Literal["none", "image_config", "words"] = "none"
    inputs: int = 4
    fields: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    http: Http = field(default_factory=Http)
    _upstream: Upstream = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not (self.base_url or self.endpoint):
            raise ValueError("base_url is needed")
        self._upstream = Upstream(self.http, self.keys, classify=_judge)

    async def __aenter__(self) -> ChatImages:
        await self._upstream.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._upstream.close()

    def health(self) -> dict[str, int]:
        """Count the keys by their state."""
        return self._upstream.health()

    def capabilities(self, model: str) -> Capabilities:
        """Say what can be told to a chat model: the prompt, pictures, and the ratio if *ratio* says how."""
        return Capabilities(sizes=(), ratios=() if self.ratio == "none" else RATIOS, inputs=self.inputs)

    def outgoing(self, request: ImageRequest) -> Outgoing:
        """Give the call that `generate` makes."""
        prompt, fields = request.prompt, dict(self.fields)
        if request.aspect_ratio and self.ratio == "words":
            prompt = f"{prompt}\n\nAspect ratio: {request.aspect_ratio}"
        if request.aspect_ratio and self.ratio == "image_config":
            fields["image_config"] = {**fields.get("image_config", {}), "aspect_ratio": request.aspect_ratio}
        pictures = [{"type": "image_url", "image_url": {"url": as_data_url(image)}} for image in request.images]
        content = [{"type": "text", "text": prompt}, *pictures] if pictures else prompt
        message = {"role": "user", "content": content}
        body = {"model": request.model, "messages": [message], "stream": False, **fields}
        url = self.endpoint or f"{self.base_url.rstrip('/')}/chat/completions"
        return Outgoing("POST", url, json=body, headers=dict(self.headers))

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        """Make one picture."""
        # Drafts, and the same picture in two places, may come along.
        answer = await self._upstream.send(self.outgoing(request), report, pictures=4)
        return [await _picture(answer, report)]


async def _picture(answer: Answer, report: Report) -> Image:
    """Read the first whole picture of *answer*; raise `RefusedError` with the model's words if there are only words."""
    parsed, first = await _parsed(answer)
    if isinstance(parsed, Mapping) and (usage := read_usage(parsed.get("usage"))):
        report.used(usage)
    if first is not None:
        return Image(data=first)
    if not isinstance(parsed, Mapping):
        raise BrokenAnswerError("answered JSON that is no chat completion")
    message = value_at(parsed, ("choices", 0, "message"))
    message = message if isinstance(message, Mapping) else {}
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    words = content if isinstance(content, str) else "\n".join(texts_of(parts))
    sources = [*in_list(message.get("images")), *in_list(parts), *in_output(parsed.get("output")), *in_text(words)]
    found, _ = await whole_images(map(image_of, dict.fromkeys(sources)), 1)
    if found:
        return found[0]
    refusal = message.get("refusal")
    whole = refusal if isinstance(refusal, str) and refusal else words
    said = one_line(whole, answer.secrets)
    if said:
        refused = RefusedError(f"answered with words instead of a picture: {said}")
        refused.said = "\n".join(
            one_line(line, answer.secrets, LONGEST_URL) for line in whole.splitlines()[:MOST_LINES]
        )
        raise refused
    if value_at(parsed, ("choices", 0, "finish_reason")) == "content_filter":
        raise RefusedError("refused the content (content_filter)")
    raise BrokenAnswerError("answered neither a picture nor words")


def _probably_first(body: bytes) -> bool:
    """Say whether the first of *images* may be plain base64 or a data URL, which `unpack` reads fastest."""
    return b'"images"' in body[:4096] and b"base64," in body[:4096]


async def _parsed(answer: Answer) -> tuple[Any, bytes | None]:
    if _probably_first(answer.body):
        try:
            return await unpack(answer.body, FIRST)
        except BrokenAnswerError:
            log.info("the first picture of a chat answer is broken; others may be whole")
    return completion_of(answer), None


def _judge(answer: Answer) -> GatewayError | None:
    """See what an error in a 200 means; OpenRouter writes the true status into its code."""
    if (judged := classify(answer)) is not None or len(answer.body) > LONGEST_ERROR or b'"error"' not in answer.body:
        return judged
    try:
        parsed = completion_of(answer)
    except BrokenAnswerError:
        return None
    error = value_at(parsed, ("error",)) or value_at(parsed, ("choices", 0, "error"))
    return classify_told(answer, error, otherwise=502) if error else None


@hookimpl
def provide_backends() -> dict[str, type[ChatImages]]:
    return {"chat_images": ChatImages}
