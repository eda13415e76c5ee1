"""Draws with Black Forest Labs' own API: submit, poll where the answer says, hand over the signed URL."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

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
    as_base64,
    hookimpl,
    may_follow,
    model_path,
    poll,
    repaint_mask,
)

RATIOS = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "4:5", "5:4", "21:9", "9:21", "2:1", "1:2")
SEED = Range(0, 2**32 - 1)
BASIC: Mapping[str, Any] = {"seed": SEED, "output_format": ("jpeg", "png", "webp")}
OLDER: Mapping[str, Any] = {"seed": SEED, "output_format": ("jpeg", "png")}
TUNED: Mapping[str, Any] = {"steps": Range(1, 50), "guidance": Range(1.5, 10)}
FLUX_2 = SizeRule(low=64, high=4096, step=16, most_pixels=4 * 2**20)
FLUX_1 = SizeRule(low=256, high=1440, step=32)

MODELS: Mapping[str, Capabilities] = {
    "flux-2-pro": Capabilities(FLUX_2, accepts=BASIC, inputs=8, progress=True),
    "flux-2-max": Capabilities(FLUX_2, accepts=BASIC, inputs=8, progress=True),
    "flux-2-flex": Capabilities(FLUX_2, accepts={**BASIC, **TUNED}, inputs=8, progress=True),
    "flux-2-klein-4b": Capabilities(FLUX_2, accepts=BASIC, inputs=4, progress=True),
    "flux-2-klein-9b": Capabilities(FLUX_2, accepts=BASIC, inputs=4, progress=True),
    "flux-pro-1.1": Capabilities(FLUX_1, accepts=OLDER, inputs=1, progress=True),
    "flux-pro-1.1-ultra": Capabilities(ratios=RATIOS, accepts=OLDER, inputs=1, progress=True),
    "flux-dev": Capabilities(
        FLUX_1,
        accepts={**OLDER, "steps": Range(1, 50), "guidance": Range(1.5, 5)},
        inputs=1,
        progress=True,
    ),
    "flux-kontext-pro": Capabilities(ratios=RATIOS, accepts=OLDER, inputs=4, progress=True),
    "flux-kontext-max": Capabilities(ratios=RATIOS, accepts=OLDER, inputs=4, progress=True),
    "flux-pro-1.0-fill": Capabilities(
        (),
        accepts={**OLDER, "steps": Range(15, 50), "guidance": Range(1.5, 100)},
        inputs=1,
        needs_input=True,
        mask=True,
        progress=True,
    ),
}
UNKNOWN = Capabilities(FLUX_2, accepts={"seed": SEED}, progress=True)

FIRST_INPUT = {"flux-pro-1.1": "image_prompt", "flux-pro-1.1-ultra": "image_prompt", "flux-dev": "image_prompt"}
"""What the first input picture is called where it is not ``input_image``."""

MODERATED = {"Request Moderated": "the request", "Content Moderated": "the picture made"}


@dataclass
class BlackForestLabs:
    """Black Forest Labs' API; the upstream's model is the last part of its path (``flux-2-pro``).

    *http* bounds each call, *deadline* the whole job, which is asked for again *every* so often. *extra* is sent
    besides (``{safety_tolerance: 2}``). A job there cannot be cancelled.
    """

    keys: Keys
    base_url: Url = "https://api.bfl.ai"
    http: Http = field(default_factory=lambda: Http(first_byte=30, total=60))
    every: Annotated[Duration, Field(gt=0)] = 1
    deadline: Annotated[Duration, Field(gt=0)] = 300
    extra: Mapping[str, Any] = field(default_factory=dict)
    _upstream: Upstream = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.base_url = self.base_url.rstrip("/")
        self._upstream = Upstream(self.http, self.keys, authorize=_authorize)

    async def __aenter__(self) -> BlackForestLabs:
        await self._upstream.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._upstream.close()

    def health(self) -> Mapping[str, Any]:
        """Count the keys."""
        return self._upstream.health()

    def capabilities(self, model: str) -> Capabilities:
        """Look *model* up; an unknown one is taken for a FLUX.2 without extras."""
        return MODELS.get(model, UNKNOWN)

    def outgoing(self, request: ImageRequest) -> Outgoing:
        """Give the call that submits the job."""
        body: dict[str, Any] = {"prompt": request.prompt}
        if request.size:
            body |= {"width": request.size.width, "height": request.size.height}
        named = {
            name: getattr(request, name) for name in ("aspect_ratio", "seed", "steps", "guidance", "output_format")
        }
        body |= {name: value for name, value in named.items() if value is not None}
        body |= _inputs(request)
        return Outgoing("POST", f"{self.base_url}/v1/{model_path(request.model)}", json={**self.extra, **body})

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        """Submit, wait, and give the signed URL, which lives about ten minutes."""
        outgoing = await asyncio.to_thread(self.outgoing, request) if request.images else self.outgoing(request)
        submitted = await self._upstream.send(outgoing, report)
        place = self._polling_url(submitted)

        async def check() -> Mapping[str, Any] | None:
            state = (await self._upstream.send(Outgoing("GET", place), after=submitted)).json()
            if not isinstance(state, dict) or not isinstance(state.get("status"), str):
                raise BrokenAnswerError("told the state of the job in a form that is not known")
            if state["status"] == "Task not found":
                raise BrokenAnswerError("does not know the job that it took")
            if state["status"] in ("Ready", "Error", "Failed", *MODERATED):
                return state
            if isinstance(state.get("progress"), int | float):
                report.progress(state["progress"], state["status"])
            return None

        return [_picture(await poll(check, every=self.every, deadline=self.deadline))]

    def _polling_url(self, submitted: Answer) -> str:
        """Read where to ask; the key goes along, so that it must be a place of theirs, or the configured one."""
        body = submitted.json()
        url = body.get("polling_url") if isinstance(body, dict) else None
        if not isinstance(url, str):
            raise BrokenAnswerError("took the job but did not say where to ask for it")
        if not may_follow(url, self.base_url, "bfl.ai"):
            raise BrokenAnswerError("wants to be asked at a host that is not Black Forest Labs'; the key stays here")
        return url


def _authorize(key: str) -> Mapping[str, str]:
    return {"x-key": key}


def _inputs(request: ImageRequest) -> dict[str, str]:
    if MODELS.get(request.model, UNKNOWN).mask:
        fields = {"image": as_base64(request.images[0])} if request.images else {}
        return fields | ({"mask": as_base64(Image(repaint_mask(request.mask)))} if request.mask else {})
    first = FIRST_INPUT.get(request.model, "input_image")
    return {
        (first if number == 1 else f"input_image_{number}"): as_base64(image)
        for number, image in enumerate(request.images, 1)
    }


def _picture(state: Mapping[str, Any]) -> Image:
    status, result = state["status"], state.get("result")
    if status in MODERATED:
        raise RefusedError(f"refused {MODERATED[status]} ({status})")
    if status != "Ready":
        raise UpstreamError(f"could not finish the job ({status})", billed=False, retryable=True)
    url = result.get("sample") if isinstance(result, dict) else None
    if not isinstance(url, str) or not url:
        raise BrokenAnswerError("said that the picture is ready but did not say where")
    seed = result.get("seed") if isinstance(result, dict) else None
    return Image(url=url, seed=seed if isinstance(seed, int) else None)


@hookimpl
def provide_backends() -> Mapping[str, type[BlackForestLabs]]:
    """Offer ``black_forest_labs``."""
    return {"black_forest_labs": BlackForestLabs}
