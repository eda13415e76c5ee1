"""Tokens are read however the field spells them, and nothing that is no number is taken for one."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.usage import Usage, is_usage, read_usage

NAMES = st.sampled_from(["input_tokens", "prompt_tokens", "total_tokens", "input_tokens_details", "x"])
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


def test_both_forms_of_the_field_are_read():
    """Images count input and output, chat counts prompt and completion; a missing total is their sum."""
    assert read_usage({"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}) == Usage(1, 2, 3)
    assert read_usage({"prompt_tokens": 1, "completion_tokens": 2}) == Usage(1, 2, 3)
    assert read_usage({"total_tokens": 9, "prompt_tokens_details": {"text_tokens": 4}}) == Usage(
        0, 0, 9, {"text_tokens": 4}
    )


def test_details_are_added_kind_by_kind():
    """What only one of two calls told is kept."""
    both = Usage(1, 2, 3, {"text_tokens": 1}) + Usage(4, 5, 9, {"text_tokens": 2, "image_tokens": 2})

    assert both == Usage(5, 7, 12, {"text_tokens": 3, "image_tokens": 2})


@given(st.dictionaries(NAMES, VALUES | st.dictionaries(st.text(max_size=60), VALUES, max_size=20), max_size=5))
def test_no_upstream_makes_a_usage_that_cannot_be_told(told: dict[str, Any]):
    """Whatever JSON comes: a sound usage of bounded length, or none."""
    usage = read_usage(told)

    assert usage is None or (is_usage(usage) and len(usage.input_details) <= 8)
