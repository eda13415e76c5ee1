"""Derived pictures and the cache that keeps them."""

import asyncio
from io import BytesIO

import pytest
from PIL import Image as Pillow

from gateway.derive import DerivedCache, derive
from gateway.errors import NotAnImageError, RequestError, UnavailableError
from gateway.values import Image, Size


def png(width: int = 120, height: int = 80) -> bytes:
    buffer = BytesIO()
    Pillow.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({"width": 60}, Size(60, 40)),
        ({"height": 20}, Size(30, 20)),
        ({"width": 60, "height": 10}, Size(15, 10)),
        ({"width": 4000}, Size(120, 80)),
        ({"width": 1}, Size(1, 1)),
    ],
)
def test_the_ratio_stays_and_nothing_grows(asked, size):
    """Width and height are bounds; a larger picture than the stored one is never made up."""
    assert derive(png(), **asked).size == size


def test_a_long_strip_never_vanishes():
    """A side that would round to nothing keeps one pixel."""
    assert derive(png(500, 1), width=10).size == Size(10, 1)


def test_nothing_asked_gives_the_stored_bytes():
    """Without parameters, or with the format it has, no byte changes."""
    data = png()

    assert derive(data).data == data
    assert derive(data, output_format="png").data == data


@pytest.mark.parametrize("output_format", ["webp", "avif", "jpeg", "png"])
def test_the_format_is_converted(output_format):
    """The answer is really of the format asked for."""
    made = derive(png(), width=32, output_format=output_format, quality=50)

    assert made.media_type == f"image/{output_format}"
    assert Pillow.open(BytesIO(made.data)).size == (32, 21)


def test_bombs_broken_bytes_and_unknown_formats_are_refused():
    """Nothing is decoded that is too large, and every refusal has words."""
    with pytest.raises(NotAnImageError, match="at most 100"):
        derive(png(), width=8, pixels=100)
    with pytest.raises(NotAnImageError, match="truncated"):
        derive(png()[:-30], width=8)
    with pytest.raises(RequestError, match="svg"):
        derive(png(), output_format="svg")


def maker(calls: list[str], gate: asyncio.Event | None = None, length: int = 10):
    async def make() -> Image:
        calls.append("made")
        if gate:
            await gate.wait()
        return Image(data=b"x" * length, media_type="image/webp")

    return make


async def test_a_derived_picture_is_made_once():
    """The second reader gets the kept bytes; other parameters or other bytes are another picture."""
    cache, calls = DerivedCache(10_000), []
    first = await cache.get("k", "e1", ("w", 64), maker(calls))

    assert await cache.get("k", "e1", ("w", 64), maker(calls)) is first
    await cache.get("k", "e1", ("w", 65), maker(calls))
    await cache.get("k", "e2", ("w", 64), maker(calls))
    assert len(calls) == 3


async def test_readers_at_the_same_time_share_the_work():
    """Ten equal requests decode the picture once."""
    cache, calls, gate = DerivedCache(10_000), [], asyncio.Event()
    readers = [asyncio.create_task(cache.get("k", "e", 1, maker(calls, gate))) for _ in range(10)]
    await asyncio.sleep(0)
    gate.set()

    assert len({id(image) for image in await asyncio.gather(*readers)}) == 1
    assert calls == ["made"]


async def test_a_reader_that_leaves_stops_nobody():
    """The first reader is cancelled; the second still gets the picture."""
    cache, calls, gate = DerivedCache(10_000), [], asyncio.Event()
    first, second = (asyncio.create_task(cache.get("k", "e", 1, maker(calls, gate))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    gate.set()

    assert (await second).data == b"x" * 10
    assert first.cancelled() or await asyncio.gather(first, return_exceptions=True)
    assert calls == ["made"]


async def test_a_failure_is_told_to_all_and_not_kept():
    """The next reader tries anew."""
    cache, calls = DerivedCache(10_000), []

    async def broken() -> Image:
        raise NotAnImageError("broken")

    outcomes = await asyncio.gather(*(cache.get("k", "e", 1, broken) for _ in range(3)), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [NotAnImageError] * 3
    assert await cache.get("k", "e", 1, maker(calls))


async def test_the_budget_holds():
    """The least recently read goes first; a picture above the whole budget is given, not kept."""
    cache, calls = DerivedCache(2_000), []
    for name in "abca":
        await cache.get(name, "e", 1, maker(calls, length=400))
    await cache.get("large", "e", 1, maker(calls, length=5_000))
    await cache.get("large", "e", 1, maker(calls, length=5_000))
    await DerivedCache(0).get("a", "e", 1, maker(calls))

    assert len(calls) == 4 + 2 + 1


async def test_only_a_few_are_made_at_once():
    """A third picture waits for a free place."""
    cache, calls, gate = DerivedCache(10_000, together=2), [], asyncio.Event()
    readers = [asyncio.create_task(cache.get(str(i), "e", 1, maker(calls, gate))) for i in range(5)]
    for _ in range(5):
        await asyncio.sleep(0)

    assert len(calls) == 2
    gate.set()
    await asyncio.gather(*readers)
    assert len(calls) == 5


async def test_a_deleted_picture_is_forgotten():
    """No derived copy outlives the picture it was made of."""
    cache, calls = DerivedCache(10_000), []
    await cache.get("k", "e", 1, maker(calls))
    cache.forget("k")
    await cache.get("k", "e", 1, maker(calls))

    assert len(calls) == 2


async def test_a_copy_ends_with_its_picture():
    """What has expired takes no memory, whether or not another copy is made."""
    now = [1_000.0]
    cache, calls = DerivedCache(10_000, clock=lambda: now[0]), []
    await cache.get("k", "e", 1, maker(calls), expires=1_030.0)
    await cache.get("kept", "e", 1, maker(calls))
    await cache.get("k", "e", 1, maker(calls), expires=1_030.0)
    now[0] = 1_030.0
    cache.sweep()

    assert len(calls) == 2
    assert [name[0] for name in cache._kept] == ["kept"]
    await cache.get("k", "e", 1, maker(calls), expires=1_060.0)
    assert len(calls) == 3


async def test_what_nobody_waits_for_any_more_is_not_made():
    """A stranger who asks for many copies and leaves holds up nobody."""
    cache, calls, gate = DerivedCache(10_000, together=1), [], asyncio.Event()
    begun = asyncio.create_task(cache.get("begun", "e", 1, maker(calls, gate)))
    left = [asyncio.create_task(cache.get(str(i), "e", 1, maker(calls, gate))) for i in range(20)]
    await asyncio.sleep(0)
    for reader in left:
        reader.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    gate.set()
    await begun
    await cache.get("next", "e", 1, maker(calls))

    assert len(calls) == 2


async def test_too_many_who_wait_are_refused():
    """A copy that somebody waits for already is none too many."""
    cache, gate = DerivedCache(10_000), asyncio.Event()
    readers = [asyncio.create_task(cache.get(str(i), "e", 1, maker([], gate))) for i in range(64)]
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError, match="too many copies"):
        await cache.get("another", "e", 1, maker([], gate))
    readers.append(asyncio.create_task(cache.get("3", "e", 1, maker([], gate))))
    await asyncio.sleep(0)
    gate.set()

    assert len(await asyncio.gather(*readers)) == 65


async def test_closing_stops_the_work():
    """Nothing runs on after shutdown."""
    cache, gate = DerivedCache(10_000), asyncio.Event()
    reader = asyncio.create_task(cache.get("k", "e", 1, maker([], gate)))
    await asyncio.sleep(0)
    await cache.close()

    with pytest.raises(asyncio.CancelledError):
        await reader
