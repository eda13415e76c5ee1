"""What a configuration may be, and what is said of one that is wrong."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import Configuration, load, plugin_files, settings_of
from gateway.errors import ConfigError
from gateway.registry import discover

TOY = Path(__file__).with_name("toy_plugin.py")
BASE = f"""\
plugins: ["{TOY}"]
authenticators:
  door: {{use: toy_lock, keys: ["${{API_KEY}}"]}}
backends:
  red: {{use: toy_paint}}
storages:
  pictures: {{use: toy_shelf}}
models:
  flux:
    backends: [{{backend: red}}]
"""
KEY = {"API_KEY": "a-key-of-the-test"}


TOYS = discover([TOY], installed=())


def configured(text: str, environ: Mapping[str, str] = KEY, path: Path = Path("config.yaml")) -> Configuration:
    document = load(path, text, environ)
    files = plugin_files(document)
    return settings_of(document, TOYS if files == [TOY] else discover(files, installed=()))


def complaints(text: str, environ: Mapping[str, str] = KEY) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configured(text, environ)
    return list(caught.value.complaints)


def only(text: str, environ: Mapping[str, str] = KEY) -> str:
    lines = complaints(text, environ)
    assert len(lines) == 1, lines
    return lines[0]


def test_a_small_configuration_is_enough():
    """An authenticator, a backend, a storage and a model make a gateway; the rest has defaults."""
    made = configured(BASE)

    assert made.settings.server.port == 8080
    assert made.components["authenticators"]["door"].keys == ("a-key-of-the-test",)
    assert made.components["backends"]["red"].name == "red"
    assert made.uses["storages"] == {"pictures": "toy_shelf"}
    assert made.warnings == ()


@pytest.mark.parametrize(
    ("jobs", "spool"),
    [
        ("{}", "/etc/gateway/.image-gateway/spool"),
        ("{spool: kept}", "/etc/gateway/kept"),
        ("{spool: /var/spool/images}", "/var/spool/images"),
        ("{spool: off}", None),
        ("{spool: null}", None),
        ("{spool: '${NOTHING:-off}'}", None),
    ],
)
def test_the_spool_lies_beside_the_configuration_or_is_off(jobs: str, spool: str | None):
    """Relative to the file, as all paths."""
    made = configured(BASE + f"jobs: {jobs}\n", path=Path("/etc/gateway/config.yaml"))

    assert made.settings.jobs.spool == (spool and Path(spool))
    assert made.settings.jobs.spool_limit == 2**30


# N1-N3: unknown keys, wrong values, all at once


def test_an_unknown_key_is_shown_with_place_and_closest_match():
    """The complaint names file, line, column, key, the known ones, and what was probably meant."""
    line = only(BASE.replace("{use: toy_shelf}", "{use: toy_shelf, tttl: 5m}"))

    assert line == 'config.yaml:7:30 storages.pictures.tttl: unknown key; known: ttl; did you mean "ttl"?'


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("server: {port: eighty}", ":16 server.port: expected a whole number, found text"),
        ("server: {port: 70000}", ":16 server.port: should be less than or equal to 65535, found 70000"),
        ("server: {prot: 1}", 'server.prot: unknown key; known: .*did you mean "port"'),
        ("server: {origins: 5}", "server.origins: expected a list, found 5"),
        ("server: {origins: app.example.com}", "server.origins: 'app.example.com' is no origin, .* like https://"),
        ("server: {origins: ['https://a.example/']}", "server.origins: 'https://a.example/' is no origin"),
        ("server: {trusted_proxies: 10.0.0.0/99}", "server.trusted_proxies: '10.0.0.0/99' is no address or network"),
        ("server: {public_url: images.example.com}", "server.public_url: not a URL; it begins with http"),
        ("jobs: {state: 'mysql://me:secret@db/x'}", "jobs.state: not a file, nor an address of Redis(?!.*secret)"),
        ("jobs: {per_backend: {blue: 2}}", 'jobs.per_backend.blue: no backends component is named "blue"; known: red'),
        ("server: 5", "server: expected a mapping with .*port.*, found 5"),
        ("jobs: {timeout: 10 minuts}", "jobs.timeout: not a duration; write it like 30s, 5m, 1h30m"),
        ("jobs: {running: 0}", "jobs.running: should be greater than or equal to 1, found 0"),
        ("jobs: {running: 1.5}", "jobs.running: expected a whole number, found 1.5"),
        ("jobs: {spool: ''}", "jobs.spool: must name a folder; write off for none"),
        ("jobs: {spool: 5}", "jobs.spool: expected a path, found 5"),
        ("jobs: {spool_limit: much}", "jobs.spool_limit: not a size in bytes"),
        ("serving: {cache: 3 elephants}", "serving.cache: not a size in bytes; write it like 200kB"),
        ("serving: {negotiate: maybe}", "serving.negotiate: expected true or false, found text"),
        ("chat: {language: english}", "chat.language: expected one of en, zh-cn, .*, found 'english'"),
        ("chat: {ratios: {'1:1': 5x}}", r"chat.ratios.1:1: .* write it as 1024x576"),
        ("chat: {ratios: {'1:1': 1280}}", r"chat.ratios.1:1: '1280' is not a size; write it as 1024x576"),
        ("chats: {}", 'chats: unknown key; .*did you mean "chat"'),
        ("default_model: fluxx", 'default_model: no model is named "fluxx"; known: flux; did you mean "flux"'),
        (
            "chat: {template: 'Here it is: {picture}'}",
            r"chat.template: .* \{picture\}; did you mean \{pictures\}\? known",
        ),
        ("chat: {template: '{nope}'}", r"chat.template: .* \{nope\}; known: "),
        ("chat: {template: a picture}", "chat.template: the template shows no picture"),
        ("chat: {template: '${T:-}'}", "chat.template: the template shows no picture"),
        ("observers: [log]", "observers: expected a mapping of names"),
        ("observers: {log: log}", r"observers.log: expected {use: TYPE, …}; types: toy_diary"),
        ("observers: {'a b': {use: toy_diary}}", "observers.a b: a component's name is"),
        ("middlewares: {g: {use: toy_gate}}", "middlewares.g.images: missing"),
        ("middlewares: {g: {use: toy_gate, images: 5}}", "middlewares.g.images: not a rate; write it like 20/minute"),
        ("middlewares: {g: {use: toy_gate, images: 5/0minute}}", "middlewares.g.images: not a rate; write it like"),
        ("server: {host: ''}", "server: host must be an address or a name, such as 127.0.0.1"),
        ("server: {host: ' '}", "server: host must be an address or a name"),
        ("server: {host: a..b}", "server: host must be an address or a name"),
        ('server: {host: "a\\0b"}', "server: host must be an address or a name"),
        ("fetch: {ports: [0]}", r"fetch.ports\[0\]: should be greater than or equal to 1, found 0"),
        ("serving: {sizes: [-5]}", r"serving.sizes\[0\]: should be greater than or equal to 1, found -5"),
        ('jobs: {state: "a\\0b"}', "jobs.state: not a file, nor an address of Redis"),
        ("jobs: {state: 'redis://:pa/ss@h'}", r"jobs.state: this is not a URL of Redis, (?!.*pa/ss).*write / as %2F"),
        (
            "jobs: {state: 'redis://h/0?foo=1'}",
            "jobs.state: this is not a URL of Redis, .* what its Python library takes",
        ),
        ("jobs: {state: 'redis://h/0?socket_timeout=x'}", "jobs.state: this is not a URL of Redis"),
        ("jobs: {state: 'redis://h/main'}", "jobs.state: this is not a URL of Redis"),
        (
            "jobs: {state: '~nobody-of-this-name/x'}",
            "jobs: ~nobody-of-this-name/x: no home folder is known for ~nobody",
        ),
        ("plugins: ./nowhere.py", "plugins: given twice; first in line 1"),
    ],
)
def test_a_wrong_value_is_told_with_what_was_expected(added: str, said: str):
    """Wrong type, out of range, bad duration: one line that says what would be right."""
    line = only(BASE + added + "\n")

    assert line.startswith("config.yaml:11:")
    assert re.search(said, line)


def test_all_complaints_come_at_once_in_file_order():
    """Nobody wants to start the gateway ten times to find ten typos."""
    text = BASE.replace("use: toy_paint", "use: toy_paint, colour: rde, wire: {conect: 5}, steps: x")
    text = text.replace("backend: red", "backend: rde, wieght: 3").replace("toy_shelf}", "toy_shelf, ttl: -1}")
    lines = complaints(text + "server: {hots: x}\n", {})

    assert [line.split(": ")[0] for line in lines] == [
        "config.yaml:3:32 authenticators.door.keys[0]",
        "config.yaml:5:33 backends.red.colour",
        "config.yaml:5:45 backends.red.wire.conect",
        "config.yaml:5:64 backends.red.steps",
        "config.yaml:7:35 storages.pictures.ttl",
        "config.yaml:10:26 models.flux.backends[0].backend",
        "config.yaml:10:31 models.flux.backends[0].wieght",
        "config.yaml:11:10 server.hots",
    ]


def test_a_refusal_by_the_component_names_the_component():
    """What a component's own check says is told at its place."""
    line = only(BASE.replace("use: toy_paint", "use: toy_paint, steps: 9"))

    assert line == "config.yaml:5:8 backends.red: steps must be at most 8"


def test_only_options_are_options():
    """A field that the component fills itself cannot be given."""
    line = only(BASE.replace("use: toy_paint", "use: toy_paint, name: x"))

    assert "backends.red.name: unknown key" in line


# N4: what is no proper YAML


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "c.yaml:1:1 the file is empty"),
        (b"# nothing\n", "c.yaml:1:1 the file is empty"),
        (b"- a\n- b\n", "c.yaml:1:1 expected keys and values"),
        (b"just words", "c.yaml:1:1 expected keys and values"),
        (b"server:\n\thost: x\n", "c.yaml:2:1 .*tabs"),
        (b"server: {host: x\n", "c.yaml:2:1 "),
        (b"server: 'x\n", "c.yaml:1:9 |c.yaml:2:1 "),
        (b"server: {}\nmodels: {a: 'x}\njobs: {}\n", "c.yaml:4:1 .*quoted scalar, begun in line 2"),
        (b"jobs: {}\nserver\nchat: {}\n", "c.yaml:3:1 .*begun in line 2"),
        (b"a: b: c\n", "c.yaml:1:5 "),
        (b"a: 1\n---\nb: 2\n", "c.yaml:2:1 "),
        (b"a: \x00", r"c.yaml:1:4 the character U\+0000"),
        (b"a: 1\nb: \x1b[31m", r"c.yaml:2:4 the character U\+001B"),
        (b"a: 1\nb: \xff\xfe", "c.yaml:2:4 not UTF-8"),
        ("a: 1".encode("utf-16"), "c.yaml:1:1 not UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "c.yaml:1:1 not UTF-8"),
        (b"[" * 100_000, "c.yaml:1:51 nested deeper"),
        (b"a: &a [*a]\n", "c.yaml:1:4 an alias that contains itself"),
        (b"a: *nowhere\n", "c.yaml:1:4 found undefined alias"),
        (b"a: !!python/object/apply:os.system ['x']\n", "c.yaml:1:4 the tag"),
        (b"a: !include /etc/passwd\n", "c.yaml:1:4 the tag"),
        (b"x" * 300_000, "c.yaml:1:1 larger than 256 KB"),
    ],
)
def test_what_is_no_yaml_is_one_line_with_a_position(tmp_path: Path, content: bytes, said: str):
    """Broken syntax, binary files, tabs and tricks end in one line, quickly."""
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    start = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        load(path)

    assert re.search(said, caught.value.message)
    assert len(caught.value.message.splitlines()) == 1
    assert time.monotonic() - start < 5


def test_an_alias_bomb_is_refused():
    """Nine levels of nine aliases would be 10**9 values."""
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 10))
    with pytest.raises(ConfigError, match="more than 20000 values"):
        load(None, "l0: &l0 [x]\n" + levels)


def test_a_duplicate_key_is_refused_with_both_lines():
    """YAML would let the last one win in silence."""
    line = only(BASE + "server: {port: 1}\nserver: {port: 2}\n")

    assert line == "config.yaml:12:1 server: given twice; first in line 11"


def test_anchors_and_merges_work():
    """Shared options may be written once."""
    text = BASE.replace(
        "red: {use: toy_paint}", "red: &paint {use: toy_paint, steps: 2}\n  blue: {<<: *paint, colour: blue}"
    )
    blue = configured(text).components["backends"]["blue"]

    assert (blue.steps, blue.colour, blue.name) == (2, "blue", "blue")


def test_a_merge_may_merge_in_turn():
    """As far as one likes; what stands nearer wins."""
    text = BASE.replace(
        "red: {use: toy_paint}",
        "red: &a {use: toy_paint, steps: 2, colour: blue}\n  b: &b {<<: *a, steps: 3}\n  c: {<<: [*b, *a]}",
    )
    c = configured(text).components["backends"]["c"]

    assert (c.steps, c.colour) == (3, "blue")


@pytest.mark.parametrize(
    "merges", ["red: &a {<<: *a, use: toy_paint}", "red: &a {use: toy_paint, <<: {<<: *a}}", "red: &a {<<: [*a]}"]
)
def test_a_merge_of_itself_is_refused(merges: str):
    """It has no end."""
    assert "an alias that contains itself" in only(BASE.replace("red: {use: toy_paint}", merges))


@pytest.mark.parametrize("name", ["missing.yaml", ".", "nul\x00byte.yaml"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str):
    """No traceback for a wrong path."""
    with pytest.raises(ConfigError, match=r"no such file|cannot be read"):
        load(tmp_path / name)


# N5: variables


@pytest.mark.parametrize(
    ("written", "environ", "label"),
    [
        ("${NAME}", {"NAME": "x"}, "x"),
        ("a ${NAME} b ${NAME}", {"NAME": "x"}, "a x b x"),
        ("${NAME:-y}", {}, "y"),
        ("${NAME:-y}", {"NAME": ""}, "y"),
        ("${NAME:-}", {}, ""),
        ("${NAME}", {"NAME": ""}, ""),
        ("${A:-${B}}", {"B": "b"}, "b"),
        ("${A:-${B:-c}}d", {}, "cd"),
        ("$$ $NAME $${NAME} 5$", {"NAME": "x"}, "$ $NAME ${NAME} 5$"),
        ("${NAME}", {"NAME": "a: [b, {c: d}] # e\n- f"}, "a: [b, {c: d}] # e\n- f"),
        ("${NAME}", {"NAME": "${OTHER} $$"}, "${OTHER} $$"),
    ],
)
def test_variables_are_replaced_in_values_only(written: str, environ: dict[str, str], label: str):
    """What a variable holds is text, whatever it looks like."""
    text = BASE.replace("use: toy_paint", f"use: toy_paint, label: '{written}'")

    assert configured(text, KEY | environ).components["backends"]["red"].label == label


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("${MISSING}", "variable MISSING is not set"),
        ("${A:-${MISSING}}", "variable MISSING is not set"),
        ("${MISSING", "without its }"),
        ("${}", "not a variable"),
        ("${A-b}", "not a variable"),
        ("${file:nowhere}", "there is no such file"),
        ("${file:.}", "not a plain file"),
        ("${file:large}", "larger than 64 KB"),
        ("${file:binary}", "not UTF-8"),
    ],
)
def test_an_unreadable_variable_is_told_once_with_name_and_line(tmp_path: Path, written: str, said: str):
    """Not a second time as an unknown file, a wrong type or a missing component."""
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    text = BASE.replace("use: toy_paint", f"use: toy_paint, steps: '{written}'")
    with pytest.raises(ConfigError) as caught:
        configured(text, path=tmp_path / "config.yaml")

    (line,) = caught.value.complaints
    assert "config.yaml:5:32 backends.red.steps: " in line
    assert said in line


def test_a_file_can_hold_a_secret(tmp_path: Path):
    """The newline that editors add at the end is no part of it."""
    (tmp_path / "secret").write_text("hunter2\n")
    made = configured(BASE.replace("${API_KEY}", "${file:secret}"), {}, tmp_path / "config.yaml")

    assert made.components["authenticators"]["door"].keys == ("hunter2",)


def test_texts_from_variables_become_numbers_and_booleans():
    """Environment variables are always text; the option's type decides."""
    text = BASE.replace("use: toy_paint", 'use: toy_paint, steps: "${S}", loud: "${L}", strength: "${F}", size: "${Z}"')
    red = configured(text, KEY | {"S": "8", "L": "true", "F": "0.5", "Z": "64x32"}).components["backends"]["red"]

    assert (red.steps, red.loud, red.strength, str(red.size)) == (8, True, 0.5, "64x32")


def test_one_variable_may_hold_several_keys():
    """Lists of keys split on commas."""
    made = configured(BASE, {"API_KEY": "one, two"})

    assert made.components["authenticators"]["door"].keys == ("one", "two")


def test_no_complaint_shows_what_may_be_secret():
    """Neither the content of a variable nor what stands under a secret's key, nor text where a number belongs."""
    text = BASE.replace(
        "use: toy_paint", 'use: toy_paint, steps: "${S}", size: "${S}", colour: "${S}", keys: {a: b4d-k3y}'
    )
    text = text.replace('["${API_KEY}"]', '["sk-literal", []]')
    text += "server: {port: sk-in-the-wrong-place}\n"
    lines = "\n".join(complaints(text, {"S": "s3cr3t-text"}))

    assert lines.count("\n") >= 5
    for secret in ("s3cr3t-text", "b4d-k3y", "sk-literal", "sk-in-the-wrong-place"):
        assert secret not in lines


# N9: texts that YAML 1.1 would have changed


@pytest.mark.parametrize(
    "written", ["no", "on", "yes", "1.10", "12:30", "0o17", "1_000", "007", "2026-01-02", "1e3", "0x1F"]
)
def test_texts_stay_as_written(written: str):
    """A label of 1.10 is not 1.1, and Norway is not false."""
    text = BASE.replace("use: toy_paint", f"use: toy_paint, label: {written}")

    assert configured(text).components["backends"]["red"].label == written


@pytest.mark.parametrize("written", ["true", "null", "[a]", "{a: b}"])
def test_what_is_clearly_no_text_is_refused_as_text(written: str):
    """Better a clear error than the word 'None' as a label."""
    assert "backends.red.label: expected text, found" in only(
        BASE.replace("use: toy_paint", f"use: toy_paint, label: {written}")
    )


def test_numbers_as_names_stay_as_written():
    """An upstream's model may be called 1.10; ratios are keys, not times of day."""
    text = (
        BASE.replace("{backend: red}", "{backend: red, model: 1.10, weight: 1.50}") + "chat: {ratios: {16:9: 64x36}}\n"
    )
    made = configured(text)

    assert made.settings.models["flux"].backends[0].model == "1.10"
    assert made.settings.models["flux"].backends[0].weight == 1.5
    assert list(made.settings.chat.ratios) == ["16:9"]


# what depends on the environment


@pytest.mark.parametrize(
    ("when", "environ", "kept"),
    [
        ("'${A:-}'", {"A": "x"}, True),
        ("'${A:-}'", {"A": ""}, False),
        ("'${A:-}'", {}, False),
        ("['${A:-}', '${B:-}']", {"A": "x", "B": "y"}, True),
        ("['${A:-}', '${B:-}']", {"A": "x"}, False),
        ("{set: '${A:-}', unset: '${B:-}'}", {"A": "x"}, True),
        ("{set: '${A:-}', unset: '${B:-}'}", {"A": "x", "B": "y"}, False),
        ("{unset: '${A:-}'}", {}, True),
        ("{equal: ['${A:-}', 'true']}", {"A": "true"}, True),
        ("{equal: ['${A:-}', true]}", {"A": "true"}, True),
        ("{equal: ['${A:-}', 'true']}", {"A": "1"}, False),
    ],
)
def test_a_component_may_depend_on_the_environment(when: str, environ: dict[str, str], kept: bool):
    """Without its condition it is not there, nor is anything said about its unset variables or in its models."""
    blue = f"  blue: {{use: toy_paint, when: {when}, label: '${{A:-}}', keys: '${{A:-x}}'}}\nstorages:\n"
    text = BASE.replace("storages:\n", blue).replace("[{backend: red}]", "[{backend: blue}, {backend: red}]")
    made = configured(text, KEY | environ)

    assert ("blue" in made.components["backends"]) is kept
    assert [target.backend for target in made.settings.models["flux"].backends] == ["blue"] * kept + ["red"]


def test_nothing_is_said_about_what_is_not_wanted():
    """Unset variables, unknown types and options of a component that is left out do not matter."""
    text = BASE.replace("storages:\n", "  blue: {use: nothing, when: '', x: '${UNSET}'}\nstorages:\n")

    assert list(configured(text).components["backends"]) == ["red"]


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("'${UNSET}'", "backends.red.when: variable UNSET is not set"),
        ("{sett: x}", 'backends.red.when.sett: unknown key; .*did you mean "set"'),
        ("{equal: x}", "backends.red.when.equal: expected a list"),
        ("[{set: ''}]", "backends.red.when: expected texts, or one mapping"),
        ("{set: ['x', {unset: ''}]}", "backends.red.when: expected texts, or one mapping"),
        ("{unset: {set: ''}}", "backends.red.when: expected texts, or one mapping"),
        ("''", "models: all are left out"),
    ],
)
def test_a_wrong_condition_is_told(when: str, said: str):
    """It must not decide by accident."""
    assert re.search(said, only(BASE.replace("use: toy_paint", f"use: toy_paint, when: {when}")))


@pytest.mark.parametrize(
    ("check", "environ", "warned", "refused"),
    [
        ("{when: ['${A:-}', '${B:-}'], warn: both}", {"A": "x", "B": "y"}, True, False),
        ("{when: ['${A:-}', '${B:-}'], warn: both}", {"A": "x", "B": " , "}, False, False),
        ("{when: ['${A:-}', '${B:-}'], refuse: both}", {"A": "x"}, False, False),
        ("{when: ['${A:-}', '${B:-}'], refuse: both}", {"A": "x", "B": "y"}, False, True),
    ],
)
def test_variables_may_be_checked_against_each_other(check, environ, warned: bool, refused: bool):
    """A preset says in words which of them do not go together."""
    text = f"{BASE}checks: [{check}]\n"
    if refused:
        assert only(text, KEY | environ).endswith("checks[0]: both")
    else:
        assert ("both" in configured(text, KEY | environ).warnings) is warned


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ("{when: x, warn: y}", "checks: expected a list"),
        ("[x]", r"checks\[0\]: expected {when"),
        ("[{when: x}]", r"checks\[0\]: expected {when"),
        ("[{warn: x}]", r"checks\[0\]: expected {when"),
        ("[{when: x, warn: y, refuse: z}]", r"checks\[0\]: expected {when"),
        ("[{when: x, warn: 1}]", r"checks\[0\]: expected {when"),
        ("[{when: {sett: x}, warn: y}]", r"checks\[0\].when.sett: unknown key"),
        ("[{when: '${UNSET}', refuse: y}]", r"checks\[0\].when: variable UNSET is not set"),
    ],
)
def test_a_wrong_check_is_told(checks: str, said: str):
    """It must neither be silent nor speak by accident."""
    assert re.search(said, only(f"{BASE}checks: {checks}\n"))


def test_a_variable_may_name_models():
    """One for each name in the list; a name of several keys has the targets of all; an empty one is none."""
    text = BASE.replace("  flux:\n", "  b: {backends: [{backend: red, model: own}]}\n  '${M}':\n").replace(
        "backend: red}]\n", "backend: red, model: 'x/{name}'}]\n  '${N:-}': {backends: [{backend: nowhere}]}\n"
    )
    models = configured(text, KEY | {"M": "a, b,"}).settings.models

    assert {name: [target.model for target in model.backends] for name, model in models.items()} == {
        "b": ["own", "x/b"],
        "a": ["x/a"],
    }


def test_a_fault_in_a_model_of_a_variable_has_its_place():
    """The place is the one in the file, the name the one that came out."""
    text = BASE.replace("flux:", "'${M}':").replace("{backend: red}", "{backend: rde}")

    assert 'config.yaml:10:26 models.a.backends[0].backend: no backends component is named "rde"' in only(
        text, KEY | {"M": "a"}
    )
    assert "config.yaml:9:3 models: variable M is not set" in only(text)


def test_what_is_empty_is_named_by_its_variable():
    """Who starts a preset sees variables, not the file."""
    said = only(BASE.replace('"${API_KEY}"', '"${NONE:-${API_KEY}}"'), {"API_KEY": ""})

    assert said.endswith("(empty here: NONE, API_KEY)")


def test_models_whose_variables_are_empty_are_an_honest_nothing():
    """The gateway starts and says so: the seeds did, and listed a model that did not exist."""
    made = configured(BASE.replace("flux:", "'${M}':"), KEY | {"M": ""})

    assert made.settings.models == {}
    assert "models: every name is a variable, and all are empty: ${M}" in made.warnings


@pytest.mark.parametrize(
    ("value", "steps"), [("8", 8), (" 6 steps", 6), ("0", 3), ("", 3), ("many", 3), ("-2", 3), ("2.9", 2), ("007", 7)]
)
def test_whole_numbers_are_read_leniently_where_asked(value: str, steps: int):
    """${int:NAME:-3} reads as the programs did that these variables come from."""
    text = BASE.replace("use: toy_paint", "use: toy_paint, steps: '${int:S:-3}'")

    assert configured(text, KEY | {"S": value}).components["backends"]["red"].steps == steps


# A2: never open by accident


@pytest.mark.parametrize(
    ("section", "environ", "said"),
    [
        ("", {}, "config.yaml:1:1 authenticators: none configured"),
        (
            "authenticators:\n",
            {},
            "config.yaml:2:1 authenticators: none configured",
        ),
        (
            "authenticators: {}\n",
            {},
            "config.yaml:2:17 authenticators: none configured",
        ),
        ("authenticators: []\n", {}, "authenticators: (none configured|expected a mapping)"),
        ("authenticators: no\n", {}, "authenticators: (none configured|expected a mapping)"),
        ("authenticators: {a: {use: toy_lock}}\n", {}, "config.yaml:2:.* authenticators.a.keys: missing"),
        (
            "authenticators: {a: {use: toy_lock, keys: }}\n",
            {},
            "config.yaml:2:.* authenticators.a.keys: expected a list",
        ),
        ("authenticators: {a: {use: toy_lock, keys: []}}\n", {}, "config.yaml:2:.* keys: at least one is needed"),
        ("authenticators: {a: {use: toy_lock, keys: ['']}}\n", {}, "config.yaml:2:.* a key is empty"),
        ("authenticators: {a: {use: toy_lock, keys: ''}}\n", {}, "config.yaml:2:.* a key is empty"),
        ("authenticators: {a: {use: toy_lock, keys: ['${K}']}}\n", {}, "config.yaml:2:.* variable K is not set"),
        ("authenticators: {a: {use: toy_lock, keys: ['${K}']}}\n", {"K": ""}, "config.yaml:2:.* a key is empty"),
        ("authenticators: {a: {use: toy_lock, keys: '${K:-}'}}\n", {}, "config.yaml:2:.* a key is empty"),
        (
            "authenticators: {a: {use: toy_lock, keys: ['${K}']}}\n",
            {"K": " , ,"},
            "config.yaml:2:.* a key is empty",
        ),
        ("auth: {kind: none}\n", {}, 'auth: unknown key; .*"authenticators"'),
    ],
)
def test_a_gateway_never_runs_open_by_accident(section: str, environ: dict[str, str], said: str):
    """No authenticator, no key, an empty key, an unset variable: refused with place and hint."""
    text = re.sub(r"authenticators:\n.*\n", section, BASE)

    assert any(re.search(said, line) for line in complaints(text, environ))


# references


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("backend: red", "backend: rad", r'10:\d+ models.flux.backends\[0\].backend: no backends .*"rad".*mean "red"'),
        ("[{backend: red}]", "[]", r"10:\d+ models.flux.backends: empty"),
        ("backend: red", 'backend: ""', r'10:\d+ models.flux.backends\[0\].backend: no backends .*""'),
        ("backend: red", "backend: 7", r'10:\d+ models.flux.backends\[0\].backend: no backends .*"7"'),
        ("[{backend: red}]", "[{backend: red}]\n    storage: 1.10", '11:14 models.flux.storage: no storages .*"1.10"'),
        ("[{backend: red}]", "[{backend: red}]\n    optimizers: [1]", r'flux.optimizers\[0\]: no .*"1"'),
        ("[{backend: red}]", "[{backend: red}]\n    middlewares: 5", "flux.middlewares: expected a list, found 5"),
        ("[{backend: red}]", "[{backend: red, weight: .inf}]", r"backends\[0\].weight: .* number"),
        ("[{backend: red}]", '[{backend: red, price: "inf"}]', r"backends\[0\].price: should be a finite number"),
        (
            "[{backend: red}]",
            "[{backend: red}]\n    defaults: {guidance: 'nan'}",
            "guidance: should be a finite number",
        ),
        ("[{backend: red}]", "[{backend: red}]\n    storage: pics", '11:14 models.flux.storage: no storages .*"pics"'),
        ("[{backend: red}]", "[{backend: red}]\n    optimizers: [a]", r"11:\d+ models.flux.optimizers\[0\]: no opt"),
        ("[{backend: red}]", "[{backend: red}]\n    middlewares: [a]", r"11:\d+ models.flux.middlewares\[0\]: no mid"),
        ("[{backend: red}]", "[{backend: red}]\n    aliases: [flux]", r'aliases\[0\]: "flux" is already the name of'),
        (
            "{use: toy_shelf}",
            "{use: toy_shelf}\n  more: {use: toy_shelf}",
            "models.flux.storage: missing, .*pictures, more",
        ),
        ("{use: toy_shelf}", "{use: toy_stack, tiers: [disk]}", "7:13 storages.pictures: no storage is named disk"),
        ("  pictures: {use: toy_shelf}\n", "", "storages: none configured"),
        ("models:\n", "unknown_model: default\nmodels:\n  b: {backends: [{backend: red}]}\n", "needs default_model"),
        ("  flux:\n    backends: [{backend: red}]\n", "", "models: none configured"),
        ("toy_paint", "toy_piant", 'backends.red.use: unknown type "toy_piant"; known: toy_paint; did you mean'),
        ("toy_paint", "toy_shelf", "toy_shelf belongs under storages"),
    ],
)
def test_a_dangling_name_is_found_before_the_start(old: str, new: str, said: str):
    """Names of components and types must exist."""
    assert re.search(said, only(BASE.replace(old, new)))


def test_a_component_may_be_made_of_others_of_its_kind():
    """After all of a kind exist, those that ask for it are shown their siblings."""
    text = BASE.replace(
        "{use: toy_shelf}", "{use: toy_stack, tiers: 'a, b'}\n  a: {use: toy_shelf}\n  b: {use: toy_shelf, ttl: 1h}"
    )
    storages = configured(text.replace("red}]", "red}]\n    storage: pictures")).components["storages"]

    assert storages["pictures"].shelves == [storages["a"], storages["b"]]


def test_numbers_may_name_components_in_a_recipe():
    """They are names as the file has them."""
    text = BASE.replace("red: {use: toy_paint}", "7: {use: toy_paint}").replace("backend: red", "backend: 7")
    text = text.replace("pictures: {use: toy_shelf}", "1.10: {use: toy_shelf}\n  2: {use: toy_shelf}")
    recipe = configured(text.replace("7}]", "7}]\n    storage: 1.10")).settings.models["flux"]

    assert (recipe.backends[0].backend, recipe.storage) == ("7", "1.10")


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ('["${NONE:-}"]', ()),
        ('"${NONE:-}"', ()),
        ('["a, b"]', ("a", "b")),
        ('["a", "${NONE:-}", "b"]', ("a", "b")),
        ('"${BOTH}"', ("a", "b")),
    ],
)
def test_a_list_of_names_may_come_from_a_variable(listed: str, names: tuple[str, ...]):
    """Empty means none, and commas stand between several, in the list and instead of it."""
    text = BASE.replace("backends:\n", "optimizers: {a: {use: toy_prefix}, b: {use: toy_prefix}}\nbackends:\n", 1)
    text = text.replace("red}]", f"red}}]\n    optimizers: {listed}")

    assert configured(text, {**KEY, "BOTH": "a,b"}).settings.models["flux"].optimizers == names


@pytest.mark.parametrize("name", ["flux[dev]", "a?", "[x"])
def test_a_default_model_may_have_brackets_in_its_name(name: str):
    """A name is itself, before it is a pattern."""
    text = BASE.replace("flux:", f'"{name}":') + f'default_model: "{name}"\n'

    assert configured(text).settings.default_model == name


def test_a_default_model_may_match_a_pattern_or_an_alias():
    """Wildcard routes and aliases are names, too."""
    text = BASE.replace("flux:", "flux-*:").replace("red}]", "red}]\n    aliases: [dall-e-3]")

    assert configured(text + "default_model: flux-pro\n").settings.default_model == "flux-pro"
    assert configured(text + "default_model: dall-e-3\n").settings.default_model == "dall-e-3"


@pytest.mark.parametrize(
    ("models", "default", "said"),
    [
        ("flux-*:", "flux-*", 'default_model: no model is named "flux-\\*"; a pattern is no model'),
        ("flux-*:", "flux-", 'default_model: no model is named "flux-"; known: flux-'),
        ("flux-?:", "flux-1", 'default_model: no model is named "flux-1"; known: flux-'),
    ],
)
def test_a_default_model_that_no_call_could_name_is_refused(models: str, default: str, said: str):
    """Every call without a model would be an error."""
    assert re.search(said, only(BASE.replace("flux:", models) + f'default_model: "{default}"\n'))


def test_a_pattern_stands_in_for_no_unknown_model():
    """Nobody would know by which name it should be drawn."""
    line = only(BASE.replace("flux:", "flux-*:") + "unknown_model: default\n")

    assert "unknown_model: default needs default_model" in line


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("[{name: alice, key: abcdefgh, modles: [x]}]", 'keys[0].modles: unknown key; known: .*did you mean "models"'),
        ("{nam: a, key: abcdefgh}", 'keys: unknown key; known: .*did you mean "name"'),
        ("['k1,k2', {nam: a, key: abcdefgh}, {name: z, key: ijklmnop}]", 'keys: unknown key; .*did you mean "name"'),
    ],
)
def test_a_mistyped_option_of_a_key_has_its_own_alternatives(keys: str, said: str):
    """Where texts were split on commas, no innocent entry is named."""
    text = f"authenticators: {{k: {{use: api_keys, keys: {keys}}}}}\n" + BASE.partition("\n")[2]
    text = text.replace('authenticators:\n  door: {use: toy_lock, keys: ["${API_KEY}"]}\n', "")
    document = load(Path("config.yaml"), text, KEY)
    with pytest.raises(ConfigError) as caught:
        settings_of(document, discover([TOY]))
    found = [line for line in caught.value.complaints if "unknown key" in line]

    assert len(found) == 1
    assert re.search(re.escape(said.partition(";")[0]) + said[said.index(";") :], found[0])


def test_a_stage_that_is_none_is_told(tmp_path: Path):
    """A middleware would stand around nothing, and nobody would know."""
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass, field\nfrom gateway import hookimpl\n"
        "@dataclass\nclass Mine:\n    stages: tuple[str, ...] = field(init=False, default=('store', 'genrate'))\n"
        "    async def around(self, stage, work, proceed): ...\n"
        "@hookimpl\ndef provide_middlewares():\n    return {'mine': Mine}\n"
    )
    text = BASE.replace("]", ", ./mine.py]", 1) + "middlewares: {m: {use: mine}}\n"
    with pytest.raises(ConfigError, match="stages: genrate is none; known: attempt, generate, job, optimize, store"):
        configured(text, path=tmp_path / "config.yaml")


@pytest.mark.parametrize("stages", ["'job'", "('job', 'store')", "['attempt']", "frozenset({'generate'})"])
def test_stages_may_be_written_in_any_way(tmp_path: Path, stages: str):
    """What holds the names of stages is good."""
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom gateway import hookimpl\n"
        f"@dataclass\nclass Mine:\n    stages = {stages}\n    async def around(self, stage, work, proceed): ...\n"
        "@hookimpl\ndef provide_middlewares():\n    return {'mine': Mine}\n"
    )
    text = BASE.replace("]", ", ./mine.py]", 1) + "middlewares: {m: {use: mine}}\n"

    assert configured(text, path=tmp_path / "config.yaml").components["middlewares"]["m"]


def test_an_empty_path_is_not_the_folder_of_the_file():
    """As an empty variable leaves it: none where there need be none, else a complaint."""
    line = only(BASE.replace("use: toy_paint", 'use: toy_paint, root: "${NONE:-}"'))
    diary = configured(BASE + 'observers: {d: {use: toy_diary, file: "${NONE:-}"}}\n').components["observers"]["d"]

    assert line == "config.yaml:5:31 backends.red.root: empty; name a file or a folder (empty here: NONE)"
    assert diary.file is None


@pytest.mark.parametrize("inside", [[], ["notes.txt"], ["_hidden.py"], ["data/x.txt"]])
def test_a_folder_without_a_plugin_is_told(tmp_path: Path, inside: list[str]):
    """It was named for a reason."""
    for name in ("mine", *(f"mine/{file}" for file in inside)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("") if "." in path.name else path.mkdir(exist_ok=True)
    text = BASE.replace("]", ", ./mine]", 1)

    with pytest.raises(ConfigError, match=r"plugins\[1\]: there is no plugin in this folder"):
        configured(text, path=tmp_path / "config.yaml")


def test_an_empty_variable_names_no_plugin():
    """It is not the folder of the file, whose every Python file would run."""
    text = BASE.replace("]", ', "${NONE:-}"]', 1)

    assert plugin_files(load(Path("config.yaml"), text, KEY)) == [TOY]


@pytest.mark.parametrize(
    ("path", "said"), [("a" * 300, "File name too long"), ("~nobody-of-this-name/x.py", "no home folder is known")]
)
def test_a_plugin_s_path_that_is_none_is_told(path: str, said: str):
    """With its place, and not by a traceback."""
    document = load(Path("config.yaml"), BASE.replace("]", f', "{path}"]', 1), KEY)
    plugin_files(document)

    assert [line for line in document.lines() if "plugins[1]: " in line and said in line]


def test_paths_inside_of_options_are_relative_too(tmp_path: Path):
    """However deep they lie."""
    (tmp_path / "deep.py").write_text(
        "from dataclasses import dataclass, field\nfrom pathlib import Path\nfrom gateway import hookimpl\n"
        "@dataclass(frozen=True)\nclass Inner:\n    file: Path = Path('default')\n    more: tuple[Path, ...] = ()\n"
        "@dataclass\nclass Deep:\n    inner: Inner = field(default_factory=Inner)\n"
        "    async def observe(self, event): ...\n"
        "@hookimpl\ndef provide_observers():\n    return {'deep': Deep}\n"
    )
    text = BASE.replace("]", ", ./deep.py]", 1) + "observers: {d: {use: deep, inner: {file: a, more: [b, /c]}}}\n"
    inner = configured(text, path=tmp_path / "config.yaml").components["observers"]["d"].inner

    assert (inner.file, inner.more) == (tmp_path / "a", (tmp_path / "b", Path("/c")))


def test_paths_are_relative_to_the_file(tmp_path: Path):
    """Where the gateway is started from does not matter; plugins are found the same way."""
    (tmp_path / "mine.py").write_text(TOY.read_text())
    text = BASE.replace(str(TOY), "./mine.py").replace("use: toy_paint", "use: toy_paint, root: sub/dir")
    made = configured(text, path=tmp_path / "config.yaml")

    assert made.components["backends"]["red"].root == tmp_path / "sub/dir"


def test_an_unused_component_is_a_warning():
    """It is probably a typo elsewhere, but nothing is broken."""
    text = BASE.replace("red: {use: toy_paint}", "red: {use: toy_paint}\n  blue: {use: toy_paint}")

    assert configured(text).warnings == ("backends.blue is not used by any model",)


def test_keys_that_everybody_can_read_are_a_warning(tmp_path: Path):
    """A file with literal keys should be its owner's alone (N7)."""
    path = tmp_path / "config.yaml"
    path.write_text(BASE.replace("${API_KEY}", "sk-literal"))
    path.chmod(0o644)
    open_to_all = load(path).warnings
    path.chmod(0o600)

    assert len(open_to_all) == 1
    assert load(path).warnings == []


# N12: whatever is changed, never a traceback


def _places(tree: Any) -> list[tuple[Any, Any]]:
    inner = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    return [(tree, key) for key, _ in inner] + [place for _, item in inner for place in _places(item)]


VALID: dict[str, Any] = {
    "server": {"host": "::1", "port": 1, "origins": ["*"], "keep_alive": "75s"},
    "plugins": [str(TOY)],
    "chat": {"language": "de", "ratios": {"5:4": "640x512"}, "progress": "off"},
    "authenticators": {"door": {"use": "toy_lock", "keys": ["${API_KEY}"]}},
    "middlewares": {"gate": {"use": "toy_gate", "images": "20/minute"}},
    "optimizers": {"better": {"use": "toy_prefix", "words": "a, b"}},
    "backends": {"red": {"use": "toy_paint", "wire": {"connect": "5s"}, "size": "64x64", "root": "x"}},
    "storages": {"top": {"use": "toy_stack", "tiers": ["low"]}, "low": {"use": "toy_shelf", "ttl": "1h"}},
    "observers": {"diary": {"use": "toy_diary"}},
    "models": {"flux": {"backends": [{"backend": "red", "weight": 2}], "storage": "top", "defaults": {"seed": 4}}},
    "default_model": "flux",
}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(blacklist_categories=("Cs",)), max_size=12),
    st.sampled_from(["${", "${X}", "$", "${file:/}", "-1s", "1/hour", "0x0", "*", "a,b", "\x00", "red", "toy_shelf"]),
    st.just([]),
    st.just({}),
    st.lists(st.integers() | st.text("ab, ", max_size=3), max_size=3),
    st.dictionaries(st.text("abuse ", max_size=4), st.integers() | st.none(), max_size=2),
)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_mutated_configuration_never_gives_a_traceback(data: st.DataObject):
    """One or two values, keys or whole sections replaced or removed: it loads, or complains with places."""
    tree = copy.deepcopy(VALID)
    for _ in range(data.draw(st.integers(1, 2))):
        container, key = data.draw(st.sampled_from(_places(tree)))
        action = data.draw(st.sampled_from(["replace", "remove", "rename"]))
        value = container.pop(key) if action != "replace" else None
        if action == "replace":
            container[key] = data.draw(VALUES)
        elif action == "rename" and isinstance(container, dict):
            container[data.draw(st.text("abc*$ ", max_size=5))] = value
        if not _places(tree):
            break
    try:
        configured(json.dumps(tree))
        lines: tuple[str, ...] = ()
    except ConfigError as error:
        lines = error.complaints or ("no complaint",)

    assert all(re.match(r"config\.yaml:\d+:\d+ ", line) for line in lines)


@settings(max_examples=200, deadline=None)
@given(
    start=st.integers(0, len(BASE)),
    length=st.integers(0, 30),
    text=st.text("{}[]:,&*!|>'\"#%@`\n\t -?ab0é\x00", max_size=6),
)
def test_mutated_text_never_gives_a_traceback(start: int, length: int, text: str):
    """The same for the characters of the file."""
    try:
        configured(BASE[:start] + text + BASE[start + length :])
        lines: tuple[str, ...] = ()
    except ConfigError as error:
        lines = error.complaints or ("no complaint",)

    assert all(re.match(r"config\.yaml:\d+:\d+ |plugin ", line) for line in lines)


def test_origins_that_are_no_web_pages_are_known():
    """Applications on a desktop or a phone, files, and extensions of browsers have origins of their own."""
    origins = ["null", "tauri://localhost", "chrome-extension://abcdef", "http://localhost:3000"]

    assert configured(BASE + f"server: {{origins: {json.dumps(origins)}}}\n").settings.server.origins == tuple(origins)


@pytest.mark.parametrize(
    ("state", "placed"), [("./jobs.db", "/etc/gateway/jobs.db"), ("redis://h:6379/0", "redis://h:6379/0")]
)
def test_the_file_of_finished_jobs_lies_beside_the_configuration(state: str, placed: str):
    """Relative to the file, as all paths, and not to wherever the gateway was started."""
    made = configured(BASE + f"jobs: {{state: '{state}'}}\n", path=Path("/etc/gateway/config.yaml"))

    assert str(made.settings.jobs.state) == placed


def test_a_utf8_mark_at_the_start_is_no_part_of_the_text(tmp_path: Path):
    """Windows editors write one."""
    path = tmp_path / "config.yaml"
    path.write_text("\ufeff" + BASE, encoding="utf-8")

    assert load(path, environ=KEY).lines() == ()
