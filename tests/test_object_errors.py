"""An object store's failures are told in our own words, and logged without a flood."""

import logging

import pytest

from gateway.errors import StorageDownError, StorageFullError
from gateway.object_errors import EmptyObjectError, Trouble, meaning


def skewed(request, server):
    times = f"<RequestTime>{request}</RequestTime><ServerTime>{server}</ServerTime>"
    return f"403 Forbidden: <Error><Code>RequestTimeTooSkewed</Code>{times}</Error>"


class PermissionDeniedError(Exception):
    """Named as the library's own."""


class GenericError(Exception):
    """Named as the library's own."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionDeniedError(skewed("20261121T010000Z", "2026-11-21T00:30:00Z")), "clock is 1800 s ahead of"),
        (PermissionDeniedError(skewed("20261121T000000Z", "2026-11-21T00:30:00Z")), "clock is 1800 s behind"),
        (PermissionDeniedError(skewed("20261121T000000Z", "yesterday")), "clock and the store's differ"),
        (PermissionDeniedError(skewed("20261121T000000", "2026-11-21T00:30:00Z")), "clock and the store's differ"),
        (PermissionDeniedError(skewed("99999999T999999Z", "0000-00-00T00:00:00Z")), "clock and the store's differ"),
        (PermissionDeniedError("<Code>RequestTimeTooSkewed</Code>"), "clock and the store's differ"),
        (PermissionDeniedError("Server returned non-2xx status code: 403 Forbidden"), r"credentials \(403\)"),
        (GenericError("Server returned non-2xx status code: 307 Temporary Redirect: "), r"another address \(307\)"),
        (GenericError("Received redirect without LOCATION"), "another address"),
        (GenericError("status code: x <Code>SlowDown</Code>"), r"cannot be used now \(SlowDown\)"),
        (GenericError("non-2xx status code: 503 Service Unavailable: "), r"cannot be used now \(503\)"),
        (GenericError("connection refused"), r"cannot be used now \(no answer\)"),
        (GenericError("<Code>" + "A" * 5000 + "</Code>"), r"cannot be used now \(no answer\)"),
        (GenericError("<Code>no such thing\n\x1b[2J</Code>"), r"cannot be used now \(no answer\)"),
    ],
)
def test_says_what_it_is(error, words):
    """The reason is named as far as the store named it; its own words stay out."""
    with pytest.raises(StorageDownError, match=words) as told:
        raise meaning(error)

    assert "<" not in told.value.message


def test_full_and_empty_are_errors_of_their_own():
    """A full store is 507; a part of an empty object is none at all."""
    assert isinstance(meaning(GenericError("<Code>QuotaExceeded</Code>")), StorageFullError)
    assert isinstance(meaning(GenericError("<Code>InvalidRange</Code>")), EmptyObjectError)


def test_a_trouble_is_logged_once_a_minute(caplog):
    """A thousand failures are a line when they begin, one each minute, and one when they are over."""
    now = 0.0
    trouble = Trouble("images", clock=lambda: now)
    with caplog.at_level(logging.INFO, "gateway.object_errors"):
        for now in range(150):  # noqa: B007  - the clock reads it
            trouble.met(StorageDownError("slow down", retry_after=5))
        trouble.over()
        trouble.over()
        trouble.met(StorageDownError("clock"))

    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [
        *[("WARNING", "object store images: slow down")] * 3,
        ("INFO", "object store images answers again"),
        ("ERROR", "object store images: clock"),
    ]
    assert trouble.words == "clock"
