"""One upstream call as values: what goes out, and the answer that came back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.errors import BrokenAnswerError
from gateway.options import Secret

LOOKS_SECRET = re.compile(
    r"(?i)(?:\bbearer\s+\S+|\b(?:sk|pk|rk|hf|r8|xai|key|token|api[-_]?key)[-_:=]\s?[\w*.…-]{6,}|\b[\w-]{32,}\b)"
)
EVENTS = (b"data:", b"event:", b"id:", b"retry:", b":")
"""How the lines of server-sent events begin; the last is a comment."""
SAFE_NAME = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


@dataclass(frozen=True, slots=True)
class FormField:
    """One part of a ``multipart/form-data`` body; a file has a *filename*."""

    name: str
    value: str | bytes
    filename: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One upstream call, whole: what `explain` shows is what is sent. No credentials inside.

    *json* makes a JSON body, *form* a multipart body, neither no body at all.
    """

    method: str
    url: str
    json: Any = None
    form: tuple[FormField, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes | None:
        """Give the body's bytes exactly as sent."""
        if self.form:
            return _multipart(self.form)[0]
        return None if self.json is None else orjson.dumps(self.json)

    def encoded(self) -> tuple[bytes | None, dict[str, str]]:
        """Give the body and the headers that go with it."""
        if self.form:
            body, boundary = _multipart(self.form)
            return body, {**self.headers, "Content-Type": f"multipart/form-data; boundary={boundary}"}
        if self.json is None:
            return None, dict(self.headers)
        return orjson.dumps(self.json), {"Content-Type": "application/json", **self.headers}


@dataclass(frozen=True, slots=True)
class Answer:
    """What an upstream answered, read whole; *headers* are case-insensitive, *secrets* must not be shown.

    *key* is the one that the call went out with.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    secrets: tuple[Secret, ...] = field(default=(), repr=False)
    key: Secret | None = field(default=None, repr=False)

    @property
    def media_type(self) -> str:
        """The declared type, lower case and without parameters; a claim, not a fact."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def is_stream(self) -> bool:
        """Whether the body is a stream of server-sent events, whatever it was declared as."""
        return self.body.startswith(EVENTS)

    def json(self) -> Any:
        """Parse the body whatever type it was declared as; raise `BrokenAnswerError` when it is not JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise BrokenAnswerError(f"answered {self.kind()} instead of JSON") from None

    def kind(self) -> str:
        """Say in words what the body is, without showing it."""
        start = self.body[:512].lstrip().lower()
        if not start:
            return "an empty body"
        if start.startswith((b"<!doctype", b"<html", b"<head", b"<body")):
            return "an HTML page"
        if start.startswith((b"{", b"[")):
            try:
                return "a JSON list" if isinstance(orjson.loads(self.body), list) else "a JSON object"
            except orjson.JSONDecodeError:
                return f"broken or cut JSON ({len(self.body)} bytes)"
        return f"{len(self.body)} bytes of {self.media_type[:60] or 'no declared type'}"


def one_line(text: str, secrets: Iterable[str] = (), limit: int = 300) -> str:
    """Make foreign *text* fit to be shown: one printable line, cut at *limit*, what looks like a secret masked."""
    for secret in secrets:
        text = text.replace(secret, "…") if secret else text
    # Whatever comes later in a long text cannot be shown anyway, so megabytes are not searched.
    plain = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * limit])
    masked = LOOKS_SECRET.sub("…", " ".join(plain.split()))
    return masked if len(masked) <= limit else masked[: limit - 1] + "…"


def _multipart(form: tuple[FormField, ...]) -> tuple[bytes, str]:
    """Encode *form*; the boundary is drawn from the content, so that equal calls are equal byte for byte."""
    parts = []
    for part in form:
        disposition = f'form-data; name="{part.name.translate(SAFE_NAME)}"'
        if part.filename is not None:
            disposition += f'; filename="{part.filename.translate(SAFE_NAME)}"'
        head = f"Content-Disposition: {disposition}\r\n"
        if part.content_type:
            head += f"Content-Type: {part.content_type}\r\n"
        value = part.value.encode() if isinstance(part.value, str) else part.value
        parts.append(head.encode() + b"\r\n" + value + b"\r\n")
    boundary = "gateway-" + hashlib.sha256(b"".join(parts)).hexdigest()[:40]
    line = f"--{boundary}\r\n".encode()
    return b"".join(line + part for part in parts) + f"--{boundary}--\r\n".encode(), boundary
