"""Reads what a person typed: the aspect ratio, flags of older clients, and the words that are left to draw."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.errors import RequestError
from gateway.values import Size

LONGEST = 32_000
MOST_FLAGS = 32
"""Flags that are taken out of a prompt; each looks through all of it."""
DIGIT = "[0-9０-９]"
COLONS = ":：∶"
COLON = f"[{COLONS}]"
NUMBER = rf"{DIGIT}{{1,4}}(?:[.．]{DIGIT}{{1,3}})?"

RATIO = re.compile(
    rf"(?P<label>(?<!\S)(?:--|—|–)(?:ar|aspect)[\s=]+)?"
    rf"(?<![0-9０-９:：∶])(?<!{DIGIT}[.．])(?<!^[A-Za-z])(?<![^A-Za-z][A-Za-z])"
    rf"(?P<width>{NUMBER})(?P<gap>\s?){COLON}(?P=gap)(?P<height>{NUMBER})"
    rf"(?!{DIGIT}|\s?{COLON}\s?{DIGIT}|[A-Za-z%°])"
    rf"(?P<hyphen>-(?=[A-Za-z]))?"
)
LEGACY_RATIO = re.compile(r"(?<![0-9])([0-9]+:[0-9]+)(?:\s|\Z)")
LEGACY_PAIR = re.compile(r"(?<![0-9])[0-9]+:[0-9]+")
FLAG = re.compile(r"(?<!-)---(n?tl)(?![-A-Za-z0-9_])", re.IGNORECASE)
QUOTED = re.compile(
    r"""(?<!\w)"[^"\n]{1,300}"(?!\w)|“[^”\n]{1,300}”|「[^」\n]{1,300}」|『[^』\n]{1,300}』|«[^»\n]{1,300}»"""
)

# Only a two-digit minute can be a time, so only 9:16 and its like need these.
CLOCK_AFTER = re.compile(
    r"\s{0,2}(?:[ap]\.?\s?m\b|o['’]clock\b|uhr\b|h\b|hrs?\b|hours?\b|час|点|點|时|時)", re.IGNORECASE
)
CLOCK_BEFORE = re.compile(
    r"(?:\b(?:clock|watch|alarm|time|uhr|uhrzeit|reloj|horloge|montre|heure|hora|час\w*|время)\b[^,.;!?\n]{0,24}"
    r"|(?:时间|時間|时钟|時鐘|時計|上午|下午|早上|晚上|午前|午後))\s*$",
    re.IGNORECASE,
)

BRACKETS = {"(": ")", "[": "]", "{": "}", "（": "）", "【": "】", "［": "］", "〔": "〕", "<": ">"}
CLOSERS = "".join(BRACKETS.values()) + "”」』»"
SEPARATORS = ",;，、；|"
STOPS = ".!?。！？"
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class PromptReading:
    """What was read: *prompt* is empty if there was nothing but a ratio; *aspect_ratio* is None if none was known.

    *written* is the text as it was written, but for the *flags*.
    """

    prompt: str
    size: Size
    aspect_ratio: str | None = None
    flags: frozenset[str] = frozenset()
    written: str = ""


def clean_text(text: str, limit: int = LONGEST, param: str = "prompt") -> str:
    """Strip *text*; refuse what cannot be a prompt. Text that shows nothing (spaces, zero width) becomes empty.

    *limit* is in code points. Emoji, right-to-left text and the joiners they need stay as they are.
    """
    if len(text) > limit:
        raise RequestError(f"the {param} is {len(text)} characters long; at most {limit} are taken", param=param)
    if text.isascii() and text.isprintable():
        return text.strip()
    if SURROGATE.search(text):
        raise RequestError(f"the {param} contains half of a surrogate pair, which is not a character", param=param)
    if found := CONTROL.search(text):
        raise RequestError(f"the {param} contains the control character U+{ord(found[0]):04X}", param=param)
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n").strip()
    return text if any(unicodedata.category(character) not in ("Cf", "Zs", "Cc") for character in text) else ""


def read_prompt(text: str, ratios: Mapping[str, Size], default: Size, legacy: bool = False) -> PromptReading:
    """Find the last known ratio in *text* and take it out; *default* is the size without one.

    ``16:9``, ``16：9``, ``(16:9)``, ``16:9.`` and ``--ar 16:9`` are read. A ratio that is not in *ratios*, a time of
    day and quoted text are words to draw and stay. Flags ``---tl`` and ``---ntl`` are taken out, wherever they stand.
    *legacy* reads as Worker A did: the first pair followed by white space decides, known or not.
    """
    flags = frozenset(flag.lower() for flag in FLAG.findall(text)) if "---" in text else frozenset[str]()
    for _ in range(MOST_FLAGS if flags else 0):
        if (found := FLAG.search(text)) is None:
            break
        text = _cut(text, found.start(), found.end())
    written = text.strip()
    if not any(colon in text for colon in COLONS):
        return PromptReading(written, default, None, flags, written)
    reading = _read_legacy(text, ratios, default, flags) if legacy else _read_last(text, ratios, default, flags)
    return replace(reading, written=written)


def _read_last(text: str, ratios: Mapping[str, Size], default: Size, flags: frozenset[str]) -> PromptReading:
    quoted = [found.span() for found in QUOTED.finditer(text) if found.span() != (0, len(text))]
    starts = [start for start, _ in quoted]
    chosen: tuple[re.Match[str], str] | None = None
    for found in RATIO.finditer(text):
        ratio = unicodedata.normalize("NFKC", f"{found['width']}:{found['height']}")
        before = bisect_left(starts, found.start("width")) - 1
        drawn = before >= 0 and found.start("width") < quoted[before][1]
        if ratio in ratios and not drawn and not _is_time(text, found, ratio):
            chosen = (found, ratio)
    if chosen is None:
        return PromptReading(text.strip(), default, None, flags)
    found, ratio = chosen
    return PromptReading(_cut(text, found.start(), found.end()), ratios[ratio], ratio, flags)


def _read_legacy(text: str, ratios: Mapping[str, Size], default: Size, flags: frozenset[str]) -> PromptReading:
    found = LEGACY_RATIO.search(text)
    if not found:
        return PromptReading(text.strip(), default, None, flags)
    ratio = found[1]
    # Worker A took out the first pair, even where a later one had decided.
    prompt = LEGACY_PAIR.sub("", text, count=1).strip()
    return PromptReading(prompt, ratios.get(ratio, default), ratio if ratio in ratios else None, flags)


def _is_time(text: str, found: re.Match[str], ratio: str) -> bool:
    hour, _, minute = ratio.partition(":")
    if found["label"] or len(minute) != 2 or not (hour + minute).isdigit() or int(hour) > 24 or int(minute) > 59:
        return False
    before = text[max(0, found.start() - 48) : found.start()]
    return bool(CLOCK_AFTER.match(text, found.end("height")) or CLOCK_BEFORE.search(before))


def _cut(text: str, start: int, end: int) -> str:
    """Take out a span with the brackets, commas and spaces that only it needed."""
    left, right = text[:start], text[end:]
    while (opening := left.rstrip()[-1:]) in BRACKETS and right.lstrip()[:1] == BRACKETS[opening]:
        left, right = left.rstrip()[:-1], right.lstrip()[1:]
    before, after = left.rstrip(), right.lstrip()
    space = left[len(before) :] + right[: len(right) - len(after)]
    if not after or after[0] in SEPARATORS + STOPS:
        before = before.rstrip(SEPARATORS + " \t")
        if after[:1] in STOPS and before[-1:] in STOPS:
            after = after[1:].lstrip()
    if not before:
        after = after.lstrip(SEPARATORS + STOPS + " \t\n")
    return (before + _glue(before, space, after) + after).strip()


def _glue(before: str, space: str, after: str) -> str:
    """Say what goes between two parts that had *space* between them."""
    closed = not after or after[0] in SEPARATORS + STOPS + CLOSERS or re.match(r'"(?!\w)', after)
    if closed or before[-1:] in BRACKETS:
        return ""
    return "\n" if "\n" in space else space[:1]
