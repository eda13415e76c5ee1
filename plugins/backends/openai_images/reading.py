"""Reads pictures out of an answer: base64, URLs or raw bytes, wherever the dialect says that they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway import (
    Answer,
    BrokenAnswerError,
    GatewayError,
    Image,
    NotAnImageError,
    RefusedError,
    Report,
    error_code,
    error_words,
    image_of,
    is_picture,
    is_refusal,
    read_usage,
    unpack,
    whole_images,
)

BLOCKED = (("respect_moderation", False), ("is_image_safe", False))
"""Marks of an item that is not the picture although one may come with it."""


async def pictures_in(answer: Answer, places: tuple[str, ...], report: Report) -> list[Image]:
    """Give all pictures of a successful *answer*, and tell *report* the tokens used; raise if there is none."""
    if answer.headers.get("finish-reason", "").upper() == "CONTENT_FILTERED":
        raise RefusedError("refused the content (the picture was filtered)")
    if is_picture(answer.body[:64]):
        return [Image(data=answer.body)]
    if answer.body[:64].lstrip()[:1] not in (b"{", b"["):
        raise NotAnImageError(f"answered {answer.kind()} instead of a picture")
    first = steps_of(places[0].replace("*", "0"))
    try:
        parsed, picture = await unpack(answer.body, first)
    except BrokenAnswerError:
        # The first is broken, and others may be whole; what is no JSON is told so here.
        parsed, picture = answer.json(), None
    tell_usage(parsed, report)
    if picture is not None and len(list(_values(parsed, steps_of(places[0])))) == 1:
        owner = _owner(parsed, first)
        return [_described(Image(data=picture), owner, parsed)] if not _blocked(owner) else _none(answer, blocked=True)
    return await _all(parsed, places, answer, report)


async def _all(parsed: Any, places: tuple[str, ...], answer: Answer, report: Report) -> list[Image]:
    """Give what is whole of the first place that holds pictures; one that is broken does not spoil the others."""
    blocked = False
    complaint: BrokenAnswerError | None = None
    for place in places:
        values = list(_values(parsed, steps_of(place)))
        blocked = blocked or any(_blocked(owner) for _, owner in values)
        free = [(value, owner) for value, owner in values if isinstance(value, str) and value and not _blocked(owner)]
        try:
            images, broken = await whole_images(_image(value, owner, parsed) for value, owner in free)
        except BrokenAnswerError as error:
            complaint = complaint or error
            continue
        if images:
            for each in broken if place == places[0] else ():
                report.noted(f"a picture is missing: {each.message}")
            return images
    if complaint:
        raise complaint
    return _none(answer, blocked)


async def _image(value: str, owner: Any, parsed: Any) -> Image:
    return _described(await image_of(value), owner, parsed)


def tell_usage(parsed: Any, report: Report) -> None:
    """Tell the tokens that an answer or an event says it used, if it does."""
    if isinstance(parsed, Mapping) and (usage := read_usage(parsed.get("usage"))):
        report.used(usage)


def _none(answer: Answer, blocked: bool) -> list[Image]:
    """Raise, since there is no picture, with what the upstream said."""
    words = "" if blocked else error_words(answer)
    said = f" ({words})" if words else ""
    error: GatewayError = BrokenAnswerError(f"answered without a picture{said}")
    if blocked or is_refusal(f"{words} {error_code(answer)}"):
        error = RefusedError(f"refused the content{said}")
    raise error


def steps_of(place: str) -> tuple[str | int, ...]:
    """Read ``data.*.url`` as steps; numbers are places in lists."""
    return tuple(int(step) if step.isdigit() else step for step in place.split("."))


def _values(parsed: Any, steps: tuple[str | int, ...], owner: Any = None) -> Iterator[tuple[Any, Any]]:
    """Yield each value at *steps* with the object that it belongs to."""
    if not steps:
        yield parsed, owner
        return
    step, rest = steps[0], steps[1:]
    if isinstance(parsed, Mapping) and step in parsed:
        yield from _values(parsed[step], rest, parsed)
    elif isinstance(parsed, list):
        chosen = parsed if step == "*" else parsed[step : step + 1] if isinstance(step, int) else ()
        for item in chosen:
            yield from _values(item, rest, owner)


def _owner(parsed: Any, steps: tuple[str | int, ...]) -> Any:
    return next((owner for _, owner in _values(parsed, steps)), None)


def _blocked(owner: Any) -> bool:
    return isinstance(owner, Mapping) and any(owner.get(name) is value for name, value in BLOCKED)


def _described(image: Image, owner: Any, parsed: Any) -> Image:
    """Add what the upstream tells of the picture: the prompt it drew, and the seed."""
    told = owner if isinstance(owner, Mapping) else {}
    revised = told.get("revised_prompt")
    seed = told.get("seed", parsed.get("seed") if isinstance(parsed, Mapping) else None)
    return Image(
        data=image.data,
        url=image.url,
        revised_prompt=revised if isinstance(revised, str) else None,
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
    )
