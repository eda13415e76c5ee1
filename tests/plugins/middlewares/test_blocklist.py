"""Words and patterns that are refused."""

import time
from dataclasses import replace

import pytest
from gateway_plugins.middlewares.blocklist import Blocklist
from hypothesis import given
from hypothesis import strategies as st

from gateway import Caller, ImageRequest, Middleware, RefusedError, Work


async def pass_through(blocklist, prompt, better=None):
    async def optimize(work):
        return replace(work, request=replace(work.request, prompt=better)) if better else work

    return await blocklist.around("optimize", Work("job-1", Caller("alice"), ImageRequest(prompt), prompt), optimize)


async def refused(blocklist, prompt, better=None):
    try:
        await pass_through(blocklist, prompt, better)
    except RefusedError:
        return True
    return False


def test_it_fulfils_the_contract():
    """It stands around the optimizers."""
    assert isinstance(Blocklist(words=("x",)), Middleware)


@pytest.mark.parametrize(
    "prompt",
    [
        "gore",
        "GORE!",
        "some gore, please",
        "ｇｏｒｅ",
        "g\u200bore",
        "gore\u00ad",
        "g\u034fore",
        "g\ufe0fore",
        "g\u3164ore",
        "g\u115fore",
        "g\u180bore",
        "g\u17b4ore",
        "g\U000e0100ore",
        "a _gore_ scene",
        "__gore__",
        "cafe\u200b\u0301",
        "cafe\u200d\u0301",
        "(gore)",
        "gore's",
        "bad  \n phrase",
        "血腥的画面",
        "CAFÉ",
        "CAFE\u0301",
        "c++ code",
    ],
)
async def test_blocked_words_are_found_in_disguise(prompt):
    """Case, width, invisible characters and composed accents make no difference."""
    assert await refused(Blocklist(words=("gore", "bad phrase", "血腥", "café", "C++")), prompt)


@pytest.mark.parametrize("pattern", ["scheiße", "血，腥", "！", "½", "ｇ", "ﬁlm"])
def test_a_pattern_that_no_prompt_could_match_is_refused(pattern):
    """Prompts are searched as they are folded; nobody would be told that it refuses nothing."""
    with pytest.raises(ValueError, match="for which prompts are searched as"):
        Blocklist(patterns=(pattern,))


@pytest.mark.parametrize(
    ("pattern", "prompt"),
    [
        ("cafe\u0301", "Café"),
        ("naïve", "NAÏVE"),
        ("血腥", "血腥"),
        ("ÄRGER", "ärger"),
        ("φόνος", "ΦΌΝΟΣ"),
        ("ſex", "sex"),
        ("[\u0300-\u036f]x", "q\u0300x"),
    ],
)
async def test_patterns_of_other_letters_match(pattern, prompt):
    """Composed or not, small or large."""
    assert await refused(Blocklist(patterns=(pattern,)), prompt)


@pytest.mark.parametrize("prompt", ["gorey", "Gregore", "category", "bad", "phrase bad", "c", "bad, phrase"])
async def test_other_words_pass(prompt):
    """Only whole words and whole phrases are refused."""
    assert not await refused(Blocklist(words=("gore", "bad phrase", "c++")), prompt)


async def test_what_the_optimizer_made_is_checked_too():
    """A model may not bring in what a caller may not say."""
    assert await refused(Blocklist(words=("gore",)), "a cat", better="a cat with gore")


async def test_refused_word_is_not_told():
    """The list cannot be read out by trying."""
    with pytest.raises(RefusedError) as caught:
        await pass_through(Blocklist(words=("gore",)), "so much gore")

    assert "gore" not in caught.value.message
    assert "content policy" in caught.value.message
    assert (caught.value.status, caught.value.code) == (400, "content_policy_violation")


async def test_patterns_are_searched_without_case():
    """A regular expression stands for many words."""
    blocklist = Blocklist(patterns=(r"\bkill(s|ed|ing)?\b", r"nude.{0,20}child"))

    assert await refused(blocklist, "someone KILLED")
    assert await refused(blocklist, "x " * 3_000 + "killing")
    assert not await refused(blocklist, "a skilled painter")


async def test_words_from_a_file(tmp_path):
    """One word per line; comments and empty lines do not count."""
    (tmp_path / "words.txt").write_text("# forbidden\n\n gore \nbad phrase\n")
    blocklist = Blocklist(file=tmp_path / "words.txt")

    assert await refused(blocklist, "a bad phrase")
    assert not await refused(blocklist, "forbidden")


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+",
        "(a*)*b",
        "(?:a|aa)+$",
        "(a|b)*c",
        "((a{2,}))+",
        "(?P<x>a+)+",
        ".*a.*b.*c",
        "(x+x+)+y",
        "(",
        "[",
        "a*",
        "",
        "(?:a?){20}",
    ],
)
def test_pattern_that_runs_away_or_matches_all_is_refused(pattern):
    """A pattern that could block the gateway stops the start."""
    with pytest.raises(ValueError, match="pattern"):
        Blocklist(patterns=(pattern,))


@pytest.mark.parametrize(
    "pattern",
    [
        "kill",
        r"kill(ed)?\b",
        r"a\+b",
        "[*+]x",
        r"\(a\)+",
        "(?i:nude)",
        "(?:a|b)c",
        r"foo\s+bar",
        "x{3}",
        "[^]]y",
        "(?<!a)b",
    ],
)
def test_innocent_patterns_are_taken(pattern):
    """Ordinary patterns are no danger."""
    assert Blocklist(patterns=(pattern,))


@pytest.mark.parametrize("options", [{}, {"words": ("", " ")}, {"words": ("\u200b",)}])
def test_empty_list_is_refused(options):
    """A list that refuses nothing is a mistake."""
    with pytest.raises(ValueError, match="refuses nothing"):
        Blocklist(**options)


def test_missing_file_is_told(tmp_path):
    """A list that is not there does not mean that all is allowed."""
    with pytest.raises(ValueError, match="there is no file"):
        Blocklist(file=tmp_path / "none.txt")


async def test_longest_prompts_take_no_time():
    """Thousands of words against the longest prompt."""
    blocklist = Blocklist(words=tuple(f"word{index}" for index in range(3_000)), patterns=("a.*b",))
    began = time.perf_counter()
    await pass_through(blocklist, "aword " * 5_000)

    assert time.perf_counter() - began < 1


@given(st.text(max_size=60), st.text(max_size=60))
async def test_a_blocked_word_is_found_anywhere(before, after):
    """Whatever stands around it, with spaces between."""
    assert await refused(Blocklist(words=("gore",)), f"{before} gore {after}")


async def test_piled_up_accents_cost_no_time():
    """Thousands of combining marks on one letter hide no word, and need not be sorted."""
    blocklist = Blocklist(words=("blood",))
    began = time.process_time()
    await pass_through(blocklist, "a" + "\u0301\u0316" * 16_000)

    assert time.process_time() - began < 0.3
    assert await refused(blocklist, "bl" + "\u200b" * 40 + "ood" + " x" * 15_000)
