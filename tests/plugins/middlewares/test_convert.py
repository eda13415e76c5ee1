"""Conversion before storing: exact size and format, told in the receipt, and no paid picture lost."""

from dataclasses import replace

import pytest
from gateway_plugins.middlewares.convert import Convert

from gateway import Change, Size
from tests.plugins.middlewares.pictures import opened, picture, store, work


async def test_pictures_get_the_format_and_the_receipt_says_so():
    """What is stored is a WebP; seed and words of the picture stay."""
    done = await Convert(output_format="webp", quality=60).around("store", work(picture()), store)

    assert (done.images[0].media_type, done.images[0].seed) == ("image/webp", 11)
    assert done.receipt.adjusted == (Change("output_format", "png", "webp", "converted before storing"),)
    assert done.receipt.applied["output_format"] == "webp"


@pytest.mark.parametrize(("fit", "size"), [("crop", Size(50, 50)), ("pad", Size(50, 50)), ("scale", Size(50, 33))])
async def test_pictures_get_the_size(fit, size):
    """Crop and pad meet it exactly, scale fits into it."""
    done = await Convert(size=Size(50, 50), fit=fit).around("store", work(picture()), store)

    assert opened(done.images[0]).size == (size.width, size.height)
    assert done.receipt.applied["size"] == str(size)


async def test_what_is_right_already_is_left_alone():
    """Same bytes, no entry in the receipt."""
    image = picture()
    done = await Convert(output_format="png", size=Size(60, 40)).around("store", work(image), store)

    assert done.images == (image,)
    assert done.receipt.adjusted == ()


async def test_equal_changes_are_told_once():
    """Four pictures that changed alike are one entry."""
    done = await Convert(output_format="jpeg").around("store", work(*[picture()] * 4), store)

    assert len(done.images) == 4
    assert len(done.receipt.adjusted) == 1


async def test_a_picture_that_cannot_be_converted_is_stored_as_it_is():
    """It is paid for: the receipt says why it stayed."""
    rotten = replace(picture(), data=picture().data[:60] + b"\xff" * 40)
    done = await Convert(output_format="webp").around("store", work(rotten, picture()), store)

    assert done.images[0] == rotten
    assert done.images[1].media_type == "image/webp"
    assert "left as it came" in done.receipt.notes[0]


def test_a_converter_without_a_task_is_refused():
    """An empty configuration is a mistake."""
    with pytest.raises(ValueError, match="changes nothing"):
        Convert()
