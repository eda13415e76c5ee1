"""``image-gateway check``: the verdict that ``serve`` would give, and what every model would do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import click

from gateway.commands.source import CONFIG_EXIT, config_options, read_configuration
from gateway.config import Configuration
from gateway.reaching import complaints
from gateway.settings import ModelSettings, TargetSettings

_GOOD = "The configuration is good."


@click.command()
@config_options
@click.option("--strict", is_flag=True, help="Refuse if any plugin cannot be loaded.")
@click.option("--connect", is_flag=True, help="Also open every component, and write, read and delete in each storage.")
def check(config: Path | None, preset: str | None, strict: bool, connect: bool) -> None:
    """Check CONFIG without starting anything, and show the way of a request through each model.

    Upstreams are asked for nothing, with --connect neither: a picture would have to be paid.
    """
    configuration = read_configuration(config, preset, strict=strict)
    for warning in configuration.warnings:
        click.echo(f"warning: {warning}", err=True)
    for line in effective(configuration):
        click.echo(line)
    if connect and (wrong := asyncio.run(complaints(configuration))):
        for line in wrong:
            click.echo(line, err=True)
        raise SystemExit(CONFIG_EXIT)
    click.echo("The configuration is good, and what it names can be reached." if connect else _GOOD)


def effective(configuration: Configuration) -> Iterator[str]:
    """Tell in order what a request meets; only names are shown, never an option, so no secret can be among them."""
    for kind in ("authenticators", "observers"):
        if names := list(configuration.components[kind]):
            yield f"{kind}: {_named(configuration, kind, names)}"
    default = configuration.settings.default_model
    for name, recipe in configuration.settings.models.items():
        yield ""
        aliases = f" (also {', '.join(recipe.aliases)})" if recipe.aliases else ""
        yield f"model {name}{aliases}{', the default' if name == default else ''}"
        yield from (f"  {line}" for line in _recipe(configuration, recipe))
    yield ""


def _recipe(configuration: Configuration, recipe: ModelSettings) -> Iterator[str]:
    for name in recipe.middlewares:
        stages = configuration.components["middlewares"][name].stages
        around = stages if isinstance(stages, str) else ", ".join(stages)
        yield f"middleware {_named(configuration, 'middlewares', [name])} around {around or 'nothing'}"
    for name in recipe.optimizers:
        yield f"optimizer {_named(configuration, 'optimizers', [name])}"
    for target in recipe.backends:
        yield f"backend {_named(configuration, 'backends', [target.backend])}{_target(target)}"
    storage = recipe.storage or next(iter(configuration.components["storages"]))
    yield f"storage {_named(configuration, 'storages', [storage])}"


def _target(target: TargetSettings) -> str:
    model = f", model {target.model}" if target.model else ""
    return f"{model}, " + (f"weight {target.weight:g}" if target.weight else "only when the others cannot")


def _named(configuration: Configuration, kind: str, names: list[str]) -> str:
    return ", ".join(f"{name} ({configuration.uses[kind][name]})" for name in names)
