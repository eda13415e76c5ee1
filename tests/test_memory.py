"""Memory runs short: new pictures are refused, what is there is served, and all is as before when there is room."""

from __future__ import annotations

import asyncio
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.config import load, settings_of
from gateway.errors import ConfigError, UnavailableError
from gateway.job import Job
from gateway.jobs import Jobs
from gateway.memory import FULL, Limit, Memory, limits_of_system, make_memory, statm
from gateway.settings import Jobs as Limits
from gateway.values import Caller, Result
from tests.gateways import DEMO, installed
from tests.painters import until
from tests.presets.process import free_port
from tests.test_jobs import Gate, settled, submit

MIB = 2**20
KEY = "memory-test-key-0123456789"


class Meter:
    """Memory that the test sets: *used* bytes in every field of statm; counts how often it was read."""

    def __init__(self, used: int) -> None:
        self.used = used
        self.reads = 0

    def __call__(self) -> list[int]:
        self.reads += 1
        return [self.used] * 7


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Give a function that lets time pass for the memory's samples."""
    now = [1000.0]
    monkeypatch.setattr("gateway.memory.time.monotonic", lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    return passes


def test_above_the_mark_it_is_full_and_below_it_no_more(clock: Callable[[float], None]) -> None:
    """85 % is still fine, a byte more is not, and it recovers by itself."""
    meter = Meter(int(1000 * FULL))
    memory = Memory([Limit("test", 1000)], meter)
    said = [memory.full]
    for used in (851, 400):
        meter.used = used
        clock(0.3)
        said.append(memory.full)

    assert said == [False, True, False]


def test_a_thousand_questions_are_one_look(clock: Callable[[float], None]) -> None:
    """It is asked with every call, and looks at most every quarter of a second; without a limit never."""
    meter, unread = Meter(10), Meter(10)
    limited, free = Memory([Limit("test", 1000)], meter), Memory([], unread)
    for _ in range(1000):
        assert not limited.full
        assert not free.full

    assert (meter.reads, unread.reads) == (1, 0)
    assert free.health() == {"used": None, "limit": None, "full": False}


def test_the_log_tells_each_change_once(clock: Callable[[float], None], caplog: pytest.LogCaptureFixture) -> None:
    """Not every sample of an hour above the mark."""
    meter = Meter(900)
    memory = Memory([Limit("test", 1000)], meter)
    for used in [900] * 20 + [100] * 20:
        meter.used = used
        clock(1)
        assert memory.full is (used == 900)

    assert [record.getMessage() for record in caplog.records] == [
        "memory is short: 900 of 1000 bytes (test) are in use",
        "memory suffices again",
    ]


async def test_a_new_job_is_refused_and_a_known_one_answered(clock: Callable[[float], None]) -> None:
    """503 with a time; a key that has its job gets it, and nothing was counted for the refused."""
    meter = Meter(100)
    gate = Gate()
    jobs = Jobs(Limits(), gate, memory=Memory([Limit("test", 1000)], meter))
    known = submit(jobs, key="k", fingerprint="f")
    meter.used = 900
    clock(1)
    with pytest.raises(UnavailableError) as refused:
        submit(jobs, key="other", fingerprint="f")

    assert (refused.value.status, refused.value.code) == (503, "out_of_memory")
    assert refused.value.retry_after is not None
    assert submit(jobs, key="k", fingerprint="f") is known
    assert jobs.counts == {"running": 1, "waiting": 0}
    meter.used = 100
    clock(1)
    assert submit(jobs, key="other", fingerprint="f") is not known
    await jobs.drain(0)


async def test_what_waits_is_begun_one_after_the_other_while_memory_is_short(clock: Callable[[float], None]) -> None:
    """A line of thousands, accepted while there was room, must not fill what is left; nor may it stand still."""
    meter = Meter(100)
    gates: list[asyncio.Event] = []

    async def work(job: Job) -> Result:
        gates.append(asyncio.Event())
        await gates[-1].wait()
        return await Gate.__call__(open_gate, job)

    open_gate = Gate()
    open_gate.open.set()
    jobs = Jobs(Limits(running=2), work, memory=Memory([Limit("test", 1000)], meter))
    for _ in range(6):
        submit(jobs)
    await settled()
    meter.used = 900
    clock(1)
    at_once = []
    for place in range(3):
        gates[place].set()
        await settled()
        at_once.append(jobs.counts["running"])
    meter.used = 100
    clock(1)
    calm = submit(jobs, Caller("bob"))
    await settled()

    assert at_once == [1, 1, 1]
    assert jobs.counts == {"running": 2, "waiting": 2}
    assert calm.state == "queued"
    await jobs.drain(0)


def test_the_kinds_of_limits_are_about_what_they_limit() -> None:
    """An address space is measured by addresses, not by what is resident: it ends where they do."""
    used = statm()
    limits = [Limit("resident", used[1] * 4), Limit("addresses", used[0] + MIB, 0)]
    memory = Memory(limits, lambda: used, lambda: 0)

    assert memory.full
    assert memory.health()["limit"] == used[0] + MIB


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/", {"memory.max": "536870912"}, 536870912),
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "268435456"}, 268435456),
        ("0::/a", {"a/memory.max": "268435456", "memory.max": "max"}, 268435456),
        ("5:cpu:/x\n4:memory:/docker/1", {"memory/memory.limit_in_bytes": "134217728"}, 134217728),
        ("4:memory:/", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("0::/", {"memory.max": "max"}, None),
        ("0::/", {"memory.max": "0"}, None),
        ("0::/", {}, None),
        (None, {}, None),
    ],
)
def test_the_control_groups_limit_is_found(
    tmp_path: Path, lines: str | None, files: dict[str, str], expected: int | None
) -> None:
    """Both versions, in containers and out, the smallest of all groups above; an absurd one is none."""
    if lines is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(lines + "\n")
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    found = [limit.most for limit in limits_of_system(tmp_path) if "group" in limit.name]

    assert found == ([expected] if expected else [])


def test_what_the_option_says_is_taken() -> None:
    """``off`` never looks; a size counts what is resident."""
    assert make_memory("off").health()["limit"] is None
    assert make_memory(2**40).health()["limit"] == 2**40


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("jobs: {memory: 0}\n", "jobs: memory must not be 0"),
        ("jobs: {memory: much}\n", "jobs.memory: not auto, off or a size in bytes"),
        ("jobs: {memory: -1}\n", "jobs.memory: not auto, off or a size in bytes"),
        ("server: {send_timeout: 0}\n", "server: send_timeout must be from 1ms to 1d"),
        ("server: {send_timeout: 100d}\n", "server: send_timeout must be from 1ms to 1d"),
        ("server: {max_connections: 0}\n", "server.max_connections: should be greater than or equal to 1"),
    ],
)
def test_limits_that_make_no_sense_are_refused_at_the_start(tmp_path: Path, yaml: str, words: str) -> None:
    """With their place in the file."""
    with pytest.raises(ConfigError, match=re.escape(words)):
        settings_of(load(tmp_path / "config.yaml", DEMO + yaml, {}), installed())


@pytest.mark.parametrize(
    ("written", "meant"),
    [("auto", "auto"), ("off", "off"), ("1GiB", 2**30), ("536870912", 2**29), ("512 MiB", 2**29), ("AUTO", None)],
)
def test_the_option_is_read_as_it_is_written(tmp_path: Path, written: str, meant: int | str | None) -> None:
    """``off`` is the word, not YAML's no."""
    document = load(tmp_path / "config.yaml", DEMO + f"jobs: {{memory: {written}}}\n", {})
    if meant is None:
        with pytest.raises(ConfigError):
            settings_of(document, installed())
    else:
        assert settings_of(document, installed()).settings.jobs.memory == meant


def test_an_own_limit_of_the_process_is_found() -> None:
    """As ``ulimit -d`` and systemd's ``LimitDATA`` set it."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_DATA, (2**33, 2**33)); "
        "from gateway.memory import make_memory; print(make_memory('auto').health()['limit'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert int(said) <= 2**33


HOLES = """
import os
from gateway.memory import free_blocks, give_back, statm
from gateway.server import _keep_big_blocks
_keep_big_blocks()
held = [os.urandom(1_000_000) for _ in range(300)]
full = statm()[1]
del held[1::2], held[2::3]
before, free = statm()[1], free_blocks()
give_back()
print(full, before, free, statm()[1])
"""


def test_memory_between_what_is_in_use_is_counted_as_free_and_given_back() -> None:
    """Of 300 MB 200 are freed in holes: the C library keeps them, knows them, and gives them back when told to."""
    said = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True).stdout
    full, before, free, after = map(int, said.split())

    assert before > full - 50 * MIB
    assert free > 150 * MIB
    assert after < before - 150 * MIB


async def test_free_memory_is_given_back_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is no limit: what a busy moment took is not kept for ever."""
    calls, going = [], threading.Event()

    def slowly() -> None:
        calls.append(threading.current_thread())
        going.wait(10)

    monkeypatch.setattr("gateway.memory.give_back", slowly)
    memory = Memory()
    for _ in range(3):
        memory.tidy()
    await until(lambda: calls)
    going.set()
    await until(lambda: memory._freeing is None or memory._freeing.done())
    memory.tidy()
    await until(lambda: len(calls) == 2)

    assert threading.main_thread() not in calls


# The process itself, with pictures of 6 MB ------------------------------------------------------------------

PLUGIN = '''
import asyncio
from dataclasses import dataclass
from pathlib import Path
from gateway import Capabilities, Image, Size, hookimpl
from tests.fake_upstream import png

PICTURE = png(64, 64, 6_000_000)

@dataclass
class Heavy:
    """Holds a big picture of its own until the file `go` is there."""

    def capabilities(self, model):
        return Capabilities(sizes=(Size(64, 64),))

    async def generate(self, request, report):
        report.sending()
        picture = bytes(memoryview(PICTURE))
        while not Path("go").exists():
            await asyncio.sleep(0.05)
        return [Image(picture)]

@hookimpl
def provide_backends():
    return {"heavy": Heavy}
'''
YAML = """
plugins: [heavy.py]
server: {{port: {port}}}
authenticators: {{keys: {{use: api_keys, keys: [{key}]}}}}
backends: {{heavy: {{use: heavy}}}}
storages: {{disk: {{use: disk, root: pictures}}}}
models: {{heavy: {{backends: [{{backend: heavy}}]}}}}
jobs: {{memory: {memory}}}
"""
DRAW = {"model": "heavy", "prompt": "a cat"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start the real process under a limit: of the configuration, or of the system."""
    running: list[subprocess.Popen[str]] = []

    def start(memory: str, kind: int | None = None, most: int = 0) -> str:
        port = free_port()
        (tmp_path / "heavy.py").write_text(PLUGIN)
        (tmp_path / "config.yaml").write_text(YAML.format(port=port, key=KEY, memory=memory))
        environ = {"PYTHONPATH": str(Path(__file__).parent.parent), "HOME": str(tmp_path)}

        def limit() -> None:
            if kind is not None:
                resource.setrlimit(kind, (most, most))

        with (tmp_path / "stderr.txt").open("w") as stderr:
            popen = subprocess.Popen(
                [sys.executable, "-c", "from gateway.cli import main; main()", "serve"],
                env=environ,
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                preexec_fn=limit,
            )
        running.append(popen)
        assert popen.stdout is not None
        while "in a browser" not in (line := popen.stdout.readline()):
            assert line, (tmp_path / "stderr.txt").read_text()
        return f"http://127.0.0.1:{port}"

    yield start
    for popen in running:
        popen.send_signal(signal.SIGKILL)
        popen.wait(10)
        if popen.stdout:
            popen.stdout.close()


async def asked(session: aiohttp.ClientSession, method: str, url: str, **given: Any) -> tuple[int, Any, str | None]:
    async with session.request(method, url, **given) as answer:
        content = await answer.read()
        is_json = answer.content_type == "application/json"
        return answer.status, await answer.json() if is_json else content, answer.headers.get("Retry-After")


@pytest.mark.parametrize(
    "limits",
    [("250MiB",), ("auto", resource.RLIMIT_DATA, 350 * MIB), ("auto", resource.RLIMIT_AS, 500 * MIB)],
    ids=["configured", "RLIMIT_DATA", "RLIMIT_AS"],
)
async def test_a_process_short_of_memory_refuses_serves_and_recovers(
    start: Callable[..., str], tmp_path: Path, limits: tuple[Any, ...]
) -> None:
    """Big pictures fill it: 503 for new ones, 200 for all that is read; and a picture again once they have gone."""
    base = await asyncio.to_thread(start, *limits)
    go = tmp_path / "go"
    headers = {"Authorization": f"Bearer {KEY}"}
    timeout = aiohttp.ClientTimeout(total=60)
    draw, later = f"{base}/v1/images/generations", {**DRAW, "async": True}
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        go.touch()
        first = await asked(session, "POST", draw, json={**DRAW, "response_format": "url"})
        link = first[1]["data"][0]["url"]
        go.unlink()
        answers: list[tuple[int, Any, str | None]] = []
        async with asyncio.timeout(60):
            while [each[0] for each in answers[-4:]] != [503] * 4:
                answers.append(await asked(session, "POST", draw, json=later))
                await asyncio.sleep(0.08 if answers[-1][0] == 202 else 0.3)
        answer, accepted = answers[-1], [each[1]["id"] for each in answers if each[0] == 202]
        chat = await asked(
            session,
            "POST",
            f"{base}/v1/chat/completions",
            json={"model": "heavy", "stream": True, "messages": [{"role": "user", "content": "a cat"}]},
        )
        health = await asked(session, "GET", f"{base}/health")
        picture = await asked(session, "GET", link)
        reads = [
            await asked(session, "GET", base + path)
            for path in ("/v1/models", "/v1/jobs", f"/v1/jobs/{accepted[0]}", "/v1/pictures", "/")
        ]

        assert answer[0] == chat[0] == 503
        assert answer[1]["error"]["code"] == chat[1]["error"]["code"] == "out_of_memory"
        assert int(answer[2] or 0) >= 1
        assert len(accepted) > 5
        assert health[0] == 200
        assert health[1]["memory"]["full"] is True
        assert health[1]["memory"]["used"] > FULL * health[1]["memory"]["limit"]
        assert picture[0] == 200
        assert len(picture[1]) > 6_000_000
        assert [read[0] for read in reads] == [200] * 5

        go.touch()
        for _ in range(200):
            again = await asked(session, "POST", draw, json={**DRAW, "response_format": "url"})
            if again[0] != 503:
                break
            await asyncio.sleep(0.1)
        ended = [(await asked(session, "GET", f"{base}/v1/jobs/{identity}"))[1]["status"] for identity in accepted]

    assert again[0] == 200
    assert set(ended) <= {"completed", "in_progress"}
    assert "memory suffices again" in (tmp_path / "stderr.txt").read_text()
