"""Records that survive: in a file, and in Redis or Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError, GatewayError, UnavailableError
from gateway.state import AT_ONCE, FileRecords, Records, RedisRecords, make_records
from tests.plugins.storages.servers import Valkey

Make = Callable[[], Records]
NOW = [1000.0]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Valkey of our own."""
    server = Valkey(tmp_path_factory.mktemp("valkey")).start()  # type: ignore[no-untyped-call]  # a test's own server
    yield server
    server.kill()


@pytest.fixture(params=["file", "valkey"])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    """Make records that all share one place and one clock."""
    NOW[0] = 1000.0
    made: list[Records] = []

    def make() -> Records:
        if request.param == "file":
            made.append(FileRecords(tmp_path / "below" / "state.db", clock=lambda: NOW[0]))
        else:
            url = request.getfixturevalue("valkey").url
            made.append(RedisRecords(url, prefix=f"{tmp_path.name}:", clock=lambda: NOW[0]))
        return made[-1]

    yield make
    for records in made:
        await records.close()


async def test_what_is_put_is_found_by_the_next_process(make: Make) -> None:
    """Whatever letters it has, oldest expiry first; a later text under the same key takes its place."""
    first = make()
    await first.open()
    await first.put("b", "zwei \u2603 '\"\n\0", 3000)
    await first.put("a", "eins", 2000)
    await first.put("a", "first again", 2500)
    second = make()
    await second.open()

    assert await second.all() == ["first again", "zwei \u2603 '\"\n\0"]


async def test_what_has_expired_is_not_found(make: Make) -> None:
    """A record lives until its time."""
    records = make()
    await records.open()
    await records.put("a", "short", 1001)
    await records.put("b", "long", 2000)
    NOW[0] = 1001.5
    if isinstance(records, RedisRecords):
        await asyncio.sleep(1.1)

    assert await records.all() == ["long"]


async def test_more_than_are_asked_for_at_once_are_all_found(valkey: Any, tmp_path: Path) -> None:
    """In order, and none of them twice."""
    records = RedisRecords(valkey.url, prefix=f"{tmp_path.name}:", clock=lambda: NOW[0])
    NOW[0] = 1000.0
    await records.open()
    many = 2 * AT_ONCE + 1
    for number in range(many):
        await records.put(str(number), str(number), 2000 + number)

    assert await records.all() == [str(number) for number in range(many)]
    await records.close()


async def test_many_writers_at_once_lose_nothing(make: Make) -> None:
    """Two processes' worth of records, written side by side, are all there."""
    first, second = make(), make()
    await first.open()
    await second.open()
    await asyncio.gather(
        *(
            records.put(f"{name}-{number}", f"{name}-{number}", 2000)
            for number in range(50)
            for name, records in (("one", first), ("two", second))
        )
    )

    assert len(await first.all()) == 100


async def test_a_place_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    """A folder, a file of another kind, a folder that nobody may write in: one line that names it."""
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" * 500)
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "picture.png", tmp_path / "file" / "below" / "state.db"):
        records = FileRecords(path)
        with pytest.raises(ConfigError, match=r"jobs\.state: .* cannot be used"):
            await records.open()
        await records.close()


async def test_a_file_of_many_records_is_not_read_for_each_new_one(tmp_path: Path) -> None:
    """What has expired is found by an index: at 20,000 records each job would wait 45 ms for a look at all of them."""
    records = FileRecords(tmp_path / "state.db")
    await records.open()
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as database:
        plan = database.execute("EXPLAIN QUERY PLAN DELETE FROM records WHERE expires <= 1").fetchall()
    await records.close()

    assert "USING INDEX" in str(plan)


async def test_the_file_is_nobody_elses_business(tmp_path: Path) -> None:
    """It holds prompts: only its owner may read it, and its journal."""
    records = FileRecords(tmp_path / "state.db")
    await records.open()
    await records.put("a", "a prompt", 9e9)
    modes = _modes(tmp_path)
    await records.close()

    assert modes == {0o600}


async def test_a_torn_journal_loses_the_last_records_only(tmp_path: Path) -> None:
    """The machine died while writing: what was written before is still there."""
    records = FileRecords(tmp_path / "state.db", clock=lambda: 1.0)
    await records.open()
    for number in range(20):
        await records.put(f"k{number}", f"text-{number}", 100 + number)
    torn = _torn(tmp_path)
    await records.close()
    again = FileRecords(torn, clock=lambda: 1.0)
    await again.open()
    found = await again.all()
    await again.close()

    assert found == [f"text-{number}" for number in range(len(found))]
    assert len(found) >= 15


def _modes(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in folder.iterdir()}


def _torn(folder: Path) -> Path:
    """Copy the database as a crash would leave it, the last thousand bytes of its journal unwritten."""
    torn = folder / "torn"
    torn.mkdir()
    for path in folder.glob("state.db*"):
        (torn / path.name).write_bytes(path.read_bytes())
    journal = torn / "state.db-wal"
    journal.write_bytes(journal.read_bytes()[:-1000])
    return torn / "state.db"


async def test_a_disk_that_refuses_is_an_error_not_a_hang(tmp_path: Path) -> None:
    """What cannot be written raises; whoever keeps jobs logs it and goes on."""
    records = FileRecords(tmp_path / "state.db")
    await records.open()
    await records._do(lambda: records._database and records._database.execute("DROP TABLE records"))

    with pytest.raises(sqlite3.Error):
        await records.put("a", "b", 9e9)
    await records.close()


async def test_a_valkey_that_is_gone_is_told_in_time() -> None:
    """Nobody listens there: the start says so, without the URL's password."""
    records = RedisRecords("redis://:c4nary-password@127.0.0.1:1/0", seconds=0.5)
    for work in (records.open(), records.put("a", "b", 9e9), records.all()):
        with pytest.raises(UnavailableError) as raised:
            await asyncio.wait_for(work, 5)
        assert "c4nary" not in raised.value.message
    await records.close()


def test_the_place_says_what_it_is(tmp_path: Path) -> None:
    """Nothing, a URL, or a file."""
    assert make_records(None) is None
    assert make_records("") is None
    assert isinstance(make_records("redis://localhost"), RedisRecords)
    assert isinstance(make_records(str(tmp_path / "state.db")), FileRecords)


def test_a_url_that_is_none_is_refused_in_words() -> None:
    """A mistake in the URL is the owner's, and stops the start with words."""
    with pytest.raises(GatewayError, match=r"jobs\.state"):
        make_records("redis://localhost:notaport/0")
