"""Takes the prompt out of a chat model's answer, and cuts it to a number of words without breaking it."""

from __future__ import annotations

import re

THOUGHT = re.compile(
    r"</?(?:seed:)?(?:think|thinking|thought|thoughts|reasoning)\s*>|◁/?think▷|\A\s*+\[THINK\]|\[/THINK\]"
    r"|<\|(?:begin|end)_of_thought\|>",
    re.IGNORECASE,
)
ENDS = ("/", "end_of")
SOLUTION = re.compile(r"<\|(?:begin|end)_of_solution\|>")
FINAL = "<|channel|>final<|message|>"
THINKS = re.compile(r"<\|channel\|>(?:analysis|commentary)")
CONTROL = re.compile(r"<\|(?:start|end|return|channel|message)\|>.*", re.DOTALL)
"""The channels of gpt-oss (OpenAI's harmony format), where a server leaves them in the answer."""
FENCED = re.compile(r"```(?:[\w-]*\n)?(.*?)```", re.DOTALL)
LABEL = re.compile(
    r"(?:(?:sure|certainly|of course|okay|ok)[!,.]?\s++)?[*_#]*+\s*+"
    r"(?:here(?:['’]s| is)[^:：\n]{0,60}"
    r"|(?:the\s++)?(?:final |optimi[sz]ed |improved |enhanced |rewritten |image |english )*"
    r"(?:prompt|output|answer|result)"
    r"|(?:优化后的|最终|英文)?提示词|プロンプト)"
    r"\s*+[*_]*+\s*+[:：]\s*+[*_]*+\s*+",
    re.IGNORECASE,
)
"""Possessive throughout: an answer that is mostly white space must not be tried in every way that it can be split."""
BULLET = re.compile(r"^[^\S\n]*+(?:[-*•]|#{1,6}|>|\d{1,2}[.)])(?:[^\S\n]++|$)", re.MULTILINE)
EMPHASIS = re.compile(r"\*\*|__|`+")
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff\u200b\u2060\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
WRAPPED = ('""', "“”", "「」", "『』", "«»", "''", "‘’", "()", "[]")

QUOTED = (
    r"""(?<!\w)"[^"]{1,300}"|“[^”]{1,300}”|「[^」]{1,300}」|『[^』]{1,300}』|«[^»]{1,300}»|(?<!\w)'[^']{1,300}'(?!\w)"""
)
CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
PHRASE = re.compile(rf"((?:{QUOTED}|[^,，、;；])+)([,，、;；]*\s*)")
TOKEN = re.compile(rf"({QUOTED}|[{CJK}]|[^\s{CJK}]+)(\s*)")
HAS_QUOTE = re.compile(QUOTED)
CHARACTERS_PER_WORD = 2
"""Chinese and Japanese put no spaces between words; a word is about two characters long."""


def without_thoughts(text: str) -> tuple[str, str]:
    """Split an answer into what was meant to be read and what was only thought, in ``<think>`` or half of it, or
    in another channel."""
    before, final, after = text.rpartition(FINAL)
    if final:
        return CONTROL.sub("", after).strip(), before.strip()
    if THINKS.search(text):
        return "", text.strip()
    said: list[str] = []
    thought: list[str] = []
    thinking, position = False, 0
    for tag in THOUGHT.finditer(text):
        (thought if thinking else said).append(text[position : tag.start()])
        position = tag.end()
        if not any(mark in tag[0] for mark in ENDS):
            # Thoughts that speak of thinking go on to the first end of it.
            thinking = True
        elif thinking:
            thinking = False
        else:
            # A closing tag alone: the template of the model held the opening one.
            thought += said
            said = []
    (thought if thinking else said).append(text[position:])
    return SOLUTION.sub("", "".join(said)).strip(), "".join(thought).strip()


def prompt_of_answer(text: str) -> str:
    """Take off what models put around a prompt: fences, labels, bullets, emphasis, quotation marks."""
    fenced = FENCED.search(text)
    if fenced and fenced[1].strip():
        text = fenced[1]
    text = UNSEEN.sub("", text.replace("\r", "\n")).strip()
    for _ in range(2):
        text = LABEL.sub("", text, count=1) if LABEL.match(text) else text
    text = EMPHASIS.sub("", BULLET.sub("", text))
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    joined = " ".join(line if line[-1] in ",;.!?，。；、" else f"{line}," for line in lines).rstrip(",")
    return _unwrapped(" ".join(joined.split()))


def _unwrapped(text: str) -> str:
    """Take off quotation marks around the whole, unless they also stand within."""
    inner = text[1:-1]
    whole = len(text) > 2 and text[0] + text[-1] in WRAPPED
    return inner.strip() if whole and text[0] not in inner and text[-1] not in inner else text


def count_words(text: str) -> float:
    """Count words; two Chinese or Japanese characters count as one."""
    return sum(_weight(token[0]) for token in TOKEN.findall(text))


def _weight(token: str) -> float:
    if re.fullmatch(f"[{CJK}]", token):
        return 1 / CHARACTERS_PER_WORD
    if len(token) > 1 and HAS_QUOTE.fullmatch(token):
        return count_words(token[1:-1])
    return 1.0 if any(character.isalnum() for character in token) else 0.0


def fit_words(text: str, limit: int) -> str:
    """Cut *text* to at most *limit* words: whole phrases first, else words. Quoted text always stays whole."""
    if count_words(text) <= limit:
        return text
    phrases = _kept(PHRASE.findall(text), limit)
    if phrases and count_words(phrases) <= limit:
        return phrases
    return _kept(TOKEN.findall(phrases or text), limit)


def _kept(parts: list[tuple[str, str]], limit: int) -> str:
    """Keep every part with a quotation, and of the others as many from the start as there is room for."""
    quoted = [bool(HAS_QUOTE.search(part)) for part, _ in parts]
    room = limit - sum(count_words(part) for (part, _), held in zip(parts, quoted, strict=True) if held)
    kept, full, gone = [], False, False
    for (part, gap), held in zip(parts, quoted, strict=True):
        if not held:
            room -= count_words(part)
            full = full or room < 0
        if held or not full:
            # What stood apart must not grow together where something between was left out.
            kept.append((" " if gone else "") + part + gap)
        gone = full and not held
    return re.sub(r"(?<=\s) ", "", "".join(kept)).strip().rstrip(",，、;；").strip()
