"""Jobs over HTTP: come back later, follow, cancel, list; one call paid once; callers' servers told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.errors import BusyUpstreamError, RefusedError, UpstreamTimeoutError
from gateway.values import Image
from gateway.webhooks import WEBHOOKS
from tests.fake_upstream import png
from tests.gateways import DEMO, Answered, Gateway, start
from tests.painters import HELD, PICTURE, holding, other, painter, until

DRAW = {"prompt": "a cat", "model": "held"}
LATER = {"Prefer": "respond-async"}


@pytest.fixture
async def held(aiohttp_server: Any, tmp_path: Path) -> Gateway:
    """A gateway whose backend waits for the test."""
    return await start(aiohttp_server, holding(), tmp_path, types=HELD)


async def later(gateway: Gateway, **more: Any) -> str:
    """Start a job to come back for; give its id."""
    answer = await gateway.post("/v1/images/generations", {**DRAW, "async": True, **more})
    assert answer.status == 202, answer.text
    return str(answer.json["id"])


async def finished(gateway: Gateway, identity: str) -> Any:
    """Wait for a job's end by its events; give its JSON."""
    await gateway.get(f"/v1/jobs/{identity}/events")
    return (await gateway.get(f"/v1/jobs/{identity}")).json


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
    headers = {"field": {}, "header": LATER, "header among others": {"Prefer": "wait=5, Respond-Async"}}[how]
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


async def test_a_browser_that_has_read_all_is_told_to_stop(held: Gateway) -> None:
    """An EventSource comes back after the end by itself, for ever, unless it gets a 204."""
    painter(held).free.set()
    identity = await later(held)
    told = events(await held.get(f"/v1/jobs/{identity}/events"))
    again = await held.get(f"/v1/jobs/{identity}/events", headers={"Last-Event-ID": str(told[-1][0])})

    assert (again.status, again.body) == (204, b"")


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "99999999999", "١"])
async def test_an_odd_last_event_id_is_a_400(held: Gateway, value: str) -> None:
    """Only the number of an event will do."""
    answer = await held.get(f"/v1/jobs/{await later(held)}/events", params={"after": value})

    assert (answer.status, answer.error["param"]) == (400, "Last-Event-ID")


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
    """Another caller's job is a 404 for every verb, and stands in nobody else's list."""
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

    assert [answer.status for answer in answers] == [404] * 4
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


# One call is paid once ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/images/generations", DRAW),
        ("/v1/images/generations", {**DRAW, "response_format": "url", "n": 2}),
        ("/v1/chat/completions", {"model": "held", "messages": [{"role": "user", "content": "a cat"}]}),
        ("/v1/images/edits", {**DRAW, "image": "data:image/png;base64," + base64.b64encode(PICTURE).decode()}),
        (
            "/v1/chat/completions",
            {
                "model": "held",
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "in blue"},
                            {
                                "type": "image_url",
                                "image_url": {"url": "data:image/png;base64," + base64.b64encode(PICTURE).decode()},
                            },
                        ],
                    }
                ],
            },
        ),
    ],
    ids=["b64", "urls", "chat", "edit", "chat edit"],
)
async def test_the_same_key_gives_the_same_bytes(held: Gateway, path: str, body: Any) -> None:
    """In parallel or later: one upstream call, and every answer is the same byte for byte."""
    key = {"Idempotency-Key": "order-66"}
    first = [asyncio.create_task(held.post(path, body, headers=key)) for _ in range(5)]
    await until(lambda: painter(held).requests)
    painter(held).free.set()
    answers = [*await asyncio.gather(*first), await held.post(path, body, headers=key)]

    assert [answer.status for answer in answers] == [200] * 6
    assert len({answer.body for answer in answers}) == 1
    assert len(painter(held).requests) == 1


async def test_the_same_key_with_another_body_is_a_conflict(held: Gateway) -> None:
    """409 ``idempotency_conflict``, and nothing is drawn."""
    painter(held).free.set()
    key = {"Idempotency-Key": "order-66"}
    await held.post("/v1/images/generations", DRAW, headers=key)
    answers = [
        await held.post("/v1/images/generations", {**DRAW, "prompt": "a dog"}, headers=key),
        await held.chat("a cat", model="held"),
        await held.post(
            "/v1/chat/completions",
            {"model": "held", "messages": [{"role": "user", "content": "a cat"}]},
            headers=key,
        ),
    ]

    assert [answer.status for answer in answers] == [409, 200, 409]
    assert answers[0].error["code"] == "idempotency_conflict"
    assert answers[0].headers["x-should-retry"] == "false"


async def test_keys_belong_to_their_callers(held: Gateway) -> None:
    """Another caller may use the same key for another thing."""
    painter(held).free.set()
    key = {"Idempotency-Key": "order-66"}
    mine = await held.post("/v1/images/generations", DRAW, headers=key)
    theirs = await held.post("/v1/images/generations", {**DRAW, "prompt": "a dog"}, headers=other(key))

    assert (mine.status, theirs.status) == (200, 200)
    assert len(painter(held).requests) == 2


async def test_the_order_of_the_fields_is_no_difference(held: Gateway) -> None:
    """The same body written in another order is the same body."""
    painter(held).free.set()
    key = {"Idempotency-Key": "order-66", "Content-Type": "application/json"}
    bodies = ['{"prompt": "a cat", "model": "held", "n": 1}', '{"n":1,"model":"held","prompt":"a c\\u0061t"}']
    answers = [await held.post("/v1/images/generations", data=body, headers=key) for body in bodies]

    assert answers[0].body == answers[1].body


async def test_a_failure_that_may_be_billed_is_remembered(held: Gateway) -> None:
    """The same key gets the same error without a second call; what cost nothing is tried anew."""
    painter(held).free.set()
    painter(held).faults[:] = [UpstreamTimeoutError("slow"), BusyUpstreamError("full")]
    paid = [await held.post("/v1/images/generations", DRAW, headers={"Idempotency-Key": "a"}) for _ in range(2)]
    calls = len(painter(held).requests)
    free = [await held.post("/v1/images/generations", DRAW, headers={"Idempotency-Key": "b"}) for _ in range(2)]

    assert [answer.status for answer in paid] == [504, 504]
    assert paid[0].headers["x-should-retry"] == "false"
    assert calls == 1
    assert [answer.status for answer in free] == [503, 200]


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "schlüssel"])
async def test_an_odd_key_is_a_400(held: Gateway, key: str) -> None:
    """Between 1 and 255 visible ASCII characters."""
    answer = await held.post("/v1/images/generations", DRAW, headers={"Idempotency-Key": key})

    assert (answer.status, answer.error["param"]) == (400, "Idempotency-Key")


async def test_an_sdks_own_retry_is_the_same_job(held: Gateway) -> None:
    """``x-stainless-retry-count`` above 0 with the same body: no second call, even without a key."""
    first = asyncio.create_task(held.post("/v1/images/generations", DRAW, headers={"x-stainless-retry-count": "0"}))
    await until(lambda: painter(held).requests)
    second = asyncio.create_task(held.post("/v1/images/generations", DRAW, headers={"x-stainless-retry-count": "1"}))
    await asyncio.sleep(0.02)
    painter(held).free.set()

    assert (await first).body == (await second).body
    assert len(painter(held).requests) == 1
    await held.post("/v1/images/generations", DRAW, headers={"x-stainless-retry-count": "junk"})
    assert len(painter(held).requests) == 2


async def test_a_repeated_call_is_answered_although_every_target_rests(held: Gateway) -> None:
    """What was made before needs no target now."""
    painter(held).free.set()
    body, key = {**DRAW, "async": True}, {"Idempotency-Key": "k"}
    made = await held.post("/v1/images/generations", body, headers=key)
    await finished(held, made.json["id"])
    target = held.runtime.recipes["held"].targets[0]
    for _ in range(5):
        held.runtime.router.failed(target, BusyUpstreamError("full"))

    assert (await held.post("/v1/images/generations", body)).status == 503
    again = await held.post("/v1/images/generations", body, headers=key)
    assert (again.status, again.json["status"]) == (202, "completed")


async def test_a_client_that_leaves_loses_nothing(held: Gateway) -> None:
    """It is cut while the upstream works: the job ends, the picture is stored, list and key give it."""
    key = {"Idempotency-Key": "k"}
    asking = asyncio.create_task(held.post("/v1/images/generations", DRAW, headers=key))
    await until(lambda: painter(held).requests)
    asking.cancel()
    await asyncio.sleep(0.05)
    painter(held).free.set()
    listed = (await held.get("/v1/jobs")).json["data"][0]
    done = await finished(held, listed["id"])
    again = await held.post("/v1/images/generations", DRAW, headers=key)

    assert done["status"] == "completed"
    assert (await held.get(done["result"]["data"][0]["url"].removeprefix(held.base))).body == PICTURE
    assert base64.b64decode(again.json["data"][0]["b64_json"]) == PICTURE
    assert len(painter(held).requests) == 1


async def test_a_client_that_leaves_early_costs_nothing(aiohttp_server: Any, tmp_path: Path) -> None:
    """Nothing was sent yet: the job is cancelled and its place is free at once."""
    gateway = await start(aiohttp_server, holding("jobs: {running: 1}\n"), tmp_path, types=HELD)
    working = await later(gateway)
    asking = asyncio.create_task(gateway.post("/v1/images/generations", DRAW))
    await until(lambda: gateway.runtime.jobs.counts["waiting"])
    asking.cancel()
    await until(lambda: not gateway.runtime.jobs.counts["waiting"])
    painter(gateway).free.set()
    await finished(gateway, working)

    assert [job["status"] for job in (await gateway.get("/v1/jobs")).json["data"]] == ["cancelled", "completed"]
    assert len(painter(gateway).requests) == 1


# A call that takes long --------------------------------------------------------------------------------------


async def test_a_long_call_is_kept_alive_with_white_space(aiohttp_server: Any, tmp_path: Path) -> None:
    """Spaces come before the JSON, which is none the worse for them."""
    yaml = holding("jobs: {keep_alive: 50ms}\n", options=", delay: 300ms")
    gateway = await start(aiohttp_server, yaml, tmp_path, types=HELD)
    answer = await gateway.post("/v1/images/generations", DRAW)

    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert 2 <= len(answer.body) - len(answer.body.lstrip()) <= 8
    assert base64.b64decode(answer.json["data"][0]["b64_json"]) == PICTURE


async def test_keeping_alive_can_be_switched_off(aiohttp_server: Any, tmp_path: Path) -> None:
    """``keep_alive: 0`` sends nothing before the answer."""
    gateway = await start(
        aiohttp_server, holding("jobs: {keep_alive: 0}\n", options=", delay: 100ms"), tmp_path, types=HELD
    )

    assert (await gateway.post("/v1/images/generations", DRAW)).body.startswith(b"{")


async def test_a_late_failure_is_told_in_the_body(aiohttp_server: Any, tmp_path: Path) -> None:
    """The status is out: a plain client reads the error, an SDK is cut and gets the status when it asks again."""
    yaml = holding("jobs: {keep_alive: 20ms}\n", options=", delay: 100ms")
    gateway = await start(aiohttp_server, yaml, tmp_path, types=HELD)
    painter(gateway).faults[:] = [UpstreamTimeoutError("slow"), UpstreamTimeoutError("slow")]
    plain = await gateway.post("/v1/images/generations", DRAW)
    sdk = {"x-stainless-lang": "python", "x-stainless-retry-count": "0"}
    with pytest.raises(aiohttp.ClientError):
        await gateway.post("/v1/images/generations", DRAW, headers=sdk)
    again = await gateway.post("/v1/images/generations", DRAW, headers={**sdk, "x-stainless-retry-count": "1"})

    assert (plain.status, plain.json["error"]["code"]) == (200, "upstream_timeout")
    assert (again.status, again.headers["x-should-retry"]) == (504, "false")
    assert len(painter(gateway).requests) == 2


# Callers' servers ---------------------------------------------------------------------------------------------


@dataclass
class Listener:
    """A caller's server: answers *statuses* one after the other, then 200; keeps what it heard."""

    statuses: list[int] = field(default_factory=list)
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    base: str = ""

    async def hear(self, request: web.Request) -> web.Response:
        self.heard.append((dict(request.headers), await request.read()))
        headers = {"Location": f"{self.base}/elsewhere"}
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200, headers=headers)


@pytest.fixture
async def listener() -> Any:
    """A server that webhooks may be sent to."""
    ear = Listener()
    app = web.Application()
    app.router.add_post("/{path:.*}", ear.hear)
    server = TestServer(app)
    await server.start_server()
    ear.base = f"http://127.0.0.1:{server.port}"
    yield ear
    await server.close()


async def listened(aiohttp_server: Any, tmp_path: Path, listener: Listener, keys: str = "") -> Gateway:
    more = f"fetch: {{allow: ['{listener.base.removeprefix('http://')}']}}\n" + keys
    gateway = await start(aiohttp_server, holding(more), tmp_path, types=HELD)
    gateway.server.app[WEBHOOKS].pauses = (0, 0, 0, 0)
    painter(gateway).free.set()
    return gateway


async def test_a_callers_server_is_told_and_can_check_who_tells(
    aiohttp_server: Any, tmp_path: Path, listener: Listener
) -> None:
    """Signed as the Standard Webhooks have it, with every key: HMAC-SHA256 of id, timestamp and body."""
    secret = base64.b64encode(b"0123456789abcdef").decode()
    gateway = await listened(
        aiohttp_server, tmp_path, listener, f"jobs: {{webhook_keys: [whsec_{secret}, a-plain-key]}}\n"
    )
    identity = await later(gateway, webhook=f"{listener.base}/hook?x=1")
    await until(lambda: listener.heard)
    headers, body = listener.heard[0]
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signatures = [
        "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        for key in (b"0123456789abcdef", b"a-plain-key")
    ]

    assert headers["webhook-signature"].split(" ") == signatures
    assert headers["webhook-id"] == identity
    assert headers["Content-Type"] == "application/json"
    told = json.loads(body)
    assert (told["id"], told["status"]) == (identity, "completed")
    assert told["result"]["data"][0]["url"].startswith(f"{gateway.base}/image/")


@pytest.mark.parametrize(
    ("statuses", "times"), [([500, 503], 3), ([302], 2), ([404, 429, 500], 4), ([500] * 9, 4), ([410], 1), ([204], 1)]
)
async def test_a_message_is_sent_until_it_is_taken(
    aiohttp_server: Any, tmp_path: Path, listener: Listener, statuses: list[int], times: int
) -> None:
    """Anything but a 2xx is tried again, 410 is not, and there is an end; no redirect is followed."""
    gateway = await listened(aiohttp_server, tmp_path, listener)
    listener.statuses = statuses
    await later(gateway, webhook=f"{listener.base}/hook")
    await until(lambda: len(listener.heard) == times)
    webhooks = gateway.server.app[WEBHOOKS]
    await until(lambda: not webhooks._tasks)

    assert len(listener.heard) == times
    assert len({body for _, body in listener.heard}) == 1


async def test_a_repeated_call_is_told_once(aiohttp_server: Any, tmp_path: Path, listener: Listener) -> None:
    """The same key three times: one job, one message; failed jobs are told as well."""
    gateway = await listened(aiohttp_server, tmp_path, listener)
    painter(gateway).faults.append(UpstreamTimeoutError("slow"))
    body = {**DRAW, "async": True, "webhook": f"{listener.base}/hook"}
    for _ in range(3):
        answer = await gateway.post("/v1/images/generations", body, headers={"Idempotency-Key": "k"})
        await finished(gateway, answer.json["id"])
    await until(lambda: not gateway.server.app[WEBHOOKS]._tasks)

    assert len(listener.heard) == 1
    assert json.loads(listener.heard[0][1])["status"] == "failed"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/hook",
        "http://169.254.169.254/latest",
        "http://[::1]/",
        "http://10.0.0.1/",
        "http://2130706433/",
        "http://localhost/",
        "http://printer.local/",
        "https://user:word@example.com/",
        "https://example.com:22/",
        "ftp://example.com/",
        "//example.com/",
        "https://" + "x" * 2000 + ".com",
        "",
        7,
        ["https://example.com"],
    ],
)
async def test_a_forbidden_webhook_is_refused_before_anything_is_drawn(held: Gateway, url: Any) -> None:
    """400 that names the field; no job is begun."""
    answer = await held.post("/v1/images/generations", {**DRAW, "async": True, "webhook": url})

    assert (answer.status, answer.error["param"]) == (400, "webhook")
    assert not painter(held).requests


async def test_a_name_that_turns_out_private_is_never_called(
    held: Gateway, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name looked harmless when the job was taken; what it resolves to is judged when the message is sent."""

    async def lookup(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(held.runtime.fetcher, "_lookup", lookup)
    held.server.app[WEBHOOKS].pauses = (0, 0)
    painter(held).free.set()
    identity = await later(held, webhook="http://hooks.example.com/hook")
    await finished(held, identity)
    await until(lambda: not held.server.app[WEBHOOKS]._tasks)

    assert not listener.heard


# The demonstration backend ------------------------------------------------------------------------------------


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
