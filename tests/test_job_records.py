"""A finished job, written down and read again, is the same job."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.claims import is_lost
from gateway.errors import (
    BadKeyError,
    BudgetError,
    BusyUpstreamError,
    GatewayError,
    RefusedError,
    UpstreamTimeoutError,
)
from gateway.generation import _named
from gateway.job import Job
from gateway.job_records import JobRecords
from gateway.jobs import Jobs
from gateway.receipt import Attempt, Change, Receipt
from gateway.settings import Jobs as Limits
from gateway.targets import Target
from gateway.values import Caller, Image, ImageRequest, Picture, PictureMeta, Result, Size

ANN = Caller("ann", ("flux-*",))


@dataclass
class Paper:
    """Records in a list; *fault* is raised by each writing, *slow* holds it up."""

    texts: dict[str, str] = field(default_factory=dict)
    fault: Exception | None = None
    slow: asyncio.Event | None = None

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def put(self, key: str, text: str, expires: float) -> None:
        if self.slow:
            await self.slow.wait()
        if self.fault:
            raise self.fault
        self.texts[key] = text

    async def all(self) -> list[str]:
        return list(self.texts.values())


def result() -> Result:
    meta = PictureMeta("k" * 40, "image/png", 64, 32, 3, "abc", 1.5, 2.5, "ann", "flux", {"seed": 7, "deep": [1, {}]})
    receipt = Receipt(
        model="flux",
        target="t/up",
        asked={"n": 2, "size": "64x32"},
        adjusted=(Change("steps", 9, 4, "at most 4"),),
        dropped=(Change("style", "vivid", None, "not taken"),),
        attempts=(Attempt("t/up", "ok", 1.23456),),
        optimizer="rewriter",
        notes=("a note \u2603",),
        cost=0.01,
    )
    return Result((Picture(meta, b"png", "drawn so", 7),), "a better cat", "a cat", receipt, 12)


async def remembered(run: Any, paper: Paper | None = None, **more: Any) -> tuple[Job, Job, Jobs]:
    """Let one job end, and read it as the next process does."""
    paper = paper or Paper()
    jobs = Jobs(Limits(), run)
    records = JobRecords(paper, 60)
    await records.open(jobs)
    jobs.on_end.append(records.ended)
    request = ImageRequest(
        "a cat", "flux-1", size=Size(64, 32), images=(Image(b"in"),), mask=Image(b"mask"), unknown=("frob",)
    )
    job = jobs.submit(request, ANN, "a cat", key="k", fingerprint="f", attached=False, **more)
    job.webhook = "https://hooks.example.com/"
    with suppress(GatewayError):
        await job.wait()
    await records.close()
    following = Jobs(Limits(), run)
    await JobRecords(paper, 60).open(following)
    found = following.get(job.id, ANN)
    assert found is not None
    return job, found, following


async def test_a_finished_job_is_the_same_after_a_restart() -> None:
    """Result, receipt, events, times, who asked and for what; only the pixels are left to the storage."""

    async def run(job: Job) -> Result:
        job.sent = True
        job.tell("partial", {"picture": 0, "image": Image(b"preview")})
        job.tell("progress", {"done": 0.5, "note": "half"})
        return result()

    job, found, _ = await remembered(run)

    assert found.result is not None
    assert found.result.receipt == result().receipt
    assert found.result.receipt.as_json() == result().receipt.as_json()
    assert found.result.pictures[0].meta == result().pictures[0].meta
    assert not found.result.pictures[0].data
    for name in ("id", "caller", "original", "state", "created", "started", "ended", "sent", "key", "webhook"):
        assert getattr(found, name) == getattr(job, name)
    assert found.request.size == Size(64, 32)
    assert [(event.sequence, event.type) for event in found.events] == [
        (event.sequence, event.type) for event in job.events
    ]
    assert found.events[-1].data["result"] == found.result


def refused() -> RefusedError:
    """A refusal in a model's own words."""
    error = RefusedError("no", param="prompt")
    error.said = "I cannot draw that"
    return error


@pytest.mark.parametrize(
    "error",
    [
        refused(),
        UpstreamTimeoutError("slow"),
        BadKeyError("k"),
        _named(BusyUpstreamError("answered 500"), Target("up", "up", None)),
        _named(BadKeyError("k"), Target("up", "up", None)),
        BudgetError("spent"),
    ],
    ids=["refused", "timeout", "key", "named 500", "named key", "budget"],
)
async def test_a_failed_job_fails_alike_after_a_restart(error: GatewayError) -> None:
    """Status, type, code, words and whether to try again."""

    async def run(job: Job) -> Result:
        job.sent = True
        raise error

    job, found, following = await remembered(run)
    assert job.error is not None
    with pytest.raises(GatewayError) as raised:
        await found.wait()

    for name in ("status", "type", "code", "message", "param", "again"):
        assert getattr(raised.value, name) == getattr(job.error, name)
    assert raised.value.as_json() == job.error.as_json()
    assert getattr(raised.value, "said", None) == getattr(job.error, "said", None)
    # Whether the key is nailed to the failure is told by the same rule.
    assert (following.earlier(ANN, "k", "f") is found) is is_lost(job)


async def test_keys_are_honoured_after_a_restart() -> None:
    """The same key and body is the same job; nothing is drawn."""

    async def run(job: Job) -> Result:
        return result()

    _, found, following = await remembered(run)

    assert following.submit(ImageRequest("a cat"), ANN, "a cat", key="k", fingerprint="f") is found


async def test_an_answer_waits_until_the_job_is_on_record() -> None:
    """Told before, a caller could come again after a crash and pay twice; a stuck disk holds nobody for ever."""
    paper = Paper(slow=asyncio.Event())
    jobs, records = Jobs(Limits(), lambda job: _at_once()), JobRecords(paper, 60)
    jobs.on_end.append(records.ended)
    job = jobs.submit(ImageRequest("a cat"), ANN, "a cat")
    waiting = asyncio.create_task(job.wait())
    for _ in range(20):
        await asyncio.sleep(0)
    assert job.done
    assert not waiting.done()
    assert paper.slow is not None
    paper.slow.set()
    await waiting

    assert job.id in paper.texts


async def test_a_record_that_cannot_be_kept_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The disk is full: the caller gets its picture, the log gets a line."""
    jobs, records = Jobs(Limits(), lambda job: _at_once()), JobRecords(Paper(fault=OSError("full")), 60)
    jobs.on_end.append(records.ended)

    assert (await jobs.submit(ImageRequest("a cat"), ANN, "a cat").wait()).pictures
    assert "could not be kept" in caplog.text
    await records.close()


async def test_a_store_that_hangs_holds_up_no_stop(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many records wait for it; the log counts what is lost."""
    monkeypatch.setattr("gateway.job_records.GOODBYE", 0.05)
    jobs, records = Jobs(Limits(), lambda job: _at_once()), JobRecords(Paper(slow=asyncio.Event()), 60)
    jobs.on_end.append(records.ended)
    for _ in range(5):
        jobs.submit(ImageRequest("a cat"), ANN, "a cat", attached=False)
    await jobs.drain(5)
    async with asyncio.timeout(5):
        await records.close()

    assert "5 records of jobs could not be kept" in caplog.text


async def test_a_store_that_hangs_fills_no_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Only so many records wait for it; what is given up is told."""
    monkeypatch.setattr("gateway.job_records.KEPT", 3)
    paper = Paper(slow=asyncio.Event())
    records = JobRecords(paper, 60)
    made = [Job(ImageRequest("a cat"), ANN, "a cat", lambda event: None) for _ in range(6)]
    for job in made:
        records.sent(job)
        await asyncio.sleep(0)
        records.ended(job)
    assert paper.slow is not None
    paper.slow.set()
    await records.close()

    assert 3 <= len(paper.texts) <= 4
    assert made[-1].id in caplog.text


async def test_of_a_job_only_its_newest_state_is_written() -> None:
    """A slow store writes what is wanted, once, and nothing that has expired meanwhile."""
    paper = Paper(slow=asyncio.Event())
    jobs, records = Jobs(Limits(), lambda job: _at_once()), JobRecords(paper, 60)
    job = jobs.submit(ImageRequest("a cat"), ANN, "a cat", attached=False)
    other = Job(ImageRequest("a dog"), ANN, "a dog", lambda event: None)
    blocking = Job(ImageRequest("a cow"), ANN, "a cow", lambda event: None)
    records.sent(blocking)
    records.sent(job)
    other.created = -1000.0
    records.sent(other)
    await jobs.drain(5)
    records.ended(job)
    assert paper.slow is not None
    paper.slow.set()
    await records.close()

    assert set(paper.texts) == {blocking.id, job.id}
    assert '"state":"done"' in paper.texts[job.id].replace(" ", "") or '"finished"' in paper.texts[job.id]


async def test_records_of_other_versions_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Junk in the file is one line in the log, and the rest is read."""
    paper = Paper({"a": "{}", "b": "not json", "c": '{"id": 7}', "d": "[]", "e": ""})
    jobs = Jobs(Limits(), lambda job: _at_once())
    await JobRecords(paper, 60).open(jobs)

    assert list(jobs.all(ANN)) == []
    assert len(caplog.records) == 5


async def _at_once() -> Result:
    return result()
