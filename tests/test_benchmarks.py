"""The benchmarks use the gateway's own parts, so they must not be left behind when those move."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parent.parent / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_it_finds_all_that_it_imports(path):
    """Every benchmark can be loaded as it would be for a run, from its own folder."""
    load = f"import runpy; runpy.run_path({str(path)!r}, run_name='loaded')"
    done = subprocess.run([sys.executable, "-c", load], cwd=path.parent, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
