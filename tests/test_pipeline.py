"""The way of a job: stages in order, middlewares around them, and what happens when one of them misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.capabilities import Capabilities
from gateway.contracts import Middleware, Optimizer, Proceed, Report, Stage, Work
from gateway.errors import (
    GatewayError,
    PictureTooLargeError,
    PluginError,
    RefusedError,
    RequestError,
    StorageDownError,
    StorageFullError,
    UnavailableError,
)
from gateway.fetch import Fetcher
from gateway.generation import Generation
from gateway.job import Job
from gateway.pipeline import Pipeline, Recipe
from gateway.places import Places
from gateway.routing import Router
from gateway.settings import Fetch, ModelSettings, TargetSettings
from gateway.targets import Target
from gateway.values import Caller, Image, ImageRequest, Picture, PictureMeta, Result, StoredPicture
from tests.fake_upstream import png

PICTURE = png(16, 16)
STAGES: tuple[Stage, ...] = ("job", "optimize", "generate", "attempt", "store")


@dataclass
class Painter:
    drawn: list[ImageRequest] = field(default_factory=list)

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(count=10)

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        report.sending()
        self.drawn.append(request)
        return [Image(PICTURE, revised_prompt="as the upstream drew it")] * request.n


@dataclass
class Shelf:
    """Keeps what it is given; *faults* come first, one for each try: an error to raise or a value to return."""

    faults: list[Any] = field(default_factory=list)
    kept: dict[str, tuple[PictureMeta, bytes]] = field(default_factory=dict)
    tries: int = 0
    asked: list[str] = field(default_factory=list)

    async def put(self, meta: PictureMeta, data: bytes) -> PictureMeta:
        self.tries += 1
        self.asked.append(meta.key)
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, BaseException):
                raise fault
            if fault == "hang":
                await asyncio.Event().wait()
            return fault  # type: ignore[no-any-return]  # breaks the contract on purpose
        self.kept[meta.key] = meta, data
        return meta

    async def get(self, key: str) -> StoredPicture | None:
        return None

    async def delete(self, key: str) -> bool:
        return False

    async def list(self, owner: str | None = None) -> AsyncIterator[PictureMeta]:
        for meta, _ in self.kept.values():
            yield meta

    async def sweep(self) -> int:
        return 0


@dataclass
class Says:
    """An optimizer that says *words*, or raises them."""

    words: Any

    async def optimize(self, request: ImageRequest) -> str:
        if isinstance(self.words, BaseException):
            raise self.words
        if self.words == "hang":
            await asyncio.Event().wait()
        return self.words if self.words != "echo" else f"better {request.prompt}"  # type: ignore[no-any-return]


@dataclass
class Around:
    """Writes down when it is entered and left; *changes* is done to the work on the way out."""

    name: str
    diary: list[str]
    stages: tuple[Stage, ...] = STAGES
    changes: Callable[[Stage, Work], Any] = lambda stage, work: work

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        self.diary.append(f"{self.name}>{stage}")
        done = await proceed(work)
        self.diary.append(f"{self.name}<{stage}")
        return self.changes(stage, done)  # type: ignore[no-any-return]  # lies in some tests


@dataclass
class Alone:
    """Answers its stage alone."""

    answer: Callable[[Work], Any]
    stages: tuple[Stage, ...] = ("job",)

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        return self.answer(work)  # type: ignore[no-any-return]  # lies in some tests


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries take no time, time-outs hardly any."""
    monkeypatch.setattr("gateway.storing.STORE_TRIES", (0.0, 0.0, 0.0))
    monkeypatch.setattr("gateway.storing.STORE_TIMEOUT", 0.02)
    monkeypatch.setattr("gateway.pipeline.OPTIMIZE_TIMEOUT", 0.02)


async def run(
    request: ImageRequest | None = None,
    *,
    shelf: Shelf | None = None,
    optimizers: Mapping[str, Optimizer] | None = None,
    middlewares: Mapping[str, Middleware] | Sequence[Middleware] = (),
    inline: bool = False,
    painter: Painter | None = None,
) -> tuple[Result, Job]:
    """Run one job through a pipeline made of these parts."""
    request = request or ImageRequest("a cat", model="flux")
    job = Job(request, Caller("ann"), "what the caller wrote", lambda event: None)
    job.inline = inline
    around = (
        middlewares if isinstance(middlewares, Mapping) else {f"m{place}": one for place, one in enumerate(middlewares)}
    )
    recipe = Recipe(
        "flux",
        ModelSettings(()),
        (Target.of(TargetSettings("painter"), painter or Painter()),),
        shelf or Shelf(),
        optimizers or {},
        around,
    )
    generation = Generation(Router(chance=lambda: 0.0), Fetcher(Fetch()), 50_000_000, Places({}, 0))
    return await Pipeline(generation).run(job, recipe), job


async def test_a_job_is_optimized_drawn_and_stored() -> None:
    """The better prompt is drawn, the picture is stored with what is known of it, and every step is told."""
    shelf, painter = Shelf(), Painter()
    result, job = await run(shelf=shelf, optimizers={"rewriter": Says("echo")}, painter=painter)
    meta, data = next(iter(shelf.kept.values()))

    assert painter.drawn[0].prompt == result.prompt == "better a cat"
    assert (result.original, result.receipt.optimizer) == ("what the caller wrote", "rewriter")
    assert (data, meta.owner, meta.model, meta.media_type, meta.width) == (PICTURE, "ann", "flux", "image/png", 16)
    assert (meta.details["prompt"], meta.details["job"]) == ("better a cat", job.id)
    assert result.pictures[0].revised_prompt == "as the upstream drew it"
    assert [event.type for event in job.events] == [
        "optimizing",
        "optimized",
        "generating",
        "generated",
        "storing",
        "stored",
    ]


async def test_each_picture_has_a_key_nobody_can_guess() -> None:
    """Forty hexadecimal digits, different for each."""
    result, _ = await run(ImageRequest("a cat", n=5))
    keys = [picture.meta.key for picture in result.pictures]

    assert len(set(keys)) == 5
    assert all(len(key) == 40 and int(key, 16) >= 0 for key in keys)


@pytest.mark.parametrize("order", [("style", "rewriter"), ("rewriter", "style")])
async def test_words_that_one_had_no_part_in_are_drawn_and_not_handed_on(order: tuple[str, str]) -> None:
    """Who tries again has the failed one asked once more; with all of them well, nobody is asked twice."""
    for failing, handed_on in ((GatewayError("slow"), False), ("echo", True)):
        says = {"style": Says("echo"), "rewriter": Says(failing)}
        result, job = await run(optimizers={name: says[name] for name in order})

        assert result.prompt.startswith("better ")
        assert bool(job.words) is handed_on


@pytest.mark.parametrize(
    "words",
    [
        "",
        "   \n\t ",
        "\u200b" * 0,
        None,
        7,
        b"bytes",
        ["a"],
        "x" * 10**6,
        GatewayError("down"),
        RuntimeError("sk-secret"),
        TimeoutError(),
        RefusedError("no"),
        "hang",
    ],
    ids=lambda words: repr(words)[:20],
)
async def test_whatever_ails_an_optimizer_the_callers_words_are_drawn(words: Any) -> None:
    """Empty, wrong, endless, broken or silent: the picture comes, and the receipt says that nothing was optimized."""
    painter = Painter()
    result, _ = await run(optimizers={"rewriter": Says(words)}, painter=painter)

    assert painter.drawn[0].prompt == "a cat"
    assert result.receipt.optimizer is None
    assert "not optimized by 'rewriter'" in result.receipt.notes[0]
    assert "secret" not in result.receipt.notes[0]


async def test_one_optimizer_works_on_what_another_made() -> None:
    """In the order of the YAML; the failure of the second leaves the work of the first."""
    painter = Painter()
    both = {"first": Says("echo"), "second": Says("echo"), "third": Says(GatewayError("down"))}
    result, _ = await run(optimizers=both, painter=painter)

    assert painter.drawn[0].prompt == "better better a cat"
    assert result.receipt.optimizer == "second"


async def test_who_wants_no_optimizing_gets_none() -> None:
    """``optimize: false`` asks no optimizer at all."""
    painter = Painter()
    _, job = await run(
        ImageRequest("a cat", optimize=False), optimizers={"rewriter": Says(RuntimeError())}, painter=painter
    )

    assert painter.drawn[0].prompt == "a cat"
    assert "optimizing" not in [event.type for event in job.events]


async def test_middlewares_stand_around_each_stage_in_the_order_of_the_yaml() -> None:
    """The first named is the outermost, at every stage."""
    diary: list[str] = []
    await run(middlewares=[Around("a", diary), Around("b", diary)], optimizers={"o": Says("echo")})

    entered = {stage: [f"a>{stage}", f"b>{stage}"] for stage in STAGES}
    left = {stage: [f"b<{stage}", f"a<{stage}"] for stage in STAGES}
    assert diary == [
        *entered["job"],
        *(*entered["optimize"], *left["optimize"]),
        *(*entered["generate"], *entered["attempt"], *left["attempt"], *left["generate"]),
        *(*entered["store"], *left["store"]),
        *left["job"],
    ]


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations("abcd"), st.lists(st.sets(st.sampled_from(STAGES), min_size=1), min_size=4, max_size=4))
def test_any_order_and_any_stages_nest_as_written(names: list[str], stages: list[set[Stage]]) -> None:
    """Whatever the YAML says, each stage is entered in that order and left in the reverse one."""
    diary: list[str] = []
    middlewares = [
        Around(name, diary, tuple(sorted(where, key=STAGES.index))) for name, where in zip(names, stages, strict=True)
    ]
    asyncio.run(run(middlewares=middlewares))

    for stage in STAGES:
        there = [name for name, where in zip(names, stages, strict=True) if stage in where]
        seen = [step for step in diary if step.endswith(stage)]
        assert seen == [f"{name}>{stage}" for name in there] + [f"{name}<{stage}" for name in reversed(there)]


async def test_a_middleware_may_refuse_before_anything_is_paid() -> None:
    """What it raises ends the job as it is; no picture is drawn."""

    def refuse(work: Work) -> Work:
        raise RefusedError("not here")

    painter = Painter()
    for stage in ("job", "optimize", "generate", "attempt"):
        with pytest.raises(RefusedError, match="not here"):
            await run(middlewares=[Alone(refuse, (stage,))], painter=painter)
    assert not painter.drawn


async def test_a_middleware_may_change_what_is_drawn_and_what_is_kept() -> None:
    """The prompt on its way in, the picture on its way out: its type and size are read anew."""
    other = png(40, 30)

    @dataclass
    class Changes:
        stages: tuple[Stage, ...] = ("generate",)

        async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
            done = await proceed(replace(work, request=replace(work.request, prompt="a dog")))
            return replace(done, images=(Image(other, media_type="image/webp", width=1, height=1),))

    shelf, painter = Shelf(), Painter()
    await run(middlewares=[Changes()], shelf=shelf, painter=painter)
    meta, data = next(iter(shelf.kept.values()))

    assert painter.drawn[0].prompt == "a dog"
    assert data == other
    assert (meta.media_type, meta.width, meta.height) == ("image/png", 40, 30)


async def test_a_middleware_may_answer_alone() -> None:
    """Pictures given at the stage *generate* are stored like any others; nobody is asked to draw."""
    shelf, painter = Shelf(), Painter()
    alone = Alone(lambda work: replace(work, images=(Image(PICTURE),)), ("generate",))
    result, _ = await run(middlewares=[alone], shelf=shelf, painter=painter)

    assert not painter.drawn
    assert result.pictures[0].meta.key in shelf.kept


async def test_a_remembered_picture_is_kept_again_if_it_has_gone() -> None:
    """A middleware answers with a picture of before that the storage no longer has: it gets a new link, for the old one
    may have been deleted, and whoever remembers it is told."""

    @dataclass
    class Remembering(Alone):
        forgotten: list[tuple[str, Picture | None]] = field(default_factory=list)

        def forget(self, key: str, instead: Picture | None = None) -> None:
            self.forgotten.append((key, instead))

    shelf = Shelf()
    first, _ = await run(shelf=shelf)
    shelf.kept.clear()
    memory = Remembering(lambda work: replace(work, pictures=first.pictures))
    result, _ = await run(middlewares=[memory], shelf=shelf)

    assert list(shelf.kept) == [result.pictures[0].meta.key]
    assert result.pictures[0].meta.key != first.pictures[0].meta.key
    assert memory.forgotten == [(first.pictures[0].meta.key, result.pictures[0])]


async def test_a_remembered_picture_is_given_although_it_cannot_be_kept_again() -> None:
    """The storage has lost it and is down now: the bytes are here, and the link follows."""
    shelf = Shelf()
    first, _ = await run(shelf=shelf)
    shelf.kept.clear()
    shelf.faults[:] = [StorageDownError("down")] * 3
    result, _ = await run(middlewares=[Alone(lambda work: replace(work, pictures=first.pictures))], shelf=shelf)

    assert result.pictures[0].waits
    assert result.pictures[0].planned != first.pictures[0].meta.key
    assert "not stored: down" in result.receipt.notes[-1]


async def test_a_storage_that_is_down_is_not_asked_for_each_of_many() -> None:
    """Ten pictures that cannot be stored must not hold up their caller ten times."""
    shelf = Shelf([StorageDownError("down")] * 3)
    result, _ = await run(ImageRequest("a cat", n=10), shelf=shelf)

    assert shelf.tries == 3
    assert len({picture.planned for picture in result.pictures}) == 10
    assert all(picture.waits for picture in result.pictures)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("value", [None, "work", 7, {}], ids=repr)
async def test_a_middleware_that_returns_something_else_is_named(stage: Stage, value: Any) -> None:
    """A 500 ``plugin_contract`` with its name, at whichever stage."""
    with pytest.raises(PluginError, match=r"middleware 'bad' must return a Work") as raised:
        await run(middlewares={"bad": Alone(lambda work: value, (stage,))})
    assert (raised.value.status, raised.value.code) == (500, "plugin_contract")


@pytest.mark.parametrize("stage", STAGES)
async def test_a_middleware_that_fails_is_named_and_shows_nothing(stage: Stage) -> None:
    """Its exception stays in the log; the caller learns who and where."""

    def fail(work: Work) -> Work:
        raise RuntimeError("sk-secret")

    with pytest.raises(PluginError, match=f"middleware 'bad' failed at the stage '{stage}'") as raised:
        await run(middlewares={"bad": Alone(fail, (stage,))})
    assert "secret" not in raised.value.message


@pytest.mark.parametrize(
    "images", [(), (None,), (b"png",), (Image(b"<svg>"),), (Image(),)], ids=["none", "None", "bytes", "svg", "empty"]
)
async def test_what_a_middleware_leaves_must_be_pictures(images: Any) -> None:
    """No picture, or something that is none: a 500, never a stored lie."""
    shelf = Shelf()
    with pytest.raises(PluginError):
        await run(middlewares=[Alone(lambda work: replace(work, images=images), ("generate",))], shelf=shelf)
    assert not shelf.kept


async def test_a_job_answered_without_a_picture_is_an_error() -> None:
    """A middleware that lets nothing through must raise, not return."""
    with pytest.raises(PluginError, match="without a picture"):
        await run(middlewares=[Alone(lambda work: work)])


async def test_a_storage_that_is_down_for_a_moment_gets_three_chances() -> None:
    """Twice down, then well: the picture is kept."""
    shelf = Shelf([StorageDownError("down"), StorageDownError("still down")])
    result, _ = await run(shelf=shelf)

    assert shelf.tries == 3
    assert result.pictures[0].meta.key in shelf.kept


@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        (StorageDownError("down"), 3),
        ("hang", 1),
        (StorageFullError("full"), 1),
        (PictureTooLargeError("too large"), 1),
        (RuntimeError("sk-secret"), 1),
        (UnavailableError("foreign"), 1),
        (None, 1),
        ("a string", 1),
    ],
    ids=["down", "hangs", "full", "too large", "broken", "other error", "None", "string"],
)
async def test_when_nothing_can_be_stored(fault: Any, tries: int) -> None:
    """The picture goes on with a note and the key it gets later; what never fits is an error for who wants a URL."""
    shelf = Shelf([fault] * 3)
    result, _ = await run(shelf=shelf, inline=True)

    assert result.pictures[0].data == PICTURE
    assert result.pictures[0].meta.key == ""
    assert "was not stored" in result.receipt.notes[-1]
    assert "secret" not in result.receipt.notes[-1]
    assert shelf.tries == tries
    assert result.pictures[0].planned == ("" if isinstance(fault, PictureTooLargeError) else shelf.asked[0])
    assert len(set(shelf.asked)) == 1
    if isinstance(fault, PictureTooLargeError):
        with pytest.raises(PictureTooLargeError) as raised:
            await run(shelf=Shelf([fault] * 3))
        assert raised.value.again is False
    else:
        assert (await run(shelf=Shelf([fault] * 3)))[0].pictures[0].waits


async def test_a_picture_that_cannot_be_kept_does_not_take_the_others_along() -> None:
    """One of three is too large: two come, and the receipt says which is missing."""
    result, _ = await run(ImageRequest("a cat", n=3), shelf=Shelf([PictureTooLargeError("too large")]))

    assert len(result.pictures) == 2
    assert "too large" in result.receipt.notes[-1]


async def test_the_receipt_tells_what_was_asked() -> None:
    """It stands in the result and with the stored picture."""
    shelf = Shelf()
    result, _ = await run(ImageRequest("a cat", model="flux", quality="hd", unknown=("frobnicate",)), shelf=shelf)
    stored = next(iter(shelf.kept.values()))[0].details["receipt"]

    assert result.receipt.asked["quality"] == "hd"
    assert [change.name for change in result.receipt.dropped] == ["quality", "frobnicate"]
    assert stored["model"] == "flux"
    assert stored["target"] == "painter"


async def test_errors_of_the_stages_pass_through_middlewares_unchanged() -> None:
    """A middleware that stands around a failing stage does not hide what failed."""

    @dataclass
    class Refusing(Painter):
        async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
            raise RequestError("bad", param="size")

    diary: list[str] = []
    with pytest.raises(RequestError, match="bad") as raised:
        await run(middlewares=[Around("a", diary)], painter=Refusing())
    assert raised.value.param == "size"
