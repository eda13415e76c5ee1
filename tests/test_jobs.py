"""Jobs: places, turns, refusals, time-outs, cancelling, claims, events, and what is forgotten."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress
from typing import Any

import pytest

from gateway.claims import Again
from gateway.errors import (
    BusyError,
    BusyUpstreamError,
    CancelledJobError,
    ConflictError,
    GatewayError,
    RefusedError,
    RequestError,
    UnavailableError,
    UpstreamError,
    UpstreamTimeoutError,
)
from gateway.finished import Finished
from gateway.job import Job
from gateway.jobs import Jobs, Run
from gateway.receipt import Receipt
from gateway.settings import Jobs as Limits
from gateway.unstored import UNSTORED
from gateway.values import Caller, Image, ImageRequest, Picture, PictureMeta, Result

ANN, BOB = Caller("ann"), Caller("bob")
CAT = ImageRequest("a cat", model="flux")


def result(data: bytes = b"png", key: str = "k" * 40) -> Result:
    meta = PictureMeta(key, "image/png", 1, 1, len(data), "", 0.0)
    return Result((Picture(meta, data),), "a cat", "a cat", Receipt(), 1)


class Gate:
    """Holds every job until it is opened; *sends* says whether a job counts as sent while it waits."""

    def __init__(self, sends: bool = False) -> None:
        self.sends = sends
        self.open = asyncio.Event()
        self.began: list[Job] = []

    async def __call__(self, job: Job) -> Result:
        self.began.append(job)
        job.sent = self.sends
        await self.open.wait()
        return result()


def submit(jobs: Jobs, caller: Caller = ANN, **more: Any) -> Job:
    return jobs.submit(CAT, caller, "a cat", **more)


def failing(error: Exception, sent: bool = False) -> Run:
    async def run(job: Job) -> Result:
        job.sent = sent
        raise error

    return run


async def at_once(job: Job) -> Result:
    return result()


async def settled() -> None:
    """Let every task run until all of them wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_no_more_work_at_once_than_there_are_places() -> None:
    """Two places: two begin, the third waits and begins when one ends."""
    gate = Gate()
    jobs = Jobs(Limits(running=2), gate)
    three = [submit(jobs) for _ in range(3)]
    await settled()

    assert [job.state for job in three] == ["running", "running", "queued"]
    assert jobs.counts == {"running": 2, "waiting": 1}
    gate.open.set()
    await asyncio.gather(*(job.wait() for job in three))
    assert jobs.counts == {"running": 0, "waiting": 0}


async def test_a_full_line_is_refused_at_once_with_a_time() -> None:
    """Nothing is begun for the one refused, and Retry-After is a number of seconds."""
    jobs = Jobs(Limits(running=1, waiting=2), Gate())
    for _ in range(3):
        submit(jobs)

    with pytest.raises(BusyError) as refused:
        submit(jobs)
    assert refused.value.status == 429
    assert refused.value.retry_after is not None
    assert refused.value.retry_after >= 1
    assert jobs.counts == {"running": 1, "waiting": 2}
    await jobs.drain(0)


async def test_without_a_line_nobody_waits() -> None:
    """``waiting: 0`` refuses whoever finds no place, whoever they are."""
    jobs = Jobs(Limits(running=1, waiting=0), Gate())
    submit(jobs)

    for caller in (ANN, BOB):
        with pytest.raises(BusyError):
            submit(jobs, caller)
    await jobs.drain(0)


async def test_the_time_told_grows_with_what_jobs_really_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """After slow jobs the same full line tells a longer time than after quick ones."""

    async def told(seconds: float) -> float:
        clock = [1000.0]
        monkeypatch.setattr("gateway.jobs.time.time", lambda: clock[0])

        async def work(job: Job) -> Result:
            if len(finished) < 30:
                clock[0] += seconds
                return result()
            return await Gate()(job)

        finished: list[Job] = []
        jobs = Jobs(Limits(running=1, waiting=3), work)
        for _ in range(30):
            job = submit(jobs)
            await job.wait()
            finished.append(job)
        for _ in range(4):
            submit(jobs)
        with pytest.raises(BusyError) as refused:
            submit(jobs)
        await jobs.drain(0)
        return refused.value.retry_after or 0

    assert await told(1) < await told(10) < await told(25)


async def test_a_flood_cannot_keep_others_out_of_the_line() -> None:
    """One caller fills every waiting place; another is still taken in, and served next."""
    gate = Gate()
    jobs = Jobs(Limits(running=1, waiting=10), gate)
    for _ in range(11):
        submit(jobs)
    with pytest.raises(BusyError):
        submit(jobs)
    calm = submit(jobs, BOB)

    assert calm.state == "queued"
    assert jobs.position(calm) == 2
    await jobs.drain(0)


async def test_not_even_many_names_make_the_line_endless() -> None:
    """However many callers come, no more than twice the places of the line are ever taken."""
    jobs = Jobs(Limits(running=1, waiting=10), Gate())
    refused = 0
    for number in range(200):
        try:
            submit(jobs, Caller(f"caller-{number % 100}"))
        except BusyError:
            refused += 1

    assert jobs.counts["waiting"] <= 20
    assert refused >= 179
    await jobs.drain(0)


async def test_two_callers_take_turns() -> None:
    """One has sent fifty before the other's three: the three are begun every second time."""
    gate = Gate()
    gate.open.set()
    order: list[str] = []

    async def work(job: Job) -> Result:
        order.append(job.caller.name)
        await asyncio.sleep(0)
        return result()

    jobs = Jobs(Limits(running=1), work)
    waiting = [submit(jobs) for _ in range(50)] + [submit(jobs, BOB) for _ in range(3)]
    await asyncio.gather(*(job.wait() for job in waiting))

    assert order[:8] == ["ann", "ann", "bob", "ann", "bob", "ann", "bob", "ann"]


async def test_a_job_that_takes_too_long_ends_and_frees_its_place() -> None:
    """The limit gives a 504, and the next one begins."""
    gate = Gate(sends=True)
    jobs = Jobs(Limits(running=1, timeout=0.05), gate)
    slow, following = submit(jobs), submit(jobs)

    with pytest.raises(UpstreamTimeoutError) as ended:
        await slow.wait()
    assert (ended.value.code, ended.value.status) == ("job_timeout", 504)
    assert following.state == "running"
    await jobs.drain(0)


async def test_whoever_gives_up_waiting_for_another_works_on_in_a_place_and_in_time() -> None:
    """A middleware may bound its waiting; after it the job counts as running, and its time runs."""
    seen: list[tuple[str, int, bool]] = []

    async def run(job: Job) -> Result:
        try:
            async with job.waiting(), asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            seen.append((job.state, jobs.counts["running"], job.timer is not None and not job.timer.cancelled()))
        return result()

    jobs = Jobs(Limits(), run)
    await jobs.submit(ImageRequest("a cat"), Caller("ann"), "a cat").wait()

    assert seen == [("running", 1, True)]


async def test_as_many_as_could_work_may_wait_for_others_in_any_case() -> None:
    """Each has given up a place for it, though no line be allowed."""
    free = asyncio.Event()

    async def run(job: Job) -> Result:
        async with job.waiting():
            await free.wait()
        return result()

    jobs = Jobs(Limits(running=2, waiting=0), run)
    made = [jobs.submit(ImageRequest("a cat"), Caller("ann"), "a cat", attached=False) for _ in range(2)]
    await asyncio.sleep(0)
    third = jobs.submit(ImageRequest("a cat"), Caller("ann"), "a cat", attached=False)
    with pytest.raises(BusyError):
        await third.wait()
    free.set()

    assert [(await job.wait()).pictures != () for job in made] == [True, True]


async def test_a_timeout_after_sending_says_not_to_try_again() -> None:
    """An SDK repeats a 504 by itself; that would be a second bill, so it is told not to."""
    jobs = Jobs(Limits(timeout=0.01), Gate(sends=True))
    sent = submit(jobs)
    jobs_unsent = Jobs(Limits(timeout=0.01), Gate())
    unsent = submit(jobs_unsent)

    with pytest.raises(UpstreamTimeoutError) as ended:
        await sent.wait()
    assert ended.value.again is False
    with pytest.raises(UpstreamTimeoutError) as ended:
        await unsent.wait()
    assert ended.value.again is None


async def test_a_plugin_that_swallows_cancelling_holds_up_nobody() -> None:
    """The job ends at its deadline anyway, its place is free, and what the task does later changes nothing."""
    late = asyncio.Event()

    async def stubborn(job: Job) -> Result:
        while not late.is_set():
            try:
                await late.wait()
            except asyncio.CancelledError:
                continue
        job.tell("progress", {"done": 0.5})
        return result()

    jobs = Jobs(Limits(running=1, timeout=0.02), stubborn)
    job = submit(jobs)
    with pytest.raises(UpstreamTimeoutError):
        await job.wait()
    assert jobs.counts == {"running": 0, "waiting": 0}
    late.set()
    await settled()

    assert job.state == "failed"
    assert [event.type for event in job.events] == ["accepted", "failed"]


async def test_cancelling_before_sending_stops_the_work() -> None:
    """The task is stopped, whoever waits is told, and the place is free."""
    gate = Gate()
    jobs = Jobs(Limits(running=1), gate)
    working, waiting = submit(jobs), submit(jobs)
    await settled()

    assert jobs.cancel(waiting)
    assert jobs.cancel(working)
    for job in (working, waiting):
        with pytest.raises(CancelledJobError):
            await job.wait()
        assert job.events[-1].type == "cancelled"
    assert not jobs.cancel(working)
    assert jobs.counts == {"running": 0, "waiting": 0}


async def test_what_was_sent_is_not_cancelled() -> None:
    """A paid call is finished: cancelling says no, and the result comes."""
    gate = Gate(sends=True)
    jobs = Jobs(Limits(), gate)
    job = submit(jobs)
    await settled()
    assert not jobs.cancel(job)
    gate.open.set()

    assert (await job.wait()).pictures


async def test_the_last_reader_leaving_cancels_what_costs_nothing_yet() -> None:
    """With two readers the first one's leaving changes nothing; a job that nobody waits for on purpose goes on."""
    jobs = Jobs(Limits(), Gate())
    watched, alone = submit(jobs), submit(jobs, attached=False)
    with jobs.reading(watched), jobs.reading(alone):
        with jobs.reading(watched):
            pass
        assert not watched.done

    assert watched.state == "cancelled"
    assert not alone.done
    await jobs.drain(0)


async def test_a_job_taken_up_again_in_the_background_outlives_its_first_reader() -> None:
    """The first call waits, the second with the same key does not: the job no longer hangs on the first."""
    jobs = Jobs(Limits(), Gate())
    job = submit(jobs, key="k", fingerprint="f")
    with jobs.reading(job):
        assert submit(jobs, key="k", fingerprint="f", attached=False) is job

    assert not job.done
    await jobs.drain(0)


async def test_shutting_down_waits_for_what_runs_and_takes_nothing_new() -> None:
    """What ends in time is whole; new jobs get a 503 with a time."""
    gate = Gate(sends=True)
    jobs = Jobs(Limits(running=1), gate)
    running, waiting = submit(jobs), submit(jobs)
    draining = asyncio.create_task(jobs.drain(5))
    await settled()
    with pytest.raises(UnavailableError) as refused:
        submit(jobs)
    gate.open.set()

    assert await draining
    assert refused.value.retry_after
    assert (running.state, waiting.state) == ("finished", "finished")


async def test_shutting_down_ends_what_does_not_end() -> None:
    """After the time every job has ended, waiting ones too, and the paid one says not to try again."""
    jobs = Jobs(Limits(running=1), Gate(sends=True))
    running, waiting = submit(jobs), submit(jobs)
    await settled()

    assert not await jobs.drain(0.01)
    assert isinstance(running.error, UnavailableError)
    assert running.error.again is False
    assert isinstance(waiting.error, UnavailableError)
    assert waiting.error.again is None
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_a_fault_of_the_gateway_is_an_error_not_a_hanging_client() -> None:
    """Any exception ends the job with a 500 that shows nothing of it."""
    job = submit(Jobs(Limits(), failing(RuntimeError("secret words"))))

    with pytest.raises(GatewayError, match="internal error") as ended:
        await job.wait()
    assert "secret" not in ended.value.message
    assert (ended.value.status, job.state) == (500, "failed")


async def test_a_fault_after_sending_says_not_to_try_again() -> None:
    """Whatever breaks once money may have gone: an SDK must not repeat it by itself."""
    job = submit(Jobs(Limits(), failing(RuntimeError("oh"), sent=True)))

    with pytest.raises(GatewayError) as ended:
        await job.wait()
    assert ended.value.again is False


async def test_what_was_surely_not_paid_may_be_tried_again() -> None:
    """An overloaded upstream has billed nothing: the client may come again, and gets a new job."""
    jobs = Jobs(Limits(), failing(BusyUpstreamError("busy"), sent=True))
    job = submit(jobs, key="k", fingerprint="f")

    with pytest.raises(BusyUpstreamError) as ended:
        await job.wait()
    assert ended.value.again is None
    assert submit(jobs, key="k", fingerprint="f") is not job


async def test_an_error_kept_holds_nothing_of_what_it_passed() -> None:
    """A remembered failure keeps no frame alive: frames hold pictures."""

    class Heavy:
        pass

    seen: list[weakref.ref[Heavy]] = []

    async def work(job: Job) -> Result:
        heavy = Heavy()
        seen.append(weakref.ref(heavy))
        try:
            raise ValueError(heavy)
        except ValueError as error:
            raise UpstreamError("broken") from error

    jobs = Jobs(Limits(), work)
    job = submit(jobs)
    for _ in range(3):
        with pytest.raises(UpstreamError):
            await job.wait()
    await settled()
    gc.collect()

    assert job.error is not None
    assert job.error.__traceback__ is None
    assert seen[0]() is None


async def test_the_bytes_go_when_the_last_reader_has_them() -> None:
    """A finished job keeps no pixels: not of its pictures, its inputs or its previews."""

    async def work(job: Job) -> Result:
        job.tell("partial", {"picture": 0, "image": Image(b"preview")})
        return result(b"x" * 1000)

    jobs = Jobs(Limits(), work)
    job = jobs.submit(
        ImageRequest("a cat", images=(Image(b"input"),), mask=Image(b"mask")), ANN, "a cat", attached=False
    )
    with jobs.reading(job):
        assert (await job.wait()).pictures[0].data
    assert job.result is not None

    assert not job.result.pictures[0].data
    assert (job.request.images, job.request.mask) == ((), None)
    assert not any("image" in event.data for event in job.events)


async def test_a_picture_that_no_storage_has_is_kept_for_its_caller() -> None:
    """Paid for and not stored: its bytes stay for a claim, but only as many as there is room for."""
    each = UNSTORED // 4

    async def work(job: Job) -> Result:
        return result(bytes(each), key="")

    jobs = Jobs(Limits(), work)
    made = [submit(jobs, inline=True) for _ in range(6)]
    for job in made:
        await job.wait()
    kept = [bool(job.result and job.result.pictures[0].data) for job in made]

    assert kept == [False, False, True, True, True, True]


async def test_finished_jobs_are_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """After *keep* neither the id nor the key finds it, and the key may be used for something else."""
    clock = [1000.0]
    monkeypatch.setattr("gateway.jobs.time.time", lambda: clock[0])
    jobs = Jobs(Limits(keep=60), at_once)
    old = submit(jobs, key="k", fingerprint="f")
    await old.wait()
    clock[0] += 61
    await submit(jobs).wait()

    assert jobs.get(old.id, ANN) is None
    assert submit(jobs, key="k", fingerprint="other") is not old


async def test_memory_does_not_grow_with_jobs_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many jobs end, no more than the bound are remembered, with all that hangs on them."""
    jobs = Jobs(Limits(), at_once)
    jobs._finished = Finished(keep=3600, most=50)
    alive: list[weakref.ref[Job]] = []

    class Watched(Job):
        __slots__ = ("__weakref__",)

    monkeypatch.setattr("gateway.jobs.Job", Watched)
    for number in range(300):
        job = submit(jobs, key=f"key-{number}", fingerprint=f"body-{number}")
        await job.wait()
        alive.append(weakref.ref(job))
    del job
    gc.collect()

    assert sum(reference() is not None for reference in alive) <= 51


async def test_a_job_that_still_runs_keeps_no_other_in_memory() -> None:
    """The oldest may run for minutes; thousands that ended meanwhile are forgotten all the same."""
    held = asyncio.Event()

    async def run(job: Job) -> Result:
        if job.request.prompt == "slow":
            await held.wait()
        return await at_once(job)

    jobs = Jobs(Limits(running=2), run)
    jobs._finished = Finished(keep=3600, most=20)
    slow = jobs.submit(ImageRequest("slow", "m"), ANN, "slow")
    for _ in range(100):
        await submit(jobs).wait()

    assert len(jobs._jobs) <= 21
    assert jobs.get(slow.id, ANN) is slow
    held.set()
    await slow.wait()


async def test_long_prompts_are_remembered_within_a_bound() -> None:
    """Ten thousand prompts of the greatest length would be gigabytes, for calls that were refused and cost nothing."""
    jobs = Jobs(Limits(), at_once)
    jobs._finished = Finished(keep=3600, words=10 * 2**20)
    for number in range(200):
        prompt = "🦊" * 31_000 + str(number)
        await jobs.submit(ImageRequest(prompt, "m", negative_prompt=prompt), ANN, prompt + ".").wait()
    await submit(jobs).wait()

    assert 5 < len(jobs._jobs) < 60


async def test_a_flood_pushes_no_other_callers_job_out_of_memory() -> None:
    """One sends a thousand, another had sent three before: the three can still be asked for and claimed."""
    jobs = Jobs(Limits(), at_once)
    jobs._finished = Finished(keep=3600, most=50)
    calm = [submit(jobs, BOB, key=f"b{number}", fingerprint="f") for number in range(3)]
    for job in calm:
        await job.wait()
    for number in range(1000):
        await submit(jobs, key=f"a{number}", fingerprint="f").wait()

    assert [jobs.get(job.id, BOB) for job in calm] == calm
    assert [submit(jobs, BOB, key=f"b{number}", fingerprint="f") for number in range(3)] == calm
    assert len(jobs._jobs) == 50
    assert len(jobs._claims._keys) == 50


async def test_neither_number_nor_length_of_one_callers_jobs_is_at_anothers_cost() -> None:
    """Long prompts push out long prompts' caller, many jobs the caller of many, whatever the other has."""
    jobs = Jobs(Limits(), at_once)
    jobs._finished = Finished(keep=3600, most=100, words=2**20)

    async def some(caller: Caller, count: int, length: int) -> None:
        for number in range(count):
            prompt = "x" * length + str(number)
            await jobs.submit(ImageRequest(prompt, "m"), caller, prompt).wait()

    await some(BOB, 20, 100)
    await some(ANN, 100, 20_000)
    assert len(list(jobs.all(BOB))) == 20
    await some(Caller("cat"), 300, 10)

    assert len(list(jobs.all(BOB))) == 20
    assert len(jobs._jobs) <= 100


async def test_pictures_that_no_storage_has_are_not_pushed_out_by_anothers() -> None:
    """While the storage is down one caller makes many: the other's paid picture is still there to be claimed."""

    async def work(job: Job) -> Result:
        return result(bytes(UNSTORED // 4), key="")

    jobs = Jobs(Limits(), work)
    calm = submit(jobs, BOB, inline=True)
    await calm.wait()
    flood = [submit(jobs, inline=True) for _ in range(8)]
    for job in flood:
        await job.wait()

    assert calm.result is not None
    assert calm.result.pictures[0].data
    assert [bool(job.result and job.result.pictures[0].data) for job in flood] == [False] * 5 + [True] * 3


async def test_jobs_are_their_callers_own() -> None:
    """Another caller finds neither the job, nor its place in the list, nor its key."""
    jobs = Jobs(Limits(), at_once)
    job = submit(jobs, key="k", fingerprint="f")

    assert jobs.get(job.id, ANN) is job
    assert jobs.get(job.id, BOB) is None
    assert list(jobs.all(BOB)) == []
    assert submit(jobs, BOB, key="k", fingerprint="f") is not job
    await jobs.drain(1)


async def test_the_same_key_is_the_same_job() -> None:
    """Running or finished, the key finds it; another body is a conflict."""
    gate = Gate()
    jobs = Jobs(Limits(), gate)
    job = submit(jobs, key="k", fingerprint="f")
    assert submit(jobs, key="k", fingerprint="f") is job
    with pytest.raises(ConflictError) as conflict:
        submit(jobs, key="k", fingerprint="other")
    gate.open.set()
    await job.wait()

    assert submit(jobs, key="k", fingerprint="f") is job
    assert (conflict.value.status, conflict.value.code) == (409, "idempotency_conflict")
    assert len(gate.began) == 1


@pytest.mark.parametrize(
    ("error", "sent", "same"),
    [
        (UpstreamTimeoutError("slow"), True, True),
        (RefusedError("no"), True, True),
        (RefusedError("no"), False, False),
        (BusyUpstreamError("busy"), True, False),
        (UnavailableError("later"), False, False),
    ],
)
async def test_a_key_answers_with_a_failure_only_if_it_may_have_cost(
    error: GatewayError, sent: bool, same: bool
) -> None:
    """What was sent and may be billed is answered as it was; what cost nothing may be tried anew with its key."""
    jobs = Jobs(Limits(), failing(error, sent))
    job = submit(jobs, key="k", fingerprint="f")
    with pytest.raises(type(error)):
        await job.wait()

    assert (submit(jobs, key="k", fingerprint="f") is job) is same
    await jobs.drain(1)


async def test_a_clients_own_retry_finds_its_job_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same body, marked as a retry, is the job of before; unmarked, or much later, it is a new one."""
    clock = [1000.0]
    for module in ("jobs", "claims"):
        monkeypatch.setattr(f"gateway.{module}.time.time", lambda: clock[0])
    jobs = Jobs(Limits(), at_once)
    job = submit(jobs, fingerprint="f")
    await job.wait()

    assert submit(jobs, fingerprint="f", again=Again(said=True)) is job
    assert submit(jobs, fingerprint="other", again=Again(said=True)) is not job
    clock[0] += 121
    assert submit(jobs, fingerprint="f", again=Again(said=True)) is not job
    assert submit(jobs, fingerprint="f") is not job
    await jobs.drain(1)


SAID = Again(said=True)


async def test_a_retry_gets_the_picture_that_nobody_had() -> None:
    """Of several jobs of one body it is the one whose client has gone, and each retry its own."""
    gate = asyncio.Event()

    async def work(job: Job) -> Result:
        job.sending()
        await gate.wait()
        return result()

    jobs = Jobs(Limits(), work)
    alike = [submit(jobs, fingerprint="f") for _ in range(4)]
    with jobs.reading(alike[0]), jobs.reading(alike[3]):
        for job in alike[1:3]:
            with suppress(asyncio.CancelledError), jobs.reading(job):
                await asyncio.sleep(0)
                raise asyncio.CancelledError
        first = submit(jobs, fingerprint="f", again=SAID)
        with jobs.reading(first):
            second = submit(jobs, fingerprint="f", again=SAID)
            gate.set()
            await asyncio.gather(*(job.wait() for job in alike))

    assert (first, second) == (alike[1], alike[2])
    assert submit(jobs, fingerprint="f", again=SAID) is alike[2]
    await jobs.drain(1)


async def test_a_failure_that_was_told_late_is_told_once() -> None:
    """After that it may be tried anew, and hides no other job: neither by its key nor by its body."""
    faults: list[GatewayError] = [BusyUpstreamError("busy")]
    gate = asyncio.Event()

    async def work(job: Job) -> Result:
        job.sending()
        if faults:
            raise faults.pop()
        await gate.wait()
        return result()

    jobs = Jobs(Limits(), work)
    failed = submit(jobs, fingerprint="f", key="k")
    await settled()
    failed.untold = True
    assert submit(jobs, fingerprint="f", key="k", again=SAID) is failed
    with suppress(GatewayError), jobs.reading(failed):
        await failed.wait()
    drawn = submit(jobs, fingerprint="f", key="k", again=Again())
    await settled()
    with suppress(asyncio.CancelledError), jobs.reading(drawn):
        raise asyncio.CancelledError

    assert drawn is not failed
    assert submit(jobs, fingerprint="f", again=SAID) is drawn
    gate.set()
    await jobs.drain(1)


async def test_who_is_cut_while_the_answer_is_written_has_not_had_it() -> None:
    """The picture is done and paid for; whoever asks again gets it."""
    jobs = Jobs(Limits(), at_once)
    job = submit(jobs, fingerprint="f")
    with suppress(ConnectionError), jobs.reading(job):
        await job.wait()
        raise ConnectionResetError

    assert submit(jobs, fingerprint="f", again=Again()) is job
    with jobs.reading(job):
        await job.wait()
    assert submit(jobs, fingerprint="f", again=Again()) is not job
    await jobs.drain(1)


async def test_another_key_is_another_wish() -> None:
    """Whatever became of the job of the same words."""
    jobs = Jobs(Limits(), Gate(sends=True))
    job = submit(jobs, fingerprint="f", key="one")
    await settled()
    with suppress(asyncio.CancelledError), jobs.reading(job):
        raise asyncio.CancelledError

    assert job.left
    assert submit(jobs, fingerprint="f", key="two", again=SAID) is not job
    assert submit(jobs, fingerprint="f", key="three", again=Again()) is not job
    assert submit(jobs, fingerprint="f", key="one", again=Again()) is job
    assert submit(jobs, fingerprint="f", again=Again()) is job
    jobs.abort()


async def test_a_retry_of_what_was_turned_away_is_a_new_job() -> None:
    """It has none, and means nobody else's; the next one means what it did."""
    jobs = Jobs(Limits(), at_once)
    job = submit(jobs, fingerprint="f")
    await job.wait()
    for _ in range(2):
        jobs.turn_away(ANN, "f", Again(), BusyError("full"))
    jobs.turn_away(ANN, "f", SAID, BusyError("full once more"))
    jobs.turn_away(ANN, "f", Again(), RequestError("no client repeats this"))
    jobs.turn_away(ANN, "g", Again(), BusyError("full"))
    made = [submit(jobs, fingerprint="f", again=SAID) for _ in range(3)]

    assert len({id(each) for each in (job, *made[:2])}) == 3
    assert made[2] is made[1]
    await jobs.drain(1)


async def test_a_retry_after_a_free_failure_is_a_new_job() -> None:
    """It is not the picture of another call of the same words, which was answered to that one."""
    faults: list[GatewayError] = [BusyUpstreamError("busy")]

    async def work(job: Job) -> Result:
        if faults:
            raise faults.pop()
        return result()

    jobs = Jobs(Limits(), work)
    failed, drawn = submit(jobs, fingerprint="f"), submit(jobs, fingerprint="f")
    for job in (failed, drawn):
        with suppress(GatewayError), jobs.reading(job):
            await job.wait()
    again = submit(jobs, fingerprint="f", again=SAID)

    assert again not in (failed, drawn)
    assert submit(jobs, fingerprint="f", again=SAID) is again
    await jobs.drain(1)


async def test_many_jobs_alike_are_forgotten_with_their_records() -> None:
    """However many there were, nothing is left of them."""
    jobs = Jobs(Limits(keep=0), at_once)
    for number in range(40):
        await submit(jobs, fingerprint="f", key=f"k{number}").wait()
    await jobs.drain(1)

    assert sum(map(len, jobs._claims._bodies.values())) <= 1
    assert len(jobs._claims._keys) <= 1


async def test_events_are_counted_and_every_reader_gets_all_of_them() -> None:
    """Three readers, one of them late, one from the middle: each sees the rest once and in order."""
    gate = asyncio.Event()

    async def work(job: Job) -> Result:
        for number in range(5):
            job.tell("progress", {"done": number / 5})
            await gate.wait()
        return result()

    async def read(after: int) -> list[int]:
        return [event.sequence async for event in job.watch(after)]

    jobs = Jobs(Limits(), work)
    job = submit(jobs)
    early = [asyncio.create_task(read(0)), asyncio.create_task(read(1))]
    await settled()
    gate.set()
    await job.wait()

    assert await early[0] == [1, 2, 3, 4, 5, 6, 7]
    assert await early[1] == [2, 3, 4, 5, 6, 7]
    assert await read(0) == [1, 2, 3, 4, 5, 6, 7]
    assert await read(99) == []


async def test_a_reader_who_leaves_disturbs_no_other() -> None:
    """A cancelled reader is forgotten, and the job still wakes the others."""
    gate = Gate()
    jobs = Jobs(Limits(), gate)
    job = submit(jobs)
    waiters = [asyncio.create_task(job.wait()) for _ in range(3)]
    await settled()
    waiters[1].cancel()
    await settled()
    gate.open.set()

    assert await waiters[0] is await waiters[2]
    assert not job.watched


async def test_places_in_the_line_are_told_to_whoever_watches() -> None:
    """A waiting job tells its place when it begins to wait, and anew when it moves up."""
    gates: list[asyncio.Event] = []

    async def work(job: Job) -> Result:
        gates.append(asyncio.Event())
        await gates[-1].wait()
        return result()

    jobs = Jobs(Limits(running=1), work)
    first, _, last = submit(jobs), submit(jobs), submit(jobs)
    watching = asyncio.create_task(last.wait())
    await settled()
    gates[0].set()
    await first.wait()
    async for event in last.watch():
        if event.data.get("position") == 1:
            break

    assert [event.data.get("position") for event in last.events] == [None, 2, 1]
    await jobs.drain(0)
    with pytest.raises(UnavailableError):
        await watching


async def test_beginning_tells_a_refusal_before_a_stream_is_opened() -> None:
    """What fails at once is raised; what waits or works lets the stream begin."""
    refused = submit(Jobs(Limits(), failing(RefusedError("no"))))
    jobs = Jobs(Limits(running=1), Gate())
    _, queued = submit(jobs), submit(jobs)
    slow = submit(Jobs(Limits(), Gate()))

    with pytest.raises(RefusedError):
        await refused.begin(5)
    await queued.begin(5)
    await slow.begin(0.01)
    await jobs.drain(0)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"timeout": 0}, "timeout must not be 0"), ({"webhook_keys": ("whsec_!",)}, "must go on in base64")],
)
def test_limits_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    """A job without an end, a key that signs nothing: refused at the start, and no key is shown."""
    with pytest.raises(ValueError, match=words):
        Limits(**options)
