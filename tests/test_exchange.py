"""How the answer of an upstream is read: at one waking where its length is known, and never past what broke off."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader

from gateway.errors import BrokenAnswerError
from gateway.exchange import BUFFER, read_limited


def answer(length: int | None, **headers: str) -> tuple[Any, StreamReader]:
    """An answer whose body the test feeds; *length* is what its head has promised."""
    content = StreamReader(BaseProtocol(asyncio.get_running_loop()), BUFFER, loop=asyncio.get_running_loop())
    closed: list[bool] = []
    head = SimpleNamespace(
        content=content, content_length=length, headers=headers, close=lambda: closed.append(True), closed=closed
    )
    return head, content


async def test_a_known_length_is_read_at_one_waking() -> None:
    head, content = answer(6)
    reading = asyncio.create_task(read_limited(head, 100))
    for piece in (b"ab", b"cd", b"ef"):
        await asyncio.sleep(0)
        content.feed_data(piece)
    assert not reading.done()
    content.feed_eof()

    assert await reading == b"abcdef"


@pytest.mark.parametrize("when", ["before it is waited for", "while it is waited for"])
async def test_what_breaks_off_is_told_at_once(when: str) -> None:
    """The end of a connection may be seen in the same turn of the loop as its head."""
    head, content = answer(100)
    content.feed_data(b"half")
    if when.startswith("before"):
        content.set_exception(aiohttp.ClientPayloadError("cut"))
    reading = asyncio.create_task(read_limited(head, 1000))
    await asyncio.sleep(0)
    if when.startswith("while"):
        content.set_exception(aiohttp.ClientPayloadError("cut"))

    with pytest.raises(aiohttp.ClientPayloadError):
        async with asyncio.timeout(5):
            await reading


@pytest.mark.parametrize(("length", "headers"), [(None, {}), (5, {"Content-Encoding": "gzip"})])
async def test_what_has_no_true_length_is_watched_on_the_way(length: int | None, headers: dict[str, str]) -> None:
    """Endless, or packed: it is cut when it has become too long."""
    head, content = answer(length, **headers)
    content.feed_data(b"{" + b"x" * 2000)
    with pytest.raises(BrokenAnswerError, match="more than"):
        await read_limited(head, 1000)

    assert head.closed


async def test_a_promise_that_is_too_long_is_not_read() -> None:
    head, _ = answer(2000)
    with pytest.raises(BrokenAnswerError, match="more than 1000 bytes"):
        await read_limited(head, 1000)

    assert head.closed
