"""diffusers: a real pipeline, tiny and random, in this process."""

from __future__ import annotations

import asyncio
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from gateway_plugins.backends.diffusers import DEVICES, Diffusers

from gateway import Image, ImageRequest, MisconfiguredError, Size, UpstreamError, UpstreamTimeoutError
from tests.fake_upstream import png
from tests.plugins.backends.tiny_flux import save_tiny_flux
from tests.plugins.backends.vendors import Told

pytestmark = pytest.mark.filterwarnings("default")
ASKED = ImageRequest("a cat", size=Size(64, 48), steps=2, guidance=0.0, seed=1)
SHORT = {"max_sequence_length": 48}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_flux(tmp_path_factory.mktemp("tiny-flux"))


def make(folder: Path, **options: Any) -> Diffusers:
    return Diffusers(str(folder), offline=True, device="cpu", extra=SHORT, **options)


def size(image: Image) -> tuple[int, int]:
    with Pillow.open(BytesIO(image.data)) as picture:
        assert picture.format == "PNG"
        return picture.size


async def test_draws_a_picture_of_the_size_asked(folder: Path):
    """The steps are told as progress, in order; nothing is paid."""
    told = Told()
    async with make(folder) as backend:
        images = await backend.generate(ASKED, told)
        await asyncio.sleep(0)

    assert [size(image) for image in images] == [(64, 48)]
    assert images[0].seed == 1
    assert told.sent == 0
    assert told.done == sorted(told.done)
    assert told.notes[-2:] == ["step 1 of 2", "step 2 of 2"]
    assert told.done[-1] == 1


async def test_each_picture_of_several_is_the_one_of_its_seed(folder: Path):
    """Picture 2 of seed 1 is picture 1 of seed 2: batches can be repeated one by one."""
    async with make(folder) as backend:
        both = await backend.generate(ImageRequest("a cat", size=Size(64, 64), steps=1, seed=1, n=2), Told())
        second = await backend.generate(ImageRequest("a cat", size=Size(64, 64), steps=1, seed=2), Told())

    assert [image.seed for image in both] == [1, 2]
    assert both[1].data == second[0].data
    assert both[0].data != both[1].data


async def test_without_a_seed_it_tells_the_one_it_took(folder: Path):
    """So that the picture can be made again."""
    async with make(folder) as backend:
        first = (await backend.generate(ImageRequest("a cat", size=Size(64, 64), steps=1), Told()))[0]
        again = (await backend.generate(ImageRequest("a cat", size=Size(64, 64), steps=1, seed=first.seed), Told()))[0]

    assert first.data == again.data


async def test_capabilities_are_those_of_the_signature(folder: Path):
    """Known from the index alone, before the weights are loaded; what this model would ignore is left out."""
    async with make(folder) as backend:
        capabilities = backend.capabilities("")
        health = backend.health()

    assert set(capabilities.accepts) == {"seed", "steps"}
    assert (capabilities.inputs, capabilities.mask, capabilities.sizes.step) == (0, False, 16)  # type: ignore[union-attr]
    assert health == {"pipeline": "FluxPipeline", "loaded": False}


async def test_preload_loads_at_the_start(folder: Path):
    """For those who would rather wait then."""
    async with make(folder, preload=True) as backend:
        assert backend.health()["loaded"] is True


async def test_two_components_take_turns_on_one_device(folder: Path):
    """One job at a time per device, whatever component it belongs to."""
    at_once, most = 0, 0
    lock = threading.Lock()

    class Counted(Diffusers):
        def _one(self, *arguments: Any) -> Image:
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
            image = super()._one(*arguments)
            with lock:
                at_once -= 1
            return image

    options: dict[str, Any] = {"offline": True, "device": "cpu", "extra": SHORT}
    async with Counted(str(folder), **options) as one, Counted(str(folder), **options) as two:
        await asyncio.gather(*(backend.generate(ASKED, Told()) for backend in (one, two, one, two)))

    assert most == 1


async def test_cancelling_stops_at_the_next_step(folder: Path):
    """Long before the hundred steps are over, and the device is free again."""
    told, running = Told(), asyncio.Event()
    told.progress = lambda done, note="": running.set() if note.startswith("step") else None  # type: ignore[method-assign]  # tells when it draws
    async with make(folder) as backend:
        job = asyncio.create_task(backend.generate(ImageRequest("a cat", size=Size(512, 512), steps=150, n=4), told))
        await running.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        async with asyncio.timeout(20):
            images = await backend.generate(ASKED, Told())

    assert len(images) == 1
    assert not DEVICES["cpu"].locked()


async def test_a_late_job_is_given_up(folder: Path):
    """Its time is bounded, and it cost nothing."""
    async with make(folder, timeout=0.3) as backend:
        with pytest.raises(UpstreamTimeoutError) as caught:
            await backend.generate(ImageRequest("a cat", size=Size(512, 512), steps=150, n=4), Told())

    assert (caught.value.retryable, caught.value.billed) == (True, False)


async def test_a_pipeline_that_cannot_be_loaded_is_told(tmp_path: Path):
    """The gateway starts all the same; health says why, and the next target may do it."""
    async with make(tmp_path / "nothing") as backend:
        trouble = backend.health()["trouble"]
        with pytest.raises(MisconfiguredError, match="cannot load") as caught:
            await backend.generate(ASKED, Told())

    assert "cannot load the pipeline" in trouble
    assert str(tmp_path) not in trouble + caught.value.message
    assert caught.value.retryable


async def test_what_the_pipeline_raises_is_told(folder: Path):
    """An option that it does not know is no crash."""
    async with Diffusers(str(folder), offline=True, device="cpu", extra={"no_such_option": 1}) as backend:
        with pytest.raises(UpstreamError, match="no_such_option"):
            await backend.generate(ASKED, Told())

        assert not DEVICES["cpu"].locked()


async def test_what_the_pipeline_does_not_take_is_not_given(folder: Path):
    """An input picture of a pipeline without inputs never gets here, but would do no harm."""
    async with make(folder) as backend:
        given = backend._arguments(ImageRequest("x", images=(Image(png()),), mask=Image(png()), size=Size(64, 64)))

    assert set(given) == {"prompt", "width", "height", "max_sequence_length"}


async def test_a_pipeline_that_takes_pictures_gets_them():
    """Signature decides; one that is made to change pictures needs one."""

    class FakeImg2ImgPipeline:
        def __call__(self, prompt: str, image: Any = None, strength: float = 0.5, mask_image: Any = None) -> None: ...

    backend = Diffusers("nowhere")
    backend._learn(FakeImg2ImgPipeline, {})
    capabilities = backend.capabilities("")
    given = backend._arguments(ImageRequest("x", images=(Image(png(8, 4)),), mask=Image(png(8, 4)), steps=3))

    assert (capabilities.inputs, capabilities.needs_input, capabilities.mask) == (1, True, True)
    assert capabilities.sizes == ()
    assert (given["image"].size, given["image"].mode, given["strength"]) == ((8, 4), "RGB", 0.75)
    assert set(given) == {"prompt", "image", "strength", "mask_image"}


@pytest.mark.parametrize(
    ("default", "extra", "taken"), [(1.0, {}, False), (4.0, {}, True), (1.0, {"true_cfg_scale": 4}, True)]
)
def test_a_negative_prompt_counts_only_where_it_has_an_effect(default: float, extra: Any, taken: bool):
    """Flux has the parameter, but passes it over unless its true guidance is above 1."""

    class Pipeline:
        def __call__(self, prompt: str, negative_prompt: str = "", true_cfg_scale: float = default) -> None: ...

    backend = Diffusers("nowhere", extra=extra)
    backend._learn(Pipeline, {})

    assert ("negative_prompt" in backend.capabilities("").accepts) is taken
