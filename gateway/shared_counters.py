"""Which counters a ``state:`` names."""

from __future__ import annotations

from pathlib import Path

from gateway.counters import Counters, MemoryCounters
from gateway.file_counters import FileCounters
from gateway.options import REDIS
from gateway.redis_counters import RedisCounters


def make_counters(place: Path | str | None, otherwise: str = "") -> Counters:
    """Make the counters that a ``state:`` names, a ``redis://`` URL or a file; in memory for none.

    *otherwise* says what is done while they cannot be asked. Raise ValueError for what names none.
    """
    if not place:
        return MemoryCounters()
    where = str(place)
    return RedisCounters(where, otherwise) if where.startswith(REDIS) else FileCounters(Path(where), otherwise)
