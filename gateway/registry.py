"""The only plugin manager: finds plugins, asks each once which component types it has, and refuses broken promises."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from gateway import hookspecs
from gateway.errors import ConfigError
from gateway.hints import closest, known_words
from gateway.promises import broken_promises
from gateway.settings import KINDS

if TYPE_CHECKING:
    from aiohttp import web

GROUP = "image_gateway.plugins"
SHOWN = 3


@dataclass(frozen=True, slots=True)
class ComponentType:
    """A type of component: what ``use: name`` means in the section *kind*, and which plugin brought it."""

    kind: str
    name: str
    cls: type
    plugin: str
    source: str


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin that was found; *source* is its distribution or its file."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A plugin that could not be loaded, and why; the rest starts without it."""

    name: str
    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.source}): {self.reason}"


@dataclass(frozen=True)
class Registry:
    """The component types there are: kind → name → type."""

    types: Mapping[str, Mapping[str, ComponentType]]
    plugins: tuple[Plugin, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    disabled: tuple[str, ...] = ()
    hooks: pluggy.PluginManager = field(default_factory=lambda: pluggy.PluginManager(hookspecs.PROJECT), repr=False)

    def setup_app(self, app: web.Application) -> None:
        """Let every plugin that wants to add routes to *app*; raise ConfigError naming the one that fails."""
        for name, plugin in self.hooks.list_name_plugin():
            others = [other for _, other in self.hooks.list_name_plugin() if other is not plugin]
            try:
                self.hooks.subset_hook_caller("setup_app", others)(app=app)
            except (Exception, SystemExit) as error:
                raise ConfigError(f"plugin {name}: setup_app failed: {_reason(error)}") from error

    def modules(self) -> dict[str, str]:
        """Say which plugin's type each module holds."""
        return {each.cls.__module__: each.name for known in self.types.values() for each in known.values()}

    def unknown(self, kind: str, name: str) -> str:
        """Explain why there is no type *name* of *kind*, and what there is."""
        elsewhere = [other for other in KINDS if name in self.types[other]]
        words = [f'unknown type "{name}"; {known_words(name, self.types[kind])}']
        if elsewhere:
            words.append(f"{name} belongs under {' or '.join(elsewhere)}")
        if name in self.disabled:
            words.append("the plugin of this name is disabled")
        # Which plugin would have brought the type cannot be known; one with such a name most likely would.
        likely = [each for each in self.quarantined if closest(name, [each.name])] or self.quarantined
        if likely:
            more = f" and {len(likely) - SHOWN} more" if len(likely) > SHOWN else ""
            words.append(f"plugins that could not be loaded: {', '.join(map(str, likely[:SHOWN]))}{more}")
        elif not elsewhere:
            words.append("a plugin of yours must be installed (pip install) or named under plugins:")
        return "; ".join(words)


def discover(
    files: Sequence[Path] = (),
    *,
    disabled: Collection[str] = (),
    strict: bool = False,
    installed: Iterable[importlib.metadata.EntryPoint] | None = None,
) -> Registry:
    """Load the installed plugins and those in *files* (and folders); raise ConfigError with all broken promises.

    A plugin that cannot be imported is quarantined; with *strict* it is refused like the others.
    """
    loading = _Loading()
    for name, source, load in _candidates(files, installed):
        if name not in disabled:
            loading.load(name, source, load)
    loading.collect()
    if strict:
        loading.complaints += [f"plugin {each}" for each in loading.quarantined]
    if loading.complaints:
        raise ConfigError(loading.complaints)
    return Registry(
        loading.types, tuple(loading.plugins.values()), tuple(loading.quarantined), tuple(disabled), loading.hooks
    )


def _candidates(
    files: Sequence[Path], installed: Iterable[importlib.metadata.EntryPoint] | None
) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    points = importlib.metadata.entry_points(group=GROUP) if installed is None else installed
    for point in sorted(points, key=lambda point: point.name):
        source = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        yield point.name, source, point.load
    for path in files:
        for file in plugins_in(path):
            yield file.stem, str(file), lambda file=file: _load_file(file)  # type: ignore[misc]  # bound early


def plugins_in(path: Path) -> list[Path]:
    """Give the files and packages that *path* names: itself, or those in it if it is a folder and no package."""
    if not path.is_dir() or _is_package(path):
        return [path]
    return sorted(
        each for each in path.iterdir() if each.name[:1] not in "_." and (each.suffix == ".py" or _is_package(each))
    )


def _is_package(path: Path) -> bool:
    return (path / "__init__.py").is_file()


class _Source(importlib.machinery.SourceFileLoader):
    """Runs a file as it is now: a cached translation may be a second too old, and would lie beside the user's files."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError("not cached")


def _load_file(path: Path) -> ModuleType:
    """Import a file, or a folder that is a package, which is not on the import path."""
    entry = path / "__init__.py" if path.is_dir() else path
    name = f"image_gateway_plugin_{path.stem}_{abs(hash(str(path.absolute()))):x}"
    inside = [str(path)] if path.is_dir() else None
    loader = _Source(name, str(entry))
    spec = importlib.util.spec_from_file_location(name, entry, loader=loader, submodule_search_locations=inside)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it is still being run
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _Loading:
    """One round of discovery: what was found so far, and what is wrong with it."""

    def __init__(self) -> None:
        self.hooks = pluggy.PluginManager(hookspecs.PROJECT)
        self.hooks.add_hookspecs(hookspecs)
        self.plugins: dict[str, Plugin] = {}
        self.quarantined: list[Quarantined] = []
        self.complaints: list[str] = []
        self.types: dict[str, dict[str, ComponentType]] = {kind: {} for kind in KINDS}

    def load(self, name: str, source: str, load: Callable[[], Any]) -> None:
        if name in self.plugins:
            self.complaints.append(f"two plugins are named {name}: {self.plugins[name].source} and {source}")
            return
        try:
            plugin = load()
        except (Exception, SystemExit) as error:  # noqa: BLE001  - whatever a stranger's module does at import
            self.quarantined.append(Quarantined(name, source, _reason(error)))
            return
        try:
            self.hooks.register(plugin, name)
        except (pluggy.PluginValidationError, ValueError, AttributeError) as error:
            self.complaints.append(f"plugin {name} ({source}): {' '.join(str(error).split())}")
            return
        self.plugins[name] = Plugin(name, source)
        self._check_hooks(name, source, plugin)

    def collect(self) -> None:
        """Ask every plugin for its types, one by one, so that whoever fails is known."""
        for name, plugin in list(self.plugins.items()):
            others = [other for known, other in self.hooks.list_name_plugin() if known != name]
            hooks = {kind: self.hooks.subset_hook_caller(f"provide_{kind}", others) for kind in KINDS}
            try:
                answers = [(kind, answer) for kind, hook in hooks.items() for answer in hook()]
            except (Exception, SystemExit) as error:  # noqa: BLE001  - the same: its own code, run at start
                self.quarantined.append(Quarantined(name, plugin.source, _reason(error)))
                self.hooks.unregister(name=name)
                del self.plugins[name]
                continue
            for kind, answer in answers:
                self._add(kind, plugin, answer)

    def _check_hooks(self, name: str, source: str, plugin: object) -> None:
        known = [hook for hook in vars(hookspecs) if hook.startswith("provide_") or hook == "setup_app"]
        callers = self.hooks.get_hookcallers(self.hooks.get_plugin(name)) or []
        for caller in callers:
            if not caller.has_spec():
                self.complaints.append(
                    f"plugin {name} ({source}): unknown hook {caller.name}; {known_words(caller.name, known)}"
                )
        if inspect.iscoroutinefunction(getattr(plugin, "setup_app", None)):
            self.complaints.append(f"plugin {name} ({source}): setup_app must not be async; nobody would wait for it")
        hooked = {caller.name for caller in callers}
        bare = [hook for hook in known if hook not in hooked and inspect.isfunction(getattr(plugin, hook, None))]
        self.complaints += [f"plugin {name} ({source}): {hook} lacks @hookimpl from gateway" for hook in bare]
        if not hooked and not bare:
            reason = "has no hook; mark provide_backends() or another with @hookimpl"
            self.quarantined.append(Quarantined(name, source, reason))
            self.hooks.unregister(name=name)
            del self.plugins[name]

    def _add(self, kind: str, plugin: Plugin, answer: object) -> None:
        whose = f"plugin {plugin.name} ({plugin.source}): provide_{kind}"
        if not isinstance(answer, Mapping) or not all(isinstance(name, str) and name for name in answer):
            self.complaints.append(f"{whose} must return a mapping of names to types, not {type(answer).__name__}")
            if inspect.iscoroutine(answer):
                answer.close()
            return
        for name, cls in answer.items():
            faults = list(broken_promises(kind, cls))
            self.complaints += [f"{whose}: {name}: {fault}" for fault in faults]
            if other := self.types[kind].get(name):
                self.complaints.append(
                    f"two plugins have {kind} of type {name}: "
                    f"{other.plugin} ({other.source}) and {plugin.name} ({plugin.source})"
                )
            elif not faults:
                self.types[kind][name] = ComponentType(kind, name, cls, plugin.name, plugin.source)


def _reason(error: BaseException) -> str:
    """Say in one line what went wrong, with the line of the plugin's own file where it did."""
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    place = f" ({Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno})" if last else ""
    words = " ".join(str(error).split())[:300]
    hint = ""
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("gateway"):
        hint = f"; pip install {error.name.partition('.')[0]}"
    return f"{type(error).__name__}: {words}{hint}{place if '<frozen' not in place else ''}"
