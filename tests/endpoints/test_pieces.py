"""JSON in pieces is the JSON that it would be whole."""

from __future__ import annotations

import json
import random
from base64 import b64decode, b64encode

import pytest

from gateway.endpoints.pieces import STEP, Base64, pieces


@pytest.mark.parametrize("length", [0, 1, 2, STEP - 1, STEP, STEP + 1, 3 * STEP + 2])
def test_the_pieces_join_to_the_same_json(length: int) -> None:
    """Whatever the length, beside other pictures and words that look like anything."""
    data = random.Random(length).randbytes(length)
    words = '\n\r\0 \u2028 data: "} 🦊'
    value = {"a": Base64(data), "words": words, "more": [{"b": Base64(b"xyz")}, Base64(b"")], "n": 1.5}
    joined = b"".join(pieces(value, before=b"event: e\ndata: ", after=b"\n\n"))
    text = b64encode(data).decode()

    assert joined.startswith(b"event: e\ndata: {")
    assert joined.count(b"\n") == 3
    assert json.loads(joined[len(b"event: e\ndata: ") : -2]) == {
        "a": text,
        "words": words,
        "more": [{"b": "eHl6"}, ""],
        "n": 1.5,
    }


def test_no_piece_is_much_longer_than_a_step() -> None:
    """A reader who takes nothing holds one of them."""
    parts = list(pieces({"a": Base64(bytes(10 * STEP))}))

    assert max(map(len, parts)) < 1.5 * STEP
    assert len(b64decode(json.loads(b"".join(parts))["a"])) == 10 * STEP


def test_what_is_no_json_is_no_json() -> None:
    """Only pictures are taken besides."""
    with pytest.raises(TypeError):
        list(pieces({"a": object()}))
