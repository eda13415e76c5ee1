"""One folder of the spool: the process that writes into it holds its lock; when that one is no more, another does."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gateway.errors import NotFoundError
from gateway.picture_files import UNREADABLE, DamagedError, PictureFiles
from gateway.picture_sweep import PictureSweep
from gateway.plain_files import CLOEXEC, NOFOLLOW
from gateway.values import PictureMeta

log = logging.getLogger(__name__)

LOCK = "lock"
MODE = 0o600


class SpoolFolder:
    """Pictures under *path*, which is ours as long as *lock* is open; every method blocks and is called in a thread."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        self._files = PictureFiles(path, MODE)
        self._files.open()

    @classmethod
    def claim(cls, path: Path) -> SpoolFolder | None:
        """Take the folder; None if another process has it, or if it has just gone. The system frees the lock of a
        process that ends, however it ends."""
        try:
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | NOFOLLOW | CLOEXEC, MODE)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking another may have found it empty and removed it.
            if os.fstat(lock).st_nlink:
                return cls(path, lock)
        except BlockingIOError:
            pass
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
        return None

    @property
    def is_there(self) -> bool:
        """Say whether it can still be written to as far as its lock tells."""
        return (self.path / LOCK).exists()

    def write(self, meta: PictureMeta, data: bytes) -> None:
        """Write durably: whole or not at all."""
        self._files.write(meta, data)

    def read(self, key: str) -> bytes | None:
        """Read a picture and compare its SHA-256; one that is damaged is set aside, and None."""
        try:
            found = self._files.find(key)
            return self._files.read_verified(found) if found else None
        except DamagedError as error:
            self.set_aside(key, error.message)
        except NotFoundError:
            pass
        return None

    def remove(self, key: str) -> None:
        """Remove a picture durably."""
        self._files.remove(key)

    def set_aside(self, key: str, why: str) -> None:
        """Rename the files of a picture so that they are taken for none any more, and say where they lie."""
        self._files.set_aside(key)
        log.error("the spool's picture %s was set aside, as files that end in .bad below %s: %s", key, self.path, why)

    def metas(self) -> Iterator[PictureMeta]:
        """Yield the meta data of all pictures; those that are damaged are set aside, those that cannot be
        read are left for another start, and the rest goes on."""
        for place in self._files.folders():
            for key in self._files.keys(place):
                try:
                    found = self._files.find(key)
                except DamagedError as error:
                    self.set_aside(key, error.message)
                    continue
                except OSError as error:
                    if error.errno not in UNREADABLE:
                        raise
                    log.error("the spool's picture %s below %s cannot be read now: %s", key, self.path, error.strerror)
                    continue
                if found:
                    yield found.meta
                else:
                    self.set_aside(key, "its bytes are not there")

    def dissolve(self) -> bool:
        """Remove the folder when its pictures are gone; False if something is left in it, such as a file that a crash
        left half written less than an hour ago."""
        now, places, sweep = time.time(), self._files.folders(), PictureSweep(self._files)
        for place in places:
            sweep.sweep(place, now)
        for place in [*places, *{place.partition("/")[0] for place in places}]:
            with suppress(OSError):
                (self.path / place).rmdir()
        if [each.name for each in self.path.iterdir()] != [LOCK]:
            return False
        (self.path / LOCK).unlink()
        self.path.rmdir()
        self.release()
        return True

    def release(self) -> None:
        """Leave the folder to whoever comes next."""
        os.close(self._lock)
