"""``image-gateway links``: signed links, to copies of stored pictures and through the image proxy."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.commands.pictures import of_configuration
from gateway.commands.source import read_configuration
from gateway.copy_links import CopyLink, sign_copy, until
from gateway.errors import GatewayError
from gateway.options import parse_duration
from gateway.serving import read_key
from gateway.settings import Settings
from gateway.signing import sign
from gateway.transforms import Transform, read_format


@click.group()
def links() -> None:
    """Signed links: picture (copies in sizes that are on no list), proxy (pictures of the web)."""


@links.command()
@click.argument("key")
@of_configuration
@click.option("--width", type=int, help="At most this wide; the ratio stays and nothing is enlarged.")
@click.option("--height", type=int, help="At most this high.")
@click.option("--format", "kind", help="webp, avif, jpeg or png.")
@click.option("--quality", type=int, help="1 to 100.")
@click.option("--for", "life", default="1d", show_default=True, help="How long the link holds: 30m, 12h, 7d.")
def picture(
    key: str,
    config: Path | None,
    preset: str | None,
    width: int | None,
    height: int | None,
    kind: str | None,
    quality: int | None,
    life: str,
) -> None:
    """Print a link to a copy of the picture KEY. Whether there is such a picture is not asked."""
    settings = _settings(config, preset)
    name = read_key(key)
    if name is None:
        raise click.ClickException("this is not a picture's key")
    try:
        copy = Transform(width, height, read_format(kind), quality)
        query = sign_copy(CopyLink(name[0], copy, until(_seconds(life))), settings.proxy.keys)
    except GatewayError as error:
        raise click.ClickException(error.message) from None
    click.echo(f"{_base(settings)}/image/{key}?{query}")


@links.command()
@click.argument("url")
@of_configuration
@click.option("--for", "life", default="1d", show_default=True, help="How long the link holds: 30m, 12h, 7d.")
def proxy(url: str, config: Path | None, preset: str | None, life: str) -> None:
    """Print a link that shows the picture at URL through GET /image-proxy."""
    settings = _settings(config, preset)
    if not url.lower().startswith(("http://", "https://")):
        raise click.ClickException("only http and https URLs go through the image proxy")
    try:
        ends = until(_seconds(life))
    except GatewayError as error:
        raise click.ClickException(error.message) from None
    click.echo(f"{_base(settings)}/image-proxy?{sign(url, settings.proxy.keys, ends)}")


def _settings(config: Path | None, preset: str | None) -> Settings:
    settings = read_configuration(config, preset).settings
    if not settings.proxy.keys:
        raise click.ClickException("signed links need a key: write proxy: {keys: [...]} into the configuration")
    return settings


def _base(settings: Settings) -> str:
    """Give what stands before the path; without a public URL only the path is known."""
    return (settings.server.public_url or "").rstrip("/")


def _seconds(life: str) -> float:
    try:
        return parse_duration(life)
    except ValueError as error:
        raise click.ClickException(f"--for: {error}") from None
