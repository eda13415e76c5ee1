"""A data: URL is decoded when it is exactly one, and refused when it is nearly one."""

import base64
import os

import pytest

from gateway.data_urls import decode_data_url
from gateway.errors import BrokenAnswerError
from gateway.fetch import Fetcher
from gateway.settings import Fetch

BYTES = bytes(range(256))
TEXT = base64.b64encode(BYTES).decode()


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{TEXT}",
        f"DATA:IMAGE/PNG;BASE64,{TEXT}",
        f"data:;base64,{TEXT}",
        f"data:image/png;charset=x;name=a.png;base64,{TEXT}",
        f"data:text/html;base64,{TEXT}",
        "data:image/png;base64," + TEXT.replace("+", "%2B").replace("/", "%2f").replace("=", "%3D"),
        "data:application/octet-stream," + "".join(f"%{byte:02x}" for byte in BYTES),
    ],
)
async def test_every_form_of_the_same_bytes(url):
    """base64 or percent escapes, in any case, with any parameters: the bytes are what counts."""
    assert await Fetcher(Fetch()).fetch(url) == BYTES


@pytest.mark.parametrize(
    "rest",
    [
        *("", ",", "image/png", "image/png;base64", "image/png;base64,", "x" * 300 + ",AAAA"),
        *(",%", ",%4", ",%G0", ",ü", ",a b", ",\x00"),
        *(
            f";base64,{text}"
            for text in ("A", "AAA", "AAAA=", "AA=A", "====", "AA AA", "AA\nAA", "AA-_", "AAAA ", "AAAA#x")
        ),
        *(f";base64,{text}" for text in ("AA%2", "AA%ZZ", "AA%20AA", "ÄÄÄÄ", "AAAA,AAAA")),
    ],
)
async def test_nearly_a_data_url_is_refused(rest):
    """Nothing is repaired: white space, missing padding, another alphabet, a broken escape."""
    with pytest.raises(BrokenAnswerError, match="data: URL"):
        await Fetcher(Fetch()).fetch(f"data:{rest}")


@pytest.mark.parametrize("size", [999, 1000])
async def test_limit_counts_the_bytes_inside(size):
    """Exactly the limit passes in both forms."""
    content = os.urandom(size)
    escaped = "data:," + "".join(f"%{byte:02X}" for byte in content)

    assert await decode_data_url("data:;base64," + base64.b64encode(content).decode(), 1000) == content
    assert await decode_data_url(escaped, 1000) == content


@pytest.mark.parametrize("size", [1001, 1003, 5000, 10**7])
async def test_over_the_limit_is_refused(size):
    """One byte more does not, in either form."""
    for url in ("data:;base64," + base64.b64encode(bytes(size)).decode(), "data:," + "a" * size):
        with pytest.raises(BrokenAnswerError, match="more than 1000 bytes"):
            await decode_data_url(url, 1000)


async def test_large_picture_is_decoded_off_the_loop():
    """A picture of several megabytes comes out whole."""
    content = os.urandom(6 * 2**20)

    assert await decode_data_url("data:image/png;base64," + base64.b64encode(content).decode(), 2**23) == content
