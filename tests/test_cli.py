"""What the command line answers, and with which exit code."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from gateway.cli import main
from gateway.registry import discover
from gateway.schema import schema_of

TOY = Path(__file__).with_name("toy_plugin.py")
ROOT = Path(__file__).parent.parent
CONFIG = f"""\
plugins: ["{TOY}"]
authenticators:
  door: {{use: toy_lock, keys: ["${{API_KEY}}"]}}
optimizers:
  first: {{use: toy_prefix, words: [a]}}
  second: {{use: toy_prefix, words: [b]}}
middlewares:
  outer: {{use: toy_gate, images: 20/minute}}
  inner: {{use: toy_gate, images: 5/second}}
backends:
  red: {{use: toy_paint, keys: [canary-literal-key]}}
  blue: {{use: toy_paint, colour: blue}}
storages:
  pictures: {{use: toy_shelf}}
models:
  flux:
    middlewares: [outer, inner]
    optimizers: [second, first]
    backends: [{{backend: red, model: m1, weight: 3}}, {{backend: blue, weight: 0}}]
    aliases: [dall-e-3]
default_model: flux
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a good configuration in it."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_KEY", "canary-from-the-environment")
    return tmp_path


def image_gateway(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_check_shows_the_effective_pipeline_without_secrets(folder: Path):
    """In the order in which a request meets them; names only, so no secret can be among them."""
    result = image_gateway("check")

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "authenticators: door (toy_lock)",
        "",
        "model flux (also dall-e-3), the default",
        "  middleware outer (toy_gate) around job",
        "  middleware inner (toy_gate) around job",
        "  optimizer second (toy_prefix)",
        "  optimizer first (toy_prefix)",
        "  backend red (toy_paint), model m1, weight 3",
        "  backend blue (toy_paint), only when the others cannot",
        "  storage pictures (toy_shelf)",
        "",
        "The configuration is good.",
    ]
    assert "canary" not in result.output


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("toy_shelf}", "toy_shelf, tttl: 5}"),
            "config.yaml:14:30 storages.pictures.tttl: unknown key; known: ttl; did",
        ),
        (
            ("${API_KEY}", "${NO_SUCH_KEY}"),
            "config.yaml:3:32 authenticators.door.keys[0]: variable NO_SUCH_KEY is not set",
        ),
        (('keys: ["${API_KEY}"]', "keys: []"), "config.yaml:3:9 authenticators.door: keys: at least one is needed"),
        (("authenticators:\n", "authenticators: {}\nauth:\n"), "config.yaml:2:17 authenticators: none configured"),
        (("models:\n", "models: [\n"), "config.yaml:"),
    ],
)
def test_a_wrong_configuration_ends_with_78_and_no_traceback(
    folder: Path, command: str, change: tuple[str, str], said: str
):
    """serve gives the same verdict as check, before it opens any port."""
    (folder / "config.yaml").write_text(CONFIG.replace(*change))
    result = image_gateway(command)

    assert result.exit_code == 78
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.output
    assert "canary" not in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["check", "nowhere.yaml"], 78, "nowhere.yaml: there is no such file"),
        (["check", "."], 78, "cannot be read"),
        (["check", "--preset", "defualt"], 78, 'did you mean "default"'),
        (["check", "config.yaml", "--preset", "default"], 2, "a file or a preset, not both"),
        (["serve", "--port", "99999"], 2, "--port"),
        (["serve", "--host", ""], 2, "host must be an address or a name"),
        (["serve", "--host", "a..b"], 2, "host must be an address or a name"),
        (["serv"], 2, "No such command"),
        (["schema", "--plugin", "nowhere.py"], 2, "does not exist"),
        (["plugins", "list", "nowhere.yaml"], 78, "no such file"),
    ],
)
def test_a_wrong_command_line_is_explained(folder: Path, arguments: list[str], code: int, said: str):
    """Exit code 2 for the command line, 78 for what it names."""
    result = image_gateway(*arguments)

    assert result.exit_code == code
    assert said in result.stderr


def test_the_embedded_default_is_used_where_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An empty folder and an empty environment are enough."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("API_KEY", raising=False)
    result = image_gateway("check")

    assert result.exit_code == 0, result.output
    assert "model demo, the default" in result.stdout


def test_the_default_preset_is_the_documented_config_file():
    """What is packaged and what the README shows cannot differ."""
    assert (ROOT / "presets/default.yaml").read_bytes() == (ROOT / "config.yaml").read_bytes()


def test_plugins_list_shows_what_each_brings_and_why_one_is_missing(folder: Path):
    """A broken plugin is a row with its reason, not an end."""
    (folder / "broken.py").write_text("import a_library_that_is_not_there\n")
    (folder / "config.yaml").write_text(CONFIG.replace("plugins: [", "plugins: [./broken.py, "))
    result = image_gateway("plugins", "list")
    rows = [line.split(maxsplit=3) for line in result.stdout.splitlines()]

    assert result.exit_code == 0
    assert rows[0][:3] == ["KIND", "TYPE", "PLUGIN"]
    assert ["backends", "toy_paint", "toy_plugin"] in [row[:3] for row in rows]
    assert any("quarantined: ModuleNotFoundError" in line and "broken" in line for line in result.stdout.splitlines())


def test_plugins_list_refuses_a_broken_promise(folder: Path):
    """The same complaint as at the start."""
    (folder / "bad.py").write_text("from gateway import hookimpl\n@hookimpl\ndef provide_backend():\n    return {}\n")
    (folder / "config.yaml").write_text(CONFIG.replace("plugins: [", "plugins: [./bad.py, "))
    result = image_gateway("plugins", "list")

    assert result.exit_code == 78
    assert "unknown hook provide_backend; known: " in result.stderr


def test_strict_refuses_a_plugin_that_cannot_be_loaded(folder: Path):
    """Without --strict it is a warning."""
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "config.yaml").write_text(CONFIG.replace("plugins: [", "plugins: [./broken.py, "))

    assert "warning: plugin left out: broken" in image_gateway("check").stderr
    assert image_gateway("check", "--strict").exit_code == 78


def test_a_new_key_is_printed_once_with_its_hash():
    """The configuration need only know the hash (A5)."""
    first, second = (image_gateway("keys", "new").stdout.split() for _ in range(2))

    assert first[1] == "sha256:" + hashlib.sha256(first[0].encode()).hexdigest()
    assert len(first[0]) >= 43
    assert first[0] != second[0]


def _examples() -> list[tuple[str, Any]]:
    texts = {path.name: path.read_text() for path in [ROOT / "config.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]}
    return [(name, YAML(typ="safe", pure=True).load(text)) for name, text in texts.items()]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    made = json.loads(image_gateway("schema", "--plugin", str(TOY)).stdout)
    jsonschema.Draft202012Validator.check_schema(made)
    return dict(made)


@pytest.mark.parametrize(("name", "tree"), [*_examples(), ("toy", YAML(typ="safe", pure=True).load(CONFIG))])
def test_the_schema_accepts_every_example(schema: dict[str, Any], name: str, tree: Any):
    """An editor must not underline what the gateway takes (N10)."""
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(tree))

    assert [f"{'.'.join(map(str, error.path))}: {error.message[:200]}" for error in errors] == []


@pytest.mark.parametrize(
    "change",
    [
        ("use: toy_shelf", "use: toy_shelf, tttl: 5"),
        ("use: toy_shelf", "use: toy_shlef"),
        ("weight: 3", "wieght: 3"),
        ("colour: blue", "colour: bleu"),
        ("default_model:", "default_modle:"),
        ("images: 20/minute", "image: 20/minute"),
        ("images: 20/minute", "x: 1"),
    ],
)
def test_the_schema_refuses_what_the_gateway_refuses(schema: dict[str, Any], change: tuple[str, str]):
    """Unknown keys, types and choices, and missing ones."""
    tree = YAML(typ="safe", pure=True).load(CONFIG.replace(*change))

    assert list(jsonschema.Draft202012Validator(schema).iter_errors(tree))


@pytest.mark.parametrize(
    "more",
    [
        {"chat": {"id_prefix": "${PREFIX}"}},
        {"chat": None},
        {"jobs": None, "server": None, "default_model": None},
        {"authenticators": {"a": {"use": "api_keys", "keys": [{"name": "n", "key": "${K}", "expires": "2027-01-01"}]}}},
    ],
)
def test_the_schema_takes_what_the_gateway_takes(schema: dict[str, Any], more: dict[str, Any]):
    """Also by the formats, which some editors check: a date alone, a variable, a section that is all comments."""
    tree = YAML(typ="safe", pure=True).load(CONFIG) | more
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER

    assert not list(jsonschema.Draft202012Validator(schema, format_checker=checker).iter_errors(tree))


def test_an_option_that_json_does_not_know_leaves_the_schema_whole(tmp_path: Path):
    """The start checks it; editors are told of all the others."""
    path = tmp_path / "odd.py"
    path.write_text(
        "from dataclasses import dataclass\nfrom collections.abc import Callable\nfrom gateway import hookimpl\n"
        "@dataclass\nclass Odd:\n    how: Callable[[], int] | None = None\n    seen: int = 1\n"
        "    async def observe(self, e): ...\n@hookimpl\ndef provide_observers():\n    return {'odd': Odd}\n"
    )
    made = json.loads(image_gateway("schema", "--plugin", str(path)).stdout)
    (odd,) = [
        each for each in made["properties"]["observers"]["additionalProperties"]["anyOf"] if each["title"] == "odd"
    ]

    assert "seen" in odd["properties"]


def test_the_schema_says_which_plugin_is_missing_in_it(tmp_path: Path):
    """On the other stream, so that the schema is one."""
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n")
    made = image_gateway("schema", "--plugin", str(tmp_path / "broken.py"))

    assert "broken" in made.stderr
    assert "nowhere_to_be_found" in made.stderr
    assert json.loads(made.stdout)


@pytest.mark.parametrize("jobs", [{"spool": "kept"}, {"spool": "off"}, {"spool": None}, {"spool_limit": "1GiB"}])
def test_the_schema_takes_every_way_to_write_the_spool(schema: dict[str, Any], jobs: dict[str, Any]):
    """A folder, or none by a word or by null."""
    tree = YAML(typ="safe", pure=True).load(CONFIG) | {"jobs": jobs}

    assert not list(jsonschema.Draft202012Validator(schema).iter_errors(tree))


def test_the_schema_documents_its_keys(schema: dict[str, Any]):
    """Every section, every component type and every option that its class documents has a description."""
    paint = next(
        variant
        for variant in schema["properties"]["backends"]["additionalProperties"]["anyOf"]
        if variant["title"] == "toy_paint"
    )

    assert [name for name, key in schema["properties"].items() if not key.get("description")] == []
    assert [name for name, each in schema["$defs"].items() if not each.get("description")] == []
    assert paint["description"] == "Paints one colour."
    assert paint["properties"]["colour"]["description"] == "colour is that colour"
    assert paint["properties"]["steps"]["default"] == 4
    assert "name" not in paint["properties"]


def test_two_plugins_may_have_option_classes_of_one_name(tmp_path: Path):
    """Their definitions are kept apart in the schema."""
    head = "from dataclasses import dataclass, field\nfrom gateway import hookimpl\n"
    for name, option in (("one", "a: int = 1"), ("two", "b: str = ''")):
        (tmp_path / f"{name}.py").write_text(
            f"{head}@dataclass(frozen=True)\nclass Wire:\n    {option}\n"
            "@dataclass\nclass Watch:\n    wire: Wire = field(default_factory=Wire)\n"
            "    async def observe(self, e): ...\n"
            f"@hookimpl\ndef provide_observers():\n    return {{'{name}': Watch}}\n"
        )
    made = schema_of(discover([tmp_path], installed=()))

    assert "a" in made["$defs"]["observers.one.Wire"]["properties"]
    assert "b" in made["$defs"]["observers.two.Wire"]["properties"]


def test_the_installed_command_ends_cleanly(folder: Path):
    """As a user runs it: a process, its exit code, its two streams."""
    (folder / "config.yaml").write_text("server: {port: x}\n")
    command = [sys.executable, "-c", "from gateway.cli import main; main()", "serve"]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )

    assert ended.returncode == 78
    assert ended.stderr.startswith("config.yaml:1:1 authenticators: none configured")
    assert "config.yaml:1:16 server.port: expected a whole number, found text" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
def test_a_picture_that_cannot_be_written_is_told(folder: Path) -> None:
    """A full disk is no traceback."""
    failed = image_gateway("generate", "a cat", "--preset", "default", "-o", "/dev/full")

    assert failed.exit_code == 1
    assert "cannot be written" in failed.stderr
    assert isinstance(failed.exception, SystemExit)


@pytest.mark.parametrize("output", ["nowhere/x.png", "."])
def test_a_picture_that_could_not_be_written_is_not_drawn(folder: Path, output: str) -> None:
    """It would be paid for, and lost."""
    refused = image_gateway("generate", "a cat", "-o", output)

    assert refused.exit_code == 2
    assert "a folder that is there" in refused.output
