"""What counts as a picture: the corpus of good, broken, disguised and dangerous bytes."""

import asyncio
import struct
import time
import zlib
from io import BytesIO
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from gateway.errors import NotAnImageError, RequestError
from gateway.imaging import EXTENSIONS, FRAMES, MEDIA_TYPES, inspect, inspected, verify
from gateway.values import Image, Size

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")
SIZES = ((1, 1), (3, 2), (33, 17), (64, 128))
MODES = ("RGB", "L", "RGBA")


def picture(format_: str, size: tuple[int, int] = (33, 17), mode: str = "RGB", **options) -> bytes:
    """Encode a small picture with some detail in it."""
    drawn = Pillow.linear_gradient("L").resize(size).convert(mode)
    buffer = BytesIO()
    drawn.save(buffer, format=format_, **options)
    return buffer.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes], pixels: bytes = b"") -> bytes:
    """Build a PNG by hand, so that its header can lie."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", head), *chunks, (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


def loads(data: bytes) -> bool:
    """Ask Pillow whether all of the picture is there."""
    try:
        Pillow.open(BytesIO(data), formats=FORMATS).load()
    except Exception:
        return False
    return True


def wide(format_: str) -> bytes:
    return picture(format_, (61, 47))


COMBINATIONS = [
    (format_, size, mode)
    for format_, size, mode in product(FORMATS, SIZES, MODES)
    if not (format_ == "JPEG" and mode == "RGBA")
]


@pytest.mark.parametrize(("format_", "size", "mode"), COMBINATIONS)
def test_type_and_size_come_from_the_bytes(format_, size, mode):
    """Every format, size and colour mode is told as it is, whatever was declared."""
    declared = Image(data=picture(format_, size, mode), media_type="text/html", width=9, height=9, seed=4)
    found = inspect(declared)

    assert (found.media_type, found.width, found.height) == (MEDIA_TYPES[format_.lower()], *size)
    assert (found.data, found.seed) == (declared.data, 4)


def variants() -> dict[str, bytes]:
    frames = [Pillow.new("RGB", (20, 20), (i * 9, 0, 0)) for i in range(4)]
    animated = {"save_all": True, "append_images": frames[1:]}
    files = {
        "progressive": picture("JPEG", progressive=True),
        "jpeg with exif": picture("JPEG", exif=b"Exif\0\0" + b"\0" * 900),
        "jpeg padded": picture("JPEG") + b"\0" * 100,
        "jpeg cmyk": picture("JPEG", mode="CMYK"),
        "jpeg and php": picture("JPEG", comment=b"<?php echo 1; ?>"),
        "png 1 bit": picture("PNG", mode="1"),
        "png palette": picture("PNG", mode="P"),
        "png 16 bit": picture("PNG", mode="I;16"),
        "png and html": png(1, 1, (b"tEXt", b"Comment\0<script>alert(1)</script>"), pixels=b"\0\0"),
        "png padded": picture("PNG") + b"\n",
        "webp lossless": picture("WEBP", lossless=True),
        "webp alpha": picture("WEBP", mode="RGBA"),
        "webp exif": picture("WEBP", exif=b"Exif\0\0II*\0"),
    }
    for format_ in ("PNG", "WEBP", "GIF", "AVIF"):
        buffer = BytesIO()
        frames[0].save(buffer, format=format_, **animated)
        files[f"animated {format_}"] = buffer.getvalue()
    return files


@pytest.mark.parametrize("name", variants())
def test_unusual_but_whole_pictures_pass(name):
    """Progressive, padded, animated, printed and annotated files are pictures too."""
    found = inspect(Image(data=variants()[name]))

    assert found.media_type in EXTENSIONS
    assert verify(found.data).size == found.size


IMPOSTORS = {
    "an empty body": b"",
    "HTML": b"<!DOCTYPE html><html><body>busy</body></html>",
    " HTML": b"\n\n  <HTML><h1>502</h1>",
    "an SVG drawing": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    " an SVG drawing": b'\xef\xbb\xbf<?xml version="1.0"?><svg/>',
    "XML": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "JSON": b'{"error": "quota"}',
    " JSON": b"[1, 2]",
    "text": b"internal server error",
    "a data: URL as text": b"data:image/png;base64,iVBORw0KGgo=",
    "a BMP picture": b"BM" + b"\0" * 60,
    "a TIFF picture": b"II*\0" + b"\0" * 60,
    "an icon": b"\0\0\1\0\1\0\x10\x10",
    "a PDF": b"%PDF-1.7\n",
    "gzip data": b"\x1f\x8b\x08\0" + b"\0" * 30,
    "a ZIP archive": b"PK\x03\x04" + b"\0" * 30,
    "unknown bytes": bytes(range(128, 256)) * 8,
    "a GIF": b"GIF89a/*\x3b\x73\0\0*/=1;alert(document.domain)//",
    "something else behind its end": picture("GIF") + b"/*<script>alert(1)</script>*/",
    "a picture of 60000x60000": png(60000, 60000),
    "a picture of 30000x30000": png(30000, 30000),
    "0x0": png(0, 0),
    "a PNG without pixels": png(1, 1)[:33] + png(1, 1)[-12:],
    "a PNG without a header": b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rJUNK" + b"\0" * 90,
    "truncated": b"\x89PNG\r\n\x1a\n",
    " truncated": b"\xff\xd8\xff",
    "  truncated": b"\xff\xd8\xff\xe0\xff\xd9",
    "   truncated": b"RIFF\xff\xff\xff\x7fWEBPVP8 ",
    "    truncated": b"\xff\xd8",
    "a WebP without pixels": b"RIFF\x10\0\0\0WEBPJUNK\4\0\0\0\0\0\0\0",
    "an AVIF": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + b"\0\0\0\x08mdat",
}


@pytest.mark.parametrize("words", IMPOSTORS)
def test_anything_else_is_refused_with_words_for_what_it_is(words):
    """The error says what was found instead of a picture, so that the operator knows where to look."""
    with pytest.raises(NotAnImageError) as caught:
        inspect(Image(data=IMPOSTORS[words]))

    assert words.strip() in caught.value.message
    assert (caught.value.status, caught.value.code) == (502, "not_an_image")


@pytest.mark.parametrize("words", IMPOSTORS)
def test_impostors_that_a_caller_sends_are_the_callers_fault(words):
    """The same bytes as an input picture are a 400 that names the field."""
    with pytest.raises(RequestError) as caught:
        verify(IMPOSTORS[words], param="mask")

    assert (caught.value.status, caught.value.param) == (400, "mask")


def whole_files() -> dict[str, bytes]:
    return {
        **{format_: wide(format_) for format_ in FORMATS},
        **{f"{format_} alpha": picture(format_, mode="RGBA") for format_ in ("PNG", "WEBP", "GIF", "AVIF")},
        "progressive": picture("JPEG", (61, 47), progressive=True),
        "JPEG restart": picture("JPEG", (61, 47), restart_marker_blocks=1),
        "JPEG thumbnail": picture("JPEG", exif=b"Exif\0\0" + picture("JPEG", (8, 8))),
    }


@pytest.mark.parametrize("name", whole_files())
def test_a_truncated_picture_never_passes(name):
    """Cut anywhere, a picture passes only if a decoder still finds every pixel."""
    data = whole_files()[name]
    passed = []
    for length in range(len(data)):
        try:
            inspect(Image(data=data[:length]))
        except NotAnImageError:
            continue
        passed.append(length)

    assert all(loads(data[:length]) for length in passed)
    assert not passed or name == "AVIF"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["", *(picture(f)[:40] for f in FORMATS)]), st.booleans())
def test_random_bytes_raise_nothing_but_the_one_error(tail, start, ended):
    """No bytes, however strange, end in another exception."""
    data = (start or b"") + tail + (b"\xff\xd9" if ended else b"")
    for check, error in ((inspect, NotAnImageError), (lambda image: verify(image.data), RequestError)):
        try:
            check(Image(data=data))
        except error:
            continue


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(whole_files())), st.floats(0, 1), st.integers(0, 255))
def test_a_flipped_byte_raises_nothing_but_the_one_error(name, place, byte):
    """Bit rot is told, or passes, but never breaks the check itself."""
    data = bytearray(whole_files()[name])
    data[int(place * (len(data) - 1))] = byte
    try:
        inspect(Image(data=bytes(data)))
    except NotAnImageError:
        return


def test_the_pixel_limit_is_the_callers_choice():
    """A picture of exactly the limit passes, one more row does not."""
    assert inspect(Image(data=picture("PNG", (20, 10))), pixels=200).size.pixels == 200
    for check in (lambda data: inspect(Image(data=data), pixels=200), lambda data: verify(data, pixels=200)):
        with pytest.raises((NotAnImageError, RequestError), match="20x11"):
            check(picture("PNG", (20, 11)))


def test_our_limit_counts_and_not_pillows():
    """9500x9500 in 11 KB is more than Pillow allows without a warning, and more than is allowed here by default."""
    buffer = BytesIO()
    Pillow.new("1", (9500, 9500)).save(buffer, "PNG")
    bomb = buffer.getvalue()

    with pytest.raises(NotAnImageError, match="9500x9500"):
        inspect(Image(data=bomb))
    with pytest.raises(RequestError, match="9500x9500"):
        verify(bomb)
    assert verify(bomb, pixels=10**8).size == Size(9500, 9500)


def test_a_gif_is_as_large_as_its_first_frame(monkeypatch: pytest.MonkeyPatch):
    """Decoders make room for it at once: 43 bytes took gigabytes before anybody had looked at a pixel."""
    frame = struct.pack("<BHHHHB", 0x2C, 0, 0, 65535, 65535, 0)
    control = b"\x21\xf9\x04\x08\x00\x00\x00\x00"
    bomb = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + control + frame + b"\x02\x02\x4c\x01\x00\x3b"
    monkeypatch.setattr(Pillow, "open", lambda *_, **__: pytest.fail("it must not be opened"))

    with pytest.raises(NotAnImageError, match="65535x65535"):
        inspect(Image(data=bomb))
    with pytest.raises(RequestError, match="65535x65535"):
        verify(bomb)


LARGE_FRAME = b"\x21\xf9\x04\x08\x00\x00\x00\x00" + struct.pack("<BHHHHB", 0x2C, 0, 0, 65535, 65535, 0)


@pytest.mark.parametrize(
    "extension",
    [b"\x21\x01\x00", b"\x21\xf9\x00", b"\x21\xff\x0bNETSCAPE2.0\x00"],
    ids=["text", "control", "loop"],
)
def test_a_gif_that_pillow_reads_otherwise_is_none(extension: bytes, monkeypatch: pytest.MonkeyPatch):
    """Behind an empty extension it reads on, and finds a frame of gigabytes in what we take for another's pixels."""
    hidden = b"\0" + LARGE_FRAME + b"\x02\x02\x4c\x01\x00\x3b"
    pixels = bytearray(b"\xc8" + b"\x01" * 200)
    pixels[34 : 34 + len(hidden)] = hidden
    frame = struct.pack("<BHHHHB", 0x2C, 0, 0, 1, 1, 0) + b"\x02" + bytes(pixels) + b"\x00\x3b"
    bomb = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + extension + frame

    with pytest.raises(RequestError, match="an empty extension"):
        verify(bomb)
    # And were it not seen, Pillow itself refuses what lies above the limits of both.
    monkeypatch.setattr(Pillow.core, "fill", lambda *_: pytest.fail("it must not be made"))
    with pytest.raises(Exception, match="exceeds limit"):
        Pillow.open(BytesIO(bomb), formats=("GIF",))


def test_animations_of_all_encoders_pass():
    """With a loop, a comment, an empty comment, or none of these."""
    frames = [Pillow.new("P", (8, 8), color) for color in range(3)]
    for options in ({}, {"loop": 0}, {"loop": 3, "comment": b"x"}, {"comment": b""}):
        buffer = BytesIO()
        frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], **options)
        assert inspect(Image(data=buffer.getvalue())).size == Size(8, 8)
    data = buffer.getvalue()
    at = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)

    assert verify(data[:at] + b"\x21\xfe\x00" + data[at:]).size == Size(8, 8)


def test_an_endless_animation_is_no_input_picture():
    """Frames are counted before anything is decoded."""
    frames = [Pillow.new("RGB", (2, 2), (i % 256, i // 256 * 99, 0)) for i in range(FRAMES + 1)]
    buffer = BytesIO()
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:], disposal=2)

    with pytest.raises(RequestError, match="frames"):
        verify(buffer.getvalue())


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_what_a_png_bears_packed_does_not_grow(kind):
    """A text or a profile of 80 MB in 80 KB is unpacked no further than a decoder's bounds, and refused."""
    head = b"Comment\0\1\0\0\0" if kind == b"iTXt" else b"Comment\0\0"
    bomb = png(1, 1, (kind, head + zlib.compress(bytes(80 * 2**20), 9)), pixels=b"\0\0")

    with pytest.raises(NotAnImageError, match="broken"):
        inspect(Image(data=bomb))
    with pytest.raises(RequestError, match="broken"):
        verify(bomb)


def test_a_long_animation_is_no_answer_either():
    """What an upstream or a host sends is bounded in frames as well, each format by what its head says."""
    film = png(1, 1, (b"acTL", struct.pack(">II", FRAMES + 1, 0)), pixels=b"\0\0")

    with pytest.raises(NotAnImageError, match="frames; at most"):
        inspect(Image(data=film))


PIECES = 16 * 2**20 // 8
CRUMBS = {
    "PNG": b"\x89PNG\r\n\x1a\n"
    + struct.pack(">I4sII", 13, b"IHDR", 9, 9)
    + b"\x08\x02\0\0\0crc."
    + struct.pack(">I4s4s", 0, b"tEXt", b"crc.") * PIECES,
    "JPEG, filled": b"\xff\xd8" + b"\xff" * (8 * PIECES),
    "JPEG, restarted": b"\xff\xd8\xff" + b"\xd0\xff" * (4 * PIECES),
    "GIF, extended": b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b"\x21\x00\x00" * (3 * PIECES) + b"\x3b",
    "GIF, in crumbs": b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b"\x21\x00" + b"\1\0" * PIECES * 4 + b"\0\x3b",
    "WebP": b"RIFF"
    + struct.pack("<I4s4sI", 22 + 8 * PIECES, b"WEBP", b"VP8X", 10)
    + bytes(10)
    + b"ABCD\0\0\0\0" * PIECES,
    "AVIF": struct.pack(">I4s4sI4s", 20, b"ftyp", b"avif", 0, b"avif") + struct.pack(">I4s", 8, b"free") * PIECES,
}


@pytest.mark.parametrize("data", CRUMBS.values(), ids=list(CRUMBS))
def test_a_file_in_millions_of_pieces_is_not_followed_to_its_end(data):
    """The head is read on the event loop: whoever makes it long must not hold up the others."""
    began = time.process_time()
    with pytest.raises(NotAnImageError):
        inspect(Image(data))

    assert time.process_time() - began < 0.4


def test_a_jpeg_of_a_thousand_passes_is_not_decoded():
    """Passes over the pixels cost few bytes and as much time as a picture each."""
    plain = picture("JPEG", (512, 512), progressive=True)
    last = plain[plain.rindex(b"\xff\xda") : -2]
    assert verify(plain).width == 512

    with pytest.raises(RequestError, match="scans"):
        verify(plain[:-2] + last * 1_000 + plain[-2:])


async def test_a_doubtful_picture_is_decoded_beside_the_loop():
    """What only a decoder can judge takes a second for the largest; the others go on meanwhile."""
    large = picture("PNG", (5_000, 5_000), "L") + b"\0"
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    found = await inspected(Image(large))
    counting.cancel()

    assert found.width == 5_000
    assert turns > 10
