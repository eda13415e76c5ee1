"""How long an upstream wants to be left alone, as its headers tell it."""

from __future__ import annotations

import math
import re
import time
from email.utils import parsedate_to_datetime

from gateway.calls import Answer

DAY = 86_400.0
RESET, REMAINING = "x-ratelimit-reset", "x-ratelimit-remaining"
SPAN = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?")
SCALE = (86_400.0, 3600.0, 60.0, 1.0, 0.001)
MOMENT, MILLISECONDS = 1e9, 1e11
"""From so much on a number is no span but a moment, in seconds since 1970, or in milliseconds."""


def retry_after(answer: Answer, now: float | None = None) -> float | None:
    """Read ``retry-after-ms`` or ``Retry-After`` (seconds or an HTTP date), kept within 1 s and a day; None if bad."""
    now = time.time() if now is None else now
    for name, factor in (("retry-after-ms", 0.001), ("Retry-After", 1.0)):
        text = answer.headers.get(name, "").strip()
        if text:
            seconds = _seconds(text, factor, now)
            if seconds is not None:
                return min(max(seconds, 1.0), DAY)
    return None


def until_reset(answer: Answer, now: float | None = None) -> float | None:
    """Read when the limit that is used up is whole again (``x-ratelimit-reset…``), within 1 s and a day, or None."""
    now = time.time() if now is None else now
    resets = [seconds for text in _resets(answer) if (seconds := _span(text, now)) is not None]
    return min(max(*resets, 1.0), DAY) if resets else None


def _resets(answer: Answer) -> list[str]:
    """Give the resets of what is used up: ``…-requests`` may have nothing left while ``…-tokens`` has plenty."""
    told = {name.lower(): text.strip() for name, text in answer.headers.items()}
    return [
        text
        for name, text in told.items()
        if name.startswith(RESET) and told.get(REMAINING + name.removeprefix(RESET), "0") == "0"
    ]


def _span(text: str, now: float) -> float | None:
    """Read seconds, ``6m0s``, or a moment since 1970; None for what is none of these."""
    try:
        number = float(text)
    except ValueError:
        found = SPAN.fullmatch(text) if text else None
        if found is None:
            return None
        return sum(float(part or 0) * scale for part, scale in zip(found.groups(), SCALE, strict=True))
    if not math.isfinite(number):
        return None
    moment = number / 1000 if number >= MILLISECONDS else number
    return moment - now if number >= MOMENT else number


def _seconds(text: str, factor: float, now: float) -> float | None:
    try:
        number = float(text) * factor
        return number if math.isfinite(number) and number >= 0 else None
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(text).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
