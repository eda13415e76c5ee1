"""Reads an upstream's answer as one of our errors, by HTTP status and by the upstream's own words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from gateway.calls import Answer, one_line
from gateway.errors import (
    AllowanceError,
    BadKeyError,
    BrokenAnswerError,
    BusyUpstreamError,
    GatewayError,
    MisconfiguredError,
    NoAccessError,
    RateLimitedError,
    RefusedError,
    RejectedError,
    UpstreamTimeoutError,
)
from gateway.retrying import retry_after, until_reset

BUSY = frozenset({408, 409, 425, 500, 502, 503, 520, 521, 522, 523, 529})
TIMED_OUT = frozenset({504, 524})
"""What a proxy before the upstream says when it has waited long enough: the upstream may still draw, and bill."""
OVERLOADED = frozenset({503, 529})
QUOTA = re.compile(
    r"(?i)insufficient_quota|spend_limit|billing_hard_limit|billing_limit|insufficient[ _](?:balance|funds|credit)"
    r"|balance is insufficient|exhausted balance|out of credits|no credits|payment_required|daily free allocation"
    r"|not[ _]enough[ _]credits|used all available credits|doesn't have any credits"
)
REFUSAL = re.compile(
    r"(?i)moderation|content[ _-]?(?:policy|filter)|contentfilter|responsibleai|safety (?:system|check|filter)|nsfw"
    r"|sensitive content|has been flagged|is flagged|prohibited content|prompt_rejected"
    r"|usage guidelines|safety_check_type|\bflagged_input\b"
)
PARAMETER = re.compile(r"(?i)\b(?:unknown|unsupported|invalid)_(?:parameter|value)\b")
"""Codes that complain of how something was asked: a parameter may bear the name of what is refused."""
STATUS = re.compile(r"(?<!\S)[45]\d\d(?!\S)")
TOLD = (("rate_limit", 429), ("overload", 503), ("server", 500))
BAD_KEY = re.compile(r"(?i)\b(?:invalid_api_key|incorrect api key)\b")
FIREWALL = re.compile(rb"(?i)\s*error code: 1\d{3}\s*")
"""What Cloudflare's firewall says to whatever is no browser."""
MODEL = re.compile(
    r"(?i)model_not_found|verified to use the model|(?:access to|use) (?:the |this )?model|gated (?:repo|model)"
    r"|on resource .{0,80}\bmodels/"
)


def classify(answer: Answer) -> GatewayError | None:
    """Judge *answer* by its status alone and what it says; None means that it may be read as a success."""
    status = answer.status
    if 200 <= status < 300:
        return None
    words = error_words(answer)
    said = f"HTTP {status}" + (f": {words}" if words else "")
    marks = f"{words} {error_code(answer)}"
    refusal = status in (400, 403, 422) and REFUSAL.search(marks) and not PARAMETER.search(marks)
    if status == 451 or refusal:
        return RefusedError(f"refused the content ({said})")
    if status == 402 or (status in (400, 403, 429) and QUOTA.search(marks)):
        return AllowanceError(f"has no allowance left ({said})", retry_after=retry_after(answer))
    if status == 403 and MODEL.search(marks):
        return NoAccessError(f"may not use this model ({said})")
    if status == 403 and (answer.kind() == "an HTML page" or FIREWALL.fullmatch(answer.body)):
        # A firewall's, often because of the words of one prompt: an API refuses a key in its own words.
        return MisconfiguredError(f"is behind a firewall that did not let the call pass ({said})")
    if status in (401, 403) or (status == 400 and BAD_KEY.search(marks)):
        return BadKeyError(f"refused the key ({said})")
    if status == 429:
        back = retry_after(answer) or until_reset(answer)
        return RateLimitedError(f"limits the rate of calls ({said})", retry_after=back)
    if status in TIMED_OUT:
        return UpstreamTimeoutError(f"did not answer the proxy before it in time; the call may be billed ({said})")
    if status in BUSY or status >= 500:
        return busy(f"failed or is overloaded ({said})", answer)
    if status in (404, 405, 410):
        return MisconfiguredError(f"does not know this model or address ({said})")
    if status >= 400:
        return RejectedError(f"rejected the request ({said})")
    what = "a redirect, which is not followed" if 300 <= status < 400 else "a status that means nothing here"
    return BrokenAnswerError(f"answered {what} (HTTP {status})", billed=False, retryable=True)


def classify_told(answer: Answer, error: Any, otherwise: int) -> GatewayError:
    """Judge an *error* told within a successful *answer*: by the status that it names, else by what it says, else as
    if it had come with the status *otherwise*."""
    body = orjson.dumps({"error": error})
    marks = error_code(replace(answer, body=body))
    named = STATUS.search(marks)
    known = next((status for pattern, status in TOLD if pattern in marks), 400)
    judged = classify(replace(answer, status=int(named[0]) if named else known, body=body))
    if judged is None or (type(judged) is RejectedError and not named):
        judged = classify(replace(answer, status=otherwise, body=body))
    assert judged is not None
    return judged


def busy(message: str, answer: Answer) -> BusyUpstreamError:
    """Give the error of an upstream that failed: a 502, or a 503 if it says that it is overloaded."""
    error = BusyUpstreamError(message, retry_after=retry_after(answer))
    error.status = 503 if answer.status in OVERLOADED else error.status
    return error


def is_refusal(words: str) -> bool:
    """Say whether an upstream's *words* mean that it refused the content."""
    return REFUSAL.search(words) is not None


def error_words(answer: Answer) -> str:
    """Find the upstream's own words for what went wrong: at most 300 characters, one line, secrets masked."""
    kind = answer.kind()
    if kind in ("an HTML page", "an empty body"):
        return "" if kind == "an empty body" else kind
    try:
        found = _words(orjson.loads(answer.body), 0)
    except orjson.JSONDecodeError:
        textual = answer.media_type.startswith("text/") or not answer.media_type
        found = answer.body[:2048].decode("utf-8", "replace") if textual else ""
    return one_line(found, answer.secrets)


def _words(value: Any, depth: int) -> str:
    """Look where the known APIs put their message: error(.message), errors[0], detail, message, msg, text."""
    if isinstance(value, str):
        return value
    if depth > 4:
        return ""
    if isinstance(value, list):
        return next(filter(None, (_words(item, depth + 1) for item in value[:5])), "")
    if isinstance(value, Mapping):
        names = ("error", "errors", "message", "detail", "details", "msg", "text", "title", "name")
        return next(filter(None, (_words(value.get(name), depth + 1) for name in names)), "")
    return ""


def error_code(answer: Answer) -> str:
    """Gather the codes, types and telling names of an error body as one text, for looking up; never shown."""
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return ""
    return " ".join(_codes(body, 0))


def _codes(value: Any, depth: int) -> list[str]:
    if depth > 3:
        return []
    if isinstance(value, list):
        return [code for item in value[:5] for code in _codes(item, depth + 1)]
    if not isinstance(value, Mapping):
        return []
    own = [str(value[name]) for name in ("code", "type") if isinstance(value.get(name), (str, int))]
    own += ["flagged_input"] if "flagged_input" in value else []
    inner = ("error", "errors", "inner_error", "innererror", "detail", "details", "metadata")
    return own + [code for name in inner for code in _codes(value.get(name), depth + 1)]
