"""How many tokens an upstream says it used: read in the spellings of the field, added up, and told again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

MOST = 10**12
"""What no call uses; a larger number is not believed."""
MOST_DETAILS = 8
SPELLINGS = {"input": ("input_tokens", "prompt_tokens"), "output": ("output_tokens", "completion_tokens")}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that went in and came out; *total* may be more, such as thoughts. The details say of what kind they were,
    in OpenAI's words: ``text_tokens``, ``image_tokens``."""

    input: int = 0
    output: int = 0
    total: int = 0
    input_details: Mapping[str, int] = field(default_factory=dict)
    output_details: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.total + other.total,
            _sum(self.input_details, other.input_details),
            _sum(self.output_details, other.output_details),
        )

    def as_json(self) -> dict[str, Any]:
        """Give OpenAI's form, which the images API and the Responses API share."""
        told = {
            "input_tokens": self.input,
            "input_tokens_details": dict(self.input_details),
            "output_tokens": self.output,
            "total_tokens": max(self.total, self.input + self.output),
        }
        return told | ({"output_tokens_details": dict(self.output_details)} if self.output_details else {})


def read_usage(told: object) -> Usage | None:
    """Read the ``usage`` of an answer in OpenAI's form, that of images or that of chat; None if it tells no tokens.

    Some servers send zeros instead of nothing; zeros are nothing.
    """
    if not isinstance(told, Mapping):
        return None
    given, made = (_first(told, names) for names in SPELLINGS.values())
    total = max(count_tokens(told.get("total_tokens")), given + made)
    if not total:
        return None
    inner, outer = (_details(told, names) for names in SPELLINGS.values())
    return Usage(given, made, total, inner, outer)


def count_tokens(value: object) -> int:
    """Take a number of tokens from an answer; what is none counts as 0."""
    return value if _is_count(value) else 0


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST


def is_usage(value: object) -> bool:
    """Say whether a plugin's *value* holds nothing but what a usage may hold."""
    if not isinstance(value, Usage):
        return False
    numbers = [value.input, value.output, value.total]
    for details in (value.input_details, value.output_details):
        if not isinstance(details, Mapping) or not all(isinstance(name, str) for name in details):
            return False
        numbers += details.values()
    return all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers)


def _first(told: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return next((found for name in names if (found := count_tokens(told.get(name)))), 0)


def _details(told: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, int]:
    found = next((rows for name in names if isinstance(rows := told.get(f"{name}_details"), Mapping)), {})
    kept = {name: value for name, value in found.items() if isinstance(name, str) and _is_count(value)}
    return {name[:40]: kept[name] for name in list(kept)[:MOST_DETAILS]}


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
