"""What a storage met last, for health."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway.errors import StorageDownError, StorageError, StorageFullError


@dataclass
class Troubles:
    """What failed last. A failed write counts until a write works again: a full medium still reads."""

    _words: dict[bool, str] = field(default_factory=dict)

    @contextmanager
    def noted(self, writing: bool = False) -> Iterator[None]:
        """Note how the block ends; an error that says nothing of the medium is no trouble."""
        try:
            yield
        except (StorageDownError, StorageFullError) as error:
            self.met(error, writing)
            raise
        self._words.pop(writing, None)
        if writing:
            self._words.clear()

    def met(self, error: StorageError, writing: bool = False) -> None:
        """Note a failure."""
        self._words[writing] = error.message

    def health(self) -> dict[str, str]:
        """Say ``ok``, or ``down`` and why."""
        reason = self._words.get(True) or self._words.get(False)
        return {"status": "down", "reason": reason} if reason else {"status": "ok"}
