"""Words in errors by which clients tell one kind from another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.gateways import DEMO, start


async def test_a_wrong_key_is_told_in_openais_words(aiohttp_server: Any, tmp_path: Path) -> None:
    """litellm makes an AuthenticationError of it only if it finds these words, else a BadRequestError."""
    gateway = await start(aiohttp_server, DEMO, tmp_path)
    answer = await gateway.get("/v1/models", headers={"Authorization": "Bearer wrong-key-of-somebody"})

    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert "Incorrect API key provided" in answer.error["message"]
    assert "wrong-key" not in answer.text
