"""Draws with any API that resembles OpenAI's images API; the differences are data."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import quote

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
    Report,
    Secret,
    Upstream,
    UpstreamTimeoutError,
    Url,
    classify,
    error_code,
    error_words,
    hookimpl,
    model_path,
    retry_after,
)

from .catalogue import DIALECTS
from .custom import Custom
from .dialects import Dialect
from .reading import pictures_in
from .stream import PictureStream
from .writing import fields_of, form_of, is_converted, json_inputs, merged, put

LARGE = 4 * 2**20
"""Pixels from which a picture as PNG and base64 may pass the usual limit of bytes."""
DialectName = Literal[
    "openai",
    "azure",
    "azure-deployments",
    "siliconflow",
    "together",
    "fireworks",
    "deepinfra",
    "nebius",
    "xai",
    "localai",
    "stable-diffusion.cpp",
    "vllm-omni",
    "sglang",
    "custom",
]


@dataclass
class OpenAIImages:
    """An images API. *dialect* says which; ``custom`` is described by *custom*.

    *base_url* replaces the vendor's own address; *endpoint* is the full URL of the images endpoint if its path is
    unusual. *steps* are sent when the request asks for none. *fields* go along with every call, *headers* too.
    *api_version* is Azure's.
    """

    dialect: DialectName = "openai"
    base_url: Url = ""
    keys: Keys = ()
    endpoint: Url = ""
    steps: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    organization: str = ""
    project: str = ""
    api_version: str = ""
    custom: Custom | None = None
    http: Http = field(default_factory=Http)
    _dialect: Dialect = field(init=False, repr=False)
    _upstream: Upstream = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if (self.dialect == "custom") != (self.custom is not None):
            raise ValueError("dialect: custom and the section custom belong together")
        self._dialect = self.custom.dialect() if self.custom else DIALECTS[self.dialect]
        if not (self.base_url or self.endpoint or self._dialect.base_url):
            raise ValueError(f"the dialect {self.dialect} has no address of its own: base_url is needed")
        self._upstream = Upstream(self.http, self.keys, authorize=self._authorize, classify=self._judge)

    async def __aenter__(self) -> OpenAIImages:
        await self._upstream.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._upstream.close()

    def health(self) -> dict[str, int]:
        """Count the keys by their state."""
        return self._upstream.health()

    def capabilities(self, model: str) -> Capabilities:
        """Say what the dialect knows of *model*."""
        known = self._dialect.capabilities(model)
        # An endpoint given whole says nothing of where edits go.
        edits = self._dialect.inputs
        return known if edits and not (self.endpoint and edits.path != self._dialect.path) else replace(known, inputs=0)

    def outgoing(self, request: ImageRequest) -> Outgoing:
        """Give the call that `generate` makes."""
        fields = fields_of(self._with_steps(request), self._dialect, self.capabilities(request.model))
        self._put_steps(fields, request)
        if self._streams(request):
            fields["stream"] = True
        fields = merged(fields, {**self._dialect.fixed, **self.fields})
        headers = dict(self.headers)
        headers |= {"OpenAI-Organization": self.organization} if self.organization else {}
        headers |= {"OpenAI-Project": self.project} if self.project else {}
        inputs = self._dialect.inputs
        if not request.images or inputs is None:
            return Outgoing("POST", self._url(self._dialect.path_of(request.model), request.model), fields, (), headers)
        url = self._url(inputs.path, request.model)
        if inputs.style == "form":
            return Outgoing("POST", url, form=form_of(fields, request, inputs), headers=headers)
        fields |= json_inputs(inputs.style, request, inputs.one, inputs.many)
        return Outgoing("POST", url, fields, (), headers)

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        """Give the pictures that the upstream makes, be they more or fewer than ``request.n``."""
        stream = PictureStream(report, self.keys) if self._streams(request) else None
        outgoing = await asyncio.to_thread(self.outgoing, request) if request.mask else self.outgoing(request)
        if request.mask and is_converted(request.mask, outgoing.form):
            report.noted("mask: converted to the PNG that the target takes")
        try:
            answer = await self._upstream.send(outgoing, report, pictures=_parts_of(request), watch=stream)
        except (BrokenAnswerError, UpstreamTimeoutError) as error:
            if stream is None or not (came := stream.came()):
                raise
            report.noted(f"the stream of pictures broke off: {error.message}")
            return came
        if stream is not None and answer.is_stream:
            return stream.finished()
        return await pictures_in(answer, self._dialect.answers, report)

    def _streams(self, request: ImageRequest) -> bool:
        return self._dialect.streams and bool(request.partial_images)

    def _with_steps(self, request: ImageRequest) -> ImageRequest:
        return request if request.steps is not None or self.steps is None else replace(request, steps=self.steps)

    def _put_steps(self, fields: dict[str, Any], request: ImageRequest) -> None:
        """Send the configured steps even to a model that the table says takes none: who wrote them knows better."""
        if self.steps is not None and "steps" in self._dialect.names and request.steps is None:
            put(fields, self._dialect.names["steps"], self.steps)

    def _url(self, path: str, model: str) -> str:
        if self.endpoint:
            return self.endpoint
        version = quote(self.api_version or self._dialect.version, safe="")
        name = model_path(self._dialect.upstream_name(model)) if "{model}" in path else ""
        base = (self.base_url or self._dialect.base_url).rstrip("/")
        return base + path.replace("{model}", name).replace("{version}", version)

    def _authorize(self, key: Secret) -> dict[str, str]:
        return {self._dialect.header: f"{self._dialect.scheme}{key}"}

    def _judge(self, answer: Answer) -> GatewayError | None:
        if answer.status >= 400 and self._dialect.errors:
            marks = f"{answer.status} {error_code(answer)} {error_words(answer)}"
            for pattern, kind in self._dialect.errors:
                if re.search(pattern, marks, re.IGNORECASE):
                    return kind(f"HTTP {answer.status}: {error_words(answer)}", retry_after=retry_after(answer))
        return classify(answer)


def _parts_of(request: ImageRequest) -> int:
    """Count how many usual pictures the answer may hold: previews are as large as what they show, 4K is twice that."""
    large = request.size is not None and request.size.width * request.size.height > LARGE
    return request.n * (1 + (request.partial_images or 0)) * (2 if large else 1)


@hookimpl
def provide_backends() -> dict[str, type[OpenAIImages]]:
    return {"openai_images": OpenAIImages}
