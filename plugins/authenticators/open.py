"""Lets everybody in."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from gateway import Caller, Credentials, hookimpl

log = logging.getLogger(__name__)


@dataclass
class Open:
    """Every caller is *name*; it must be asked for by name (``use: open``), and each start warns."""

    name: str = "anonymous"

    async def __aenter__(self) -> Open:
        log.warning("the gateway is OPEN: whoever reaches it can spend your money; use api_keys to change that")
        return self

    async def __aexit__(self, *error: object) -> None:
        """Nothing to close."""

    async def authenticate(self, credentials: Credentials) -> Caller | None:
        """Know everybody."""
        return Caller(self.name)


@hookimpl
def provide_authenticators() -> dict[str, type]:
    """Offer `open`."""
    return {"open": Open}
