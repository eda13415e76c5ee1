"""Waiting for a job upstream ends in time, cancels what is left, and never allows a second paid job."""

from __future__ import annotations

import asyncio

import pytest

from gateway import (
    BadKeyError,
    BusyUpstreamError,
    MisconfiguredError,
    RateLimitedError,
    RefusedError,
    UnreachableError,
    UpstreamError,
    UpstreamTimeoutError,
    may_follow,
    poll,
    polling,
)


class Job:
    """Answers one thing after another; exceptions are raised. Remembers how often it was cancelled."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.cancelled = 0

    async def check(self) -> str | None:
        self.asked += 1
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]  # the tests give strings

    async def cancel(self) -> None:
        self.cancelled += 1


async def test_asks_until_there_is_something():
    """None means not yet."""
    job = Job(None, None, "done")

    assert await poll(job.check, every=0, deadline=5, cancel=job.cancel) == "done"
    assert (job.asked, job.cancelled) == (3, 0)


async def test_passing_failures_do_not_count_as_the_end():
    """Busy, unreachable, garbled answers and 404 are asked again, and success resets the patience."""
    bad: list[UpstreamError] = [BusyUpstreamError("b"), UnreachableError("u"), MisconfiguredError("404")]
    job = Job(*bad, None, *bad, "done")

    assert await poll(job.check, every=0, deadline=5, patience=3) == "done"


async def test_no_answer_makes_the_next_question_wait_for_ever(monkeypatch: pytest.MonkeyPatch):
    """A day as Retry-After would let the deadline pass over a picture that is done and paid for."""
    monkeypatch.setattr(polling, "LONGEST", 0.01)
    job = Job(BusyUpstreamError("b", retry_after=86_400.0), RateLimitedError("r", retry_after=3600.0), "done")

    assert await poll(job.check, every=0, deadline=5) == "done"


async def test_who_asks_to_be_left_alone_has_not_failed_meanwhile(monkeypatch: pytest.MonkeyPatch):
    """A job that is paid for is not given up because its vendor wants to be asked later."""
    monkeypatch.setattr(polling, "LONGEST", 0.001)
    job = Job(*[RateLimitedError("r", retry_after=60.0) for _ in range(30)], "done")

    assert await poll(job.check, every=0, deadline=5) == "done"


async def test_too_many_failures_end_it_without_a_second_job():
    """The last failure is raised, but says that the job was sent and must not be made elsewhere."""
    job = Job(*[BusyUpstreamError("b") for _ in range(9)])
    with pytest.raises(BusyUpstreamError) as caught:
        await poll(job.check, every=0, deadline=5, cancel=job.cancel, patience=2)

    assert (job.asked, job.cancelled) == (3, 1)
    assert (caught.value.sent, caught.value.retryable, caught.value.billed) == (True, False, None)


async def test_an_unreachable_upstream_is_no_excuse_either():
    """The job was submitted: that its state cannot be asked for does not make it unsent."""
    job = Job(*[UnreachableError("u") for _ in range(9)])
    with pytest.raises(UnreachableError) as caught:
        await poll(job.check, every=0, deadline=5, patience=0)

    assert (caught.value.sent, caught.value.retryable) == (True, False)


@pytest.mark.parametrize("error", [BadKeyError("k"), RefusedError("r")])
async def test_a_final_error_ends_it_at_once(error: Exception):
    """What cannot pass is raised at the first time."""
    job = Job(error, "done")
    with pytest.raises(type(error)):
        await poll(job.check, every=0, deadline=5, cancel=job.cancel)

    assert (job.asked, job.cancelled) == (1, 1)


async def test_the_deadline_cancels_upstream():
    """A job that is never done is cancelled there, and the error says that it may be billed."""
    job = Job()
    with pytest.raises(UpstreamTimeoutError) as caught:
        await poll(job.check, every=0.005, deadline=0.03, cancel=job.cancel)

    assert job.cancelled == 1
    assert (caught.value.retryable, caught.value.billed) == (False, None)


async def test_the_deadline_holds_while_a_question_hangs():
    """A check that never returns is cut off."""
    job = Job()

    async def hang() -> str:
        await asyncio.Event().wait()
        return ""

    with pytest.raises(UpstreamTimeoutError):
        await poll(hang, every=0, deadline=0.02, cancel=job.cancel)

    assert job.cancelled == 1


async def test_cancellation_cancels_upstream():
    """Whoever cancels the waiting cancels the job, and is not swallowed."""
    job, asked = Job(), asyncio.Event()

    async def check() -> None:
        asked.set()

    waiting = asyncio.create_task(poll(check, every=60, deadline=600, cancel=job.cancel))
    await asked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert job.cancelled == 1


async def test_a_failing_cancel_changes_nothing():
    """The error of the job is what counts."""

    async def cancel() -> None:
        raise BusyUpstreamError("cannot cancel")

    with pytest.raises(UpstreamTimeoutError):
        await poll(Job().check, every=0.005, deadline=0.02, cancel=cancel)


async def test_waking_ends_a_pause():
    """A message that the job is over need not wait for the next round."""
    wake, job = asyncio.Event(), Job(None, None, "done")
    wake.set()

    async def check() -> str | None:
        wake.set()
        return await job.check()

    async with asyncio.timeout(2):
        assert await poll(check, every=600, deadline=600, wake=wake) == "done"


async def test_an_error_of_another_kind_is_not_hidden():
    """A bug in a plugin stays a bug."""
    with pytest.raises(UpstreamError):
        await poll(Job(UpstreamError("known")).check, every=0, deadline=1)
    with pytest.raises(ZeroDivisionError):
        await poll(Job(ZeroDivisionError()).check, every=0, deadline=1)
    with pytest.raises(TimeoutError):
        await poll(Job(TimeoutError()).check, every=0, deadline=1)


GOOD = (
    "https://bfl.ai/x",
    "https://api.us2.bfl.ai/v1/get_result?id=1",
    "https://api.bfl.ai:443/x",
    "http://127.0.0.1:9/x",
)
BAD = (
    None,
    7,
    "",
    "http://api.bfl.ai/x",
    "https://bfl.ai.evil.example/x",
    "https://evilbfl.ai/x",
    "https://api.bfl.ai@evil.example/x",
    "https://user:pw@api.bfl.ai/x",
    "https://evil.example/?bfl.ai",
    "https://evil.example#.bfl.ai",
    "https://evil.example\\.bfl.ai",
    "https://api.bfl.ai:8443/x",
    "https://api.bfl.ai:99999/x",
    "https://api.bfl.ai/\nx",
    "https://api.bfl．ai/",
    "https://[::1/x",
    "http://127.0.0.1:10/x",
    "https://127.0.0.1:9/x",
    "//api.bfl.ai/x",
    "file://api.bfl.ai/x",
)


@pytest.mark.parametrize("url", GOOD)
def test_a_key_may_follow_to_its_own_upstream(url: str):
    """The vendor's domain by https, or the very origin that is configured."""
    assert may_follow(url, "http://127.0.0.1:9", "bfl.ai")


@pytest.mark.parametrize("url", BAD)
def test_a_key_goes_nowhere_else(url: object):
    """An answer cannot send the key to another host."""
    assert not may_follow(url, "http://127.0.0.1:9", "bfl.ai")


@pytest.mark.parametrize("url", ["https://evil.example./x", "https://evil.example/x", "https://./x"])
def test_without_a_domain_only_the_origin_counts(url: str):
    """A dot at the end of a host is below no domain."""
    assert not may_follow(url, "https://router.huggingface.co/fal-ai", "")
    assert may_follow("https://router.huggingface.co/x", "https://router.huggingface.co/fal-ai", "")
