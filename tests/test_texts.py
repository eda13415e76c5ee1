"""The words of answers and progress."""

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import Language
from gateway.texts import answer_text, escape, load_locale, make_template, progress_text
from gateway.values import Size

LANGUAGES = get_args(Language)
URL = "https://gateway.example/image/AbC"
EVENTS = ("accepted", "queued", "optimizing", "optimized", "generating", "progress", "partial", "attempt_failed")
EVENTS += ("generated", "storing", "stored", "finished", "failed", "cancelled")
FOREIGN = re.compile(r"(?<!\\)!?(?<!\\)\[[^\]]*(?<!\\)\]\(|(?<!\\)<|(?<!\\)`")


def write(template=None, language="en", **values):
    defaults = {"original": "a cat 16:9", "prompt": "a fluffy cat", "optimizer": "gpt", "size": Size(1024, 576)}
    return answer_text(make_template(template, language), **{**defaults, "urls": [URL], "model": "flux", **values})


def test_english_answer_is_worker_a_s():
    """The seven lines of Worker A, letter for letter."""
    assert write() == (
        "🎨 Original Prompt: a cat 16:9\n💬 Prompt Model: gpt\n🌐 Translated Prompt: a fluffy cat\n"
        "📐 Image Size: 1024x576\n🌟 Image Successfully Generated!\nHere is the result:\n\n"
        f"![Generated Image]({URL})"
    )


def test_without_optimizer_the_original_prompt_is_named():
    """Worker A names the prompt itself where no model changed it."""
    assert "💬 Prompt Model: Original Prompt\n" in write(optimizer=None)


def test_worker_b_answer():
    """The form that clients of Worker B know."""
    assert write("worker-b") == f"![Image]({URL})\n\nOptimized prompt: a fluffy cat"


def test_plain_answer_is_only_the_picture():
    """Nothing but the Markdown of the picture."""
    assert write("plain") == f"![Generated Image]({URL})"


@pytest.mark.parametrize("template", [None, "worker-b", "plain", "{size}: ![x]({url})"])
def test_every_picture_is_shown(template):
    """Several pictures are several images."""
    text = write(template, urls=[f"{URL}1", f"{URL}2", f"{URL}3"])

    assert re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text) == [f"{URL}1", f"{URL}2", f"{URL}3"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_is_complete(language):
    """Each language has every line of English, with the same placeholders."""
    english, locale = load_locale("en"), load_locale(language)

    assert locale.progress.keys() == english.progress.keys()
    assert locale.answer.count("\n") == english.answer.count("\n") == 7
    assert all(re.findall("{.*?}", locale.progress[k]) == re.findall("{.*?}", v) for k, v in english.progress.items())
    assert [line[0] for line in locale.answer.split("\n")[:5]] == ["🎨", "💬", "🌐", "📐", "🌟"]
    assert sorted(re.findall("{.*?}", locale.answer)) == sorted(re.findall("{.*?}", english.answer))


def test_languages_differ():
    """No language is a copy of another."""
    assert len({load_locale(language).answer for language in LANGUAGES}) == 8
    assert len({tuple(load_locale(language).progress.values()) for language in LANGUAGES}) == 8


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{promt} {url}", "{promt}; did you mean {prompt}?"),
        ("{sentence} {url}", "unknown placeholder {sentence}"),
        ("{url.__class__}", "unknown placeholder {url.__class__}"),
        ("{} {url}", "unknown placeholder {}"),
        ("{url!r}", "takes no format"),
        ("{url:>9}", "takes no format"),
        ("{url", "cannot be read"),
        ("url}", "cannot be read"),
        ("{prompt}", "shows no picture"),
        ("", "shows no picture"),
        ("{{url}}", "shows no picture"),
    ],
)
def test_bad_template_is_refused(template, words):
    """A template is checked when it is loaded, not when a picture has been paid for."""
    with pytest.raises(ValueError, match=re.escape(words)):
        make_template(template, "en")


def test_unknown_placeholder_names_the_known_ones():
    """The complaint lists what may stand there."""
    with pytest.raises(ValueError, match=r"known: \{model\}, \{optimizer\}, \{original\}"):
        make_template("{nonsense} {url}", "en")


def test_braces_in_values_and_templates_are_text():
    """Braces in a prompt are not placeholders; doubled ones in a template are braces."""
    text = write("{{{prompt}}} {{url}} {url}", prompt="{url} {x}")

    assert text == "{{url} {x}} {url} " + URL


@pytest.mark.parametrize(
    "evil",
    [
        "![x](http://evil.example/?c)",
        "\\![x](http://evil.example/?c)",
        "](javascript:alert(1))",
        "[click](javascript:alert(1))",
        "<img src=x onerror=alert(1)>",
        "\\<script>",
        "`code` ```\nblock",
        "one\n\n![x][y]\n\n[y]: http://evil.example/",
        "a\u2028![x](y)",
        "<!-- comment",
        "[x]: <http://evil.example>",
    ],
)
def test_echoed_words_bring_no_markdown_of_their_own(evil):
    """The only image in an answer is ours, and every line is ours."""
    text = write(original=evil, prompt=evil, optimizer=evil)

    assert FOREIGN.findall(text) == ["![Generated Image]("]
    assert text.count("\n") == 7


@given(st.text(max_size=80))
def test_no_text_at_all_can_bring_markdown(evil):
    """Any text stays text: unescaped openers are only in our own picture."""
    text = write("{prompt}|{url}", prompt=evil).rpartition("|")[0]

    assert not re.search(r"(?<!\\)(?:\\\\)*[`<\[\]]", text)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text)


def test_markdown_link_is_not_cut():
    """Parentheses and spaces in an address are encoded."""
    assert write("plain", urls=["https://g.example/a (1).png"]) == (
        "![Generated Image](https://g.example/a%20%281%29.png)"
    )


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("event", EVENTS)
def test_progress_needs_no_data(event, language):
    """An event without data is told in general words or not at all."""
    text = progress_text(event, {}, language)

    assert text is None or ("{" not in text and "\n" not in text)


@pytest.mark.parametrize(
    ("event", "data", "text"),
    [
        ("queued", {"position": 3}, "⏳ Waiting for a free place, number 3 in the queue…"),
        ("queued", {}, "⏳ Waiting for a free place…"),
        ("progress", {"done": 0.5}, "🖌️ 50 % drawn"),
        ("progress", {"done": 1}, "🖌️ 100 % drawn"),
        ("progress", {"done": float("nan")}, None),
        ("progress", {"done": "half"}, None),
        ("optimized", {"prompt": "a cat ![x](y)"}, "✨ Improved prompt: a cat !\\[x\\](y)"),
        ("optimized", {"prompt": None}, None),
        ("optimized", {"prompt": "a cat", "optimizer": "gpt"}, "✨ Improved prompt: a cat"),
        ("optimized", {"prompt": "a cat", "optimizer": None}, None),
        ("accepted", {}, None),
        ("finished", {}, None),
        ("queued_at", {}, None),
        ("nonsense", {}, None),
    ],
)
def test_progress_in_words(event, data, text):
    """Steps are told with what is known of them."""
    assert progress_text(event, data, "en") == text


def test_tildes_begin_no_code():
    """A template may begin a line with the prompt: a fence that nothing closes would swallow the picture."""
    assert escape("~~~ a cat ~ ~~~") == r"\~~~ a cat ~ ~~~"
    assert escape("\n ~~~a") == r"\~~~a"


@pytest.mark.parametrize(
    "words",
    [
        "see https://evil.example/?c=1",
        "HTTP://evil.example",
        "ftp://x",
        "www.evil.example",
        "WWW.evil.example",
        "a@b.example",
    ],
)
def test_bare_links_of_others_are_no_links(words):
    """Chat clients make links of addresses without any brackets; those of a caller or a model stay words."""
    written = escape(words)

    assert not re.search(r"://|www\.|\w@\w", written, re.IGNORECASE)
    assert written.replace("\\", "") == words
