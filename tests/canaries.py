"""Secrets that tests give to the gateway, and the watch that none of them is ever shown: a pytest plugin."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

MARK = "c4nary"
"""Every secret of a test bears this; nothing that the gateway says or writes may."""

CALLER_KEY = f"ig-{MARK}-caller-0f3a9b71"
OTHER_KEY = f"ig-{MARK}-other-5d1c2e80"
UPSTREAM_KEY = f"sk-{MARK}-upstream-77aa01"
SPARE_KEY = f"sk-{MARK}-spare-88bb02"


class Watch(logging.Handler):
    """Formats every record as a log file would, traceback included, and keeps those that show a secret."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        self.leaks: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if MARK in line:
            self.leaks.append(line)


@pytest.fixture(autouse=True)
def no_secret_in_the_log() -> Iterator[None]:
    """Fail a test whose gateway wrote a secret to any logger."""
    watch = Watch()
    logging.getLogger().addHandler(watch)
    yield
    logging.getLogger().removeHandler(watch)
    assert not watch.leaks, f"a secret stands in the log: {watch.leaks[0][:500]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Fail a test during which a secret was written to stdout or stderr."""
    report = yield
    shown = [name for name, text in report.sections if MARK in text]
    if report.passed and shown:
        report.outcome = "failed"
        report.longrepr = f"a secret of the test stands in: {', '.join(shown)}"
    return report
