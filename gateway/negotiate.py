"""A request × what a target can do → what will be sent, what is mended here, and what the receipt says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gateway import tuning
from gateway.capabilities import TUNABLE, Capabilities, Limit, Range
from gateway.errors import RequestError
from gateway.framing import frame
from gateway.receipt import Change
from gateway.settings import Fit
from gateway.values import ImageRequest, Size

UNSEEN = frozenset({"user"})
"""Parameters that change nothing in the picture: to lose one is told, but is no reason to prefer another target."""


@dataclass(frozen=True)
class Plan:
    """What one target will be asked, and what is done here to its pictures.

    *request* is what each call sends, *calls* how many pictures each makes. Every picture is brought to *size* by
    *fit* (None: left as it comes) and to *output_format* with *compression* (None: left). *applied*, *adjusted* and
    *dropped* are the receipt's; *notes* tell what is done here although nothing is lost by it.
    """

    request: ImageRequest
    calls: tuple[int, ...] = (1,)
    size: Size | None = None
    fit: Fit = "crop"
    output_format: str | None = None
    compression: int | None = None
    applied: Mapping[str, Any] = field(default_factory=dict)
    adjusted: tuple[Change, ...] = ()
    dropped: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    seeds: Range = Range()

    def requests(self) -> tuple[ImageRequest, ...]:
        """Give the request of each call: with its *n*, and a seed of its own, or all pictures would be the same."""
        if len(self.calls) == 1 and self.calls[0] == self.request.n:
            return (self.request,)
        made, requests = 0, []
        for count in self.calls:
            seed = self.request.seed
            seed = seed if seed is None or not made else tuning.fold(seed + made, self.seeds)
            requests.append(replace(self.request, n=count, seed=seed))
            made += count
        return tuple(requests)


def negotiate(request: ImageRequest, capabilities: Capabilities, upstream_model: str, fit: Fit) -> Plan:
    """Turn what was asked into what will be sent; raise `RequestError` if this target cannot do it at all."""
    _check_inputs(request, capabilities)
    framing = frame(request, capabilities, fit)
    tuned = tuning.tune(request, *_accepted(request, capabilities))
    calls = _calls(request.n, capabilities.count)
    prompt, cut = _cut(request.prompt, capabilities.prompt_limit)
    unknown = (Change(name, None, None, "not a parameter of this gateway") for name in request.unknown)
    sent = replace(
        request,
        model=upstream_model,
        prompt=prompt,
        n=calls[0],
        size=framing.sent,
        aspect_ratio=framing.ratio,
        unknown=(),
        **tuned.sent,
    )
    seeds = capabilities.accepts.get("seed")
    return Plan(
        request=sent,
        calls=calls,
        size=framing.size,
        fit=fit,
        output_format=tuned.output_format,
        compression=tuned.compression,
        applied={"n": request.n, **_inputs(request), **framing.applied, **tuned.applied},
        adjusted=(*framing.adjusted, *tuned.adjusted, *cut),
        dropped=(*framing.dropped, *tuned.dropped, *unknown),
        notes=tuned.notes,
        seeds=seeds if isinstance(seeds, Range) else Range(),
    )


def asked(request: ImageRequest) -> Mapping[str, Any]:
    """List what was asked, as plain JSON values; the prompt and the pictures themselves are left out."""
    tunable = {name: getattr(request, name) for name in TUNABLE if getattr(request, name) is not None}
    size = {"size": str(request.size)} if request.size and not request.any_size else {}
    ratio = {"aspect_ratio": request.aspect_ratio} if request.aspect_ratio else {}
    return {"n": request.n, **size, **ratio, **tunable, **_inputs(request), **dict.fromkeys(request.unknown)}


def strict_complaint(plan: Plan) -> str | None:
    """Say what a strict caller would not get as asked, or None; what is converted here without loss is as asked."""
    names = dict(plan.request.spelled)
    adjusted, dropped = _missed(plan, plan.adjusted), _missed(plan, plan.dropped)
    changes = [f"{names.get(c.name, c.name)} would be {_short(c.applied)} ({c.reason})" for c in adjusted]
    changes += [f"{names.get(c.name, c.name)} would be dropped ({c.reason})" for c in dropped]
    return "; ".join(changes) or None


def _missed(plan: Plan, changes: Iterable[Change]) -> list[Change]:
    """Leave out the size that nobody asked for; one that could not be read bears no value here, and was asked for."""
    unasked = ("size",) if plan.request.any_size else ()
    return [change for change in changes if change.name not in unasked or change.asked is None]


def score(plan: Plan) -> tuple[int, int]:
    """Rank a plan, the least first: what it drops weighs more than what it adjusts."""
    # What means nothing to the gateway is lost with every target alike; it bears no value.
    dropped = [c for c in plan.dropped if c.name not in UNSEEN and c.asked is not None]
    return len(dropped), len([c for c in plan.adjusted if c.name not in UNSEEN])


def _short(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _inputs(request: ImageRequest) -> dict[str, Any]:
    images: dict[str, Any] = {"images": len(request.images)} if request.images else {}
    return images | ({"mask": True} if request.mask else {})


def _check_inputs(request: ImageRequest, capabilities: Capabilities) -> None:
    given, model = len(request.images), request.model or "this model"
    if request.n < 1:
        raise RequestError("n must be at least 1", param="n")
    if given and not capabilities.inputs:
        raise RequestError(f"{model} takes no input images", param="image")
    if given > capabilities.inputs:
        raise RequestError(f"{model} takes at most {capabilities.inputs} input images, not {given}", param="image")
    if capabilities.needs_input and not given:
        raise RequestError(f"{model} changes pictures: it needs an input image", param="image")
    if request.mask and not capabilities.mask:
        raise RequestError(f"{model} takes no mask", param="mask")
    if request.mask and not given:
        raise RequestError("a mask needs an input image that it belongs to", param="mask")


def _accepted(request: ImageRequest, capabilities: Capabilities) -> tuple[Mapping[str, Limit], Mapping[str, str]]:
    """Give what this request may bear, and why not the rest of what the target takes."""
    if request.images:
        why = {name: f"the target takes no {name} with input pictures" for name in capabilities.not_in_edits}
    else:
        why = {"input_fidelity": "it means something with input pictures only"}
    if why.keys().isdisjoint(capabilities.accepts):
        return capabilities.accepts, why
    return {name: limit for name, limit in capabilities.accepts.items() if name not in why}, why


def _calls(n: int, count: int) -> tuple[int, ...]:
    whole, rest = divmod(n, max(count, 1))
    return (max(count, 1),) * whole + ((rest,) if rest else ())


def _cut(prompt: str, limit: int) -> tuple[str, tuple[Change, ...]]:
    """Cut a prompt at a word, or, where words are not parted by spaces, at the limit itself."""
    if not limit or len(prompt) <= limit:
        return prompt, ()
    kept = prompt[:limit]
    if not prompt[limit].isspace():
        words = kept.rsplit(None, 1)
        kept = words[0] if len(words) == 2 and len(words[0]) >= limit * 0.8 else kept
    kept = kept.rstrip()
    reason = f"the target takes {limit} characters of prompt; the last {len(prompt) - len(kept)} are not sent"
    return kept, (Change("prompt", f"{len(prompt)} characters", f"{len(kept)} characters", reason),)
