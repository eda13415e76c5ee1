"""Cloudflare's error codes as our classes of errors."""

from __future__ import annotations

import math
import time
from typing import Any

from gateway import (
    AllowanceError,
    Answer,
    BadKeyError,
    BrokenAnswerError,
    BusyUpstreamError,
    GatewayError,
    MisconfiguredError,
    RateLimitedError,
    RefusedError,
    RejectedError,
    UpstreamError,
    classify,
    error_words,
    retry_after,
)

DAY = 86_400
LONG = 2**16
"""An answer longer than this is a picture; whether it says success is looked at when it is parsed."""

MEANINGS: tuple[tuple[frozenset[int], type[UpstreamError], str], ...] = (
    (frozenset({5004, 5006, 3003, 8001, 5019, 3006}), RejectedError, "Workers AI rejected the request"),
    (frozenset({5007, 3042}), MisconfiguredError, "Workers AI has no such model"),
    (frozenset({7003}), MisconfiguredError, "Workers AI does not know this account_id"),
    (frozenset({5016, 5018, 3041}), MisconfiguredError, "this account may not use the model, or must accept its terms"),
    (frozenset({5035}), MisconfiguredError, "the model needs the Workers Paid plan"),
    (frozenset({10000, 9109, 6003, 6111}), BadKeyError, "Workers AI refused the API token"),
    (frozenset({3023}), BadKeyError, "the account is blocked"),
    (frozenset({3007, 3008, 5000, 3000, 5001, 7009}), BusyUpstreamError, "Workers AI failed or is overloaded"),
)
REFUSED = frozenset({8007, 3030})
ALLOWANCE = frozenset({3036, 4006})
CAPACITY = frozenset({3040})


def judge(answer: Answer) -> GatewayError | None:
    """Judge *answer* by Cloudflare's own codes, and by its status where they say nothing."""
    succeeded = 200 <= answer.status < 300
    if succeeded and (len(answer.body) > LONG or not answer.body.lstrip().startswith(b"{")):
        return None
    envelope = _parsed(answer)
    if succeeded and envelope.get("success") is not False:
        return None
    return judge_envelope(envelope, answer)


def judge_envelope(envelope: dict[str, Any], answer: Answer, now: float | None = None) -> GatewayError:
    """Name the error that *envelope* reports."""
    codes = _codes(envelope)
    words = error_words(answer)
    said = f" ({words})" if words else ""
    if codes & REFUSED:
        return RefusedError(f"Workers AI refused the content{said}")
    if codes & ALLOWANCE:
        seconds = until_midnight(time.time() if now is None else now)
        return AllowanceError(f"the account's daily allowance is used up until 00:00 UTC{said}", retry_after=seconds)
    if codes & CAPACITY:
        return RateLimitedError(f"Workers AI is out of capacity{said}", retry_after=retry_after(answer))
    for known, kind, meaning in MEANINGS:
        if codes & known:
            return kind(f"{meaning}{said}", retry_after=retry_after(answer))
    return classify(answer) or BrokenAnswerError(f"Workers AI answered success: false{said}")


def until_midnight(now: float) -> float:
    """Say how many seconds after *now* (epoch) the next day begins in UTC."""
    return max(1.0, (math.floor(now / DAY) + 1) * DAY - now)


def _parsed(answer: Answer) -> dict[str, Any]:
    try:
        parsed = answer.json()
    except BrokenAnswerError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _codes(envelope: dict[str, Any]) -> frozenset[int]:
    errors = envelope.get("errors")
    found = [error.get("code") for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    return frozenset(int(code) for code in found if isinstance(code, int) or (isinstance(code, str) and code.isdigit()))
