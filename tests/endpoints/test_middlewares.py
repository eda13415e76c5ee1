"""Moderation, blocklist and cache as clients of a whole gateway meet them."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import UpstreamTimeoutError
from tests.fake_upstream import FakeUpstream
from tests.gateways import STORAGES, Answered, Gateway, start
from tests.painters import DRAW, HELD, holding, other, painter, until

PATH = "/v1/images/generations"
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "images": (PATH, DRAW),
    "stream": (PATH, {**DRAW, "stream": True}),
    "chat": ("/v1/chat/completions", {"model": "held", "messages": [{"role": "user", "content": "a cat"}]}),
    "chat stream": (
        "/v1/chat/completions",
        {"model": "held", "stream": True, "messages": [{"role": "user", "content": "a cat"}]},
    ),
}


async def guarded(
    aiohttp_server: Any, tmp_path: Path, middlewares: str, optimizer: str = "", *, storages: str = STORAGES
) -> Gateway:
    """Start a gateway with *middlewares* (name: options), and an optimizer that adds words if given."""
    names = ", ".join(line.split(":")[0].strip() for line in middlewares.splitlines() if line.strip())
    more = "middlewares:\n" + "".join(f"  {line}\n" for line in middlewares.splitlines() if line.strip())
    model = f", middlewares: [{names}]"
    if optimizer:
        more += f"optimizers: {{words: {{use: template, suffix: {optimizer}}}}}\n"
        model += ", optimizers: [words]"
    gateway = await start(aiohttp_server, holding(more, model=model, storages=storages), tmp_path, types=HELD)
    painter(gateway).free.set()
    return gateway


def refused(answer: Answered) -> bool:
    """Say whether the content was refused, with a status or in a stream."""
    if answer.status == 200:
        return '"content_policy_violation"' in answer.text
    return (answer.status, answer.error["code"]) == (400, "content_policy_violation")


@pytest.mark.parametrize("name", CALLS)
async def test_a_blocked_word_is_refused_before_anything_is_paid(
    aiohttp_server: Any, tmp_path: Path, name: str
) -> None:
    """400 ``content_policy_violation`` that no SDK repeats, for every kind of call."""
    gateway = await guarded(aiohttp_server, tmp_path, "words: {use: blocklist, words: [cat]}")
    answer = await gateway.post(CALLS[name][0], CALLS[name][1])

    assert answer.status == 400
    assert refused(answer)
    assert answer.headers["x-should-retry"] == "false"
    assert not painter(gateway).requests


async def test_what_an_optimizer_adds_is_judged_too(aiohttp_server: Any, tmp_path: Path) -> None:
    """The caller's words were harmless, the better prompt is not."""
    gateway = await guarded(aiohttp_server, tmp_path, "words: {use: blocklist, patterns: ['neon']}", "in neon light")

    assert refused(await gateway.post(PATH, DRAW))
    assert (await gateway.post(PATH, {**DRAW, "optimize": False})).status == 200
    assert len(painter(gateway).requests) == 1


def moderated(fake: FakeUpstream, more: str = "") -> str:
    return f"judge: {{use: moderation, base_url: '{fake.base}/v1'{more}}}"


def verdict(flagged: bool) -> dict[str, Any]:
    return {"results": [{"flagged": flagged, "categories": {"violence": flagged}}]}


async def test_a_moderation_service_decides(aiohttp_server: Any, tmp_path: Path, fake: FakeUpstream) -> None:
    """Flagged is refused with the category, anything else is drawn; the better prompt is asked for as well."""
    gateway = await guarded(aiohttp_server, tmp_path, moderated(fake), "in neon light")
    fake.mode, fake.error = "body", verdict(False)
    drawn = await gateway.post(PATH, DRAW)
    asked = [call.json["input"] for call in fake.calls]
    fake.error = verdict(True)
    answer = await gateway.post(PATH, DRAW)

    assert drawn.status == 200
    assert asked == ["a cat", "a cat, in neon light"]
    assert refused(answer)
    assert "violence" in answer.error["message"]
    assert len(painter(gateway).requests) == 1


@pytest.mark.parametrize("mode", ["status:500", "reset", "html:200", "hang"])
async def test_a_moderation_service_that_is_down(
    aiohttp_server: Any, tmp_path: Path, fake: FakeUpstream, mode: str
) -> None:
    """``closed`` refuses for now with a time, ``open`` draws and says so."""
    fake.mode = mode
    quick = ", http: {connect: 1, first_byte: 200ms, total: 300ms}"
    closed = await guarded(aiohttp_server, tmp_path, moderated(fake, quick))
    opened = await guarded(aiohttp_server, tmp_path, moderated(fake, quick + ", on_failure: open"))
    answer = await closed.post(PATH, DRAW)
    drawn = await opened.post(PATH, DRAW)

    assert (answer.status, answer.error["code"]) == (503, "moderation_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert not painter(closed).requests
    assert drawn.status == 200
    assert "not moderated" in drawn.json["gateway"]["receipt"]["notes"][0]


@pytest.mark.parametrize("form", ["url", "b64_json"])
async def test_the_same_request_with_a_seed_is_drawn_once(aiohttp_server: Any, tmp_path: Path, form: str) -> None:
    """The cache answers with the same picture and says so; without a seed, or for another caller, it is drawn anew."""
    gateway = await guarded(aiohttp_server, tmp_path, "memory: {use: cache}")
    body = {**DRAW, "seed": 7, "response_format": form}
    first, second = await gateway.post(PATH, body), await gateway.post(PATH, body)
    receipt = second.json["gateway"]["receipt"]

    assert first.json["data"] == second.json["data"]
    assert first.json["gateway"]["job"] != second.json["gateway"]["job"]
    assert (receipt["attempts"], receipt["cost"]) == ([], 0.0)
    assert "nothing was generated" in receipt["notes"][-1]
    assert len(painter(gateway).requests) == 1
    for _ in range(2):
        await gateway.post(PATH, DRAW)
    await gateway.post(PATH, body, headers=other())
    assert len(painter(gateway).requests) == 4


@pytest.mark.parametrize("form", ["url", "b64_json"])
async def test_a_deleted_picture_never_comes_back(aiohttp_server: Any, tmp_path: Path, form: str) -> None:
    """Deleted by its owner, it is forgotten by the cache, too: the same call is drawn anew, under another key."""
    disk = "storages: {pictures: {use: disk, root: " + str(tmp_path / "pictures") + "}}\n"
    gateway = await guarded(aiohttp_server, tmp_path, "memory: {use: cache}", storages=disk)
    body = {**DRAW, "seed": 77, "response_format": form}
    await gateway.post(PATH, body)
    (first,) = (await gateway.get("/v1/pictures")).json["data"]
    assert (await gateway.ask("DELETE", f"/v1/pictures/{first['id']}")).status == 200
    await gateway.post(PATH, body)
    (second,) = (await gateway.get("/v1/pictures")).json["data"]

    assert second["id"] != first["id"]
    assert (await gateway.get(f"/image/{first['id']}")).status == 404
    assert len(painter(gateway).requests) == 2


async def test_what_another_process_deleted_gets_a_new_key(aiohttp_server: Any, tmp_path: Path) -> None:
    """The cache cannot know why it is gone: its bytes are given again, but nobody's deleted link lives again."""
    gateway = await guarded(aiohttp_server, tmp_path, "memory: {use: cache}")
    body = {**DRAW, "seed": 77, "response_format": "url"}
    first = (await gateway.post(PATH, body)).json["data"][0]["url"]
    key = first.rsplit("/", 1)[1].partition(".")[0]
    assert await gateway.runtime.storages["pictures"].delete(key)
    again = [(await gateway.post(PATH, body)).json["data"][0]["url"] for _ in range(3)]

    assert first not in again
    assert len(set(again)) == 1
    assert (await gateway.get(again[0].removeprefix(gateway.base))).status == 200
    assert (await gateway.get(first.removeprefix(gateway.base))).status == 404
    assert len((await gateway.get("/v1/pictures")).json["data"]) == 1
    assert len(painter(gateway).requests) == 1


async def test_the_same_request_with_a_seed_at_once_is_drawn_once(aiohttp_server: Any, tmp_path: Path) -> None:
    """Four at the same time: one is paid, and all have the same link. The first client leaves: the others stay."""
    gateway = await guarded(aiohttp_server, tmp_path, "memory: {use: cache}")
    painter(gateway).free.clear()
    body = {**DRAW, "seed": 7, "response_format": "url"}
    calls = [asyncio.create_task(gateway.post(PATH, body)) for _ in range(4)]
    await until(lambda: gateway.runtime.jobs.counts == {"running": 1, "waiting": 3})
    calls[0].cancel()
    painter(gateway).free.set()
    answers = await asyncio.gather(*calls[1:])

    assert [answer.status for answer in answers] == [200] * 3
    assert len({answer.json["data"][0]["url"] for answer in answers}) == 1
    assert len(painter(gateway).requests) == 1


async def test_those_who_waited_for_a_failure_try_themselves(aiohttp_server: Any, tmp_path: Path) -> None:
    """One refusal of the upstream is one caller's; the rest get their picture, paid once."""
    gateway = await guarded(aiohttp_server, tmp_path, "memory: {use: cache}")
    painter(gateway).free.clear()
    painter(gateway).faults.append(UpstreamTimeoutError("slow"))
    calls = [asyncio.create_task(gateway.post(PATH, {**DRAW, "seed": 7})) for _ in range(4)]
    await until(lambda: gateway.runtime.jobs.counts == {"running": 1, "waiting": 3})
    painter(gateway).free.set()
    statuses = sorted([answer.status for answer in await asyncio.gather(*calls)])

    assert statuses == [200, 200, 200, 504]
    assert len(painter(gateway).requests) == 2


async def test_the_order_in_the_yaml_is_the_order_of_the_work(aiohttp_server: Any, tmp_path: Path) -> None:
    """A blocklist inside a cache is passed by what the cache knows; outside of it, it is not."""
    inside = await guarded(aiohttp_server, tmp_path, "memory: {use: cache}\nwords: {use: blocklist, words: [dog]}")
    answer = await inside.post(PATH, {**DRAW, "seed": 1})

    assert base64.b64decode(answer.json["data"][0]["b64_json"])
    assert refused(await inside.post(PATH, {**DRAW, "prompt": "a dog", "seed": 1}))
    assert refused(await inside.post(PATH, {**DRAW, "prompt": "a dog", "seed": 1}))
    assert len(painter(inside).requests) == 1
