"""Reads the server-sent events of a streamed picture: previews while they arrive, then the finished one."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson

from gateway import Answer, BrokenAnswerError, GatewayError, Image, Report, classify, decode_base64

from .reading import tell_usage


class Previews:
    """Takes pieces of the stream as they arrive, and reports each preview once."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._rest: list[bytes] = []

    def __call__(self, piece: bytes) -> None:
        """Take the next *piece*; what is malformed is left for the end to complain about."""
        self._rest.append(piece)
        if b"\n" not in piece:
            return
        *lines, rest = b"".join(self._rest).split(b"\n")
        self._rest = [rest]
        for line in lines:
            event = _event(line)
            if event and str(event.get("type", "")).endswith(".partial_image"):
                with contextlib.suppress(BrokenAnswerError):
                    self._report.partial(Image(data=decode_base64(str(event.get("b64_json", "")))))


def finished(answer: Answer, report: Report) -> list[Image]:
    """Give the pictures that the whole stream of *answer* brought, and tell the tokens used; raise its complaint."""
    images = []
    for line in answer.body.split(b"\n"):
        event = _event(line)
        kind = str(event.get("type", "")) if event else ""
        if event and (kind == "error" or "error" in event):
            raise _complaint(event)
        if event and kind.endswith(".completed"):
            tell_usage(event, report)
            images.append(Image(data=decode_base64(str(event.get("b64_json", "")))))
    if not images:
        raise BrokenAnswerError("ended its stream without a finished picture")
    return images


def _event(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"data:"):
        return None
    try:
        event = orjson.loads(line[5:].strip())
    except orjson.JSONDecodeError:
        return None
    return event if isinstance(event, dict) else None


def _complaint(event: dict[str, Any]) -> GatewayError:
    """Judge an error that came after the headers as if it had come with the status 400, unless it is the server's."""
    error = event.get("error")
    kind = str(error.get("type", "")) if isinstance(error, dict) else ""
    status = 500 if "server" in kind or "overload" in kind else 400
    found = classify(Answer(status, {"Content-Type": "application/json"}, orjson.dumps({"error": error})))
    assert found is not None
    return found
