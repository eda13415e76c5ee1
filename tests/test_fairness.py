"""The waiting line: turns between callers, places, positions."""

from __future__ import annotations

import time
from collections import Counter
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from gateway.fairness import Line, Shelf

T = TypeVar("T")


def left(line: Line[T], caller: str) -> list[T]:
    """Let a working item of *caller* go; give those that take its place."""
    line.leave(caller)
    return list(iter(line.following, None))


STEPS = st.lists(st.tuples(st.sampled_from(["enter", "leave", "give up"]), st.integers(0, 3)), max_size=80)


def test_a_caller_who_floods_takes_turns_with_one_who_does_not() -> None:
    """The second caller's only job starts next, not after the hundred of the first."""
    line: Line[str] = Line(1)
    for number in range(100):
        line.enter("flood", f"flood-{number}")
    line.enter("calm", "calm-0")

    assert left(line, "flood") == ["flood-1"]
    assert left(line, "flood") == ["calm-0"]
    assert left(line, "calm") == ["flood-2"]


def test_the_order_told_is_the_order_taken() -> None:
    """`order` foretells exactly what `leave` starts, one after the other."""
    line: Line[str] = Line(1)
    line.enter("a", "running")
    for name in ("a1", "a2", "a3", "b1", "c1", "c2"):
        line.enter(name[0], name)
    told = list(line.order())
    taken, caller = [], "a"
    while following := left(line, caller):
        taken += following
        caller = following[0][0]

    assert told == taken == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_positions_count_from_one_and_end_at_zero() -> None:
    """A waiting item has a place from 1; one that works or has gone has 0."""
    line: Line[str] = Line(1)
    line.enter("a", "working")
    line.enter("a", "first")
    line.enter("a", "second")

    assert [line.position(item) for item in ("working", "first", "second", "unknown")] == [0, 1, 2, 0]


def test_one_caller_never_takes_more_than_its_places() -> None:
    """With a limit per caller a free place stays free rather than going to the caller who has its share."""
    line: Line[str] = Line(4, per_caller=2)

    assert [line.enter("a", f"a{number}") for number in range(4)] == [True, True, False, False]
    assert line.enter("b", "b0")
    assert left(line, "b") == []
    assert left(line, "a") == ["a2"]


def test_whoever_gives_up_leaves_no_gap() -> None:
    """The one behind moves up, and a caller with nothing left is forgotten."""
    line: Line[str] = Line(1)
    line.enter("a", "working")
    line.enter("b", "leaves")
    line.enter("c", "stays")
    line.give_up("leaves")
    line.give_up("leaves")

    assert (line.waiting, line.callers, line.position("stays")) == (1, 1, 1)


@given(STEPS, st.integers(1, 3), st.integers(0, 3))
def test_no_place_is_lost_or_given_twice(steps: list[tuple[str, int]], places: int, per_caller: int) -> None:
    """Whatever comes and goes, the counts are those of the items, and nobody waits before a free place of their own."""
    line: Line[tuple[str, int]] = Line(places, per_caller)
    working: list[tuple[str, int]] = []
    waiting: list[tuple[str, int]] = []
    for number, (step, who) in enumerate(steps):
        item = (f"caller-{who}", number)
        if step == "enter":
            (working if line.enter(item[0], item) else waiting).append(item)
        elif step == "leave" and working:
            for started in left(line, working.pop(who % len(working))[0]):
                waiting.remove(started)
                working.append(started)
        elif step == "give up" and waiting:
            line.give_up(waiting.pop(who % len(waiting)))
        mine = Counter(caller for caller, _ in working)

        assert (line.running, line.waiting) == (len(working), len(waiting))
        assert len(working) <= places
        assert all(count <= (per_caller or places) for count in mine.values())
        assert sorted(line.order()) == sorted(waiting)
        assert not any(len(working) < places and mine[caller] < (per_caller or places) for caller, _ in waiting)


def test_whoever_has_most_gives_way_first() -> None:
    """Of ten and two of equal weight the ten lose until they are two; then both in turn, each the oldest first."""
    shelf: Shelf[str] = Shelf()
    for number in range(2):
        shelf.put(f"calm-{number}", "calm", 10)
    for number in range(10):
        shelf.put(f"flood-{number}", "flood", 10)
    gone = []
    while len(shelf) > 2:
        gone.append(shelf.surplus())
        shelf.take(gone[-1])

    assert gone[:8] == [f"flood-{number}" for number in range(8)]
    assert sorted(gone[8:]) == ["calm-0", "flood-8"]
    assert shelf.oldest() == "calm-1"


PUTS = st.lists(st.tuples(st.sampled_from(["put", "take", "surplus"]), st.integers(0, 3), st.integers(0, 50)))


@given(PUTS)
def test_a_shelf_counts_right_and_remembers_nothing_of_what_has_gone(steps: list[tuple[str, int, int]]) -> None:
    """Whatever comes and goes: weights, order and the heaviest are those of a plain list."""
    shelf: Shelf[int] = Shelf()
    there: dict[int, tuple[str, int]] = {}
    for number, (step, who, weight) in enumerate(steps):
        if step == "put":
            there[number] = f"caller-{who}", weight
            shelf.put(number, *there[number])
        elif step == "take" and there:
            gone = list(there)[weight % len(there)]
            del there[gone]
            shelf.take(gone)
            shelf.take(gone)
        elif there:
            sums = {owner: sum(w for o, w in there.values() if o == owner) for owner, _ in there.values()}
            found = shelf.surplus()
            owner = there[found][0]

            assert sums[owner] == max(sums.values())
            assert found == next(thing for thing, (o, _) in there.items() if o == owner)
        assert len(shelf) == len(there)
        assert shelf.weight == sum(weight for _, weight in there.values())
        assert not there or shelf.oldest() == next(iter(there))
        assert len(shelf._heap) <= 64 + 2 * 4 + 1
    for thing in list(there):
        shelf.take(thing)

    assert not shelf._owned
    assert not shelf._weights


def test_a_hundred_thousand_things_of_ten_thousand_owners_take_no_time() -> None:
    """Each put and each surplus costs about the logarithm of the owners, not their number."""
    shelf: Shelf[int] = Shelf()
    began = time.process_time()
    for number in range(100_000):
        shelf.put(number, f"owner-{number % 10_000}", number % 97)
        if len(shelf) > 10_000:
            shelf.take(shelf.surplus())

    assert time.process_time() - began < 5
