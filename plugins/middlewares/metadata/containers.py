"""Adds and removes metadata in PNG, JPEG, WebP and GIF files without touching their pixels."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping

KEPT_CHUNKS = {
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"pHYs"),
    *(b"bKGD", b"acTL", b"fcTL", b"fdAT"),
}  # fmt: skip
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"
MOST_IN_SEGMENT = 65_533 - len(XMP_NAME)


def with_texts(data: bytes, texts: Mapping[str, str]) -> bytes:
    """Put international text chunks behind the header of a PNG."""
    chunks = b"".join(
        _chunk(b"iTXt", name.encode("latin-1", "replace") + b"\0\0\0\0\0" + text.encode("utf-8", "replace"))
        for name, text in texts.items()
    )
    return data[:33] + chunks + data[33:]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def jpeg_with_xmp(data: bytes, packet: bytes) -> bytes:
    """Put an XMP segment behind the JFIF and Exif heads of a JPEG."""
    at = 2
    for start, marker, end in _segments(data):
        if marker not in (0xE0, 0xE1):
            break
        at = end if start == at else at
    body = XMP_NAME + packet
    return data[:at] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[at:]


def webp_with_xmp(data: bytes, packet: bytes, width: int, height: int) -> bytes:
    """Put an XMP chunk at the end of a WebP; a simple file gets the extended head that this takes."""
    chunks = [chunk for chunk in _riff(data) if chunk[0] != b"XMP "]
    if chunks[0][0] == b"VP8X":
        head = bytes([chunks[0][1][0] | 0x04]) + chunks[0][1][1:]
        chunks[0] = (b"VP8X", head)
    else:
        alpha = chunks[0][0] == b"VP8L" and bool(chunks[0][1][4] >> 4 & 1)
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        chunks.insert(0, (b"VP8X", bytes([0x04 | (0x10 if alpha else 0), 0, 0, 0]) + sides))
    return _webp([*chunks, (b"XMP ", packet)])


def gif_with_comment(data: bytes, text: str) -> bytes:
    """Put a comment behind the colours of a GIF, which has nothing better."""
    at = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    body = text.encode("utf-8", "replace")
    blocks = b"".join(bytes([len(part)]) + part for part in (body[i : i + 255] for i in range(0, len(body), 255)))
    return data[:at] + b"\x21\xfe" + blocks + b"\0" + data[at:]


def bare_png(data: bytes) -> bytes:
    """Keep the chunks that a decoder needs for the pixels and their colours, and nothing behind the end."""
    kept, at = [data[:8]], 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in KEPT_CHUNKS:
            kept.append(data[at : at + length + 12])
        at += length + 12
        if kind == b"IEND":
            break
    return b"".join(kept)


def bare_jpeg(data: bytes) -> bytes:
    """Drop comments and all application segments but JFIF, the colour profile and Adobe's colour transform."""
    kept = [data[:2]]
    for start, marker, end in _segments(data):
        segment = data[start:end]
        profile = marker == 0xE2 and segment[4:16] == b"ICC_PROFILE\0"
        told = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if profile or marker in (0xE0, 0xEE) or not told:
            kept.append(segment)
    return b"".join(kept)


def bare_webp(data: bytes) -> bytes:
    """Keep the chunks of pixels, animation and colour profile."""
    known = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP")
    chunks = [chunk for chunk in _riff(data) if chunk[0] in known]
    if chunks[0][0] == b"VP8X":
        chunks[0] = (b"VP8X", bytes([chunks[0][1][0] & ~0x0C]) + chunks[0][1][1:])
    return _webp(chunks)


def bare_gif(data: bytes) -> bytes:
    """Drop comments and the blocks of applications, except the one that lets an animation run for ever."""
    at = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    kept = [data[:at]]
    while data[at] != 0x3B:
        start = at
        kind = data[at : at + 2]
        if data[at] == 0x2C:
            flags = data[at + 9]
            at += 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
        else:
            at += 2
        while data[at]:
            at += data[at] + 1
        at += 1
        loops = data[start + 3 : start + 14] in (b"NETSCAPE2.0", b"ANIMEXTS1.0")
        if kind != b"\x21\xfe" and kind != b"\x21\x01" and (kind != b"\x21\xff" or loops):
            kept.append(data[start:at])
    return b"".join([*kept, b"\x3b"])


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Walk a JPEG: start, marker and end of each segment, scans with their pixels, up to the end of the picture."""
    at = 2
    while at + 4 <= len(data):
        while data[at + 1] == 0xFF:
            at += 1
        marker = data[at + 1]
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if marker == 0xDA:
            following = MARKER.search(data, end)
            end = following.start() if following else len(data)
        yield at, marker, end
        at = end
        if data[at : at + 2] == b"\xff\xd9":
            yield at, 0xD9, at + 2
            return


def _riff(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + (length & 1)
    return chunks


def _webp(chunks: list[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(struct.pack("<4sI", kind, len(part)) + part + b"\0" * (len(part) & 1) for kind, part in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
