"""Files of pictures under a directory: written whole or not at all, found without following any link.

A picture KEY is two files in one of 4096 folders: ``KEY.TOKEN`` holds exactly its bytes, ``KEY.meta`` names that file
and bears the meta data. Renaming the second into its place is what makes the picture exist; a crash before that leaves
an orphan that no key leads to, and `PictureSweep` removes it an hour later.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gateway.errors import NotFoundError, StorageDownError, StorageError, StorageFullError
from gateway.pictures import is_key, pack_meta, unpack_meta
from gateway.plain_files import open_folder, read_file, undone_on_failure, unlink, write_file
from gateway.values import PictureMeta

log = logging.getLogger(__name__)
META_LIMIT = 4 * 2**20
OVERWRITES = 3  # between the looks at its two files a picture may be replaced by another
TOKEN = re.compile(r"[0-9a-f]{16}")
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOT_OURS = {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO}
UNREADABLE = {errno.EIO, errno.EACCES, errno.EPERM}
"""What a single file can meet, one with a bad sector or of another owner: the others are well."""


class DamagedError(StorageError):
    """What lies under a key is not what was stored."""


@dataclass(frozen=True, slots=True)
class FoundPicture:
    """A picture found: its meta data, the name of its file in its folder, and the whole path."""

    meta: PictureMeta
    name: str
    path: Path


class Listed(NamedTuple):
    """What lies in a folder: all *names*, the whole *pictures*, what is wrong with *damaged* ones, by key, and which
    cannot even be read."""

    names: list[str]
    pictures: list[FoundPicture]
    damaged: dict[str, DamagedError]
    unread: set[str]


@contextmanager
def translated(root: Path) -> Iterator[None]:
    """Turn trouble with the disk into errors for the caller, who never sees a path."""
    try:
        yield
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "unknown")
        log.warning("picture directory %s: %s", root, error)
        if error.errno in FULL:
            raise StorageFullError(f"the disk of the picture storage is full ({name})") from error
        raise StorageDownError(f"the picture storage on disk cannot be used now ({name})", retry_after=5) from error


@dataclass
class PictureFiles:
    """The files under *root*, made with *mode*; every method blocks and is called in a thread."""

    root: Path
    mode: int = 0o640
    _identity: tuple[int, int] | None = field(default=None, init=False)
    _writing: set[str] = field(default_factory=set, init=False)
    _unreadable: set[str] = field(default_factory=set, init=False)

    def open(self) -> None:
        """Make the directory if it is not there, and remember which one it is."""
        self.root.mkdir(parents=True, exist_ok=True)
        status = self.root.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(self.root))
        self._identity = (status.st_dev, status.st_ino)

    def write(self, meta: PictureMeta, data: bytes) -> int:
        """Store durably; return how many bytes of a picture it replaced were freed."""
        self._check_root()
        token = secrets.token_hex(8)
        name, record = f"{meta.key}.{token}", f"{meta.key}.meta"
        self._writing.add(name)
        try:
            with self._folder(meta.key, create=True) as folder:
                old = self._replaced(folder, meta.key)
                with undone_on_failure(folder, name, f"{name}.tmp"):
                    write_file(folder, name, data, self.mode)
                    write_file(folder, f"{name}.tmp", token.encode() + b"\n" + pack_meta(meta), self.mode)
                    os.rename(f"{name}.tmp", record, src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
                if old:
                    unlink(folder, old.name)
        finally:
            self._writing.discard(name)
        return old.meta.length if old else 0

    def find(self, key: str) -> FoundPicture | None:
        """Find a picture; None if there is none; raise `DamagedError` if it is not whole."""
        try:
            with self._folder(key) as folder:
                return self._look(folder, key)
        except FileNotFoundError:
            self._check_root()
            return None
        except OSError as error:
            if error.errno not in NOT_OURS:
                raise
            log.error("picture directory %s: what lies at a picture's place is not a plain file", self.root)
            return None

    def read(self, found: FoundPicture, start: int, end: int) -> bytes:
        """Read a part of a picture; raise NotFoundError if it has gone meanwhile."""
        try:
            with self._folder(found.meta.key) as folder:
                part = read_file(folder, found.name, start, end)
        except FileNotFoundError as error:
            raise NotFoundError("this picture has just gone") from error
        if len(part) != end - start:
            raise DamagedError(f"picture {found.meta.key} is shorter on disk than it was")
        return part

    def read_verified(self, found: FoundPicture) -> bytes:
        """Read all of a picture and compare its SHA-256."""
        data = self.read(found, 0, found.meta.length)
        if hashlib.sha256(data).hexdigest() != found.meta.sha256:
            raise DamagedError(f"picture {found.meta.key} is damaged on disk: its SHA-256 differs")
        return data

    def remove(self, key: str) -> PictureMeta | None:
        """Remove a picture durably; return what it was, or None if there was none or its meta data are damaged."""
        self._check_root()
        try:
            with self._folder(key) as folder:
                old = self._replaced(folder, key)
                os.unlink(f"{key}.meta", dir_fd=folder)
                if old:
                    unlink(folder, old.name)
                os.fsync(folder)
        except FileNotFoundError:
            return None
        return old.meta if old else None

    def set_aside(self, key: str) -> None:
        """Rename what is damaged so that no key leads to it and an operator can look at it."""
        with suppress(OSError), self._folder(key) as folder:
            os.rename(f"{key}.meta", f"{key}.meta.bad", src_dir_fd=folder, dst_dir_fd=folder)
            for name in os.listdir(folder):  # noqa: PTH208  - a descriptor, not a path
                # Which of them it was the meta data may not say any more.
                if name not in self._writing and name.startswith(f"{key}.") and TOKEN.fullmatch(name[len(key) + 1 :]):
                    os.rename(name, f"{name}.bad", src_dir_fd=folder, dst_dir_fd=folder)

    def folders(self) -> list[str]:
        """Name the folders that hold pictures."""
        self._check_root()
        return [f"{upper}/{lower}" for upper in self._names(".", 2) for lower in self._names(upper, 1)]

    def keys(self, place: str) -> list[str]:
        """Name the pictures in a folder, whole or not."""
        return _keys(self._listed(place))

    def look(self, place: str) -> Listed:
        """Look at all that lies in a folder."""
        listed = Listed(self._listed(place), [], {}, set())
        for key in _keys(listed.names):
            try:
                if found := self.find(key):
                    listed.pictures.append(found)
            except DamagedError as error:
                listed.damaged[key] = error
            except OSError as error:
                self._pass_over(key, error)
                listed.unread.add(key)
        return listed

    def meta(self, key: str) -> PictureMeta | None:
        """Read a picture's meta data; None if it is not there, not whole or not to be read."""
        try:
            found = self.find(key)
        except DamagedError:
            return None
        except OSError as error:
            self._pass_over(key, error)
            return None
        return found.meta if found else None

    def being_written(self) -> set[str]:
        """Name the files that are being written by this process."""
        return set(self._writing)

    def _check_root(self) -> None:
        status = self.root.stat()
        if self._identity != (status.st_dev, status.st_ino):
            raise OSError(errno.ESTALE, "another directory lies in its place since the start", str(self.root))

    def _names(self, place: str, length: int) -> list[str]:
        with os.scandir(self.root / place) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        return sorted(name for name in names if re.fullmatch(f"[0-9a-f]{{{length}}}", name))

    def _listed(self, place: str) -> list[str]:
        try:
            with open_folder(self.root, place) as folder:
                return os.listdir(folder)  # noqa: PTH208  - a descriptor, not a path
        except FileNotFoundError:
            return []

    def _pass_over(self, key: str, error: OSError) -> None:
        """Say once that a picture cannot be read; raise *error* again if it is not the trouble of one file."""
        if error.errno not in UNREADABLE:
            raise error
        if key not in self._unreadable:
            self._unreadable.add(key)
            log.error("picture directory %s: picture %s cannot be read: %s", self.root, key, error.strerror)

    def _look(self, folder: int, key: str) -> FoundPicture | None:
        for _ in range(OVERWRITES):
            found = self._record(folder, key)
            with suppress(FileNotFoundError):
                status = os.stat(found.name, dir_fd=folder, follow_symlinks=False)
                break
        else:
            raise FileNotFoundError(errno.ENOENT, "meta data without a picture", key)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.ELOOP, "not a plain file")
        if status.st_size != found.meta.length:
            raise DamagedError(f"picture {key} is damaged on disk: {status.st_size} of {found.meta.length} bytes")
        return found

    def _record(self, folder: int, key: str) -> FoundPicture:
        token, _, packed = read_file(folder, f"{key}.meta", 0, META_LIMIT).partition(b"\n")
        try:
            meta, name = unpack_meta(packed), f"{key}.{token.decode()}"
        except ValueError as error:
            raise DamagedError(f"the meta data of picture {key} is damaged on disk") from error
        if meta.key != key or not TOKEN.fullmatch(token.decode()):
            raise DamagedError(f"the meta data of picture {key} is damaged on disk")
        return FoundPicture(meta, name, self.root / _place(key) / name)

    def _replaced(self, folder: int, key: str) -> FoundPicture | None:
        try:
            return self._record(folder, key)
        except (DamagedError, FileNotFoundError):
            return None

    @contextmanager
    def _folder(self, key: str, create: bool = False) -> Iterator[int]:
        with open_folder(self.root, _place(key), create) as folder:
            yield folder


def _keys(names: list[str]) -> list[str]:
    return [name[:-5] for name in names if name.endswith(".meta") and is_key(name[:-5])]


def _place(key: str) -> str:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"{digest[:2]}/{digest[2]}"
