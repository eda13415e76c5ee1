"""Images of what an upstream answers: what is whole is kept, whatever stands beside it."""

import pytest

from gateway import BrokenAnswerError, Image, image_of, whole_images


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://host/x.png", Image(url="https://host/x.png")),
        ("http://host/x.png", Image(url="http://host/x.png")),
        ("cGl4ZWxz", Image(b"pixels")),
        ("data:image/png;base64,cGl4ZWxz", Image(b"pixels")),
    ],
)
async def test_an_image_of_each_kind_of_text(text: str, expected: Image):
    """URLs are handed on, anything else is decoded."""
    assert await image_of(text) == expected


async def test_what_is_whole_is_kept():
    """In order, beside the complaints of the others."""
    whole, broken = await whole_images(map(image_of, ["%%", "YQ==", "", "Yg=="]))

    assert whole == [Image(b"a"), Image(b"b")]
    assert [error.message for error in broken] == [
        "answered a picture that is not valid base64",
        "answered an empty picture",
    ]


async def test_no_more_are_read_than_wanted():
    """What comes after the last that is wanted may be anything."""
    asked: list[str] = []

    async def make(text: str) -> Image:
        asked.append(text)
        return await image_of(text)

    whole, broken = await whole_images(map(make, ["%%", "YQ==", "Yg=="]), 1)

    assert (whole, len(broken)) == ([Image(b"a")], 1)
    assert asked == ["%%", "YQ=="]


async def test_only_complaints_are_raised():
    """The first says what is wrong; nothing at all is no complaint."""
    with pytest.raises(BrokenAnswerError, match="not valid base64"):
        await whole_images(map(image_of, ["%%", ""]))

    assert await whole_images([]) == ([], [])
