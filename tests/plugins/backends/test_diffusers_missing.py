"""Without the extra, diffusers says what to install."""

from __future__ import annotations

import importlib.util

import pytest
from gateway_plugins.backends.diffusers import Diffusers


@pytest.mark.skipif(importlib.util.find_spec("diffusers") is not None, reason="it is installed here")
def test_the_missing_extra_is_named():
    """At the start, before any request."""
    with pytest.raises(ValueError, match=r"pip install 'image-gateway\[diffusers\]'"):
        Diffusers("somewhere")
