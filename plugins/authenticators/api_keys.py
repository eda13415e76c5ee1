"""Knows callers by their API keys."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from gateway import (
    AuthenticationError,
    Caller,
    Credentials,
    Moment,
    PermissionError_,
    Secret,
    Words,
    hookimpl,
    split_keys,
)

log = logging.getLogger(__name__)

GENERATE = "generate"
HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")
PREFIX = "ig-"


@dataclass(frozen=True)
class Key:
    """One key: plain in *key*, or only its hash in *sha256*. Two keys may share a *name* while one replaces the other.

    *models* are shell patterns of what it may use, all if left out. *expires* is a date or a time, UTC if not said.
    """

    name: str = ""
    key: Secret | None = None
    sha256: str | None = field(default=None, repr=False)
    models: Words | None = None
    expires: Moment | None = None
    disabled: bool = False

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if (self.key is None) == (self.sha256 is None):
            raise ValueError("a key needs either key or sha256")
        if self.key is not None and not self.key.strip():
            raise ValueError("a key is empty; an unset or empty variable is not a key")
        if self.key is not None and HASHED.fullmatch(self.key.strip()):
            raise ValueError("this is the hash of a key: write it under sha256:, or it would be a key itself")
        if self.sha256 is not None and not HASHED.fullmatch(f"sha256:{self.sha256.removeprefix('sha256:')}"):
            raise ValueError("sha256 must be 64 hexadecimal digits")


def _entries(value: Any) -> Any:
    """Make a mapping of each text; commas split it, so that one environment variable may hold several keys."""
    if isinstance(value, (str, Mapping, Key)):
        value = [value]
    if not isinstance(value, Iterable):
        return value
    parts = split_keys(value)
    if any(type(part) in (int, float) for part in parts):
        raise ValueError("a key that looks like a number must stand in quotes")
    return [_mapping(part) if isinstance(part, str) else part for part in parts]


def _mapping(text: str) -> dict[str, Secret]:
    if not text.startswith("sha256:"):
        return {"key": Secret(text)}
    if not HASHED.fullmatch(text):
        raise ValueError("sha256: must be followed by 64 hexadecimal digits")
    return {"sha256": Secret(text)}


Entries = tuple[Key | str, ...] | Key | str
"""What may stand in the YAML; all of it is read as a tuple of keys."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as it is compared: by the digest, never by its text."""

    digest: bytes
    caller: Caller
    expires: float | None = None
    disabled: bool = False


@dataclass
class ApiKeys:
    """Callers by API key, sent as bearer token or ``x-api-key``.

    *keys* are plain keys, hashes (``sha256:<64 hex digits>``) or mappings with name, key or sha256, models, expires,
    disabled. A text may hold several keys, separated by commas; a mapping's *key* is taken whole. The key ``generate``
    stands for a random one that is made at the first start and kept in *file*.
    """

    keys: Annotated[tuple[Key, ...], BeforeValidator(_entries, json_schema_input_type=Entries)] = field(repr=False)
    file: Path = Path(".image-gateway/key")
    generated: Secret | None = field(init=False, default=None, repr=False)
    kept: bool = field(init=False, default=True, repr=False)
    clock: Callable[[], float] = field(init=False, default=time.time, repr=False)
    _entries: tuple[Entry, ...] = field(init=False, default=(), repr=False)
    _asked: Key | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        given = [key if isinstance(key, Key) else Key(**key) for key in _entries(self.keys)]
        if not given:
            raise ValueError("there is no key; nobody could use the gateway (the key 'generate' makes a random one)")
        asked = [key for key in given if key.key == GENERATE]
        if len(asked) > 1:
            raise ValueError("'generate' stands twice among the keys")
        self._asked = asked[0] if asked else None
        self._entries = tuple(_entry(key) for key in given if key.key != GENERATE)
        if len({entry.digest for entry in self._entries}) < len(self._entries):
            raise ValueError("the same key stands twice among the keys")

    async def __aenter__(self) -> ApiKeys:
        if self._asked is not None and self.generated is None:
            self.generated, self.kept = await asyncio.to_thread(_kept_or_new, self.file)
            self._entries += (_entry(replace(self._asked, key=self.generated)),)
        return self

    async def __aexit__(self, *error: object) -> None:
        """Nothing to close."""

    async def authenticate(self, credentials: Credentials) -> Caller | None:
        """Find the caller; a known key that may not be used is refused with the reason."""
        if not credentials.token:
            return None
        digest = _digest(credentials.token)
        # All are compared, so that the time does not tell which one was found.
        found = [entry for entry in self._entries if hmac.compare_digest(entry.digest, digest)]
        if not found:
            return None
        entry = found[0]
        if entry.disabled:
            raise PermissionError_("this API key is disabled", code="key_disabled")
        if entry.expires is not None and self.clock() >= entry.expires:
            raise AuthenticationError("this API key has expired", code="key_expired")
        return entry.caller


def _entry(key: Key) -> Entry:
    # No header can bring white space around a key.
    digest = (
        _digest(key.key.strip()) if key.key is not None else bytes.fromhex((key.sha256 or "").removeprefix("sha256:"))
    )
    # A key without a name is called after its hash: the same over restarts, wherever it stands in the list.
    caller = Caller(key.name or f"key-{digest.hex()[:8]}", key.models)
    expires = key.expires
    if expires is not None and expires.tzinfo is None:
        expires = expires.replace(tzinfo=UTC)
    return Entry(digest, caller, expires.timestamp() if expires else None, key.disabled)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _kept_or_new(file: Path) -> tuple[Secret, bool]:
    """Read the key that an earlier start kept, or make and keep one; say whether it is kept, for which there must be a
    place that can be written."""
    try:
        # A link may lead to a volume that outlives this machine.
        file = file.resolve()
        kept = file.read_text("utf-8").strip() if file.exists() else ""
        if kept:
            return Secret(kept), True
        key = Secret(PREFIX + secrets.token_urlsafe(32))
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(f"{key}\n")
        try:
            # Of two that start at once one is the first, and both have its key.
            _link(new, file)
        except FileExistsError:
            if kept := file.read_text("utf-8").strip():
                key = Secret(kept)
            else:
                # Nobody else is about to write it, and it may be mounted at this very place.
                file.write_text(f"{key}\n")
                file.chmod(0o600)
        finally:
            new.unlink(missing_ok=True)
    except (OSError, UnicodeDecodeError) as error:
        key = Secret(PREFIX + secrets.token_urlsafe(32))
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        log.warning("%s cannot be used (%s); the generated API key lasts until the next start", file, reason)
        return key, False
    return key, True


def _link(new: Path, file: Path) -> None:
    """Let *file* be *new*; raise `FileExistsError` if it is there, as far as the file system can tell."""
    try:
        os.link(new, file)
    except FileExistsError:
        raise
    except OSError:
        new.replace(file)


@hookimpl
def provide_authenticators() -> dict[str, type]:
    """Offer `api_keys`."""
    return {"api_keys": ApiKeys}
