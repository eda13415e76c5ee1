"""Writes prompt, model, seed and receipt into pictures before they are stored, or strips everything from them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Literal
from xml.sax.saxutils import quoteattr

from PIL import Image as Pillow

from gateway import Image, Proceed, Stage, Words, Work, encode_picture, hookimpl, open_picture, turn_of

from .containers import (
    MOST_IN_SEGMENT,
    bare_gif,
    bare_jpeg,
    bare_png,
    bare_webp,
    gif_with_comment,
    jpeg_with_xmp,
    webp_with_xmp,
    with_texts,
)

FIELDS = ("prompt", "original_prompt", "model", "seed", "receipt")
BARE = {"image/png": bare_png, "image/jpeg": bare_jpeg, "image/webp": bare_webp, "image/gif": bare_gif}
MADE_BY_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
UNPRINTABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
QUALITY = 95


@dataclass
class Metadata:
    """*mode* ``write`` adds *fields* to what the upstream wrote: text chunks in PNG, XMP in JPEG and WebP, a comment in
    GIF. AVIF stays as it is, which the receipt says. ``strip`` removes everything but pixels and colour profile.

    No pixel is touched, with two exceptions of ``strip``: a picture that lies on its side is turned upright, since the
    tag that says so goes, and AVIF is written anew.
    """

    mode: Literal["write", "strip"] = "write"
    fields: Words = FIELDS
    stages: tuple[Stage, ...] = field(init=False, default=("store",))

    def __post_init__(self) -> None:
        unknown = [name for name in self.fields if name not in FIELDS]
        if unknown:
            raise ValueError(f"unknown fields {unknown}; known: {', '.join(FIELDS)}")

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        """Write or strip off the event loop, then let the pictures be stored."""
        images = [await asyncio.to_thread(self._changed, image, work) for image in work.images]
        receipt = work.receipt
        if self.mode == "write" and any(image.media_type == "image/avif" for image in images):
            receipt = replace(receipt, notes=(*receipt.notes, "metadata: nothing was written into AVIF"))
        return await proceed(replace(work, images=tuple(images), receipt=receipt))

    def _changed(self, image: Image, work: Work) -> Image:
        if self.mode == "strip":
            return stripped(image)
        told = {name: text for name, text in _texts(image, work).items() if name in self.fields and text}
        return replace(image, data=written(image, told))


def written(image: Image, texts: Mapping[str, str]) -> bytes:
    """Give the bytes of *image* with *texts* where its format keeps such things."""
    if image.media_type == "image/png":
        return with_texts(image.data, {"Software": "image-gateway", **texts})
    if image.media_type == "image/jpeg":
        return jpeg_with_xmp(image.data, packet(texts, MOST_IN_SEGMENT))
    if image.media_type == "image/webp":
        return webp_with_xmp(image.data, packet(texts), image.width, image.height)
    if image.media_type == "image/gif":
        return gif_with_comment(image.data, json.dumps({"software": "image-gateway", **texts}))
    return image.data


def stripped(image: Image) -> Image:
    """Give *image* with nothing but its pixels and their colour profile."""
    bare = BARE.get(image.media_type)
    if bare and not _is_turned(image.data):
        return replace(image, data=bare(image.data))
    picture, media_type = open_picture(image.data)
    made = encode_picture(picture, media_type, QUALITY)
    return replace(made, seed=image.seed, revised_prompt=image.revised_prompt)


def _is_turned(data: bytes) -> bool:
    try:
        with Pillow.open(BytesIO(data)) as opened:
            return turn_of(opened) is not None
    except Exception:  # noqa: BLE001  - what Pillow cannot open is stripped as the bytes that it is
        return False


def packet(texts: Mapping[str, str], limit: int = 2**20) -> bytes:
    """Write *texts* as XMP, marked as made by a model; what is too long for *limit* bytes loses its longest parts."""
    texts = dict(texts)
    while len(made := _packet(texts)) > limit and texts:
        longest = max(texts, key=lambda name: len(texts[name]))
        if longest == "receipt" or len(texts[longest]) < 64:
            del texts[longest]
        else:
            texts[longest] = texts[longest][: len(texts[longest]) // 2] + "…"
    return made


def _packet(texts: Mapping[str, str]) -> bytes:
    ours = "".join(f"\n   gateway:{name}={quoteattr(UNPRINTABLE.sub('', text))}" for name, text in texts.items())
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
   xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:gateway="urn:image-gateway:1"
   xmp:CreatorTool="image-gateway" Iptc4xmpExt:DigitalSourceType="{MADE_BY_MODEL}"{ours}/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>""".encode("utf-8", "replace")


def _texts(image: Image, work: Work) -> dict[str, str]:
    drawn = image.revised_prompt or work.request.prompt
    return {
        "prompt": drawn,
        "original_prompt": work.original if work.original != drawn else "",
        "model": work.receipt.model or work.request.model,
        "seed": "" if image.seed is None else str(image.seed),
        "receipt": json.dumps(work.receipt.as_json(), ensure_ascii=False, default=str),
    }


@hookimpl
def provide_middlewares() -> dict[str, type[Metadata]]:
    """Offer ``use: metadata``."""
    return {"metadata": Metadata}
