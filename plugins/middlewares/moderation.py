"""Has prompts judged by a moderation service before they are drawn."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway import (
    BrokenAnswerError,
    GatewayError,
    Http,
    Keys,
    Outgoing,
    Proceed,
    RefusedError,
    Stage,
    UnavailableError,
    Upstream,
    Url,
    Work,
    hookimpl,
)

log = logging.getLogger(__name__)


@dataclass
class Moderation:
    """Asks an OpenAI-compatible moderation endpoint about the caller's words and about what an optimizer made of them.

    *base_url* includes ``/v1``. *categories* are the ones that refuse, all that the service flags if left empty. When
    the service cannot be asked, *on_failure* ``closed`` refuses the job for now (503), ``open`` lets it pass with a
    note in the receipt.
    """

    base_url: Url
    keys: Keys = ()
    model: str = "omni-moderation-latest"
    categories: tuple[str, ...] = ()
    on_failure: Literal["open", "closed"] = "closed"
    http: Http = field(default_factory=lambda: Http(connect=5, first_byte=10, total=10, limit=2**20))
    stages: tuple[Stage, ...] = field(init=False, default=("optimize",))
    _upstream: Upstream = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError("base_url must begin with http:// or https:// and is usually https://…/v1")
        self._upstream = Upstream(self.http, self.keys)

    async def __aenter__(self) -> Moderation:
        await self._upstream.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._upstream.close()

    async def around(self, stage: Stage, work: Work, proceed: Proceed) -> Work:
        """Judge the prompt, let it be optimized, and judge what came of it."""
        work = await self._judged(work)
        done = await proceed(work)
        return done if done.request.prompt == work.request.prompt else await self._judged(done)

    async def _judged(self, work: Work) -> Work:
        text = "\n".join(filter(None, (work.request.prompt, work.request.negative_prompt)))
        try:
            flagged = await self._flagged(text)
        except GatewayError as error:
            if self.on_failure == "closed":
                message = f"the prompt could not be checked ({error.message}), so nothing was drawn"
                raise UnavailableError(message, code="moderation_unavailable", retry_after=5) from error
            log.warning("job %s: the prompt was not moderated: %s", work.job, error.code)
            return work.noted(f"the prompt was not moderated: {error.message}")
        if flagged:
            raise RefusedError(f"the prompt was refused by the content policy ({', '.join(flagged)})", param="prompt")
        return work

    async def _flagged(self, text: str) -> list[str]:
        """Name the categories that were flagged and count here."""
        outgoing = Outgoing(
            "POST", f"{self.base_url.rstrip('/')}/moderations", json={"model": self.model, "input": text}
        )
        body = (await self._upstream.send(outgoing)).json()
        results = body.get("results") if isinstance(body, Mapping) else None
        if not isinstance(results, list) or not results or not all(isinstance(result, Mapping) for result in results):
            raise BrokenAnswerError("the moderation service answered without results")
        return sorted({name for result in results for name in self._names(result)})

    def _names(self, result: Mapping[str, Any]) -> list[str]:
        categories = result.get("categories")
        named = (
            [str(name) for name, flag in categories.items() if flag is True] if isinstance(categories, Mapping) else []
        )
        if self.categories:
            flags = (
                [flag for flag in categories.values() if flag is not None] if isinstance(categories, Mapping) else []
            )
            told = bool(flags) and all(isinstance(flag, bool) for flag in flags)
            if not told and result.get("flagged") is not False:
                raise BrokenAnswerError("the moderation service did not say which categories it flagged")
            return [name for name in named if name in self.categories]
        if not isinstance(result.get("flagged"), bool):
            raise BrokenAnswerError("the moderation service did not say whether it flagged the prompt")
        return (named or ["flagged"]) if result["flagged"] else []


@hookimpl
def provide_middlewares() -> dict[str, type]:
    """Offer `moderation`."""
    return {"moderation": Moderation}
