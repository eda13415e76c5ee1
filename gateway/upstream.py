"""What a backend plugin needs to talk HTTP well: session, key ring, time-outs, size limits, error classes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

import aiohttp

from gateway.calls import Answer, FormField, Outgoing
from gateway.contracts import Report
from gateway.errors import (
    AllowanceError,
    BadKeyError,
    BusyUpstreamError,
    GatewayError,
    NoAccessError,
    RateLimitedError,
)
from gateway.exchange import TELLING, Exchange, Http, Watch, read_limited
from gateway.keyring import Key, KeyRing
from gateway.options import Secret
from gateway.retrying import retry_after
from gateway.verdict import classify, classify_told, error_code, error_words, is_refusal

__all__ = [
    "Answer",
    "FormField",
    "Http",
    "Outgoing",
    "Upstream",
    "bearer",
    "classify",
    "classify_told",
    "error_code",
    "error_words",
    "is_refusal",
    "read_limited",
    "retry_after",
]

log = logging.getLogger(__name__)

RATE_REST = 5.0
ALLOWANCE_REST = 3600.0


def bearer(key: Secret) -> dict[str, str]:
    """Give the usual header."""
    return {"Authorization": f"Bearer {key}"}


def _bare(value: str) -> Secret:
    """Give a header's value without the scheme before it."""
    return Secret(value.strip().rpartition(" ")[2])


class Upstream:
    """One upstream API with its keys. *authorize* makes headers of a key, *classify* judges an answer.

    *private* are further headers that every call bears and nobody may see, as nobody may the *secrets*. With
    *one_account* all keys draw on the same allowance, so that when it is used up all of them rest. *cheap* calls may be
    made once more: there a failure on the upstream's side is the next key's turn, too.
    """

    def __init__(
        self,
        http: Http,
        keys: Sequence[Secret] = (),
        *,
        authorize: Callable[[Secret], Mapping[str, str]] = bearer,
        classify: Callable[[Answer], GatewayError | None] = classify,
        private: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        one_account: bool = False,
        cheap: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if any(not key.isprintable() or not key.isascii() for key in keys):
            raise ValueError("a key holds a line break or another character that cannot be sent")
        self.http = http
        self.keys = KeyRing(keys, clock)
        self._private = dict(private or {})
        # What goes out of a key may be another text than the key itself.
        told = (value for key in keys for value in authorize(key).values())
        # What is shorter than that is a part of other words, too.
        others = (*map(_bare, (*self._private.values(), *told)), *map(Secret, secrets))
        self._secrets = tuple(dict.fromkeys([*keys, *(text for text in others if len(text) >= TELLING)]))
        self._authorize = authorize
        self._classify = classify
        self._one_account = one_account
        self._cheap = cheap
        self._exchange: Exchange | None = None

    async def open(self) -> None:
        """Make the session; no connection is made before the first call."""
        if self._exchange is None:
            self._exchange = Exchange(self.http, self._secrets)

    async def close(self) -> None:
        """Close all connections."""
        if self._exchange is not None:
            await self._exchange.close()
            self._exchange = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """A session for what `send` cannot do (websockets); it bears no credentials and follows no redirect."""
        if self._exchange is None:
            raise RuntimeError("the upstream is not open")
        return self._exchange.sockets

    def health(self) -> dict[str, int]:
        """Count the keys: all, usable, refused, resting."""
        return self.keys.health()

    async def send(
        self,
        outgoing: Outgoing,
        report: Report | None = None,
        *,
        pictures: int = 1,
        watch: Watch | None = None,
        after: Answer | None = None,
    ) -> Answer:
        """Send *outgoing* with the next key and give the answer; try another key only if this one is not usable.

        *report* makes it a paid call. *pictures* multiplies the limit of bytes. *watch* sees each piece of a
        successful answer as it arrives. *after* makes it a follow-up (asking for a job, cancelling it): it goes out
        with the key of that answer and no other, since other accounts do not know the job. Every failure is a
        `GatewayError` that says what is known of sent and billed.
        """
        if after is not None or not len(self.keys):
            same = None if after is None else after.key
            return self._judge(await self._call(outgoing, same, report, pictures, watch))
        tried: list[Key] = []
        barred: list[Key] = []
        last: GatewayError | None = None
        while (key := self.keys.pick(tried)) is not None:
            tried.append(key)
            answer = await self._call(outgoing, key.secret, report, pictures, watch)
            try:
                return self._judge(answer)
            except BadKeyError as error:
                self.keys.drop(key)
                # In no words of its own: it may repeat the prompt.
                log.warning("an upstream refused a key (%d)", answer.status)
                last = last or error
            except (RateLimitedError, AllowanceError) as error:
                self._rest(key, error)
                last = error
            except NoAccessError as error:
                barred.append(key)
                last = error
            except BusyUpstreamError as error:
                if not self._cheap:
                    raise
                last = error
        raise self._exhausted(last, barred)

    async def _call(
        self, outgoing: Outgoing, key: Secret | None, report: Report | None, pictures: int, watch: Watch | None
    ) -> Answer:
        if self._exchange is None:
            self._exchange = Exchange(self.http, self._secrets)
        private = self._private if key is None else {**self._private, **self._authorize(key)}
        return await self._exchange.call(outgoing, private, report, pictures, watch, key)

    def _judge(self, answer: Answer) -> Answer:
        error = self._classify(answer)
        if error is None:
            return answer
        for secret in self._secrets:
            error.message = error.message.replace(secret, "…")
        error.args = (error.message,)
        raise error

    def _rest(self, key: Key, error: RateLimitedError | AllowanceError) -> None:
        if isinstance(error, AllowanceError):
            seconds = error.retry_after or ALLOWANCE_REST
            if self._one_account:
                self.keys.rest_all(seconds, AllowanceError)
            else:
                self.keys.rest(key, seconds, AllowanceError)
        else:
            self.keys.rest(key, error.retry_after or RATE_REST, RateLimitedError)

    def _exhausted(self, last: GatewayError | None, barred: Sequence[Key]) -> GatewayError:
        """Give the error for a call that no key could make: the *last* one met, or one that says when to come back."""
        back = self.keys.next_back(barred)
        if back is None:
            return last or BadKeyError("every key was refused; give it new ones and start again", sent=False)
        seconds, why = back
        if last is None or isinstance(last, BadKeyError | NoAccessError):
            last = why(f"every usable key rests; the first is back in {seconds:.0f} s", sent=last is not None)
        last.retry_after = max(1.0, seconds)
        return last
