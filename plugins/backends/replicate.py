"""Draws with models on Replicate: a prediction that is waited for, polled, and cancelled when nobody wants it."""

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
    Duration,
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
    SizeRule,
    Upstream,
    UpstreamError,
    Url,
    as_data_url,
    classify,
    error_words,
    hookimpl,
    model_path,
    one_line,
    poll,
    repaint_mask,
)

RATIOS = ("1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21")
FLUX: Mapping[str, Any] = {"seed": Range(0, 2**31 - 1), "output_format": ("webp", "jpeg", "png")}
TUNED: Mapping[str, Any] = {**FLUX, "steps": Range(1, 50), "guidance": Range(0, 10)}

MODELS: Mapping[str, Capabilities] = {
    "black-forest-labs/flux-schnell": Capabilities(
        ratios=RATIOS, count=4, accepts={**FLUX, "steps": Range(1, 4)}, progress=True
    ),
    "black-forest-labs/flux-dev": Capabilities(ratios=RATIOS, count=4, accepts=TUNED, inputs=1, progress=True),
    "black-forest-labs/flux-1.1-pro": Capabilities(ratios=RATIOS, accepts=FLUX, progress=True),
    "black-forest-labs/flux-1.1-pro-ultra": Capabilities(
        ratios=RATIOS, accepts={**FLUX, "output_format": ("jpeg", "png")}, progress=True
    ),
    "black-forest-labs/flux-kontext-pro": Capabilities(
        ratios=RATIOS, accepts={**FLUX, "output_format": ("jpeg", "png")}, inputs=1, progress=True
    ),
    "black-forest-labs/flux-kontext-max": Capabilities(
        ratios=RATIOS, accepts={**FLUX, "output_format": ("jpeg", "png")}, inputs=1, progress=True
    ),
    "stability-ai/stable-diffusion-3.5-large": Capabilities(
        ratios=RATIOS,
        accepts={**FLUX, "guidance": Range(1, 10), "negative_prompt": True},
        inputs=1,
        progress=True,
    ),
    "stability-ai/sdxl": Capabilities(
        SizeRule(low=256, high=1536, step=8),
        count=4,
        accepts={
            "seed": Range(0, 2**31 - 1),
            "steps": Range(1, 500),
            "guidance": Range(1, 50),
            "negative_prompt": True,
        },
        inputs=1,
        mask=True,
        progress=True,
    ),
}
UNKNOWN = Capabilities((), accepts={"seed": Range(0, 2**31 - 1)}, progress=True)

NAMES: Mapping[str, Mapping[str, str]] = {
    "stability-ai/sdxl": {"guidance": "guidance_scale"},
    "stability-ai/stable-diffusion-3.5-large": {"guidance": "cfg"},
    "black-forest-labs/flux-kontext-pro": {"image": "input_image"},
    "black-forest-labs/flux-kontext-max": {"image": "input_image"},
}
"""Where a model's input is called otherwise than with most."""

USUAL = {
    "aspect_ratio": "aspect_ratio",
    "seed": "seed",
    "steps": "num_inference_steps",
    "guidance": "guidance",
    "negative_prompt": "negative_prompt",
}
OVER = ("succeeded", "failed", "canceled", "aborted")
REFUSED = re.compile(r"(?i)nsfw|flagged as sensitive|\bE005\b|content (?:policy|moderation)|safety (?:check|filter)")
PERCENT = re.compile(r"(\d{1,3})%\|")
RESETS = re.compile(r"resets in ~?(\d{1,5})\s?s")
ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass
class Replicate:
    """Replicate; the upstream's model is ``owner/name``, or ``owner/name:version`` for models of the community.

    *wait* is how long the first call may wait for the result before it is asked for *every* so often; after *deadline*
    the prediction is cancelled, there as well. *extra* holds more inputs of the model (``{go_fast: true}``).
    """

    keys: Keys
    base_url: Url = "https://api.replicate.com/v1"
    http: Http = field(default_factory=lambda: Http(first_byte=75, total=90))
    wait: Annotated[int, Field(ge=0, le=60)] = 30
    every: Annotated[Duration, Field(gt=0)] = 1
    deadline: Annotated[Duration, Field(gt=0)] = 300
    extra: Mapping[str, Any] = field(default_factory=dict)
    _upstream: Upstream = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.base_url = self.base_url.rstrip("/")
        self._upstream = Upstream(self.http, self.keys, classify=_classify)

    async def __aenter__(self) -> Replicate:
        await self._upstream.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._upstream.close()

    def health(self) -> Mapping[str, Any]:
        """Count the keys."""
        return self._upstream.health()

    def capabilities(self, model: str) -> Capabilities:
        """Look *model* up; inputs differ so much that an unknown one gets the prompt and the seed only."""
        return MODELS.get(model.partition(":")[0], UNKNOWN)

    def outgoing(self, request: ImageRequest) -> Outgoing:
        """Give the call that makes the prediction; it ends there by itself even if we are gone by then."""
        name, _, version = request.model.partition(":")
        path = "predictions" if version else f"models/{model_path(name)}/predictions"
        body: dict[str, Any] = {"version": version} if version else {}
        headers = {"Cancel-After": f"{max(5, round(self.deadline))}s"}
        if self.wait:
            headers["Prefer"] = f"wait={self.wait}"
        json = {**body, "input": {**self.extra, **_input(request, name)}}
        return Outgoing("POST", f"{self.base_url}/{path}", json=json, headers=headers)

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        """Make the prediction, wait, and give the URLs of its output, which live one hour."""
        outgoing = await asyncio.to_thread(self.outgoing, request) if request.images else self.outgoing(request)
        submitted = await self._upstream.send(outgoing, report)
        prediction: Mapping[str, Any] = _prediction(submitted)
        if prediction["status"] not in OVER:
            prediction = await self._wait(submitted, str(prediction["id"]), report)
        return _pictures(prediction, request.n)

    async def _wait(self, submitted: Answer, job: str, report: Report) -> Mapping[str, Any]:
        place = f"{self.base_url}/predictions/{job}"

        async def check() -> Mapping[str, Any] | None:
            prediction = _prediction(await self._upstream.send(Outgoing("GET", place), after=submitted))
            if prediction["status"] in OVER:
                return prediction
            percents = PERCENT.findall(str(prediction.get("logs") or "")[-2000:])
            report.progress(int(percents[-1]) / 100 if percents else 0, prediction["status"])
            return None

        async def cancel() -> None:
            await self._upstream.send(Outgoing("POST", f"{place}/cancel"), after=submitted)

        return await poll(check, every=self.every, deadline=self.deadline, cancel=cancel)


def _input(request: ImageRequest, model: str) -> dict[str, Any]:
    names = {**USUAL, **NAMES.get(model, {})}
    inputs: dict[str, Any] = {"prompt": request.prompt}
    for ours in USUAL:
        if (value := getattr(request, ours)) is not None:
            inputs[names[ours]] = value
    if request.size:
        inputs |= {"width": request.size.width, "height": request.size.height}
    if request.n > 1:
        inputs["num_outputs"] = request.n
    if request.output_format:
        inputs["output_format"] = "jpg" if request.output_format == "jpeg" else request.output_format
    if request.images:
        inputs[names.get("image", "image")] = as_data_url(request.images[0])
    if request.mask:
        inputs["mask"] = as_data_url(Image(repaint_mask(request.mask), media_type="image/png"))
    return inputs


def _classify(answer: Answer) -> GatewayError | None:
    error = classify(answer)
    if isinstance(error, RateLimitedError) and error.retry_after is None:
        told = RESETS.search(error_words(answer)) or ID.fullmatch(answer.headers.get("ratelimit-reset", ""))
        seconds = told[told.re.groups] if told else ""
        error.retry_after = float(seconds) if seconds.isdigit() and int(seconds) < 86_400 else None
    return error


def _prediction(answer: Answer) -> Mapping[str, Any]:
    body = answer.json()
    if not isinstance(body, dict) or not isinstance(body.get("status"), str):
        raise BrokenAnswerError("answered something that is no prediction")
    if body["status"] not in OVER and not ID.fullmatch(str(body.get("id") or "")):
        raise BrokenAnswerError("took the job but gave it no usable id")
    return body


def _pictures(prediction: Mapping[str, Any], n: int) -> list[Image]:
    status, words = prediction["status"], one_line(str(prediction.get("error") or ""))
    if status != "succeeded":
        if REFUSED.search(words):
            raise RefusedError(f"refused the content ({words})")
        raise UpstreamError(f"could not finish the job ({status}{': ' if words else ''}{words})", retryable=True)
    output = prediction.get("output")
    urls = [url for url in (output if isinstance(output, list) else [output]) if isinstance(url, str) and url]
    if not urls:
        gone = " (its output was removed already)" if prediction.get("data_removed") else ""
        raise BrokenAnswerError(f"finished without a picture{gone}")
    return [Image(url=url) for url in urls[:n]]


@hookimpl
def provide_backends() -> Mapping[str, type[Replicate]]:
    """Offer ``replicate``."""
    return {"replicate": Replicate}
