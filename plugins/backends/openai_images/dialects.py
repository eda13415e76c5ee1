"""How the APIs that resemble OpenAI's differ, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from gateway import Capabilities, GatewayError

PromptStyle = Literal["plain", "pipe", "sd_cpp"]
SizeStyle = Literal["text", "sides", "none"]
InputStyle = Literal["form", "xai", "numbered", "url"]
MaskStyle = Literal["alpha", "white"]
Family = tuple[str, Capabilities]

B64 = "data.*.b64_json"
URL = "data.*.url"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where edits go and how: a form with files, or JSON with data URLs in one of three shapes.

    *one* is the field of a single picture, *many* of several. *mask* says what a form's mask has where it is to be
    repainted: no opacity, or white.
    """

    path: str
    style: InputStyle = "form"
    one: str = "image"
    many: str = "image[]"
    mask: MaskStyle = "alpha"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to speak to an images API; `Family` entries say by name pattern what the models can do.

    *names* maps our parameters to fields; one that is missing here or in the model's capabilities is never sent.
    *values* renames what they may hold. *size* is ``1024x576`` in the field *size_field*, or two sides, or nothing;
    a model with *ratios* gets the field *ratio_field* instead. *fixed* fields go along always. *answers* are the
    places of pictures, ``*`` standing for each item of a list. *paths* and *prefix* are by model name. Field names
    with dots make nested objects. *errors* (a pattern for status, codes and words → a class) come before the usual
    judgement. *hashed* parameters are sent as SHA-256.
    """

    families: tuple[Family, ...]
    base_url: str = ""
    path: str = "/images/generations"
    paths: tuple[tuple[str, str], ...] = ()
    version: str = ""
    prompt_field: str = "prompt"
    model_field: str = "model"
    prefix: str = ""
    prompt: PromptStyle = "plain"
    size: SizeStyle = "text"
    size_field: str = "size"
    side_fields: tuple[str, str] = ("width", "height")
    ratio_field: str = "aspect_ratio"
    names: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    hashed: tuple[str, ...] = ()
    inputs: Inputs | None = None
    streams: bool = False
    answers: tuple[str, ...] = (B64, URL)
    aliases: Mapping[str, str] = field(default_factory=dict)
    header: str = "Authorization"
    scheme: str = "Bearer "
    errors: tuple[tuple[str, type[GatewayError]], ...] = ()

    def upstream_name(self, model: str) -> str:
        """Give the name that the API knows *model* by: retired names become their successors."""
        name = self.aliases.get(model, model)
        return name if "/" in name else self.prefix + name

    def capabilities(self, model: str) -> Capabilities:
        """Find what *model* can do."""
        name = self.aliases.get(model, model)
        return next((known for pattern, known in self.families if fnmatchcase(name, pattern)), Capabilities(sizes=()))

    def path_of(self, model: str) -> str:
        """Give the path for *model*."""
        return next((path for pattern, path in self.paths if fnmatchcase(model, pattern)), self.path)
