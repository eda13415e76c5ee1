"""The six small contracts that components fulfil; nobody inherits from them.

Every component is a dataclass whose fields are its YAML options. One with ``__aenter__``/``__aexit__`` is opened
before the first request and closed at shutdown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

from gateway.capabilities import Capabilities
from gateway.receipt import Receipt
from gateway.usage import Usage
from gateway.values import (
    Caller,
    Credentials,
    Event,
    Image,
    ImageRequest,
    Picture,
    PictureMeta,
    StoredPicture,
    sound,
)

Stage = Literal["job", "optimize", "generate", "attempt", "store"]


@runtime_checkable
class Authenticator(Protocol):
    """Says who a caller is."""

    async def authenticate(self, credentials: Credentials) -> Caller | None:
        """Return the caller, or None if this authenticator does not know it (the next one is asked)."""
        ...


@runtime_checkable
class Optimizer(Protocol):
    """Makes a better prompt. May have a ``label``: what answers name as the author, such as the chat model."""

    async def optimize(self, request: ImageRequest) -> str:
        """Return the new prompt; any GatewayError means that the caller's own words are used."""
        ...


class Report(Protocol):
    """What a backend tells while it works; none of these waits."""

    def sending(self) -> None:
        """Say, right before the paid request goes out, that from now on the job must be finished, not cancelled."""
        ...

    def progress(self, done: float, note: str = "") -> None:
        """Say how much is done, 0 to 1."""
        ...

    def partial(self, image: Image) -> None:
        """Show a preview."""
        ...

    def used(self, usage: Usage) -> None:
        """Say how many tokens this call took, if the upstream tells; those of all calls are added up and told on."""
        ...

    def noted(self, note: str) -> None:
        """Say what was done to the request here, for the receipt: once for all calls that say the same."""
        ...


@runtime_checkable
class Backend(Protocol):
    """Makes pictures. May also have ``outgoing(request) -> gateway.Outgoing`` so that `explain` can show the call."""

    def capabilities(self, model: str) -> Capabilities:
        """Say what the upstream *model* can do, as far as known; never waits."""
        ...

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        """Make ``request.n`` pictures (never more than the capabilities' *count*); raise `UpstreamError` kinds.

        Surplus pictures of an upstream may be given as well: they are left out, and the receipt says so.
        """
        ...


@runtime_checkable
class Storage(Protocol):
    """Keeps pictures under unguessable keys until they expire.

    One that is made of others may have ``connect(storages)``: it is called once, when all are made, with all by name.
    """

    async def put(self, meta: PictureMeta, data: bytes) -> PictureMeta:
        """Keep *data*; return *meta* with *expires* as this storage's TTL has it. Raise `StorageError` kinds."""
        ...

    async def get(self, key: str) -> StoredPicture | None:
        """Find a picture; None if unknown or expired."""
        ...

    async def delete(self, key: str) -> bool:
        """Forget a picture; False if there was none."""
        ...

    def list(self, owner: str | None = None) -> AsyncIterator[PictureMeta]:
        """Yield what is kept and not expired (of one owner, or all), newest first as far as the medium knows."""
        ...

    async def sweep(self) -> int:
        """Remove what expired or is an orphan; return how many."""
        ...


@runtime_checkable
class Observer(Protocol):
    """Watches events; never slows or breaks a job."""

    async def observe(self, event: Event) -> None: ...


@dataclass(frozen=True, slots=True)
class Work:
    """A job on its way through the pipeline, as middlewares see it; change it by ``dataclasses.replace``.

    Before *generate* there is the request; after it *images*; after *store* *pictures*. *sent* says whether a call
    that may have to be paid for has gone out for this job. A middleware that waits for another job does so within
    ``async with work.aside():``, and holds no place among the running jobs meanwhile, since the other may need one.
    Nor does its time run there: a time limit belongs inside of the block.
    """

    job: str
    caller: Caller
    request: ImageRequest
    original: str
    receipt: Receipt = field(default_factory=Receipt)
    images: tuple[Image, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tell: Callable[[str, Mapping[str, Any]], None] = field(default=lambda kind, data: None, repr=False)
    sent: Callable[[], bool] = field(default=lambda: False, repr=False)
    aside: Callable[[], AbstractAsyncContextManager[None]] = field(default=nullcontext, repr=False)

    def noted(self, note: str) -> Work:
        """Give the same work with *note* in its receipt."""
        return replace(self, receipt=replace(self.receipt, notes=(*self.receipt.notes, sound(str(note)))))


Proceed = Callable[[Work], Awaitable[Work]]


@runtime_checkable
class Middleware(Protocol):
    """Stands around stages of every job of the models that name it.

    *stages* says which: ``job`` (the whole), ``optimize``, ``generate``, ``attempt``, ``store``. An attempt is what one
    target is asked, inside of *generate*: the receipt's *cost* is what that is reckoned to cost, and afterwards what it
    did. There one may refuse and keep accounts; what one changes is not taken.

    One that reckons with costs has ``needs_prices`` True: a model that names it must have a price for each target.

    One that remembers pictures must also have ``forget(key: str, instead: Picture | None = None) -> None``: the picture
    under *key* was deleted, and no byte of it may stay; with *instead* it was lost to its storage, and its bytes have
    another key now. It never waits.
    """

    @property
    def stages(self) -> Collection[Stage]: ...

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        """Call ``await proceed(work)`` once and return what it gives, changed or not; or answer alone; or raise."""
        ...
