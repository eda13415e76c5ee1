"""The facts about each text-to-image model of Workers AI: what it takes, and how it wants it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal

from gateway import Capabilities, Range, Size, SizeRule

PROMPT = 2048
SIDE_BELOW = 511
"""flux-2 wants input images *below* 512x512."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model can do, whether its body is JSON or a form, what it calls steps, and how it takes pictures."""

    capabilities: Capabilities
    encoding: Literal["json", "form"] = "json"
    steps: str = "num_steps"
    inputs: Literal["none", "base64", "files"] = "none"


SEED = Range(0, None)

SCHNELL = Facts(
    Capabilities(sizes=(), native=Size(1024, 1024), accepts={"steps": Range(1, 8)}, prompt_limit=PROMPT),
    steps="steps",
)

FLUX_2_DEV = Facts(
    Capabilities(
        sizes=SizeRule(256, 1920, 16),
        native=Size(1024, 768),
        accepts={"steps": Range(1, None), "guidance": Range(0, None), "seed": SEED},
        inputs=4,
    ),
    encoding="form",
    steps="steps",
    inputs="files",
)

# Its steps are fixed at 4 and must not be sent.
FLUX_2_KLEIN = Facts(
    Capabilities(
        sizes=SizeRule(256, 1920, 16),
        native=Size(1024, 768),
        accepts={"guidance": Range(0, None), "seed": SEED},
        inputs=4,
    ),
    encoding="form",
    inputs="files",
)

LUCID = Facts(
    Capabilities(
        sizes=SizeRule(64, 2500, 4),
        native=Size(1120, 1120),
        accepts={"guidance": Range(0, 10), "seed": SEED, "steps": Range(1, 40)},
    )
)

PHOENIX = Facts(
    Capabilities(
        sizes=SizeRule(64, 2048, 8),
        native=Size(1024, 1024),
        accepts={"guidance": Range(2, 10), "seed": SEED, "steps": Range(1, 50), "negative_prompt": True},
    )
)


def _diffusion(*, needs_input: bool = False) -> Facts:
    """Give the schema that all Stable Diffusion models share."""
    return Facts(
        Capabilities(
            sizes=SizeRule(256, 2048, 8),
            accepts={"guidance": Range(0, None), "seed": SEED, "steps": Range(1, 20), "negative_prompt": True},
            inputs=1,
            needs_input=needs_input,
            mask=True,
        ),
        inputs="base64",
    )


# Unknown models get what most have in common; nothing of it is sent unless it was asked for.
UNKNOWN = Facts(
    Capabilities(
        sizes=SizeRule(256, 2048, 8),
        accepts={"guidance": Range(0, None), "seed": SEED, "steps": Range(1, None), "negative_prompt": True},
    )
)

MODELS: tuple[tuple[str, Facts], ...] = (
    ("@cf/black-forest-labs/flux-1-schnell", SCHNELL),
    ("@cf/black-forest-labs/flux-2-dev*", FLUX_2_DEV),
    ("@cf/black-forest-labs/flux-2-klein-*", FLUX_2_KLEIN),
    ("@cf/leonardo/lucid-origin", LUCID),
    ("@cf/leonardo/phoenix-1.0", PHOENIX),
    ("@cf/stabilityai/stable-diffusion-xl-base-1.0", _diffusion()),
    ("@cf/bytedance/stable-diffusion-xl-lightning", _diffusion()),
    ("@cf/lykon/dreamshaper-8-lcm", _diffusion()),
    ("@cf/runwayml/stable-diffusion-v1-5-img2img", _diffusion(needs_input=True)),
    ("@cf/runwayml/stable-diffusion-v1-5-inpainting", _diffusion(needs_input=True)),
)


@lru_cache(maxsize=1024)
def facts(model: str) -> Facts:
    """Find what is known of *model*."""
    return next((known for pattern, known in MODELS if fnmatchcase(model, pattern)), UNKNOWN)
