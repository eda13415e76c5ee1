"""A request × what a target can do: what is sent, what is mended here, and that nothing vanishes in silence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.capabilities import TUNABLE, Capabilities, Range, SizeRule
from gateway.errors import RequestError
from gateway.framing import allowed
from gateway.negotiate import Plan, asked, negotiate, score, strict_complaint
from gateway.values import Image, ImageRequest, Size

CAT = ImageRequest("a cat", model="flux")
SCHNELL = Capabilities(sizes=(), native=Size(1024, 1024), accepts={"steps": Range(1, 8)}, prompt_limit=2048)
GPT2 = SizeRule(low=16, high=3840, step=16, least_pixels=655_360, most_pixels=8_294_400, ratio=3)
ANYTHING = Capabilities()
PICTURE = Image(data=b"png")


def plan(request: ImageRequest, capabilities: Capabilities = ANYTHING, fit: Any = "crop") -> Plan:
    return negotiate(request, capabilities, "vendor/flux", fit)


def change(changes: Any, name: str) -> Any:
    return next(entry for entry in changes if entry.name == name)


def test_nothing_asked_is_nothing_forced():
    """A bare prompt goes out bare, under the upstream's own name for the model."""
    made = plan(CAT, SCHNELL)

    assert made.request == replace(CAT, model="vendor/flux")
    assert (made.size, made.output_format, made.adjusted, made.dropped) == (None, None, (), ())
    assert strict_complaint(made) is None


def test_fixed_size_is_cropped_here_and_told():
    """flux-1-schnell answers 1024x1024 whatever is asked: the receipt says so, and that it is cropped here."""
    made = plan(replace(CAT, size=Size(1024, 576)), SCHNELL)

    assert made.request.size is None
    assert made.size == Size(1024, 576)
    entry = change(made.adjusted, "size")
    assert (entry.asked, entry.applied) == ("1024x576", "1024x1024")
    assert entry.reason == "the target always answers 1024x1024, cropped here to 1024x576"
    assert "size would be 1024x1024" in (strict_complaint(made) or "")


def test_fixed_size_is_applied_when_it_is_the_one_asked():
    """Who asks for what comes anyway has lost nothing."""
    made = plan(replace(CAT, size=Size(1024, 1024)), SCHNELL)

    assert made.applied["size"] == "1024x1024"
    assert not made.adjusted


def test_left_as_it_comes_says_what_comes():
    """With ``leave`` nothing is done here, and the receipt names the size that comes instead."""
    made = plan(replace(CAT, size=Size(1024, 576)), SCHNELL, "leave")

    assert made.size is None
    assert change(made.adjusted, "size").reason.endswith("left as it comes")


def test_unknown_size_left_as_it_comes_is_dropped():
    """A target that cannot be told a size and whose size nobody knows drops the size."""
    made = plan(replace(CAT, size=Size(512, 512)), Capabilities(sizes=()), "leave")

    assert change(made.dropped, "size").asked == "512x512"


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        ((768, 512), (1008, 672)),
        ((512, 1024), (576, 1152)),
        ((1024, 1024), (1024, 1024)),
        ((100, 100), (816, 816)),
        ((4000, 4000), (2880, 2880)),
        ((1, 99999), (480, 1440)),
    ],
)
def test_rule_is_met_with_the_ratio_kept(wanted, sent):
    """Sizes outside the rules of gpt-image-2 are scaled to the nearest allowed, up rather than down."""
    made = plan(replace(CAT, size=Size(*wanted)), Capabilities(sizes=GPT2))

    assert made.request.size == Size(*sent)
    assert made.size == Size(*wanted)


def test_scaling_without_cutting_is_called_so():
    """The same ratio is scaled, not cropped, and the words say it."""
    made = plan(replace(CAT, size=Size(768, 512)), Capabilities(sizes=GPT2))

    assert change(made.adjusted, "size").reason.endswith("it makes 1008x672, scaled here to 768x512")


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        ((1024, 1024), (1024, 1024)),
        ((512, 512), (1024, 1024)),
        ((768, 512), (1536, 1024)),
        ((1024, 576), (1536, 1024)),
        ((576, 1344), (1024, 1536)),
        ((4096, 4096), (2048, 2048)),
    ],
)
def test_list_gives_the_nearest_ratio_then_the_bigger(wanted, sent):
    """From a list the same ratio wins, then the nearest; one to scale down from comes before one to scale up."""
    listed = (Size(256, 256), Size(1024, 1024), Size(2048, 2048), Size(1536, 1024), Size(1024, 1536))

    assert plan(replace(CAT, size=Size(*wanted)), Capabilities(sizes=listed)).request.size == Size(*sent)


def test_contradictory_rule_sends_no_size():
    """A rule that nothing can meet must not make the request impossible."""
    made = plan(replace(CAT, size=Size(64, 64)), Capabilities(sizes=SizeRule(low=512, high=256)))

    assert made.request.size is None
    assert made.size == Size(64, 64)


def test_ratio_goes_out_instead_of_the_size():
    """Targets that take a ratio get the nearest one and no size."""
    made = plan(replace(CAT, size=Size(1024, 576)), Capabilities(ratios=("1:1", "4:3", "16:9")))

    assert (made.request.size, made.request.aspect_ratio) == (None, "16:9")
    assert change(made.adjusted, "size").reason.endswith("asked for 16:9, scaled here to 1024x576")


def test_asked_ratio_is_applied_without_scaling():
    """Only a ratio was asked: the target's own size of that ratio is as good as any other."""
    taken = plan(replace(CAT, aspect_ratio="16:9"), Capabilities(ratios=("1:1", "16:9")))
    sized = plan(replace(CAT, aspect_ratio="16:9"))

    assert (taken.request.aspect_ratio, taken.size, taken.adjusted) == ("16:9", None, ())
    assert (sized.request.aspect_ratio, sized.request.size, sized.size) == (None, Size(1024, 576), None)
    assert sized.applied["aspect_ratio"] == "16:9"


def test_asked_ratio_is_cut_out_of_a_fixed_size():
    """The largest picture of that ratio is cut out of what comes."""
    made = plan(replace(CAT, aspect_ratio="2:1"), SCHNELL)

    assert made.size == Size(1024, 512)
    assert change(made.adjusted, "aspect_ratio").reason.endswith("cropped here to 1024x512")


def test_size_wins_over_a_ratio_that_contradicts():
    """Two wishes that exclude one another: the exact one holds, the other is told as dropped."""
    made = plan(replace(CAT, size=Size(1024, 1024), aspect_ratio="16:9"))

    assert made.applied["size"] == "1024x1024"
    assert change(made.dropped, "aspect_ratio").asked == "16:9"


@pytest.mark.parametrize("text", ["16", "16:0", "a:b", "１６:９", "-1:2", "999999999999:1", ":", "1:2:3"])
def test_nonsense_ratio_is_refused(text):
    """A ratio that nobody can read is the caller's mistake, not a reason to guess."""
    with pytest.raises(RequestError, match="not an aspect ratio") as caught:
        plan(replace(CAT, aspect_ratio=text))

    assert caught.value.param == "aspect_ratio"


@pytest.mark.parametrize(
    ("n", "count", "calls"), [(5, 2, (2, 2, 1)), (1, 4, (1,)), (4, 1, (1,) * 4), (4, 4, (4,)), (3, 0, (1,) * 3)]
)
def test_pictures_are_spread_over_calls(n, count, calls):
    """What one call cannot make is spread over several; that is as asked."""
    made = plan(replace(CAT, n=n), Capabilities(count=count))

    assert made.calls == calls
    assert made.request.n == max(calls)
    assert made.applied["n"] == n


def test_each_call_has_a_seed_of_its_own():
    """One seed for all calls would make the same picture over and over; at the top the seeds begin anew."""
    capabilities = Capabilities(count=2, accepts={"seed": Range(0, 10)})
    seeds = [call.seed for call in plan(replace(CAT, n=6, seed=8), capabilities).requests()]

    assert seeds == [8, 10, 1]


def test_numbers_are_clamped_and_whole_ones_stay_whole():
    """50 steps become 8, and not 8.0, which strict upstreams refuse."""
    made = plan(replace(CAT, steps=50), Capabilities(accepts={"steps": Range(1.5, 8.0)}))

    assert made.request.steps == 8
    assert isinstance(made.request.steps, int)
    assert change(made.adjusted, "steps").reason == "the target takes 1.5 to 8"


def test_seed_is_folded_not_clamped():
    """Two large seeds must not become one."""
    capabilities = Capabilities(accepts={"seed": Range(0, 2**32 - 1)})
    seeds = {plan(replace(CAT, seed=2**40 + step), capabilities).request.seed for step in range(3)}

    assert seeds == {0, 1, 2}


def test_words_become_the_nearest_known():
    """The words of DALL·E 3 and of the GPT models stand for one another."""
    words = Capabilities(accepts={"quality": ("low", "medium", "high")})

    assert plan(replace(CAT, quality="standard"), words).request.quality == "medium"
    assert plan(replace(CAT, quality="hd"), words).request.quality == "high"
    assert change(plan(replace(CAT, quality="superb"), words).dropped, "quality").reason == (
        "the target takes only low, medium, high"
    )


@pytest.mark.parametrize(("name", "value"), [("quality", "auto"), ("background", "auto"), ("seed", -1)])
def test_what_leaves_the_choice_to_the_target_is_always_applied(name, value):
    """``auto`` (and the seed -1) ask for what comes anyway: not sending it loses nothing."""
    made = plan(replace(CAT, **{name: value}), Capabilities(accepts={"quality": ("high",), "seed": Range(0, 9)}))

    assert made.applied[name] == value
    assert getattr(made.request, name) is None
    assert strict_complaint(made) is None


def test_format_the_target_lacks_is_made_here():
    """Converting loses nothing, so it is as asked, even for a strict caller; a note tells it."""
    made = plan(replace(CAT, output_format="webp", output_compression=80), SCHNELL)

    assert (made.request.output_format, made.request.output_compression) == (None, None)
    assert (made.output_format, made.compression) == ("webp", 80)
    assert made.notes == ("output_format: converted to webp here", "output_compression: compressed here")
    assert strict_complaint(made) is None


def test_format_and_compression_go_to_a_target_that_takes_them():
    """The target compresses; here the format is only made sure of."""
    capabilities = Capabilities(accepts={"output_format": ("png", "jpeg"), "output_compression": Range(0, 100)})
    made = plan(replace(CAT, output_format="jpg", output_compression=80), capabilities)

    assert (made.request.output_format, made.request.output_compression) == ("jpeg", 80)
    assert (made.output_format, made.compression) == ("jpeg", None)


def test_compression_of_a_lossless_format_is_dropped():
    """PNG has no quality; upstreams answer 400 to it."""
    made = plan(
        replace(CAT, output_format="png", output_compression=50), Capabilities(accepts={"output_compression": True})
    )

    assert made.request.output_compression is None
    assert change(made.dropped, "output_compression").asked == 50


def test_format_that_nobody_makes_is_dropped():
    """A format that neither side knows is told as dropped."""
    assert change(plan(replace(CAT, output_format="bmp")).dropped, "output_format").asked == "bmp"


def test_long_prompt_is_cut_at_a_word():
    """A prompt above the limit ends with a whole word, and the receipt tells how much is missing."""
    made = plan(replace(CAT, prompt="wonderful " * 300), SCHNELL)

    assert len(made.request.prompt) <= 2048
    assert made.request.prompt.endswith("wonderful")
    assert change(made.adjusted, "prompt").asked == "3000 characters"


def test_prompt_without_spaces_is_cut_at_the_limit():
    """Chinese has no spaces to cut at; emoji count one each."""
    assert len(plan(replace(CAT, prompt="貓" * 3000), SCHNELL).request.prompt) == 2048
    assert len(plan(replace(CAT, prompt="🐈" * 2048), SCHNELL).request.prompt) == 2048


@pytest.mark.parametrize(
    ("request_", "capabilities", "param", "words"),
    [
        (replace(CAT, images=(PICTURE,)), Capabilities(), "image", "flux takes no input images"),
        (replace(CAT, images=(PICTURE,) * 3), Capabilities(inputs=2), "image", "at most 2 input images, not 3"),
        (replace(CAT, images=(PICTURE,), mask=PICTURE), Capabilities(inputs=2), "mask", "takes no mask"),
        (replace(CAT, mask=PICTURE), Capabilities(inputs=2, mask=True), "mask", "needs an input image"),
        (CAT, Capabilities(inputs=2, needs_input=True), "image", "needs an input image"),
        (replace(CAT, n=0), Capabilities(), "n", "at least 1"),
    ],
)
def test_impossible_requests_are_refused_by_name(request_, capabilities, param, words):
    """What a target cannot do at all is refused before anything is sent."""
    with pytest.raises(RequestError, match=words) as caught:
        plan(request_, capabilities)

    assert caught.value.param == param


def test_unknown_parameters_are_told_and_not_sent():
    """A misspelt parameter is listed instead of ignored."""
    made = plan(replace(CAT, unknown=("stepps",)))

    assert change(made.dropped, "stepps").reason == "not a parameter of this gateway"
    assert made.request.unknown == ()
    assert "stepps would be dropped" in (strict_complaint(made) or "")


def test_score_prefers_what_loses_least():
    """Dropping is worse than adjusting; what cannot be seen in the picture does not count."""
    request = replace(CAT, seed=1, steps=50, user="u", unknown=("stepps",))
    full = plan(request, Capabilities(accepts={"seed": True, "steps": True}))
    clamps = plan(request, Capabilities(accepts={"seed": True, "steps": Range(1, 8)}))
    drops = plan(request, Capabilities(accepts={"steps": True}))

    assert score(full) == (0, 0)
    assert score(full) < score(clamps) < score(drops)


def test_asked_is_plain_json_without_prompt_or_pictures():
    """The receipt shows parameters, never the prompt or bytes."""
    request = replace(CAT, size=Size(1, 2), seed=3, images=(PICTURE,), mask=PICTURE, unknown=("x",))

    assert asked(request) == {"n": 1, "size": "1x2", "seed": 3, "images": 1, "mask": True, "x": None}


words = st.sampled_from(["auto", "low", "medium", "high", "hd", "standard", "HIGH", "transparent", "natural"])
formats = st.sampled_from(["png", "jpeg", "jpg", "webp", "avif", "bmp", "PNG"])
sides = st.integers(1, 5000)
sizes = st.builds(Size, sides, sides)
ratios = st.sampled_from(["1:1", "16:9", "9:16", "21:9", "3:7", "1000:1"])


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


requests = st.builds(
    ImageRequest,
    prompt=st.text(max_size=60),
    model=st.just("flux"),
    n=st.integers(1, 10),
    size=optional(sizes),
    aspect_ratio=optional(ratios),
    seed=optional(st.integers(-1, 2**64)),
    steps=optional(st.integers(1, 200)),
    guidance=optional(st.floats(0, 50)),
    negative_prompt=optional(st.text(max_size=9)),
    quality=optional(words),
    style=optional(words),
    background=optional(words),
    output_format=optional(formats),
    output_compression=optional(st.integers(0, 100)),
    moderation=optional(words),
    input_fidelity=optional(words),
    partial_images=optional(st.integers(0, 3)),
    user=optional(st.text(max_size=5)),
    unknown=st.lists(st.sampled_from(["stepps", "cfg"]), unique=True).map(tuple),
)
bounds = st.tuples(st.floats(0, 60), st.floats(0, 60)).map(sorted)
ranges = bounds.map(lambda pair: Range(*pair)) | st.builds(Range, low=optional(st.integers(0, 9)), high=st.none())
limits = ranges | st.just(True) | st.lists(words | formats, max_size=3).map(tuple)
rules = st.builds(
    SizeRule,
    low=st.integers(1, 600),
    high=st.integers(500, 4096),
    step=st.sampled_from([1, 8, 16, 32, 64]),
    least_pixels=st.sampled_from([0, 655_360]),
    most_pixels=st.sampled_from([0, 1_000_000, 8_294_400]),
    ratio=st.sampled_from([0, 2, 3]),
)
targets = st.builds(
    Capabilities,
    sizes=rules | st.lists(sizes, max_size=4).map(tuple),
    native=optional(sizes),
    ratios=st.lists(ratios, max_size=3).map(tuple),
    count=st.integers(1, 4),
    accepts=st.dictionaries(st.sampled_from(TUNABLE), limits),
    prompt_limit=st.sampled_from([0, 10]),
)
fits = st.sampled_from(["crop", "pad", "scale", "leave"])


@given(requests, targets, fits)
def test_no_parameter_vanishes_without_an_entry(request, capabilities, fit):
    """Whatever is asked of whatever target: each parameter is applied as asked, adjusted, or dropped."""
    made = plan(request, capabilities, fit)
    wanted = asked(request)

    adjusted = [entry.name for entry in made.adjusted if entry.name != "prompt"]
    dropped = [entry.name for entry in made.dropped]
    assert sorted([*made.applied, *adjusted, *dropped]) == sorted(wanted)
    assert all(wanted[name] == value for name, value in made.applied.items())


@given(requests, targets, fits)
def test_what_is_sent_is_within_the_capabilities(request, capabilities, fit):
    """Nothing goes out that the target did not say it takes."""
    made = plan(request, capabilities, fit)

    assert allowed(made.request.size, made.request.aspect_ratio, capabilities)
    assert all(1 <= count <= capabilities.count for count in made.calls)
    assert sum(made.calls) == request.n
    assert not capabilities.prompt_limit or len(made.request.prompt) <= capabilities.prompt_limit
    for call in made.requests():
        for name in TUNABLE:
            value = getattr(call, name)
            assert value is None or _within(value, capabilities.accepts[name])
            assert type(value) in (type(None), type(getattr(request, name)))


def _within(value: Any, limit: Any) -> bool:
    if isinstance(limit, Range):
        return (limit.low is None or limit.low <= value) and (limit.high is None or value <= limit.high)
    return limit is True or str(value) in limit


def test_a_size_that_nobody_asked_for_cuts_no_picture():
    """A chat model's picture is left as it comes; a target that can be told, or always makes one size, gets it."""
    unasked = replace(CAT, size=Size(1024, 1024), any_size=True)

    assert plan(unasked, Capabilities(sizes=())).size is None
    for ratios in (Capabilities(sizes=(), ratios=("1:1",)), Capabilities(ratios=("1:1", "16:9"))):
        assert (plan(unasked, ratios).request.aspect_ratio, plan(unasked, ratios).size) == (None, None)
    for sizes in ((Size(512, 512),), SizeRule(high=512)):
        assert strict_complaint(plan(unasked, Capabilities(sizes=sizes))) is None
        assert strict_complaint(plan(replace(unasked, any_size=False), Capabilities(sizes=sizes)))
    assert plan(unasked, Capabilities(sizes=(Size(512, 512),))).request.size == Size(512, 512)
    assert plan(unasked, Capabilities(sizes=(), native=Size(512, 512))).size == Size(1024, 1024)
    assert "size" not in asked(unasked)
