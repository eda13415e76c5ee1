"""``image-gateway links`` prints links that the gateway of the same configuration takes."""

import time

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.copy_links import CopyLink, verify_copy
from gateway.signing import verify
from gateway.transforms import Transform

SECRET = "the-link-key-of-the-tests"
CONFIG = """
authenticators:
  keys: {use: api_keys, keys: [a-key-of-the-tests-0123456789]}
backends:
  demo: {use: demo}
storages:
  quick: {use: memory}
models:
  demo: {backends: [{backend: demo}]}
"""
KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, ["links", *arguments])


@pytest.mark.parametrize("base", ["", "https://images.example/gateway"])
def test_a_link_to_a_copy(folder, base):
    """Ready to be pasted, with the public address if there is one, and good for as long as was said."""
    server = f"server: {{public_url: {base}/}}\n" if base else ""
    (folder / "config.yaml").write_text(CONFIG + server + f"proxy: {{keys: [{SECRET}]}}\n")
    done = run("picture", f"{KEY}.png", "--width", "333", "--format", "jpg", "--for", "1h")
    path, _, query = done.output.strip().partition("?")
    link = verify_copy(query, KEY, [SECRET], time.time())

    assert path == f"{base}/image/{KEY}.png"
    assert link == CopyLink(KEY, Transform(width=333, output_format="jpeg"), link.expires)
    assert time.time() + 3590 < link.expires <= time.time() + 3600
    assert SECRET not in done.output


def test_a_link_through_the_proxy(folder):
    """The same key signs pictures of the web."""
    (folder / "config.yaml").write_text(CONFIG + f"proxy: {{keys: [{SECRET}]}}\n")
    done = run("proxy", "https://example.com/a b.png?x=1&y=2")
    path, _, query = done.output.strip().partition("?")

    assert path == "/image-proxy"
    assert verify(query, [SECRET], time.time()).url == "https://example.com/a b.png?x=1&y=2"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("picture", KEY), "say what the copy shall be"),
        (("picture", KEY, "--width", "0"), "width must be between"),
        (("picture", KEY, "--format", "svg"), "format must be one of"),
        (("picture", KEY, "--width", "5", "--for", "never"), "--for"),
        (("picture", KEY, "--width", "5", "--for", "0"), "must hold"),
        (("picture", "../etc/passwd", "--width", "5"), "not a picture's key"),
        (("proxy", "file:///etc/passwd"), "only http and https"),
        (("proxy", "https://example.com/", "--for", "0"), "must hold"),
    ],
)
def test_what_cannot_be_signed_is_told(folder, arguments, words):
    """In a line, with a failing exit code and no traceback."""
    (folder / "config.yaml").write_text(CONFIG + f"proxy: {{keys: [{SECRET}]}}\n")
    done = run(*arguments)

    assert done.exit_code == 1
    assert words in done.output
    assert "Traceback" not in done.output


def test_without_keys_it_says_what_is_missing(folder):
    """The owner learns what to write."""
    (folder / "config.yaml").write_text(CONFIG)

    assert "proxy: {keys:" in run("picture", KEY, "--width", "5").output
