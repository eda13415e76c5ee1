"""Writes one log line for each job that ended."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from gateway import Change, Event, Result, hookimpl

log = logging.getLogger("image_gateway.jobs")

ENDS = ("finished", "failed", "cancelled")
WRITTEN = {"prompt", "negative_prompt", "user"}
SHORT = 40
PLAIN = re.compile(r"[!#-<>-\[\]-~]+")
"""Printable ASCII without a space, a quote, a backslash or an equals sign: it can be read without quotes."""
FOREIGN = re.compile(r"upstream_(?!unreachable)|content_policy_violation|moderation_unavailable")
"""Codes of errors that end in the words of others, who may repeat the prompt."""
OURS = re.compile(r"""(?:\S+: )?(?:(?!\s['‘])[^(:"“«„`])*+(?:\(HTTP \d{3})?""")
STARTED_AT_MOST = 10_000
"""Jobs whose start is remembered; of older ones the duration is not known."""


@dataclass
class Log:
    """Logs how each job ended, as readable *text* or as *json*, one line each.

    Of a prompt its length and a hash are told, with *prompts* the words themselves, and those of upstreams, too.
    """

    format: Literal["text", "json"] = "text"
    prompts: bool = False
    _started: dict[str, Event] = field(init=False, default_factory=dict, repr=False)

    async def observe(self, event: Event) -> None:
        """Remember when a job began, and write the line when it ends."""
        if event.type == "accepted":
            if len(self._started) >= STARTED_AT_MOST:
                del self._started[next(iter(self._started))]
            self._started[event.job] = event
        elif event.type in ENDS:
            line = self._line(event, self._started.pop(event.job, None))
            level = logging.WARNING if event.type == "failed" else logging.INFO
            log.log(level, "%s", _json(line) if self.format == "json" else _text(line))

    def _line(self, event: Event, started: Event | None) -> dict[str, Any]:
        line: dict[str, Any] = {"job": event.job, "outcome": event.type}
        if started is not None:
            line |= {"model": started.data.get("model"), "seconds": round(event.at - started.at, 3)}
        result, error = event.data.get("result"), event.data.get("error")
        if isinstance(result, Result):
            line |= self._finished(result)
        if isinstance(error, Mapping):
            code, message = str(error.get("code")), str(error.get("message"))
            line |= {"code": code, "error": message[:500] if self.prompts else _ours(code, message)}
        return line

    def _finished(self, result: Result) -> dict[str, Any]:
        receipt = result.receipt
        return {
            "model": receipt.model,
            "target": receipt.target,
            "pictures": len(result.pictures),
            "bytes": sum(picture.meta.length for picture in result.pictures),
            "attempts": len(receipt.attempts),
            "adjusted": [_change(change) for change in receipt.adjusted],
            "dropped": [change.name for change in receipt.dropped],
            "optimizer": receipt.optimizer,
            "cost": receipt.cost,
            **self._prompt(result.original),
        }

    def _prompt(self, prompt: str) -> dict[str, Any]:
        encoded = prompt.encode("utf-8", "replace")
        if self.prompts:
            return {"prompt": encoded.decode()}
        return {"prompt_length": len(prompt), "prompt_hash": hashlib.sha256(encoded).hexdigest()[:16]}


def _ours(code: str, message: str) -> str:
    """Cut off what an upstream has said."""
    kept = OURS.match(message) if FOREIGN.match(code) else None
    if not kept or kept[0] == message:
        return message[:500]
    return f"{kept[0].rstrip()}{')' if '(HTTP' in kept[0] else ''} …"


def _change(change: Change) -> str:
    # What people wrote is told only where prompts are.
    told = change.name not in WRITTEN and len(str(change.asked)) <= SHORT
    return f"{change.name}: {change.asked} -> {change.applied}" if told else change.name


def _json(value: Any) -> str:
    """Write a value as one line for every reader, also for those that take U+2028 for a line's end."""
    return orjson.dumps(value).decode().replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\x85", " ")


def _text(line: Mapping[str, Any]) -> str:
    known = ((name, value) for name, value in line.items() if value is not None and value != [])
    # As JSON a value is one line, whatever a prompt or an upstream put into it.
    return " ".join(f"{name}={_word(value)}" for name, value in known)


def _word(value: Any) -> str:
    if isinstance(value, int | float):
        return str(value)
    text = "; ".join(value) if isinstance(value, list) else str(value)
    return text if PLAIN.fullmatch(text) else _json(text)


@hookimpl
def provide_observers() -> dict[str, type]:
    """Offer `log`."""
    return {"log": Log}
