"""Pictures as telephones make them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.gateways import start
from tests.painters import HELD, holding, painter

HEADS = {
    "iPhone": b"\0\0\0\x24ftypheic\0\0\0\0mif1MiHBheic",
    "burst": b"\0\0\0\x18ftypmsf1\0\0\0\0msf1hevc",
    "Android": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
async def test_heic_is_refused_by_its_name(aiohttp_server: Any, tmp_path: Path, head: bytes) -> None:
    """The user learns what to change: the format, and which ones there are."""
    gateway = await start(aiohttp_server, holding(), tmp_path, types=HELD)
    url = "data:image/heic;base64," + base64.b64encode(head + bytes(64)).decode()
    parts = [{"type": "text", "text": "in blue"}, {"type": "image_url", "image_url": {"url": url}}]
    answer = await gateway.chat(parts, model="held")

    assert (answer.status, answer.error["code"]) == (400, "invalid_image")
    assert "HEIC" in answer.error["message"]
    assert "JPEG" in answer.error["message"]
    assert not painter(gateway).requests
