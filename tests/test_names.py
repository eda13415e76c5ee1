"""What a name stands for: a model, an alias of one, or what a wildcard matches."""

import pytest

from gateway.errors import ModelNotFoundError, RequestError
from gateway.names import resolve
from gateway.settings import ModelSettings

MODELS = {
    "flux": ModelSettings(backends=(), aliases=("dall-e-3", "dall-*")),
    "openai/*": ModelSettings(backends=()),
    "openai/gpt-*": ModelSettings(backends=()),
    "*": ModelSettings(backends=(), aliases=("anything",)),
}
NAMED = {name: MODELS[name] for name in ("flux", "openai/*")}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("flux", ("flux", "flux", None)),
        ("  flux ", ("flux", "flux", None)),
        ("dall-e-3", ("flux", "flux", None)),
        ("dall-e-2", ("flux", "flux", None)),
        ("openai/x", ("openai/x", "openai/*", "x")),
        ("openai/gpt-image-2", ("openai/gpt-image-2", "openai/gpt-*", "image-2")),
        ("openai/a/b", ("openai/a/b", "openai/*", "a/b")),
        ("@cf/leonardo/lucid", ("@cf/leonardo/lucid", "*", "@cf/leonardo/lucid")),
        ("anything", ("anything", "*", "anything")),
    ],
)
def test_names_find_their_recipe(name, found):
    """Exact, then alias, then the most specific pattern, which passes on what it matched."""
    assert resolve(name, MODELS) == found


@pytest.mark.parametrize(
    "name",
    [
        "openai/",
        "openai/*",
        "openai/../../accounts",
        "openai/a?b",
        "openai/a%2fb",
        "openai/a b",
        "openai/a\nb",
        "openai//x",
        "openai/" + "a" * 300,
        "FLUX",
        "openai/é",
    ],
)
def test_names_that_could_reach_further_are_unknown(name):
    """What a wildcard passes on may end in a URL; nothing but plain model names gets there."""
    with pytest.raises(ModelNotFoundError):
        resolve(name, NAMED)


def test_unknown_names_are_told_what_is_known():
    """The error lists what this caller may use and the closest of it, and nothing else."""
    with pytest.raises(ModelNotFoundError) as caught:
        resolve("flxu", {**NAMED, "secret": ModelSettings(backends=())}, usable=["flux", "sdxl"])

    assert caught.value.message == "there is no model 'flxu' here; did you mean 'flux'?; known: flux, sdxl"
    assert caught.value.param == "model"


def test_a_huge_name_is_not_echoed_whole():
    """A megabyte of nonsense does not come back as a megabyte."""
    with pytest.raises(ModelNotFoundError) as caught:
        resolve("x" * 10**6, NAMED)

    assert len(caught.value.message) < 400


def test_no_name_means_the_default_or_the_only_model():
    """Clients that send no model are served if it is clear by what."""
    assert resolve(None, NAMED, "flux") == ("flux", "flux", None)
    assert resolve("", {"flux": MODELS["flux"]}) == ("flux", "flux", None)
    assert resolve("", NAMED, "dall-e-3") == ("flux", "flux", None)
    with pytest.raises(RequestError, match="must name a model"):
        resolve(None, NAMED)


def test_unknown_names_get_the_default_by_option_only():
    """Worker A served whatever was asked for; here only who wants that has it."""
    assert resolve("gpt-4o", NAMED, "flux", "default") == ("flux", "flux", None)
    with pytest.raises(ModelNotFoundError):
        resolve("gpt-4o", NAMED, "flux", "refuse")
