"""A newcomer copies what the gateway prints at its start."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVE = [sys.executable, "-c", "from gateway.cli import main; main()", "serve", "--port", "0"]
GIVEN = "a-given-key-0123456789"


@pytest.fixture(params=["", GIVEN], ids=["made key", "given key"])
def banner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """What a gateway in an empty folder prints; it runs until the test ends."""
    environment = {**os.environ, "API_KEY": request.param}
    with subprocess.Popen(SERVE, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "in a browser" in line:
                break
        yield "".join(lines)
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
    assert process.returncode == 0


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_printed_command_makes_a_picture(banner: str) -> None:
    """As it stands, pasted into a shell; a key that the user gave is not printed but stands for itself."""
    assert GIVEN not in banner
    command = re.search(r"  curl .*\\\n.*", banner)
    assert command
    ran = subprocess.run(
        command[0], shell=True, env={**os.environ, "KEY": GIVEN}, capture_output=True, text=True, timeout=30
    )

    assert "/image/" in ran.stdout, ran.stdout + ran.stderr
