"""Fixed words around a prompt."""

import pytest
from gateway_plugins.optimizers.template import Template

from gateway import ImageRequest

STYLES = {"anime": "anime still of {prompt}, cel shading", "film": "shot on film"}


@pytest.mark.parametrize(
    ("template", "style", "prompt"),
    [
        (Template(prefix="photo of"), None, "photo of, a cat"),
        (Template(prefix="photo:", suffix="4k"), None, "photo: a cat, 4k"),
        (Template(suffix=", 4k"), None, "a cat, 4k"),
        (Template(styles=STYLES), None, "a cat"),
        (Template(styles=STYLES), "film", "a cat, shot on film"),
        (Template(styles=STYLES), "anime", "anime still of a cat, cel shading"),
        (Template(styles=STYLES, style="film"), None, "a cat, shot on film"),
        (Template(styles=STYLES, style="film"), "vivid", "a cat, shot on film"),
        (Template(styles=STYLES, style="film"), "anime", "anime still of a cat, cel shading"),
        (Template("the", "end", STYLES), "film", "the, a cat, shot on film, end"),
    ],
)
async def test_words_are_put_around_the_prompt(template, style, prompt):
    """Prefix, style and suffix, in this order."""
    assert await template.optimize(ImageRequest("a cat", style=style)) == prompt


async def test_braces_of_a_prompt_are_text():
    """What the caller wrote is never a placeholder."""
    assert await Template(styles=STYLES, style="film").optimize(ImageRequest("{prompt} {x}")) == (
        "{prompt} {x}, shot on film"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "changes nothing"),
        ({"prefix": " "}, "changes nothing"),
        ({"prefix": "{prompt} x"}, "take no placeholders"),
        ({"styles": {"a": "{sentence} b"}}, "unknown placeholder {sentence}"),
        ({"styles": {"a": "b"}, "style": "c"}, "not among the styles: a"),
    ],
)
def test_options_that_cannot_work_are_refused(options, words):
    """A mistake is told at the start."""
    with pytest.raises(ValueError, match=words):
        Template(**options)
