"""The embedded backend: deterministic, obedient in size and format, told by its words, and never on the loop."""

import asyncio
import hashlib
import subprocess
import sys
import threading
from io import BytesIO

import pytest
from gateway_plugins.backends.demo import Demo
from gateway_plugins.backends.demo.painter import CAPTION
from gateway_plugins.backends.demo.words import read_brief
from PIL import Image as Pillow
from PIL import ImageChops, ImageDraw

from gateway import Image, ImageRequest, Size, Usage, inspect

SMALL = Size(160, 96)


class Told:
    """Remembers what a backend reports, and on which thread."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.done: list[float] = []
        self.previews: list[Image] = []
        self.threads: set[int] = set()

    def sending(self) -> None:
        self.said.append("sending")

    def progress(self, done: float, note: str = "") -> None:
        self.said.append(note)
        self.done.append(done)
        self.threads.add(threading.get_ident())

    def partial(self, image: Image) -> None:
        self.previews.append(image)

    def used(self, usage: Usage) -> None:
        raise AssertionError("nothing is used up here")

    def noted(self, note: str) -> None:
        self.said.append(note)


async def draw(prompt: str, told: Told | None = None, **asked) -> list[Image]:
    async with Demo() as demo:
        return await demo.generate(ImageRequest(prompt, **{"size": SMALL, "seed": 7, **asked}), told or Told())


def opened(image: Image) -> Pillow.Image:
    found = Pillow.open(BytesIO(image.data))
    found.load()
    return found


def encoded(picture: Pillow.Image) -> Image:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return inspect(Image(data=buffer.getvalue()))


async def test_the_same_words_size_and_seed_give_the_same_bytes():
    """Determinism holds byte for byte; each of the three makes a difference."""
    first = (await draw("a cat on a roof"))[0]

    assert (await draw("a cat on a roof"))[0].data == first.data
    others = [
        await draw("a dog on a roof"),
        await draw("a cat on a roof", seed=8),
        await draw("a cat on a roof", size=Size(96, 160)),
    ]
    assert len({first.data, *(images[0].data for images in others)}) == 4


async def test_determinism_survives_a_restart():
    """Another process with another hash seed draws the same picture."""
    code = (
        "import asyncio, hashlib; from tests.plugins.backends.test_demo import draw;"
        "print(hashlib.sha256(asyncio.run(draw('quiet neon rain'))[0].data).hexdigest())"
    )
    there = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True)

    assert there.stdout.strip() == hashlib.sha256((await draw("quiet neon rain"))[0].data).hexdigest(), there.stderr


async def test_n_pictures_have_seeds_that_count_up():
    """Picture i is the one that its own seed draws alone, so that each can be had again."""
    images = await draw("hills", n=3, seed=40)

    assert [image.seed for image in images] == [40, 41, 42]
    assert images[2].data == (await draw("hills", seed=42))[0].data


async def test_without_a_seed_each_call_differs_and_tells_its_seed():
    """The seed that was thrown is told, so that the picture can be drawn again."""
    first, second = [(await draw("hills", seed=None))[0] for _ in range(2)]

    assert first.seed != second.seed
    assert (await draw("hills", seed=first.seed))[0].data == first.data


@pytest.mark.parametrize("size", [(64, 64), (65, 127), (333, 64), (64, 2048), (2048, 64), (1000, 1001)])
@pytest.mark.parametrize("prompt", ["space rocket", "abstract", "underwater fish", "a house by the sea in the rain"])
async def test_any_size_comes_out_exactly(size, prompt):
    """Odd, tiny, long and tall sizes are met to the pixel in every kind of place."""
    image = inspect((await draw(prompt, size=Size(*size)))[0])

    assert image.size == Size(*size)


@pytest.mark.parametrize(
    "place", ["abstract", "space", "deep sea reef", "roof", "forest autumn", "garden", "desert", "mountains snow"]
)
async def test_no_throw_of_the_dice_breaks_a_place(place):
    """Forty seeds of each place come out, at an odd size."""
    assert (
        len(
            {
                image.data
                for start in range(0, 40, 10)
                for image in await draw(place, n=10, seed=start, size=Size(97, 71))
            }
        )
        == 40
    )


@pytest.mark.parametrize(("asked", "media_type"), [(None, "png"), ("png", "png"), ("jpeg", "jpeg"), ("webp", "webp")])
async def test_the_format_asked_for_comes_out(asked, media_type):
    """The bytes are of the format, and say in their metadata what they are."""
    image = inspect((await draw("hills", output_format=asked))[0])

    assert image.media_type == f"image/{media_type}"
    found = opened(image)
    label = found.text["Software"] if media_type == "png" else found.getexif()[0x0131]
    assert "not an AI model" in label


async def test_compression_is_the_quality():
    """A lower number is a smaller file, 0 included."""
    sizes = [len((await draw("city", output_format="jpeg", output_compression=q))[0].data) for q in (0, 50, 100)]

    assert sizes == sorted(set(sizes))


async def test_progress_and_previews_are_told_in_order_on_the_loop():
    """Progress rises to 1, previews get richer, and nothing is reported from a worker's thread."""
    told = Told()
    await draw("a boat at sunset", told, partial_images=3)

    assert told.said[0] == "sending"
    assert told.done == sorted(told.done)
    assert told.done[-1] == 1.0
    assert told.threads == {threading.get_ident()}
    assert [inspect(image).size for image in told.previews] == [SMALL] * 3
    assert len({image.data for image in told.previews}) == 3


@pytest.mark.parametrize(("asked", "count"), [(None, 0), (0, 0), (1, 1), (2, 2), (3, 3)])
async def test_as_many_previews_as_asked(asked, count):
    """OpenAI's partial_images is a number, also with several pictures."""
    told = Told()
    await draw("hills", told, partial_images=asked, n=2)

    assert len(told.previews) == count


async def test_drawing_leaves_the_loop_free():
    """While a large picture is drawn the loop goes on turning."""
    turns = 0
    task = asyncio.create_task(draw("city in the rain", size=Size(1024, 1024)))
    while not task.done():
        await asyncio.sleep(0.001)
        turns += 1

    assert turns > 20


async def test_a_cancelled_job_stops_between_two_steps():
    """Nothing goes on drawing after the caller has gone."""
    begun = asyncio.Event()

    class Watched(Told):
        def progress(self, done: float, note: str = "") -> None:
            super().progress(done, note)
            begun.set()

    told = Watched()
    task = asyncio.create_task(Demo(delay=60).generate(ImageRequest("hills", size=SMALL, seed=1), told))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert told.said == ["sending", "sky"]


async def test_the_caption_can_be_left_out():
    """It stands in the lower right corner and nowhere else."""
    request = ImageRequest("hills", size=Size(512, 512), seed=1)
    with_it, without = [opened((await Demo(caption=yes).generate(request, Told()))[0]) for yes in (True, False)]
    box = ImageChops.difference(with_it, without).getbbox()

    assert CAPTION == "demo · not an AI model"
    assert box is not None
    assert box[0] > 256
    assert box[1] > 480


@pytest.mark.parametrize(
    ("prompt", "part", "idea"),
    [
        ("a cat on a roof at night", "figures", ("cat",)),
        ("a cat on a roof at night", "times", ("night",)),
        ("A RED FOX, in a SNOWY forest!", "figures", ("fox",)),
        ("A RED FOX, in a SNOWY forest!", "weather", ("snow",)),
        ("two dogs and three birds", "figures", ("dog", "bird")),
        ("一只猫在月光下", "figures", ("cat", "moon")),
        ("一只猫在月光下", "times", ("night",)),
        ("紫色的城堡", "figures", ("castle",)),
        ("紫色的城堡", "places", ()),
        ("夕暮れの海と船", "places", ("sea",)),
        ("夕暮れの海と船", "times", ("sunset",)),
        ("un perro en el jardín", "figures", ("dog",)),
        ("ein Leuchtturm im Nebel", "weather", ("fog",)),
        ("красная лодка на озере утром", "times", ("dawn",)),
        ("красная лодка на озере утром", "places", ("sea",)),
        ("un château en automne", "figures", ("castle",)),
        ("concatenate the category", "figures", ()),
        ("", "figures", ()),
    ],
)
def test_words_of_seven_languages_are_known(prompt, part, idea):
    """Whole words count, plurals too; parts of longer words do not."""
    assert getattr(read_brief(prompt), part) == idea


def test_unwanted_words_are_left_out():
    """A negative prompt takes away what it names."""
    assert read_brief("a cat and a dog at night", "dog, night").figures == ("cat",)
    assert read_brief("a cat and a dog at night", "dog, night").times == ()


@pytest.mark.parametrize("prompt", ["", " ", "\0\n\t", "x" * 20_000, "🦊🌙", "\ud800", "%s {0} <b>", "sun moon " * 500])
async def test_strange_prompts_still_give_a_picture(prompt):
    """Nothing that passes for text stops the drawing."""
    assert inspect((await draw(prompt))[0]).size == SMALL


async def test_an_edit_without_a_size_keeps_that_of_the_picture():
    """The whole picture takes on the light of the prompt."""
    given = encoded(Pillow.linear_gradient("L").resize((120, 90)).convert("RGB"))
    made = inspect((await draw("sunset", size=None, images=(given,)))[0])

    assert made.size == Size(120, 90)
    assert opened(made).tobytes() != opened(given).tobytes()


@pytest.mark.parametrize("kind", ["clear", "white"])
async def test_a_mask_says_where_an_edit_paints(kind):
    """Clear parts of a mask (or white ones, if nothing is clear) are painted over, the rest stays."""
    given = encoded(Pillow.new("RGB", (200, 100), (10, 200, 30)))
    mask = Pillow.new("RGBA" if kind == "clear" else "RGB", (200, 100), "black")
    ImageDraw.Draw(mask).rectangle((100, 0, 200, 100), fill=(0, 0, 0, 0) if kind == "clear" else "white")
    made = (await Demo(caption=False).generate(
        ImageRequest("night city", size=Size(200, 100), seed=3, images=(given,), mask=encoded(mask)), Told()
    ))[0]  # fmt: skip
    found = opened(made)

    assert [found.getpixel((x, 50)) for x in (5, 40, 80)] == [(10, 200, 30)] * 3
    assert len(found.crop((120, 0, 200, 100)).getcolors(10_000)) > 50


@pytest.mark.parametrize("count", [1, 2, 3, 4])
async def test_up_to_four_pictures_can_be_given(count):
    """The further ones are pinned to the first."""
    given = tuple(encoded(Pillow.new("RGBA", (90, 60), (60 * i, 30, 90, 128))) for i in range(count))

    assert inspect((await draw("a cat", images=given))[0]).size == SMALL


def test_what_it_can_do_is_what_it_says():
    """The capabilities bear what the embedded default promises."""
    can = Demo().capabilities("")

    assert (can.count, can.inputs, can.mask, can.partials, can.progress) == (10, 4, True, True, True)
    assert {"seed", "output_format", "partial_images"} <= set(can.accepts)
