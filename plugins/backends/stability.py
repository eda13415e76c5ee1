"""Draws with Stability AI's REST API: multipart forms in, base64 in JSON out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from gateway import (
    Answer,
    BrokenAnswerError,
    Capabilities,
    FormField,
    GatewayError,
    Http,
    Image,
    ImageRequest,
    Keys,
    Outgoing,
    Range,
    RateLimitedError,
    RefusedError,
    Report,
    Upstream,
    Url,
    classify,
    decode,
    error_words,
    hookimpl,
    is_picture,
    model_path,
)

RATIOS = ("1:1", "16:9", "21:9", "2:3", "3:2", "4:5", "5:4", "9:16", "9:21")
STYLES = (
    "3d-model",
    "analog-film",
    "anime",
    "cinematic",
    "comic-book",
    "digital-art",
    "enhance",
    "fantasy-art",
    "isometric",
    "line-art",
    "low-poly",
    "modeling-compound",
    "neon-punk",
    "origami",
    "photographic",
    "pixel-art",
    "tile-texture",
)
BASIC: Mapping[str, Any] = {
    "seed": Range(0, 4_294_967_294),
    "negative_prompt": True,
    "output_format": ("png", "jpeg", "webp"),
    "style": STYLES,
}
SD3 = Capabilities(
    ratios=RATIOS,
    accepts={**BASIC, "output_format": ("png", "jpeg"), "guidance": Range(1, 10)},
    inputs=1,
    prompt_limit=10_000,
)
GENERATE = Capabilities(ratios=RATIOS, accepts=BASIC, prompt_limit=10_000)
MODELS: Mapping[str, Capabilities] = {
    "ultra": GENERATE,
    "core": GENERATE,
    "sd3.5-large": SD3,
    "sd3.5-large-turbo": SD3,
    "sd3.5-medium": SD3,
}
NAMES = {"negative_prompt": "negative_prompt", "output_format": "output_format", "style": "style_preset"}
TIME_OUT = 60.0
"""Whoever calls too often is shut out for this long, whatever the answer says."""


@dataclass
class Stability:
    """Stability AI; models ``ultra``, ``core`` and the ``sd3.5-…`` ones, which take an input picture as well.

    *strength* is how far an input picture may be left behind, 0 to 1.
    """

    keys: Keys
    base_url: Url = "https://api.stability.ai"
    http: Http = field(default_factory=Http)
    strength: Annotated[float, Field(ge=0, le=1)] = 0.7
    _upstream: Upstream = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.base_url = self.base_url.rstrip("/")
        self._upstream = Upstream(self.http, self.keys, classify=_classify)

    async def __aenter__(self) -> Stability:
        await self._upstream.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._upstream.close()

    def health(self) -> Mapping[str, Any]:
        """Count the keys."""
        return self._upstream.health()

    def capabilities(self, model: str) -> Capabilities:
        """Look *model* up; an unknown one counts as ``core`` does, or as ``sd3.5-large`` if it is called sd3…"""
        return MODELS.get(model, SD3 if model.startswith("sd3") else GENERATE)

    def outgoing(self, request: ImageRequest) -> Outgoing:
        """Give the call; a form even without files, as this API wants it."""
        engine = "sd3" if request.model.startswith("sd3") else model_path(request.model)
        fields = [FormField("prompt", request.prompt)]
        if engine == "sd3":
            fields.append(FormField("model", request.model))
            fields.append(FormField("mode", "image-to-image" if request.images else "text-to-image"))
        if request.images:
            picture = request.images[0]
            fields.append(FormField("image", picture.data, "image", picture.media_type or "image/png"))
            fields.append(FormField("strength", str(self.strength)))
        elif request.aspect_ratio:
            fields.append(FormField("aspect_ratio", request.aspect_ratio))
        named = {theirs: getattr(request, ours) for ours, theirs in NAMES.items()}
        named |= {"seed": request.seed, "cfg_scale": request.guidance if engine == "sd3" else None}
        fields += [FormField(name, str(value)) for name, value in named.items() if value is not None]
        url = f"{self.base_url}/v2beta/stable-image/generate/{engine}"
        return Outgoing("POST", url, form=tuple(fields), headers={"Accept": "application/json"})

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        """Make one picture; a blurred one with 200 is a refusal."""
        if request.images and request.aspect_ratio:
            report.noted("aspect_ratio: an edit keeps that of its picture; not sent")
        outgoing = await asyncio.to_thread(self.outgoing, request) if request.images else self.outgoing(request)
        answer = await self._upstream.send(outgoing, report)
        if is_picture(answer.body[:64]) or answer.media_type.startswith("image/"):
            _check_reason(answer.headers.get("finish-reason", "SUCCESS"))
            return [Image(answer.body, seed=_seed(answer.headers.get("seed")))]
        body = answer.json()
        if not isinstance(body, dict):
            raise BrokenAnswerError("answered JSON of another form than promised")
        _check_reason(body.get("finish_reason"))
        if not isinstance(body.get("image"), str):
            raise BrokenAnswerError("answered without a picture")
        return [Image(await decode(body["image"]), seed=_seed(body.get("seed")))]


def _classify(answer: Answer) -> GatewayError | None:
    error = classify(answer)
    if isinstance(error, RateLimitedError) and error.retry_after is None:
        error.retry_after = TIME_OUT
    if answer.status == 403 and b"content_moderation" in answer.body[:4096]:
        return RefusedError(f"refused the content (HTTP 403: {error_words(answer)})")
    return error


def _check_reason(reason: object) -> None:
    if reason == "CONTENT_FILTERED":
        raise RefusedError("refused the picture it made (finish_reason CONTENT_FILTERED)")
    if reason not in ("SUCCESS", None):
        raise BrokenAnswerError("did not finish the picture")


def _seed(value: object) -> int | None:
    return int(value) if isinstance(value, int | str) and re.fullmatch(r"[0-9]{1,20}", str(value)) else None


@hookimpl
def provide_backends() -> Mapping[str, type[Stability]]:
    """Offer ``stability``."""
    return {"stability": Stability}
