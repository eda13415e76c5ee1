"""Watermarks: where they stand, what they leave alone, and what is refused at start."""

from dataclasses import replace
from io import BytesIO

import pytest
from gateway_plugins.middlewares.watermark import Watermark
from PIL import Image as Pillow
from PIL import ImageChops

from gateway import Image, NotAnImageError, inspect
from tests.plugins.middlewares.pictures import opened, picture, store, work


async def marked(mark: Watermark, image):
    return (await mark.around("store", work(image), store)).images[0]


def changed(before, after) -> tuple[int, int, int, int]:
    difference = ImageChops.difference(opened(before).convert("RGB"), opened(after).convert("RGB"))
    box = difference.getbbox()
    assert box
    return box


@pytest.mark.parametrize(
    ("position", "left", "top"),
    [
        ("top-left", 0, 0),
        ("top", 1, 0),
        ("top-right", 2, 0),
        ("left", 0, 1),
        ("center", 1, 1),
        ("right", 2, 1),
        ("bottom-left", 0, 2),
        ("bottom", 1, 2),
        ("bottom-right", 2, 2),
    ],
)
async def test_the_mark_stands_in_its_place(position, left, top):
    """Only the named ninth of the picture changes."""
    image = picture(size=(300, 300))
    box = changed(image, await marked(Watermark(text="© me", position=position), image))

    assert left * 100 <= box[0] < box[2] <= left * 100 + 100
    assert top * 100 <= box[1] < box[3] <= top * 100 + 100


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
async def test_the_format_and_size_stay(format_, mode):
    """A mark changes pixels, not the kind of file."""
    image = picture(format_, (80, 50), mode)
    made = await marked(Watermark(text="mark"), image)

    assert inspect(made).media_type == image.media_type
    assert (made.size, made.seed) == (image.size, 11)


async def test_transparency_stays():
    """Clear parts of a picture are still clear beside the mark."""
    clear = Pillow.new("RGBA", (100, 100), (0, 0, 0, 0))
    buffer = BytesIO()
    clear.save(buffer, "PNG")
    image = inspect(Image(data=buffer.getvalue()))
    made = opened(await marked(Watermark(text="mark", position="top-left"), image))

    assert made.getpixel((90, 90))[3] == 0
    assert made.getchannel("A").getbbox() is not None


async def test_a_logo_keeps_its_ratio_and_the_opacity(tmp_path):
    """A red logo at half strength on white is pink, a fifth as wide as the picture."""
    Pillow.new("RGBA", (200, 100), (255, 0, 0, 255)).save(tmp_path / "logo.png")
    Pillow.new("RGB", (500, 500), "white").save(tmp_path / "ground.png")
    image = inspect(replace(picture(), data=(tmp_path / "ground.png").read_bytes()))
    mark = Watermark(image=tmp_path / "logo.png", opacity=0.5, position="center")
    made = await marked(mark, image)
    left, top, right, bottom = changed(image, made)

    assert (right - left, bottom - top) == (100, 50)
    assert opened(made).getpixel((250, 250)) == pytest.approx((255, 127, 127), abs=2)


@pytest.mark.parametrize("text", ["x" * 5000, "two\nlines", "日本", "\u202eabc", "🦊"])
async def test_strange_texts_fit_somehow(text):
    """No text is so long or strange that the picture is lost."""
    image = picture(size=(64, 3))

    assert (await marked(Watermark(text=text, size=1), image)).size == image.size


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"text": " "},
        {"text": "a", "colour": "no colour"},
    ],
)
def test_what_cannot_work_is_refused_at_start(options):
    """Nothing to write, or no such colour."""
    with pytest.raises(ValueError):
        Watermark(**options)


def test_files_that_are_no_pictures_or_fonts_are_refused_at_start(tmp_path):
    """The message names the file."""
    (tmp_path / "logo.svg").write_text("<svg/>")
    with pytest.raises(ValueError, match=r"logo\.svg"):
        Watermark(image=tmp_path / "logo.svg")
    with pytest.raises(ValueError, match=r"none\.png"):
        Watermark(image=tmp_path / "none.png")
    with pytest.raises(ValueError, match=r"logo\.svg"):
        Watermark(text="a", font=tmp_path / "logo.svg")


async def test_a_picture_that_cannot_be_marked_is_not_stored():
    """An unmarked picture must not get out."""
    stored = []
    rotten = replace(picture(), data=picture().data[:60] + b"\xff" * 40)

    async def keep(done):
        stored.append(done)
        return done

    with pytest.raises(NotAnImageError):
        await Watermark(text="mark").around("store", work(rotten), keep)
    assert stored == []
