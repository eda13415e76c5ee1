"""Asks a backend for pictures, listens to what it tells on the way, and holds its plugin to the contract."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from gateway.contracts import Report, Work
from gateway.deadline import is_stopped
from gateway.decoding import is_picture
from gateway.errors import BrokenAnswerError, GatewayError, PluginError, UpstreamError
from gateway.places import Waiter
from gateway.targets import Target
from gateway.usage import Usage, is_usage
from gateway.values import Image, ImageRequest, Size, sound

log = logging.getLogger(__name__)

FIELDS = {"data": (bytes,), "url": (str, type(None)), "seed": (int, type(None)), "revised_prompt": (str, type(None))}


class Sendable(Waiter, Protocol):
    """The job, as far as this stage minds it.

    *hurry* is asked when its time is over: it stops what is still drawn and says whether some of it is there already.
    """

    hurry: Callable[[], bool] | None

    @property
    def done(self) -> bool: ...

    def sending(self) -> None: ...


@dataclass(slots=True)
class Telling:
    """The `Report` that a backend gets: it turns what the backend says into events of the job and into its receipt."""

    job: Sendable
    work: Work
    first: int = 0
    """How many pictures of the job come before those of this call."""
    sent: bool = False
    usages: list[Usage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    came: set[Size] = field(default_factory=set)
    """The sizes in which pictures arrived."""

    def begin(self) -> None:
        """Forget what the target before has said; what its calls used stays."""
        self.sent = False
        self.notes.clear()
        self.came.clear()

    def of_call(self, first: int) -> Telling:
        """Give the report of one call, which says what it used and did for the whole job."""
        return replace(self, first=first, sent=False)

    @property
    def usage(self) -> Usage | None:
        """All that was used so far; None if no upstream has told."""
        return sum(self.usages[1:], self.usages[0]) if self.usages else None

    def sending(self) -> None:
        if self.job.done:
            # A plugin that swallows cancelling must at least not pay for what nobody waits for.
            raise asyncio.CancelledError("the job has ended")
        self.sent = True
        self.job.sending()

    def progress(self, done: float, note: str = "") -> None:
        self.work.tell("progress", {"done": round(min(max(float(done), 0.0), 1.0), 4), "note": str(note)[:200]})

    def partial(self, image: Image) -> None:
        if isinstance(image, Image) and isinstance(image.data, bytes) and is_picture(image.data):
            self.work.tell("partial", {"picture": self.first, "image": image})

    def used(self, usage: Usage) -> None:
        if is_usage(usage):
            self.usages.append(usage)

    def noted(self, note: str) -> None:
        if (short := sound(str(note)[:300])) not in self.notes:
            self.notes.append(short)


async def ask(target: Target, request: ImageRequest, telling: Telling) -> list[Image]:
    """Have *target* make the pictures; whatever its plugin does wrong becomes an `UpstreamError` that names it."""
    report: Report = telling
    try:
        images = await target.backend.generate(request, report)
    except GatewayError:
        raise
    except asyncio.CancelledError as error:
        if telling.job.done or is_stopped():
            raise
        log.error("backend %s was cancelled by a fault of its own", target.name)
        raise _fault("the plugin was cancelled by a fault of its own", telling.sent) from error
    except (Exception, SystemExit) as error:
        log.exception("backend %s failed", target.name)
        raise _fault("the plugin failed by a fault of its own; see the gateway's log", telling.sent) from error
    complaint = _complaint(images)
    if complaint:
        raise _fault(complaint, telling.sent)
    if not images:
        raise BrokenAnswerError("it answered without a picture")
    if len(images) > request.n:
        asked = "1 was" if request.n == 1 else f"{request.n} were"
        telling.noted(f"the target made {len(images)} pictures and {asked} asked for; the others are left out")
    return _seeded([_sound(image) for image in images[: request.n]], request)


def _sound(image: Image) -> Image:
    words = image.revised_prompt
    return image if words is None or words.isascii() else replace(image, revised_prompt=sound(words))


def _seeded(images: list[Image], request: ImageRequest) -> list[Image]:
    """Give a picture the seed that it was made with: which of several pictures has which, only the upstream knows."""
    if request.n != 1 or request.seed is None or images[0].seed is not None:
        return images
    return [replace(images[0], seed=request.seed)]


def _fault(message: str, sent: bool) -> UpstreamError:
    """Give the error for a plugin's own fault: the gateway's, not the upstream's; another target may still do it."""
    error = UpstreamError(message, code=PluginError.code, sent=sent, retryable=not sent)
    error.status, error.type = PluginError.status, PluginError.type
    return error


def _complaint(images: object) -> str | None:
    """Hold a plugin to its contract; name the field that breaks it."""
    if not isinstance(images, (list, tuple)):
        return f"the plugin must return a list of Image, not {type(images).__name__}"
    for image in images:
        if not isinstance(image, Image):
            return f"the plugin must return Image objects, not {type(image).__name__}"
        for name, types in FIELDS.items():
            if not isinstance(getattr(image, name), types):
                return f"Image.{name} must be {types[0].__name__}, not {type(getattr(image, name)).__name__}"
        if not image.data and not image.url:
            return "Image.data and Image.url are both empty"
    return None
