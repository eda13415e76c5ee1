"""The gateway as a process: what a stop waits for, what it tells meanwhile, and that it ends."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.config import load, settings_of
from gateway.endpoints.answers import public_base
from gateway.registry import discover
from gateway.runtime import make_runtime
from gateway.server import _announce, listed
from gateway.settings import Server
from tests.presets.process import free_port

COMMAND = str(Path(sys.executable).with_name("image-gateway"))
KEY = "server-test-key-0123456789"
YAML = """
server: {{port: {port}, shutdown_timeout: 20s{server}}}
authenticators: {{keys: {{use: api_keys, keys: [{key}]}}}}
backends: {{here: {{use: {backend}}}}}
storages: {{disk: {{use: disk, root: pictures}}}}
models: {{demo: {{backends: [{{backend: here}}]}}}}
{more}
"""
STUBBORN = '''
import asyncio
from dataclasses import dataclass
from gateway import Capabilities, hookimpl

@dataclass
class Stubborn:
    """Never ends, whatever it is told."""

    def capabilities(self, model):
        return Capabilities()

    async def generate(self, request, report):
        report.sending()
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

@hookimpl
def provide_backends():
    return {"stubborn": Stubborn}
'''
Start = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def start(tmp_path: Path):
    """Start the real command with a YAML of the test's."""
    running: list[subprocess.Popen[str]] = []

    def start(backend: str = "demo, delay: 1s", server: str = "", more: str = "") -> tuple[subprocess.Popen[str], str]:
        port = free_port()
        yaml = YAML.format(port=port, key=KEY, backend=backend, server=server, more=more)
        (tmp_path / "config.yaml").write_text(yaml)
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONFAULTHANDLER": "1"}
        with (tmp_path / "stderr.txt").open("w") as stderr:
            popen = subprocess.Popen(
                [COMMAND, "serve"], env=environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        running.append(popen)
        assert popen.stdout is not None
        while "in a browser" not in (line := popen.stdout.readline()):
            assert line, (tmp_path / "stderr.txt").read_text()
        return popen, f"http://127.0.0.1:{port}"

    yield start
    for popen in running:
        if popen.poll() is None:
            popen.kill()
        popen.wait(10)
        if popen.stdout:
            popen.stdout.close()


@pytest.fixture
def run(tmp_path: Path):
    """Run the real command with pipes of the test's, by a *shell* line in which it is ``$SERVE`` if there is one."""
    running: list[subprocess.Popen[str]] = []

    def run(more: str = "", shell: str = "", **pipes: Any) -> tuple[subprocess.Popen[str], str]:
        port = free_port()
        yaml = YAML.format(port=port, key=KEY, backend="demo", server="", more=more)
        (tmp_path / "config.yaml").write_text(yaml)
        command = ["/bin/sh", "-c", shell] if shell else [COMMAND, "serve"]
        environ = {**os.environ, "SERVE": f"{COMMAND} serve"}
        running.append(subprocess.Popen(command, cwd=tmp_path, env=environ, text=True, **pipes))
        return running[-1], f"http://127.0.0.1:{port}"

    yield run
    for popen in running:
        if popen.poll() is None:
            popen.kill()
        popen.wait(10)
        for pipe in (popen.stdout, popen.stderr):
            if pipe:
                pipe.close()


async def draw(session: aiohttp.ClientSession, base: str) -> int:
    body = {"prompt": "a cat", "size": "64x64", "response_format": "url"}
    async with session.post(f"{base}/v1/images/generations", json=body) as answer:
        await answer.read()
        return answer.status


async def ended(popen: subprocess.Popen[str], seconds: float) -> int:
    return await asyncio.to_thread(popen.wait, seconds)


async def working(session: aiohttp.ClientSession, base: str, count: int) -> None:
    """Wait until *count* jobs run."""
    for _ in range(200):
        async with session.get(f"{base}/health") as answer:
            if (await answer.json())["jobs"]["running"] >= count:
                return
        await asyncio.sleep(0.02)
    raise AssertionError("the jobs did not begin")


def client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}, timeout=aiohttp.ClientTimeout(total=40))


async def test_a_stop_waits_for_every_running_job_and_says_503_meanwhile(start: Start, tmp_path: Path) -> None:
    """All 20 pictures come and are stored, no new job is taken, and the exit code is 0."""
    popen, base = await asyncio.to_thread(start)
    async with client() as session:
        drawing = [asyncio.ensure_future(draw(session, base)) for _ in range(20)]
        await working(session, base, 20)
        popen.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        async with session.get(f"{base}/health") as health:
            status, said = health.status, (await health.json())["status"]
        refused = await draw(session, base)
        statuses = await asyncio.gather(*drawing)

    assert (status, said, refused) == (503, "draining", 503)
    assert statuses == [200] * 20
    assert await ended(popen, 20) == 0
    assert len([path for path in (tmp_path / "pictures").rglob("*") if path.is_file()]) >= 20


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
async def test_a_terminal_that_closes_loses_no_picture(start: Start, number: signal.Signals) -> None:
    """It says SIGHUP; a picture that is paid for comes all the same."""
    # Under nohup the tests ignore it, and so would what they start.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    popen, base = await asyncio.to_thread(start)
    signal.signal(signal.SIGHUP, before)
    async with client() as session:
        drawing = asyncio.ensure_future(draw(session, base))
        await working(session, base, 1)
        popen.send_signal(number)

        assert await drawing == 200
    assert await ended(popen, 20) == 0


SLOW = """
import asyncio
from dataclasses import dataclass
from gateway import hookimpl

@dataclass
class Slow:
    async def __aenter__(self):
        print("opening", flush=True)
        await asyncio.sleep(30)

    async def __aexit__(self, *_): ...

    async def observe(self, event): ...

@hookimpl
def provide_observers():
    return {"slow": Slow}
"""


async def test_a_signal_ends_a_start_that_takes_long(run: Start, tmp_path: Path) -> None:
    """As process 1 of a container it would be ignored otherwise."""
    (tmp_path / "slow.py").write_text(SLOW)
    popen, _ = run("plugins: [slow.py]\nobservers: {s: {use: slow}}", stdout=subprocess.PIPE)
    assert popen.stdout
    assert await asyncio.to_thread(popen.stdout.readline) == "opening\n"
    popen.send_signal(signal.SIGTERM)

    assert await ended(popen, 10) == 0


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("PermissionError(13, 'Permission denied', '/srv/x')", "Permission denied: /srv/x"),
        ("OSError(98, 'Address already in use')", "Address already in use"),
        ("TimeoutError()", "fails with TimeoutError"),
        ("ValueError('redis://:c4nary@h')", "fails with ValueError"),
        ("SystemExit(3)", "fails with SystemExit"),
    ],
)
async def test_what_cannot_be_opened_is_named(run: Start, tmp_path: Path, fault: str, said: str) -> None:
    """It is not the port of the gateway that cannot be had, and the words of libraries may hold a password."""
    (tmp_path / "slow.py").write_text(SLOW.replace("await asyncio.sleep(30)", f"raise {fault}"))
    popen, _ = run("plugins: [slow.py]\nobservers: {s: {use: slow}}", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, errors = await asyncio.to_thread(popen.communicate, None, 20)

    assert popen.returncode == 1
    assert errors.rstrip().endswith(f"cannot start: observers.s could not be opened: {said}")


@pytest.mark.parametrize("output", [">&-", "> /dev/full", "| true"], ids=["closed", "full", "broken"])
async def test_it_serves_although_nobody_takes_its_banner(run: Start, output: str) -> None:
    """A closed standard output, a full disk behind it, or a reader who has gone."""
    line = f"{{ $SERVE & echo $! >&3; wait; }} {output}"
    popen, base = run(shell=f"exec 3>&2; {line}", stderr=subprocess.PIPE)
    assert popen.stderr
    process = int(await asyncio.to_thread(popen.stderr.readline))
    try:
        assert await served(base)
    finally:
        os.kill(process, signal.SIGTERM)
    await ended(popen, 20)


async def served(base: str) -> bool:
    """Wait until the gateway answers."""
    async with client() as session:
        for _ in range(100):
            with suppress(aiohttp.ClientError):
                async with session.get(f"{base}/health") as health:
                    return health.status == 200
            await asyncio.sleep(0.1)
    return False


async def test_a_log_that_nobody_reads_stops_nothing(run: Start) -> None:
    """Neither calls nor the stop; what was not read is counted when somebody reads again."""
    popen, base = run("observers: {log: {use: log}}", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert popen.stderr
    fcntl.fcntl(popen.stderr, fcntl.F_SETPIPE_SZ, 8192)
    assert await served(base)
    async with client() as session:
        for _ in range(60):
            assert await draw(session, base) == 200
        os.set_blocking(popen.stderr.fileno(), False)
        unread = popen.stderr.read()
        assert await draw(session, base) == 200
        await asyncio.sleep(0.2)
        told = popen.stderr.read()
        for _ in range(60):
            assert await draw(session, base) == 200
    popen.send_signal(signal.SIGTERM)

    assert unread.count("outcome=finished") < 60
    assert "lines of the log are missing" in told
    assert "outcome=finished" in told
    assert await ended(popen, 10) == 0


async def test_a_drain_delay_keeps_the_port_open_without_any_job(start: Start) -> None:
    """Load balancers have time to see the 503."""
    popen, base = await asyncio.to_thread(start, "demo", ", drain_delay: 1.5s")
    popen.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.4)
    async with client() as session, session.get(f"{base}/health") as health:
        assert health.status == 503
    assert await ended(popen, 10) == 0


async def test_a_second_signal_stops_at_once(start: Start) -> None:
    """Whoever is in a hurry need not wait for the jobs."""
    popen, base = await asyncio.to_thread(start, "demo, delay: 15s")
    async with client() as session:
        drawing = asyncio.ensure_future(draw(session, base))
        await working(session, base, 1)
        popen.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        began = time.monotonic()
        popen.send_signal(signal.SIGTERM)
        status = await drawing

        assert status == 503
        assert await ended(popen, 10) == 0
        assert time.monotonic() - began < 8


async def test_a_crash_shows_no_values(start: Start, tmp_path: Path) -> None:
    """Even with Python's own fault handler: stacks, and nothing of keys or prompts."""
    popen, base = await asyncio.to_thread(start, "demo, delay: 10s")
    async with client() as session:
        body = {"prompt": "my-private-words", "size": "64x64"}
        drawing = asyncio.ensure_future(session.post(f"{base}/v1/images/generations", json=body))
        await working(session, base, 1)
        popen.send_signal(signal.SIGABRT)
        await asyncio.gather(drawing, return_exceptions=True)
    code = await ended(popen, 10)
    said = (tmp_path / "stderr.txt").read_text()

    assert code == -signal.SIGABRT
    assert "Current thread" in said
    for secret in (KEY, "my-private-words"):
        assert secret not in said


async def test_a_plugin_that_will_not_end_does_not_keep_the_process(start: Start, tmp_path: Path) -> None:
    """It is named in the log, and the process ends."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    popen, base = await asyncio.to_thread(start, "stubborn", "", "plugins: [stubborn.py]\njobs: {timeout: 1s}")
    async with client() as session:
        assert await draw(session, base) == 504
        popen.send_signal(signal.SIGTERM)

        assert await ended(popen, 15) == 0
    assert "do not end" in (tmp_path / "stderr.txt").read_text()


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("", "signed links are off and so is the image proxy"),
        ("proxy: {hosts: [a.example]}", "signed links are off, and the image proxy shows pictures of a.example alone"),
        ("proxy: {keys: [a-key-of-sixteen-or-more]}", None),
    ],
)
async def test_the_log_says_that_nothing_is_signed(start: Start, tmp_path: Path, proxy: str, said: str | None) -> None:
    """Without keys the proxy is shut, not open, and whoever starts it reads so."""
    await asyncio.to_thread(start, "demo", "", proxy)
    log = (tmp_path / "stderr.txt").read_text()

    assert ("proxy.keys" in log) is bool(said)
    assert (said or "") in log


async def test_a_host_that_nobody_knows_is_one_clear_line(tmp_path: Path) -> None:
    """A name that cannot be resolved ends the start like a port that is taken, and shows no stack."""
    yaml = YAML.format(port=free_port(), key=KEY, backend="demo", server="", more="")
    (tmp_path / "config.yaml").write_text(yaml)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    call = [COMMAND, "serve", "--host", "nowhere.invalid"]
    done = await asyncio.to_thread(
        subprocess.run, call, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 1
    assert "cannot listen on nowhere.invalid:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("host", "shown"), [("::1", "[::1]"), ("::", "[::1]"), ("0.0.0.0", "127.0.0.1"), ("gateway.local", "gateway.local")]
)
async def test_the_banner_and_links_bear_urls_on_any_address(tmp_path: Path, host: str, shown: str) -> None:
    """An IPv6 address stands in brackets; so it does in links for who sends no usable Host."""
    text = YAML.format(port=80, key=KEY, backend="demo", server=f', host: "{host}"', more="")
    runtime = make_runtime(settings_of(load(tmp_path / "config.yaml", text, {}), discover()))
    lines: list[str] = []
    _announce(runtime, 8080, lines.append)
    request = make_mocked_request("GET", "/", headers={"Host": "no host"})

    assert f"ready on http://{shown}:8080 " in lines[0]
    assert public_base(request, Server(host="::1", port=8080)) == "http://[::1]:8080"


def test_the_start_names_some_of_very_many_models() -> None:
    """The line at the start stays a line."""
    names = [f"m{number}" for number in range(30)]

    assert listed(names[:20]) == ", ".join(names[:20])
    assert listed(names) == ", ".join(names[:20]) + " and 10 more"
