"""Reads the server-sent events of a streamed picture: previews while they arrive, then the finished one."""

from __future__ import annotations

import codecs
import contextlib
from typing import Any

import orjson

from gateway import Answer, BrokenAnswerError, GatewayError, Image, Report, Secret, classify_told, decode_base64

from .reading import tell_usage


class PictureStream:
    """Takes pieces of the stream as they arrive, reports each preview once, and keeps what is finished.

    The *secrets* are shown nowhere, even if the stream repeats them.
    """

    def __init__(self, report: Report, secrets: tuple[Secret, ...]) -> None:
        self._report = report
        self._told = Answer(200, {"Content-Type": "application/json"}, secrets=secrets)
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
            # As if it had come instead of the stream, with the status 400.
            self._troubles.append(classify_told(self._told, event.get("error") or event, otherwise=400))
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
    line = line.removeprefix(codecs.BOM_UTF8)
    if not line.startswith(b"data:"):
        return None
    try:
        event = orjson.loads(line[5:].strip())
    except orjson.JSONDecodeError:
        return None
    return event if isinstance(event, dict) else None
