"""Remembers pictures of identical requests with a seed, and prompts that were optimized before."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from cachetools import TLRUCache, TTLCache
from pydantic import Field

from gateway import ByteSize, Duration, Image, ImageRequest, Picture, Proceed, Receipt, Stage, Work, hookimpl

ENTRY = 2_000
"""Bytes that a remembered job takes besides its pictures."""
UNSEEN = ("user", "partial_images")
"""What changes nothing in a picture."""
SPARE = 5.0
"""Seconds before its expiry from which a stored picture is not given out again."""


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a job: its pictures, what was drawn, and the receipt."""

    pictures: tuple[Picture, ...]
    prompt: str
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Better:
    """An optimized prompt and the name of its optimizer."""

    prompt: str
    optimizer: str


@dataclass
class Cache:
    """Without a seed each call makes a new picture; with one, the same request of the same caller gets the same picture
    again without a new generation, and the receipt says so. Whoever asks for what is being drawn waits for it; if that
    comes to nothing, the next one tries. Optimized prompts are remembered for everybody.

    *pictures* and *prompts* switch each off. *ttl* is how long things are remembered, a picture never longer than it
    is stored. *memory* bounds the bytes of remembered pictures, *entries* the number of prompts.
    """

    pictures: bool = True
    prompts: bool = True
    ttl: Duration = 3600
    memory: ByteSize = 64 * 2**20
    entries: Annotated[int, Field(ge=1)] = 10_000
    stages: tuple[Stage, ...] = field(init=False, default=("job", "optimize"))
    clock: Callable[[], float] = field(init=False, default=time.time, repr=False)
    _made: TLRUCache[Hashable, Made] = field(init=False, repr=False)
    _better: TTLCache[Hashable, Better] = field(init=False, repr=False)
    _drawing: dict[Hashable, asyncio.Future[Made | None]] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not (self.pictures or self.prompts):
            raise ValueError("pictures and prompts are both off; leave the component out instead")
        if not self.ttl:
            raise ValueError("ttl must not be 0; leave the component out instead")
        self._made = TLRUCache(self.memory, ttu=self._until, timer=lambda: self.clock(), getsizeof=_bytes)
        self._better = TTLCache(self.entries, self.ttl, timer=lambda: self.clock())

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        """Answer from memory what is known, and remember what is new."""
        if stage == "job":
            return await self._pictures(work, proceed) if self.pictures else await proceed(work)
        return await self._prompt(work, proceed) if self.prompts else await proceed(work)

    def forget(self, key: str, instead: Picture | None = None) -> None:
        """Let go of a deleted picture and of those made with it, or take *instead* for one that its storage lost."""
        for name in list(self._made):
            made = self._made.get(name)
            if made is None or all(picture.meta.key != key for picture in made.pictures):
                continue
            del self._made[name]
            if instead:
                pictures = (instead if picture.meta.key == key else picture for picture in made.pictures)
                self._remember(name, replace(made, pictures=tuple(pictures)))

    async def _pictures(self, work: Work, proceed: Proceed) -> Work:
        # A seed of -1 means any.
        if work.request.seed in (None, -1):
            return await proceed(work)
        key = (work.caller.name, _identity(work.request))
        while (made := self._made.get(key)) is None:
            drawing = self._drawing.get(key)
            if drawing is None:
                return await self._draw(key, work, proceed)
            async with work.aside():
                await asyncio.wait({drawing})
            if made := drawing.result():
                break
        receipt = _told_again(made.receipt, work.receipt.asked)
        again = replace(work, request=replace(work.request, prompt=made.prompt), pictures=made.pictures)
        return replace(again, receipt=receipt).noted(
            "the same request with the same seed was drawn before; these are its pictures, nothing was generated"
        )

    async def _draw(self, key: Hashable, work: Work, proceed: Proceed) -> Work:
        """Draw while others who want the same wait: they get the pictures, or hear that one of them must try."""
        drawing = self._drawing[key] = asyncio.get_running_loop().create_future()
        made: Made | None = None
        try:
            done = await proceed(work)
            if done.pictures and all(picture.data for picture in done.pictures):
                made = Made(done.pictures, done.request.prompt, done.receipt)
                if len(made.pictures) >= work.request.n:
                    self._remember(key, made)
            return done
        finally:
            del self._drawing[key]
            drawing.set_result(made)

    def _remember(self, key: Hashable, made: Made) -> None:
        if all(picture.meta.key for picture in made.pictures) and _bytes(made) <= self.memory:
            self._made[key] = made

    async def _prompt(self, work: Work, proceed: Proceed) -> Work:
        if not work.request.optimize:
            return await proceed(work)
        # All that an optimizer may look at; the seed is not part of it.
        key = replace(_identity(work.request), seed=None, n=1, strict=False, user=None, partial_images=None, unknown=())
        better = self._better.get(key)
        if better is not None:
            work.tell("optimized", {"prompt": better.prompt, "optimizer": better.optimizer})
            request, receipt = (
                replace(work.request, prompt=better.prompt),
                replace(work.receipt, optimizer=better.optimizer),
            )
            return replace(work, request=request, receipt=receipt).noted("the optimized prompt was remembered")
        done = await proceed(work)
        if done.receipt.optimizer and len(done.receipt.notes) == len(work.receipt.notes):
            self._better[key] = Better(done.request.prompt, done.receipt.optimizer)
        return done

    def _until(self, key: Hashable, made: Made, now: float) -> float:
        ends = [picture.meta.expires - SPARE for picture in made.pictures if picture.meta.expires is not None]
        return min([now + self.ttl, *ends])


def _identity(request: ImageRequest) -> ImageRequest:
    """Make a request that can be compared: input images by their hash, without what does not change the picture.

    What the target may have dropped counts: it decides about a strict request, and stands in the receipt.
    """
    images = tuple(map(_fingerprint, request.images))
    mask = _fingerprint(request.mask) if request.mask else None
    known = replace(request, images=images, mask=mask, spelled=())
    return known if request.strict else replace(known, user=None, partial_images=None)


def _told_again(receipt: Receipt, asked: Mapping[str, Any]) -> Receipt:
    """Give the receipt of remembered pictures to another call: what that one *asked*, and no other end user's name."""
    adjusted, dropped = (
        tuple(change for change in changes if change.name not in UNSEEN)
        for changes in (receipt.adjusted, receipt.dropped)
    )
    applied = {name: value for name, value in receipt.applied.items() if name not in UNSEEN}
    return replace(
        receipt, asked=asked, applied=applied, adjusted=adjusted, dropped=dropped, attempts=(), cost=0.0, usage=None
    )


def _fingerprint(image: Image) -> Image:
    return Image(hashlib.sha256(image.data).digest(), image.url)


def _bytes(made: Made) -> int:
    return ENTRY + sum(len(picture.data) for picture in made.pictures)


@hookimpl
def provide_middlewares() -> dict[str, type]:
    """Offer `cache`."""
    return {"cache": Cache}
