"""Plain files below a directory: reached step by step, never through a link, written durably."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Where a system lacks one of these, what it guards against is not there either or cannot be had.
NOFOLLOW, DIRECTORY, NONBLOCK, CLOEXEC = (
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_CLOEXEC")
)
READ = os.O_RDONLY | NOFOLLOW | NONBLOCK | CLOEXEC
FOLDER = os.O_RDONLY | NOFOLLOW | DIRECTORY | CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW | CLOEXEC


@contextmanager
def open_folder(root: Path, place: str, create: bool = False) -> Iterator[int]:
    """Give a descriptor of the folder *place* below *root*; *create* makes what is missing, durably.

    It is opened step by step from the root's own descriptor, so that a planted link is refused and never followed.
    """
    folder = os.open(root, os.O_RDONLY | DIRECTORY | CLOEXEC)
    try:
        for step in place.split("/"):
            below = _step(folder, step, create)
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)


def _step(folder: int, name: str, create: bool) -> int:
    try:
        return os.open(name, FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, 0o750, dir_fd=folder)
        os.fsync(folder)
    return os.open(name, FOLDER, dir_fd=folder)


def make_folder(path: Path) -> None:
    """Make a folder for our eyes only, and what is missing above it, durably; one that is there is left as it is."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir(0o700)
    above = os.open(path.parent, os.O_RDONLY | DIRECTORY | CLOEXEC)
    try:
        os.fsync(above)
    finally:
        os.close(above)


def write_file(folder: int, name: str, data: bytes, mode: int = 0o640) -> None:
    """Write a new file; when this returns its bytes are on the disk, its name may not be."""
    descriptor = os.open(name, CREATE, mode, dir_fd=folder)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(folder: int, name: str, start: int, end: int) -> bytes:
    """Read bytes *start* to *end* (exclusive), fewer if there are fewer; refuse what is not a plain file."""
    descriptor = os.open(name, READ, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.ELOOP, "not a plain file")
        parts = []
        while start < end and (part := os.pread(descriptor, end - start, start)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


@contextmanager
def undone_on_failure(folder: int, *names: str) -> Iterator[None]:
    """Remove the named files when the block fails."""
    try:
        yield
    except BaseException:
        for name in names:
            unlink(folder, name)
        raise


def unlink(folder: int, name: str) -> None:
    """Remove a file if that can be done."""
    with suppress(OSError):
        os.unlink(name, dir_fd=folder)


def is_older(folder: int, name: str, than: float) -> bool:
    """Say whether a file was last changed before *than*; one that is gone was not."""
    with suppress(OSError):
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < than
    return False
