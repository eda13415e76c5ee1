"""Every error a caller can meet, as one tree.

GatewayError                     500 server_error          internal_error
├── ConfigError                  —   refuses the start; bears every complaint at once
├── RequestError                 400 invalid_request_error invalid_value
│   ├── RefusedError             400                       content_policy_violation
│   ├── AuthenticationError      401                       invalid_api_key
│   ├── PermissionError_         403                       model_not_allowed
│   ├── NotFoundError            404                       not_found
│   │   └── ModelNotFoundError   404                       model_not_found
│   ├── MethodError              405                       method_not_allowed
│   ├── ConflictError            409                       idempotency_conflict
│   ├── BodyTooLargeError        413                       request_too_large
│   ├── UnsupportedMediaError    415                       unsupported_media_type
│   └── SlowBodyError            408                       request_timeout
├── BusyError                    429 rate_limit_error      too_many_jobs
│   └── BudgetError              429 insufficient_quota    insufficient_quota     the caller's money is spent
├── UnavailableError             503 server_error          unavailable
├── CancelledJobError            409 invalid_request_error job_cancelled
├── DeadlineError                504 server_error          deadline_exceeded      the caller's own; nothing was sent
├── UpstreamError                502 upstream_error        upstream_error
│   ├── UnreachableError         502                       upstream_unreachable   nothing was sent
│   ├── UpstreamTimeoutError     504                       upstream_timeout       may be billed
│   ├── BrokenAnswerError        502                       upstream_bad_response  may be billed
│   │   └── NotAnImageError      502                       not_an_image
│   ├── BusyUpstreamError        503                       upstream_overloaded    not billed
│   ├── RateLimitedError         429                       upstream_rate_limited  rests the key
│   ├── AllowanceError           429                       upstream_allowance     rests the account
│   ├── BadKeyError              502                       upstream_key_refused   drops the key
│   ├── MisconfiguredError       502                       upstream_misconfigured next target
│   │   └── NoAccessError        502                       upstream_misconfigured next key: not for this model
│   └── RejectedError            400 invalid_request_error upstream_rejected      final: caller's or adapter's fault
├── BlockedAddressError          403 invalid_request_error blocked_address        the address guard said no
│   └── BadAddressError          400                       invalid_url            not even a URL that could be fetched
├── StorageError                 502 server_error          storage_error
│   ├── StorageFullError         507                       storage_full
│   ├── StorageDownError         503                       storage_unavailable
│   ├── PictureTooLargeError     413                       picture_too_large
│   ├── NotStoredError           503                       image_not_stored       made; its link comes later
│   └── GoneError                410                       picture_expired        made, and there no more
└── PluginError                  500 server_error          plugin_contract
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Self

SAFETY = re.compile(r"(?i)safety system|content policy")


class GatewayError(Exception):
    """An error with words for the caller; *param* names the field, *retry_after* is in seconds.

    *again* is False when repeating the call cannot help or would be paid twice (``x-should-retry: false``).
    """

    status = 500
    type = "server_error"
    code = "internal_error"
    again: bool | None = None

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or type(self).code
        self.retry_after = _seconds(retry_after)

    def copied(self) -> Self:
        """Give the same error anew: one object, raised again and again, would hold the frames of all who met it."""
        other = type(self).__new__(type(self), *self.args)
        other.__dict__.update(self.__dict__)
        return other

    def as_json(self) -> dict[str, Any]:
        """Give the OpenAI error body."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}


class ConfigError(GatewayError):
    """A configuration that cannot be used; *complaints* are whole lines, all of them."""

    code = "configuration_error"

    def __init__(self, complaints: Sequence[str] | str) -> None:
        self.complaints = (complaints,) if isinstance(complaints, str) else tuple(complaints)
        super().__init__("\n".join(self.complaints))


class RequestError(GatewayError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_value"
    again = False


class RefusedError(RequestError):
    """The content was refused, here or upstream; final. *said* are a model's own words, given instead of a picture."""

    code = "content_policy_violation"
    said: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Give the body with OpenAI's own words: by them clients such as litellm know a refusal."""
        body = super().as_json()
        if not SAFETY.search(self.message):
            body["error"]["message"] = f"{self.message}; the request was rejected as a result of the safety system"
        return body


class AuthenticationError(RequestError):
    status = 401
    code = "invalid_api_key"


class PermissionError_(RequestError):  # noqa: N801,N818  - the builtin has the plain name
    status = 403
    code = "model_not_allowed"


class NotFoundError(RequestError):
    status = 404
    code = "not_found"


class ModelNotFoundError(NotFoundError):
    code = "model_not_found"


class MethodError(RequestError):
    """*allowed* is the value of the Allow header."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class ConflictError(RequestError):
    status = 409
    code = "idempotency_conflict"


class BodyTooLargeError(RequestError):
    status = 413
    code = "request_too_large"


class UnsupportedMediaError(RequestError):
    status = 415
    code = "unsupported_media_type"


class SlowBodyError(RequestError):
    status = 408
    code = "request_timeout"


class BusyError(GatewayError):
    """No free place for this job now; nothing was done."""

    status = 429
    type = "rate_limit_error"
    code = "too_many_jobs"


class BudgetError(BusyError):
    """What this caller may spend is spent; nothing was done. OpenAI's SDKs do not repeat it."""

    type = "insufficient_quota"
    code = "insufficient_quota"
    again = False


class UnavailableError(GatewayError):
    status = 503
    code = "unavailable"


class CancelledJobError(GatewayError):
    status = 409
    type = "invalid_request_error"
    code = "job_cancelled"
    again = False


class DeadlineError(GatewayError):
    """The time that the caller gave is over, and nothing was sent yet; to begin anew at once would only wait again."""

    status = 504
    code = "deadline_exceeded"
    again = False


class UpstreamError(GatewayError):
    """An upstream failed. *sent*: the request went out. *billed*: True, False or None for unknown.

    *retryable*: another key or target may be tried without paying twice. *refused_key*, *rest*: what becomes of the key
    (see `gateway.upstream.KeyRing`). The pipeline puts the target's name before the message.
    """

    status = 502
    type = "upstream_error"
    code = "upstream_error"
    sent = True
    billed: bool | None = None
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        sent: bool | None = None,
        billed: bool | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code, retry_after=retry_after)
        cls = type(self)
        self.sent = cls.sent if sent is None else sent
        self.billed = cls.billed if billed is None else billed
        self.retryable = cls.retryable if retryable is None else retryable


class UnreachableError(UpstreamError):
    code = "upstream_unreachable"
    sent = False
    billed = False
    retryable = True


class UpstreamTimeoutError(UpstreamError):
    status = 504
    code = "upstream_timeout"


class BrokenAnswerError(UpstreamError):
    code = "upstream_bad_response"


class NotAnImageError(BrokenAnswerError):
    code = "not_an_image"


class BusyUpstreamError(UpstreamError):
    """It failed on its side; 503 only when it said so itself, or nothing was asked of it."""

    code = "upstream_overloaded"
    billed = False
    retryable = True


class RateLimitedError(UpstreamError):
    status = 429
    type = "rate_limit_error"
    code = "upstream_rate_limited"
    billed = False
    retryable = True


class AllowanceError(UpstreamError):
    status = 429
    type = "rate_limit_error"
    code = "upstream_allowance"
    billed = False
    retryable = True


class BadKeyError(UpstreamError):
    code = "upstream_key_refused"
    billed = False
    retryable = True


class MisconfiguredError(UpstreamError):
    code = "upstream_misconfigured"
    billed = False
    retryable = True


class NoAccessError(MisconfiguredError):
    """A key that is good for other models, and not for this one; another key may be."""


class RejectedError(UpstreamError):
    status = 400
    type = "invalid_request_error"
    code = "upstream_rejected"
    billed = False


class BlockedAddressError(GatewayError):
    status = 403
    type = "invalid_request_error"
    code = "blocked_address"
    again = False


class BadAddressError(BlockedAddressError):
    status = 400
    code = "invalid_url"


class StorageError(GatewayError):
    status = 502
    code = "storage_error"


class StorageFullError(StorageError):
    status = 507
    code = "storage_full"


class StorageDownError(StorageError):
    status = 503
    code = "storage_unavailable"


class PictureTooLargeError(StorageError):
    status = 413
    code = "picture_too_large"


class NotStoredError(StorageError):
    """A picture was made and waits for its storage; only its link cannot be given yet."""

    status = 503
    code = "image_not_stored"
    again = False


class GoneError(StorageError):
    """A picture was made, and has expired or was deleted since."""

    status = 410
    code = "picture_expired"
    again = False


class PluginError(GatewayError):
    """A plugin broke its contract; the message names the component and the field."""

    code = "plugin_contract"


def _seconds(value: object) -> float | None:
    """Take a time to wait as plugins give it, who may have read it from a header; what is none is not told."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) else None
    except ValueError:
        return None
    return seconds if seconds is not None and math.isfinite(seconds) else None
