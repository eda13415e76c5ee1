"""Draws with the text-to-image models of Cloudflare Workers AI."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from gateway import (
    Answer,
    BrokenAnswerError,
    Capabilities,
    FormField,
    Http,
    Image,
    ImageRequest,
    Keys,
    NotAnImageError,
    Outgoing,
    Report,
    Secret,
    Upstream,
    Url,
    as_base64,
    decode,
    hookimpl,
    is_picture,
    model_path,
    repaint_mask,
    shrunk,
    unpack,
    value_at,
)

from .errors import judge, judge_envelope
from .models import SIDE_BELOW, Facts, facts

PLACES = (("result", "image"), ("result", "images", 0), ("result", "image", "url"), ("result",), ("image",))
"""Where models that the table does not know may put their picture or its URL."""


@dataclass
class Cloudflare:
    """Workers AI of one account.

    *gateway* is the name of an AI Gateway of the account, or its whole URL; *gateway_token* if it asks for one.
    *strength* is how far a picture made from another may stray from it, 0 to 1.
    """

    account_id: Annotated[str, Field(min_length=1)]
    keys: Keys = ()
    base_url: Url = "https://api.cloudflare.com/client/v4"
    gateway: str = ""
    gateway_token: Secret | None = None
    strength: Annotated[float, Field(ge=0, le=1)] = 0.75
    http: Http = field(default_factory=Http)
    _upstream: Upstream = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.keys and not self.gateway_token:
            raise ValueError("keys must hold at least one API token")
        private = {"cf-aig-authorization": f"Bearer {self.gateway_token}"} if self.gateway_token else {}
        # The allowance belongs to the account, and all keys call the same one.
        self._upstream = Upstream(self.http, self.keys, classify=judge, private=private, one_account=True)

    async def __aenter__(self) -> Cloudflare:
        await self._upstream.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._upstream.close()

    def health(self) -> dict[str, int]:
        """Count the keys by their state."""
        return self._upstream.health()

    def capabilities(self, model: str) -> Capabilities:
        """Say what the table knows of *model*."""
        return facts(model).capabilities

    def outgoing(self, request: ImageRequest) -> Outgoing:
        """Give the call that `generate` makes."""
        known = facts(request.model)
        url = f"{self._address()}/{model_path(request.model)}"
        fields = _fields(request, known)
        if known.encoding == "form":
            return Outgoing("POST", url, form=(*_parts(fields), *_files(request)))
        if request.images and known.inputs == "base64":
            fields |= {"image_b64": as_base64(request.images[0]), "strength": self.strength}
            if request.mask:
                fields["mask"] = list(repaint_mask(request.mask))
        return Outgoing("POST", url, json=fields)

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        """Make one picture."""
        slow = bool(request.images)
        outgoing = await asyncio.to_thread(self.outgoing, request) if slow else self.outgoing(request)
        return [await _picture(await self._upstream.send(outgoing, report))]

    def _address(self) -> str:
        if not self.gateway:
            return f"{self.base_url.rstrip('/')}/accounts/{self.account_id}/ai/run"
        whole = f"https://gateway.ai.cloudflare.com/v1/{self.account_id}/{self.gateway}"
        address = (self.gateway if "://" in self.gateway else whole).rstrip("/")
        return address if address.endswith("/workers-ai") else f"{address}/workers-ai"


def _fields(request: ImageRequest, known: Facts) -> dict[str, Any]:
    fields: dict[str, Any] = {"prompt": request.prompt}
    if request.size and known.capabilities.sizes:
        fields |= {"width": request.size.width, "height": request.size.height}
    names = {"steps": known.steps, "guidance": "guidance", "seed": "seed", "negative_prompt": "negative_prompt"}
    for name, theirs in names.items():
        value = getattr(request, name)
        if value is not None and name in known.capabilities.accepts:
            fields[theirs] = value
    return fields


def _parts(fields: Mapping[str, Any]) -> tuple[FormField, ...]:
    return tuple(FormField(name, str(value)) for name, value in fields.items())


def _files(request: ImageRequest) -> tuple[FormField, ...]:
    files = []
    for number, image in enumerate(request.images):
        small = shrunk(image, SIDE_BELOW)
        media_type = (image.media_type or "image/png") if small is image.data else "image/png"
        files.append(FormField(f"input_image_{number}", small, f"input_{number}", media_type))
    return tuple(files)


async def _picture(answer: Answer) -> Image:
    """Read the picture out of JSON or raw bytes, whatever the answer was declared as."""
    if is_picture(answer.body[:64]):
        return Image(data=answer.body)
    if answer.body[:64].lstrip()[:1] != b"{":
        raise NotAnImageError(f"Workers AI answered {answer.kind()} instead of a picture")
    envelope, picture = await unpack(answer.body, ("result", "image"))
    if isinstance(envelope, dict) and envelope.get("success") is False:
        raise judge_envelope(envelope, answer)
    if picture is not None:
        return Image(data=picture)
    found = next((value for place in PLACES if isinstance(value := value_at(envelope, place), str)), "")
    if found.startswith(("http://", "https://")):
        return Image(url=found)
    if not found:
        raise BrokenAnswerError("Workers AI answered JSON without a picture (no result.image)")
    return Image(data=await decode(found))


@hookimpl
def provide_backends() -> dict[str, type[Cloudflare]]:
    return {"cloudflare": Cloudflare}
