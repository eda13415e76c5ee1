"""Keys of pictures are long, never the same, and tell nothing: whoever has one knows no other."""

import itertools
from collections import Counter

from gateway.pictures import is_key
from gateway.storing import _new_key

MANY, SOME = 1_000_000, 100_000
BITS = 160


def test_a_million_keys_without_a_duplicate():
    """Each has 160 bits and is a key for every storage."""
    keys = [_new_key() for _ in range(MANY)]

    assert len(set(keys)) == MANY
    assert {len(key) for key in keys} == {BITS // 4}
    assert all(map(is_key, keys[:1000]))


def test_no_place_of_a_key_prefers_a_digit():
    """Chi-squared of sixteen digits at each place: no time, no counter, no name stands in it."""
    keys = [_new_key() for _ in range(SOME)]
    expected = SOME / 16
    for place, digits in enumerate(zip(*keys, strict=True)):
        counts = Counter(digits)
        chi = sum((counts[digit] - expected) ** 2 / expected for digit in "0123456789abcdef")
        assert chi < 80, (place, counts)  # by chance once in 10^9 runs


def test_a_key_says_nothing_of_the_next():
    """Keys made one after the other differ in half of their bits, each bit as often as not, like any two."""
    keys = [int(_new_key(), 16) for _ in range(SOME)]
    differing = [(one ^ other).bit_count() for one, other in itertools.pairwise(keys)]
    mean = sum(differing) / len(differing)
    spread = sum((each - mean) ** 2 for each in differing) / len(differing)

    assert abs(mean - BITS / 2) < 0.15
    assert abs(spread - BITS / 4) < 2
