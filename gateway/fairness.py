"""What is fair between callers: a waiting line where each one's turn comes round, and a shelf where whoever has most
gives way first; both however many jobs one of them sends."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")
H = TypeVar("H", bound=Hashable)

FIRST_GUESS = 5.0
LONGEST_WAIT = 120.0


@dataclass(slots=True)
class Pace:
    """How many seconds a piece of work takes, as the latest ones did."""

    seconds: float = FIRST_GUESS
    seen: int = 0

    def note(self, seconds: float) -> None:
        """Learn from one that has ended."""
        self.seen += 1
        self.seconds += max(0.1, 1 / self.seen) * (seconds - self.seconds)

    def wait(self, ahead: int, places: int) -> float:
        """Reckon the seconds until *ahead* pieces are done by *places* at once, from 1 to 120."""
        return max(1.0, min(self.seconds * ahead / places, LONGEST_WAIT))


class Line(Generic[T]):
    """At most *places* work at once, at most *per_caller* of one caller (0: no such limit); the rest wait in turns."""

    def __init__(self, places: int, per_caller: int = 0) -> None:
        self.places = places
        self.per_caller = per_caller or places
        self.running = 0
        self.waiting = 0
        self._working: dict[str, int] = {}
        self._turns: OrderedDict[str, deque[T]] = OrderedDict()

    def would_wait(self, caller: str) -> bool:
        return self.running >= self.places or self._working.get(caller, 0) >= self.per_caller

    @property
    def callers(self) -> int:
        """How many callers have something waiting."""
        return len(self._turns)

    def waiting_of(self, caller: str) -> int:
        """Tell how many items of one caller wait."""
        return len(self._turns.get(caller, ()))

    def has_room(self, caller: str, most: int) -> bool:
        """Say whether *caller* may come in, to work or to wait, where about *most* may wait.

        Whoever floods must not take the line from the others: up to twice its length each has a share of its own.
        """
        if self.waiting < most or not self.would_wait(caller):
            return True
        return self.waiting < 2 * most and self.waiting_of(caller) < max(1, most // (self.callers + 1))

    def enter(self, caller: str, item: T) -> bool:
        """Take a place, or wait; True if the item may work at once."""
        if self.would_wait(caller):
            self._turns.setdefault(caller, deque()).append(item)
            self.waiting += 1
            return False
        self.take(caller)
        return True

    def take(self, caller: str) -> None:
        """Take a place without waiting for it."""
        self.running += 1
        count(self._working, caller, 1)

    def leave(self, caller: str) -> None:
        """Free the caller's place."""
        self.running -= 1
        count(self._working, caller, -1)

    def following(self) -> T | None:
        """Give the next item that may work now its place; None when no place is free or nobody may take it."""
        return self._next() if self.running < self.places else None

    def give_up(self, item: T) -> None:
        """Take a waiting item out of the line."""
        for caller, items in self._turns.items():
            if item in items:
                items.remove(item)
                self.waiting -= 1
                if not items:
                    del self._turns[caller]
                return

    def order(self) -> Iterator[T]:
        """Yield the waiting items as they will start if nobody else comes."""
        rounds = max((len(items) for items in self._turns.values()), default=0)
        for place in range(rounds):
            for items in self._turns.values():
                if place < len(items):
                    yield items[place]

    def position(self, item: T) -> int:
        """Tell the place of a waiting item, from 1; 0 if it does not wait."""
        return next((place for place, waiting in enumerate(self.order(), 1) if waiting is item), 0)

    def _next(self) -> T | None:
        for caller in self._turns:
            if self._working.get(caller, 0) < self.per_caller:
                items = self._turns[caller]
                item = items.popleft()
                self.waiting -= 1
                self._turns.move_to_end(caller)
                if not items:
                    del self._turns[caller]
                self.take(caller)
                return item
        return None


class Shelf(Generic[H]):
    """Things of several owners, each of some weight, in the order in which they came."""

    def __init__(self) -> None:
        self.weight = 0
        # A plain dict steps over all that was taken from its front, each time its first is asked for.
        self._things: OrderedDict[H, tuple[str, int]] = OrderedDict()
        self._owned: dict[str, OrderedDict[H, None]] = {}
        self._weights: dict[str, int] = {}
        # The heaviest first; an entry whose weight is no longer its owner's is passed over.
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._things)

    def __contains__(self, thing: H) -> bool:
        return thing in self._things

    def put(self, thing: H, owner: str, weight: int) -> None:
        """Add a thing that is not there yet."""
        self._things[thing] = owner, weight
        self._owned.setdefault(owner, OrderedDict())[thing] = None
        self._weigh(owner, weight)

    def take(self, thing: H) -> None:
        """Remove a thing, if it is there."""
        if thing not in self._things:
            return
        owner, weight = self._things.pop(thing)
        del self._owned[owner][thing]
        if self._owned[owner]:
            self._weigh(owner, -weight)
        else:
            self.weight -= weight
            del self._owned[owner], self._weights[owner]

    def oldest(self) -> H:
        """Give what came first of all."""
        return next(iter(self._things))

    def surplus(self) -> H:
        """Give what came first of the owner who has most by weight."""
        while self._weights.get(self._heap[0][1]) != -self._heap[0][0]:
            heappop(self._heap)
        return next(iter(self._owned[self._heap[0][1]]))

    def _weigh(self, owner: str, more: int) -> None:
        self.weight += more
        self._weights[owner] = weight = self._weights.get(owner, 0) + more
        heappush(self._heap, (-weight, owner))
        if len(self._heap) > 64 + 2 * len(self._weights):
            self._heap = [(-weight, owner) for owner, weight in self._weights.items()]
            heapify(self._heap)


def count(counts: dict[H, int], name: H, step: int) -> None:
    """Count up or down, and forget whatever has come to nothing."""
    counts[name] = counts.get(name, 0) + step
    if not counts[name]:
        del counts[name]
