"""Prompts taken out of the answers of chat models."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wording import count_words, fit_words, prompt_of_answer, without_thoughts


@pytest.mark.parametrize(
    ("answer", "said", "thought"),
    [
        ("a cat", "a cat", ""),
        ("<think>hm</think>a cat", "a cat", "hm"),
        ("<think>\nhm\n</think>\n\na cat\n", "a cat", "hm"),
        ("<THINKING>hm</THINKING>a cat", "a cat", "hm"),
        ("hm, a dog?</think>a cat", "a cat", "hm, a dog?"),
        ("<think>only thoughts", "", "only thoughts"),
        ("<think>I write <think> first.</think>a cat", "a cat", "I write  first."),
        ("<think>only thoughts</think>", "", "only thoughts"),
        ("a cat<think>was it good?</think>", "a cat", "was it good?"),
        ("a cat <think>unclosed", "a cat", "unclosed"),
        ("<think>a<think>b</think>c</think>a cat", "a cat", "abc"),
        ("<think>x</think>no</think>a cat", "a cat", "xno"),
        ("[THINK]hm[/THINK]a cat", "a cat", "hm"),
        ('hm[/THINK]a sign that says "[THINK]"', 'a sign that says "[THINK]"', "hm"),
        ("◁think▷hm◁/think▷a cat", "a cat", "hm"),
        ("<seed:think>hm</seed:think>a cat", "a cat", "hm"),
        ("<|begin_of_thought|>hm<|end_of_thought|>a cat", "a cat", "hm"),
        ("hm<|end_of_thought|>a cat", "a cat", "hm"),
        (
            "<|begin_of_thought|>hm<|end_of_thought|>\n\n<|begin_of_solution|>\na cat\n<|end_of_solution|>",
            "a cat",
            "hm",
        ),
        (
            "<|channel|>analysis<|message|>a dog?<|end|><|start|>assistant<|channel|>final<|message|>a cat<|return|>",
            "a cat",
            "<|channel|>analysis<|message|>a dog?<|end|><|start|>assistant",
        ),
        ("<|channel|>final<|message|>a cat", "a cat", ""),
        ("<|channel|>analysis<|message|>only a thought", "", "<|channel|>analysis<|message|>only a thought"),
        ("a < b, thinker </b>", "a < b, thinker </b>", ""),
    ],
)
def test_thoughts_are_never_drawn(answer, said, thought):
    """What was only thought is told apart, also where a tag is missing."""
    assert without_thoughts(answer) == (said, thought)


@given(st.lists(st.sampled_from(["<think>", "</think>", "x", " "])).map("".join))
def test_no_tag_is_left(answer):
    """Whatever the order of the tags, none is drawn."""
    assert "think>" not in without_thoughts(answer)[0]


@pytest.mark.parametrize(
    ("answer", "prompt"),
    [
        ("a cat, soft light", "a cat, soft light"),
        ('"a cat, soft light"', "a cat, soft light"),
        ("“a cat, soft light”", "a cat, soft light"),
        ("'a cat'", "a cat"),
        ("Prompt: a cat", "a cat"),
        ("**Prompt:** a cat", "a cat"),
        ("Optimized prompt: “a cat”", "a cat"),
        ("Sure! Here is the optimized prompt: a cat", "a cat"),
        ("Here's your prompt:\n\na cat", "a cat"),
        ("Output：a cat", "a cat"),
        ("优化后的提示词：a cat", "a cat"),
        ("```\na cat\n```", "a cat"),
        ("```text\na cat\n```", "a cat"),
        ("Here you go\n```\na cat\n```\nEnjoy!", "a cat"),
        ("```a cat```", "a cat"),
        ("- a cat\n- soft light", "a cat, soft light"),
        ("1. a cat,\n2. soft light", "a cat, soft light"),
        ("## a **fluffy** `cat`", "a fluffy cat"),
        ("a cat\x00\x1b[31m\ud800\u202e", "a cat[31m"),
        ('"OPEN" on a door, "CLOSED" on another', '"OPEN" on a door, "CLOSED" on another'),
        ('a sign that says "OPEN"', 'a sign that says "OPEN"'),
        ("a prompter on stage", "a prompter on stage"),
        ("a clock at 10:30", "a clock at 10:30"),
        ("", ""),
        ("```\n```", ""),
        ('""', '""'),
    ],
)
def test_only_the_prompt_is_taken(answer, prompt):
    """Fences, labels, bullets and quotation marks around the prompt go; those within stay."""
    assert prompt_of_answer(answer) == prompt


@given(st.text(max_size=300))
def test_any_answer_can_be_read(answer):
    """Whatever a model says, one clean line comes out."""
    prompt = prompt_of_answer(without_thoughts(answer)[0])

    assert not set(prompt) & {"\n", "\r", "\x00", "\x1b"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a cat, on - a sofa!", 5),
        ("一只毛茸茸的猫", 3.5),
        ("猫 and dog", 2.5),
        ('a sign "GRAND OPENING TODAY"', 5),
        ("", 0),
        ("한국어 고양이", 2),
    ],
)
def test_words_are_counted_in_every_script(text, words):
    """Spaces separate words; Chinese and Japanese have none."""
    assert count_words(text) == words


def test_whole_phrases_are_kept():
    """The cut falls between phrases."""
    assert fit_words("a fluffy cat, on a red sofa, in soft evening light", 8) == "a fluffy cat, on a red sofa"


def test_one_long_phrase_is_cut_between_words():
    """Where there is no phrase to end at, a word is."""
    assert fit_words("one two three four five", 3) == "one two three"


def test_quoted_text_is_kept_whole():
    """Text to be drawn survives, even at the end."""
    long = ", ".join(f"detail number {index}" for index in range(30))

    assert fit_words(f'{long}, a sign reading "GRAND, OPENING TODAY"', 20).endswith(
        'a sign reading "GRAND, OPENING TODAY"'
    )


def test_quoted_text_is_kept_within_one_phrase():
    """Without commas the words around the quotation give way."""
    assert fit_words('a very long description of a shop with the sign "OPEN ALL NIGHT" above it', 6) == (
        'a very long "OPEN ALL NIGHT"'
    )


def test_chinese_is_not_chopped():
    """A Chinese sentence of ordinary length passes, a very long one is cut at a phrase."""
    usual = "一只毛茸茸的橙色猫咪躺在红色的天鹅绒沙发上，窗外是黄昏的城市，柔和的光线，电影般的氛围，浅景深，超现实细节"

    assert fit_words(usual, 50) == usual
    assert fit_words("，".join([usual] * 4), 50).startswith(usual)
    assert count_words(fit_words("，".join([usual] * 4), 50)) <= 50


@given(st.text(st.sampled_from("ab ,猫\"“”'，;"), max_size=200), st.integers(1, 20))
def test_cut_text_has_no_new_words(text, limit):
    """Cutting only leaves out, and fits unless a quotation is longer than the limit."""
    cut = fit_words(text, limit)

    assert all(token in text for token in cut.split())
    assert count_words(cut) <= limit or any(mark in cut for mark in "\"“'")


@pytest.mark.parametrize(
    "text", ["<think>" * 30_000, '"' * 200_000, "`" * 200_000, "a," * 100_000, "猫" * 200_000, "'a" * 90_000]
)
def test_monstrous_answers_take_no_time(text):
    """A hostile upstream cannot block the loop by what it says."""
    began = time.perf_counter()
    fit_words(prompt_of_answer(without_thoughts(text)[0])[:4_000], 50)

    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    "answer",
    [
        "sure" + " " * 7_900 + "x",
        "sure" + "\t\n" * 3_900 + "x",
        "prompt" + " " * 7_900 + "x",
        "here is" + " *" * 3_900 + "x",
        "a" + "\n" * 7_900 + "b",
        "a</think>" * 100_000,
    ],
    ids=["opening", "lines", "label", "marks", "blank lines", "closing tags"],
)
def test_a_hostile_answer_costs_no_time(answer):
    """The answer of a model that wants to hold up everybody is read as fast as any other."""
    began = time.process_time()
    said, _ = without_thoughts(answer)
    prompt_of_answer(said)

    assert time.process_time() - began < 0.3


@pytest.mark.parametrize("bullet", ["-", "*", "1.", "##", ">"])
def test_bullets_without_words_are_taken_off(bullet):
    """A bullet that stands alone in its line is no part of the prompt."""
    assert prompt_of_answer(f"a cat\n{bullet}\n{bullet} red") == "a cat, red"
