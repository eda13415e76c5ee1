"""What a listing must know of every picture in a directory; the rest is read of those that are shown."""

from __future__ import annotations

from math import inf
from sys import intern
from typing import NamedTuple

from gateway.folder_notes import FolderNotes
from gateway.picture_files import PictureFiles

MOST = 200_000
"""Pictures of which these few facts are kept in memory, some 300 bytes each."""


class Entry(NamedTuple):
    """A picture in a listing; the order of entries is that of time."""

    created: float
    expires: float
    owner: str
    key: str


class PictureEntries:
    """The entries of all whole pictures; folders that have not changed are not read again. Methods block."""

    def __init__(self, files: PictureFiles) -> None:
        self._files = files
        self._notes: FolderNotes[list[Entry]] = FolderNotes(files.root, MOST)

    def of(self, places: list[str]) -> list[Entry]:
        """Give the entries of some folders, in no order."""
        return [entry for place in places for entry in self._of(place)]

    def _of(self, place: str) -> list[Entry]:
        stamp = self._notes.stamp(place)
        entries = self._notes.read(place, stamp)
        if entries is None:
            listed = self._files.look(place)
            metas = (found.meta for found in listed.pictures)
            entries = [
                Entry(meta.created, inf if meta.expires is None else meta.expires, intern(meta.owner), meta.key)
                for meta in metas
            ]
            if not listed.unread:
                self._notes.write(place, stamp, entries, len(entries))
        return entries
