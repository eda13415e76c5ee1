"""Prompts judged by a moderation service."""

from dataclasses import replace

import pytest
from aiohttp import web
from gateway_plugins.middlewares.moderation import Moderation

from gateway import Caller, Http, ImageRequest, Middleware, RefusedError, Secret, UnavailableError, Work


@pytest.fixture
async def make(fake):
    """The service flags every text with the word gore."""
    opened = []

    def judge(call):
        flagged = "gore" in str(call.json["input"])
        categories = {"violence": flagged, "sexual": False, "hate": None}
        return web.json_response({"id": "m", "results": [{"flagged": flagged, "categories": categories}]})

    fake.good = judge

    async def make(**options):
        options = {"base_url": f"{fake.base}/v1", "keys": (Secret("k-1"),), **options}
        opened.append(await Moderation(**options).__aenter__())
        return opened[-1]

    yield make
    for moderation in opened:
        await moderation.__aexit__()


async def pass_through(moderation, prompt, better=None, **request):
    async def optimize(work):
        return replace(work, request=replace(work.request, prompt=better)) if better else work

    work = Work("job-1", Caller("alice"), ImageRequest(prompt, **request), prompt)
    return await moderation.around("optimize", work, optimize)


async def test_innocent_prompt_passes(fake, make):
    """One question in the OpenAI form, and nothing is changed."""
    moderation = await make()
    done = await pass_through(moderation, "a cat")

    assert isinstance(moderation, Middleware)
    assert done.request.prompt == "a cat"
    assert done.receipt.notes == ()
    assert [call.path for call in fake.calls] == ["/v1/moderations"]
    assert fake.last.json == {"model": "omni-moderation-latest", "input": "a cat"}
    assert fake.last.headers["Authorization"] == "Bearer k-1"


async def test_flagged_prompt_is_refused(make):
    """The refusal names the category and says the words that clients look for."""
    with pytest.raises(RefusedError, match=r"content policy \(violence\)") as caught:
        await pass_through(await make(), "gore")

    assert (caught.value.status, caught.value.code) == (400, "content_policy_violation")


@pytest.mark.parametrize("case", [{"better": "a cat with gore"}, {"negative_prompt": "gore"}])
async def test_all_words_that_reach_the_model_are_judged(make, case):
    """What an optimizer made and the negative prompt count, too."""
    moderation = await make()

    with pytest.raises(RefusedError):
        await pass_through(moderation, "a cat", **case)


async def test_changed_prompt_is_asked_about_once_more(fake, make):
    """Two questions if the prompt changed, one if not."""
    await pass_through(await make(), "a cat", better="a fluffy cat")

    assert [call.json["input"] for call in fake.calls] == ["a cat", "a fluffy cat"]


async def test_only_chosen_categories_refuse(make):
    """Other categories are left to the backend."""
    await pass_through(await make(categories=("sexual",)), "gore")

    with pytest.raises(RefusedError):
        await pass_through(await make(categories=("sexual", "violence")), "gore")


FAILURES = ["status:500", "status:401", "status:429", "html:200", "hang", "reset", "cut"]


@pytest.mark.parametrize("mode", FAILURES)
async def test_failing_closed(fake, make, mode):
    """By default nothing is drawn that could not be checked."""
    fake.mode = mode
    moderation = await make(http=Http(total=0.3, first_byte=0.3))

    with pytest.raises(UnavailableError) as caught:
        await pass_through(moderation, "a cat")
    assert caught.value.status == 503


@pytest.mark.parametrize("mode", FAILURES)
async def test_failing_open(fake, make, mode):
    """By option the job goes on, and the receipt says that nobody looked."""
    fake.mode = mode
    done = await pass_through(await make(on_failure="open", http=Http(total=0.3, first_byte=0.3)), "a cat")

    assert "was not moderated" in done.receipt.notes[0]


@pytest.mark.parametrize(
    "body", [{}, [], None, {"results": []}, {"results": [1]}, {"results": [{}]}, {"results": [{"flagged": "no"}]}]
)
async def test_strange_answer_is_no_approval(fake, make, body):
    """An answer that says nothing counts as a failure."""
    fake.good = lambda call: web.json_response(body)
    moderation = await make()

    with pytest.raises(UnavailableError):
        await pass_through(moderation, "a cat")


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"flagged": True},
        {"flagged": True, "categories": None},
        {"flagged": True, "categories": ["violence"]},
        {"flagged": True, "categories": {"violence": 1}},
        {"flagged": True, "categories": {}},
        {"categories": {}},
        {"flagged": True, "categories": {"violence": None}},
    ],
)
async def test_who_asks_for_categories_must_be_told_them(fake, make, result):
    """A flag alone says neither that it is one of them nor that it is none."""
    fake.good = lambda call: web.json_response({"results": [result]})

    with pytest.raises(UnavailableError):
        await pass_through(await make(categories=("violence",)), "a cat")


async def test_what_is_not_flagged_at_all_is_in_no_category(fake, make):
    """Some services name categories only where there is one."""
    fake.good = lambda call: web.json_response({"results": [{"flagged": False}]})

    await pass_through(await make(categories=("violence",)), "a cat")


async def test_flag_without_categories_refuses(fake, make):
    """The flag alone is enough."""
    fake.good = lambda call: web.json_response({"results": [{"flagged": True}]})

    with pytest.raises(RefusedError):
        await pass_through(await make(), "a cat")


def test_base_url_is_checked():
    """A mistake is told at the start."""
    with pytest.raises(ValueError, match="base_url"):
        Moderation(base_url="api.example")
