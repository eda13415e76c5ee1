"""Tiers make one storage: the last decides, a failing front is passed over, readers promote."""

import asyncio
import hashlib

import pytest
from gateway_plugins.storages.memory import Memory
from gateway_plugins.storages.tiered import Tiered

from gateway import StorageDownError, StoredPicture
from tests.plugins.storages.pictures import PNG, Clock, listed, picture

KEY = "k" * 40


class Flaky(Memory):
    """Memory that can be down, and counts reads."""

    down = False
    reads = 0

    def _check(self):
        if self.down:
            raise StorageDownError("the tier is down")

    async def put(self, meta, data):
        self._check()
        return await super().put(meta, data)

    async def get(self, key):
        self._check()
        self.reads += 1
        return await super().get(key)

    async def delete(self, key):
        self._check()
        return await super().delete(key)


@pytest.fixture
def tiers():
    clock = Clock(1_000_000.0)

    def make(write="all", front_ttl=60, middle_ttl=600, last_ttl=0):
        storages = {"front": Flaky(front_ttl), "middle": Flaky(middle_ttl), "last": Flaky(last_ttl)}
        for storage in storages.values():
            storage.clock = storage.timer = clock
        tiered = Tiered(tuple(storages), write=write)
        tiered.clock = clock
        tiered.connect({**storages, "tiered": tiered})
        return tiered, *storages.values(), clock

    return make


async def test_writes_to_all_or_to_the_last(tiers):
    """By option a new picture is in all tiers at once or only in the last."""
    for write, everywhere in (("all", True), ("last", False)):
        tiered, front, middle, last, _ = tiers(write)
        await tiered.put(picture(), PNG)

        assert [bool(await tier.get(KEY)) for tier in (front, middle, last)] == [everywhere, everywhere, True]


async def test_reads_promote(tiers):
    """What only the last has is in the faster ones after one read, and is read there next time."""
    tiered, front, middle, last, _ = tiers("last")
    await tiered.put(picture(), PNG)
    assert await (await tiered.get(KEY)).body.read() == PNG
    last.reads = 0

    assert await (await tiered.get(KEY)).body.read() == PNG
    assert last.reads == 0
    assert await front.get(KEY)
    assert await middle.get(KEY)


async def test_the_last_tier_says_when_it_ends(tiers):
    """Whichever tier has the bytes, expiry and meta data are the last one's; it ends on time in all of them."""
    tiered, front, middle, last, clock = tiers(front_ttl=0, last_ttl=100)
    kept = await tiered.put(picture(details={"prompt": "a cat"}), PNG)

    for tier in (front, middle):
        assert (await tiered.get(KEY)).meta == kept
        await tier.delete(KEY)
    assert (await tiered.get(KEY)).meta == kept
    clock.now += 99.9
    assert (await tiered.get(KEY)).meta == kept
    clock.now += 0.1
    assert await tiered.get(KEY) is None
    assert [await tier.get(KEY) for tier in (front, middle, last)] == [None] * 3


async def test_fronts_keep_to_their_own_time(tiers):
    """A picture for ever stays in front only as long as the front keeps things, and comes back when it is read."""
    tiered, front, _, _, clock = tiers()
    await tiered.put(picture(), PNG)
    clock.now += 60

    assert await front.get(KEY) is None
    assert (await tiered.get(KEY)).meta.expires is None
    assert await front.get(KEY)


@pytest.mark.parametrize("write", ["all", "last"])
async def test_a_front_that_fails_loses_nothing(tiers, write):
    """While a faster tier is down pictures are taken and given; it is used again when it is back."""
    tiered, front, middle, _, _ = tiers(write)
    front.down = True
    await tiered.put(picture(), PNG)

    assert await (await tiered.get(KEY)).body.read() == PNG
    assert await tiered.sweep() == 0
    front.down = False
    await middle.delete(KEY)
    assert await (await tiered.get(KEY)).body.read() == PNG
    assert await front.get(KEY)


async def test_the_last_that_fails_is_told(tiers):
    """Without the last tier nothing is acknowledged; what a front has is still given, the rest is 503 and not 404."""
    tiered, front, _, last, _ = tiers()
    await tiered.put(picture(), PNG)
    last.down = True

    with pytest.raises(StorageDownError):
        await tiered.put(picture("another-key"), PNG)
    assert await front.get("another-key") is None
    assert await (await tiered.get(KEY)).body.read() == PNG
    with pytest.raises(StorageDownError):
        await tiered.get("another-key")


async def test_delete_reaches_every_tier(tiers):
    """After a delete no tier has it; one that is down is told, and the others have forgotten all the same."""
    tiered, front, middle, last, _ = tiers()
    await tiered.put(picture(), PNG)
    middle.down = True
    with pytest.raises(StorageDownError):
        await tiered.delete(KEY)
    middle.down = False

    assert [await tier.get(KEY) for tier in (front, last)] == [None, None]
    assert await tiered.delete(KEY) is True
    assert await tiered.get(KEY) is None


async def test_what_a_front_could_not_forget_is_not_given_when_it_is_back(tiers):
    """It is asked no more for what was deleted meanwhile, and forgets it at the next sweep."""
    tiered, front, *_ = tiers()
    await tiered.put(picture(), PNG)
    front.down = True
    with pytest.raises(StorageDownError):
        await tiered.delete(KEY)
    front.down = False

    assert await front.get(KEY) is not None
    assert await tiered.get(KEY) is None
    await tiered.sweep()
    assert await front.get(KEY) is None


async def test_one_deletion_that_fails_holds_up_no_other(tiers, monkeypatch):
    """Each is tried by itself at every sweep."""
    tiered, front, *_ = tiers()
    keys = ["a" * 40, "b" * 40, "c" * 40]
    for key in keys:
        await tiered.put(picture(key), PNG)
    front.down = True
    for key in keys:
        with pytest.raises(StorageDownError):
            await tiered.delete(key)
    front.down = False
    delete = front.delete

    async def failing(key):
        if key == keys[0]:
            raise StorageDownError("this one alone")
        return await delete(key)

    monkeypatch.setattr(front, "delete", failing)
    await tiered.sweep()

    assert [await front.get(key) is None for key in keys] == [False, True, True]
    assert await tiered.get(keys[0]) is None


async def test_a_front_that_hangs_holds_up_no_sweep_for_long(tiers, monkeypatch):
    """Its many debts are tried side by side, and no more once none of them can be paid."""
    tiered, front, *_ = tiers()
    front.down = True
    for number in range(200):
        with pytest.raises(StorageDownError):
            await tiered.delete(f"{number:040}")
    tried = []

    async def hanging(key):
        tried.append(key)
        await asyncio.sleep(0.05)
        raise StorageDownError("no answer")

    monkeypatch.setattr(front, "delete", hanging)
    await asyncio.wait_for(tiered.sweep(), 2)

    assert len(tried) == 32


async def test_a_front_that_owed_a_deletion_is_asked_again_for_a_new_picture(tiers):
    """What is stored under the key later is read from the front as any other."""
    tiered, front, _, last, _ = tiers()
    await tiered.put(picture(), PNG)
    front.down = True
    with pytest.raises(StorageDownError):
        await tiered.delete(KEY)
    front.down = False
    await tiered.put(picture(), PNG)
    last.reads = 0

    assert (await tiered.get(KEY)) is not None
    assert last.reads == 0


async def test_a_front_too_small_is_passed_over(tiers):
    """A picture larger than the front's budget is in the tiers behind it."""
    tiered, front, middle, _, _ = tiers()
    front.limit = 3
    await tiered.put(picture(), PNG)

    assert await front.get(KEY) is None
    assert await middle.get(KEY)


async def test_an_older_picture_in_front_does_not_hide_the_new(tiers):
    """With *write* ``last`` a second picture under a key is what readers get."""
    tiered, *_ = tiers("last")
    for data in (b"old", b"new"):
        await tiered.put(picture(data=data), data)
        assert await (await tiered.get(KEY)).body.read() == data


async def test_many_readers_carry_once(tiers):
    """A hundred readers of what only the last has read it there once."""
    tiered, _, _, last, _ = tiers("last")
    await tiered.put(picture(), PNG)
    body_reads = 0
    real = last.get

    async def counting(key):
        found = await real(key)
        meta, body = found.meta, found.body

        class Counting:
            path = None

            async def read(self):
                nonlocal body_reads
                body_reads += 1
                await asyncio.sleep(0)
                return await body.read()

        return StoredPicture(meta, Counting())

    last.get = counting
    found = await asyncio.gather(*(tiered.get(KEY) for _ in range(100)))

    assert {hashlib.sha256(await each.body.read()).digest() for each in found} == {hashlib.sha256(PNG).digest()}
    assert body_reads == 1


async def test_a_delete_while_carrying_wins(tiers):
    """A picture deleted while it is carried forward does not come back."""
    tiered, front, middle, last, _ = tiers("last")
    await tiered.put(picture(), PNG)
    await asyncio.gather(tiered.get(KEY), tiered.delete(KEY))

    assert [await tier.get(KEY) for tier in (front, middle, last)] == [None] * 3
    assert await listed(tiered) == []


async def test_a_slow_reader_brings_nothing_back(tiers):
    """It has found the picture in the last tier before it was deleted, and has it in hand only after that."""
    tiered, front, middle, last, _ = tiers("last")
    await tiered.put(picture(), PNG)
    found, deleted, real = asyncio.Event(), asyncio.Event(), last.get

    async def slow(key):
        stored = await real(key)
        found.set()
        await deleted.wait()
        return stored

    last.get = slow
    reading = asyncio.create_task(tiered.get(KEY))
    await found.wait()
    await tiered.delete(KEY)
    deleted.set()
    await reading
    last.get = real

    assert [await tier.get(KEY) for tier in (front, middle, last)] == [None] * 3
    await tiered.put(picture(), PNG)
    assert await (await tiered.get(KEY)).body.read() == PNG
    assert await front.get(KEY)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("front",), "at least two"),
        (("front", "front"), "at least two different"),
        (("front", "attic"), "no storage 'attic'; known: front"),
        (("front", "tiered"), "made of tiers itself"),
    ],
)
def test_tiers_are_checked(names, words):
    """Too few, double, unknown and nested tiers are refused at the start."""

    def make():
        tiered = Tiered(names)
        tiered.connect({"front": Memory(), "tiered": tiered})

    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(("ill", "status"), [("last", "down"), ("middle", "degraded"), (None, "ok")])
def test_health_is_that_of_the_tiers(tiers, ill, status):
    """The last one counts most; one that is passed over is told, too; tiers that tell nothing are well."""
    tiered, _, middle, last, _ = tiers()
    for name, tier in (("middle", middle), ("last", last)):
        tier.health = lambda name=name: {"status": "down", "reason": "no answer"} if name == ill else {"status": "ok"}
    health = tiered.health()

    assert health["status"] == status
    assert health.get("reason") == (f"tier {ill}: no answer" if ill else None)
