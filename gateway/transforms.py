"""Reads which copy of a stored picture is wanted, from ``?w= ?h= ?format= ?quality=`` and Accept, and has it made."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from gateway.derive import DerivedCache, derive
from gateway.errors import RequestError
from gateway.imaging import EXTENSIONS
from gateway.retouch import media_type_of
from gateway.values import Image, StoredPicture

FORMATS = ("webp", "avif", "jpeg", "png")
QUALITIES = range(5, 101, 5)
NUMBER = re.compile(r"[0-9]{1,5}")
MODERN = ("image/avif", "image/webp")
PLAIN = ("image/png", "image/jpeg")


@dataclass(frozen=True, slots=True)
class Transform:
    """What to make of a picture; *negotiated* says that the answer depends on the Accept header."""

    width: int | None = None
    height: int | None = None
    output_format: str | None = None
    quality: int | None = None
    negotiated: bool = False

    @property
    def needed(self) -> bool:
        return any((self.width, self.height, self.output_format, self.quality))

    @property
    def name(self) -> str:
        """Tell this copy from all others of the same picture."""
        return f"{self.width or ''}x{self.height or ''}-{self.output_format or ''}-{self.quality or ''}"

    def for_type(self, media_type: str) -> Transform:
        """Drop what is so already: converting a WebP to WebP, or what is modern enough to something modern."""
        if self.output_format is None or self.quality:
            return self
        same = media_type_of(self.output_format) == media_type
        return replace(self, output_format=None) if same else self

    async def make(self, found: StoredPicture, cache: DerivedCache | None) -> Image:
        """Give the copy, from *cache* if it is there; made off the event loop."""

        async def made() -> Image:
            data = await found.body.read()
            work = partial(derive, width=self.width, height=self.height, quality=self.quality)
            return await asyncio.to_thread(work, data, output_format=self.output_format)

        if cache is None:
            return await made()
        meta, params = found.meta, replace(self, negotiated=False)
        return await cache.get(meta.key, meta.sha256, params, made, meta.expires)


def read_transform(query: Mapping[str, str], sizes: Iterable[int]) -> Transform:
    """Read the parameters; raise RequestError that names what is allowed."""
    return Transform(
        width=_choice(query, "w", sizes),
        height=_choice(query, "h", sizes),
        output_format=read_format(query.get("format")),
        quality=_choice(query, "quality", QUALITIES),
    )


def negotiated(wanted: Transform, accept: str, media_type: str) -> Transform:
    """Let the Accept header choose the type where none was asked for."""
    if wanted.output_format is not None:
        return wanted
    modern = next((kind for kind in MODERN if media_type in PLAIN and _accepts(accept, kind)), None)
    return replace(wanted, output_format=EXTENSIONS[modern] if modern else None, negotiated=True)


def _choice(query: Mapping[str, str], name: str, allowed: Iterable[int]) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not NUMBER.fullmatch(text) or int(text) not in allowed:
        raise RequestError(f"{name} must be one of {', '.join(map(str, allowed))}", param=name)
    return int(text)


def read_format(text: str | None) -> str | None:
    """Read the name of a format that copies can have; raise RequestError for others."""
    name = "jpeg" if text in {"jpg", "JPG"} else text.lower() if text is not None else None
    if name is not None and name not in FORMATS:
        raise RequestError(f"format must be one of {', '.join(FORMATS)}", param="format")
    return name


def _accepts(accept: str, media_type: str) -> bool:
    for entry in accept.split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        if name == media_type:
            return not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return False
