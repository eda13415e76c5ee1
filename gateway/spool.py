"""Pictures that were paid for and that no storage takes, on this machine's disk until one does, whatever happens."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from gateway.errors import StorageDownError
from gateway.pictures import seal
from gateway.plain_files import make_folder
from gateway.spool_folder import SpoolFolder
from gateway.values import PictureMeta

log = logging.getLogger(__name__)
T = TypeVar("T")

NAME = re.compile(r"[0-9a-f]{16}")
PLAN = "spooled"
"""Where the details of a picture in the spool say which storage and which job it is for."""
SECONDS = 10.0
"""How long one call waits for a disk that hangs."""
AGAIN = 60.0
"""Seconds after which a trouble that lasts is logged once more."""
TRIES = 3


@dataclass(frozen=True, slots=True)
class Spooled:
    """A picture in the spool: *meta* bears the key that it is to have, *storage* is a name of the YAML, *job* an id."""

    meta: PictureMeta
    storage: str
    job: str


class Spool:
    """The pictures below *root*, of all processes at most *limit* bytes each (0: no bound). Nothing is made before the
    first one is kept. Each process writes into a folder of its own, and takes over those of processes that ended."""

    def __init__(self, root: Path, limit: int) -> None:
        self.root = root
        self.limit = limit
        self.size = 0
        self._own: SpoolFolder | None = None
        self._folders: list[SpoolFolder] = []
        # Changed in the one thread alone.
        self._held: dict[str, tuple[SpoolFolder, int]] = {}
        self._thread = ThreadPoolExecutor(1, "spool")
        self._told: dict[str, float] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._held

    @property
    def count(self) -> int:
        return len(self._held)

    async def keep(self, picture: Spooled, data: bytes) -> bool:
        """Write a picture so that it survives a power cut; False, and a line in the log, if that cannot be done."""
        meta = await seal(picture.meta, data)
        plan = {"storage": picture.storage, "job": picture.job}
        try:
            return await self._do(self._keep, replace(meta, details={**meta.details, PLAN: plan}), data)
        except (OSError, TypeError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "it does not answer"
            self._tell(f"cannot be written ({reason})")
            return False

    async def read(self, key: str) -> bytes | None:
        """Give a picture's bytes; None if it is not here, or damaged. Raise `StorageDownError` if nobody can tell."""
        try:
            return await self._do(self._read, key) if key in self._held else None
        except OSError as error:
            raise StorageDownError("the spool cannot be read now", retry_after=5) from error

    async def drop(self, key: str) -> None:
        """Remove a picture, if it is here; raise `StorageDownError` if that cannot be done."""
        try:
            if key in self._held:
                await self._do(self._drop, key)
        except OSError as error:
            raise StorageDownError("the spool cannot be changed now", retry_after=5) from error

    async def set_aside(self, key: str, why: str) -> None:
        """Take a picture that no storage will ever take out of the way, without deleting it."""
        try:
            if key in self._held:
                await self._do(self._set_aside, key, why)
        except OSError as error:
            log.warning("the spool's picture %s could not be set aside: %s", key, error)

    async def take_over(self) -> list[Spooled]:
        """Take what processes that are no more have left, and give it."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._take_over)
        except OSError as error:
            self._tell(
                f"cannot be read ({error.strerror or error})", "what an earlier process may have left stays there"
            )
            return []

    async def close(self) -> None:
        """Leave what is here to the next process."""
        try:
            await self._do(self._close)
        except OSError as error:
            log.warning("the spool %s could not be closed cleanly: %s", self.root, error)
        self._thread.shutdown(wait=False)

    async def _do(self, work: Callable[..., T], *arguments: object) -> T:
        async with asyncio.timeout(SECONDS):
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _tell(self, trouble: str, meaning: str = "pictures that no storage takes are kept in memory only") -> None:
        """Say once, and each minute that it lasts, that pictures are less safe than they should be."""
        now = time.monotonic()
        if now >= self._told.get(trouble, now):
            self._told[trouble] = now + AGAIN
            log.error("the spool %s %s: %s", self.root, trouble, meaning)

    def _keep(self, meta: PictureMeta, data: bytes) -> bool:
        if self.limit and self.size + len(data) > self.limit:
            self._tell(f"is full, it may hold {self.limit} bytes (jobs.spool_limit)")
            return False
        if self._own is None or not self._own.is_there:
            self._own = self._make()
            self._folders.append(self._own)
        self._own.write(meta, data)
        self._hold(meta, self._own)
        return True

    def _make(self) -> SpoolFolder:
        for _ in range(TRIES):
            path = self.root / secrets.token_hex(8)
            make_folder(path)
            if folder := SpoolFolder.claim(path):
                return folder
        raise OSError(errno.EAGAIN, "no folder of its own could be locked", str(self.root))

    def _hold(self, meta: PictureMeta, folder: SpoolFolder) -> None:
        self._held[meta.key] = folder, meta.length
        self.size += meta.length

    def _let_go(self, key: str) -> None:
        self.size -= self._held.pop(key)[1]

    def _read(self, key: str) -> bytes | None:
        if key not in self._held:
            return None
        data = self._held[key][0].read(key)
        if data is None:
            self._let_go(key)
        return data

    def _drop(self, key: str) -> None:
        if key in self._held:
            self._held[key][0].remove(key)
            self._let_go(key)

    def _set_aside(self, key: str, why: str) -> None:
        if key in self._held:
            self._held[key][0].set_aside(key, why)
            self._let_go(key)

    def _take_over(self) -> list[Spooled]:
        self._dissolve([folder for folder in self._folders if folder is not self._own])
        found: list[Spooled] = []
        for path in self._left():
            try:
                if folder := SpoolFolder.claim(path):
                    self._folders.append(folder)
                    found += self._found(folder)
            except OSError as error:
                log.error("the spool's folder %s cannot be read: %s", path, error)
        return found

    def _left(self) -> list[Path]:
        known = {folder.path for folder in self._folders}
        try:
            with os.scandir(self.root) as entries:
                names = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        paths = [self.root / name for name in sorted(names) if NAME.fullmatch(name)]
        return [path for path in paths if path not in known]

    def _found(self, folder: SpoolFolder) -> list[Spooled]:
        found = []
        for meta in folder.metas():
            plan = meta.details.get(PLAN)
            if not isinstance(plan, dict) or not all(isinstance(plan.get(name), str) for name in ("storage", "job")):
                folder.set_aside(meta.key, "it does not say which storage it is for")
            elif meta.key not in self._held:
                self._hold(meta, folder)
                details = {name: value for name, value in meta.details.items() if name != PLAN}
                found.append(Spooled(replace(meta, details=details), plan["storage"], plan["job"]))
        return found

    def _dissolve(self, folders: list[SpoolFolder]) -> None:
        """Remove those of *folders* that hold nothing any more."""
        full = {folder.path for folder, _ in self._held.values()}
        for folder in folders:
            if folder.path in full:
                continue
            try:
                gone = folder.dissolve()
            except OSError as error:
                log.info("the spool's folder %s stays: %s", folder.path, error)
                gone = not folder.is_there
                if gone:
                    folder.release()
            if gone:
                self._folders.remove(folder)

    def _close(self) -> None:
        self._dissolve(list(self._folders))
        for folder in self._folders:
            folder.release()
        self._folders.clear()
