"""Brings a finished picture to the size and format that were asked for."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any, Literal

from PIL import Image as Pillow
from PIL import ImageCms, ImageFilter, ImageOps

from gateway.errors import NotAnImageError, RequestError
from gateway.imaging import FORMATS, MEDIA_TYPES, decode, upright
from gateway.sniffing import BrokenPicture
from gateway.values import Image, Size

Fit = Literal["crop", "pad", "scale", "leave"]
QUALITY = 90
LOSSY = ("image/jpeg", "image/webp", "image/avif")
WITH_ALPHA = ("image/png", "image/webp", "image/avif", "image/gif")
LANCZOS = Pillow.Resampling.LANCZOS


def finish(
    image: Image,
    *,
    size: Size | None = None,
    fit: Fit = "crop",
    output_format: str | None = None,
    quality: int | None = None,
    otherwise: int | None = None,
    pixels: int = 50_000_000,
) -> Image:
    """Cut, pad or scale to *size* and convert to *output_format*; return *image* itself if there is nothing to do.

    ``crop`` cuts the middle to the ratio and then meets the size exactly; ``pad`` keeps all of it between bars, which
    are transparent or a blur of it; ``scale`` keeps the ratio and fits into the size; ``leave`` keeps the size.
    *quality* (0 to 100) of JPEG, WebP and AVIF is met by writing anew; *otherwise* counts where that is done anyway.
    What is written anew is turned upright, keeps its colour profile and loses other metadata; of an animation the
    first frame stays. Raise `NotAnImageError` for bytes that no decoder reads. CPU heavy: use a thread.
    """
    target = media_type_of(output_format) if output_format else image.media_type
    fits = size is None or fit == "leave" or image.size == size or (fit == "scale" and _touches(image.size, size))
    encoded = image.media_type == target and (quality is None or target not in LOSSY)
    if image.media_type and fits and encoded:
        return image
    picture, media_type = open_picture(image.data, pixels)
    if size is not None and not fits:
        picture = bring_to(picture, size, fit, (target or media_type) in WITH_ALPHA)
    return replace(
        encode_picture(picture, target or media_type, otherwise if quality is None else quality), **_told(image)
    )


def _touches(inner: Size, outer: Size) -> bool:
    gaps = (outer.width - inner.width, outer.height - inner.height)
    return min(gaps) == 0 and max(gaps) >= 0


def media_type_of(output_format: str) -> str:
    """Find the media type of a format's name; raise `RequestError` for an unknown one."""
    try:
        return MEDIA_TYPES[output_format.lower()]
    except KeyError:
        known = ", ".join(MEDIA_TYPES)
        raise RequestError(f"unknown picture format {output_format!r}; known: {known}", param="output_format") from None


def open_picture(data: bytes, pixels: int = 50_000_000) -> tuple[Pillow.Image, str]:
    """Decode a picture upright and in plain colours (L, RGB or RGBA), and name its media type."""
    try:
        opened = decode(data, pixels=pixels)
    except BrokenPicture as error:
        raise NotAnImageError(f"the picture cannot be decoded: found {error}") from error
    media_type = next((media for media, name in FORMATS.items() if name == opened.format), "image/jpeg")
    return _plain(_upright(opened)), media_type


def bring_to(picture: Pillow.Image, size: Size, fit: Fit, alpha: bool = False) -> Pillow.Image:
    """Crop, pad or scale *picture*; *alpha* allows transparent bars."""
    wanted = (size.width, size.height)
    if fit == "crop":
        made = ImageOps.fit(picture, wanted, LANCZOS)
    elif fit == "scale":
        made = ImageOps.contain(picture, wanted, LANCZOS)
    else:
        made = _padded(picture, wanted, alpha)
    made.info = dict(picture.info)
    return made


def encode_picture(picture: Pillow.Image, media_type: str, quality: int | None = None) -> Image:
    """Write *picture* (plain colours) as *media_type*; JPEG has no transparency, so it gets a white ground."""
    if media_type == "image/jpeg":
        picture = flat(picture)
    options = _options(media_type, QUALITY if quality is None else min(100, max(1, quality)))
    profile = _profile(picture)
    if profile and media_type != "image/gif":
        options["icc_profile"] = profile
    buffer = BytesIO()
    try:
        picture.save(buffer, format=FORMATS[media_type], **options)
    except (OSError, ValueError) as error:
        words = f"{picture.width}x{picture.height} pixels cannot be written as {media_type}"
        raise RequestError(words, param="output_format") from error
    return Image(data=buffer.getvalue(), media_type=media_type, width=picture.width, height=picture.height)


def flat(picture: Pillow.Image, ground: str = "white") -> Pillow.Image:
    """Put a picture with transparency on a plain *ground*."""
    if picture.mode != "RGBA":
        return picture
    made = Pillow.new("RGB", picture.size, ground)
    made.paste(picture, mask=picture.getchannel("A"))
    made.info = dict(picture.info)
    return made


def _options(media_type: str, quality: int) -> dict[str, Any]:
    if media_type == "image/jpeg":
        return {"quality": quality, "subsampling": 0 if quality >= 90 else 2}
    if media_type == "image/webp":
        return {"quality": quality, "method": 3}
    if media_type == "image/avif":
        return {"quality": quality, "speed": 8}
    return {"compress_level": 5} if media_type == "image/png" else {}


def _told(image: Image) -> dict[str, Any]:
    return {"seed": image.seed, "revised_prompt": image.revised_prompt, "url": image.url}


def _upright(picture: Pillow.Image) -> Pillow.Image:
    turned = upright(picture)
    turned.info = {name: picture.info[name] for name in ("icc_profile",) if name in picture.info}
    if "transparency" in picture.info:
        turned.info["transparency"] = picture.info["transparency"]
    return turned


def _plain(picture: Pillow.Image) -> Pillow.Image:
    if picture.mode in ("L", "RGB", "RGBA") and "transparency" not in picture.info:
        return picture
    if picture.mode == "CMYK":
        return _from_print(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        return picture.convert("I").point(lambda value: value / 256).convert("L")
    clear = picture.has_transparency_data
    made = picture.convert("RGBA" if clear else "L" if picture.mode == "1" else "RGB")
    made.info.pop("transparency", None)
    return made


def _from_print(picture: Pillow.Image) -> Pillow.Image:
    profile = picture.info.pop("icc_profile", None)
    if profile:
        try:
            made = ImageCms.profileToProfile(
                picture, ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            made = None
        if made is not None:
            made.info.pop("icc_profile", None)
            return made
    return picture.convert("RGB")


def _profile(picture: Pillow.Image) -> bytes | None:
    """Give the colour profile if it speaks of the colours that the picture has now."""
    profile: bytes | None = picture.info.get("icc_profile")
    space = b"GRAY" if picture.mode == "L" else b"RGB "
    return profile if profile and profile[16:20] == space else None


def _padded(picture: Pillow.Image, wanted: tuple[int, int], alpha: bool) -> Pillow.Image:
    inner = ImageOps.contain(picture, wanted, LANCZOS)
    if picture.mode == "RGBA" and alpha:
        ground = Pillow.new("RGBA", wanted, (0, 0, 0, 0))
    else:
        inner = flat(inner)
        ground = _blur(inner, wanted)
    ground.paste(inner, ((wanted[0] - inner.width) // 2, (wanted[1] - inner.height) // 2))
    return ground


def _blur(picture: Pillow.Image, wanted: tuple[int, int]) -> Pillow.Image:
    """Make soft bars of the picture's own colours; small first, since a blur of all pixels is slow."""
    scale = 96 / max(wanted)
    small = (max(1, round(wanted[0] * scale)), max(1, round(wanted[1] * scale)))
    soft = ImageOps.fit(picture, small, LANCZOS).filter(ImageFilter.GaussianBlur(5))
    dark = soft.point(lambda value: value * 0.82)
    return dark.resize(wanted, Pillow.Resampling.BICUBIC)
