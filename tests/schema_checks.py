"""Loaded by schemathesis, for what it cannot see by itself: events of streams are held to ``x-event-schema``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import schemathesis

from tests.contract import check

DOCUMENT = json.loads(Path(os.environ["CHECKED_DOCUMENT"]).read_text())


@schemathesis.check
def events_conformance(context: Any, response: Any, case: Any) -> None:
    """Hold the data of every event to the document's own words."""
    if not response.headers.get("content-type", [""])[0].startswith("text/event-stream"):
        return
    lines = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: ")]
    path = case.operation.path
    check(DOCUMENT, case.method, path, response.status_code, [json.loads(line) for line in lines if line != "[DONE]"])
