"""The command line: ``image-gateway serve | check | explain | generate | …``."""

from __future__ import annotations

import sys
from io import TextIOWrapper

import click

from gateway.commands.check import check
from gateway.commands.explain import explain, generate
from gateway.commands.keys import keys
from gateway.commands.links import links
from gateway.commands.pictures import pictures
from gateway.commands.plugins import plugins
from gateway.commands.schema import schema
from gateway.commands.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="image-gateway")
def main() -> None:
    """One OpenAI-compatible endpoint and one key in front of many image models."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # Names of models may be in any script, and terminals know few.
            stream.reconfigure(errors="backslashreplace")


for command in (serve, check, schema, plugins, keys, links, pictures, explain, generate):
    main.add_command(command)
