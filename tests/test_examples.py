"""The worked plugin of the README runs as it stands there."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.gateways import AUTHENTICATORS, STORAGES, start

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "blank.py"
CONFIG = f"""\
plugins: ["{EXAMPLE}"]
{AUTHENTICATORS}{STORAGES}
backends: {{paper: {{use: blank, colour: tomato}}}}
models: {{paper: {{backends: [{{backend: paper}}]}}}}
"""


async def test_the_example_plugin_draws(aiohttp_server, tmp_path):
    """One file, named under plugins: what its capabilities say is what it is asked for."""
    gateway = await start(aiohttp_server, CONFIG, tmp_path)
    answer = await gateway.draw(size="1024x576", n=2)
    shown = (await gateway.get("/v1/models")).json["data"]

    assert answer.status == 200, answer.text
    assert len(answer.json["data"]) == 2
    with Image.open(io.BytesIO(base64.b64decode(answer.json["data"][0]["b64_json"]))) as picture:
        assert (picture.size, picture.getpixel((0, 0))) == ((1024, 576), (255, 99, 71))
    assert shown[0]["capabilities"][0]["sizes"] == ["512x512", "1024x576"]


async def test_its_progress_is_told_in_streams(aiohttp_server, tmp_path):
    """What a backend reports reaches the client."""
    gateway = await start(aiohttp_server, CONFIG, tmp_path)
    answer = await gateway.chat("a wall", stream=True)

    assert "50 %" in answer.content()
    assert "/image/" in answer.content()


@pytest.mark.parametrize(
    ("options", "said"),
    [("colour: tomatoe", "backends.paper"), ("color: red", 'unknown key; known: colour; did you mean "colour"?')],
)
def test_its_options_are_checked_at_the_start(tmp_path, options, said):
    """A wrong value and a misspelt name are told with their place, by the installed command."""
    (tmp_path / "config.yaml").write_text(CONFIG.replace("colour: tomato", options))
    command = [sys.executable, "-c", "from gateway.cli import main; main()", "check", str(tmp_path / "config.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)

    assert ended.returncode == 78
    assert said in ended.stderr


def test_the_readme_shows_the_example():
    """Word for word, so that what is copied works."""
    assert EXAMPLE.read_text() in (ROOT / "README.md").read_text()
