"""Reads the server-sent events of a streamed picture: previews while they arrive, then the finished one."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson

from gateway import Answer, BrokenAnswerError, GatewayError, Image, Report, classify, decode_base64

from .reading import tell_usage


class PictureStream:
    """Takes pieces of the stream as they arrive, reports each preview once, and keeps what is finished."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._rest: list[bytes] = []
        self._images: list[Image] = []
        self._troubles: list[GatewayError] = []

    def __call__(self, piece: bytes) -> None:
        """Take the next *piece*; what is malformed is left for the end to complain about."""
        self._rest.append(piece)
        if b"\n" not in piece:
            return
        *lines, rest = b"".join(self._rest).split(b"\n")
        self._rest = [rest]
        for line in lines:
            self._take(line)

    def came(self) -> list[Image]:
        """Give the pictures that have come, be the stream whole or not; what is missing of them is noted."""
        self._take(b"".join(self._rest))
        self._rest = []
        for each in self._troubles if self._images else ():
            self._report.noted(f"a picture is missing: {each.message}")
        return self._images

    def finished(self) -> list[Image]:
        """Give the pictures that the whole stream brought; raise its complaint if there are none."""
        if images := self.came():
            return images
        raise self._troubles[0] if self._troubles else BrokenAnswerError("ended its stream without a finished picture")

    def _take(self, line: bytes) -> None:
        event = _event(line)
        if event is None:
            return
        kind = str(event.get("type", ""))
        if kind == "error" or event.get("error"):
            self._troubles.append(_complaint(event))
        elif kind.endswith(".completed"):
            tell_usage(event, self._report)
            try:
                self._images.append(Image(data=decode_base64(str(event.get("b64_json", "")))))
            except BrokenAnswerError as error:
                self._troubles.append(error)
        elif kind.endswith(".partial_image"):
            with contextlib.suppress(BrokenAnswerError):
                self._report.partial(Image(data=decode_base64(str(event.get("b64_json", "")))))


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
