"""The gateways that every SDK must work against: the embedded default and the presets of both Workers."""

import pytest

from gateway.config import preset_text
from tests.gateways import CALLER_KEY, UPSTREAM_KEY, start

MODELS = {
    "default": "demo",
    "flux-api-worker": "@cf/black-forest-labs/flux-1-schnell",
    "flux-cloudflare-api": "black-forest-labs/FLUX.1-schnell",
}


def environment(preset, base):
    """Give the Workers' own variables, with the fake upstream in the place of the vendors."""
    common = {"FETCH_ALLOW": base.removeprefix("http://")}
    return {
        "default": {"API_KEY": CALLER_KEY},
        "flux-api-worker": {
            "API_KEY": CALLER_KEY, "CF_ACCOUNT_ID": "account", "CF_API_TOKEN": UPSTREAM_KEY, "CF_API_BASE": base,
            **common,
        },
        "flux-cloudflare-api": {
            "AUTHORIZED_API_KEY": CALLER_KEY, "FLUX_GEN_MODEL": MODELS["flux-cloudflare-api"],
            "FLUX_GEN_API_BASE": f"{base}/v1/images/generations", "FLUX_GEN_API_KEY": UPSTREAM_KEY, **common,
        },
    }[preset]  # fmt: skip


@pytest.fixture(params=MODELS)
async def served(request, fake, aiohttp_server, tmp_path):
    """A running gateway and the name of its model."""
    gateway = await start(aiohttp_server, preset_text(request.param), tmp_path, environment(request.param, fake.base))
    return gateway, MODELS[request.param]
