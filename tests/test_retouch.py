"""Finished pictures: size, fit, format, transparency, orientation and colour profile."""

import struct
from io import BytesIO
from typing import Any

import pytest
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps, PngImagePlugin

from gateway.errors import NotAnImageError, RequestError
from gateway.imaging import MEDIA_TYPES, inspect, upright
from gateway.retouch import finish
from gateway.values import Image, Size


def encoded(drawn: Pillow.Image, format_: str = "PNG", **options) -> Image:
    buffer = BytesIO()
    drawn.save(buffer, format=format_, **options)
    return inspect(Image(data=buffer.getvalue(), seed=7, revised_prompt="a cat"))


def opened(image: Image) -> Pillow.Image:
    found = Pillow.open(BytesIO(image.data))
    found.load()
    return found


def thirds() -> Pillow.Image:
    """Red, green and blue columns, 90x30."""
    drawn = Pillow.new("RGB", (90, 30), "lime")
    drawn.paste("red", (0, 0, 30, 30))
    drawn.paste("blue", (60, 0, 90, 30))
    return drawn


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": Size(90, 30)},
        {"size": Size(10, 10), "fit": "leave"},
        {"size": Size(90, 90), "fit": "scale"},
        {"output_format": "png"},
        {"output_format": "png", "quality": 10},
    ],
)
def test_nothing_to_do_returns_the_very_same_picture(options):
    """Bytes that already are what was asked for are not touched."""
    image = encoded(thirds())

    assert finish(image, **options) is image


def test_crop_cuts_the_middle_to_the_exact_size():
    """Of three columns a square keeps the middle one."""
    made = finish(encoded(thirds()), size=Size(15, 15), fit="crop")

    assert (made.size, made.media_type, made.seed, made.revised_prompt) == (Size(15, 15), "image/png", 7, "a cat")
    assert opened(made).getpixel((7, 7)) == (0, 255, 0)
    assert opened(made).getpixel((1, 7))[0] < 90


def test_pad_keeps_the_whole_picture_between_soft_bars():
    """All three columns are still there; the bars are no hard colour."""
    made = opened(finish(encoded(thirds()), size=Size(90, 90), fit="pad"))

    assert made.size == (90, 90)
    assert [made.getpixel((x, 45)) for x in (10, 45, 80)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert made.getpixel((45, 3)) not in ((0, 0, 0), (255, 255, 255))


def test_pad_of_a_transparent_picture_is_transparent_where_the_format_can():
    """PNG gets clear bars; JPEG gets soft ones."""
    clear = encoded(Pillow.new("RGBA", (40, 20), (255, 0, 0, 128)))

    assert opened(finish(clear, size=Size(40, 40), fit="pad")).getpixel((20, 2))[3] == 0
    assert opened(finish(clear, size=Size(40, 40), fit="pad", output_format="jpeg")).mode == "RGB"


def test_scale_keeps_the_ratio_within_the_size():
    """Neither side passes the size asked."""
    image = encoded(thirds())

    assert finish(image, size=Size(45, 45), fit="scale").size == Size(45, 15)
    assert finish(image, size=Size(180, 180), fit="scale").size == Size(180, 60)


@pytest.mark.parametrize("target", ["png", "jpeg", "jpg", "webp", "gif", "avif", "WEBP"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_becomes_every_format(mode, target):
    """No colour mode of a PNG stands in the way of a format."""
    made = finish(encoded(thirds().convert("L").convert(mode)), output_format=target)

    assert inspect(Image(data=made.data)).media_type == made.media_type == MEDIA_TYPES[target.lower()]
    assert made.size == Size(90, 30)


def test_sixteen_bits_of_grey_stay_the_same_grey():
    """A 16 bit picture is scaled down, not clipped to white."""
    grey = Pillow.new("I;16", (9, 9), 0x8000)

    assert abs(opened(finish(encoded(grey), output_format="webp")).convert("L").getpixel((4, 4)) - 128) < 3


def test_print_colours_become_screen_colours():
    """A CMYK JPEG is converted, with no profile of ink left in it."""
    made = opened(finish(encoded(Pillow.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG"), output_format="png"))

    assert made.mode == "RGB"
    assert made.getpixel((4, 4))[0] > 200 > 60 > made.getpixel((4, 4))[1]


def test_transparency_gets_a_white_ground_in_jpeg():
    """Clear parts do not turn black."""
    clear = encoded(Pillow.new("RGBA", (20, 20), (0, 0, 0, 0)))

    assert opened(finish(clear, output_format="jpeg")).getpixel((9, 9)) == (255, 255, 255)
    palette = Pillow.new("P", (20, 20), 0)
    assert opened(finish(encoded(palette, transparency=0), output_format="jpeg")).getpixel((9, 9)) == (255, 255, 255)


def test_a_picture_that_lies_on_its_side_is_turned_upright_once():
    """The orientation tag is applied to the pixels and gone afterwards."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    made = opened(finish(encoded(thirds(), "JPEG", exif=exif, quality=95), output_format="png"))

    assert made.size == (30, 90)
    assert made.getpixel((15, 10))[0] > 200
    assert ImageOps.exif_transpose(made).size == (30, 90)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_every_orientation_is_understood(format_: str, orientation: int):
    """As Pillow itself turns pictures; what is none of the eight turns nothing."""
    drawn, exif = thirds(), Pillow.Exif()
    drawn.paste("white", (0, 0, 40, 10))
    exif[0x0112] = orientation
    given = encoded(drawn, format_, exif=exif, quality=100)
    expected = ImageOps.exif_transpose(opened(given)).convert("RGB")

    assert opened(finish(given, output_format="gif")).size == expected.size
    assert upright(opened(given)).convert("RGB").tobytes() == expected.tobytes()


def notes_of(tag: int, kind: int, value: bytes) -> bytes:
    """EXIF of a picture on its side, and one tag in a form that Pillow reads and cannot write."""
    first = struct.pack(">HHI4s", tag, kind, 4, value)
    return b"Exif\0\0MM\0*\0\0\0\x08\0\x02" + first + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + bytes(4)


@pytest.mark.parametrize("tag", [0x100, 0x128, 0x213, 0x11A])
def test_exif_that_cannot_be_written_again_turns_the_picture_all_the_same(tag: int):
    """Phones write texts where numbers belong."""
    given = encoded(thirds(), "JPEG", exif=notes_of(tag, 2, b"72\0\0"), quality=95)

    assert opened(finish(given, output_format="png")).size == (30, 90)


def noted_text() -> PngImagePlugin.PngInfo:
    """What some tools write for EXIF into PNGs, broken."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", "\nexif\n 12\nnothex zz\n")
    return info


@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("PNG", {"exif": b"steps: 20, sampler: x"}),
        ("PNG", {"pnginfo": noted_text()}),
        ("WEBP", {"exif": b"steps: 20, sampler: x"}),
        ("JPEG", {"exif": b"Exif\0\0steps: 20, sampler: x", "dpi": (72, 72)}),
        ("JPEG", {"exif": b"Exif\0\0II*\0\xff\xff\xff\x7f", "dpi": (72, 72)}),
    ],
    ids=["png", "png text", "webp", "jpeg", "jpeg offset"],
)
def test_exif_that_nobody_can_read_costs_no_picture(format_: str, options: dict[str, Any]):
    """It stays as it lies: its pixels are fine, and perhaps paid for."""
    made = finish(encoded(thirds(), format_, **options), size=Size(30, 30), output_format="png")

    assert made.size == Size(30, 30)
    assert opened(made).getpixel((15, 15))[1] > 200


def test_the_colour_profile_stays_and_other_metadata_goes():
    """Colours keep their meaning; the place of the photograph is not passed on."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Pillow.Exif()
    exif[0x010E] = "secret garden"
    source = encoded(thirds(), "JPEG", icc_profile=profile, exif=exif)
    for target in ("png", "webp", "avif"):
        made = finish(source, output_format=target)

        assert opened(made).info["icc_profile"] == profile
        assert b"secret garden" not in made.data


def test_quality_counts_for_lossy_formats():
    """A lower quality is a smaller file, down to 0."""
    noise = Pillow.effect_noise((80, 80), 90).convert("RGB")
    lengths = [len(finish(encoded(noise), output_format="jpeg", quality=q).data) for q in (0, 40, 100)]

    assert lengths == sorted(set(lengths))


def test_bytes_that_do_not_decode_are_no_picture():
    """A sound head with rotten pixels is told when it is decoded."""
    data = bytearray(encoded(Pillow.radial_gradient("L")).data)
    data[60:90] = b"\xff" * 30

    with pytest.raises(NotAnImageError):
        finish(Image(data=bytes(data), media_type="image/png", width=60, height=60), output_format="jpeg")


def test_what_a_format_cannot_hold_is_told():
    """WebP ends at 16383 pixels a side; unknown formats are named with the known ones."""
    with pytest.raises(RequestError, match="20000x1 pixels cannot be written"):
        finish(encoded(Pillow.new("L", (20000, 1))), output_format="webp")
    with pytest.raises(RequestError, match="known: png"):
        finish(encoded(thirds()), output_format="tiff")


def test_only_the_first_frame_of_an_animation_stays():
    """An animation that has to be written anew becomes a still picture."""
    frames = [Pillow.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    made = opened(finish(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), output_format="png"))

    assert made.getpixel((3, 3)) == (255, 0, 0)
