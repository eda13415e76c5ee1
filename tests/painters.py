"""Backends for tests of what stands around them: they wait for the test, count, and fail on request."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

from gateway.capabilities import Capabilities
from gateway.contracts import Report
from gateway.options import Duration
from gateway.values import Image, ImageRequest, Size
from tests.fake_upstream import png
from tests.gateways import AUTHENTICATORS, OTHER_KEY, STORAGES, Gateway, Types

PICTURE = png(64, 64)
DRAW = {"prompt": "a cat", "model": "held"}


@dataclass
class Held:
    """Draws when the test lets it (*free*), or after *delay*; says that it sends first unless *quiet*.

    If it *edits*, it takes *inputs* pictures, and masks if *masks*.
    *faults* come first, one for each call. *previews* are shown and *steps* told before the wait.
    """

    delay: Duration = 0
    quiet: bool = False
    edits: bool = True
    inputs: int = 4
    masks: bool = True
    free: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    faults: list[Exception] = field(init=False, default_factory=list)
    previews: list[Image] = field(init=False, default_factory=list)
    steps: list[float] = field(init=False, default_factory=list)
    requests: list[ImageRequest] = field(init=False, default_factory=list)

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(
            sizes=(Size(64, 64),),
            count=10,
            accepts={"seed": True, "partial_images": True},
            inputs=self.inputs if self.edits else 0,
            mask=self.masks and self.edits,
            partials=True,
        )

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        self.requests.append(request)
        if not self.quiet:
            report.sending()
        for done in self.steps:
            report.progress(done, "drawing")
        for preview in self.previews:
            report.partial(preview)
        if self.delay:
            await asyncio.sleep(self.delay)
        else:
            await self.free.wait()
        if self.faults:
            raise self.faults.pop(0)
        return [Image(PICTURE, seed=request.seed)] * request.n


HELD: Types = {"backends": {"held": Held}}
TWO_CALLERS = AUTHENTICATORS.replace("]}}", f", {{name: bob, key: {OTHER_KEY}}}]}}}}")


def holding(more: str = "", *, options: str = "", storages: str = STORAGES, model: str = "") -> str:
    """Give a YAML whose model ``held`` waits for the test; *options* are the backend's, *model* the recipe's."""
    return (
        TWO_CALLERS
        + storages
        + f"backends: {{painter: {{use: held{options}}}}}\n"
        + f"models: {{held: {{backends: [{{backend: painter}}]{model}}}}}\n"
        + more
    )


def painter(gateway: Gateway) -> Held:
    """Give the backend of a gateway made by `holding`."""
    return cast("Held", gateway.runtime.backends["painter"])


def other(more: dict[str, str] | None = None) -> dict[str, str]:
    """Give the headers of the second caller."""
    return {"Authorization": f"Bearer {OTHER_KEY}", **(more or {})}


async def later(gateway: Gateway, **more: Any) -> str:
    """Start a job to come back for; give its id."""
    answer = await gateway.post("/v1/images/generations", {**DRAW, "async": True, **more})
    assert answer.status == 202, answer.text
    return str(answer.json["id"])


async def finished(gateway: Gateway, identity: str) -> Any:
    """Wait for a job's end by its events; give its JSON."""
    await gateway.get(f"/v1/jobs/{identity}/events")
    return (await gateway.get(f"/v1/jobs/{identity}")).json


async def until(true: Any) -> None:
    """Wait until *true* gives something; for what another process or socket does."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110  - it stands for events of the world outside
            await asyncio.sleep(0.01)
