"""Metadata: written where each format keeps it, or stripped to the last byte, with every pixel as it was."""

import json
from dataclasses import replace
from io import BytesIO

import pytest
from gateway_plugins.middlewares.metadata import Metadata, packet
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps, PngImagePlugin

from gateway import Image, inspect
from tests.plugins.middlewares.pictures import opened, picture, store, work

SECRET = b"secret garden"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


async def through(mode: str, image: Image, **words) -> Image:
    return (await Metadata(mode=mode).around("store", work(image, **words), store)).images[0]


def pixels(image: Image) -> bytes:
    return opened(image).convert("RGBA").tobytes()


def annotated(format_: str, turn: int = 1) -> Image:
    """Encode a picture with secrets wherever the format has room for them."""
    exif = Pillow.Exif()
    exif[0x010E] = SECRET.decode()
    if turn != 1:
        exif[0x0112] = turn
    options = {"exif": exif, "icc_profile": PROFILE, "xmp": b"<x>" + SECRET + b"</x>"}
    if format_ == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("parameters", SECRET.decode())
        text.add_itxt("XML:com.adobe.xmp", SECRET.decode())
        options = {"exif": exif, "icc_profile": PROFILE, "pnginfo": text}
    if format_ in ("JPEG", "GIF"):
        options["comment"] = SECRET
    if format_ == "GIF":
        options = {"comment": SECRET}
    return picture(format_, (61, 40), **options)


KINDS = [
    ("PNG", "RGB", {}),
    ("PNG", "RGBA", {}),
    ("PNG", "P", {}),
    ("JPEG", "RGB", {}),
    ("JPEG", "L", {"progressive": True}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGB", {"lossless": True}),
    ("WEBP", "RGBA", {}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("GIF", "RGB", {}),
    ("AVIF", "RGB", {}),
]


@pytest.mark.parametrize(("format_", "mode", "options"), KINDS)
async def test_writing_touches_no_pixel(format_, mode, options):
    """The file is still whole, of its kind, and looks the same to the last bit."""
    image = picture(format_, (61, 40), mode, **options)
    made = await through("write", image)

    assert inspect(made).size == image.size
    assert pixels(made) == pixels(image)
    assert (made.data == image.data) is (format_ == "AVIF")


async def test_a_png_bears_texts():
    """Prompt, original words, model, seed and receipt are text chunks that every tool reads."""
    text = opened(await through("write", picture(), prompt="ein Füchschen 狐", original="fuchs")).text

    assert (text["prompt"], text["original_prompt"], text["model"], text["seed"]) == (
        "ein Füchschen 狐",
        "fuchs",
        "flux",
        "11",
    )
    assert json.loads(text["receipt"])["model"] == "flux"


@pytest.mark.parametrize("format_", ["JPEG", "WEBP"])
async def test_jpeg_and_webp_bear_xmp(format_):
    """The packet is sound XML, whatever the prompt contains, and marks the picture as made by a model."""
    prompt = 'a "cat" & <script> \0 \ud800 狐 ]]>'
    made = await through("write", annotated(format_), prompt=prompt)
    found = opened(made).info["xmp"]

    assert b"trainedAlgorithmicMedia" in found
    assert "狐".encode() in found
    assert "&lt;script&gt;" in found.decode()


async def test_a_gif_bears_a_comment():
    """GIF has nothing better."""
    assert json.loads(opened(await through("write", picture("GIF"))).info["comment"])["model"] == "flux"


async def test_avif_is_told_to_be_left():
    """The receipt says that nothing was written."""
    done = await Metadata().around("store", work(picture("AVIF")), store)

    assert "AVIF" in done.receipt.notes[0]


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_a_prompt_of_any_length_fits(format_):
    """A JPEG segment ends at 64 KiB: longer words are cut, the file stays whole."""
    made = await through("write", picture(format_), prompt="long 狐 " * 40_000)

    assert pixels(made) == pixels(picture(format_))
    assert len(packet({"prompt": "狐" * 90_000, "receipt": "x" * 90_000}, 65_000)) <= 65_000


async def test_only_the_named_fields_are_written():
    """Who does not want prompts in files leaves them out."""
    done = await Metadata(fields=("model",)).around("store", work(picture()), store)

    assert set(opened(done.images[0]).text) == {"Software", "model"}


def test_unknown_fields_are_refused():
    """A typo is no silent nothing."""
    with pytest.raises(ValueError, match="promt"):
        Metadata(fields=("promt",))


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF", "AVIF"])
async def test_stripping_leaves_no_secret(format_):
    """Exif, XMP, comments and text chunks go, the colour profile stays."""
    image = annotated(format_)
    made = await through("strip", image)

    assert SECRET in image.data
    assert SECRET not in made.data
    assert inspect(made).size == image.size
    if format_ != "AVIF":
        assert pixels(made) == pixels(image)
    if format_ != "GIF":
        assert opened(made).info["icc_profile"] == PROFILE


@pytest.mark.parametrize(("format_", "mode", "options"), KINDS)
async def test_stripping_what_was_written_gives_the_same_pixels(format_, mode, options):
    """Both ways, nothing is left of the words."""
    image = picture(format_, (61, 40), mode, **options)
    made = await through("strip", await through("write", image, prompt="unmistakable words"))

    assert b"unmistakable" not in made.data
    if format_ != "AVIF":
        assert pixels(made) == pixels(image)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "GIF"])
async def test_what_hangs_behind_the_end_is_stripped(format_):
    """Bytes behind a picture are metadata too."""
    image = picture(format_)

    assert (await through("strip", replace(image, data=image.data + SECRET))).data.endswith(image.data[-8:])


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
async def test_a_picture_on_its_side_stands_upright_when_its_tag_is_gone(format_):
    """The tag goes, so the pixels turn."""
    image = annotated(format_, turn=6)
    made = await through("strip", image)

    assert opened(made).size == (40, 61)
    assert SECRET not in made.data
    assert ImageOps.exif_transpose(opened(made)).size == (40, 61)


@pytest.mark.parametrize("mode", ["write", "strip"])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
async def test_exif_that_nobody_can_read_costs_no_picture(format_, mode):
    """It goes like any other, or stays."""
    image = picture(format_, exif=b"Exif\0\0steps: 20" if format_ == "JPEG" else b"steps: 20, sampler")
    made = await through(mode, image)

    assert pixels(made) == pixels(image)
    assert (b"steps: 20" in made.data) is (mode == "write")


async def test_an_animation_survives_both_ways():
    """All frames are still there."""
    frames = [Pillow.new("RGB", (20, 20), (i * 60, 90, 200 - i * 50)) for i in range(4)]
    for format_ in ("GIF", "WEBP", "PNG"):
        buffer = BytesIO()
        frames[0].save(buffer, format=format_, save_all=True, append_images=frames[1:], loop=0)
        image = inspect(Image(data=buffer.getvalue()))
        for mode in ("write", "strip"):
            image = await through(mode, image)
            with Pillow.open(BytesIO(image.data)) as found:
                assert found.n_frames == 4
                assert found.info["loop"] == 0
