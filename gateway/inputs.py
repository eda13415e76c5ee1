"""Makes what upstreams want out of a request's input pictures, its mask and its model name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from io import BytesIO
from typing import Any
from urllib.parse import quote

import pybase64
from PIL import Image as Pillow

from gateway.errors import MisconfiguredError, RequestError
from gateway.imaging import upright
from gateway.values import Image

SEGMENT = re.compile(r"(?!\.{1,2}(?:/|$))[^/\\\x00-\x20\x7f?#%]+")
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")


def as_base64(image: Image) -> str:
    """Give the bytes of an input picture as plain base64."""
    return pybase64.b64encode(image.data).decode()


def as_data_url(image: Image) -> str:
    """Give an input picture as a ``data:`` URL."""
    return f"data:{image.media_type or 'image/png'};base64,{as_base64(image)}"


@lru_cache(maxsize=1024)
def model_path(model: str) -> str:
    """Make *model* fit to stand in an upstream's path; raise `MisconfiguredError` if it would lead elsewhere.

    Where a wildcard route passes names on, the caller wrote this one.
    """
    if not model or len(model) > 200 or not all(SEGMENT.fullmatch(part) for part in model.split("/")):
        raise MisconfiguredError("the upstream's model name is missing or not a usable name", sent=False)
    return quote(model, safe="/@:._-~")


def repaint_mask(mask: Image) -> bytes:
    """Turn a mask whose transparent part is to be repainted into a PNG whose white part is.

    The first is OpenAI's way, the second nearly everybody else's. A mask without transparency is taken as being of
    the second kind already. CPU heavy: use a thread.
    """
    with _opened_mask(mask) as picture:
        return _as_png(_white(picture))


def alpha_mask(mask: Image) -> Image:
    """Turn a mask into what OpenAI takes: a PNG whose transparent part is to be repainted. One that is that already
    is given back as it is. A mask without transparency is taken as by `repaint_mask`: white is to be repainted.
    CPU heavy: use a thread.
    """
    with _opened_mask(mask) as picture:
        if picture.format == "PNG" and picture.mode == "RGBA" and _is_clear(picture):
            return mask
        white = _white(picture)
    # White below as well, for servers that look at the colours alone.
    clear = Pillow.merge("RGBA", (white, white, white, white.point(_inverted)))
    return replace(mask, data=_as_png(clear), media_type="image/png")


@contextmanager
def _opened_mask(mask: Image) -> Iterator[Pillow.Image]:
    try:
        with Pillow.open(BytesIO(mask.data), formats=FORMATS) as picture:
            yield picture
    except (OSError, ValueError, SyntaxError) as error:
        raise RequestError("the mask is not a usable picture", param="mask", code="invalid_image") from error


def _white(mask: Pillow.Image) -> Pillow.Image:
    """Give the part to be repainted as the white of a grey picture."""
    if mask.mode not in ("LA", "PA", "RGBA") and "transparency" not in mask.info:
        return mask.convert("L")
    colours = mask.convert("RGBA")
    # What browsers draw is RGBA, though nothing of it be transparent.
    return colours.getchannel("A").point(_inverted) if _is_clear(colours) else colours.convert("L")


def _is_clear(picture: Pillow.Image) -> bool:
    """Say whether any of an RGBA picture is transparent."""
    lowest: Any = picture.getchannel("A").getextrema()[0]
    return bool(lowest < 255)


def _inverted(opacity: int) -> int:
    return 255 - opacity


def _as_png(picture: Pillow.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def shrunk(image: Image, side: int) -> bytes:
    """Give the bytes of *image*, made smaller if a side is longer than *side* pixels. CPU heavy: use a thread."""
    try:
        with Pillow.open(BytesIO(image.data), formats=FORMATS) as picture:
            if max(picture.size) <= side:
                return image.data
            turned = upright(picture)
            smaller = turned.convert("RGBA" if turned.has_transparency_data else "RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise RequestError("an input image is not a usable picture", param="image", code="invalid_image") from error
    smaller.thumbnail((side, side), Pillow.Resampling.LANCZOS)
    return _as_png(smaller)
