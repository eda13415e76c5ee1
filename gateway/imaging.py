"""Says what a picture really is: its format and size from its own bytes, never from what somebody declares."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import replace
from io import BytesIO

from PIL import Image as Pillow

from gateway.errors import NotAnImageError, RequestError
from gateway.sniffing import BrokenPicture, Head, HugePicture, read_head
from gateway.values import Image

MEDIA_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "avif": "image/avif",
}
EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif", "image/avif": "avif"}
FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/gif": "GIF", "image/avif": "AVIF"}
PIXELS = 50_000_000
FRAMES = 256
SCANS = 64
"""Passes over the pixels that a JPEG may take: encoders make ten; each costs as much as a whole picture."""

# Pillow only warns of a picture that is too large up to twice its own limit; here that is a refusal as well.
warnings.filterwarnings("error", category=Pillow.DecompressionBombWarning)

ORIENTATION = 0x0112
TURNS = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
"""How a picture of each EXIF orientation is brought upright (Exif 2.32, section 4.6.4)."""


def inspect(image: Image, pixels: int = PIXELS) -> Image:
    """Fill media type, width and height from the bytes; raise `NotAnImageError` in words for anything else.

    Fast: PNG, JPEG, WebP and GIF are judged by their head and end. Only when these leave a doubt (bytes after the end,
    for one) the picture is decoded, and never one of more than *pixels*.
    """
    return _judged(image, pixels, None)


def _judged(image: Image, pixels: int, head: Head | None) -> Image:
    try:
        head = head or _head(image.data)
        _check_size(head, pixels)
        if not head.whole:
            decode(image.data, head, pixels)
    except BrokenPicture as error:
        raise NotAnImageError(f"the answer is not a usable picture: found {error}") from error
    return replace(image, media_type=head.media_type, width=head.width, height=head.height)


async def inspected(image: Image, pixels: int = PIXELS) -> Image:
    """Inspect without holding up the event loop: what only a decoder can judge is decoded in a thread."""
    try:
        head = read_head(image.data)
    except BrokenPicture:
        return inspect(image, pixels)
    known = head if head.width else None
    return _judged(image, pixels, known) if head.whole else await asyncio.to_thread(_judged, image, pixels, known)


def verify(data: bytes, pixels: int = PIXELS, param: str = "image") -> Image:
    """Decode a picture that a caller sent, as a whole; raise `RequestError` if it is none. CPU heavy: use a thread."""
    try:
        head = _head(data)
        _check_size(head, pixels)
        decode(data, head, pixels)
    except BrokenPicture as error:
        raise RequestError(
            f"{param} is not a usable picture: found {error}; PNG, JPEG, WebP, GIF and AVIF are",
            param=param,
            code="invalid_image",
        ) from error
    return Image(data=data, media_type=head.media_type, width=head.width, height=head.height)


def decode(data: bytes, head: Head | None = None, pixels: int = PIXELS) -> Pillow.Image:
    """Decode the first frame; raise `BrokenPicture` if that fails or it has more than *pixels*, then without trying."""
    # Our limit may be higher; what lies above both Pillow refuses where a head has told us something else.
    Pillow.MAX_IMAGE_PIXELS = max(Pillow.MAX_IMAGE_PIXELS or 0, pixels)
    head = head or _head(data)
    _check_size(head, pixels)
    if head.media_type == "image/jpeg" and data.count(b"\xff\xda") > SCANS:
        raise BrokenPicture(f"a JPEG of more than {SCANS} scans")
    try:
        opened = Pillow.open(BytesIO(data), formats=(FORMATS[head.media_type],))
        if opened.width * opened.height > pixels:
            raise BrokenPicture(f"a picture of {opened.width}x{opened.height} pixels; at most {pixels} are allowed")
        opened.load()
    except BrokenPicture:
        raise
    except Exception as error:
        # Pillow's decoders raise nearly anything on broken bytes.
        raise BrokenPicture(f"a {FORMATS[head.media_type]} that is truncated or broken") from error
    return opened


def turn_of(opened: Pillow.Image) -> Pillow.Transpose | None:
    """Say how a picture must be turned to stand upright; None if it does, or if nobody can read what its EXIF says."""
    try:
        return TURNS.get(opened.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001  - Pillow raises nearly anything here, and the pixels are fine
        return None


def upright(opened: Pillow.Image) -> Pillow.Image:
    """Give the pixels as they are meant to be seen."""
    turn = turn_of(opened)
    return opened.copy() if turn is None else opened.transpose(turn)


def _check_size(head: Head, pixels: int) -> None:
    if not (head.width and head.height):
        raise BrokenPicture(f"a {FORMATS[head.media_type]} of {head.width}x{head.height} pixels")
    if head.width * head.height > pixels:
        raise HugePicture(f"a picture of {head.width}x{head.height} pixels; at most {pixels} are allowed")
    if head.frames > FRAMES:
        raise HugePicture(f"an animation of {head.frames} frames; at most {FRAMES} are allowed")


def _head(data: bytes) -> Head:
    head = read_head(data)
    if head.width or head.media_type != "image/avif":
        return head
    try:
        with Pillow.open(BytesIO(data), formats=("AVIF",)) as opened:
            return replace(head, width=opened.width, height=opened.height, frames=getattr(opened, "n_frames", 1))
    except Exception as error:
        raise BrokenPicture("an AVIF that is truncated or broken") from error
