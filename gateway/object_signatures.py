"""Signs what the gateway writes into an object store, so that nothing which others put there is taken for its own."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.signing import refuse_weak, signature

ATTRIBUTE = "gatewaysignature"
PURPOSE = "object"


@dataclass(frozen=True, slots=True)
class ObjectSignatures:
    """The first of *keys* signs, all verify; without keys everything is believed.

    An object without a signature is believed if the store itself says that it was last written before *since* (UTC if
    not said). Raise ValueError for keys that could be guessed, and for a *since* without keys.
    """

    keys: Sequence[str] = ()
    since: datetime | None = None

    def __post_init__(self) -> None:
        if self.keys:
            refuse_weak(self.keys)
        elif self.since:
            raise ValueError("signed_since is of no use without signing_keys")

    def attributes(self, name: str, content: bytes) -> dict[str, str]:
        """Give what the object *name* shall bear as a sign that the gateway wrote *content* there, nowhere else."""
        return {ATTRIBUTE: _sign(name, content, self.keys[0])} if self.keys else {}

    def is_signed(self, name: str, content: bytes, attributes: Mapping[str, str], written: datetime) -> bool:
        """Say whether the object *name*, last *written* then, bears the signature that *content* has there."""
        if not self.keys:
            return True
        given = attributes.get(ATTRIBUTE)
        if given is None:
            return self.since is not None and written < _in_utc(self.since)
        # Every key is tried although one has fitted, so that the time taken tells nothing about which.
        fits = [hmac.compare_digest(_sign(name, content, key).encode(), given.encode()) for key in self.keys]
        return any(fits)


def _sign(name: str, content: bytes, key: str) -> str:
    return signature(PURPOSE, f"{name}\n{hashlib.sha256(content).hexdigest()}", key)


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
