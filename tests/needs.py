"""What some tests need of the machine: without it they are skipped in words, but never where everything must run."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(what: str) -> NoReturn:
    """Skip the test, since *what* is not there; with ``TEST_ALL`` set, as in CI, fail instead."""
    if os.environ.get("TEST_ALL"):
        pytest.fail(f"this test must run here, since TEST_ALL is set, and needs {what}")
    pytest.skip(f"needs {what}")
