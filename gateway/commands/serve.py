"""``image-gateway serve``: reads the configuration and runs until it is told to stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from gateway.commands.source import config_options, read_configuration


@click.command()
@config_options
@click.option("--host", help="Listen on this address instead of the configured one.")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen on this port instead; 0 takes a free one.")
@click.option("--strict", is_flag=True, help="Refuse to start if any plugin cannot be loaded.")
def serve(config: Path | None, preset: str | None, host: str | None, port: int | None, strict: bool) -> None:
    """Start the gateway with CONFIG, a preset, ./config.yaml, or the embedded default."""
    configuration = read_configuration(config, preset, strict=strict)
    server = configuration.settings.server
    try:
        server = replace(server, host=server.host if host is None else host, port=server.port if port is None else port)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    settings = replace(configuration.settings, server=server)
    from gateway.server import run  # the web server takes half a second to import; the other commands need none

    raise SystemExit(run(replace(configuration, settings=settings)))
