"""``image-gateway plugins``: which plugins there are, what each brings, and why one was left out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from gateway.commands.source import CONFIG_EXIT, refuse
from gateway.config import load, plugin_files
from gateway.errors import ConfigError
from gateway.registry import Registry, discover

HEADS = ("KIND", "TYPE", "PLUGIN", "FROM", "STATE")


@click.group()
def plugins() -> None:
    """Plugins that are installed, or that a configuration names."""


@plugins.command("list")
@click.argument("config", required=False, type=click.Path(path_type=Path))
def list_plugins(config: Path | None) -> None:
    """List every type of component, and the plugins (those of CONFIG, too) that could not be loaded."""
    local = Path("config.yaml")
    path = config or (local if local.exists() else None)
    try:
        document = load(path, environ=os.environ) if path else None
        files = plugin_files(document) if document else []
        registry = discover(files)
    except ConfigError as error:
        refuse(error)
    for line in _table([HEADS, *_rows(registry)]):
        click.echo(line)
    for each in registry.quarantined:
        click.echo(f"could not be loaded: {each}", err=True)
    missing = [line for line in document.lines() if " plugins" in line] if document else []
    for line in missing:
        click.echo(line, err=True)
    if missing:
        raise SystemExit(CONFIG_EXIT)


def _rows(registry: Registry) -> Iterable[tuple[str, ...]]:
    for kind, types in registry.types.items():
        for each in sorted(types.values(), key=lambda each: each.name):
            yield kind, each.name, each.plugin, each.source, "ready"
    bringing = {each.plugin for types in registry.types.values() for each in types.values()}
    for plugin in registry.plugins:
        if plugin.name not in bringing:
            yield "-", "-", plugin.name, plugin.source, "ready"
    for left_out in registry.quarantined:
        yield "-", "-", left_out.name, left_out.source, f"quarantined: {left_out.reason}"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS) - 1)]
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
