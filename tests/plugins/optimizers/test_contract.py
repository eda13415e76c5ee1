"""What every optimizer promises."""

import pytest
from gateway_plugins.optimizers.chat import Chat
from gateway_plugins.optimizers.template import Template

from gateway import ImageRequest, Optimizer, Size


@pytest.fixture(params=["chat", "template"])
async def optimizer(request, fake):
    if request.param == "template":
        yield Template(suffix="soft light")
        return
    async with Chat(base_url=f"{fake.base}/v1", model="fake", keys=("k",)) as chat:
        yield chat


def test_it_fulfils_the_contract(optimizer):
    """The methods are there."""
    assert isinstance(optimizer, Optimizer)


@pytest.mark.parametrize(
    "prompt", ["a cat", "猫", "مرحبا", "👩‍👩‍👧", '{"a": {}} {prompt} {0}', "a\nb", "x" * 32_000, "<think>"]
)
async def test_any_prompt_gives_words(optimizer, prompt):
    """Whatever is asked for, there is something to draw, and the request stays as it was."""
    request = ImageRequest(prompt, size=Size(1024, 576), aspect_ratio="16:9", style="vivid")
    better = await optimizer.optimize(request)

    assert isinstance(better, str)
    assert better.strip()
    assert request.prompt == prompt
