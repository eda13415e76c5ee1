"""Turns a request into the fields, files and path of one dialect."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from gateway import Capabilities, FormField, Image, ImageRequest, alpha_mask, as_data_url, repaint_mask

from .dialects import Dialect, Inputs, InputStyle, MaskStyle, PromptStyle

TAG = re.compile(r"</?\s*sd_cpp_extra_args\s*>", re.IGNORECASE)
NAMES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


def fields_of(request: ImageRequest, dialect: Dialect, known: Capabilities) -> dict[str, Any]:
    """Give the fields of the body, without pictures."""
    fields: dict[str, Any] = {}
    put(fields, dialect.model_field, dialect.upstream_name(request.model))
    put(fields, dialect.prompt_field, PROMPTS[dialect.prompt](request, known))
    _put_size(fields, request, dialect, known)
    for name, theirs in dialect.names.items():
        value = _value(request, name, dialect, known)
        if value is not None:
            put(fields, theirs, value)
    return fields


def put(fields: dict[str, Any], name: str, value: Any) -> None:
    """Set a field; a name with dots makes nested objects, an empty one and an empty model name nothing."""
    if not name or value == "":
        return
    *outer, last = name.split(".")
    for step in outer:
        fields = fields.setdefault(step, {})
    fields[last] = value


def merged(fields: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Give *fields* with *more*, which wins; of objects in both the fields are put together in turn."""
    both = {
        name: merged(fields[name], value)
        for name, value in more.items()
        if isinstance(value, Mapping) and isinstance(fields.get(name), dict)
    }
    return {**fields, **more, **both}


def _put_size(fields: dict[str, Any], request: ImageRequest, dialect: Dialect, known: Capabilities) -> None:
    if known.ratios:
        if request.aspect_ratio:
            put(fields, dialect.ratio_field, request.aspect_ratio)
    elif request.size and known.sizes:
        if dialect.size == "text":
            put(fields, dialect.size_field, str(request.size))
        elif dialect.size == "sides":
            put(fields, dialect.side_fields[0], request.size.width)
            put(fields, dialect.side_fields[1], request.size.height)


def _value(request: ImageRequest, name: str, dialect: Dialect, known: Capabilities) -> Any:
    if name == "n":
        return request.n if known.count > 1 else None
    value = getattr(request, name)
    if value is None or name not in known.accepts:
        return None
    if name in dialect.hashed:
        return hashlib.sha256(str(value).encode()).hexdigest()
    return dialect.values.get(name, {}).get(value, value) if isinstance(value, str) else value


def _plain(request: ImageRequest, known: Capabilities) -> str:
    return request.prompt


def _pipe(request: ImageRequest, known: Capabilities) -> str:
    """Write LocalAI's ``positive|negative``; a bar in the words themselves would mean something else."""
    prompt = request.prompt.replace("|", "/")
    return f"{prompt}|{request.negative_prompt.replace('|', '/')}" if request.negative_prompt else prompt


def _sd_cpp(request: ImageRequest, known: Capabilities) -> str:
    """Write sd-server's options into the prompt, and take out any that the caller wrote there."""
    sample: dict[str, Any] = {}
    if request.steps is not None:
        sample["sample_steps"] = request.steps
    if request.guidance is not None:
        sample["guidance"] = {"txt_cfg": request.guidance}
    extra: dict[str, Any] = {} if request.seed is None else {"seed": request.seed}
    extra |= {"sample_params": sample} if sample else {}
    # With nothing in its place, what stands around one option could join to another.
    prompt = TAG.sub(" ", request.prompt)
    return f"{prompt} <sd_cpp_extra_args>{json.dumps(extra)}</sd_cpp_extra_args>" if extra else prompt


PROMPTS: dict[PromptStyle, Callable[[ImageRequest, Capabilities], str]] = {
    "plain": _plain,
    "pipe": _pipe,
    "sd_cpp": _sd_cpp,
}


def form_of(fields: dict[str, Any], request: ImageRequest, inputs: Inputs) -> tuple[FormField, ...]:
    """Give the parts of a multipart edit: the fields as text, the pictures as files with their true types.

    With a mask it is CPU heavy: use a thread.
    """
    parts = [FormField(name, _text(value)) for name, value in fields.items()]
    name = inputs.one if len(request.images) == 1 else inputs.many
    parts += [_file(name, image, f"image-{number}") for number, image in enumerate(request.images)]
    parts += [_file("mask", _mask(request.mask, inputs.mask), "mask")] if request.mask else []
    return tuple(parts)


def is_converted(mask: Image, form: tuple[FormField, ...]) -> bool:
    """Say whether the mask goes out in *form* as another picture than it came in."""
    return any(part.name == "mask" and part.value != mask.data for part in form)


def _mask(mask: Image, style: MaskStyle) -> Image:
    return alpha_mask(mask) if style == "alpha" else Image(repaint_mask(mask), media_type="image/png")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _file(name: str, image: Image, stem: str) -> FormField:
    media_type = image.media_type or "image/png"
    return FormField(name, image.data, f"{stem}.{NAMES.get(media_type, 'png')}", media_type)


def json_inputs(style: InputStyle, request: ImageRequest, one: str, many: str) -> dict[str, Any]:
    """Give the fields that hold the input pictures as data URLs."""
    urls = [as_data_url(image) for image in request.images]
    if style == "numbered":
        return {one if number == 0 else f"{one}{number + 1}": url for number, url in enumerate(urls)}
    if style == "url":
        return {one: urls[0]}
    pictures = [{"type": "image_url", "url": url} for url in urls]
    return {one: pictures[0]} if len(pictures) == 1 else {many: pictures}
