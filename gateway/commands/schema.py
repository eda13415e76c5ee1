"""``image-gateway schema``: the JSON Schema of the YAML, with the options of every plugin that is there."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gateway.commands.source import refuse
from gateway.errors import ConfigError
from gateway.registry import discover
from gateway.schema import schema_of


@click.command()
@click.option(
    "--plugin", "files", multiple=True, type=click.Path(exists=True, path_type=Path), help="A file or folder."
)
def schema(files: tuple[Path, ...]) -> None:
    """Print the JSON Schema of a configuration, for editors that complete and check it."""
    try:
        registry = discover(files)
    except ConfigError as error:
        refuse(error)
    for each in registry.quarantined:
        click.echo(f"left out, since it could not be loaded: {each}", err=True)
    click.echo(json.dumps(schema_of(registry), indent=2, ensure_ascii=False))
