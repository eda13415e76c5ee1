"""The dialects that come with the gateway."""

from __future__ import annotations

from dataclasses import replace

from gateway import AllowanceError

from . import families
from .dialects import B64, URL, Dialect, Inputs

SAMPLING = {
    "n": "n",
    "seed": "seed",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "negative_prompt": "negative_prompt",
}
ONLY_B64 = {"response_format": "b64_json"}
FORM = Inputs("/images/edits")
ONE_BY_ONE = Inputs("/images/edits", many="image")

# GPT image models answer 400 to response_format, and always send base64.
OPENAI = Dialect(
    families=families.OPENAI,
    base_url="https://api.openai.com/v1",
    names={
        "n": "n",
        "quality": "quality",
        "background": "background",
        "output_format": "output_format",
        "output_compression": "output_compression",
        "moderation": "moderation",
        "input_fidelity": "input_fidelity",
        "partial_images": "partial_images",
        "user": "safety_identifier",
    },
    hashed=("user",),
    inputs=FORM,
    streams=True,
    aliases={"dall-e-2": "gpt-image-1-mini", "dall-e-3": "gpt-image-1.5", "gpt-image-1": "gpt-image-1.5"},
)

AZURE = replace(
    OPENAI,
    families=families.AZURE,
    base_url="",
    path="/openai/v1/images/generations?api-version={version}",
    inputs=Inputs("/openai/v1/images/edits?api-version={version}"),
    version="preview",
    aliases={},
    header="api-key",
    scheme="",
)

DIALECTS: dict[str, Dialect] = {
    "openai": OPENAI,
    "azure": AZURE,
    "azure-deployments": replace(
        AZURE,
        path="/openai/deployments/{model}/images/generations?api-version={version}",
        inputs=Inputs("/openai/deployments/{model}/images/edits?api-version={version}"),
        version="2025-04-01-preview",
        model_field="",
    ),
    "siliconflow": Dialect(
        families=families.SILICONFLOW,
        base_url="https://api.siliconflow.cn/v1",
        size_field="image_size",
        names={**SAMPLING, "n": "batch_size"},
        inputs=Inputs("/images/generations", "numbered"),
        answers=("images.*.url", URL, B64),
        errors=((r"^403\b.*(?:\b30001\b|balance|real[- ]name|实名)", AllowanceError),),
    ),
    "together": Dialect(
        families=families.TOGETHER,
        base_url="https://api.together.xyz/v1",
        size="sides",
        names={**SAMPLING, "steps": "steps", "output_format": "output_format"},
        fixed={"response_format": "base64"},
        inputs=Inputs("/images/generations", "url", one="image_url"),
    ),
    "fireworks": Dialect(
        families=families.FIREWORKS,
        base_url="https://api.fireworks.ai/inference/v1",
        path="/image_generation/{model}",
        paths=(("*flux*", "/workflows/{model}/text_to_image"),),
        prefix="accounts/fireworks/models/",
        model_field="",
        size="sides",
        names=SAMPLING,
        answers=("base64.*", "*.base64", "0.base64"),
    ),
    "deepinfra": Dialect(
        families=families.DEEPINFRA,
        base_url="https://api.deepinfra.com/v1/openai",
        names={"n": "n"},
        fixed=ONLY_B64,
        inputs=ONE_BY_ONE,
    ),
    "nebius": Dialect(
        families=families.NEBIUS,
        base_url="https://api.tokenfactory.nebius.com/v1",
        size="sides",
        names={**SAMPLING, "output_format": "response_extension"},
        values={"output_format": {"jpeg": "jpg"}},
        fixed=ONLY_B64,
    ),
    # Its URLs are temporary; base64 spares the second call.
    "xai": Dialect(
        families=families.XAI,
        base_url="https://api.x.ai/v1",
        size="none",
        names={"n": "n"},
        fixed=ONLY_B64,
        inputs=Inputs("/images/edits", "xai", many="images"),
    ),
    "localai": Dialect(
        families=families.LOCALAI,
        prompt="pipe",
        names={"n": "n", "seed": "seed", "steps": "step"},
        fixed=ONLY_B64,
        inputs=ONE_BY_ONE,
    ),
    "stable-diffusion.cpp": Dialect(
        families=families.SD_CPP,
        prompt="sd_cpp",
        names={"n": "n", "output_format": "output_format", "output_compression": "output_compression"},
        # It reads one channel of the mask, and of that the light.
        inputs=Inputs("/images/edits", mask="white"),
    ),
    "vllm-omni": Dialect(families=families.VLLM_OMNI, names=SAMPLING, fixed=ONLY_B64, inputs=ONE_BY_ONE),
    "sglang": Dialect(
        families=families.SGLANG,
        names={**SAMPLING, "output_format": "output_format", "background": "background"},
        fixed=ONLY_B64,
        inputs=FORM,
    ),
}
