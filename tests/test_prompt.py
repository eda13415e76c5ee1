"""The reading of prompts: ratios, flags, clean text."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.prompt import clean_text, read_prompt
from gateway.settings import RATIOS
from gateway.values import Size

SQUARE = Size(1024, 1024)
WORKER_A = {name: RATIOS[name] for name in ("1:1", "1:2", "3:2", "3:4", "16:9", "9:16")}


def read(text, **options):
    reading = read_prompt(text, options.pop("ratios", RATIOS), SQUARE, **options)
    return reading.prompt, reading.aspect_ratio, str(reading.size)


@pytest.mark.parametrize(
    ("text", "prompt", "ratio"),
    [
        ("a cat 16:9", "a cat", "16:9"),
        ("16:9 a cat", "a cat", "16:9"),
        ("16:9, a cat", "a cat", "16:9"),
        ("a cat, 16:9, at night", "a cat, at night", "16:9"),
        ("a cat (16:9)", "a cat", "16:9"),
        ("a cat ( 16:9 ), at night", "a cat, at night", "16:9"),
        ("a cat [(16:9)] at night", "a cat at night", "16:9"),
        ("a cat 16:9.", "a cat.", "16:9"),
        ("A cat. 16:9.", "A cat.", "16:9"),
        ("a cat,16:9", "a cat", "16:9"),
        ("a cat 16:9!", "a cat!", "16:9"),
        ("a cat 16：9", "a cat", "16:9"),
        ("一只猫１６：９", "一只猫", "16:9"),
        ("一只猫16:9，夜晚", "一只猫，夜晚", "16:9"),
        ("一只猫，16：9，夜晚", "一只猫，夜晚", "16:9"),
        ("猫16:9的海报", "猫的海报", "16:9"),
        ("猫（16：9）", "猫", "16:9"),
        ("a cat 16 : 9", "a cat", "16:9"),
        ("a cat --ar 16:9", "a cat", "16:9"),
        ("a cat —ar 16:9 in a bar", "a cat in a bar", "16:9"),
        ("a cat --aspect=9:16", "a cat", "9:16"),
        ("a 16:9-format poster", "a format poster", "16:9"),
        ("first line\n16:9\nsecond line", "first line\nsecond line", "16:9"),
        ("a cat\n16:9", "a cat", "16:9"),
        ("16:9", "", "16:9"),
        ("(16:9).", "", "16:9"),
        ('"a cat 16:9"', '"a cat"', "16:9"),
        ("a 4:3 television, 21:9", "a 4:3 television", "21:9"),
        ("a cat (wide 16:9) at night", "a cat (wide) at night", "16:9"),
        ("a cat (16:9 wide) at night", "a cat (wide) at night", "16:9"),
        ('a sign 16:9 "hello"', 'a sign "hello"', "16:9"),
        ("16:9 a cat 7:5", "a cat 7:5", "16:9"),
        ("cat16:9", "cat", "16:9"),
        ("a red cat16:9, at night", "a red cat, at night", "16:9"),
    ],
)
def test_ratio_is_read_and_taken_out(text, prompt, ratio):
    """The last known ratio decides, and nothing of it is left behind."""
    assert read(text) == (prompt, ratio, str(RATIOS[ratio]))


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("clock at 10:30 in a bar, 16:9", "clock at 10:30 in a bar"),
        ("clock at 10:30, wide 16:9", "clock at 10:30, wide"),
        ("16:9 a clock that shows 10:30", "a clock that shows 10:30"),
        ("at 9:16 pm in a bar 16:9", "at 9:16 pm in a bar"),
        ("16:9 a station clock showing 9:16", "a station clock showing 9:16"),
        ("countdown 16:9:30, 16:9", "countdown 16:9:30"),
    ],
)
def test_time_of_day_stays_beside_a_ratio(text, prompt):
    """A time is drawn, the ratio beside it decides."""
    assert read(text) == (prompt, "16:9", "1024x576")


@pytest.mark.parametrize(
    "text",
    [
        "a clock at 10:30 in a bar",
        "3:45 pm on a beach",
        "it is 12:30:45",
        "at 9:16 pm",
        "at 9:16pm",
        "um 9:16 Uhr am Bahnhof",
        "早上9:16的车站",
        "16:9:30",
        "1:16:9",
        "116:9",
        "16:90",
        "16:09",
        "04:03",
        "ratio 7:5",
        'a scoreboard that reads "4:3" in the rain',
        "一块写着「4:3」的牌子",
        "version v4:3",
        "v4:3",
        "a1b4:3",
        "version 1.1:1",
        "2.35:1 film still",
        "http://example.test:8080/",
        "16: 9",
        "16:",
        ":9",
        "a cat",
        "",
    ],
)
def test_what_is_no_ratio_stays_word_for_word(text):
    """Unknown pairs, times and quoted pairs are words."""
    assert read(text) == (text, None, "1024x1024")


def test_ratio_like_a_time_is_a_ratio_without_a_clock():
    """9:16 is a portrait unless a clock stands beside it."""
    assert read("a portrait at 9:16") == ("a portrait at", "9:16", "576x1024")


def test_configured_ratio_is_known():
    """Ratios are what the caller says they are, fractions included."""
    assert read("a still, 2.35:1", ratios={"2.35:1": Size(1200, 512)}) == ("a still", "2.35:1", "1200x512")


def test_flags_are_taken_out_wherever_they_stand():
    """Every flag is removed and reported, other dashes stay."""
    reading = read_prompt("---ntl a cat ---tl --- 16:9 ---NTL", RATIOS, SQUARE)

    assert reading.prompt == "a cat ---"
    assert reading.aspect_ratio == "16:9"
    assert reading.flags == {"tl", "ntl"}


@pytest.mark.parametrize(
    ("text", "prompt", "written"),
    [
        ("a red fox ---ntl 3:4", "a red fox", "a red fox 3:4"),
        ("a red fox---tl 3:4", "a red fox", "a red fox 3:4"),
        ("一只狐狸---ntl 3:4", "一只狐狸", "一只狐狸 3:4"),
        ("---tl一只狐狸", "一只狐狸", "一只狐狸"),
        ("a fox ----tl ---tlx", "a fox ----tl ---tlx", "a fox ----tl ---tlx"),
    ],
)
def test_what_was_written_bears_no_flag(text, prompt, written):
    """As with Worker A: the ratio stays in what the answer calls the original prompt, the flag does not."""
    reading = read_prompt(text, RATIOS, SQUARE)

    assert (reading.prompt, reading.written) == (prompt, written)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clock at 10:30 in a bar 16:9", ("clock at  in a bar 16:9", None, "1024x1024")),
        ("clock at 10:30, wide 16:9", ("clock at , wide 16:9", "16:9", "1024x576")),
        ("a cat 4:3", ("a cat", None, "1024x1024")),
        ("a cat (16:9)", ("a cat (16:9)", None, "1024x1024")),
        ("a cat 16:9", ("a cat", "16:9", "1024x576")),
        ("a cat ---tl 9:16", ("a cat", "9:16", "576x1024")),
    ],
)
def test_legacy_reads_as_worker_a(text, expected):
    """The preset of Worker A may keep its rule, faults included."""
    assert read(text, ratios=WORKER_A, legacy=True) == expected


WORD = st.text(st.characters(codec="utf-8", categories=["Ll", "Lo"]), min_size=1, max_size=8)


@given(st.lists(WORD, max_size=8), st.lists(WORD, max_size=8), st.sampled_from(sorted(RATIOS)))
def test_no_word_is_ever_lost(before, after, ratio):
    """Whatever stands around a ratio is still there afterwards, in order."""
    reading = read_prompt(" ".join([*before, f"({ratio}),", *after]), RATIOS, SQUARE)

    assert re.findall(r"[^\s,]+", reading.prompt) == [*before, *after]


@given(st.text(max_size=200), st.booleans())
def test_reading_never_fails(text, legacy):
    """Any text can be read, and nothing is invented."""
    reading = read_prompt(text, RATIOS, SQUARE, legacy=legacy)

    assert len(reading.prompt) <= len(text)


RATIO_TEXT = st.lists(st.sampled_from(["16:9", "4:3", "10:30", "(", ")", ",", ".", "cat", " ", "：", "9", "---tl"]))


@given(RATIO_TEXT.map("".join))
def test_a_prompt_without_ratio_is_read_as_itself(text):
    """Reading again until nothing is found ends, and then changes nothing."""
    reading = read_prompt(text, RATIOS, SQUARE)
    for _ in range(len(text)):
        reading = read_prompt(reading.prompt, RATIOS, SQUARE)

    assert reading.aspect_ratio is None
    assert read_prompt(reading.prompt, RATIOS, SQUARE).prompt == reading.prompt


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\x00cat", "U+0000"),
        ("a\x1b[31mcat", "U+001B"),
        ("a\x85cat", "U+0085"),
        ("a\ud800cat", "surrogate"),
        ("x" * 32_001, "32001"),
    ],
)
def test_what_cannot_be_a_prompt_is_refused(text, words):
    """The refusal says what was found."""
    with pytest.raises(RequestError, match=re.escape(words)) as caught:
        clean_text(text, param="messages")

    assert caught.value.param == "messages"


@pytest.mark.parametrize("text", ["👩‍👩‍👧 family", "مرحبا", "\u202eabc", "e" + "\u0301" * 900, "x" * 32_000, "a\tb\nc"])
def test_unusual_text_is_kept(text):
    """Emoji, right-to-left text and long prompts pass unchanged."""
    assert clean_text(text) == text


@pytest.mark.parametrize("text", ["", "  \n\t ", "\u200b\u200b", "\u3000", "\ufeff"])
def test_text_that_shows_nothing_is_empty(text):
    """Spaces and zero-width characters are no prompt."""
    assert clean_text(text) == ""


def test_line_ends_are_made_alike():
    """Line separators of all kinds become newlines."""
    assert clean_text(" a\r\nb\rc\u2028d ") == "a\nb\nc\nd"


def test_many_digits_cost_no_time_in_the_old_reading():
    """Digits without a colon are passed over once, not once for each of them."""
    began = time.process_time()
    reading = read_prompt("1" * 32_000, RATIOS, SQUARE, legacy=True)

    assert time.process_time() - began < 0.2
    assert reading.aspect_ratio is None


@pytest.mark.parametrize("text", ['"16:9" ' * 4_500, "a-" * 10_000 + " ---tl" * 2_000], ids=["quotes", "flags"])
def test_many_quotes_ratios_and_flags_take_no_long_time(text):
    """Thousands of each held up everybody for a second."""
    began = time.process_time()
    read(text)

    assert time.process_time() - began < 0.25
