"""Input pictures, masks and model names become what upstreams want."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import pytest
from PIL import Image as Pillow

from gateway import (
    Image,
    MisconfiguredError,
    RequestError,
    alpha_mask,
    as_base64,
    as_data_url,
    model_path,
    repaint_mask,
)
from tests.fake_upstream import png


def painted(mode: str, left: object, right: object, form: str = "PNG") -> Image:
    picture = Pillow.new(mode, (4, 2), left)  # type: ignore[arg-type]  # a colour of that mode
    picture.paste(right, (2, 0, 4, 2))  # type: ignore[arg-type]  # a colour of that mode
    buffer = BytesIO()
    picture.save(buffer, form)
    return Image(buffer.getvalue())


def columns(data: bytes) -> list[int]:
    with Pillow.open(BytesIO(data)) as picture:
        assert picture.format == "PNG"
        return [picture.convert("L").getpixel((x, 0)) for x in (0, 3)]  # type: ignore[misc]  # grey is a number


def test_base64_is_plain_and_the_data_url_names_the_type():
    """The type is the one that was sniffed, or PNG."""
    assert as_base64(Image(b"abc")) == "YWJj"
    assert as_data_url(Image(b"abc", media_type="image/webp")) == "data:image/webp;base64,YWJj"
    assert as_data_url(Image(b"abc")) == "data:image/png;base64,YWJj"


MASKS = pytest.mark.parametrize(
    ("mask", "wanted"),
    [
        (painted("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)), [255, 0]),
        (painted("RGBA", (255, 255, 255, 255), (255, 255, 255, 0)), [0, 255]),
        (painted("RGBA", (9, 9, 9, 55), (9, 9, 9, 255), "WEBP"), [200, 0]),
        (painted("LA", (0, 0), (0, 255)), [255, 0]),
        (painted("RGBA", (0, 0, 0, 255), (255, 255, 255, 255)), [0, 255]),
        (painted("LA", (255, 255), (0, 255)), [255, 0]),
        (painted("L", 255, 0), [255, 0]),
        (painted("RGB", (0, 0, 0), (255, 255, 255)), [0, 255]),
        (painted("1", 1, 0), [255, 0]),
        (painted("L", 255, 255, "JPEG"), [255, 255]),
        (painted("P", 0, 0), [0, 0]),
    ],
)


@MASKS
def test_what_was_transparent_becomes_white(mask: Image, wanted: list[int]):
    """OpenAI's masks are turned round; masks without transparency are black and white already."""
    assert columns(repaint_mask(mask)) == wanted


@MASKS
def test_what_is_to_be_repainted_becomes_transparent(mask: Image, wanted: list[int]):
    """The same parts of the same masks, the other way round: OpenAI takes nothing but PNG with transparency."""
    made = alpha_mask(mask)

    with Pillow.open(BytesIO(made.data)) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGBA", (4, 2))
        assert [255 - picture.getchannel("A").getpixel((x, 0)) for x in (0, 3)] == wanted  # type: ignore[operator]  # grey is a number
    assert columns(repaint_mask(made)) == wanted


def test_a_mask_that_is_right_is_not_touched():
    """Neither its bytes nor what is declared of it."""
    mask = painted("RGBA", (0, 0, 0, 0), (0, 0, 0, 255))

    assert alpha_mask(mask) is mask


@pytest.mark.parametrize("make", [repaint_mask, alpha_mask])
@pytest.mark.parametrize("data", [b"", b"GIF89a", b"<svg/>", png(8, 8)[:40], b"%!PS-Adobe-3.0 EPSF-3.0"])
def test_a_mask_that_is_no_picture_is_the_callers_fault(data: bytes, make: Callable[[Image], object]):
    """It is refused before anything is sent."""
    with pytest.raises(RequestError) as caught:
        make(Image(data))

    assert caught.value.param == "mask"


@pytest.mark.parametrize("model", ["flux-2-pro", "@cf/a/b-1.0", "owner/name:3f2a", "fal-ai/flux/dev", "a..b"])
def test_usual_model_names_stay_as_they_are(model: str):
    """Nothing in them needs to be encoded."""
    assert model_path(model) == model


def test_letters_of_other_scripts_are_encoded():
    """They are no danger."""
    assert model_path("模型/x") == "%E6%A8%A1%E5%9E%8B/x"


@pytest.mark.parametrize(
    "model",
    ["", "/", "a/", "/a", "a//b", "..", "../x", "x/..", "./x", "a?b", "a#b", "a b", "a%2fb", "a\\b", "a\0", "a\n"],
)
def test_a_model_name_that_leads_elsewhere_is_refused(model: str):
    """A caller may have written it."""
    with pytest.raises(MisconfiguredError) as caught:
        model_path(model)

    assert caught.value.sent is False
