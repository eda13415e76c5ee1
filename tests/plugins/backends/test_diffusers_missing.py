"""Without the extra, diffusers says what to install."""

from __future__ import annotations

import importlib.util

import pytest
from gateway_plugins.backends.diffusers import Diffusers, _words


@pytest.mark.skipif(importlib.util.find_spec("diffusers") is not None, reason="it is installed here")
def test_the_missing_extra_is_named():
    """At the start, before any request."""
    with pytest.raises(ValueError, match=r"pip install 'image-gateway\[diffusers\]'"):
        Diffusers("somewhere")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("no file in directory /srv/my models/flux.", "OSError: no file in directory … models/flux."),
        (
            "'/home/ann/x.json' is missing; see https://huggingface.co/a/b",
            "'…' is missing; see https://huggingface.co/a/b",
        ),
        (r"C:\models\flux: not there", "…: not there"),
        ("stabilityai/sdxl-turbo is no folder", "stabilityai/sdxl-turbo is no folder"),
    ],
)
def test_paths_of_the_machine_are_not_told(words, told):
    """What cannot be loaded stands in health, which everybody may read."""
    assert _words(OSError(words)).endswith(told)
