"""Draws with models on fal.ai through its queue: submit, ask for the state, fetch the answer, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway import (
    Answer,
    BrokenAnswerError,
    Capabilities,
    Duration,
    Http,
    Image,
    ImageRequest,
    Keys,
    Outgoing,
    Range,
    RefusedError,
    Report,
    SizeRule,
    Upstream,
    UpstreamError,
    Url,
    as_data_url,
    hookimpl,
    may_follow,
    model_path,
    one_line,
    poll,
    repaint_mask,
)

SIZES = SizeRule(low=256, high=2048, step=16)
SEED = Range(0, 2**31 - 1)
BASIC: Mapping[str, Any] = {"seed": SEED, "output_format": ("jpeg", "png")}
TUNED: Mapping[str, Any] = {**BASIC, "steps": Range(1, 50), "guidance": Range(1, 20)}
SIZES_2 = SizeRule(low=512, high=2048, step=16)
TUNED_2: Mapping[str, Any] = {**BASIC, "steps": Range(4, 50), "guidance": Range(0, 20)}
KONTEXT = ("21:9", "16:9", "4:3", "3:2", "1:1", "2:3", "3:4", "9:16", "9:21")

MODELS: Mapping[str, Capabilities] = {
    "fal-ai/flux/schnell": Capabilities(SIZES, count=4, accepts={**BASIC, "steps": Range(1, 12)}, progress=True),
    "fal-ai/flux/dev": Capabilities(SIZES, count=4, accepts=TUNED, progress=True),
    "fal-ai/flux-pro/v1.1": Capabilities(SIZES, count=4, accepts=BASIC, progress=True),
    "fal-ai/flux-2": Capabilities(SIZES_2, count=4, accepts=TUNED_2, progress=True),
    "fal-ai/flux-2-dev": Capabilities(SIZES_2, count=4, accepts=TUNED_2, progress=True),
    "fal-ai/flux-2/edit": Capabilities(SIZES_2, count=4, accepts=TUNED_2, inputs=4, needs_input=True, progress=True),
    "fal-ai/flux-pro/kontext": Capabilities(
        ratios=KONTEXT,
        count=4,
        accepts={**BASIC, "guidance": Range(1, 20)},
        inputs=1,
        needs_input=True,
        progress=True,
    ),
    "fal-ai/flux/dev/image-to-image": Capabilities(
        (), count=4, accepts=TUNED, inputs=1, needs_input=True, progress=True
    ),
    "fal-ai/flux-general/inpainting": Capabilities(
        SIZES, count=4, accepts=TUNED, inputs=1, needs_input=True, mask=True, progress=True
    ),
    "fal-ai/fast-sdxl": Capabilities(SIZES, count=4, accepts={**TUNED, "negative_prompt": True}, progress=True),
}
UNKNOWN = Capabilities(SIZES, count=4, accepts={"seed": SEED}, progress=True)
SEVERAL = frozenset({"fal-ai/flux-2/edit"})
"""Models that take a list of input pictures."""

REFUSED = "content_policy_violation"

NAMES = {
    "aspect_ratio": "aspect_ratio",
    "seed": "seed",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "negative_prompt": "negative_prompt",
    "output_format": "output_format",
}


@dataclass
class Fal:
    """fal.ai; the upstream's model is the path that its page names (``fal-ai/flux/dev``).

    *scheme* is ``Bearer`` behind Hugging Face's router, which waits itself and answers with the pictures (give
    *http.first_byte* and *http.total* the time). *deadline* bounds the whole job, which is asked for *every* so
    often and cancelled there when it passes. *extra* holds more inputs (``{enable_safety_checker: false}``).
    """

    keys: Keys
    base_url: Url = "https://queue.fal.run"
    scheme: Literal["Key", "Bearer"] = "Key"
    http: Http = field(default_factory=lambda: Http(first_byte=30, total=60))
    every: Annotated[Duration, Field(gt=0)] = 1
    deadline: Annotated[Duration, Field(gt=0)] = 300
    extra: Mapping[str, Any] = field(default_factory=dict)
    _upstream: Upstream = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.base_url = self.base_url.rstrip("/")
        self._upstream = Upstream(self.http, self.keys, authorize=self._authorize)

    async def __aenter__(self) -> Fal:
        await self._upstream.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._upstream.close()

    def health(self) -> Mapping[str, Any]:
        """Count the keys."""
        return self._upstream.health()

    def capabilities(self, model: str) -> Capabilities:
        """Look *model* up; an unknown one gets prompt, size, count and seed."""
        return MODELS.get(model, UNKNOWN)

    def outgoing(self, request: ImageRequest) -> Outgoing:
        """Give the call that puts the job into the queue."""
        body: dict[str, Any] = {**self.extra, "prompt": request.prompt, "num_images": request.n}
        if request.size:
            body["image_size"] = {"width": request.size.width, "height": request.size.height}
        body |= {theirs: value for ours, theirs in NAMES.items() if (value := getattr(request, ours)) is not None}
        if request.images and request.model in SEVERAL:
            body["image_urls"] = [as_data_url(image) for image in request.images]
        elif request.images:
            body["image_url"] = as_data_url(request.images[0])
        if request.mask:
            body["mask_url"] = as_data_url(Image(repaint_mask(request.mask), media_type="image/png"))
        return Outgoing("POST", f"{self.base_url}/{model_path(request.model)}", json=body)

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        """Queue the job, wait, and give the URLs of what came, less what the safety checker blackened."""
        outgoing = await asyncio.to_thread(self.outgoing, request) if request.images else self.outgoing(request)
        # With ``sync_mode`` it answers at once.
        submitted = await self._upstream.send(outgoing, report, pictures=request.n)
        if _is_finished(submitted):
            return _pictures(submitted, request.n)
        state_url, answer_url = (self._place(submitted, name) for name in ("status_url", "response_url"))

        async def check() -> Mapping[str, Any] | None:
            state = (await self._upstream.send(Outgoing("GET", state_url), after=submitted)).json()
            if not isinstance(state, dict) or not isinstance(state.get("status"), str):
                raise BrokenAnswerError("told the state of the job in a form that is not known")
            place = state.get("queue_position")
            report.progress(0, f"queued, place {place}" if isinstance(place, int) else state["status"].lower())
            return None if state["status"] in ("IN_QUEUE", "IN_PROGRESS") else state

        async def cancel() -> None:
            await self._upstream.send(Outgoing("PUT", self._place(submitted, "cancel_url")), after=submitted)

        state = await poll(check, every=self.every, deadline=self.deadline, cancel=cancel)
        return _pictures(await self._answer(state, answer_url, submitted), request.n)

    async def _answer(self, state: Mapping[str, Any], place: str, submitted: Answer) -> Answer:
        """Fetch the finished job's answer, again if that fails in passing: it is paid for."""
        if state["status"] != "COMPLETED" or state.get("error"):
            words = one_line(str(state.get("error") or state["status"]))
            if REFUSED in f"{words} {state.get('error_type')}":
                raise RefusedError(f"refused the content ({words})")
            raise UpstreamError(f"could not finish the job ({words})", billed=False, retryable=True)

        async def fetch() -> Answer:
            return await self._upstream.send(Outgoing("GET", place), after=submitted, pictures=4)

        return await poll(fetch, every=self.every, deadline=self.http.total)

    def _place(self, submitted: Answer, name: str) -> str:
        """Read one of the job's addresses; the key goes along, so that it must be theirs."""
        body = submitted.json()
        url = body.get(name) if isinstance(body, dict) else None
        if not isinstance(url, str):
            raise BrokenAnswerError(f"took the job but gave no {name}")
        if not may_follow(url, self.base_url, "fal.run" if self.scheme == "Key" else ""):
            raise BrokenAnswerError(f"gave a {name} at a host that the key is not for; it stays here")
        return url

    def _authorize(self, key: str) -> Mapping[str, str]:
        return {"Authorization": f"{self.scheme} {key}"}


def _is_finished(submitted: Answer) -> bool:
    """Say whether the pictures came at once, as they do from Hugging Face's router and from fal's synchronous hosts."""
    body = submitted.json()
    return isinstance(body, dict) and ("images" in body or "image" in body)


def _pictures(answer: Answer, n: int) -> list[Image]:
    body = answer.json()
    images = body.get("images", [body.get("image")]) if isinstance(body, dict) else None
    if not isinstance(images, list):
        raise BrokenAnswerError("finished without a picture")
    urls = [image.get("url") if isinstance(image, dict) else None for image in images]
    told = body.get("has_nsfw_concepts")
    flags: list[Any] = told if isinstance(told, list) else []
    clean = [url for place, url in enumerate(urls) if not (place < len(flags) and flags[place] is True)]
    if urls and not clean:
        raise RefusedError("refused what it had drawn (has_nsfw_concepts): the pictures came blackened")
    seed = body.get("seed") if len(urls) == 1 and isinstance(body.get("seed"), int) else None
    found = [Image(url=url, seed=seed) for url in clean if isinstance(url, str) and url]
    if not found:
        raise BrokenAnswerError("finished without a picture")
    return found[:n]


@hookimpl
def provide_backends() -> Mapping[str, type[Fal]]:
    """Offer ``fal``."""
    return {"fal": Fal}
