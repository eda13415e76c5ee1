"""What every authenticator promises."""

import pytest
from gateway_plugins.authenticators.api_keys import ApiKeys
from gateway_plugins.authenticators.open import Open
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import Authenticator, Caller, Credentials, Secret

TOKENS = [None, "", " ", "\t", "\x00", "x" * 8192, "ключ", "\udcff", "k" * 7 + "\n", "sha256:" + "0" * 64, "generate"]


@pytest.fixture(params=["api_keys", "open"])
def authenticator(request):
    return {"api_keys": lambda: ApiKeys(keys=("right-key",)), "open": Open}[request.param]()


def test_it_fulfils_the_contract(authenticator):
    """The methods are there."""
    assert isinstance(authenticator, Authenticator)


@pytest.mark.parametrize("token", TOKENS)
async def test_strange_tokens_never_crash(authenticator, token):
    """Whatever is sent as a token is answered with a caller or None."""
    found = await authenticator.authenticate(Credentials(None if token is None else Secret(token)))

    assert found is None or isinstance(found, Caller)


@given(token=st.text(st.characters()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_text_as_token_never_crashes(authenticator, token):
    """Even halves of surrogate pairs are only unknown keys."""
    found = await authenticator.authenticate(Credentials(Secret(token)))

    assert found is None or isinstance(found, Caller)


async def test_known_caller_is_the_same_each_time(authenticator):
    """A caller's name is stable, for limits and ownership hang on it."""
    first = await authenticator.authenticate(Credentials(Secret("right-key")))

    assert first == await authenticator.authenticate(Credentials(Secret("right-key")))
    assert first.name
    assert first.may_use("flux")


def test_repr_shows_no_key(authenticator):
    """A component may be logged."""
    assert "right-key" not in repr(authenticator)
