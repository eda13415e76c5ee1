"""Notes on what lies in folders, good for as long as a folder does not change: so that nothing is read twice."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

SETTLED = 2 * 10**9
"""Nanoseconds after a change from which on the next one surely shows: file systems count time in ticks."""


class FolderNotes(Generic[T]):
    """A note for each folder below *root*; of all together at most *most* entries are kept, the others read anew."""

    def __init__(self, root: Path, most: int) -> None:
        self._root = root
        self._room = most
        self._notes: dict[str, tuple[int, T, int]] = {}

    def stamp(self, place: str) -> int:
        """Say when the folder was last changed; take this before looking into it. 0 if there is none."""
        try:
            return (self._root / place).stat(follow_symlinks=False).st_mtime_ns
        except FileNotFoundError:
            return 0

    def read(self, place: str, stamp: int) -> T | None:
        """Give the note on a folder that has not changed since."""
        note = self._notes.get(place)
        return note[1] if note and note[0] == stamp else None

    def write(self, place: str, stamp: int, note: T, entries: int = 1) -> None:
        """Note what was found in a folder after *stamp* was taken, unless it may be changing right now."""
        self.drop(place)
        if stamp and entries <= self._room and 0 <= stamp < time.time_ns() - SETTLED:
            self._room -= entries
            self._notes[place] = (stamp, note, entries)

    def drop(self, place: str) -> None:
        """Forget the note on a folder."""
        if old := self._notes.pop(place, None):
            self._room += old[2]
