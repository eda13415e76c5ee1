"""``image-gateway pictures``: look after what the storages of a configuration hold."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from gateway.collection import all_pictures, delete_everywhere, outer
from gateway.collection import move as move_all
from gateway.commands.source import read_configuration
from gateway.config import Configuration
from gateway.contracts import Storage
from gateway.errors import GatewayError
from gateway.serving import read_key
from gateway.values import PictureMeta, StoredPicture

Storages = Mapping[str, Storage]
Command = TypeVar("Command", bound=Callable[..., Any])
Answer = TypeVar("Answer")


def of_configuration(command: Command) -> Command:
    """Give a command the options that say which configuration's storages are meant."""
    file = click.option("--config", type=click.Path(path_type=Path), help="The configuration; else ./config.yaml.")
    preset = click.option("--preset", metavar="NAME", help="Use a packaged configuration instead of a file.")
    return file(preset(command))


@click.group()
def pictures() -> None:
    """Stored pictures: list, get, delete, sweep, move."""


@pictures.command("list")
@of_configuration
@click.option("--owner", help="Only the pictures of this caller.")
@click.option("--storage", metavar="NAME", help="Only what this storage holds.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def list_(config: Path | None, preset: str | None, owner: str | None, storage: str | None, as_json: bool) -> None:
    """List stored pictures, newest first."""

    async def work(storages: Storages) -> None:
        chosen = {storage: _named(storages, storage)} if storage else storages
        async for meta in all_pictures(chosen, owner):
            click.echo(json.dumps(asdict(meta)) if as_json else _line(meta))

    _run(config, preset, work, [storage] if storage else ())


@pictures.command()
@click.argument("key")
@of_configuration
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write the bytes to this file; - is stdout.")
def get(key: str, config: Path | None, preset: str | None, output: Path | None) -> None:
    """Show what is known of the picture KEY, or write its bytes."""

    async def work(storages: Storages) -> bytes:
        found = await _found(storages, key)
        if output:
            return await found.body.read()
        return json.dumps(asdict(found.meta), indent=2).encode() + b"\n"

    data = _run(config, preset, work)
    if output is None or str(output) == "-":
        sys.stdout.buffer.write(data)
    else:
        try:
            output.write_bytes(data)
        except OSError as error:
            raise click.ClickException(f"cannot write {str(output)!r}: {error.strerror}") from None


@pictures.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@of_configuration
def delete(keys: tuple[str, ...], config: Path | None, preset: str | None) -> None:
    """Delete pictures from every storage that this process reaches.

    The memory of a running gateway is not among them: ask that gateway itself, at DELETE /v1/pictures/KEY.
    """

    async def work(storages: Storages) -> int:
        missing = 0
        for key in keys:
            name = read_key(key)
            gone = name is not None and await delete_everywhere(storages.values(), name[0])
            click.echo(f"{_plain(key)}: {'deleted' if gone else 'there was none'}")
            missing += not gone
        return missing

    configuration = read_configuration(config, preset)
    missing = _run_on(configuration, work)
    _warn_of_memory(configuration)
    if missing:
        raise SystemExit(1)


@pictures.command()
@of_configuration
def sweep(config: Path | None, preset: str | None) -> None:
    """Remove what expired and what crashes left behind, now."""

    async def work(storages: Storages) -> None:
        for name, storage in storages.items():
            click.echo(f"{name}: {await storage.sweep()} removed")

    _run(config, preset, work)


@pictures.command()
@of_configuration
@click.option("--from", "source", required=True, metavar="NAME", help="The storage that the pictures leave.")
@click.option("--to", "target", required=True, metavar="NAME", help="The storage that they go to.")
def move(config: Path | None, preset: str | None, source: str, target: str) -> None:
    """Move all pictures from one storage to another; their URLs and their time of expiry stay."""
    if source == target:
        raise click.UsageError("--from and --to name the same storage")

    async def work(storages: Storages) -> int:
        counts = {"moved": 0, "gone": 0, "failed": 0}
        async for moved in move_all(_named(storages, source), _named(storages, target)):
            counts[moved.outcome] += 1
            if moved.outcome == "failed":
                click.echo(f"{moved.key}: {moved.reason}", err=True)
        click.echo(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
        return counts["failed"]

    if _run(config, preset, work, [source, target]):
        raise SystemExit(1)


def _run(
    config: Path | None,
    preset: str | None,
    work: Callable[[Storages], Awaitable[Answer]],
    names: Sequence[str] = (),
) -> Answer:
    configuration = read_configuration(config, preset)
    _refuse_memory(configuration, names)
    return _run_on(configuration, work)


def _run_on(configuration: Configuration, work: Callable[[Storages], Awaitable[Answer]]) -> Answer:
    try:
        return asyncio.run(_opened(configuration.components["storages"], work))
    except GatewayError as error:
        raise click.ClickException(error.message) from error


def _refuse_memory(configuration: Configuration, names: Sequence[str]) -> None:
    uses = configuration.uses.get("storages", {})
    if not names and all(uses.get(name) == "memory" for name in configuration.components["storages"]):
        note = "all storages are memory of the running gateway: ask it for its pictures, at GET /v1/pictures"
        click.echo(note, err=True)
    for name in names:
        if uses.get(name) == "memory":
            raise click.ClickException(
                f"the storage {name} is memory of the running gateway, which no other process can reach; "
                "a tiered storage carries its pictures on"
            )


def _warn_of_memory(configuration: Configuration) -> None:
    """Say where a deleted picture may still be, and how it goes from there: whoever deletes must not think it gone."""
    storages = [name for name, use in configuration.uses.get("storages", {}).items() if use == "memory"]
    caches = [name for name, use in configuration.uses.get("middlewares", {}).items() if use == "cache"]
    held = [f"the storage {name}" for name in storages] + [f"the middleware {name}" for name in caches]
    if held:
        click.echo(
            f"a gateway that runs has not heard of this and may still hold the pictures in memory ({', '.join(held)}) "
            "and serve them until they expire there; to delete them there as well, send it DELETE /v1/pictures/KEY",
            err=True,
        )


async def _opened(storages: Storages, work: Callable[[Storages], Awaitable[Answer]]) -> Answer:
    async with AsyncExitStack() as stack:
        for storage in storages.values():
            if hasattr(storage, "__aenter__"):
                await stack.enter_async_context(cast("AbstractAsyncContextManager[Any]", storage))
        return await work(storages)


def _named(storages: Storages, name: str) -> Storage:
    if name not in storages:
        raise click.ClickException(f"there is no storage {name!r}; known: {', '.join(storages)}")
    return storages[name]


async def _found(storages: Storages, key: str) -> StoredPicture:
    name = read_key(key)
    for storage in outer(storages) if name else []:
        if name and (found := await storage.get(name[0])):
            return found
    raise click.ClickException("there is no such picture, or it has expired")


def _line(meta: PictureMeta) -> str:
    ends = "for ever" if meta.expires is None else f"until {_time(meta.expires)}"
    size = f"{meta.width}x{meta.height} {meta.media_type} {meta.length} bytes"
    prompt = _plain(str(meta.details.get("prompt") or ""))[:60]
    return f"{meta.key}  {_time(meta.created)}  {ends}  {size}  {_plain(meta.owner)}  {_plain(meta.model)}  {prompt}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _plain(text: str) -> str:
    # Prompts come from strangers; a terminal must not obey them.
    return "".join(letter if letter.isprintable() else "?" for letter in text)
