"""Draws with Hugging Face Inference: a JSON body in, the picture's bytes out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway import (
    Answer,
    BrokenAnswerError,
    BusyUpstreamError,
    Capabilities,
    GatewayError,
    Http,
    Image,
    ImageRequest,
    Keys,
    Outgoing,
    Range,
    Report,
    SizeRule,
    Upstream,
    Url,
    as_base64,
    classify,
    hookimpl,
    is_picture,
    model_path,
)

SIZES = SizeRule(low=64, high=2048, step=8)
ACCEPTS: Mapping[str, Any] = {
    "seed": Range(0, 2**32 - 1),
    "steps": Range(1, 100),
    "guidance": Range(0, 30),
    "negative_prompt": True,
}
FLUX = Capabilities(SIZES, accepts={name: limit for name, limit in ACCEPTS.items() if name != "negative_prompt"})
EDIT = Capabilities((), accepts=ACCEPTS, inputs=1, needs_input=True)
MODELS: Mapping[str, Capabilities] = {
    "black-forest-labs/FLUX.1-schnell": Capabilities(
        SIZES, accepts={name: ACCEPTS[name] for name in ("seed", "steps")}
    ),
    "black-forest-labs/FLUX.1-dev": FLUX,
    "black-forest-labs/FLUX.1-Kontext-dev": EDIT,
    "Qwen/Qwen-Image-Edit": EDIT,
    "timbrooks/instruct-pix2pix": EDIT,
}
UNKNOWN = Capabilities(SIZES, accepts=ACCEPTS)
NAMES = {
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "negative_prompt": "negative_prompt",
    "seed": "seed",
}


@dataclass
class HuggingFace:
    """Hugging Face's own inference; the upstream's model is the repository (``black-forest-labs/FLUX.1-dev``).

    Partners behind its router speak their own APIs: use `openai_images`, `replicate` or `fal` (*scheme* ``Bearer``)
    with the router's address as their *base_url*. A self-made endpoint has its whole URL in *base_url* and no model.
    """

    keys: Keys
    base_url: Url = "https://router.huggingface.co/hf-inference/models"
    http: Http = field(default_factory=Http)
    extra: Mapping[str, Any] = field(default_factory=dict)
    _upstream: Upstream = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.base_url = self.base_url.rstrip("/")
        self._upstream = Upstream(self.http, self.keys, classify=_classify)

    async def __aenter__(self) -> HuggingFace:
        await self._upstream.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._upstream.close()

    def health(self) -> Mapping[str, Any]:
        """Count the keys."""
        return self._upstream.health()

    def capabilities(self, model: str) -> Capabilities:
        """Look *model* up; an unknown one gets what the text-to-image task is defined to take."""
        return MODELS.get(model, UNKNOWN)

    def outgoing(self, request: ImageRequest) -> Outgoing:
        """Give the call; in an edit the picture is the input and the prompt a parameter."""
        given = {theirs: value for ours, theirs in NAMES.items() if (value := getattr(request, ours)) is not None}
        parameters: dict[str, Any] = {**self.extra, **given}
        if request.size:
            parameters |= {"width": request.size.width, "height": request.size.height}
        if request.images:
            parameters["prompt"] = request.prompt
        body: dict[str, Any] = {"inputs": as_base64(request.images[0]) if request.images else request.prompt}
        url = f"{self.base_url}/{model_path(request.model)}" if request.model else self.base_url
        if parameters:
            body["parameters"] = parameters
        return Outgoing("POST", url, json=body, headers={"Accept": "image/png"})

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        """Make one picture."""
        outgoing = await asyncio.to_thread(self.outgoing, request) if request.images else self.outgoing(request)
        answer = await self._upstream.send(outgoing, report)
        words = answer.body[:1] in b"{[" or answer.media_type in ("application/json", "text/html")
        if words and not is_picture(answer.body[:64]):
            raise BrokenAnswerError(f"answered {answer.kind()} instead of a picture")
        return [Image(answer.body)]


def _classify(answer: Answer) -> GatewayError | None:
    """Read how long a model that is being loaded will take."""
    error = classify(answer)
    if not isinstance(error, BusyUpstreamError) or error.retry_after is not None:
        return error
    try:
        body = answer.json()
    except BrokenAnswerError:
        return error
    told = body.get("estimated_time") if isinstance(body, dict) else None
    if isinstance(told, int | float) and math.isfinite(told) and 0 < told < 3600:
        error.retry_after = float(math.ceil(told))
    return error


@hookimpl
def provide_backends() -> Mapping[str, type[HuggingFace]]:
    """Offer ``huggingface``."""
    return {"huggingface": HuggingFace}
