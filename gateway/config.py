"""From a YAML file to everything it means, checked: settings, components, and all complaints at once."""

from __future__ import annotations

import dataclasses
import importlib.resources
import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from gateway.components import component_types, make_components, section
from gateway.conditions import Names, drop_unwanted, heed_checks, name_models, without
from gateway.document import Document
from gateway.errors import ConfigError
from gateway.hints import known_words
from gateway.references import check_presence, check_prices, check_references, unused
from gateway.registry import Registry, discover, plugins_in
from gateway.settings import KINDS, ModelSettings, Settings
from gateway.texts import make_template
from gateway.validation import InvalidError, anchored, option_hints, validate
from gateway.yaml_source import FILE_LIMIT, read_yaml

PRESETS = "gateway_presets"
MODEL_NAME = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,198}[^\s\x00-\x1f\x7f])?")


@dataclass(frozen=True)
class Configuration:
    """A whole configuration, ready to run; *components* are instances: kind → name → component."""

    settings: Settings
    components: Mapping[str, Mapping[str, Any]]
    registry: Registry
    warnings: tuple[str, ...] = ()
    path: Path | None = None
    uses: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The type behind each component: kind → name → what stands after ``use:``."""


def configure(
    path: Path | None = None,
    *,
    preset: str | None = None,
    environ: Mapping[str, str],
    strict: bool = False,
    disabled: Collection[str] = (),
) -> Configuration:
    """Read *path*, or the *preset* of that name, load the plugins and make all components; or raise ConfigError."""
    document = load(path, environ=environ) if path else load_preset(preset or "default", environ)
    files = plugin_files(document)
    try:
        registry = discover(files, disabled=disabled, strict=strict)
    except ConfigError as error:
        raise ConfigError([*document.lines(), *error.complaints]) from error
    return settings_of(document, registry)


def load(path: Path | None, text: str | None = None, environ: Mapping[str, str] | None = None) -> Document:
    """Read a file, or *text* as if it were one named *path*; complaints stay in the document."""
    path = path or Path("config.yaml")
    content = _read(path) if text is None else text.encode("utf-8", "surrogatepass")
    document = read_yaml(content, str(path), path.absolute().parent, environ or {})
    name_models(document, environ or {})
    if text is None:
        document.path = path
        if document.literal_secrets and path.stat().st_mode & stat.S_IROTH:
            document.warnings.append(f"{path}: everybody on this machine can read the keys in it; chmod 600 {path}")
    return document


def load_preset(name: str, environ: Mapping[str, str]) -> Document:
    """Read a packaged preset; its relative paths start at the working folder, since the package is not for writing."""
    document = read_yaml(preset_text(name).encode(), f"preset {name}", Path.cwd(), environ)
    name_models(document, environ)
    return document


def preset_text(name: str) -> str:
    """Give the YAML of a packaged preset."""
    folder = importlib.resources.files(PRESETS)
    known = {item.name.removesuffix(".yaml"): item for item in folder.iterdir() if item.name.endswith(".yaml")}
    if name not in known:
        raise ConfigError(f'no preset is named "{name}"; {known_words(name, known)}')
    return known[name].read_text("utf-8")


def plugin_files(document: Document) -> list[Path]:
    """Give the files and folders under ``plugins:``, relative to the configuration's folder."""
    try:
        paths = validate(document, ("plugins",), document.tree.get("plugins") or [], tuple[Path, ...])
    except InvalidError:
        return []
    files = []
    for index, path in enumerate(paths):
        steps = ("plugins", index)
        # A variable that is empty means no plugin, and not the folder of the file.
        if document.is_broken(steps) or document.part(steps) == "":
            continue
        try:
            files.append(_plugin_file(anchored(path, document.folder)))
        except ValueError as error:
            document.complain(steps, str(error))
        except OSError as error:
            document.complain(steps, f"cannot be read ({error.strerror})")
    return files


def _plugin_file(path: Path) -> Path:
    if path.is_dir() and not plugins_in(path):
        raise ValueError("there is no plugin in this folder: neither a Python file nor a package")
    if path.is_dir() or (path.is_file() and path.suffix == ".py"):
        return path
    raise ValueError("not a Python file" if path.exists() else "there is no such file or folder")


def settings_of(document: Document, registry: Registry) -> Configuration:
    """Check *document* against the settings and the registered types; raise ConfigError with every complaint."""
    dropped = drop_unwanted(document)
    heed_checks(document)
    known = [each.name for each in dataclasses.fields(Settings)] + [*KINDS, "plugins", "checks"]
    for key in document.tree:
        if key not in known:
            document.complain((key,), f"unknown key; {known_words(key, known)}", key=True)
    settings = _settings(document)
    _check_template(document, settings)
    names = {kind: list(section(document, kind)) for kind in KINDS}
    check_presence(document, names)
    check_references(document, settings, names, dropped)
    whole, settings = settings, _in_use(document, settings, dropped)
    types = {kind: component_types(document, registry, kind) for kind in KINDS}
    components = {kind: make_components(document, kind, types[kind], names[kind]) for kind in KINDS}
    check_prices(document, whole, components["middlewares"], dropped)
    if document.complaints:
        raise ConfigError(document.lines())
    left_out = [f"plugin left out: {each}" for each in registry.quarantined]
    uses = {kind: {name: each.name for name, each in types[kind].items()} for kind in KINDS}
    warnings = (*document.warnings, *left_out, *unused(settings, names))
    return Configuration(settings, components, registry, warnings, document.path, uses)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_LIMIT + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ConfigError(f"{path}: cannot be read ({reason})") from error


def _settings(document: Document) -> Settings:
    """Validate section by section and model by model, so that one broken part does not hide the others."""
    good: dict[str, Any] = {}
    for name, hint in option_hints(Settings).items():
        if name == "models" or name not in document.tree or document.tree[name] is None:
            continue
        try:
            good[name] = validate(document, (name,), document.tree[name], hint)
        except InvalidError:
            continue
    recipe = get_args(option_hints(Settings)["models"])[1]
    models = {}
    for name, value in section(document, "models").items():
        steps = ("models", name)
        if not MODEL_NAME.fullmatch(name):
            document.complain(steps, "a model's name is 1 to 200 characters without control characters", key=True)
        try:
            models[name] = validate(document, steps, value, recipe)
        except InvalidError:
            continue
    settings = Settings(**good, models=models)
    try:
        return dataclasses.replace(settings, jobs=anchored(settings.jobs, document.folder))
    except ValueError as error:
        document.complain(("jobs",), str(error))
        return settings


def _check_template(document: Document, settings: Settings) -> None:
    try:
        make_template(settings.chat.template, settings.chat.language)
    except ValueError as error:
        document.complain(("chat", "template"), str(error))


def _in_use(document: Document, settings: Settings, dropped: Names) -> Settings:
    """Leave out what depends on components that are left out, and models with nothing left to draw them."""
    models = {name: without(recipe, dropped) for name, recipe in settings.models.items()}
    unserved = [name for name, recipe in models.items() if settings.models[name].backends and not recipe.backends]
    why = {name: _unmet(document, settings.models[name]) for name in unserved}
    for name in unserved:
        del models[name]
        document.warnings.append(
            f"models.{name} is left out: the conditions of its backends do not hold{_named(why[name])}"
        )
    if unserved and not models:
        names = dict.fromkeys(name for each in why.values() for name in each)
        document.complain(("models",), f"all are left out: the conditions of their backends do not hold{_named(names)}")
    return dataclasses.replace(settings, models=models)


def _unmet(document: Document, recipe: ModelSettings) -> list[str]:
    """Name the variables that the backends of *recipe* miss: those are what the user of a preset can fill."""
    return [name for target in recipe.backends for name in document.unmet.get(("backends", target.backend), ())]


def _named(names: Collection[str]) -> str:
    return f" (empty here: {', '.join(names)})" if names else ""
