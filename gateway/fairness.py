"""A waiting line that is fair between callers: each caller's turn comes round, however many jobs another has sent."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


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

    def enter(self, caller: str, item: T) -> bool:
        """Take a place, or wait; True if the item may work at once."""
        if self.would_wait(caller):
            self._turns.setdefault(caller, deque()).append(item)
            self.waiting += 1
            return False
        self._take(caller)
        return True

    def leave(self, caller: str) -> None:
        """Free the caller's place."""
        self.running -= 1
        self._working[caller] -= 1
        if not self._working[caller]:
            del self._working[caller]

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

    def _take(self, caller: str) -> None:
        self.running += 1
        self._working[caller] = self._working.get(caller, 0) + 1

    def _next(self) -> T | None:
        for caller in self._turns:
            if self._working.get(caller, 0) < self.per_caller:
                items = self._turns[caller]
                item = items.popleft()
                self.waiting -= 1
                self._turns.move_to_end(caller)
                if not items:
                    del self._turns[caller]
                self._take(caller)
                return item
        return None
