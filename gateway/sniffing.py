"""Reads the head of a picture and checks that its end is there, from bytes alone: no decoder runs."""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

PNG = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
JPEG_END = b"\xff\xd9"
SPACE = b"\x00\t\n\r "
MOST_STEPS = 2**16
"""Chunks, markers, boxes or blocks that a head is followed through; it is read on the event loop."""
LONG_CHUNK = 64 * 2**10
PACKED_CHUNKS = (b"iCCP", b"zTXt", b"iTXt")
"""What a PNG may bear packed a thousandfold: long ones are looked into by a decoder, which has bounds for them."""
TAG = re.compile(rb"<\s*(!doctype\s+html|html|head|body|script|svg|\?xml|!--)", re.IGNORECASE)
KNOWN = (
    (b"%PDF", "a PDF"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"\0\0\1\0", "an icon"),
    (b"\x1f\x8b", "gzip data"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"data:", "a data: URL as text"),
)
HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


class BrokenPicture(ValueError):  # noqa: N818  - it says what is wrong with a picture, in words
    """The bytes are no picture of a known format, or end too early; the message says what they look like."""


class HugePicture(BrokenPicture):
    """A picture of more pixels, or more frames, than may be unfolded."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the first bytes say. *whole* is False when only a decoder can tell whether the rest is there."""

    media_type: str
    width: int = 0
    height: int = 0
    whole: bool = True
    frames: int = 1


def read_head(data: bytes) -> Head:
    """Find the format, the size and whether the end is there; raise `BrokenPicture` for anything else."""
    for matches, name, read in READERS:
        if matches(data):
            try:
                return read(data)
            except (IndexError, struct.error) as error:
                raise BrokenPicture(f"a {name} that is truncated after {len(data)} bytes") from error
    raise BrokenPicture(describe(data))


def describe(data: bytes) -> str:
    """Say in a few words what bytes that are no picture look like."""
    if not data:
        return "an empty body"
    start = data[:1024].lstrip(SPACE + b"\xef\xbb\xbf")
    if len(data) < 8 and any(sign.startswith(data) for sign in (PNG, b"\xff\xd8\xff", b"GIF89a", b"RIFF")):
        return f"a picture that is truncated after {len(data)} bytes"
    if tag := TAG.match(start):
        return "an SVG drawing" if b"<svg" in start.lower() else _markup(tag[1].lower())
    if start[:1] in (b"{", b"["):
        return "JSON"
    if data[4:8] == b"ftyp" and data[8:12] in HEIC:
        return "a HEIC picture, as telephones make them"
    found = next((name for sign, name in KNOWN if data.startswith(sign)), "")
    return found or _text_or_bytes(data[:1024])


def _markup(tag: bytes) -> str:
    return "XML" if tag == b"?xml" else "HTML"


def _text_or_bytes(start: bytes) -> str:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)  # the cut may be within a character
    except UnicodeDecodeError:
        return "unknown bytes"
    return "text" if text.isprintable() or not re.search(r"[\x00-\x08\x0e-\x1f]", text) else "unknown bytes"


def _steps(name: str, most: int = MOST_STEPS) -> Iterator[None]:
    """Count steps through a file; raise `BrokenPicture` when there are more than any encoder writes."""
    for _ in range(most):
        yield
    raise BrokenPicture(f"{name} in more than {most} pieces")


def _png(data: bytes) -> Head:
    kind, width, height = struct.unpack_from(">4sII", data, 12)
    if kind != b"IHDR":
        raise BrokenPicture("a PNG without a header")
    frames, at, plain = 1, 8, True
    for _ in _steps("a PNG"):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"acTL":
            frames = struct.unpack_from(">I", data, at + 8)[0]
        elif length > LONG_CHUNK and kind in PACKED_CHUNKS:
            plain = False
        if kind in (b"IDAT", b"IEND"):
            break
        at += length + 12
    if kind == b"IEND":
        raise BrokenPicture("a PNG without pixels")
    if data.rfind(PNG_END, at + length + 12) < 0:
        raise BrokenPicture(f"a PNG that is truncated after {len(data)} bytes")
    return Head("image/png", width, height, plain and data.endswith(PNG_END), frames)


def _jpeg(data: bytes) -> Head:
    width = height = 0
    at = 2
    for _ in _steps("a JPEG"):
        if data[at] == data[at + 1] == 0xFF:
            at += 1
            continue
        if data[at] != 0xFF:
            raise BrokenPicture("a JPEG with a broken header")
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
        elif marker in (0xDA, 0xD9):
            break
        at += 2 if 0xD0 <= marker <= 0xD8 or marker == 1 else 2 + struct.unpack_from(">H", data, at + 2)[0]
    if marker == 0xD9 or not width or data.rfind(JPEG_END, at + 8) < 0:
        raise BrokenPicture(f"a JPEG that is truncated after {len(data)} bytes")
    # Within a scan 0xFF is always followed by 0: these two bytes can only be the end, or that of a second picture.
    return Head("image/jpeg", width, height, data.endswith(JPEG_END))


def _gif(data: bytes) -> Head:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _colours(flags)
    frames = 0
    steps = _steps("a GIF", 4 * MOST_STEPS)
    while data[at] != 0x3B:
        if data[at] == 0x2C:
            if not frames:
                # A decoder makes its canvas as large as the first frame, and fills it at once.
                left, top, across, down = struct.unpack_from("<HHHH", data, at + 1)
                width, height = max(width, left + across), max(height, top + down)
            frames += 1
            at += 11 + _colours(data[at + 9])
        elif data[at] == 0x21:
            at += 2
            _check_extension(data, at)
        else:
            raise BrokenPicture("a GIF with a broken block")
        while data[at]:
            at += data[at] + 1
            next(steps)
        at += 1
        next(steps)
    if not frames:
        raise BrokenPicture("a GIF without pixels")
    if data[at + 1 :].strip(b"\0"):
        raise BrokenPicture("a GIF with something else behind its end")
    return Head("image/gif", width, height, frames=frames)


def _check_extension(data: bytes, at: int) -> None:
    """Refuse extensions whose first block, at *at*, is empty, but for comments, and animations without a count: Pillow
    reads on behind their end, and would see other frames than we do."""
    block = data[at + 1 : at + 1 + data[at]]
    if (not block and data[at - 1] != 0xFE) or (block.startswith(b"NETSCAPE2.0") and not data[at + 1 + len(block)]):
        raise BrokenPicture("a GIF with an empty extension")


def _colours(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(data: bytes) -> Head:
    length = struct.unpack_from("<I", data, 4)[0] + 8
    if length > len(data):
        raise BrokenPicture(f"a WebP that is truncated: {len(data)} of {length} bytes")
    kind, first = struct.unpack_from("<4sI", data, 12)
    frames = 1
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        frames = max(1, data.count(b"ANMF")) if data[20] & 2 else 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    elif kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        raise BrokenPicture("a WebP without pixels")
    # With VP8X the pixels come in a later chunk, which RIFF's own length does not prove to be there.
    whole = 20 + first <= length == len(data) and (kind != b"VP8X" or _webp_has_pixels(data))
    return Head("image/webp", width, height, whole, frames)


def _webp_has_pixels(data: bytes) -> bool:
    at = 12
    found = False
    steps = _steps("a WebP")
    while at + 8 <= len(data):
        next(steps)
        kind, length = struct.unpack_from("<4sI", data, at)
        found = found or kind in (b"VP8 ", b"VP8L", b"ANMF")
        at += 8 + length + (length & 1)
    return found and at == len(data)


def _avif(data: bytes) -> Head:
    """Check the boxes only: sizes stand deep in the item tree, a decoder has to read them."""
    at = 0
    open_end = False
    kinds = set()
    steps = _steps("an AVIF")
    while at < len(data):
        next(steps)
        length, kind = struct.unpack_from(">I4s", data, at)
        if length == 1:
            length = struct.unpack_from(">Q", data, at + 8)[0]
        open_end = not length
        length = length or len(data) - at
        if length < 8 or at + length > len(data):
            raise BrokenPicture(f"an AVIF that is truncated after {len(data)} bytes")
        kinds.add(kind)
        at += length
    if b"mdat" not in kinds:
        raise BrokenPicture(f"an AVIF that is truncated after {len(data)} bytes")
    return Head("image/avif", whole=not open_end)


def _is_avif(data: bytes) -> bool:
    if data[4:8] != b"ftyp":
        return False
    brands = data[8 : min(64, int.from_bytes(data[:4], "big"))]
    return b"avif" in brands or b"avis" in brands


READERS = (
    (lambda data: data.startswith(PNG), "PNG", _png),
    (lambda data: data.startswith(b"\xff\xd8\xff"), "JPEG", _jpeg),
    (lambda data: data.startswith(b"RIFF") and data[8:12] == b"WEBP", "WebP", _webp),
    (lambda data: data.startswith((b"GIF87a", b"GIF89a")), "GIF", _gif),
    (_is_avif, "AVIF", _avif),
)
