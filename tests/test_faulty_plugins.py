"""What a plugin does wrong is its own fault: told by name, without a hang, a second status line or a second bill."""

import asyncio
import base64
import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from gateway import (
    Caller,
    Capabilities,
    Image,
    RateLimitedError,
    StorageDownError,
    StorageError,
    StoredPicture,
    UnreachableError,
    seal,
)
from tests.fake_upstream import png
from tests.gateways import AUTHENTICATORS, start

CHAT = "/v1/chat/completions"
GOOD = png(64, 64)
STREAMED = {"messages": [{"role": "user", "content": "a fox"}], "stream": True}


def lies():
    """Give what backends may return that is not what they promised."""
    return {
        "none": None,
        "text": "https://x/y.png",
        "bytes": GOOD,
        "a generator": (Image(GOOD) for _ in range(1)),
        "a dict": {"data": GOOD},
        "empty": [],
        "nones": [None],
        "words": ["x"],
        "bytes in a list": [GOOD],
        "no data": [Image()],
        "words as data": [Image(data="abc")],
        "a number as data": [Image(data=7)],
        "no picture": [Image(data=b"hello")],
        "a lying type": [Image(data=b"<svg onload='x'/>", media_type="image/png")],
        "a torn picture": [Image(data=GOOD[:40])],
        "a bad url": [Image(url="file:///etc/passwd")],
        "a number as url": [Image(url=7)],
        "an inside url": [Image(url="http://169.254.169.254/x")],
        "a coroutine": asyncio.sleep,
        "an exception": RuntimeError("returned"),
    }


@dataclass
class Rogue:
    """A backend that does what *does* says."""

    does: str = "draw"
    calls: list = field(init=False, default_factory=list)
    gone: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    def capabilities(self, model):
        if self.does == "raise at capabilities":
            raise RuntimeError("no idea")
        odd = {"no capabilities": None, "a dict of capabilities": {"n": 1}, "odd sizes": Capabilities(sizes=("64x64",))}
        return odd.get(self.does, Capabilities())

    def health(self):
        odd = {"a set of health": {1}, "health by numbers": {1: 2}, "half a letter of health": "\ud800"}
        if self.does == "raise at health":
            raise RuntimeError("no idea")
        return odd.get(self.does, {"keys": 1, "usable": 0, "back": "soon"} if self.does == "odd keys" else {})

    async def generate(self, request, report):
        self.calls.append(request.prompt)
        if self.does == "raise":
            raise RuntimeError("the plugin's own words, with a path /srv/secret")
        if self.does == "raise after sending":
            report.sending()
            raise ValueError("after sending")
        if self.does == "unreachable":
            raise UnreachableError("cannot be reached")
        if self.does == "hang":
            await asyncio.Event().wait()
        if self.does == "hang after sending":
            report.sending()
            await asyncio.Event().wait()
        if self.does == "swallow":
            await swallowing()
        if self.does == "wait":
            await self.gone.wait()
        if self.does == "send and wait":
            report.sending()
            await self.gone.wait()
        if self.does == "cancel":
            raise asyncio.CancelledError
        if self.does == "exit":
            raise SystemExit(3)
        if self.does == "half a letter":
            report.noted("a cut emoji: \ud83d")
            return [Image(GOOD, revised_prompt="a fox \ud83d")]
        if self.does == "retry after a text":
            raise RateLimitedError("slow down", retry_after="7")
        if self.does == "bad progress":
            report.progress("half", note=5)
        if self.does == "wild progress":
            report.progress(7.5, note="x\ny" * 500)
            report.progress(-3)
            report.progress(float("nan"))
        return lies()[self.does] if self.does in lies() else [Image(GOOD)]


async def swallowing():
    """Do not let oneself be cancelled at once."""
    for _ in range(3):
        try:
            await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            continue


@dataclass
class Around:
    """A middleware that does what *does* says at *at*."""

    at: str = "job"
    does: str = "raise"
    stages: tuple = field(init=False, default=())

    def __post_init__(self):
        self.stages = (self.at,)

    async def around(self, stage, work, proceed):
        answers = {"none": None, "true": True, "text": "work", "images": work.images}
        if self.does == "raise":
            raise RuntimeError(f"at {stage}")
        if self.does == "hang":
            await asyncio.Event().wait()
        if self.does == "cancel":
            raise asyncio.CancelledError
        return answers[self.does]


@dataclass
class Writer:
    """An optimizer that does what *does* says."""

    does: str = "raise"

    async def optimize(self, request):
        if self.does == "raise":
            raise RuntimeError("no")
        if self.does == "cancel":
            raise asyncio.CancelledError
        if self.does == "swallow":
            await swallowing()
            return request.prompt
        answers = {"none": None, "number": 5, "empty": "", "nul": "a\0b", "long": "x" * 100_000, "list": ["a"]}
        return answers[self.does]


@dataclass
class Store:
    """A storage that does what *does* says."""

    does: str = "raise"
    kept: object = field(init=False, default=None)
    path = None

    async def put(self, meta, data):
        if self.does == "raise":
            raise RuntimeError("disk on fire")
        if self.does == "break off":
            self.kept = await seal(meta, data)
            return self.kept
        if self.does == "cancel":
            raise asyncio.CancelledError
        if self.does == "full":
            raise StorageError("full", code="storage_full")
        if self.does == "down":
            raise StorageDownError("down", retry_after=5)
        return {"none": None, "text": "key"}[self.does]

    async def get(self, key):
        if self.does == "down":
            raise StorageDownError("down", retry_after=5)
        if self.does == "raise":
            raise RuntimeError("disk on fire")
        if self.does == "break off":
            return StoredPicture(self.kept, self)
        return None

    async def read(self):
        return GOOD

    async def stream(self, start, end):
        yield GOOD[:20]
        raise RuntimeError("disk on fire")

    async def delete(self, key):
        return False

    async def list(self, owner=None):
        for meta in ():
            yield meta

    async def sweep(self):
        raise RuntimeError("cannot sweep")


@dataclass
class Guard:
    """An authenticator that does what *does* says."""

    does: str = "models as a text"

    async def authenticate(self, credentials):
        if self.does == "exit":
            raise SystemExit(1)
        if self.does == "cancel":
            raise asyncio.CancelledError
        return {"models as a text": Caller("x", "z*"), "no name": Caller(""), "a name that is none": Caller(7)}[
            self.does
        ]


@dataclass
class Watcher:
    """An observer that fails, or never comes back."""

    does: str = "raise"

    async def observe(self, event):
        if self.does == "hang":
            await asyncio.Event().wait()
        raise RuntimeError("observer broke")


TYPES = {
    "backends": {"rogue": Rogue},
    "middlewares": {"around": Around},
    "optimizers": {"writer": Writer},
    "storages": {"store": Store},
    "authenticators": {"guard": Guard},
    "observers": {"watcher": Watcher},
}


@pytest.fixture
def made(aiohttp_server, tmp_path):
    """Start a gateway whose one model has these components."""

    async def make(does="draw", *, spare=False, more="", storage="{use: memory}", model=""):
        spares = ", {backend: spare, weight: 0}" if spare else ""
        yaml = (
            AUTHENTICATORS
            + f"backends: {{one: {{use: rogue, does: '{does}'}}, spare: {{use: rogue}}}}\n"
            + f"storages: {{pictures: {storage}}}\n"
            + f"models: {{m: {{backends: [{{backend: one}}{spares}]{model}}}}}\n"
            + more
        )
        return await start(aiohttp_server, yaml, tmp_path, types=TYPES)

    return make


def error_of(stream):
    """Give the error of a stream: an HTTP error if it came before the stream began, else an event in it."""
    assert "HTTP/1.1" not in stream.text
    if stream.status != 200:
        assert stream.headers["Content-Type"] == "application/json"
        return stream.error
    *_, told, end = stream.chunks()
    assert end == "[DONE]"
    assert {"message", "type", "code", "param"} <= set(told["error"])
    return told["error"]


def backend(gateway, name="one"):
    return gateway.runtime.backends[name]


# Backends --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("does", [*lies(), "raise", "raise after sending", "bad progress", "cancel", "exit"])
async def test_a_backend_that_breaks_its_promise_is_named(made, does):
    """The answer is an error in OpenAI's form, plain and streamed; the next call is served."""
    gateway = await made(does)
    plain = await gateway.draw()
    stream = await gateway.chat("a fox", stream=True)

    assert plain.status in {500, 502, 409}, plain.text
    assert "one" in plain.error["message"] or does == "cancel"
    assert "/srv/secret" not in plain.text
    assert error_of(stream)["code"] == plain.error["code"]
    backend(gateway).does = "draw"
    gateway.runtime.router.breaker(gateway.runtime.recipes["m"].targets[0]).succeeded()
    assert (await gateway.draw()).status == 200


@pytest.mark.parametrize("does", ["raise at capabilities", "no capabilities", "a dict of capabilities", "odd sizes"])
async def test_a_backend_that_cannot_tell_what_it_can_takes_nothing_from_others(made, does):
    """The list of models, the errors about other models and the next target stay what they are."""
    gateway = await made(does, spare=True)
    listed = await gateway.get("/v1/models")
    edit = {"image": f"data:image/png;base64,{base64.b64encode(GOOD).decode()}", "prompt": "x"}
    refused = await gateway.post("/v1/images/edits", edit)
    drawn = await gateway.draw(size="512x512")
    alone = await made(does)

    assert (listed.status, refused.status, drawn.status) == (200, 400, 200)
    assert refused.error["code"] == "edits_not_supported"
    told = (await alone.draw(size="512x512")).error
    assert told["code"] == "plugin_contract"
    assert "one" in told["message"]


@pytest.mark.parametrize(
    "does", ["raise at health", "a set of health", "health by numbers", "half a letter of health", "odd keys"]
)
async def test_odd_health_takes_nobody_from_the_load_balancer(made, does):
    """It is told as unknown, and pictures are drawn, plain and streamed."""
    gateway = await made(does)

    assert (await gateway.get("/health")).status == 200
    assert (await gateway.draw()).status == 200
    assert "![" in (await gateway.chat("a fox", stream=True)).content()


async def test_half_a_letter_loses_no_paid_picture(made):
    """Upstreams cut emojis in two, and what is left cannot be written."""
    gateway = await made("half a letter", more="jobs: {state: jobs.db}\n")
    answer = await gateway.draw()
    (job,) = gateway.runtime.jobs.all(Caller("ann"))

    assert answer.status == 200
    assert answer.json["data"][0]["revised_prompt"] == "a fox ?"
    assert "a cut emoji: ?" in answer.json["gateway"]["receipt"]["notes"]
    assert job.kept
    await job.kept


async def test_a_time_to_wait_may_be_a_text(made):
    """As a header has it."""
    answer = await (await made("retry after a text")).draw()

    assert (answer.status, answer.headers["Retry-After"]) == (429, "7")


async def test_progress_out_of_bounds_is_kept_within(made):
    """No number or note of a backend spoils a stream."""
    gateway = await made("wild progress")
    stream = await gateway.chat("a fox", stream=True)

    assert stream.status == 200
    assert "![" in stream.content()
    assert "NaN" not in stream.text


@pytest.mark.parametrize("does", ["unreachable", "raise"])
async def test_another_target_takes_over_when_nothing_was_sent(made, does):
    """A fault before sending costs nothing; the receipt tells of it."""
    gateway = await made(does, spare=True)
    answer = await gateway.draw()

    assert answer.status == 200, answer.text
    attempts = answer.json["gateway"]["receipt"]["attempts"]
    assert [attempt["target"] for attempt in attempts] == ["one", "spare"]
    assert backend(gateway, "spare").calls == ["a red fox"]


@pytest.mark.parametrize("does", ["raise after sending", "hang after sending"])
async def test_no_other_target_is_paid_once_something_was_sent(made, does):
    """And the SDK is told not to repeat it."""
    gateway = await made(does, spare=True, more="jobs: {timeout: 0.2}\n")
    answer = await gateway.draw()

    assert answer.status in {500, 502, 504}
    assert answer.headers["x-should-retry"] == "false", answer.text
    assert backend(gateway, "spare").calls == []


@pytest.mark.parametrize("does", ["hang", "hang after sending", "swallow"])
async def test_a_backend_that_hangs_is_cut_at_the_deadline(made, does):
    """504, plain and streamed, and its place is free again."""
    gateway = await made(does, more="jobs: {timeout: 0.2, running: 1}\n")
    began = time.monotonic()
    plain = await gateway.draw()
    stream = await gateway.chat("a fox", stream=True)

    assert plain.status == 504
    assert plain.error["code"] == "job_timeout"
    assert error_of(stream)["code"] == "job_timeout"
    assert time.monotonic() - began < 3
    assert gateway.runtime.jobs.counts == {"running": 0, "waiting": 0}


# Middlewares, optimizers, storages, observers ----------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["job", "optimize", "generate", "attempt", "store"])
@pytest.mark.parametrize("does", ["raise", "cancel", "none", "true", "text", "hang"])
async def test_a_middleware_that_breaks_is_named_at_every_stage(made, stage, does):
    """During a stream it is told in the stream: one status line, one error, the end."""
    more = f"middlewares: {{mine: {{use: around, at: {stage}, does: '{does}'}}}}\njobs: {{timeout: 0.2}}\n"
    gateway = await made(more=more, model=", middlewares: [mine]")
    plain = await gateway.draw()
    stream = await gateway.chat("a fox", stream=True)

    assert plain.status == (504 if does == "hang" else 500), plain.text
    assert does == "hang" or "mine" in plain.error["message"]
    assert error_of(stream)["code"] == plain.error["code"]


@pytest.mark.parametrize("does", ["raise", "cancel", "none", "number", "empty", "nul", "long", "list"])
async def test_an_optimizer_that_fails_costs_nobody_the_picture(made, does):
    """The caller's own words are drawn, and the receipt says so."""
    gateway = await made(more=f"optimizers: {{pen: {{use: writer, does: '{does}'}}}}\n", model=", optimizers: [pen]")
    answer = await gateway.draw("a red fox")

    assert answer.status == 200, answer.text
    assert backend(gateway).calls == ["a red fox"]
    assert "pen" in str(answer.json["gateway"]["receipt"]["notes"])


@pytest.mark.parametrize("does", ["raise", "cancel", "full", "down", "none", "text"])
async def test_a_storage_that_fails_loses_no_paid_picture(made, monkeypatch, does):
    """Whoever asked for the bytes gets them; a link cannot be given yet, and is not to be paid for twice."""
    monkeypatch.setattr("gateway.storing.STORE_TRIES", (0.0, 0.0, 0.0))
    gateway = await made(storage=f"{{use: store, does: '{does}'}}")
    inline = await gateway.draw()
    link = await gateway.draw(response_format="url")
    chat = await gateway.chat()

    assert inline.status == 200, inline.text
    assert "not stored" in str(inline.json["gateway"]["receipt"]["notes"])
    for answer in (link, chat):
        assert (answer.status, answer.error["code"]) == (503, "image_not_stored"), answer.text
        assert answer.headers["x-should-retry"] == "false"


async def test_a_picture_that_breaks_off_never_looks_whole(made):
    """No second answer is written into the bytes of the first."""
    gateway = await made(storage="{use: store, does: break off}")
    url = (await gateway.draw(response_format="url")).json["data"][0]["url"]
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"GET {urlsplit(url).path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    with suppress(ConnectionError):
        answered = await asyncio.wait_for(reader.read(), 10)
        head, _, body = answered.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert body == GOOD[:20]
    writer.close()


async def test_a_storage_that_fails_takes_no_picture_of_others(made):
    """The one that has it is asked, too."""
    gateway = await made(storage="{use: store, does: raise}, good: {use: memory}", model=", storage: good")
    url = (await gateway.draw(response_format="url")).json["data"][0]["url"]

    assert (await gateway.get(urlsplit(url).path)).status == 200
    assert (await gateway.get("/image/" + "k" * 40)).status == 502


@pytest.mark.parametrize("does", ["models as a text", "no name", "a name that is none", "exit", "cancel"])
async def test_an_authenticator_that_breaks_its_promise_lets_nobody_in(made, does):
    """A text of models would be patterns, letter by letter, and a star among them every model."""
    gateway = await made()
    gateway.runtime.authenticators = {"guard": Guard(does)}
    answer = await gateway.draw()

    assert answer.status == (503 if does in {"exit", "cancel"} else 500)
    assert backend(gateway).calls == []


async def test_an_optimizer_that_swallows_its_cancelling_brings_no_job_back(made):
    """The job was cancelled, and told so: nothing is sent for it, and its place is free once."""
    more = "optimizers: {pen: {use: writer, does: swallow}}\njobs: {per_backend: {one: 1}}\n"
    gateway = await made("wait", more=more, model=", optimizers: [pen]")
    ahead = await gateway.post("/v1/images/generations", {"prompt": "ahead", "optimize": False, "async": True})
    job = await gateway.post("/v1/images/generations", {"prompt": "a fox", "async": True})
    gone = await gateway.ask("DELETE", f"/v1/jobs/{job.json['id']}")
    await asyncio.sleep(1.7)
    backend(gateway).gone.set()
    await gateway.get(f"/v1/jobs/{ahead.json['id']}/events")

    assert gone.json["status"] == "cancelled"
    assert (await gateway.get(f"/v1/jobs/{job.json['id']}")).json["status"] == "cancelled"
    assert backend(gateway).calls == ["ahead"]
    assert gateway.runtime.jobs.counts == {"running": 0, "waiting": 0}


@pytest.mark.parametrize("does", ["raise", "hang"])
async def test_an_observer_slows_and_breaks_nothing(made, does, caplog):
    """It is complained of by name; jobs go on."""
    gateway = await made(more=f"observers: {{spy: {{use: watcher, does: {does}}}}}\n")
    began = time.monotonic()
    for _ in range(5):
        assert (await gateway.draw()).status == 200

    assert time.monotonic() - began < 5


# Clients that leave ------------------------------------------------------------------------------------------------


async def leave(gateway, body, path=CHAT, after=0.15):
    """Post and drop the connection while the answer is still to come."""
    raw = json.dumps(body).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\nContent-Type: application/json\r\n"
    )
    writer.write(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
    await writer.drain()
    await asyncio.sleep(after)
    writer.transport.abort()


async def settled(gateway):
    """Wait until no job works any more."""
    async with asyncio.timeout(3):
        while gateway.runtime.jobs.counts["running"]:  # noqa: ASYNC110  - the place of a job is freed without an event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_job_is_cancelled_if_the_client_leaves_before_anything_was_sent(made, streamed):
    """Nobody waits, nothing is paid: the place is free at once."""
    gateway = await made("wait")
    await leave(gateway, {**STREAMED, "stream": streamed})
    await settled(gateway)
    (job,) = gateway.runtime.jobs.all(type("C", (), {"name": "ann"})())

    assert job.state == "cancelled"


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_paid_picture_is_finished_and_kept_although_the_client_left(made, streamed):
    """And the same call with the same key gets it, without a second bill."""
    gateway = await made("send and wait")
    await leave(gateway, {**STREAMED, "stream": streamed})
    await asyncio.sleep(0.1)
    assert gateway.runtime.jobs.counts["running"] == 1
    backend(gateway).gone.set()
    await settled(gateway)
    (job,) = gateway.runtime.jobs.all(type("C", (), {"name": "ann"})())

    assert job.state == "finished"
    assert (await gateway.get(f"/image/{job.result.pictures[0].meta.key}.png")).body.startswith(b"\x89PNG")
    assert len(backend(gateway).calls) == 1


async def test_the_same_idempotency_key_brings_the_paid_picture_after_a_break(made):
    """One call of the backend for both."""
    gateway = await made("send and wait")
    first = asyncio.create_task(
        gateway.post("/v1/images/generations", {"prompt": "x"}, headers={"Idempotency-Key": "k1"})
    )
    await asyncio.sleep(0.1)
    first.cancel()
    await asyncio.sleep(0.1)
    backend(gateway).gone.set()
    again = await gateway.post("/v1/images/generations", {"prompt": "x"}, headers={"Idempotency-Key": "k1"})
    other = await gateway.post("/v1/images/generations", {"prompt": "y"}, headers={"Idempotency-Key": "k1"})

    assert again.status == 200
    assert other.status in {409, 422}
    assert len(backend(gateway).calls) == 1


async def test_clients_that_leave_at_any_moment_leave_nothing_behind(made, caplog):
    """No complaint in the log, no place taken, no task left."""
    gateway = await made()
    await gateway.draw()
    tasks = len(asyncio.all_tasks())
    for number in range(30):
        await leave(gateway, {**STREAMED, "stream": bool(number % 2)}, after=number % 7 * 0.002)
    await settled(gateway)
    await asyncio.sleep(0.3)

    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text
    assert len(asyncio.all_tasks()) <= tasks + 2
    assert (await gateway.draw()).status == 200


async def test_full_places_are_refused_at_once_with_the_time_to_come_back(made):
    """429 before any stream begins, plain and streamed alike."""
    gateway = await made("wait", more="jobs: {running: 1, waiting: 1}\n")
    waiting = [asyncio.create_task(gateway.draw(f"fox {number}")) for number in range(2)]
    await asyncio.sleep(0.1)
    began = time.monotonic()
    plain, stream = await gateway.draw(), await gateway.chat("a fox", stream=True)

    for answer in (plain, stream):
        assert answer.status == 429
        assert answer.error["type"] == "rate_limit_error"
        assert int(answer.headers["Retry-After"]) >= 1
    assert time.monotonic() - began < 1
    backend(gateway).gone.set()
    assert [answer.status for answer in await asyncio.gather(*waiting)] == [200, 200]


async def test_what_is_known_before_a_stream_is_an_http_error(made):
    """All targets resting: 503 with a time, not a stream that ends in one."""
    gateway = await made("unreachable")
    for _ in range(8):
        await gateway.draw()
    (recipe,) = gateway.runtime.recipes.values()
    with gateway.runtime.router.attempt(recipe.targets[0], alone=True):
        answer = await gateway.chat("a fox", stream=True)

    assert answer.status == 503, answer.text
    assert answer.error["code"] == "all_targets_resting"
    assert int(answer.headers["Retry-After"]) >= 1


async def test_a_queued_stream_tells_its_place(made):
    """Whoever waits sees how long the line is."""
    gateway = await made("wait", more="jobs: {running: 1}\n")
    first = asyncio.create_task(gateway.draw("fox"))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(gateway.chat("owl", stream=True))
    await asyncio.sleep(0.1)
    backend(gateway).gone.set()

    assert (await first).status == 200
    assert "1" in (await second).content()


async def test_a_waiting_plain_call_is_kept_alive_by_white_space(made):
    """Proxies see bytes; JSON readers see none of them; a late error is told in the body."""
    gateway = await made("wait", more="jobs: {keep_alive: 0.05}\n")
    call = asyncio.create_task(gateway.chat())
    await asyncio.sleep(0.3)
    backend(gateway).gone.set()
    answer = await call

    assert answer.status == 200
    assert answer.body.startswith(b"  ")
    assert answer.json["choices"][0]["finish_reason"] == "stop"
