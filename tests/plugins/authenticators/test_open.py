"""Letting everybody in."""

import logging

from gateway_plugins.authenticators.open import Open

from gateway import Caller, Credentials


async def test_everybody_is_anonymous():
    """No key is needed."""
    assert await Open().authenticate(Credentials(None)) == Caller("anonymous")


async def test_each_start_warns(caplog):
    """An open gateway is no accident that goes unseen."""
    with caplog.at_level(logging.WARNING):
        async with Open():
            pass

    assert "OPEN" in caplog.text
