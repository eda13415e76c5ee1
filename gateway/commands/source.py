"""Which configuration a command means: the file it names, a preset, ./config.yaml, or the embedded default."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from gateway.config import Configuration, configure
from gateway.errors import ConfigError

CONFIG_EXIT = 78  # EX_CONFIG of sysexits.h: service managers know that a restart cannot help

Command = TypeVar("Command", bound=Callable[..., Any])


def config_options(command: Command) -> Command:
    """Give a command the argument CONFIG and the option --preset."""
    argument = click.argument("config", required=False, type=click.Path(path_type=Path))
    option = click.option("--preset", metavar="NAME", help="Use a packaged configuration instead of a file.")
    return argument(option(command))


def read_configuration(config: Path | None, preset: str | None, *, strict: bool = False) -> Configuration:
    """Read what the command line asks for; end the program with exit code 78 and every complaint if it is wrong."""
    if config and preset:
        raise click.UsageError("name a file or a preset, not both")
    local = Path("config.yaml")
    path = config or (local if preset is None and local.exists() else None)
    try:
        return configure(path, preset=preset, environ=os.environ, strict=strict)
    except ConfigError as error:
        refuse(error)


def refuse(error: ConfigError) -> NoReturn:
    """Print the complaints of *error* and end with exit code 78."""
    for line in error.complaints:
        click.echo(line, err=True)
    raise SystemExit(CONFIG_EXIT)
