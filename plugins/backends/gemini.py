"""Draws with Google's Gemini image models by ``generateContent``, and with Imagen by ``predict`` where that runs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway import (
    AllowanceError,
    Answer,
    BadKeyError,
    BrokenAnswerError,
    Capabilities,
    GatewayError,
    Http,
    Image,
    ImageRequest,
    Keys,
    MisconfiguredError,
    Outgoing,
    RateLimitedError,
    RefusedError,
    Report,
    Upstream,
    Url,
    Usage,
    as_base64,
    bearer,
    classify,
    count_tokens,
    decode,
    error_words,
    hookimpl,
    model_path,
    one_line,
    whole_images,
)

RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
MODELS: Mapping[str, Capabilities] = {
    "gemini-3.1-flash-image": Capabilities(ratios=RATIOS, inputs=10),
    "gemini-3-pro-image": Capabilities(ratios=RATIOS, inputs=10),
}
UNKNOWN = Capabilities(ratios=RATIOS, inputs=3)
IMAGEN = Capabilities(ratios=("1:1", "3:4", "4:3", "9:16", "16:9"), count=4)

REFUSALS = frozenset(
    {
        "SAFETY",
        "IMAGE_SAFETY",
        "PROHIBITED_CONTENT",
        "IMAGE_PROHIBITED_CONTENT",
        "RECITATION",
        "IMAGE_RECITATION",
        "BLOCKLIST",
        "SPII",
    }
)
DELAY = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s")
DETAILS = 20


@dataclass
class Gemini:
    """Google's API; the upstream's model is ``gemini-3.1-flash-image`` or the like.

    For Vertex give *base_url* up to ``…/publishers/google`` and *auth* ``bearer``. *image_size* is how large pictures
    are drawn; *safety* is sent as ``safetySettings``.
    """

    keys: Keys
    base_url: Url = "https://generativelanguage.googleapis.com/v1beta"
    auth: Literal["key", "bearer"] = "key"
    http: Http = field(default_factory=Http)
    image_size: Literal["1K", "2K", "4K"] | None = None
    safety: tuple[Mapping[str, str], ...] = ()
    _upstream: Upstream = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.base_url = self.base_url.rstrip("/")
        authorize = bearer if self.auth == "bearer" else _goog
        self._upstream = Upstream(self.http, self.keys, authorize=authorize, classify=_classify)

    async def __aenter__(self) -> Gemini:
        await self._upstream.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._upstream.close()

    def health(self) -> Mapping[str, Any]:
        """Count the keys."""
        return self._upstream.health()

    def capabilities(self, model: str) -> Capabilities:
        """Look *model* up; one picture a call, an aspect ratio instead of a size."""
        return IMAGEN if _is_imagen(model) else MODELS.get(model, UNKNOWN)

    def outgoing(self, request: ImageRequest) -> Outgoing:
        """Give the call; raise `MisconfiguredError` for Imagen at Google, where it was shut down."""
        place = f"{self.base_url}/models/{model_path(request.model)}"
        if _is_imagen(request.model):
            if "generativelanguage.googleapis.com" in self.base_url:
                words = "Imagen was shut down on 17 August 2026; use gemini-3.1-flash-image instead"
                raise MisconfiguredError(words, sent=False)
            ratio = {"aspectRatio": request.aspect_ratio} if request.aspect_ratio else {}
            body = {"instances": [{"prompt": request.prompt}], "parameters": {"sampleCount": request.n, **ratio}}
            return Outgoing("POST", f"{place}:predict", json=body)
        return Outgoing("POST", f"{place}:generateContent", json=self._content(request))

    def _content(self, request: ImageRequest) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [{"text": request.prompt}]
        for image in request.images:
            mime = image.media_type or "image/png"
            parts.append({"inlineData": {"mimeType": mime, "data": as_base64(image)}})
        drawing = {"aspectRatio": request.aspect_ratio, "imageSize": self.image_size}
        wanted = {name: value for name, value in drawing.items() if value}
        generation: dict[str, Any] = {"responseModalities": ["IMAGE"], **({"imageConfig": wanted} if wanted else {})}
        body: dict[str, Any] = {"contents": [{"role": "user", "parts": parts}], "generationConfig": generation}
        return {**body, "safetySettings": [dict(each) for each in self.safety]} if self.safety else body

    async def generate(self, request: ImageRequest, report: Report) -> list[Image]:
        """Make the pictures; an answer without one is told with the API's reason and not asked for again."""
        outgoing = await asyncio.to_thread(self.outgoing, request) if request.images else self.outgoing(request)
        # Drafts come along, and a picture of 4K is several times as large as others.
        answer = await self._upstream.send(outgoing, report, pictures=4 * request.n)
        body = answer.json()
        if not isinstance(body, dict):
            raise BrokenAnswerError("answered JSON of another form than promised")
        if usage := _usage(body.get("usageMetadata")):
            report.used(usage)
        if _is_imagen(request.model):
            images, _ = await whole_images(map(_image, _predictions(body)), request.n)
        else:
            images, _ = await whole_images(map(_image, _drawn(body)), 1)
        return images


async def _image(text: str) -> Image:
    return Image(await decode(text))


def _is_imagen(model: str) -> bool:
    return model.startswith("imagen")


def _goog(key: str) -> Mapping[str, str]:
    return {"x-goog-api-key": key}


def _drawn(body: Mapping[str, Any]) -> list[str]:
    """Find the picture's base64: the last first, since parts with ``thought`` and earlier ones hold drafts."""
    feedback = body.get("promptFeedback")
    if isinstance(feedback, dict) and feedback.get("blockReason"):
        raise RefusedError(f"refused the prompt ({one_line(str(feedback['blockReason']), limit=60)})")
    candidate = _first(body.get("candidates"))
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    final = [part for part in parts or [] if isinstance(part, dict) and not part.get("thought")] if _list(parts) else []
    pictures = [data for part in final if isinstance(data := _inline(part), str)]
    if pictures:
        return pictures[::-1]
    reason = one_line(str(candidate.get("finishReason") or ""), limit=60)
    words = one_line(" ".join(part["text"] for part in final if isinstance(part.get("text"), str)), limit=200)
    message = candidate.get("finishMessage")
    if reason in REFUSALS:
        said = one_line(message, limit=200) if isinstance(message, str) else reason
        raise RefusedError(f"refused the content ({reason}{'' if said == reason else ': ' + said})")
    if reason in ("STOP", "") and words:
        raise RefusedError(f"answered in words instead of a picture: {words}")
    raise BrokenAnswerError(f"drew nothing ({reason or 'no reason told'})")


def _usage(told: object) -> Usage | None:
    """Read ``usageMetadata``; thoughts are part of what came out."""
    if not isinstance(told, dict):
        return None
    given, drawn, thought = (
        count_tokens(told.get(f"{name}TokenCount")) for name in ("prompt", "candidates", "thoughts")
    )
    total = max(count_tokens(told.get("totalTokenCount")), given + drawn + thought)
    inner, outer = _kinds(told.get("promptTokensDetails")), _kinds(told.get("candidatesTokensDetails"))
    return Usage(given, drawn + thought, total, inner, outer) if total else None


def _kinds(rows: object) -> dict[str, int]:
    """Read tokens by ``modality``, in OpenAI's words."""
    kinds: dict[str, int] = {}
    for row in rows[:DETAILS] if isinstance(rows, list) else ():
        kind = row.get("modality") if isinstance(row, dict) else None
        if isinstance(kind, str) and (tokens := count_tokens(row.get("tokenCount"))):
            name = f"{kind[:20].lower()}_tokens"
            kinds[name] = kinds.get(name, 0) + tokens
    return kinds


def _inline(part: Mapping[str, Any]) -> object:
    inline = part.get("inlineData") or part.get("inline_data")
    return inline.get("data") if isinstance(inline, dict) else None


def _list(value: object) -> bool:
    return isinstance(value, list)


def _first(value: object) -> Mapping[str, Any]:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return value[0]
    raise BrokenAnswerError("answered without a candidate")


def _predictions(body: Mapping[str, Any]) -> list[str]:
    predictions = body.get("predictions")
    rows = [row for row in predictions if isinstance(row, dict)] if isinstance(predictions, list) else []
    found = [row["bytesBase64Encoded"] for row in rows if isinstance(row.get("bytesBase64Encoded"), str)]
    reasons = [row["raiFilteredReason"] for row in rows if isinstance(row.get("raiFilteredReason"), str)]
    if found:
        return found
    if reasons:
        raise RefusedError(f"refused the content ({one_line(reasons[0], limit=200)})")
    raise BrokenAnswerError("answered without a picture")


def _classify(answer: Answer) -> GatewayError | None:
    """See what only the details tell: a bad key comes as 400, a used-up day as 429."""
    error = classify(answer)
    if error is None or answer.status not in (400, 429):
        return error
    details = _details(answer)
    if answer.status == 400:
        invalid = any("API_KEY_INVALID" in str(each.get("reason")) for each in details)
        return BadKeyError(f"refused the key (HTTP 400: {error_words(answer)})") if invalid else error
    rows = [row for each in details if _list(each.get("violations")) for row in each["violations"][:DETAILS]]
    daily = any("perday" in str(row.get("quotaId", "")).lower() for row in rows if isinstance(row, dict))
    delays = [DELAY.fullmatch(str(each.get("retryDelay") or "")) for each in details]
    seconds = next((float(found[1]) for found in delays if found), error.retry_after)
    if daily:
        # The delay told beside a daily quota is that of the minute's; the day is not over by then.
        return AllowanceError(f"has no allowance left for today (HTTP 429: {error_words(answer)})")
    return RateLimitedError(error.message, retry_after=seconds)


def _details(answer: Answer) -> list[Mapping[str, Any]]:
    try:
        body = answer.json()
    except BrokenAnswerError:
        return []
    body = body[0] if isinstance(body, list) and body else body
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    return [each for each in details[:DETAILS] if isinstance(each, dict)] if isinstance(details, list) else []


@hookimpl
def provide_backends() -> Mapping[str, type[Gemini]]:
    """Offer ``gemini``."""
    return {"gemini": Gemini}
