"""Who a caller is: asks the authenticators, and believes none that breaks its contract."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from gateway.contracts import Authenticator
from gateway.deadline import is_stopped, within
from gateway.errors import AuthenticationError, PermissionError_, PluginError, UnavailableError
from gateway.values import Caller, Credentials

log = logging.getLogger(__name__)

AUTHENTICATION_TIMEOUT = 10.0
"""Seconds that an authenticator may take."""


async def authenticate(authenticators: Mapping[str, Authenticator], credentials: Credentials) -> Caller:
    """Ask the authenticators in order; raise `AuthenticationError` when none knows the caller."""
    for name, authenticator in authenticators.items():
        if (caller := await _asked(name, authenticator, credentials)) is not None:
            return caller
    raise AuthenticationError(
        "no valid API key; send it as 'Authorization: Bearer KEY'"
        if credentials.token is None
        # OpenAI's own words: by them litellm tells this error from other invalid requests.
        else "Incorrect API key provided: it is not valid here"
    )


async def _asked(name: str, authenticator: Authenticator, credentials: Credentials) -> Caller | None:
    try:
        caller = await within(AUTHENTICATION_TIMEOUT, authenticator.authenticate(credentials))
    except TimeoutError:
        log.error("authenticator %s did not answer in %g s", name, AUTHENTICATION_TIMEOUT)
        raise UnavailableError("the caller's key could not be checked in time; try again") from None
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        own_fault = not (isinstance(error, asyncio.CancelledError) and is_stopped())
        if isinstance(error, AuthenticationError | PermissionError_) or not own_fault:
            raise
        log.exception("authenticator %s failed", name)
        raise UnavailableError("the caller's key could not be checked; try again") from error
    return _sound(name, caller)


def _sound(authenticator: str, caller: object) -> Caller | None:
    """Refuse what is no caller, and one whose models are a text: a star among its letters would open all."""
    if caller is None:
        return None
    if not isinstance(caller, Caller):
        log.error("authenticator %s returned %s instead of a Caller or None", authenticator, type(caller).__name__)
        raise PluginError(f"authenticator {authenticator!r} must return a Caller or None")
    if caller.models is not None and not isinstance(caller.models, tuple):
        message = f"authenticator {authenticator!r}: Caller.models must be a tuple or None"
        log.error("%s, not %s", message, type(caller.models).__name__)
        raise PluginError(message)
    if not isinstance(caller.name, str) or not caller.name:
        raise PluginError(f"authenticator {authenticator!r}: Caller.name must be a text that is not empty")
    return caller
