"""How much memory this process may take and takes, so that work is refused before the system ends the process."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

FULL = 0.85
"""The part of a limit above which no new picture is begun; the rest is for those that are."""
SAMPLE_EVERY = 0.25
FREE_EVERY = 5.0
"""Seconds between two tries to give free blocks back to the system; each costs milliseconds."""

STACK = 2**20
"""Bytes of a thread's stack where addresses are limited; the usual 8 MiB would take them for nothing."""
M_ARENA_MAX = -8

TOTAL, RESIDENT, DATA = 0, 1, 5
"""The fields of ``/proc/self/statm`` that the kinds of limits are about."""
STATM = Path("/proc/self/statm")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Limit:
    """*most* bytes of one *field* of statm; *name* says who set it."""

    name: str
    most: int
    field: int = RESIDENT


class Memory:
    """Looks at most every quarter of a second, and not at all where there is no limit."""

    def __init__(
        self,
        limits: Sequence[Limit] = (),
        used: Callable[[], Sequence[int]] | None = None,
        free: Callable[[], int] | None = None,
    ) -> None:
        self._used = used or statm
        self._free = free or free_blocks
        self._limits = tuple(limits) if limits and (used or STATM.exists()) else ()
        self._look_at = self._free_at = float("-inf")
        self._full = False
        self._freeing: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        """Say whether there is too little left for more work."""
        if self._limits and (now := time.monotonic()) >= self._look_at:
            self._look(now)
        return self._full

    def health(self) -> dict[str, Any]:
        """Tell the bytes in use and the limit that is nearest; None where there is none."""
        if not self._limits:
            return {"used": None, "limit": None, "full": False}
        full = self.full
        limit, used = self._nearest()
        return {"used": used, "limit": limit.most, "full": full}

    def spare_addresses(self) -> None:
        """Where addresses are limited, let threads reserve few of them; call before there are any threads."""
        if any(limit.field != RESIDENT for limit in self._limits):
            threading.stack_size(STACK)
            try:
                ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
            except (OSError, AttributeError):
                log.debug("this C library has no mallopt")

    def tidy(self) -> None:
        """Give back to the system, in a thread, what a busy moment took; it holds up others for milliseconds."""
        if self._freeing is None or self._freeing.done():
            self._freeing = _in_thread(give_back)

    def warning(self) -> str | None:
        """Say so if the limit leaves no room for any work, now at the start."""
        if not self.full:
            return None
        used, most = (self.health()[name] // 2**20 for name in ("used", "limit"))
        return f"no picture can be made: of {most} MiB of memory {used} MiB are in use already"

    def _look(self, now: float) -> None:
        self._look_at = now + SAMPLE_EVERY
        limit, used = self._nearest()
        over = used > FULL * limit.most
        if over and not self._full:
            log.warning("memory is short: %d of %d bytes (%s) are in use", used, limit.most, limit.name)
        elif self._full and not over:
            log.warning("memory suffices again")
        self._full = over
        if over and now >= self._free_at:
            self._free_at = now + FREE_EVERY
            self.tidy()

    def _nearest(self) -> tuple[Limit, int]:
        """Give the limit that is nearest, and what counts against it."""
        fields = self._used()
        amounts = {limit: fields[limit.field] for limit in self._limits}
        virtual = [limit for limit in self._limits if limit.field != RESIDENT]
        if any(amounts[limit] > FULL * limit.most for limit in virtual):
            # Addresses are not given back: what the C library has free in its blocks can be used all the same.
            free = self._free()
            amounts |= {limit: max(0, amounts[limit] - free) for limit in virtual}
        limit = max(amounts, key=lambda limit: amounts[limit] / limit.most)
        return limit, amounts[limit]


def make_memory(option: int | str) -> Memory:
    """Make it as ``jobs.memory`` says: ``auto`` takes what the system has set, if anything."""
    if option == "off":
        return Memory()
    if isinstance(option, int):
        return Memory([Limit("jobs.memory", option)])
    return Memory(list(limits_of_system()))


def limits_of_system(root: Path = Path("/")) -> Iterator[Limit]:
    """Find the limits that this process runs under: of its control groups, and its own."""
    machine = PAGE * os.sysconf("SC_PHYS_PAGES")
    # A group without a limit has an absurdly high one in version 1.
    groups = [most for most in _limits_of_groups(root) if most < machine]
    if groups:
        yield Limit("the control group's limit", min(groups))
    for name, field in (("AS", TOTAL), ("DATA", DATA)):
        most = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0]
        if most != resource.RLIM_INFINITY:
            yield Limit(f"RLIMIT_{name}", most, field)


def _limits_of_groups(root: Path) -> Iterator[int]:
    """Read the limits of the process's groups and of all above them, of both versions."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        top, name = ("memory", "memory.limit_in_bytes") if kinds else ("", "memory.max")
        mounted = root / "sys/fs/cgroup" / top
        folder = mounted / path.strip("/")
        # In a container the path may be that of the host, and the mount shows the own group alone.
        for each in {mounted, folder, *(up for up in folder.parents if up.is_relative_to(mounted))}:
            try:
                text = (each / name).read_text().strip()
            except OSError:
                continue
            if text.isdigit() and int(text):
                yield int(text)


def statm() -> list[int]:
    """Give the fields of statm in bytes."""
    with STATM.open() as file:
        return [int(pages) * PAGE for pages in file.read().split()]


class _Blocks(ctypes.Structure):
    """The C library's account of its blocks."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def free_blocks() -> int:
    """Count the bytes that the C library holds for reuse, in up to 15 ms; 0 where it does not tell."""
    try:
        tell = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return 0
    tell.restype = _Blocks
    return int(tell().fordblks)


def give_back() -> None:
    """Give free blocks back to the system: between blocks in use the C library keeps them, and they count."""
    gc.collect(1)
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        log.debug("this C library has no malloc_trim")


def _in_thread(work: Callable[[], None]) -> asyncio.Future[None] | None:
    try:
        return asyncio.get_running_loop().run_in_executor(None, work)
    except RuntimeError:  # no loop yet, at the start
        return None
