"""The generate stage: who is asked, how often, what is made of the answers, and what is never paid for twice."""

from __future__ import annotations

import asyncio
from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

import pytest
from PIL import Image as Pillow

from gateway.capabilities import Capabilities, Range, SizeRule
from gateway.contracts import Proceed, Report, Work
from gateway.errors import (
    BadKeyError,
    BrokenAnswerError,
    BusyError,
    BusyUpstreamError,
    GatewayError,
    MisconfiguredError,
    NotAnImageError,
    PluginError,
    RateLimitedError,
    RefusedError,
    RejectedError,
    RequestError,
    UnavailableError,
    UnreachableError,
    UpstreamError,
    UpstreamTimeoutError,
)
from gateway.fetch import Fetcher
from gateway.generation import Generation
from gateway.places import Places
from gateway.routing import Router
from gateway.settings import Fetch, ModelSettings, TargetSettings
from gateway.targets import Target
from gateway.usage import Usage
from gateway.values import Caller, Image, ImageRequest, Size
from tests.fake_upstream import FakeUpstream, png

PICTURE = png(64, 64)
OTHER = png(32, 32)
ANY = Capabilities(count=10)
Draw = Callable[[ImageRequest, Report], Any]


@dataclass
class Painter:
    """Does what *draw* says, and remembers each request; *busiest* is how many calls it had at once."""

    draw: Draw = lambda request, report: [Image(PICTURE)] * request.n
    can: Capabilities = ANY
    sends: bool = True
    requests: list[ImageRequest] = field(default_factory=list)
    now: int = 0
    busiest: int = 0

    def capabilities(self, model: str) -> Capabilities:
        return self.can

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        self.requests.append(request)
        if self.sends:
            report.sending()
        self.now += 1
        self.busiest = max(self.busiest, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        drawn = self.draw(request, report)
        return await drawn if asyncio.iscoroutine(drawn) else drawn  # type: ignore[no-any-return]  # lies on purpose


@dataclass
class Ticket:
    """What the stage knows of a job."""

    id: str = "job_1"
    sent: bool = False
    done: bool = False

    hurry: Any = None
    watched: bool = False
    away: list[str] = field(default_factory=list)

    def sending(self) -> None:
        self.sent = True

    def tell(self, kind: str, data: Mapping[str, Any]) -> None:
        """The stage itself tells through the work."""

    def step_aside(self) -> None:
        self.away.append("aside")

    async def step_back(self) -> None:
        self.away.append("back")


class Run:
    """One run of the stage with all that it told."""

    def __init__(self, *painters: Painter, fetch: Fetch | None = None, per_backend: Mapping[str, int] | None = None):
        self.router = Router(chance=lambda: 0.0)
        self.targets = [
            Target.of(TargetSettings(f"t{place}", "up"), painter, "crop") for place, painter in enumerate(painters)
        ]
        self.generation = Generation(
            self.router, Fetcher(fetch or Fetch()), 50_000_000, Places(per_backend or {}, 1000)
        )
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.ticket = Ticket()
        self.around: Callable[[Proceed], Proceed] | None = None

    async def __call__(self, request: ImageRequest | None = None, **settings: Any) -> Work:
        request = request or ImageRequest("a cat", model="flux")
        work = Work("job_1", Caller("ann"), request, "a cat", tell=lambda kind, data: self.events.append((kind, data)))
        return await self.generation.generate(
            work, self.targets, ModelSettings((), **settings), self.ticket, self.around
        )

    def told(self, kind: str) -> list[Mapping[str, Any]]:
        return [data for name, data in self.events if name == kind]


def raising(error: BaseException) -> Painter:
    def draw(request: ImageRequest, report: Report) -> list[Image]:
        raise error

    return Painter(draw)


def answering(value: Any, *, sends: bool = True) -> Painter:
    return Painter(lambda request, report: value, sends=sends)


async def test_a_picture_comes_with_what_it_truly_is() -> None:
    """Type and size are read from the bytes, whatever the plugin says, and the receipt names the target."""
    work = await Run(answering([Image(PICTURE, media_type="image/webp", width=9, height=9, seed=7)]))()

    assert (work.images[0].media_type, work.images[0].size, work.images[0].seed) == ("image/png", Size(64, 64), 7)
    assert [(a.target, a.outcome) for a in work.receipt.attempts] == [("t0/up", "ok")]


@pytest.mark.parametrize(
    "error",
    [
        UnreachableError("gone"),
        BusyUpstreamError("full"),
        RateLimitedError("slow down"),
        BadKeyError("no"),
        MisconfiguredError("what"),
    ],
)
async def test_what_was_surely_not_paid_goes_to_the_next_target(error: UpstreamError) -> None:
    """The next one is asked once, and the receipt tells both attempts."""
    first, second = raising(error), Painter()
    run = Run(first, second)
    work = await run()

    assert (len(first.requests), len(second.requests)) == (1, 1)
    assert [(a.target, a.outcome) for a in work.receipt.attempts] == [("t0/up", error.code), ("t1/up", "ok")]
    assert run.told("attempt_failed")[0]["target"] == "t0/up"


@pytest.mark.parametrize(
    "error",
    [
        UpstreamTimeoutError("slow"),
        BrokenAnswerError("cut"),
        NotAnImageError("html"),
        RejectedError("bad size"),
        UpstreamError("?"),
    ],
)
async def test_what_may_have_been_paid_is_final(error: UpstreamError) -> None:
    """No second target is asked, and no SDK is invited to try again."""
    second = Painter()

    with pytest.raises(type(error)) as raised:
        await Run(raising(error), second)()
    assert not second.requests
    assert raised.value.again is False
    assert raised.value.message.startswith("t0/up: ")


async def test_a_refusal_is_final_even_when_sent_calls_are_tried_again() -> None:
    """Refused content and refused requests never burn another target."""
    for error in (RefusedError("no"), RejectedError("no")):
        second = Painter()
        with pytest.raises(RequestError if isinstance(error, RefusedError) else RejectedError):
            await Run(raising(error), second)(retry_sent=True)
        assert not second.requests


async def test_who_wants_it_so_has_sent_calls_tried_again() -> None:
    """``retry_sent`` hands a call that may be billed to the next target."""
    work = await Run(raising(UpstreamTimeoutError("slow")), Painter())(retry_sent=True)

    assert [a.outcome for a in work.receipt.attempts] == ["upstream_timeout", "ok"]


@pytest.mark.parametrize("later", [UnreachableError("gone"), BusyUpstreamError("full"), RejectedError("no")])
async def test_what_may_be_billed_stays_so_whatever_comes_after_it(later: UpstreamError) -> None:
    """The last target's error is told, and neither client nor key may try again: the first may be paid for."""
    with pytest.raises(UpstreamError, match=r"^t1/up: ") as raised:
        await Run(raising(UpstreamTimeoutError("slow")), raising(later))(retry_sent=True)

    error = raised.value
    assert (error.sent, error.billed, error.again) == (True, None, False)


async def test_what_may_be_billed_is_told_where_a_later_target_has_no_error_of_its_own() -> None:
    """A request that the second cannot serve, or a line that is full, cost nothing; the first may have."""
    for later in (RequestError("cannot"), RefusedError("no"), BusyError("full")):
        with pytest.raises(UpstreamTimeoutError, match=r"^t0/up: slow") as raised:
            await Run(raising(UpstreamTimeoutError("slow")), raising(later))(retry_sent=True)
        assert (raised.value.sent, raised.value.again) == (True, False)


async def test_of_several_calls_the_one_that_may_be_billed_is_told() -> None:
    """Whichever of them failed first: budgets and keys go by it."""
    faults = [RateLimitedError("limit", billed=False), UpstreamError("could not finish", retryable=True)]

    def fail(request: ImageRequest, report: Report) -> list[Image]:
        raise faults.pop(0)

    with pytest.raises(UpstreamError, match="could not finish") as raised:
        await Run(Painter(fail, can=Capabilities(count=1)))(ImageRequest("a cat", n=2))

    assert (raised.value.sent, raised.value.billed) == (True, None)


async def test_when_all_fail_the_last_one_is_told() -> None:
    """Each target is asked once; the error names the last."""
    painters = [raising(BusyUpstreamError("full")), raising(UnreachableError("gone"))]

    with pytest.raises(UnreachableError, match=r"^t1/up: gone"):
        await Run(*painters)()
    assert [len(painter.requests) for painter in painters] == [1, 1]


async def test_a_target_that_keeps_failing_rests() -> None:
    """After five failures in a row it is asked by one call at a time; the others are told when to come again."""
    hold = asyncio.Event()
    hold.set()

    async def fail(request: ImageRequest, report: Report) -> list[Image]:
        await hold.wait()
        raise BusyUpstreamError("full")

    painter = Painter(lambda request, report: fail(request, report))
    run = Run(painter)
    for _ in range(7):
        with pytest.raises(BusyUpstreamError):
            await run()
    hold.clear()
    storm = [asyncio.create_task(run()) for _ in range(50)]
    done, _ = await asyncio.wait(storm, timeout=0.5)
    hold.set()
    ends = await asyncio.gather(*storm, return_exceptions=True)

    assert len(painter.requests) == 8
    assert len(done) == 49
    assert sum(isinstance(end, UnavailableError) and bool(end.retry_after) for end in ends) == 49


async def test_keys_that_rest_do_not_make_their_target_rest() -> None:
    """They come back at a time that is known; until then each call is told so, and nothing is hidden."""
    error = RateLimitedError("every usable key rests", sent=False, retry_after=2)
    run = Run(raising(error))
    for _ in range(8):
        with pytest.raises(RateLimitedError):
            await run()

    assert run.router.health() == {}


async def test_a_target_that_makes_another_size_is_found_out() -> None:
    """What was applied is what came, not what was asked for."""
    picture = png(96, 64)
    free = Capabilities(sizes=SizeRule(low=16))
    run = Run(Painter(lambda request, report: [Image(picture)], can=free))
    work = await run(ImageRequest("a cat", size=Size(128, 72)))

    assert work.images[0].size == Size(128, 72)
    assert "size" not in work.receipt.applied
    (change,) = work.receipt.adjusted
    assert (change.name, change.asked, change.applied) == ("size", "128x72", "128x72")
    assert "answered 96x64" in change.reason


async def test_refusals_do_not_make_a_target_rest() -> None:
    """A caller's own mistakes say nothing of the target."""
    run = Run(raising(RefusedError("no")))
    for _ in range(8):
        with pytest.raises(RefusedError):
            await run()

    assert run.router.health() == {}


async def test_many_pictures_are_spread_over_calls() -> None:
    """Five pictures of an upstream that makes two at once: three calls, at most four at once, seeds count up."""
    painter = Painter(can=Capabilities(count=2, accepts={"seed": True}))
    work = await Run(painter)(ImageRequest("a cat", n=5, seed=10))

    assert [request.n for request in painter.requests] == [2, 2, 1]
    assert [request.seed for request in painter.requests] == [10, 12, 14]
    assert len(work.images) == 5
    many = Painter(can=Capabilities(count=1))
    await Run(many)(ImageRequest("a cat", n=10))
    assert many.busiest <= 4


async def test_a_picture_has_the_seed_it_was_made_with() -> None:
    """Sent alone, a seed is that picture's, folded ones too; what the upstream tells goes before what it was sent."""
    one = {"accepts": {"seed": Range(0, 99)}}
    single = await Run(Painter(can=Capabilities(count=1, **one)))(ImageRequest("a cat", n=3, seed=98))
    told = await Run(answering([Image(PICTURE, seed=5)]))(ImageRequest("a cat", seed=98))
    several = await Run(Painter(can=Capabilities(count=4, **one)))(ImageRequest("a cat", n=2, seed=98))
    deaf = await Run(Painter(can=Capabilities()))(ImageRequest("a cat", seed=98))
    by_chance = await Run(Painter(can=Capabilities(**one)))(ImageRequest("a cat", seed=-1))

    assert [image.seed for image in single.images] == [98, 99, 0]
    assert [image.seed for image in told.images] == [5]
    assert [image.seed for image in several.images] == [None, None]
    assert [image.seed for image in (*deaf.images, *by_chance.images)] == [None, None]


async def test_the_seed_outlives_what_is_done_to_the_picture_here() -> None:
    """A picture that is cut and converted keeps the seed that it was made with."""
    painter = Painter(can=Capabilities(sizes=(Size(64, 64),), accepts={"seed": True}))
    work = await Run(painter)(ImageRequest("a cat", size=Size(32, 16), seed=7, output_format="webp"))

    assert (work.images[0].media_type, work.images[0].size, work.images[0].seed) == ("image/webp", Size(32, 16), 7)


async def test_the_tokens_of_all_calls_are_added_up() -> None:
    """Also those of a call that brought no picture, and of a target that gave up; nonsense of a plugin is left out."""
    tokens = Usage(10, 100, 110, {"text_tokens": 10}, {"image_tokens": 100})

    def draw(request: ImageRequest, report: Report) -> list[Image]:
        report.used(tokens)
        for nonsense in (None, {"input": 1}, Usage(-5, 1, 1), Usage("9", 1, 1), Usage(1, 1, 2, {"x": None})):  # type: ignore[arg-type]  # lies on purpose
            report.used(nonsense)  # type: ignore[arg-type]  # lies on purpose
        if request.seed == 2:
            raise UpstreamTimeoutError("slow")
        return [Image(PICTURE)]

    run = Run(Painter(draw, can=Capabilities(count=1, accepts={"seed": True})))
    work = await run(ImageRequest("a cat", n=3, seed=1))

    assert work.receipt.usage == Usage(30, 300, 330, {"text_tokens": 30}, {"image_tokens": 300})
    assert (await Run(Painter())()).receipt.usage is None


async def test_what_a_backend_did_to_the_request_stands_in_the_receipt_once() -> None:
    """Three calls that say the same are one note; what a target said that gave up is none."""

    def gives_up(request: ImageRequest, report: Report) -> list[Image]:
        report.noted("cut in vain")
        raise UnreachableError("gone")

    def draws(request: ImageRequest, report: Report) -> list[Image]:
        report.noted("the mask was converted")
        return [Image(PICTURE)]

    one = Capabilities(count=1)
    work = await Run(Painter(gives_up, can=one, sends=False), Painter(draws, can=one))(ImageRequest("a cat", n=3))

    assert work.receipt.notes == ("the mask was converted",)


async def test_some_of_many_pictures_are_better_than_none() -> None:
    """Two of four calls fail: two pictures come, the receipt tells what is missing, and nobody else is asked."""

    def draw(request: ImageRequest, report: Report) -> list[Image]:
        if request.seed in {2, 3}:
            raise UpstreamTimeoutError("slow")
        return [Image(PICTURE)]

    spare = Painter(can=Capabilities(count=1, accepts={"seed": True}))
    run = Run(Painter(draw, can=Capabilities(count=1, accepts={"seed": True})), spare)
    work = await run(ImageRequest("a cat", n=4, seed=1))

    assert len(work.images) == 2
    assert len([note for note in work.receipt.notes if "missing" in note]) == 2
    assert run.told("generated")[0]["missing"] == 2
    assert not spare.requests


async def test_what_stands_around_an_attempt_hears_its_cost_before_and_after() -> None:
    """Of each target asked, and before anything is told; what it changes is not taken."""
    run, seen = Run(raising(UpstreamTimeoutError("slow")), Painter()), list[Any]()
    run.targets = [replace(target, price=price) for target, price in zip(run.targets, (0.5, 0.25), strict=True)]

    def around(proceed: Proceed) -> Proceed:
        async def step(work: Work) -> Work:
            seen.append((work.receipt.target, work.receipt.cost, len(run.told("generating"))))
            done = await proceed(work)
            seen.append((len(done.images), done.receipt.cost))
            return replace(done, images=(), request=ImageRequest("a dog"))

        return step

    run.around = around
    work = await run(ImageRequest("a cat", model="flux", n=2), retry_sent=True)

    assert seen == [("t0/up", 1.0, 0), ("t1/up", 0.5, 1), (2, 0.5)]
    assert (len(work.images), work.request.prompt, work.receipt.cost) == (2, "a cat", 0.5)


async def test_an_attempt_that_is_kept_from_being_made_is_a_fault() -> None:
    """It must be refused with an error; no target is blamed for it."""
    painter = Painter()
    run = Run(painter)
    run.around = lambda proceed: lambda work: asyncio.sleep(0, work)

    with pytest.raises(PluginError, match="kept an attempt from being made"):
        await run()
    assert not painter.requests
    assert run.router.health() == {}


async def test_of_several_failures_one_that_may_be_billed_says_so() -> None:
    """Whichever error is told, nobody may take it for free; a call that found no place was not made."""
    ends: list[GatewayError] = [RejectedError("bad"), UpstreamTimeoutError("slow"), BusyError("full")]

    def draw(request: ImageRequest, report: Report) -> list[Image]:
        raise ends.pop(0)

    with pytest.raises(RejectedError) as told:
        await Run(Painter(draw, Capabilities(count=1)))(ImageRequest("a cat", model="flux", n=2))
    ends[:] = [BusyError("full"), UpstreamTimeoutError("slow")]
    with pytest.raises(UpstreamTimeoutError):
        await Run(Painter(draw, Capabilities(count=1)))(ImageRequest("a cat", model="flux", n=2))

    assert (told.value.sent, told.value.billed) == (True, None)


async def test_a_picture_that_cannot_be_fetched_may_be_billed() -> None:
    """It was made, although its host cannot be reached."""
    run = Run(answering([Image(url="http://127.0.0.1:1/a.png")]), fetch=Fetch(allow=("127.0.0.1:1",)))
    async with run.generation._fetcher:
        with pytest.raises(UnreachableError) as told:
            await run()

    assert (told.value.sent, told.value.billed) == (True, None)


async def test_pictures_that_are_surely_not_billed_are_not_in_the_cost() -> None:
    """Of five pictures one call of two fails unbilled, and one of one may have been billed: three count."""

    def draw(request: ImageRequest, report: Report) -> list[Image]:
        if request.seed == 1:
            raise BusyUpstreamError("HTTP 500")
        if request.n == 1:
            raise UpstreamTimeoutError("slow")
        return [Image(PICTURE)] * request.n

    run = Run(Painter(draw, can=Capabilities(count=2, accepts={"seed": True})))
    run.targets = [replace(target, price=0.5) for target in run.targets]
    work = await run(ImageRequest("a cat", n=5, seed=1))

    assert (len(work.images), work.receipt.cost) == (2, 1.5)


async def test_one_broken_picture_does_not_spoil_the_others_of_its_call() -> None:
    """A call of three with one that is no picture gives two, and says so."""
    work = await Run(answering([Image(PICTURE), Image(b"<html>"), Image(PICTURE)]))(ImageRequest("a cat", n=3))

    assert len(work.images) == 2
    assert any("not_an_image" in note for note in work.receipt.notes)


async def test_when_all_of_many_fail_what_may_be_paid_decides() -> None:
    """Three were refused for being too many, one timed out after sending: nobody else may be asked."""

    def draw(request: ImageRequest, report: Report) -> list[Image]:
        raise UpstreamTimeoutError("slow") if request.seed == 3 else RateLimitedError("slow down")

    spare = Painter(can=Capabilities(count=1, accepts={"seed": True}))
    with pytest.raises(UpstreamTimeoutError):
        await Run(Painter(draw, can=spare.can), spare)(ImageRequest("a cat", n=4, seed=1))
    assert not spare.requests


async def test_fewer_pictures_than_asked_are_told() -> None:
    """A target that quietly makes one of three does not leave the receipt saying three."""
    work = await Run(answering([Image(PICTURE)]))(ImageRequest("a cat", model="flux", n=3))

    assert len(work.images) == 1
    assert "n" not in work.receipt.applied
    assert [(change.name, change.asked, change.applied) for change in work.receipt.adjusted] == [("n", 3, 1)]


async def test_surplus_pictures_are_cut_and_told() -> None:
    """A plugin that gives three for one asked gives one; the receipt says that the others were made."""
    work = await Run(answering([Image(PICTURE)] * 3))()

    assert len(work.images) == 1
    assert work.receipt.notes == ("the target made 3 pictures and 1 was asked for; the others are left out",)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "a list of Image, not NoneType"),
        ("png", "a list of Image, not str"),
        (iter([]), "a list of Image, not"),
        ({"data": b""}, "a list of Image, not dict"),
        ([PICTURE], "Image objects, not bytes"),
        ([None], "Image objects, not NoneType"),
        ([Image("text")], "Image.data must be bytes, not str"),  # type: ignore[arg-type]
        ([Image(None)], "Image.data must be bytes, not NoneType"),  # type: ignore[arg-type]
        ([Image(url=b"https://a")], "Image.url must be str, not bytes"),  # type: ignore[arg-type]
        ([Image(PICTURE, seed="7")], "Image.seed must be int, not str"),  # type: ignore[arg-type]
        ([Image(PICTURE, revised_prompt=["a"])], "Image.revised_prompt must be str, not list"),  # type: ignore[arg-type]
        ([Image()], "both empty"),
    ],
)
@pytest.mark.parametrize("sends", [True, False])
async def test_a_plugin_that_breaks_its_contract_is_named(value: Any, words: str, sends: bool) -> None:
    """A 500 that names target and field; another target may do it only if nothing was sent."""
    spare = Painter()
    broken = Run(answering(value, sends=sends))
    with pytest.raises(UpstreamError, match="t0/up: .*" + words) as raised:
        await broken()

    assert (raised.value.status, raised.value.code) == (500, "plugin_contract")
    run = Run(answering(value, sends=sends), spare)
    try:
        await run()
    except UpstreamError:
        assert sends
    assert bool(spare.requests) is not sends


@pytest.mark.parametrize("error", [RuntimeError("sk-secret"), TimeoutError(), KeyError("x"), asyncio.CancelledError()])
async def test_a_plugin_that_fails_by_itself_shows_nothing_of_it(error: BaseException) -> None:
    """Any exception of a plugin, even a cancelling of its own making, is an error that names the target."""
    run = Run(raising(error))
    with pytest.raises(UpstreamError, match="t0/up: the plugin") as raised:
        await run()

    assert "secret" not in raised.value.message
    assert raised.value.again is False


async def test_an_empty_answer_is_a_broken_one() -> None:
    """No picture and no error: 502, and as it may be paid, final."""
    with pytest.raises(BrokenAnswerError, match="without a picture") as raised:
        await Run(answering([]))()
    assert raised.value.again is False


@pytest.mark.parametrize(
    "data",
    [b"<html></html>", b"GIF", PICTURE[:-20], b"\x89PNG\r\n\x1a\n", png(8, 8)[:40], b"%PDF-1.4"],
    ids=["html", "gif", "cut", "signature", "head", "pdf"],
)
async def test_what_is_no_picture_is_never_passed_on(data: bytes) -> None:
    """Whatever its declared type, it ends as a 502 ``not_an_image``."""
    with pytest.raises(NotAnImageError) as raised:
        await Run(answering([Image(data, media_type="image/png", width=1, height=1)]))()
    assert (raised.value.status, raised.value.code, raised.value.again) == (502, "not_an_image", False)


async def test_a_picture_is_brought_to_the_size_and_format_asked() -> None:
    """The upstream can neither: both are done here."""
    work = await Run(Painter(can=Capabilities(sizes=(Size(64, 64),))))(
        ImageRequest("a cat", size=Size(32, 16), output_format="webp")
    )

    assert (work.images[0].size, work.images[0].media_type) == (Size(32, 16), "image/webp")


async def test_a_compression_left_to_the_target_counts_where_its_picture_is_written_anew() -> None:
    """Cut to the size, it would be five times as large; what comes as asked is not touched."""
    can = Capabilities(sizes=(Size(64, 64),), accepts={"output_format": ("jpeg",), "output_compression": Range(0, 100)})
    buffer = BytesIO()
    Pillow.effect_noise((64, 64), 60).convert("RGB").save(buffer, "JPEG", quality=90)
    asked = ImageRequest("a cat", size=Size(64, 32), output_format="jpeg", output_compression=10)
    fine = replace(asked, output_compression=90)
    cut, larger, whole = [
        (await Run(Painter(lambda request, report: [Image(buffer.getvalue())], can=can))(request)).images[0]
        for request in (asked, fine, replace(asked, size=Size(64, 64)))
    ]

    assert len(cut.data) * 2 < len(larger.data)
    assert whole.data == buffer.getvalue()


async def test_a_link_is_fetched_through_the_guard(fake: FakeUpstream) -> None:
    """A link to an allowed place gives its picture."""
    fake.picture = PICTURE
    allowed = Fetch(allow=(fake.base.removeprefix("http://"),))
    work = await Run(answering([Image(url=fake.file_url())]), fetch=allowed)()

    assert work.images[0].data == PICTURE
    assert work.images[0].url is None


@pytest.mark.parametrize(("modes", "fetched"), [(["status:503"], 2), (["reset", "status:502"], 3)])
async def test_a_link_to_a_paid_picture_is_fetched_again(
    modes: list[str], fetched: int, fake: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails in passing costs nothing to repeat; the picture cannot be had otherwise."""
    monkeypatch.setattr("gateway.generation.FETCH_AGAIN", (0.01, 0.01))
    fake.picture = PICTURE
    fake.modes.extend(modes)
    allowed = Fetch(allow=(fake.base.removeprefix("http://"),))
    work = await Run(answering([Image(url=fake.file_url())]), fetch=allowed)()

    assert work.images[0].data == PICTURE
    assert len(fake.calls) == fetched


@pytest.mark.parametrize(("mode", "fetched"), [("status:404", 1), ("status:503", 3)])
async def test_a_link_that_stays_dead_is_given_up(
    mode: str, fetched: int, fake: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other target is paid for it."""
    monkeypatch.setattr("gateway.generation.FETCH_AGAIN", (0.01, 0.01))
    fake.mode = mode
    allowed = Fetch(allow=(fake.base.removeprefix("http://"),))
    spare = answering([Image(PICTURE)])
    with pytest.raises(BrokenAnswerError) as told:
        await Run(answering([Image(url=fake.file_url())]), spare, fetch=allowed)()

    assert (told.value.sent, told.value.retryable, told.value.billed) == (True, False, None)
    assert len(fake.calls) == fetched


@pytest.mark.parametrize(
    "url",
    [
        "{base}/files/picture.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:127.0.0.1]/x.png",
        "http://0x7f000001/x.png",
        "http://localhost:1/x.png",
        "file:///etc/passwd",
        "https://user:word@example.com/x.png",
        "ftp://example.com/x.png",
        "//example.com/x.png",
        "nonsense",
    ],
)
async def test_a_link_to_a_forbidden_place_is_a_502_that_names_the_target(fake: FakeUpstream, url: str) -> None:
    """Nothing is fetched, nobody else is asked, and the client is told whose answer it was."""
    spare = Painter()
    with pytest.raises(BrokenAnswerError, match=r"^t0/up: ") as raised:
        await Run(answering([Image(url=url.format(base=fake.base))]), spare)()

    assert (raised.value.status, raised.value.again) == (502, False)
    assert not fake.calls
    assert not spare.requests


@pytest.mark.parametrize("mode", ["status:404", "status:500", "redirect", "html:200", "reset"])
async def test_a_link_that_gives_no_picture_is_final(fake: FakeUpstream, mode: str) -> None:
    """The picture was made and paid for: another target would be paid again."""
    fake.mode = mode
    spare = Painter()
    allowed = Fetch(allow=(fake.base.removeprefix("http://"),))
    with pytest.raises(UpstreamError, match=r"^t0/up: ") as raised:
        await Run(answering([Image(url=fake.file_url())]), spare, fetch=allowed)()

    assert raised.value.again is False
    assert not spare.requests


async def test_a_data_url_is_a_picture_too() -> None:
    """Some upstreams answer with one, in whatever writing of base64; it is paid for."""
    for text in (b64encode(PICTURE), b64encode(PICTURE).rstrip(b"="), encodebytes(PICTURE), urlsafe_b64encode(PICTURE)):
        work = await Run(answering([Image(url="data:image/png;base64," + text.decode())]))()

        assert work.images[0].data == PICTURE


async def test_a_backend_has_no_more_calls_at_once_than_it_may() -> None:
    """``per_backend`` bounds the calls of one component, over all jobs."""
    painter = Painter(can=Capabilities(count=1))
    run = Run(painter, per_backend={"t0": 2})
    await asyncio.gather(*(run(ImageRequest("a cat", n=4)) for _ in range(3)))

    assert painter.busiest == 2
    assert len(painter.requests) == 12


async def test_a_cancelled_job_gives_its_places_back() -> None:
    """Cancelled at any await, the backend's places are all free again."""
    hold = asyncio.Event()

    async def wait(request: ImageRequest, report: Report) -> list[Image]:
        await hold.wait()
        return [Image(PICTURE)]

    run = Run(Painter(lambda request, report: wait(request, report), can=Capabilities(count=1)), per_backend={"t0": 2})
    for steps in range(12):
        task = asyncio.create_task(run(ImageRequest("a cat", n=3)))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    hold.set()

    assert len((await asyncio.wait_for(run(ImageRequest("a cat", n=3)), 5)).images) == 3


async def test_nothing_is_paid_for_a_job_that_has_ended() -> None:
    """A plugin that swallowed its cancelling and comes to pay later is stopped there."""
    paid = False

    def draw(request: ImageRequest, report: Report) -> list[Image]:
        nonlocal paid
        run.ticket.done = True
        report.sending()
        paid = True
        return [Image(PICTURE)]

    run = Run(Painter(draw, sends=False))
    with pytest.raises(asyncio.CancelledError):
        await run()
    assert not paid


async def test_what_a_plugin_tells_is_made_fit_to_be_shown() -> None:
    """Progress stays between 0 and 1, notes stay short, and a preview that is no picture is left out."""

    def draw(request: ImageRequest, report: Report) -> list[Image]:
        report.progress(7, "x" * 1000)
        report.progress(-1)
        report.partial(Image(b"<svg>"))
        report.partial(Image(None))  # type: ignore[arg-type]
        report.partial(PICTURE)  # type: ignore[arg-type]
        report.partial(Image(OTHER))
        return [Image(PICTURE)]

    run = Run(Painter(draw))
    await run()

    assert [data["done"] for data in run.told("progress")] == [1.0, 0.0]
    assert len(run.told("progress")[0]["note"]) == 200
    assert [data["image"].data for data in run.told("partial")] == [OTHER]


async def test_what_was_sent_is_known_to_the_job() -> None:
    """From the moment a plugin says it sends, the job counts as sent."""
    quiet, loud = Run(Painter(sends=False)), Run(Painter())
    await quiet()
    await loud()

    assert (quiet.ticket.sent, loud.ticket.sent) == (False, True)


async def test_strict_is_refused_before_anything_is_asked() -> None:
    """A target that cannot do it exactly is not asked."""
    painter = Painter(can=Capabilities(sizes=(Size(64, 64),)))
    with pytest.raises(RequestError, match="strict"):
        await Run(painter)(ImageRequest("a cat", size=Size(100, 40), strict=True, model="flux"))
    assert not painter.requests


async def test_other_errors_pass_as_they_are() -> None:
    """What is no upstream's fault is not dressed as one."""
    with pytest.raises(GatewayError, match=r"^later$"):
        await Run(raising(UnavailableError("later")), Painter())()
