"""One line per job."""

import hashlib
import json
import logging

import pytest
from gateway_plugins.observers.log import Log

from gateway import Change, Event, Observer, Picture, PictureMeta, Receipt, Result

META = PictureMeta("key", "image/png", 8, 8, 1234, "", 0)
EVIL = 'a "cat"\r\nINFO forged=line \x1b[31m\u2028\x85 {"x":1}'


def finished(prompt="a cat"):
    receipt = Receipt(
        "flux",
        "cf/flux",
        adjusted=(Change("steps", 20, 8, "the target takes 1 to 8"), Change("prompt", "a secret cat", "a", "cut")),
        dropped=(Change("seed", 7, None, "the target takes none"),),
        optimizer="rewriter",
        cost=0.01,
    )
    return Event("job-1", 9, "finished", 12.5, {"result": Result((Picture(META),), "better", prompt, receipt, 0)})


async def lines(log, caplog, *events):
    with caplog.at_level(logging.INFO, "image_gateway.jobs"):
        for event in events:
            await log.observe(event)
    return [record.getMessage() for record in caplog.records]


ACCEPTED = Event("job-1", 1, "accepted", 10.0, {"model": "flux"})
FAILED = Event("job-1", 3, "failed", 11.0, {"error": {"code": "upstream_timeout", "message": "cf: too slow\nby far"}})


async def test_finished_job_is_one_line(caplog):
    """Who drew what, how long it took; the prompt as length and hash."""
    written = await lines(Log(format="json"), caplog, ACCEPTED, finished())

    assert isinstance(Log(), Observer)
    assert json.loads(written[0]) == {
        "job": "job-1",
        "outcome": "finished",
        "model": "flux",
        "seconds": 2.5,
        "target": "cf/flux",
        "pictures": 1,
        "bytes": 1234,
        "attempts": 0,
        "adjusted": ["steps: 20 -> 8", "prompt"],
        "dropped": ["seed"],
        "optimizer": "rewriter",
        "cost": 0.01,
        "prompt_length": 5,
        "prompt_hash": hashlib.sha256(b"a cat").hexdigest()[:16],
    }
    assert len(written) == 1


async def test_text_is_readable(caplog):
    """Name and value, quoted only where needed."""
    written = await lines(Log(prompts=True), caplog, ACCEPTED, FAILED)

    assert written == [
        'job=job-1 outcome=failed model=flux seconds=1.0 code=upstream_timeout error="cf: too slow\\nby far"'
    ]
    assert caplog.records[0].levelname == "WARNING"


@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        (
            "upstream_rejected",
            "up/m: rejected it (HTTP 400: no 'secret cat', please)",
            "up/m: rejected it (HTTP 400) …",
        ),
        ("upstream_rejected", "up/a:1: your prompt 'secret cat' is bad", "up/a:1: your prompt …"),
        ("content_policy_violation", "words instead of a picture: a secret cat?", "words instead of a picture …"),
        ("content_policy_violation", "refused the content (secret cat)", "refused the content …"),
        ("upstream_timeout", "up: too slow", "up: too slow"),
        (
            "upstream_unreachable",
            "up: cannot be reached: refused (no route)",
            "up: cannot be reached: refused (no route)",
        ),
        ("job_timeout", "no picture after 600 s: (the limit)", "no picture after 600 s: (the limit)"),
    ],
)
async def test_an_upstream_s_words_are_told_only_with_prompts(caplog, code, message, told):
    """They may repeat the prompt."""
    failed = Event("job-1", 3, "failed", 11.0, {"error": {"code": code, "message": message}})
    short, whole = [await lines(Log("json", prompts=asked), caplog, failed) for asked in (False, True)]

    assert json.loads(short[0])["error"] == told
    assert json.loads(whole[-1])["error"] == message


async def test_prompt_is_told_only_when_asked_for(caplog):
    """By default the words do not reach the log."""
    written = await lines(Log(), caplog, finished("secret wish")) + await lines(
        Log(prompts=True), caplog, finished("x y")
    )

    assert "secret" not in written[0]
    assert "prompt_length=11" in written[0]
    assert 'prompt="x y"' in written[-1]


@pytest.mark.parametrize("form", ["text", "json"])
async def test_nothing_forges_a_line(caplog, form):
    """Whatever a prompt or an upstream says, a job is one line without control characters."""
    error = Event("job-2", 3, "failed", 11.0, {"error": {"code": EVIL, "message": EVIL}})
    written = await lines(Log(form, prompts=True), caplog, finished(EVIL), finished("\ud800"), error)

    assert len(written) == 3
    assert all(len(line.splitlines()) == 1 and "\x1b" not in line for line in written)
    assert form == "text" or all(json.loads(line) for line in written)


async def test_other_events_are_silent(caplog):
    """Only ends are logged, also of jobs whose start was not seen."""
    events = [Event("j", 1, kind, 0.0, {}) for kind in ("queued", "progress", "stored", "cancelled", "finished")]

    assert await lines(Log(), caplog, *events) == ["job=j outcome=cancelled", "job=j outcome=finished"]


async def test_jobs_that_never_end_take_no_memory():
    """The starts of lost jobs are forgotten."""
    log = Log()
    for index in range(10_500):
        await log.observe(Event(str(index), 1, "accepted", 0.0, {}))

    assert len(log._started) == 10_000
