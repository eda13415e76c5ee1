"""``image-gateway explain``: what a prompt would do, and ``generate``: a picture without a server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson

from gateway.commands.source import read_configuration
from gateway.config import Configuration
from gateway.endpoints.picture_fields import image_request
from gateway.errors import GatewayError
from gateway.explain import explain as explain_request
from gateway.imaging import EXTENSIONS
from gateway.prompt import read_prompt
from gateway.runtime import make_runtime
from gateway.settings import RATIOS, Chat
from gateway.values import Caller, ImageRequest

CALLER = Caller("command-line")
Command = TypeVar("Command", bound=Callable[..., Any])


def picture_options(command: Command) -> Command:
    """Give a command the prompt and the parameters of a picture."""
    options = [
        click.argument("prompt"),
        click.option("--config", type=click.Path(path_type=Path), help="The configuration; ./config.yaml by default."),
        click.option("--preset", metavar="NAME", help="Use a packaged configuration instead of a file."),
        click.option("--model", help="The model; the default model if left out."),
        click.option("--size", help="1024x576, or a ratio like 16:9."),
        click.option("-n", "count", type=int, default=1, show_default=True, help="How many pictures."),
        click.option("--seed", type=int, help="The seed."),
        click.option(
            "--set", "more", multiple=True, metavar="NAME=VALUE", help="Any other parameter, such as steps=4."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@picture_options
def explain(prompt: str, config: Path | None, preset: str | None, more: tuple[str, ...], **asked: Any) -> None:
    """Show which target PROMPT would go to, why the others lost, the exact call and its cost; spend nothing."""
    configuration = read_configuration(config, preset)

    async def show() -> Any:
        chat = configuration.settings.chat
        return explain_request(make_runtime(configuration), _request(prompt, asked, more, chat), CALLER)

    sys.stdout.write(orjson.dumps(_run(show), option=orjson.OPT_INDENT_2).decode() + "\n")


@click.command()
@picture_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where the picture goes; a name is made up.")
def generate(
    prompt: str, config: Path | None, preset: str | None, more: tuple[str, ...], output: Path | None, **asked: Any
) -> None:
    """Make a picture of PROMPT without a server, and write it to a file."""
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        # Before anything is paid for.
        raise click.UsageError(f"-o must name a file in a folder that is there, not {str(output)!r}")
    configuration = read_configuration(config, preset)
    chat = configuration.settings.chat
    for path in _run(lambda: _generate(configuration, _request(prompt, asked, more, chat), output)):
        click.echo(path)


async def _generate(configuration: Configuration, request: ImageRequest, output: Path | None) -> list[Path]:
    runtime = make_runtime(configuration)
    await runtime.open()
    try:
        resolved = runtime.resolve(request.model or None, CALLER)
        job = runtime.jobs.submit(replace(request, model=resolved.public), CALLER, request.prompt, inline=True)
        with runtime.jobs.reading(job):
            result = await job.wait()
            paths = []
            for place, picture in enumerate(result.pictures):
                extension = EXTENSIONS.get(picture.meta.media_type, "bin")
                path = output or Path(f"{job.id}.{extension}")
                path = path.with_stem(f"{path.stem}-{place + 1}") if place else path
                await asyncio.to_thread(path.write_bytes, picture.data)
                paths.append(path)
            return paths
    finally:
        await runtime.close()


def _request(prompt: str, asked: dict[str, Any], more: tuple[str, ...], chat: Chat) -> ImageRequest:
    body: dict[str, Any] = {"model": asked["model"], "size": asked["size"], "n": asked["count"], "seed": asked["seed"]}
    for pair in more:
        name, separator, value = pair.partition("=")
        if not separator:
            raise click.UsageError(f"--set takes NAME=VALUE, not {pair!r}")
        body[name] = value
    reading = read_prompt(prompt, {**RATIOS, **chat.ratios}, chat.default_size, chat.legacy_ratio)
    if not reading.prompt:
        raise click.UsageError("the prompt has no words to draw")
    request = image_request(body, chat, reading.prompt, texts=True)
    if request.size or not reading.aspect_ratio:
        return request
    return replace(request, size=reading.size, aspect_ratio=reading.aspect_ratio)


def _run(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run *work* in a loop; tell an error in one line and end with code 1."""

    async def whole() -> Any:
        return await work()

    try:
        return asyncio.run(whole())
    except GatewayError as error:
        click.echo(error.message, err=True)
    except OSError as error:
        click.echo(f"the picture was made, but cannot be written: {error}", err=True)
    raise SystemExit(1)
