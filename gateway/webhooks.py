"""Tells a caller's server that a job has ended: signed, repeated with growing pauses, through the address guard."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import pybase64
from aiohttp import web

from gateway.errors import BlockedAddressError, GatewayError, RequestError, UpstreamError
from gateway.guard import check_url
from gateway.job import Job
from gateway.runtime import Runtime
from gateway.settings import Fetch

log = logging.getLogger(__name__)

PAUSES = (0.0, 2.0, 10.0, 60.0, 300.0)
"""Seconds before each try; any answer below 300 ends them, and so does 410."""
PREFIX = "whsec_"
"""What begins a key written as the Standard Webhooks have it: the rest is base64."""
LONGEST_URL = 2000

Describe = Callable[[Job], dict[str, Any]]


def read_webhook(body: Mapping[str, Any], settings: Fetch) -> str | None:
    """Read the ``webhook`` field: a URL that the address guard lets through now, and is asked for again at the end."""
    url = body.get("webhook")
    if url is None:
        return None
    if not isinstance(url, str) or not url.startswith(("http://", "https://")) or len(url) > LONGEST_URL:
        raise RequestError("webhook must be an http or https URL", param="webhook")
    try:
        check_url(url, settings)
    except BlockedAddressError as error:
        raise RequestError(f"webhook: {error.message}", param="webhook", code=error.code) from None
    return url


class Webhooks:
    """Sends one message per job; messages still unsent at shutdown are given a last moment."""

    def __init__(self, runtime: Runtime, pauses: Sequence[float] = PAUSES) -> None:
        self.pauses = pauses
        self._runtime = runtime
        self._wanted: dict[str, tuple[str, Describe]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        self._runtime.jobs.on_end.append(self._ended)

    async def close(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def on_end(self, job: Job, url: str, describe: Describe) -> None:
        """Send what *describe* gives to *url* when *job* ends, or now if it has; a repeated call changes nothing."""
        if job.webhook:
            return
        job.webhook = url
        self._wanted[job.id] = (url, describe)
        if job.done:
            self._ended(job)

    def _ended(self, job: Job) -> None:
        wanted = self._wanted.pop(job.id, None)
        if wanted:
            url, describe = wanted
            task = asyncio.get_running_loop().create_task(self._send(job.id, url, orjson.dumps(describe(job))))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, identity: str, url: str, body: bytes) -> None:
        for pause in self.pauses:
            await asyncio.sleep(pause)
            try:
                status = await self._runtime.fetcher.post(url, body, self._headers(identity, body))
            except UpstreamError as error:
                log.info("the webhook of %s failed: %s", identity, error.message)
            except GatewayError as error:
                log.warning("the webhook of %s is refused: %s", identity, error.message)
                return
            else:
                if status < 300:
                    return
                if status == 410:
                    log.info("the webhook of %s is gone for good", identity)
                    return
                log.info("the webhook of %s answered %d", identity, status)
        log.warning("the webhook of %s was given up", identity)

    def _headers(self, identity: str, body: bytes) -> dict[str, str]:
        """Sign ``{id}.{timestamp}.{body}`` with each configured key, as the Standard Webhooks scheme has it."""
        stamp = str(int(time.time()))
        headers = {"Content-Type": "application/json", "webhook-id": identity, "webhook-timestamp": stamp}
        content = f"{identity}.{stamp}.".encode() + body
        signatures = [
            "v1," + pybase64.b64encode(hmac.digest(_secret(key), content, "sha256")).decode()
            for key in self._runtime.settings.jobs.webhook_keys
        ]
        return {**headers, **({"webhook-signature": " ".join(signatures)} if signatures else {})}


def _secret(key: str) -> bytes:
    """Give a key's bytes; only one that begins with ``whsec_`` is base64."""
    if key.startswith(PREFIX):
        return pybase64.b64decode(key.removeprefix(PREFIX))
    return key.encode()


WEBHOOKS = web.AppKey("webhooks", Webhooks)
