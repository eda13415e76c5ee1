"""A dialect of one's own, given in the YAML: an images API that nobody here knew needs no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from gateway import TUNABLE, Capabilities, Range, Size, SizeOption, SizeRule, Words

from .dialects import B64, URL, Dialect, Inputs, SizeStyle

NUMBERS = ("seed", "steps", "guidance", "output_compression", "partial_images")


@dataclass(frozen=True)
class Custom:
    """Field names and answer places of an API.

    *names* maps our parameters (``steps``, ``seed``, ``guidance``, ``negative_prompt``, …) to its fields; what is
    missing there is never sent. *size* is ``text`` (``1024x576`` in *size_field*), ``sides`` (*width_field* and
    *height_field*) or ``none``; *ratios* make it an aspect ratio in *ratio_field* instead. *sizes* are the only ones
    allowed; without them any from *smallest* to *largest* in *step* pixels is. A field name with dots makes nested
    objects. *answers* are the places of the pictures, ``*`` standing for each item of a list. *n_field* and *n* say
    whether several pictures can be had at once. *edits* is the path for input images, sent as a form in *image_field*.
    """

    path: str = "/images/generations"
    prompt_field: Annotated[str, Field(min_length=1)] = "prompt"
    model_field: str = "model"
    names: Mapping[str, str] = field(default_factory=dict)
    size: SizeStyle = "text"
    size_field: str = "size"
    width_field: str = "width"
    height_field: str = "height"
    ratio_field: str = "aspect_ratio"
    sizes: tuple[SizeOption, ...] = ()
    ratios: Words = ()
    smallest: Annotated[int, Field(ge=1)] = 64
    largest: Annotated[int, Field(ge=1)] = 4096
    step: Annotated[int, Field(ge=1)] = 8
    native: SizeOption | None = None
    n_field: str = "n"
    n: Annotated[int, Field(ge=1, le=16)] = 1
    answers: Words = (B64, URL)
    header: Annotated[str, Field(min_length=1)] = "Authorization"
    scheme: str = "Bearer "
    edits: str | None = None
    image_field: str = "image"
    inputs: Annotated[int, Field(ge=1)] = 1

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in TUNABLE]
        if unknown:
            raise ValueError(f"custom.names: unknown {unknown}; known: {list(TUNABLE)}")
        if not self.answers:
            raise ValueError("custom.answers must name at least one place, such as data.*.url")

    def dialect(self) -> Dialect:
        """Make the dialect that these options mean."""
        return Dialect(
            families=(("*", self._capabilities()),),
            path=self.path,
            prompt_field=self.prompt_field,
            model_field=self.model_field,
            names={"n": self.n_field, **self.names},
            size=self.size,
            size_field=self.size_field,
            side_fields=(self.width_field, self.height_field),
            ratio_field=self.ratio_field,
            answers=self.answers,
            header=self.header,
            scheme=self.scheme,
            inputs=Inputs(self.edits, one=self.image_field, many=self.image_field) if self.edits else None,
        )

    def _capabilities(self) -> Capabilities:
        sizes: tuple[Size, ...] | SizeRule = self.sizes or SizeRule(self.smallest, self.largest, self.step)
        return Capabilities(
            sizes=() if self.size == "none" or self.ratios else sizes,
            native=self.native,
            ratios=self.ratios,
            count=self.n,
            accepts={name: Range() if name in NUMBERS else True for name in self.names},
            inputs=self.inputs if self.edits else 0,
        )
