"""``image-gateway pictures`` looks after what the storages hold."""

import asyncio
import json

import pytest
from click.testing import CliRunner
from gateway_plugins.storages.disk import Disk

from gateway.cli import main
from tests.plugins.storages.pictures import PNG, picture

CONFIG = """
authenticators:
  keys: {use: api_keys, keys: [a-key-of-the-tests-0123456789]}
backends:
  demo: {use: demo}
storages:
  quick: {use: memory}
  shelf: {use: disk, root: ./shelf, ttl: 7d}
  archive: {use: disk, root: ./archive}
models:
  demo:
    backends: [{backend: demo}]
    storage: shelf
"""
EVIL = "a cat \x1b[2J\nsecond line"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a configuration and two pictures on the shelf."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)

    async def fill():
        async with Disk(tmp_path / "shelf", ttl=7 * 86400) as shelf:
            for number, owner in enumerate(("ann", "bob")):
                meta = picture(f"picture-{number}", owner=owner, created=1000.0 + number, details={"prompt": EVIL})
                await shelf.put(meta, PNG)

    asyncio.run(fill())
    return tmp_path


def run(*arguments):
    """Run the program."""
    return CliRunner().invoke(main, ["pictures", *arguments])


def test_lists(folder):
    """Newest first, one line each whatever a prompt holds; of one owner; as JSON."""
    lines = run("list").output.splitlines()

    assert [line.split()[0] for line in lines] == ["picture-1", "picture-0"]
    assert "\x1b" not in "".join(lines)
    assert run("list", "--owner", "ann").output.startswith("picture-0")
    assert json.loads(run("list", "--owner", "ann", "--json").output)["details"]["prompt"] == EVIL


def test_gets(folder):
    """Meta data are shown, bytes written out, by a key as links have it too; an unknown one is an error in words."""
    assert json.loads(run("get", "picture-0").output)["owner"] == "ann"
    assert run("get", "picture-0", "-o", "out.png").exit_code == 0
    assert (folder / "out.png").read_bytes() == PNG
    assert run("get", "picture-0.png", "-o", "-").output_bytes == PNG
    missing = run("get", "../../etc/passwd")
    assert (missing.exit_code, "no such picture" in missing.output) == (1, True)


@pytest.mark.parametrize("output", ["nowhere/x.png", "."])
def test_what_cannot_be_written_is_told(folder, output):
    """In one line, and not by a traceback."""
    failed = run("get", "picture-0", "-o", output)

    assert failed.exit_code == 1
    assert f"cannot write '{output}'" in failed.output


def test_deletes(folder):
    """A deleted picture is gone; deleting nothing is told and fails."""
    assert run("delete", "picture-0").exit_code == 0
    assert "picture-0" not in run("list").output
    assert run("delete", "picture-1.png").exit_code == 0
    assert run("delete", "picture-0", "x").exit_code == 1


def test_moves_and_sweeps(folder):
    """All pictures go from one storage to the other and keep their expiry; doing it again does nothing."""
    before = json.loads(run("get", "picture-0").output)
    moved = run("move", "--from", "shelf", "--to", "archive")

    assert (moved.exit_code, moved.output) == (0, "2 moved, 0 gone, 0 failed\n")
    assert json.loads(run("get", "picture-0").output) == before
    assert "picture-0" not in run("list", "--storage", "shelf").output
    assert "picture-0" in run("list", "--storage", "archive").output
    assert run("move", "--from", "shelf", "--to", "archive").output.startswith("0 moved")
    assert run("sweep").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["move", "--from", "shelf", "--to", "shelf"], "the same storage"),
        (["move", "--from", "shelf", "--to", "attic"], "known: quick, shelf, archive"),
        (["move", "--from", "quick", "--to", "archive"], "memory of the running gateway"),
        (["list", "--storage", "attic"], "no storage 'attic'"),
    ],
)
def test_says_what_cannot_be(folder, arguments, words):
    """A storage that is not there, the same one twice, and another process's memory are told in words."""
    result = run(*arguments)

    assert result.exit_code != 0
    assert words in result.output


def test_says_where_pictures_in_memory_are(folder):
    """Nothing listed is no proof that there is nothing, if another process holds it all."""
    (folder / "config.yaml").write_text(
        CONFIG.replace("disk, root: ./shelf, ttl: 7d", "memory").split("  archive")[0]
        + CONFIG[CONFIG.index("models:") :]
    )

    listed = run("list")
    assert (listed.exit_code, listed.stdout) == (0, "")
    assert "GET /v1/pictures" in listed.stderr


def test_says_what_deleting_does_not_reach(folder):
    """The memory of a running gateway may still serve it: that goes to stderr, with the way that deletes it there."""
    deleted = run("delete", "picture-0")

    assert (deleted.exit_code, deleted.stdout) == (0, "picture-0: deleted\n")
    assert "the storage quick" in deleted.stderr
    assert "DELETE /v1/pictures/KEY" in deleted.stderr


def test_says_so_of_tiers_and_caches(folder):
    """A tier in memory and a cache are memory, too."""
    tiers = "  both: {use: tiered, tiers: [quick, archive]}\nmiddlewares:\n  seeds: {use: cache}\nmodels:"
    (folder / "config.yaml").write_text(CONFIG.replace("models:", tiers))

    told = run("delete", "picture-0").stderr
    assert "the storage quick, the middleware seeds" in told


def test_says_nothing_where_all_is_gone(folder):
    """Without any memory a deletion is one."""
    (folder / "config.yaml").write_text(CONFIG.replace("  quick: {use: memory}\n", ""))

    assert run("delete", "picture-0").stderr == ""
