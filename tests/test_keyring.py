"""Whose turn it is, who rests, who is refused."""

from __future__ import annotations

from dataclasses import dataclass

from gateway import Secret
from gateway.errors import AllowanceError, RateLimitedError
from gateway.keyring import SECOND_CHANCE, KeyRing


@dataclass
class Clock:
    """A clock that the test sets."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def ring(*names: str, clock: Clock | None = None) -> KeyRing:
    return KeyRing([Secret(name) for name in names], clock or Clock())


def turns(keys: KeyRing, count: int) -> str:
    """Give the letters of the next keys."""
    return "".join(str(key.secret) if (key := keys.pick()) else "-" for _ in range(count))


def test_keys_take_turns() -> None:
    """Round robin, so that no account carries all the load."""
    assert turns(ring("a", "b", "c"), 7) == "abcabca"


def test_no_keys() -> None:
    """An upstream without keys has nothing to pick."""
    keys = ring()

    assert keys.pick() is None
    assert keys.next_back() is None
    assert keys.health() == {"keys": 0, "usable": 0, "refused": 0, "resting": 0}


def test_key_given_twice_is_one_key() -> None:
    """Else the same key would be tried twice for one call."""
    assert len(ring("a", "a", "b")) == 2


def test_tried_keys_are_left_out() -> None:
    """One call never goes out twice with one key."""
    keys = ring("a", "b")
    first = keys.pick()
    assert first is not None
    second = keys.pick([first])
    assert second is not None

    assert keys.pick([first, second]) is None


def test_dropped_key_never_comes_back() -> None:
    """A refused key stays out however long one waits."""
    clock = Clock()
    keys = ring("a", "b", clock=clock)
    first = keys.pick()
    assert first is not None
    keys.drop(first)
    clock.now += 10**9

    assert turns(keys, 3) == "bbb"
    assert keys.health() == {"keys": 2, "usable": 1, "refused": 1, "resting": 0}


def test_resting_key_comes_back_by_itself() -> None:
    """After its rest, and not a moment before."""
    clock = Clock()
    keys = ring("a", "b", clock=clock)
    first = keys.pick()
    assert first is not None
    keys.rest(first, 7)

    assert turns(keys, 2) == "bb"
    assert keys.health()["resting"] == 1
    clock.now += 6.9
    assert turns(keys, 1) == "b"
    clock.now += 0.1
    assert turns(keys, 2) == "ab"


def test_used_up_keys_are_counted_apart() -> None:
    """Whoever asks next should hear that no second will help."""
    keys = ring("a", "b", clock=Clock())
    first, second = keys.pick(), keys.pick()
    assert first
    assert second
    keys.rest(first, 60, AllowanceError)
    assert keys.health() == {"keys": 2, "usable": 1, "refused": 0, "resting": 1, "used_up": 1}
    keys.rest(second, 7)

    assert keys.health() == {"keys": 2, "usable": 0, "refused": 0, "resting": 2, "used_up": 1, "back": 7}


def test_longer_rest_stays() -> None:
    """A rate limit during the rest of an exhausted allowance does not shorten it."""
    keys = ring("a")
    only = keys.pick()
    assert only is not None
    keys.rest(only, 3600, AllowanceError)
    keys.rest(only, 5, RateLimitedError)

    assert keys.next_back() == (3600, AllowanceError)


def test_first_back_is_told() -> None:
    """Who must wait is told the shortest time, refused keys left out."""
    keys = ring("a", "b", "c")
    picked = [keys.pick(), keys.pick(), keys.pick()]
    first, second, third = (key for key in picked if key)
    keys.rest(first, 60)
    keys.rest(second, 20)
    keys.drop(third)

    assert keys.next_back() == (20, RateLimitedError)


def test_account_rests_whole() -> None:
    """Keys of one account share its allowance."""
    keys = ring("a", "b")
    keys.rest_all(100)

    assert keys.pick() is None
    assert keys.next_back() == (100, AllowanceError)


def test_secrets_never_show() -> None:
    """Neither health nor repr tells a key."""
    keys = ring("canary-key")

    assert "canary" not in f"{keys!r} {keys.pick()!r} {keys.health()}"


def test_refused_keys_get_a_second_chance_when_none_is_left():
    """A stray 403 does not end the service for ever; but no refused key is tried while another may work."""
    now = [0.0]
    ring = KeyRing([Secret("a"), Secret("b")], clock=lambda: now[0])
    for key in (ring.pick(), ring.pick()):
        assert key is not None
        ring.drop(key)
        now[0] += 1

    assert ring.pick() is None
    now[0] = SECOND_CHANCE + 0.5
    again = ring.pick()
    assert again is not None
    assert again.secret == "a"
    ring.drop(again)
    assert ring.pick() is None
