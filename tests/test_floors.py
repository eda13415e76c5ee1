"""The floors of the house: imports point down, the core knows no plugin, and plugins know only the public face."""

from __future__ import annotations

import ast
import configparser
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import gateway

ROOT = Path(__file__).parent.parent

FLOORS: dict[str, str] = {
    "values": (
        "addresses capabilities deadline document errors hints openapi_examples openapi_schema receipt redis_url "
        "sniffing usage values variables watchdog wording"
    ),
    "contracts": "contracts options settings",
    "pieces": (
        "abilities authenticating breaker calls care conditions copy_links cors counters data_urls decoding derive "
        "door exchange fairness fetch file_counters folder_notes framing guard hookspecs images imaging inputs "
        "journey keyring memory names negotiate object_body object_errors object_signatures object_store observing "
        "outage picture_entries picture_files picture_sweep pictures places plain_files polling probing promises "
        "prompt redis_counters references retouch retrying serving shared_counters signing sizes spool spool_folder "
        "state storage_calls task_prompts tasks texts torn_requests transforms troubles tuning upstream validation "
        "verdict yaml_source"
    ),
    "public face": "__init__",
    "jobs and plugins": "admission claims finished job job_records jobs registry routing targets unstored",
    "pipeline and configuration": (
        "asking collection components config drawn generation late_storing pipeline reaching schema storing"
    ),
    "runtime": "runtime",
    "endpoints": (
        "explain middleware openapi openapi_answers openapi_fields openapi_headers openapi_operations webhooks "
        "endpoints.*"
    ),
    "app": "app",
    "process": "connections log_lines server",
    "command line": "commands.* cli",
}
"""From the ground up. A file imports from lower floors; from its own only what does not lead back to it."""

SHARED_BY_ENDPOINTS = (
    "answers body chat_body fields image_answers inputs job_answers paging patience picture_fields pieces sending sse "
    "submitting waiting"
)
"""What endpoints may take from each other's floor; an endpoint itself is imported by the app alone."""

STORED = {"pictures": "image", "picture_links": "pictures", "stored": "image image_proxy picture_links pictures"}
"""`stored` joins the three endpoints of stored pictures to the runtime, which these do not know."""


def modules(folder: str, package: str) -> dict[str, Path]:
    """Name every module of a package as it is imported, without the package's own name."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    names = [".".join(path.relative_to(ROOT / folder).with_suffix("").parts) for path in paths]
    assert names, f"no modules of {package} under {folder}"
    return {
        name if name == "__init__" else name.removesuffix(".__init__"): path
        for name, path in zip(names, paths, strict=True)
    }


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (module, name) for everything a file imports anywhere in it; the name is empty for ``import module``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)


CORE = modules("gateway", "gateway")
PLUGINS = modules("plugins", "gateway_plugins")


def wanted_by(name: str) -> set[str]:
    """Give the modules of the core that one of them imports."""
    found = set()
    for module, imported in imports(CORE[name]):
        assert not module.startswith("."), f"gateway/{name}: imports are absolute"
        if module == "gateway" or module.startswith("gateway."):
            short = module.removeprefix("gateway").removeprefix(".")
            inner = f"{short}.{imported}".removeprefix(".")
            found.add(inner if inner in CORE else short or "__init__")
    return found


def floor_of(name: str) -> int:
    """Find the floor of a module of the core."""
    section = name.split(".")[0]
    for number, residents in enumerate(FLOORS.values()):
        if name in residents.split() or f"{section}.*" in residents.split():
            return number
    pytest.fail(
        f"gateway/{name}.py has no floor; add it to FLOORS in {Path(__file__).name}, as low as its imports allow"
    )


@pytest.mark.parametrize("name", CORE)
def test_imports_point_down(name: str):
    """A module imports from its own floor or a lower one, and every import is on a floor."""
    above = [other for other in sorted(wanted_by(name)) if floor_of(other) > floor_of(name)]

    assert above == [], f"gateway/{name}.py imports from higher floors"


def test_no_import_leads_back():
    """Within a floor, too, there is no circle."""
    try:
        order = list(TopologicalSorter({name: wanted_by(name) for name in CORE}).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' → '.join(error.args[1])}")

    assert set(order) == set(CORE)


def test_no_resident_of_a_floor_has_moved_out():
    """The table lists only files that exist."""
    residents = {name for residents in FLOORS.values() for name in residents.split() if "*" not in name}

    assert residents - set(CORE) == set()


@pytest.mark.parametrize("name", [name for name in CORE if name.startswith("endpoints.")])
def test_endpoints_do_not_import_each_other(name: str):
    """What several of them need stands in a file of its own."""
    short = name.removeprefix("endpoints.")
    others = {other.removeprefix("endpoints.") for other in wanted_by(name) if other.startswith("endpoints.")}
    parts = {other for other in others if other.startswith(f"{short.partition('_')[0]}_")}

    assert others - parts - set(SHARED_BY_ENDPOINTS.split()) - set(STORED.get(short, "").split()) == set()


@pytest.mark.parametrize("name", CORE)
def test_the_core_knows_no_plugin(name: str):
    """Built-in plugins are found by entry points, like anybody's."""
    known = [module for module, _ in imports(CORE[name]) if module.split(".")[0] in {"gateway_plugins", "plugins"}]

    assert known == []


@pytest.mark.parametrize("name", CORE)
def test_the_core_does_not_use_its_own_public_face(name: str):
    """It would import everything at once, in circles."""
    assert "__init__" not in wanted_by(name)


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_knows_only_the_public_face(name: str):
    """``from gateway import name`` with names of ``__all__``, and parts of its own package."""
    own = ".".join(["gateway_plugins", *name.split(".")[:2]])
    has_parts = (ROOT / "plugins").joinpath(*name.split(".")[:2], "__init__.py").is_file()
    faults = []
    for module, imported in imports(PLUGINS[name]):
        if module.startswith("gateway."):
            faults.append(f"{module} is not public; export {imported or module} in gateway/__init__.py")
        elif module == "gateway" and imported not in gateway.__all__:
            faults.append(f"gateway.__all__ has no {imported or 'module to be used whole'}")
        elif module.startswith("gateway_plugins") and not f"{module}.{imported}.".startswith(f"{own}."):
            faults.append(f"{module} is another plugin's")
        elif module.startswith("..") or (module.startswith(".") and not has_parts):
            faults.append(f"{module} leads out of the plugin's own package")

    assert faults == []


def test_the_public_face_has_what_it_promises():
    """Every name of __all__ is there, and there once."""
    assert [name for name in gateway.__all__ if not hasattr(gateway, name)] == []
    assert len(gateway.__all__) == len(set(gateway.__all__))


def test_only_one_file_makes_a_plugin_manager():
    """pluggy is asked once, at start."""
    makers = [name for name, path in CORE.items() if "PluginManager(" in path.read_text(encoding="utf-8")]

    assert makers == ["registry"]


def test_every_package_is_installed():
    """A folder that setup.cfg does not list works in the checkout and is missing in the wheel."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = set(setup["options"]["packages"].split())
    roots = {"gateway": "gateway", "plugins": "gateway_plugins", "presets": "gateway_presets"}
    there = {
        ".".join([package, *path.parent.relative_to(ROOT / folder).parts])
        for folder, package in roots.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }

    assert listed == there


@pytest.mark.parametrize("path", [*CORE.values(), *PLUGINS.values()], ids=lambda path: path.stem)
def test_nothing_forks(path: Path) -> None:
    """A forked child hangs on the object store's client; one process serves, and threads do what is slow."""
    text = path.read_text(encoding="utf-8")

    assert "multiprocessing" not in {module.split(".")[0] for module, _ in imports(path)}
    assert "os.fork" not in text
    assert "ProcessPoolExecutor" not in text
