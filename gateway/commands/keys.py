"""``image-gateway keys``: new API keys, of which the configuration need only know the SHA-256."""

from __future__ import annotations

import hashlib
import secrets

import click

PREFIX = "ig-"


@click.group()
def keys() -> None:
    """API keys for callers of the gateway."""


@keys.command()
def new() -> None:
    """Make a random key; it is shown once, and only its hash need be kept."""
    key = PREFIX + secrets.token_urlsafe(32)
    click.echo("Give this key to the caller; it is not shown again:", err=True)
    click.echo(key)
    click.echo("And put this into the configuration, under authenticators → keys:", err=True)
    click.echo(f"sha256:{hashlib.sha256(key.encode()).hexdigest()}")
