"""Hostile forms and bodies of edits."""

import aiohttp
import pytest

from tests.fake_upstream import png
from tests.gateways import DEMO, start


@pytest.fixture
async def gateway(aiohttp_server, tmp_path):
    return await start(aiohttp_server, DEMO, tmp_path)


def form(**fields):
    made = aiohttp.FormData({"prompt": "a fox", **fields})
    made.add_field("image", png(64, 64), filename="a.png")
    return made


@pytest.mark.parametrize("field", ["n", "seed", "steps", "width", "partial_images"])
@pytest.mark.parametrize("text", ["--5", "---1", "9" * 5_000, "-" + "9" * 4_400, "-", "1-", "0x1", "²"])
async def test_a_number_of_a_form_that_is_none_is_a_400(gateway, field, text):
    """Python's own limits on numbers are no faults of the gateway."""
    answer = await gateway.post("/v1/images/edits", data=form(**{field: text}))

    assert answer.status == 400
    assert answer.error["param"] == field
    assert len(answer.body) < 500


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Disposition: form-data; name="a\x01"',
        b'Content-Disposition: form-data; name="a\x00"',
        b"no colon",
        b": empty",
        b"X" * 10_000 + b": y",
        b"\r\n".join(b"X-%d: y" % number for number in range(1_000)),
        b'Content-Disposition: form-data; name="\xff\xfe"',
        b"Content-Disposition: form-data",
    ],
    ids=["control", "NUL", "no colon", "no name", "long", "many", "not UTF-8", "nameless"],
)
async def test_a_part_with_a_broken_head_is_a_400(gateway, head):
    """The head of a part is as foreign as that of a request."""
    body = b"--b\r\n" + head + b"\r\n\r\nx\r\n--b--\r\n"
    answer = await gateway.post(
        "/v1/images/edits", data=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )

    assert answer.status == 400
    assert len(answer.body) < 1_000
