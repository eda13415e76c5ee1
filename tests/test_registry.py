"""What the registry takes, what it refuses by name, and what it puts into quarantine."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from gateway.config import load, plugin_files, settings_of
from gateway.errors import ConfigError
from gateway.registry import Registry, discover
from gateway.validation import option_hints

TOY = Path(__file__).with_name("toy_plugin.py")
HEAD = "from dataclasses import dataclass\nfrom gateway import hookimpl\n"
OBSERVER = "@dataclass\nclass Watch:\n    async def observe(self, event): ...\n"
PROVIDE = "@hookimpl\ndef provide_observers():\n    return {'watch': Watch}\n"


def plugin(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / f"{name}.py"
    path.write_text(HEAD + text)
    return path


def providing(kind: str, body: str) -> str:
    return f"@dataclass\nclass A:\n    {body}\n@hookimpl\ndef provide_{kind}():\n    return {{'a': A}}\n"


def found(*files: Path, **options: bool) -> Registry:
    return discover(files, installed=(), **options)


def refusal(*files: Path, **options: bool) -> str:
    with pytest.raises(ConfigError) as caught:
        found(*files, **options)
    return caught.value.message


def test_a_file_is_a_plugin(tmp_path: Path):
    """One file with one dataclass and one hook is a whole plugin."""
    registry = found(plugin(tmp_path, OBSERVER + PROVIDE))

    assert registry.types["observers"]["watch"].plugin == "mine"
    assert registry.types["observers"]["watch"].source == str(tmp_path / "mine.py")
    assert registry.quarantined == ()


def test_a_folder_is_as_many_plugins_as_files(tmp_path: Path):
    """Files that begin with an underscore are parts, not plugins."""
    plugin(tmp_path, OBSERVER + PROVIDE, "one")
    plugin(tmp_path, OBSERVER + PROVIDE.replace("'watch'", "'other'"), "two")
    plugin(tmp_path, "raise SystemExit", "_part")

    assert list(found(tmp_path).types["observers"]) == ["watch", "other"]


def test_a_package_is_one_plugin(tmp_path: Path):
    """A folder with __init__.py may import its own parts."""
    package = tmp_path / "bundle"
    package.mkdir()
    plugin(package, OBSERVER, "parts")
    (package / "__init__.py").write_text(HEAD + "from .parts import Watch\n" + PROVIDE)

    assert found(package).types["observers"]["watch"].plugin == "bundle"


def test_packages_in_a_folder_are_plugins_too(tmp_path: Path):
    """Beside files; what begins with an underscore or a dot is none."""
    for name in ("first", "_none", ".git"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(HEAD + OBSERVER + PROVIDE.replace("watch", f"watch_{name}"))
    plugin(tmp_path, OBSERVER + PROVIDE, "second")
    registry = found(tmp_path)

    assert [each.name for each in registry.plugins] == ["first", "second"]
    assert set(registry.types["observers"]) == {"watch_first", "watch"}


def test_installed_plugins_are_found_by_entry_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The built-in ones and a stranger's distribution are found the same way."""
    plugin(tmp_path, OBSERVER + PROVIDE, "strangers_module")
    monkeypatch.syspath_prepend(tmp_path)
    point = importlib.metadata.EntryPoint("stranger", "strangers_module", "image_gateway.plugins")
    registry = discover(installed=[point])

    assert registry.types["observers"]["watch"].source == "strangers_module"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "import a_library_that_is_not_there",
            "ModuleNotFoundError: .*pip install a_library_that_is_not_there.*mine.py:3",
        ),
        ("1 / 0", r"ZeroDivisionError: division by zero \(mine.py:3\)"),
        ("def (", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from gateway import NoSuchName", "ImportError: .*NoSuchName"),
        ("@hookimpl\ndef provide_backends():\n    return NAME\n", r"NameError: .*\(mine.py:5\)"),
        ("x = 1", "has no hook"),
    ],
)
def test_a_broken_plugin_is_quarantined_and_the_rest_starts(tmp_path: Path, text: str, reason: str):
    """Its reason names the error and the line; nothing of it stays behind."""
    registry = found(plugin(tmp_path, text), TOY)

    (left_out,) = registry.quarantined
    assert re.search(reason, left_out.reason, re.DOTALL)
    assert "\n" not in str(left_out)
    assert "toy_paint" in registry.types["backends"]
    assert "mine" not in [each.name for each in registry.plugins]


def test_strict_refuses_what_would_be_quarantined(tmp_path: Path):
    """Then a missing library is found at the start, not when somebody asks for the plugin."""
    assert "plugin mine" in refusal(plugin(tmp_path, "1 / 0"), strict=True)


def test_a_failed_import_leaves_no_module_behind(tmp_path: Path):
    """A half-run module would be found by the next import."""
    before = set(sys.modules)
    found(plugin(tmp_path, "1 / 0"))

    assert {name for name in set(sys.modules) - before if "mine" in name} == set()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "@hookimpl\ndef provide_backend():\n    return {}\n",
            'unknown hook provide_backend; known: .*; did you mean "provide_backends"',
        ),
        ("@hookimpl\ndef setup_ap(app): ...\n", 'unknown hook setup_ap; .*did you mean "setup_app"'),
        ("@hookimpl\ndef provide_backends(config):\n    return {}\n", "provide_backends.*config"),
        ("def provide_backends():\n    return {}\n", "provide_backends lacks @hookimpl"),
        ("@hookimpl\ndef provide_backends():\n    return ['a']\n", "provide_backends must return a mapping .*not list"),
        ("@hookimpl\nasync def provide_backends():\n    return {}\n", "must return a mapping .*not coroutine"),
        ("@hookimpl\ndef provide_backends():\n    return {3: int}\n", "must return a mapping of names to types"),
        ("@hookimpl\ndef provide_backends():\n    return {'a': int}\n", "a: int must be a dataclass"),
        ("@hookimpl\ndef provide_backends():\n    return {'a': 5}\n", "a: must be a class, not int"),
        (providing("observers", "pass"), r"A lacks the method observe\(self, event\)"),
        (providing("observers", "def observe(self, event): ..."), "A.observe must be async"),
        (providing("observers", "async def observe(self): ..."), r"A.observe must take \(self, event\)"),
        (providing("middlewares", "async def around(self, stage, work, proceed): ..."), "A lacks stages"),
        (
            providing("observers", "async def __aenter__(self): ...\n    async def observe(self, e): ..."),
            "A has only one",
        ),
        (
            providing("observers", "wire: 'Nowhere' = 1\n    async def observe(self, e): ..."),
            "A: its options cannot be understood: NameError: name 'Nowhere' is not defined",
        ),
        (
            providing("observers", "when: str = 'noon'\n    async def observe(self, e): ..."),
            "A: an option cannot be named when",
        ),
        (
            providing("observers", "use: str = 'x'\n    async def observe(self, e): ..."),
            "A: an option cannot be named use",
        ),
        (providing("backends", "async def capabilities(self, model): ..."), "A.capabilities must not be a coroutine"),
    ],
)
def test_a_broken_promise_is_refused_by_name(tmp_path: Path, text: str, said: str):
    """Misspelt hooks, wrong arguments, missing or wrong methods: the plugin, its file and the fault are named."""
    message = refusal(plugin(tmp_path, text))

    assert re.search(said, message, re.DOTALL)
    assert message.startswith(f"plugin mine ({tmp_path / 'mine.py'}): ")


def test_a_frozen_middleware_is_one(tmp_path: Path):
    """Its stages need not be a field that can be set."""
    body = "stages = ('job',)\n    async def around(self, stage, work, proceed): ..."
    text = providing("middlewares", body).replace("@dataclass\n", "@dataclass(frozen=True)\n")

    assert found(plugin(tmp_path, text)).types["middlewares"]["a"]


def test_all_missing_methods_are_named_at_once(tmp_path: Path):
    """A storage without four of its methods is four lines."""
    text = providing("storages", "async def put(self, meta, data): ...")

    assert refusal(plugin(tmp_path, text)).count("lacks the method") == 4


def test_two_plugins_that_claim_one_type_are_refused(tmp_path: Path):
    """Both are named; which one wins is never left to chance."""
    one, two = (plugin(tmp_path, OBSERVER + PROVIDE, name) for name in ("one", "two"))
    message = refusal(one, two)

    assert message == f"two plugins have observers of type watch: one ({one}) and two ({two})"


def test_two_plugins_of_one_name_are_refused(tmp_path: Path):
    """The same file name in two folders."""
    (tmp_path / "other").mkdir()
    files = [plugin(tmp_path, OBSERVER + PROVIDE), plugin(tmp_path / "other", OBSERVER + PROVIDE)]

    assert refusal(*files) == f"two plugins are named mine: {files[0]} and {files[1]}"


def test_a_disabled_plugin_is_not_even_imported(tmp_path: Path):
    """Its type is unknown, and the explanation says why."""
    registry = discover([plugin(tmp_path, "1 / 0", "watch")], disabled=["watch"], installed=())

    assert registry.quarantined == ()
    assert "the plugin of this name is disabled" in registry.unknown("observers", "watch")


def test_an_unknown_type_names_the_plugins_that_could_not_be_loaded(tmp_path: Path):
    """Most likely one of these would have brought it."""
    path = plugin(tmp_path, "import a_library_that_is_not_there", "cloudy")
    text = (
        f'plugins: ["{path}", "{TOY}"]\nauthenticators: {{a: {{use: toy_lock, keys: [k]}}}}\n'
        "backends: {b: {use: cloudy}}\nstorages: {s: {use: toy_shelf}}\nmodels: {m: {backends: [{backend: b}]}}\n"
    )
    document = load(None, text, {})
    with pytest.raises(ConfigError) as caught:
        settings_of(document, discover(plugin_files(document), installed=()))

    (line,) = caught.value.complaints
    assert line.startswith('config.yaml:3:21 backends.b.use: unknown type "cloudy"; known: toy_paint')
    assert "plugins that could not be loaded: cloudy" in line
    assert "a_library_that_is_not_there" in line


def test_an_unknown_type_says_what_to_do():
    """Install it, or name its file."""
    assert "pip install" in found(TOY).unknown("backends", "something")


def test_a_plugin_may_add_routes(tmp_path: Path):
    """setup_app is called once with the application."""
    path = plugin(tmp_path, "@hookimpl\ndef setup_app(app):\n    app.router.add_static('/mine', '.')\n")
    app = web.Application()
    found(path).setup_app(app)

    assert [resource.canonical for resource in app.router.resources()] == ["/mine"]


@pytest.mark.parametrize("fault", ["raise KeyError('MY_SETTING')", "raise OSError(13, 'no')", "raise SystemExit(3)"])
def test_a_plugin_whose_routes_fail_is_named(tmp_path: Path, fault: str):
    """The start tells whose fault it is, and where."""
    path = plugin(tmp_path, f"@hookimpl\ndef setup_app(app):\n    {fault}\n")

    with pytest.raises(ConfigError, match=r"^plugin mine: setup_app failed: \w+: .*\(mine.py:5\)"):
        found(path).setup_app(web.Application())


def test_an_option_may_be_named_connect(tmp_path: Path):
    """Only storages are connected with each other."""
    body = "connect: float = 5\n    async def observe(self, event): ..."
    registry = discover([TOY, plugin(tmp_path, providing("observers", body))], installed=())
    text = """authenticators: {a: {use: toy_lock, keys: [abcdefgh]}}
backends: {b: {use: toy_paint}}
storages: {s: {use: toy_shelf}}
observers: {o: {use: a, connect: 7}}
models: {m: {backends: [{backend: b}]}}
"""

    assert settings_of(load(None, text, {}), registry).components["observers"]["o"].connect == 7


def test_each_round_of_discovery_is_its_own(tmp_path: Path):
    """A hot reload runs the changed file, and no state is shared."""
    path = plugin(tmp_path, OBSERVER + PROVIDE)
    first = found(path)
    path.write_text((HEAD + OBSERVER + PROVIDE).replace("'watch'", "'watched'"))
    second = found(path)

    assert list(first.types["observers"]) == ["watch"]
    assert list(second.types["observers"]) == ["watched"]


@pytest.mark.parametrize(
    "address", ["api.example.com/v1", "localhost:8080", "https://", "ftp://host/", "https://me:word@h/v1"]
)
def test_an_address_that_is_none_is_refused_at_the_start(address: str):
    """Of every built-in type: without its scheme it would fail at the first picture, and not say why."""
    types = [each.cls for found in discover().types.values() for each in found.values()]
    hints = [hint for cls in types for name, hint in option_hints(cls).items() if name in ("base_url", "endpoint")]

    assert len(hints) > 10
    for hint in hints:
        with pytest.raises(ValidationError, match="a URL"):
            TypeAdapter(hint).validate_python(address)
        assert TypeAdapter(hint).validate_python("http://10.0.0.5:7860/v1") == "http://10.0.0.5:7860/v1"
