"""The frozen values that travel through the gateway: who asks, for what, and what came of it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

from gateway.receipt import Receipt

SIZE = re.compile(r"([0-9]{1,5})\s*[xX×*]\s*([0-9]{1,5})")


class Secret(str):
    """A string whose repr hides it, so that it never reaches a log or a traceback by accident."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('…')"


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read ``1024x576``; raise ValueError for anything else, zero included."""
        found = SIZE.fullmatch(text.strip()) if text.isascii() or "×" in text else None
        if not found or not (int(found[1]) and int(found[2])):
            raise ValueError(f"{text!r} is not a size; write it as 1024x576")
        return cls(int(found[1]), int(found[2]))

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def ratio(self) -> float:
        return self.width / self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request shows of its sender: the bearer token (or ``x-api-key``), all headers, the peer's address."""

    token: Secret | None
    headers: Mapping[str, str] = field(default_factory=dict)
    remote: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a name for logs, limits and ownership, and the models (shell patterns) it may use; None means all."""

    name: str
    models: tuple[str, ...] | None = None

    def may_use(self, model: str) -> bool:
        return self.models is None or any(fnmatchcase(model, pattern) for pattern in self.models)


def sound(text: str) -> str:
    """Give *text* without halves of characters, which cannot be written: a cut emoji leaves some."""
    return text.encode("utf-8", "replace").decode()


@dataclass(frozen=True, slots=True)
class Image:
    """A picture's bytes, or a URL (``https:`` or ``data:``) that the gateway fetches through its address guard.

    A backend fills *data* or *url*, and *seed* and *revised_prompt* if the upstream told them. Media type, width and
    height are read from the bytes by the gateway; what a backend or an upstream declares is never trusted.
    """

    data: bytes = field(default=b"", repr=False)
    url: str | None = field(default=None, repr=False)
    media_type: str = ""
    width: int = 0
    height: int = 0
    seed: int | None = None
    revised_prompt: str | None = None

    @property
    def size(self) -> Size:
        return Size(self.width, self.height)


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """What a caller asks for; None means not asked, so that the target's own default holds.

    *model* is the name the caller uses until negotiation puts the upstream's own name there. *size* is the exact size
    wanted; *aspect_ratio* (``16:9``) is kept when the caller asked by ratio. With *any_size* nobody asked for *size*:
    it is the configured one, and no reason to cut a picture. *images* and *mask* make it an edit.
    *unknown* names parameters of the call that mean nothing here; the receipt lists them as dropped. *spelled* pairs
    our names of parameters with those that the caller used instead, for errors.
    """

    prompt: str
    model: str = ""
    n: int = 1
    size: Size | None = None
    aspect_ratio: str | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str | None = None
    quality: str | None = None
    style: str | None = None
    background: str | None = None
    output_format: str | None = None
    output_compression: int | None = None
    moderation: str | None = None
    input_fidelity: str | None = None
    partial_images: int | None = None
    images: tuple[Image, ...] = ()
    mask: Image | None = None
    user: str | None = None
    strict: bool = False
    optimize: bool = True
    unknown: tuple[str, ...] = ()
    any_size: bool = False
    spelled: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PictureMeta:
    """What is known of a stored picture; times are epoch seconds, *expires* None means kept for ever.

    *owner* is the caller's name. *details* holds prompt, revised prompt, seed and receipt as plain JSON values.
    """

    key: str
    media_type: str
    width: int
    height: int
    length: int
    sha256: str
    created: float
    expires: float | None = None
    owner: str = ""
    model: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> Size:
        return Size(self.width, self.height)


class Body(Protocol):
    """The bytes of a stored picture, whole or in part."""

    @property
    def path(self) -> Path | None:
        """A file that holds exactly the bytes, for sendfile; None elsewhere."""
        ...

    async def read(self) -> bytes: ...

    def stream(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield bytes *start* to *end* (exclusive)."""
        ...


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A picture found in a storage; *redirect* is a presigned URL if the storage wants readers to go there."""

    meta: PictureMeta
    body: Body
    redirect: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture: its meta data and, until the waiting callers are answered, its bytes.

    One that no storage has taken has no key and *trouble* says why; *planned* is the key it gets if one takes it later.
    One that is *spooled* lies in the spool until then.
    """

    meta: PictureMeta
    data: bytes = field(default=b"", repr=False)
    revised_prompt: str | None = None
    seed: int | None = None
    planned: str = ""
    trouble: str = ""
    spooled: bool = False

    @property
    def waits(self) -> bool:
        """Say whether its bytes wait, here or in the spool, for a storage that takes them."""
        return bool(self.planned and (self.data or self.spooled))


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a job. *prompt* is what was drawn; *original* is what the caller wrote."""

    pictures: tuple[Picture, ...]
    prompt: str
    original: str
    receipt: Receipt
    created: int


@dataclass(frozen=True, slots=True)
class Event:
    """A step of a job: accepted, queued, optimizing, optimized, generating, progress, partial, attempt_failed,
    generated, storing, stored, finished, failed or cancelled; *sequence* counts from 1 within the job."""

    job: str
    sequence: int
    type: str
    at: float
    data: Mapping[str, Any] = field(default_factory=dict)
