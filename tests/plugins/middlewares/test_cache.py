"""Pictures and prompts that are remembered."""

import asyncio
from dataclasses import replace

import pytest
from gateway_plugins.middlewares.cache import Cache

from gateway import Attempt, Caller, Change, Image, ImageRequest, Middleware, Picture, PictureMeta, Receipt, Work

SEEDED = ImageRequest("a cat", model="flux", seed=7)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Painter:
    """Stands for the rest of the pipeline and counts what it was paid for."""

    def __init__(self, expires=None, data=b"png", key="k", error=None):
        self.expires, self.data, self.key, self.error, self.paid = expires, data, key, error, 0

    async def __call__(self, work):
        self.paid += 1
        if self.error:
            raise self.error
        meta = PictureMeta(f"{self.key}{self.paid}" if self.key else "", "image/png", 8, 8, 3, "", 0, self.expires)
        receipt = Receipt("flux", "t", attempts=(Attempt("t", "ok", 1),), cost=0.5)
        work = replace(work, request=replace(work.request, prompt="better"), receipt=receipt)
        return replace(work, pictures=(Picture(meta, self.data, seed=7),))


def make(**options):
    cache = Cache(**options)
    cache.clock = Clock()
    return cache


async def draw(cache, painter, request=SEEDED, caller="alice"):
    return await cache.around("job", Work("job-1", Caller(caller), request, request.prompt), painter)


def test_it_fulfils_the_contract():
    """It stands around the whole job and around the optimizers."""
    assert isinstance(Cache(), Middleware)
    assert Cache().stages == ("job", "optimize")


async def test_same_request_with_a_seed_is_paid_once():
    """The second answer has the first one's pictures and says so."""
    cache, painter = make(), Painter()
    first = await draw(cache, painter)
    second = await draw(cache, painter)

    assert painter.paid == 1
    assert second.pictures == first.pictures
    assert second.request.prompt == "better"
    assert second.receipt.cost == 0
    assert second.receipt.attempts == ()
    assert "nothing was generated" in second.receipt.notes[-1]
    assert first.receipt.notes == ()


@pytest.mark.parametrize(
    "other",
    [
        replace(SEEDED, seed=8),
        replace(SEEDED, prompt="a dog"),
        replace(SEEDED, model="other"),
        replace(SEEDED, n=2),
        replace(SEEDED, steps=3),
        replace(SEEDED, optimize=False),
        replace(SEEDED, images=(Image(b"in"),)),
        replace(SEEDED, images=(Image(b"other"),)),
        replace(SEEDED, mask=Image(b"in")),
    ],
)
async def test_any_difference_is_a_new_picture(other):
    """Only what is identical is remembered."""
    cache, painter = make(), Painter()
    await draw(cache, painter)
    await draw(cache, painter, replace(SEEDED, images=(Image(b"in"),), n=5))
    await draw(cache, painter, other)

    assert painter.paid == 3


@pytest.mark.parametrize(
    "same", [replace(SEEDED, user="u"), replace(SEEDED, partial_images=2), replace(SEEDED, spelled=(("n", "count"),))]
)
async def test_what_does_not_change_the_picture_does_not_count(same):
    """The end user's name or previews make no other picture."""
    cache, painter = make(), Painter()
    await draw(cache, painter)
    await draw(cache, painter, same)

    assert painter.paid == 1


async def test_what_the_target_drops_counts():
    """It stands in the receipt, and a strict call is refused for it."""
    cache, painter = make(), Painter()
    strict = replace(SEEDED, strict=True)
    await draw(cache, painter)
    await draw(cache, painter, replace(SEEDED, unknown=("stepz",)))
    await draw(cache, painter, strict)
    await draw(cache, painter, replace(strict, user="u"))

    assert painter.paid == 4


async def test_another_call_s_receipt_tells_of_no_other_end_user():
    """What was asked is this call's own; what the first one asked besides is nobody's business."""
    cache = make()
    user = Change("user", "anna@example.com", None, "not taken")

    async def paint(work):
        meta = PictureMeta("k" * 40, "image/png", 8, 8, 3, "", 0)
        receipt = replace(work.receipt, applied={"seed": 7, "partial_images": 2}, dropped=(user,))
        return replace(work, pictures=(Picture(meta, b"png"),), receipt=receipt)

    def work(**asked):
        return Work("job-1", Caller("alice"), replace(SEEDED, **asked), "a cat", Receipt(asked={"seed": 7, **asked}))

    first = await cache.around("job", work(user="anna@example.com", partial_images=2), paint)
    second = await cache.around("job", work(), paint)

    assert first.receipt.dropped == (user,)
    assert (second.receipt.asked, second.receipt.applied, second.receipt.dropped) == ({"seed": 7}, {"seed": 7}, ())


async def test_without_a_seed_each_call_is_new():
    """That is what the gateway promises."""
    cache, painter = make(), Painter()
    for _ in range(3):
        await draw(cache, painter, replace(SEEDED, seed=None))

    assert painter.paid == 3


async def test_seed_zero_is_a_seed():
    """Zero is not the same as none."""
    cache, painter = make(), Painter()
    for _ in range(2):
        await draw(cache, painter, replace(SEEDED, seed=0))

    assert painter.paid == 1


async def test_callers_do_not_share_pictures():
    """A picture belongs to the caller who paid for it."""
    cache, painter = make(), Painter()
    await draw(cache, painter, caller="alice")
    await draw(cache, painter, caller="bob")

    assert painter.paid == 2


@pytest.mark.parametrize(
    ("expires", "later", "paid"), [(1100, 90, 1), (1100, 96, 2), (None, 3599, 1), (None, 3601, 2), (1004, 0, 2)]
)
async def test_picture_is_remembered_while_it_is_stored(expires, later, paid):
    """Never longer than its link lives, nor than the ttl."""
    cache, painter = make(), Painter(expires)
    await draw(cache, painter)
    cache.clock.now += later
    await draw(cache, painter)

    assert painter.paid == paid


@pytest.mark.parametrize("painter", [Painter(key=""), Painter(data=b""), Painter(data=b"x" * 20_000)])
async def test_what_cannot_be_given_again_is_not_remembered(painter):
    """A picture that was not stored, has no bytes here, or is too large."""
    cache = make(memory=10_000)
    for _ in range(2):
        await draw(cache, painter)

    assert painter.paid == 2


async def test_what_is_not_whole_is_not_remembered():
    """One of two pictures came: whoever asks again may get both."""
    cache, painter = make(), Painter()
    for _ in range(2):
        await draw(cache, painter, replace(SEEDED, n=2))

    assert painter.paid == 2


async def test_memory_is_bounded():
    """The bytes of all remembered pictures stay below the limit."""
    cache, painter = make(memory=20_000), Painter(data=b"x" * 5_000)
    for seed in range(10):
        await draw(cache, painter, replace(SEEDED, seed=seed))

    assert cache._made.currsize <= 20_000
    assert len(cache._made) == 2


async def test_failure_is_not_remembered():
    """The next call tries again."""
    cache, painter = make(), Painter(error=OSError())
    for _ in range(2):
        with pytest.raises(OSError):
            await draw(cache, painter)

    assert painter.paid == 2


class Rewriter:
    def __init__(self, notes=()):
        self.asked, self.notes = 0, notes

    async def __call__(self, work):
        self.asked += 1
        receipt = replace(work.receipt, optimizer="rewriter", notes=self.notes)
        return replace(work, request=replace(work.request, prompt=f"better {self.asked}"), receipt=receipt)


async def better(cache, rewriter, request, told=None):
    tell = (lambda kind, data: told.append((kind, data))) if told is not None else (lambda kind, data: None)
    return await cache.around("optimize", Work("j", Caller("alice"), request, request.prompt, tell=tell), rewriter)


async def test_optimized_prompt_is_remembered():
    """The model is asked once; events and receipt are as if it had been asked again, and say that it was not."""
    cache, rewriter, told = make(), Rewriter(), []
    await better(cache, rewriter, ImageRequest("a cat", seed=1))
    again = await better(cache, rewriter, ImageRequest("a cat", n=3), told)

    assert rewriter.asked == 1
    assert again.request == ImageRequest("better 1", n=3)
    assert again.receipt.optimizer == "rewriter"
    assert again.receipt.notes == ("the optimized prompt was remembered",)
    assert told == [("optimized", {"prompt": "better 1", "optimizer": "rewriter"})]


@pytest.mark.parametrize(
    "other", [ImageRequest("a dog"), ImageRequest("a cat", style="film"), ImageRequest("a cat", aspect_ratio="16:9")]
)
async def test_other_words_are_optimized_anew(other):
    """All that an optimizer may look at makes a difference."""
    cache, rewriter = make(), Rewriter()
    await better(cache, rewriter, ImageRequest("a cat"))
    await better(cache, rewriter, other)

    assert rewriter.asked == 2


async def test_fallback_is_not_remembered():
    """A prompt that one of the optimizers could not improve gets another chance."""
    cache, rewriter = make(), Rewriter(notes=("not optimized by 'second'",))
    for _ in range(2):
        await better(cache, rewriter, ImageRequest("a cat"))

    assert rewriter.asked == 2


async def test_switched_off_optimizing_is_respected():
    """A request that wants its own words gets them."""
    cache, rewriter = make(), Rewriter()
    await better(cache, rewriter, ImageRequest("a cat"))
    await better(cache, rewriter, ImageRequest("a cat", optimize=False))

    assert rewriter.asked == 2


async def test_each_half_can_be_switched_off():
    """Only pictures or only prompts."""
    cache, painter, rewriter = make(pictures=False), Painter(), Rewriter()
    await draw(cache, painter)
    await draw(cache, painter)
    cache = make(prompts=False)
    await better(cache, rewriter, ImageRequest("a cat"))
    await better(cache, rewriter, ImageRequest("a cat"))

    assert (painter.paid, rewriter.asked) == (2, 2)


@pytest.mark.parametrize("options", [{"pictures": False, "prompts": False}, {"ttl": 0}])
def test_options_that_remember_nothing_are_refused(options):
    """Such a component is a mistake."""
    with pytest.raises(ValueError, match="leave the component out"):
        Cache(**options)


class Slow(Painter):
    """Draws when it is let; what it was asked first may fail."""

    def __init__(self, failures=(), **more):
        super().__init__(**more)
        self.free, self.failures = asyncio.Event(), list(failures)

    async def __call__(self, work):
        failure = self.failures.pop(0) if self.failures else None
        self.paid += 1
        await self.free.wait()
        if failure:
            raise failure
        self.paid -= 1
        return await super().__call__(work)


async def together(cache, painter, count=4, **more):
    tasks = [asyncio.create_task(draw(cache, painter, **more)) for _ in range(count)]
    await settled()
    return tasks


async def settled():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_is_being_drawn_is_waited_for():
    """Four at once are paid once, and have the same picture; another caller and another seed wait for nobody."""
    cache, painter = make(), Slow()
    tasks = await together(cache, painter)
    others = [asyncio.create_task(draw(cache, painter, caller="bob"))]
    others += [asyncio.create_task(draw(cache, painter, replace(SEEDED, seed=8)))]
    painter.free.set()
    done = await asyncio.gather(*tasks)
    await asyncio.gather(*others)

    assert painter.paid == 3
    assert len({work.pictures[0].meta.key for work in done}) == 1
    assert [len(work.receipt.notes) for work in done] == [0, 1, 1, 1]
    assert not cache._drawing


async def test_a_failure_of_the_first_fails_no_other():
    """The next one tries in its place, and the rest wait for that."""
    cache, painter = make(), Slow([RuntimeError("broken")])
    tasks = await together(cache, painter)
    painter.free.set()
    first, *rest = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(first, RuntimeError)
    assert len({work.pictures[0].meta.key for work in rest}) == 1
    assert painter.paid == 2
    assert not cache._drawing


async def test_when_all_fail_each_has_tried():
    """Everybody is told of a failure of their own, one after the other."""
    cache, painter = make(), Slow([RuntimeError(str(number)) for number in range(4)])
    tasks = await together(cache, painter)
    painter.free.set()
    failures = await asyncio.gather(*tasks, return_exceptions=True)

    assert [str(failure) for failure in failures] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("leaving", [0, 1, 3])
async def test_whoever_leaves_disturbs_no_other(leaving):
    """The one who draws or one who waits is cancelled: the others get their picture."""
    cache, painter = make(), Slow()
    tasks = await together(cache, painter)
    tasks[leaving].cancel()
    await settled()
    painter.free.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(done.pop(leaving), asyncio.CancelledError)
    assert len({work.pictures[0].meta.key for work in done}) == 1
    assert not cache._drawing


async def test_those_who_wait_get_what_is_too_large_to_remember():
    """It is here now; drawn again it would be paid again."""
    cache, painter = make(memory=10_000), Slow(data=b"x" * 20_000)
    tasks = await together(cache, painter)
    painter.free.set()
    await asyncio.gather(*tasks)

    assert painter.paid == 1


async def test_a_deleted_picture_is_forgotten():
    """No byte of it stays; what was made otherwise does."""
    cache, painter = make(), Painter()
    first = await draw(cache, painter)
    await draw(cache, painter, replace(SEEDED, seed=8))
    cache.forget(first.pictures[0].meta.key)

    assert len(cache._made) == 1
    await draw(cache, painter, replace(SEEDED, seed=8))
    assert painter.paid == 2
    await draw(cache, painter)
    assert painter.paid == 3


async def test_a_lost_picture_has_its_new_key_from_now_on():
    """Its storage lost it and has it again under another key: that is the one to give out."""
    cache, painter = make(), Painter()
    first = (await draw(cache, painter)).pictures[0]
    moved = replace(first, meta=replace(first.meta, key="another"))
    cache.forget(first.meta.key, moved)

    assert (await draw(cache, painter)).pictures == (moved,)
    assert painter.paid == 1


async def test_any_seed_is_no_seed():
    """-1 asks for whatever comes."""
    cache, painter = make(), Painter()
    for _ in range(2):
        await draw(cache, painter, replace(SEEDED, seed=-1))

    assert painter.paid == 2
