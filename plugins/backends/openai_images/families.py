"""What the models behind the dialects can do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway import Capabilities, Range, Size, SizeRule

from .dialects import Family


def _sizes(*texts: str) -> tuple[Size, ...]:
    return tuple(Size.parse(text) for text in texts)


SEED = Range(0, 2**32 - 1)
STEPS = Range(1, 100)
GUIDANCE = Range(0, 30)
QUALITIES = ("auto", "low", "medium", "high")

GPT_ACCEPTS: dict[str, Any] = {
    "quality": QUALITIES,
    "background": ("auto", "opaque", "transparent"),
    "output_format": ("png", "jpeg", "webp"),
    "output_compression": Range(0, 100),
    "moderation": ("auto", "low"),
    "input_fidelity": ("low", "high"),
    "partial_images": Range(0, 3),
    "user": True,
}

GPT_1 = Capabilities(
    sizes=_sizes("1024x1024", "1536x1024", "1024x1536"),
    count=10,
    accepts=GPT_ACCEPTS,
    inputs=16,
    mask=True,
    not_in_edits=frozenset({"moderation"}),
    prompt_limit=32_000,
    partials=True,
)
# These look closely in any case and refuse to be told so, as the smallest of the first does.
NO_FIDELITY = {name: allowed for name, allowed in GPT_ACCEPTS.items() if name != "input_fidelity"}
GPT_MINI = replace(GPT_1, accepts=NO_FIDELITY)
GPT_2 = replace(
    GPT_MINI,
    sizes=SizeRule(16, 3840, 16, least_pixels=655_360, most_pixels=8_294_400, ratio=3),
    native=Size(1024, 1024),
)
GPT_2_5 = replace(GPT_2, accepts={**NO_FIDELITY, "quality": (*QUALITIES, "xhigh", "max")})

GPT: tuple[Family, ...] = (
    ("gpt-image-2.5*", GPT_2_5),
    ("gpt-image-2*", GPT_2),
    ("gpt-image-1-mini*", GPT_MINI),
    ("gpt-image-*", GPT_1),
    ("chatgpt-image-*", GPT_1),
)

# A server that only resembles OpenAI's: any size, and nothing that it may not know.
LIKE_OPENAI = Capabilities(sizes=SizeRule(64, 4096, 8), count=4, accepts={"user": True}, inputs=1, mask=True)

OPENAI = (*GPT, ("*", LIKE_OPENAI))
AZURE = (*GPT, ("*", GPT_1))

# The sizes of the seed's Worker B, which are those of the former FLUX.1-schnell endpoint.
SIX = _sizes("1024x1024", "512x1024", "768x512", "768x1024", "1024x576", "576x1024")
SILICON_ACCEPTS: dict[str, Any] = {
    "seed": Range(0, 9_999_999_999),
    "steps": STEPS,
    "guidance": Range(0, 20),
    "negative_prompt": True,
}
SILICON_FLUX = Capabilities(sizes=SIX, accepts={**SILICON_ACCEPTS, "steps": Range(1, 30)})
SILICON_EDIT = Capabilities(sizes=(), accepts=SILICON_ACCEPTS, inputs=1, needs_input=True)
SILICONFLOW: tuple[Family, ...] = (
    (
        "Kwai-Kolors/Kolors",
        Capabilities(
            sizes=_sizes("1024x1024", "960x1280", "768x1024", "720x1440", "720x1280"), count=4, accepts=SILICON_ACCEPTS
        ),
    ),
    ("Qwen/Qwen-Image-Edit-2509", replace(SILICON_EDIT, inputs=3)),
    ("Qwen/Qwen-Image-Edit*", SILICON_EDIT),
    (
        "Qwen/Qwen-Image*",
        Capabilities(
            sizes=_sizes("1328x1328", "1664x928", "928x1664", "1472x1140", "1140x1472", "1584x1056", "1056x1584"),
            accepts=SILICON_ACCEPTS,
        ),
    ),
    # It takes no steps; a fixed number from the options is sent all the same, as Worker B did.
    (
        "*FLUX.1-schnell",
        Capabilities(sizes=SIX, accepts={name: limit for name, limit in SILICON_ACCEPTS.items() if name in ("seed",)}),
    ),
    ("*FLUX.1-dev", SILICON_FLUX),
    ("*", Capabilities(sizes=SIX, accepts=SILICON_ACCEPTS)),
)

TOGETHER_FLUX = Capabilities(
    sizes=SizeRule(64, 1792, 16),
    native=Size(1024, 1024),
    count=4,
    accepts={
        "seed": SEED,
        "steps": Range(1, 50),
        "guidance": GUIDANCE,
        "negative_prompt": True,
        "output_format": ("jpeg", "png"),
    },
)
TOGETHER: tuple[Family, ...] = (
    ("*schnell*", replace(TOGETHER_FLUX, accepts={**TOGETHER_FLUX.accepts, "steps": Range(1, 4)})),
    ("*kontext*", replace(TOGETHER_FLUX, inputs=1)),
    ("*", TOGETHER_FLUX),
)

FIREWORKS_ACCEPTS: dict[str, Any] = {"seed": SEED, "steps": STEPS, "guidance": GUIDANCE}
FIREWORKS_RATIOS = ("1:1", "21:9", "16:9", "3:2", "5:4", "4:5", "2:3", "9:16", "9:21", "4:3", "3:4")
FIREWORKS: tuple[Family, ...] = (
    ("*flux*", Capabilities(sizes=(), ratios=FIREWORKS_RATIOS, accepts=FIREWORKS_ACCEPTS)),
    ("*", Capabilities(sizes=SizeRule(512, 1536, 64), native=Size(1024, 1024), accepts=FIREWORKS_ACCEPTS)),
)

DEEPINFRA: tuple[Family, ...] = (
    ("*", Capabilities(sizes=SizeRule(128, 2048, 16), native=Size(1024, 1024), count=4, inputs=1)),
)

NEBIUS: tuple[Family, ...] = (
    (
        "*",
        Capabilities(
            sizes=SizeRule(64, 2048, 16),
            accepts={
                "seed": SEED,
                "steps": STEPS,
                "negative_prompt": True,
                "output_format": ("webp", "jpeg", "png"),
            },
        ),
    ),
)

XAI_RATIOS = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "2:1", "1:2", "19.5:9", "9:19.5", "20:9", "9:20")
XAI: tuple[Family, ...] = (("*", Capabilities(sizes=(), ratios=XAI_RATIOS, count=10, inputs=5)),)

LOCALAI: tuple[Family, ...] = (
    (
        "*",
        Capabilities(
            sizes=SizeRule(64, 4096, 8),
            native=Size(512, 512),
            count=10,
            accepts={"seed": SEED, "steps": STEPS, "negative_prompt": True},
            inputs=1,
        ),
    ),
)

SD_CPP: tuple[Family, ...] = (
    (
        "*",
        Capabilities(
            sizes=SizeRule(64, 4096, 64),
            count=8,
            accepts={
                "seed": SEED,
                "steps": STEPS,
                "guidance": GUIDANCE,
                "output_format": ("png", "jpeg", "webp"),
                "output_compression": Range(0, 100),
            },
            inputs=4,
            mask=True,
        ),
    ),
)

DIFFUSION_ACCEPTS: dict[str, Any] = {"seed": SEED, "steps": STEPS, "guidance": GUIDANCE, "negative_prompt": True}
VLLM_OMNI: tuple[Family, ...] = (
    ("*", Capabilities(sizes=SizeRule(64, 4096, 16), count=10, accepts=DIFFUSION_ACCEPTS, inputs=1)),
)
SGLANG: tuple[Family, ...] = (
    (
        "*",
        Capabilities(
            sizes=SizeRule(64, 4096, 16),
            count=10,
            accepts={
                **DIFFUSION_ACCEPTS,
                "output_format": ("png", "jpeg", "webp"),
                "background": ("auto", "opaque", "transparent"),
            },
            inputs=4,
        ),
    ),
)
