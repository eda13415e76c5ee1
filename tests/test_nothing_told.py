"""Secrets that are written nowhere: neither into what the gateway keeps on disk nor into anything that it shows."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from gateway.config import load, settings_of
from tests.canaries import CALLER_KEY, MARK
from tests.fake_upstream import FakeUpstream, png
from tests.gateways import drawing_by, installed, start

LINK = "data:image/png;base64," + base64.b64encode(png(64, 64)).decode()
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/images/generations", {"prompt": "a fox", "response_format": "url"}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a fox"}]}),
    ("/v1/responses", {"input": "a fox", "tools": [{"type": "image_generation"}]}),
    ("/v1/images/edits", {"prompt": "a fox", "image": LINK}),
    ("/v1/images/variations", {"image": LINK}),
]
SHOWN = ["/", "/docs", "/openapi.json", "/health", "/v1/models", "/v1/jobs", "/v1/pictures"]


def secretive(base: str) -> str:
    """Give a YAML with a secret in every place for one, all of them to be known again."""
    yaml = drawing_by(base).replace(
        "storages: {pictures: {use: memory, ttl: 600}}", "storages: {disk: {use: disk, root: ./pictures}}"
    )
    return (
        yaml
        + f"""\
jobs: {{state: ./jobs.db, webhook_keys: [{MARK}-webhook-key-0123456789]}}
proxy: {{keys: [{MARK}-proxy-key-0123456789abcdef]}}
"""
    )


def written_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "config.yaml"]


async def test_nothing_on_the_disk_bears_a_secret(
    fake: FakeUpstream, aiohttp_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures, what is noted beside them, and the record of jobs: of calls that went well and of those that failed."""
    monkeypatch.chdir(tmp_path)
    gateway = await start(aiohttp_server, secretive(fake.base), tmp_path)
    for path, body in CALLS:
        for mode in ("", "echo:401", "status:500"):
            fake.mode = mode
            await gateway.post(path, body, headers={"Idempotency-Key": f"{path}{mode}", "x-api-key": CALLER_KEY})
            await gateway.post(path, {**body, "stream": True})
    jobs = (await gateway.get("/v1/jobs?limit=100")).json["data"]
    files = written_in(tmp_path)

    assert len(jobs) >= 10
    assert any(path.name.startswith("jobs.db") for path in files)
    assert len(files) > 2
    for path in files:
        assert MARK.encode() not in path.read_bytes(), path


async def test_nothing_that_is_shown_bears_a_secret(
    fake: FakeUpstream, aiohttp_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page and list, every explanation; `Gateway.ask` looks for secrets in each answer."""
    monkeypatch.chdir(tmp_path)
    gateway = await start(aiohttp_server, secretive(fake.base), tmp_path)
    for path in SHOWN:
        assert (await gateway.get(path)).status == 200
    for path, body in CALLS:
        assert MARK not in (await gateway.post(f"{path}?explain=true", body)).text


def test_nothing_written_for_a_programmer_bears_a_secret(tmp_path: Path) -> None:
    """A traceback with values, a debugger or a log line would show the configuration and its components."""
    document = load(tmp_path / "config.yaml", secretive("http://127.0.0.1:1"), {})
    made = settings_of(document, installed())
    components = [component for kind in made.components.values() for component in kind.values()]

    assert len(components) >= 3
    for shown in (repr(made.settings), str(made.settings), *map(repr, components), *map(str, components)):
        assert MARK not in shown
