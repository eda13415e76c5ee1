"""Jobs over HTTP: come back later, follow, cancel, list."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import RefusedError
from gateway.values import Image
from tests.fake_upstream import png
from tests.gateways import DEMO, Answered, Gateway, start
from tests.painters import DRAW, HELD, finished, holding, later, other, painter, until

LATER = {"Prefer": "respond-async"}


@pytest.fixture
async def held(aiohttp_server: Any, tmp_path: Path) -> Gateway:
    """A gateway whose backend waits for the test."""
    return await start(aiohttp_server, holding(), tmp_path, types=HELD)


def events(answer: Answered) -> list[tuple[int, str, Any]]:
    """Read an event stream: id, type and JSON of each event."""
    found = []
    for block in answer.text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if "data" in lines:
            found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return found


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/images/generations", DRAW),
        ("/v1/chat/completions", {"model": "held", "messages": [{"role": "user", "content": "a cat"}]}),
    ],
)
@pytest.mark.parametrize("how", ["field", "header", "header among others"])
async def test_who_wants_to_come_back_gets_a_place_to_ask(held: Gateway, path: str, body: Any, how: str) -> None:
    """202 with Location and Retry-After; there the state, and in the end the result with URLs that work."""
    headers = {"field": {}, "header": LATER, "header among others": {"Prefer": "handling=lenient, Respond-Async"}}[how]
    answer = await held.post(path, {**body, **({"async": True} if how == "field" else {})}, headers=headers)
    place = answer.headers["Location"]
    state = await held.get(place.removeprefix(held.base))
    painter(held).free.set()
    done = await finished(held, answer.json["id"])

    assert answer.status == 202
    assert place == f"{held.base}/v1/jobs/{answer.json['id']}"
    assert int(answer.headers["Retry-After"]) > 0
    assert (state.json["status"], state.json["result"], state.json["error"]) == ("in_progress", None, None)
    assert int(state.headers["Retry-After"]) > 0
    assert (done["status"], done["progress"]) == ("completed", 1.0)
    picture = await held.get(done["result"]["data"][0]["url"].removeprefix(held.base))
    assert (picture.status, picture.headers["Content-Type"]) == (200, "image/png")


@pytest.mark.parametrize("value", ["yes", 1, "true ", [], {}])
async def test_async_is_true_or_false(held: Gateway, value: Any) -> None:
    """Anything else is a 400 that names the field."""
    answer = await held.post("/v1/images/generations", {**DRAW, "async": value})

    assert (answer.status, answer.error["param"]) == (400, "async")


async def test_a_failed_job_tells_its_error(held: Gateway) -> None:
    """Asked for later, it is the error that a waiting client would have got."""
    painter(held).faults.append(RefusedError("not this"))
    painter(held).free.set()
    done = await finished(held, await later(held))

    assert (done["status"], done["result"]) == ("failed", None)
    assert done["error"]["code"] == "content_policy_violation"


async def test_queue_places_and_progress_are_told(aiohttp_server: Any, tmp_path: Path) -> None:
    """The waiting know their place, the working how far they are."""
    gateway = await start(aiohttp_server, holding("jobs: {running: 1}\n"), tmp_path, types=HELD)
    painter(gateway).steps = [0.25]
    working, first, second = [await later(gateway) for _ in range(3)]
    await until(lambda: painter(gateway).requests)
    shown = [(await gateway.get(f"/v1/jobs/{identity}")).json for identity in (working, first, second)]

    assert [job["status"] for job in shown] == ["in_progress", "queued", "queued"]
    assert [job["queue_position"] for job in shown] == [0, 1, 2]
    assert shown[0]["progress"] == 0.25


async def test_a_full_line_is_a_429_with_a_time(aiohttp_server: Any, tmp_path: Path) -> None:
    """N work, Q wait, the rest is refused at once; nothing of it was begun."""
    gateway = await start(aiohttp_server, holding("jobs: {running: 2, waiting: 3}\n"), tmp_path, types=HELD)
    answers = await asyncio.gather(*(gateway.post("/v1/images/generations", DRAW, headers=LATER) for _ in range(12)))
    refused = [answer for answer in answers if answer.status == 429]

    assert sorted(answer.status for answer in answers) == [202] * 5 + [429] * 7
    assert all(answer.error["code"] == "too_many_jobs" and int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert len(painter(gateway).requests) == 2


async def test_events_are_numbered_and_end_with_the_result(held: Gateway) -> None:
    """Each event once, in order, with an id; the last one bears the result."""
    painter(held).steps = [0.5]
    painter(held).previews = [Image(png(8, 8))]
    painter(held).free.set()
    told = events(await held.get(f"/v1/jobs/{await later(held, partial_images=1)}/events"))

    assert [number for number, _, _ in told] == list(range(1, len(told) + 1))
    kinds = [kind for _, kind, _ in told]
    assert kinds[0] == "accepted"
    assert kinds[-1] == "finished"
    assert {"generating", "progress", "partial", "generated", "storing", "stored"} <= set(kinds)
    assert told[-1][2]["result"]["data"][0]["url"].startswith(f"{held.base}/image/")


@pytest.mark.parametrize("after", ["0", "3"])
async def test_a_reader_begins_where_it_stopped(held: Gateway, after: str) -> None:
    """``Last-Event-ID`` and ``?after=`` leave out what was read."""
    painter(held).free.set()
    identity = await later(held)
    await finished(held, identity)
    by_header = events(await held.get(f"/v1/jobs/{identity}/events", headers={"Last-Event-ID": after}))
    by_query = events(await held.get(f"/v1/jobs/{identity}/events?after={after}"))

    assert [number for number, _, _ in by_header] == list(range(int(after) + 1, by_header[-1][0] + 1))
    assert by_query == by_header


async def test_head_of_a_large_job_has_no_body(held: Gateway) -> None:
    """What came after the head would be taken for the next answer on the connection."""
    painter(held).free.set()
    identity = await later(held, prompt="狐" * 31_900 + " 16:9", n=4)
    shown = await finished(held, identity)
    reader, writer = await asyncio.open_connection("127.0.0.1", held.port)
    for line in (f"HEAD /v1/jobs/{identity}", "GET /health"):
        writer.write(f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {held.key}\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    following = await reader.readline()
    writer.close()

    assert len(json.dumps(shown, ensure_ascii=False).encode()) > 256 * 2**10
    assert re.search(r"(?i)content-length: \d{6}", head)
    assert following.startswith(b"HTTP/1.1 200")


async def test_a_browser_that_has_read_all_is_told_to_stop(held: Gateway) -> None:
    """An EventSource comes back after the end by itself, for ever, unless it gets a 204."""
    painter(held).free.set()
    identity = await later(held)
    told = events(await held.get(f"/v1/jobs/{identity}/events"))
    again = await held.get(f"/v1/jobs/{identity}/events", headers={"Last-Event-ID": str(told[-1][0])})

    assert (again.status, again.body) == (204, b"")


async def test_a_reader_that_was_told_more_before_a_crash_hears_the_end(held: Gateway) -> None:
    """What came after the record was lost with the process: the end has a smaller number than what was read."""
    painter(held).free.set()
    identity = await later(held)
    told = events(await held.get(f"/v1/jobs/{identity}/events"))
    path, beyond = f"/v1/jobs/{identity}/events", str(told[-1][0] + 3)
    by_header = events(await held.get(path, headers={"Last-Event-ID": beyond}))
    by_query = events(await held.get(path, params={"after": beyond}))

    assert by_header == by_query == told[-1:]
    assert (await held.get(path, headers={"Last-Event-ID": str(by_header[-1][0])})).status == 204


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "99999999999", "١"])
async def test_an_odd_last_event_id_is_a_400(held: Gateway, value: str) -> None:
    """Only the number of an event will do, in the address as in the header, and neither excuses the other."""
    path = f"/v1/jobs/{await later(held)}/events"
    by_address = await held.get(path, params={"after": value}, headers={"Last-Event-ID": "1"})
    by_header = await held.get(path, params={"after": "1"}, headers={"Last-Event-ID": value})

    assert (by_address.status, by_address.error["param"]) == (400, "after")
    assert (by_header.status, by_header.error["param"]) == (400, "Last-Event-ID")


async def test_an_empty_number_is_none_in_the_address_and_the_beginning_in_the_header(held: Gateway) -> None:
    """A browser that has read no id sends an empty header; nobody means anything by an empty ``after``."""
    painter(held).free.set()
    path = f"/v1/jobs/{await later(held)}/events"
    by_address = await held.get(path + "?after=")
    by_header = events(await held.get(path, headers={"Last-Event-ID": ""}))

    assert (by_address.status, by_address.error["param"]) == (400, "after")
    assert by_header[0][0] == 1


async def test_a_reader_that_is_cut_ten_times_sees_every_event_once(held: Gateway) -> None:
    """It reads one event, is cut, comes back with the last id it saw, and misses and repeats nothing."""
    identity = await later(held)
    job = held.runtime.jobs.get(identity, held.runtime.jobs._jobs[identity].caller)
    assert job is not None
    await until(lambda: len(job.events) >= 2)
    seen: list[int] = []
    for cut in range(10):
        job.tell("progress", {"done": cut / 10})
        headers = {"Last-Event-ID": str(seen[-1])} if seen else {}
        async with held.session.get(f"{held.base}/v1/jobs/{identity}/events", headers=headers) as response:
            async for line in response.content:
                if line.startswith(b"id: "):
                    seen.append(int(line[4:]))
                    if cut % 3 != 2:
                        break
                    if seen[-1] == len(job.events):
                        break
            assert response.connection is not None
            assert response.connection.transport is not None
            response.connection.transport.abort()
    painter(held).free.set()
    rest = events(await held.get(f"/v1/jobs/{identity}/events", headers={"Last-Event-ID": str(seen[-1])}))
    seen += [number for number, _, _ in rest]

    assert seen == list(range(1, len(job.events) + 1))
    assert rest[-1][1] == "finished"


async def test_several_readers_follow_one_job(held: Gateway) -> None:
    """Each gets the whole of it."""
    identity = await later(held)
    reading = [asyncio.create_task(held.get(f"/v1/jobs/{identity}/events")) for _ in range(5)]
    await asyncio.sleep(0.05)
    painter(held).free.set()
    told = [events(answer) for answer in await asyncio.gather(*reading)]

    assert all(one == told[0] for one in told)
    assert told[0][-1][1] == "finished"


async def test_what_has_not_been_sent_can_be_cancelled(aiohttp_server: Any, tmp_path: Path) -> None:
    """DELETE ends it at once, frees its place, and whoever asks is told."""
    gateway = await start(
        aiohttp_server, holding("jobs: {running: 1}\n", options=", quiet: true"), tmp_path, types=HELD
    )
    working, waiting = [await later(gateway) for _ in range(2)]
    answers = [await gateway.ask("DELETE", f"/v1/jobs/{identity}") for identity in (waiting, working)]
    again = await gateway.ask("DELETE", f"/v1/jobs/{working}")

    assert [(answer.status, answer.json["status"]) for answer in answers] == [(200, "cancelled")] * 2
    assert (again.status, again.error["code"]) == (409, "job_not_cancellable")
    assert gateway.runtime.jobs.counts == {"running": 0, "waiting": 0}


async def test_what_has_been_sent_is_not_cancelled(held: Gateway) -> None:
    """It is paid for: 409, and the picture comes."""
    identity = await later(held)
    await until(lambda: painter(held).requests)
    refused = await held.ask("DELETE", f"/v1/jobs/{identity}")
    painter(held).free.set()

    assert (refused.status, refused.error["code"]) == (409, "job_not_cancellable")
    assert "paid" in refused.error["message"]
    assert (await finished(held, identity))["status"] == "completed"


async def test_jobs_of_others_do_not_exist(held: Gateway) -> None:
    """Another caller's job is a 404 for every verb, and no list shows it or begins after it."""
    identity = await later(held)
    answers = [
        await held.ask(method, path, headers=other())
        for method, path in [
            ("GET", f"/v1/jobs/{identity}"),
            ("DELETE", f"/v1/jobs/{identity}"),
            ("GET", f"/v1/jobs/{identity}/events"),
            ("GET", f"/v1/jobs?after={identity}"),
        ]
    ]

    assert [answer.status for answer in answers] == [404, 404, 404, 400]
    assert answers[-1].error["param"] == "after"
    assert (await held.get("/v1/jobs", headers=other())).json["data"] == []
    assert (await held.get(f"/v1/jobs/{identity}")).json["status"] == "in_progress"


async def test_jobs_are_listed_page_by_page(held: Gateway) -> None:
    """Newest first, ``after`` a job's id, until there is no more."""
    painter(held).free.set()
    made = [await later(held) for _ in range(7)]
    found: list[str] = []
    page = (await held.get("/v1/jobs?limit=3")).json
    while True:
        found += [job["id"] for job in page["data"]]
        if not page["has_more"]:
            break
        page = (await held.get(f"/v1/jobs?limit=3&after={page['last_id']}")).json

    assert found == made[::-1]


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "1e2", "00000150000", "9" * 30, "٣"])
async def test_an_odd_limit_is_a_400(held: Gateway, limit: str) -> None:
    """The message says what is allowed."""
    answer = await held.get("/v1/jobs", params={"limit": limit})

    assert (answer.status, answer.error["param"]) == (400, "limit")


async def test_the_demo_tells_progress_and_previews(aiohttp_server: Any, tmp_path: Path) -> None:
    """Without any account a job shows how it comes about."""
    gateway = await start(aiohttp_server, DEMO, tmp_path)
    answer = await gateway.draw("a lighthouse", size="128x128", partial_images=2, **{"async": True})
    told = events(await gateway.get(f"/v1/jobs/{answer.json['id']}/events"))
    previews = [data for _, kind, data in told if kind == "partial"]
    progress = [data["done"] for _, kind, data in told if kind == "progress"]

    assert len(previews) == 2
    assert progress == sorted(progress)
    assert told[-1][1] == "finished"
