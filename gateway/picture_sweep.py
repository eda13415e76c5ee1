"""Sweeps a directory of pictures: what expired goes, orphans go an hour later, what is damaged is set aside."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from math import inf
from typing import NamedTuple

from gateway.folder_notes import FolderNotes
from gateway.picture_files import Listed, PictureFiles
from gateway.pictures import is_alive
from gateway.plain_files import is_older, open_folder, unlink

log = logging.getLogger(__name__)
ORPHAN_AGE = 3600
"""Seconds after which a file that no picture needs is surely not being written."""
FOLDERS = 4096
OURS = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{7,127})\.(?:[0-9a-f]{16}(?:\.tmp)?|meta)")


class Swept(NamedTuple):
    """What a sweep left in a folder: how many bytes, and when the first of them expires."""

    kept: int
    due: float


class PictureSweep:
    """Goes through the folders of *files*; one that has not changed is not read again before something is due."""

    def __init__(self, files: PictureFiles) -> None:
        self._files = files
        self._swept: FolderNotes[Swept] = FolderNotes(files.root, FOLDERS)

    def sweep(self, place: str, now: float) -> tuple[int, int]:
        """Remove what expired and orphans of a folder; return how many, and how many bytes stay."""
        stamp = self._swept.stamp(place)
        swept = self._swept.read(place, stamp)
        if swept and now < swept.due:
            return 0, swept.kept
        writing = self._files.being_written()
        listed = self._files.look(place)
        living = [found for found in listed.pictures if is_alive(found.meta, now)]
        removed = sum(
            self._files.remove(found.meta.key) is not None for found in listed.pictures if found not in living
        )
        gone, young = self._unneeded(place, listed, writing | self._files.being_written(), now - ORPHAN_AGE)
        kept = sum(found.meta.length for found in living)
        if not (removed or gone or young or listed.unread):
            due = min((found.meta.expires for found in living if found.meta.expires is not None), default=inf)
            self._swept.write(place, stamp, Swept(kept, due))
        return removed + gone, kept

    def _unneeded(self, place: str, listed: Listed, writing: set[str], old: float) -> tuple[int, int]:
        """Remove orphans and set aside what is damaged, if it is from before *old*; count these, and the others."""
        known = {found.name for found in listed.pictures} | {f"{found.meta.key}.meta" for found in listed.pictures}
        gone = young = 0
        with suppress(FileNotFoundError), open_folder(self._files.root, place) as folder:
            for name in listed.names:
                file, ours = name.removesuffix(".tmp"), OURS.fullmatch(name)
                if not ours or file in known or ours[1] in listed.unread:
                    continue
                damaged = ours[1] in listed.damaged
                if file in writing or not is_older(folder, name, old):
                    young += 1
                elif not damaged:
                    unlink(folder, name)
                    gone += 1
                elif name.endswith(".meta"):
                    log.error("%s; it is set aside", listed.damaged[ours[1]])
                    self._files.set_aside(ours[1])
                    gone += 1
        return gone, young
