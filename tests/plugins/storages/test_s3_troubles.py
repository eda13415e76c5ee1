"""S3 that is slow, overloaded, moved, or refuses because the clocks differ: told as such, survived, nothing lost."""

import asyncio
import itertools
import logging
import time
import uuid
from collections import defaultdict

import pytest
from gateway_plugins.storages.s3 import S3

from gateway import Secret, StorageDownError, pack_meta
from tests.gateways import AUTHENTICATORS, start
from tests.plugins.storages.pictures import PNG, Clock, listed, picture
from tests.plugins.storages.s3_front import front_of, redirect, refusal

KEY = "k" * 40
DATA = PNG + bytes(range(256)) * 2000
SLOW_DOWN = refusal(503, "SlowDown")
BROKEN = refusal(500, "InternalError")
SKEWED = refusal(
    403, "RequestTimeTooSkewed", RequestTime="20261121T100000Z", ServerTime="2026-11-21T12:00:00Z", MaxAllowed="900000"
)


@pytest.fixture
async def front(seaweed):
    async with front_of(seaweed.endpoint) as front:
        yield front


@pytest.fixture
def make(seaweed, front):
    prefix = f"t{uuid.uuid4().hex}"

    def make(**options):
        keys = {"access_key": Secret(seaweed.access_key), "secret_key": Secret(seaweed.secret_key)}
        known = {"bucket": seaweed.bucket, "endpoint": front.base, "prefix": prefix, "timeout": 5.0} | keys
        return S3(**known | options)

    return make


@pytest.fixture
async def storage(make):
    async with make() as storage:
        await storage.put(picture(data=DATA), DATA)
        yield storage


async def read(storage, key=KEY):
    return await (await storage.get(key)).body.read()


async def everything(storage):
    """Make each kind of call; give what they raised."""
    calls = (storage.put(picture("another-one"), PNG), storage.get(KEY), listed(storage), storage.delete(KEY))
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize("fault", [SLOW_DOWN, BROKEN, refusal(429, "TooManyRequests"), refusal(503, "Whatever")])
async def test_a_passing_trouble_is_waited_out(storage, front, fault):
    """Three refusals in a row cost time and no picture: neither writing nor reading fails."""
    front.next.extend([fault] * 3)
    await storage.put(picture("written-anyway", data=DATA), DATA)
    front.next.extend([fault] * 3)

    assert await read(storage, "written-anyway") == DATA


async def test_an_answer_that_got_lost_is_no_picture_lost(storage, front):
    """The store wrote it and then said 500: the next try finds it there, and what is acknowledged is whole."""
    front.only, front.after = lambda request: request.method == "PUT", True
    front.next.extend([BROKEN] * 2)
    await storage.put(picture("answered-late", data=DATA), DATA)
    front.mend()

    assert await read(storage, "answered-late") == DATA
    assert sorted(await listed(storage)) == sorted(["answered-late", KEY])


@pytest.mark.parametrize(
    ("fault", "words", "again"),
    [
        (SLOW_DOWN, r"cannot be used now \((SlowDown|503)\)", True),
        (BROKEN, r"cannot be used now \((InternalError|500)\)", True),
        (SKEWED, r"clock is 7200 s behind the store's \(RequestTimeTooSkewed\)", False),
    ],
)
async def test_a_lasting_trouble_is_a_clear_503_within_the_deadline(storage, front, fault, words, again):
    """Every kind of call ends in time with the store's reason and none of its words; afterwards all is as before."""
    front.always = fault
    begun = time.monotonic()
    errors = await everything(storage)

    assert time.monotonic() - begun < 5
    for error in errors:
        with pytest.raises(StorageDownError, match=words):
            raise error
        assert (error.status, bool(error.retry_after)) == (503, again)
        assert "internal-host-7" not in error.message
    assert storage.health()["status"] == "down"
    front.mend()
    assert await read(storage) == DATA
    assert storage.health() == {"status": "ok"}


async def test_refused_calls_wait_longer_each_time_and_not_in_step(make, front):
    """At most four tries; each wait is drawn by chance, and gateways that begin together do not come back together."""
    storages = [make() for _ in range(6)]
    for storage in storages:
        await storage.__aenter__()
    front.always = SLOW_DOWN
    front.calls.clear()
    names = [f"nobody-{number:02}" for number in range(12)]
    jobs = [storages[number % 6].get(name) for number, name in enumerate(names)]
    assert {type(answer) for answer in await asyncio.gather(*jobs, return_exceptions=True)} == {StorageDownError}

    times = defaultdict(list)
    for when, _, path in front.calls:
        times[path.rpartition("/")[2]].append(when)
    waits = {name: [later - sooner for sooner, later in itertools.pairwise(at)] for name, at in times.items()}
    assert sorted(waits) == names
    assert {len(each) for each in waits.values()} <= {2, 3}
    assert all(0.09 < wait < 2.5 for each in waits.values() for wait in each)
    for nth in (0, 1):
        assert max(each[nth] for each in waits.values()) - min(each[nth] for each in waits.values()) > 0.02


async def test_answers_that_take_five_seconds_are_waited_for(make, front):
    """With the usual deadlines a store that is as slow as that still takes and gives pictures."""
    storage = make(timeout=S3.timeout)
    async with storage:
        await storage.put(picture(data=DATA), DATA)
        front.latency = 5
        _, body = await asyncio.gather(storage.put(picture("slow-picture", data=DATA), DATA), read(storage))
        front.latency = 0

        assert body == DATA
        assert await read(storage, "slow-picture") == DATA


async def test_answers_that_come_too_late_are_a_503_in_time(make, front):
    """The deadline holds for each kind of call, and nothing that was acknowledged before is lost."""
    async with make(timeout=0.5) as storage:
        await storage.put(picture(data=DATA), DATA)
        front.latency = 5
        begun = time.monotonic()
        errors = await everything(storage)

        assert time.monotonic() - begun < 1.5
        for error in errors:
            with pytest.raises(StorageDownError, match="does not answer in time"):
                raise error
            assert error.retry_after
        front.latency = 0
        assert await read(storage) == DATA


async def test_a_redirect_is_told_and_no_picture_goes_there(storage, front, make, seaweed):
    """A bucket that has moved is a wrong configuration: writing says so, and the bytes are sent nowhere else."""
    async with front_of(seaweed.endpoint) as elsewhere:
        front.always = redirect(f"{elsewhere.base}/images/moved")
        with pytest.raises(StorageDownError, match="compare endpoint and region") as told:
            await storage.put(picture("another-one", data=DATA), DATA)
        with pytest.raises(StorageDownError):
            await storage.get(KEY)

        assert "PUT" not in {method for _, method, _ in elsewhere.calls}
    assert told.value.status == 503
    front.always = redirect(f"{front.base}/images/circle")
    with pytest.raises(StorageDownError, match="another address"):
        await storage.get(KEY)
    front.mend()
    assert await read(storage) == DATA


@pytest.mark.parametrize("serve", ["through", "redirect"])
async def test_a_wrong_clock_is_logged_as_such(make, front, caplog, serve):
    """The operator reads in the log which way and how far, once and not for every call; HEAD hides nothing."""
    async with make(serve=serve) as storage:
        await storage.put(picture(data=DATA), DATA)
        front.always = SKEWED
        with caplog.at_level(logging.INFO):
            for _ in range(5):
                with pytest.raises(StorageDownError, match="RequestTimeTooSkewed"):
                    await storage.get(KEY)
            front.mend()
            assert await storage.get(KEY)

    told = [record.getMessage() for record in caplog.records if "object store" in record.getMessage()]
    assert len(told) == 2
    assert "this machine's clock is 7200 s behind the store's" in told[0]
    assert "answers again" in told[1]


async def test_a_store_in_trouble_stops_no_start_and_no_later_sweep(make, front):
    """It starts, and what expired meanwhile goes in the minute after the trouble is over, not an hour later."""
    clock = Clock(time.time())
    async with make(ttl=100.0) as first:
        first.clock = clock
        await first.put(picture(data=DATA), DATA)
    front.always = SLOW_DOWN
    second = make(ttl=100.0)
    second.clock = clock
    async with second:
        clock.now += 200
        with pytest.raises(StorageDownError):
            await second.sweep()
        front.mend()
        clock.now += 60
        assert await second.sweep() == 1
        assert second.health() == {"status": "ok"}
        front.always = SLOW_DOWN
        clock.now += 4000
        with pytest.raises(StorageDownError):
            await second.sweep()


async def test_health_hears_of_a_recovery_without_callers(storage, front):
    """The sweeper, which comes each minute, asks a store that was in trouble."""
    front.always = SKEWED
    with pytest.raises(StorageDownError):
        await storage.get(KEY)
    front.mend()
    await storage.sweep()

    assert storage.health() == {"status": "ok"}


async def test_the_gateway_over_a_troubled_store(aiohttp_server, tmp_path, seaweed, front):
    """Callers get clear errors while it lasts, health says why, and every picture that was given a link is there."""
    keys = f"access_key: {seaweed.access_key}, secret_key: {seaweed.secret_key}, prefix: {uuid.uuid4().hex}"
    text = (
        AUTHENTICATORS
        + f'storages: {{pictures: {{use: s3, bucket: {seaweed.bucket}, endpoint: "{front.base}", {keys}}}}}\n'
        + "backends: {here: {use: demo}}\nmodels: {demo: {backends: [{backend: here}]}}\n"
    )
    gateway = await start(aiohttp_server, text, tmp_path)
    links, refused = [], []
    for fault in (None, SLOW_DOWN, BROKEN, SKEWED, None):
        front.always = fault
        answer = await gateway.draw(size="64x64", response_format="url")
        if answer.status == 200:
            links.append(answer.json["data"][0]["url"].removeprefix(gateway.base))
        else:
            refused.append((answer.status, answer.error["code"]))
        shown = await gateway.get(links[0])
        health = (await gateway.get("/health")).json["storages"]["pictures"]
        assert (shown.status, health["status"]) == ((503, "down") if fault else (200, "ok"))
        assert fault is not SKEWED or "clock is 7200 s behind" in health["reason"]

    assert len(links) >= 2
    assert len(links) + len(refused) == 5
    assert {status for status, _ in refused} <= {502, 503}
    for link in links:
        assert (await gateway.get(link)).status == 200


async def test_the_log_names_the_store_and_no_secret(make, front, seaweed, caplog):
    """Who starts the gateway while the store is down reads which one: its bucket and endpoint."""
    storage = make(endpoint="http://127.0.0.1:1")
    with caplog.at_level(logging.INFO):
        async with storage:
            assert storage.health()["status"] == "down"

    assert f"{seaweed.bucket} (http://127.0.0.1:1)" in caplog.text
    assert seaweed.secret_key not in caplog.text


@pytest.mark.parametrize(
    "conflict", [refusal(409, "ConditionalRequestConflict"), refusal(412, "PreconditionFailed")], ids=["409", "412"]
)
async def test_a_race_for_a_key_ends_with_one_whole_picture(storage, front, conflict):
    """Whoever is told that another write runs or was first tries again without the condition; the picture is whole."""
    front.only = lambda request: "If-None-Match" in request.headers
    front.next.append(conflict)
    await storage.put(picture("in-a-race", data=DATA), DATA)
    front.mend()

    assert await read(storage, "in-a-race") == DATA
    assert "in-a-race" in await listed(storage)


async def test_a_bucket_of_many_pages_is_swept_although_all_of_them_take_long(make, front, seaweed):
    """Each page has the time of a call; all of them together may take longer."""
    clock = Clock(time.time())
    storage = make(timeout=2.0, ttl=50.0)
    storage.clock = clock
    async with storage:
        await storage.put(picture(), PNG)
        library = storage._store._obstore

        class Slow:
            """A library whose pages take their time."""

            def __getattr__(self, name):
                return getattr(library, name)

            async def list_with_delimiter_async(self, *arguments, **options):
                await asyncio.sleep(2.5)
                return await library.list_with_delimiter_async(*arguments, **options)

        storage._store._obstore = Slow()
        clock.now += 100

        assert await storage.sweep() == 1
        assert storage.health() == {"status": "ok"}


async def test_more_names_than_a_page_are_listed_and_swept(make, front, seaweed):
    """A store tells a thousand names at a time; what is on the next page expires and goes as well."""
    clock = Clock(time.time())
    storage = make(timeout=20.0)
    storage.clock = clock
    async with storage:
        ends = clock.now + 50
        metas = [picture(f"of-very-many-{number:04}", created=1000.0 + number, expires=ends) for number in range(1050)]
        for start in range(0, len(metas), 50):
            part = metas[start : start + 50]
            names = [storage._index_of(meta) for meta in part]
            await asyncio.gather(
                *(storage._store.put(name, pack_meta(meta), {}) for name, meta in zip(names, part, strict=True))
            )
        front.calls.clear()
        assert len(await listed(storage)) == 1050
        pages = [path for _, method, path in front.calls if method == "GET" and "/index/" not in path]
        clock.now += 100

        assert len(pages) == 2
        assert await storage.sweep() == 1050
        assert await listed(storage) == []
