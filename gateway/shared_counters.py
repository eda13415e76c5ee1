"""Which counters a ``state:`` names."""

from __future__ import annotations

from pathlib import Path

from gateway.counters import Counters, MemoryCounters
from gateway.file_counters import FileCounters
from gateway.redis_counters import RedisCounters
from gateway.state import REDIS


def make_counters(place: str | None, otherwise: str = "") -> Counters:
    """Make the counters that a ``state:`` names, a ``redis://`` URL or a file; in memory for none.

    *otherwise* says what is done while they cannot be asked. Raise ValueError for what names none.
    """
    if not place:
        return MemoryCounters()
    return RedisCounters(place, otherwise) if place.startswith(REDIS) else FileCounters(Path(place), otherwise)
