"""Limits per caller."""

import asyncio

import pytest
from gateway_plugins.middlewares.limits import Limits
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import (
    BusyError,
    Caller,
    ImageRequest,
    Middleware,
    Rate,
    RequestError,
    StorageError,
    UpstreamTimeoutError,
    Work,
)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def make(rate):
    limits = Limits(Rate.parse(rate))
    limits.clock = Clock()
    return limits


async def draw(limits, caller="alice", n=1, proceed=None, sent=False):
    async def through(work):
        return work

    work = Work("job-1", Caller(caller), ImageRequest("a cat", n=n), "a cat", sent=lambda: sent)
    return await limits.around("job", work, proceed or through)


def test_it_fulfils_the_contract():
    """It stands around the whole job."""
    assert isinstance(make("1/minute"), Middleware)
    assert make("1/minute").stages == ("job",)


async def test_as_many_as_allowed_and_no_more():
    """The picture after the last allowed one is refused with the time to wait."""
    limits = make("3/minute")
    for _ in range(3):
        await draw(limits)
        limits.clock.now += 10

    with pytest.raises(BusyError) as caught:
        await draw(limits)
    assert caught.value.status == 429
    assert caught.value.retry_after == 30
    assert "3 pictures per minute" in caught.value.message


async def test_window_slides():
    """Each picture is free again when its own minute is over."""
    limits = make("2/minute")
    await draw(limits)
    limits.clock.now += 30
    await draw(limits)
    limits.clock.now += 30
    await draw(limits)

    with pytest.raises(BusyError):
        await draw(limits)


async def test_callers_do_not_share():
    """One caller's flood leaves the others alone."""
    limits = make("1/hour")
    await draw(limits, "alice")
    await draw(limits, "bob")

    with pytest.raises(BusyError):
        await draw(limits, "alice")


async def test_every_picture_counts():
    """A call for three pictures takes three places."""
    limits = make("4/minute")
    await draw(limits, n=3)

    with pytest.raises(BusyError):
        await draw(limits, n=2)
    await draw(limits, n=1)


async def test_more_than_ever_possible_is_the_caller_s_fault():
    """Waiting would not help, so it is no 429."""
    with pytest.raises(RequestError, match="n is 5, but at most 4 pictures per minute"):
        await draw(make("4/minute"), n=5)


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (RequestError("bad"), False),
        (asyncio.CancelledError(), False),
        (UpstreamTimeoutError("slow"), True),
        (UpstreamTimeoutError("slow", sent=False), False),
    ],
)
async def test_only_what_may_cost_is_counted(error, counted):
    """What failed before it was sent is given back."""
    limits = make("1/minute")

    async def fail(work):
        raise error

    with pytest.raises(type(error)):
        await draw(limits, proceed=fail)
    if counted:
        with pytest.raises(BusyError):
            await draw(limits)
    else:
        await draw(limits)


@pytest.mark.parametrize("sent", [True, False])
async def test_a_job_cut_off_after_sending_is_counted(sent):
    """Its time was over, or it was cancelled: what went out by then may be billed, and nothing else is counted."""
    limits = make("1/minute")

    async def cut(work):
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await draw(limits, proceed=cut, sent=sent)
    if sent:
        with pytest.raises(BusyError):
            await draw(limits)
    else:
        await draw(limits)


@pytest.mark.parametrize(("sent", "left"), [(True, 0), (False, 1)])
async def test_a_picture_that_was_drawn_and_not_stored_is_counted(sent, left):
    """The storage's error does not know whether something was paid; the work does."""

    async def failing(work):
        raise StorageError("full")

    limits = make("1/hour")
    with pytest.raises(StorageError):
        await draw(limits, proceed=failing, sent=sent)
    if left:
        await draw(limits)
    else:
        with pytest.raises(BusyError):
            await draw(limits)


async def test_calls_side_by_side_are_counted_at_once():
    """Fifty calls at the same moment do not slip through."""
    limits = make("5/minute")
    gate = asyncio.Event()

    async def wait(work):
        await gate.wait()
        return work

    calls = [asyncio.create_task(draw(limits, proceed=wait)) for _ in range(50)]
    await asyncio.sleep(0)
    gate.set()
    ended = await asyncio.gather(*calls, return_exceptions=True)

    assert sum(isinstance(end, Work) for end in ended) == 5


@given(st.lists(st.tuples(st.integers(1, 3), st.floats(0, 40)), max_size=40))
@example([(3, 1.49202971053829), (3, 0.0)])
async def test_an_obedient_caller_is_refused_once_at_most(calls):
    """Who waits as told gets the place, and no window ever holds more than the limit."""
    limits, drawn = make("5/minute"), []
    for n, pause in calls:
        limits.clock.now += pause
        try:
            await draw(limits, n=n)
        except BusyError as error:
            limits.clock.now += error.retry_after
            await draw(limits, n=n)
        drawn += [limits.clock.now] * n

    assert all(sum(moment <= start < moment + 60 for moment in drawn) <= 5 for start in drawn)


async def test_forgotten_callers_take_no_memory():
    """Names of callers who are long gone are dropped."""
    limits = make("1/minute")
    for index in range(3_000):
        await draw(limits, f"caller-{index}")
        limits.clock.now += 1

    assert len(limits._local._moments) <= 1_001
