"""What an object store's failures mean, in our own words: of the store's there is its code at most."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from gateway.errors import StorageDownError, StorageError, StorageFullError

log = logging.getLogger(__name__)
CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
STATUS = re.compile(r"non-2xx status code: ([0-9]{3})")
TIMES = re.compile(r"<(RequestTime|ServerTime)>([0-9TZ:.+-]{15,35})</")
FULL = {"QuotaExceeded", "InsufficientStorage", "StorageFull", "XMinioStorageFull"}
REFUSED = {
    "AccessDenied": "AccessDenied: these may not do this",
    "InvalidAccessKeyId": "InvalidAccessKeyId: it does not know the access key",
    "SignatureDoesNotMatch": "SignatureDoesNotMatch: the secret key is not that of the access key",
    "ExpiredToken": "ExpiredToken: they have expired",
}
SKEWED = "RequestTimeTooSkewed"
AGAIN = 60.0
"""Seconds after which a trouble that lasts is logged once more."""


class EmptyObjectError(StorageError):
    """A range was asked of an object that has no bytes at all."""


class UnnamedRefusalError(StorageDownError):
    """The store refuses and does not say why, as it cannot in an answer to HEAD."""


def meaning(error: Exception) -> StorageError:
    """Give the error for the caller that an error of the library stands for."""
    code, status, kind = code_of(error), _status(error), type(error).__name__
    if code == "InvalidRange":
        return EmptyObjectError("the object is shorter than the part that was asked for")
    if code == "NoSuchBucket":
        return StorageDownError("the object store has no such bucket (NoSuchBucket)")
    if code in FULL:
        return StorageFullError(f"the object store is full ({code})")
    if code == SKEWED:
        return StorageDownError(f"the object store refuses requests because {_skew(str(error))} ({code})")
    if status.startswith("3") or (not status and "redirect" in str(error)):
        return StorageDownError(
            f"the object store sends the gateway to another address ({code or status or 'redirect'}); "
            "compare endpoint and region with those of the bucket"
        )
    if kind in {"PermissionDeniedError", "UnauthenticatedError"} or code in REFUSED:
        named = StorageDownError if code else UnnamedRefusalError
        reason = REFUSED.get(code) or code or status or "403"
        return named(f"the object store refuses the gateway's credentials ({reason})")
    reason = code or status or ("no answer" if kind == "GenericError" else kind)
    return StorageDownError(f"the object store cannot be used now ({reason})", retry_after=5)


def code_of(error: Exception) -> str:
    """Give the store's own code for an error, or nothing."""
    found = CODE.search(str(error))
    return found[1] if found else ""


def _status(error: Exception) -> str:
    found = STATUS.search(str(error))
    return found[1] if found else ""


def _skew(text: str) -> str:
    try:
        times = {name: datetime.fromisoformat(given) for name, given in TIMES.findall(text)}
        seconds = round((times["RequestTime"] - times["ServerTime"]).total_seconds())
    except (KeyError, ValueError, TypeError):
        return "this machine's clock and the store's differ"
    return f"this machine's clock is {abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} the store's"


@dataclass
class Trouble:
    """What is wrong with the store *name* now: logged when it begins, each minute that it lasts, and at its end."""

    name: str
    clock: Callable[[], float] = time.monotonic
    words: str | None = None
    _logged: str | None = field(default=None, init=False)
    _when: float = field(default=0, init=False)
    _full: bool = field(default=False, init=False)

    def met(self, error: StorageError) -> None:
        """Note a failure."""
        self.words, now, self._full = error.message, self.clock(), isinstance(error, StorageFullError)
        if self.words != self._logged or now - self._when >= AGAIN:
            self._logged, self._when = self.words, now
            level = logging.WARNING if error.retry_after else logging.ERROR  # an error does not go away by itself
            log.log(level, "object store %s: %s", self.name, self.words)

    def over(self, writing: bool = False) -> None:
        """Note that it works; only *writing* shows that it is full no more."""
        if self.words is not None and (writing or not self._full):
            log.info("object store %s answers again", self.name)
            self.words = None
