"""Answers the title, tag, follow-up and summary prompts that chat clients send by themselves, without a picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

Kind = str
"""``title``, ``summary``, ``tags``, ``follow_ups``, ``queries``, ``emoji``, ``tool_calls``, ``text`` or ``prompt``."""

NOTHING_SAID = "Picture"
EMOJI = "🎨"
SYSTEM = ("system", "developer")
MOST_SYSTEMS = 4
ALWAYS_JSON = ("tags", "follow_ups", "queries", "text", "prompt")
"""What Open WebUI reads as JSON, whatever its template says."""

OPEN_WEBUI = {
    "title": r"(?:Generate|Create) a concise, 3-5 word title",
    "tags": r"Generate 1-3 broad tags categorizing",
    "follow_ups": r"Suggest 3-5 relevant follow-up",
    "queries": r"Analyze the chat history to determine the necessity|Based on the chat history, determine",
    "text": r"You are an autocompletion system",
    "prompt": r"Generate a detailed prompt for an? ?m? image generation task",
}
OWN_TEMPLATE = re.compile(r"""["'](title|tags|follow_ups|queries)["']\s*:""")

TITLES = (
    # Open WebUI before its "### Task:" heading
    r"(?:Generate|Create) a concise, 3-5 word (?:title|phrase) (?:with an emoji )?(?:as|summarizing|for)",
    # NextChat
    r"Please generate a four to five word title summarizing our conversation",
    r"Use the language used by the user .{0,120}to generate a title .{0,30}summarizing our conversation",
    r"请?使用四到五个字直接返回这句话的简要主题",
    r"使用四到五個字直接返回這句話的簡要主題",
    r"4[~～〜-]5文字でこの(?:文章|会話)の簡潔な主題を",
    # LibreChat
    r"(?:Please )?(?:provide|generate) an? (?:extremely )?concise,? 5-word-or-less title for the conversation",
    r"Analyze this conversation and provide:\s*1\. The detected language",
    r"Detect user language and write in the same language an extremely concise title for this conversation",
    r"Please generate a concise title \(max 40 characters\) for a conversation that starts with",
    # Chatbox
    r"Based on the chat history, give this conversation a name\.",
    # NextChat in Japanese since 2.9
    r"この文の簡潔なテーマを四から五文字で返してください",
    # Continue
    r".{0,300}please reply with a title for the chat that is",
    # Zed, and what many smaller clients say in much the same words
    (
        r"(?:please )?(?:generate|create|write|provide|suggest|give me|come up with) an? (?:[\w’', -]{0,60} )?"
        r"(?:title|name|headline) "
        r"(?:for|of|that (?:summari[sz]es|describes)|summari[sz]ing|describing|to summari[sz]e) "
        r"(?:this|the|our|the following|the above|the current|the entire) (?:conversation|chat|dialogue|thread)\b"
        r"(?! (?:room|app|group|show|bot))"
    ),
    (
        r"(?:please )?(?:give|name|title) (?:this|our|the) (?:conversation|chat)"
        r"(?: an? (?:[\w-]+ ){0,3}(?:title|name))?\W*$"
    ),
)
TITLE_ASKED = re.compile("|".join(TITLES), re.IGNORECASE)
SUMMARY_ASKED = re.compile(
    r"Summarize the discussion briefly in 200 words or less to use as a prompt for future context"
    r"|简要总结一下对话内容，用作后续的上下文提示"
    r"|簡要總結一下(?:對話內容|你和使用者的對話)，用作後續的上下文提示"
    r"|あなたとユーザ.{0,20}(?:まとめて|要約し).{0,6}後続のコンテキストプロンプト"
    r"|Use the language used by the user .{0,120}to summari[sz]e the conversation in at most"
    r"|Faites un résumé succinct de la discussion"
    # SillyTavern
    r"|\[?(?:Ignore previous instructions\.|Pause your roleplay\.)\s*Summari[sz]e the most important (?:facts|events)"
    r"|(?:please )?summari[sz]e (?:this|our|the) (?:conversation|chat|discussion)(?: so far| above| briefly)?\W*$",
    re.IGNORECASE,
)
# Cherry Studio and LobeChat say it in the system message.
TITLE_ORDERED = re.compile(
    r"You are an assistant (?:skilled|who is good) (?:in|at) conversations?\.?\s+You need to summarize the user's"
    r" conversation into a title"
    r"|You are a professional conversation summarizer\. Generate a concise title"
    r"|Summarize the given (?:session|conversation) (?:as|into) a .{0,30}title"
    # big-AGI, HuggingChat
    r"|You are an AI conversation titles assistant"
    r"|You are a (?:chat thread titling|summarization) (?:assistant|AI)\b.{0,80}(?:title|conversation|summari)"
    r"|你是一名擅长会话的助理，你需要将用户的会话总结为"
    r"|总结给出的会话，将其总结为语言为.{1,20}字内标题",
    re.IGNORECASE,
)

FOLLOW_UPS_ASKED = re.compile(r"Suggest three very short factual follow-up questions", re.IGNORECASE)
EMOJI_ASKED = re.compile(r"Your task is to reflect the speaker['’]s likely facial expression", re.IGNORECASE)

SPOKEN = re.compile(
    r"^[ \t>|]*(?:user|human|用户)[ \t]*[:：][ \t]*(?:\n[ \t]*)?\"?(\S[^\n]*)", re.IGNORECASE | re.MULTILINE
)
APPENDED = re.compile(r"[\"“`]([^\"“”`\n]{2,500})[\"”`]\W*$")
TITLE_PROMPTED = re.compile(r"(?:title|summary|tags|tl;?dr)", re.IGNORECASE)
QUOTED_TURN = re.compile(r'"role"\s*:\s*"user"\s*,\s*"(?:mainText|content)"\s*:\s*("(?:[^"\\]|\\.)*")')
NOISE = re.compile(
    r"!?\[[^\[\]]*\]\([^()]*\)|https?://\S+|[0-9０-９]{1,4}[:：][0-9０-９]{1,4}|---?\w+|[#*_`<>{}|\"“”\\]"
)
CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
LISTED = 4_000
LONGEST_TEXT, MOST_TURNS = 32_000, 200
"""What is looked at: a conversation of megabytes must not hold up everybody else for a title."""


def answer_task(messages: Sequence[Any]) -> str | None:
    """Answer a client's own prompt in the conversation's words; None if a person asks for a picture.

    Each family is known by how it begins, word for word, so that ``a poster with the title …`` is still drawn: a title
    that costs a picture is a nuisance, but a person who gets words for a picture is lost.
    """
    said = [(message.get("role"), message) for message in messages if isinstance(message, Mapping)]
    if not said or not _has_words_alone(said[-1][1]):
        return None
    last = text_of(said[-1][1])
    standing = [text_of(message) for role, message in said[:-1] if role in SYSTEM][:MOST_SYSTEMS]
    kind, order = _order(said[-1][0], last, standing)
    if kind is None:
        return None
    turns = [(role, text_of(message)) for role, message in said[:-1] if role == "user"]
    asked = _asked_before(turns if order is last else [*turns, ("user", last)], last if order is last else "")
    return _answer(kind, order, asked)


def _answer(kind: Kind, order: str, asked: Sequence[str]) -> str:
    """Write what was ordered, as the JSON that the order shows if it shows any."""
    answers: dict[Kind, Callable[[], Any]] = {
        "title": lambda: _title(asked),
        "summary": lambda: "; ".join(asked)[:LISTED] or NOTHING_SAID,
        "tags": lambda: _tags(asked),
        "emoji": lambda: EMOJI,
        "prompt": lambda: asked[-1] if asked else "",
        "follow_ups": list,
        "queries": list,
        "tool_calls": list,
        "text": str,
    }
    value = answers[kind]()
    if re.search(rf"[\"']{kind}[\"']\s*:", order) or (kind in ALWAYS_JSON and order.startswith("### Task:")):
        return orjson.dumps({kind: value}).decode()
    if kind == "queries":
        return asked[-1] if asked else ""
    return ", ".join(value) if isinstance(value, list) else str(value)


def _has_words_alone(message: Mapping[str, Any]) -> bool:
    """Say whether no picture comes with a message: those that clients send by themselves bear none."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in parts)


def text_of(message: Mapping[str, Any]) -> str:
    """Join the text of a message, whether it is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content[:LONGEST_TEXT].strip()
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    return "\n".join(text for text in texts if isinstance(text, str))[:LONGEST_TEXT].strip()


def _order(role: Any, last: str, standing: Sequence[str]) -> tuple[Kind | None, str]:
    """Say which task it is, and in which text it was ordered: the last message, or a system message before it."""
    if role not in ("user", *SYSTEM):
        return None, ""
    if SUMMARY_ASKED.match(last):
        return "summary", last
    if last.startswith("### Task:"):
        return _open_webui_kind(last.removeprefix("### Task:").lstrip()), last
    if FOLLOW_UPS_ASKED.match(last):
        return "follow_ups", last
    if EMOJI_ASKED.match(last):
        return "emoji", last
    if TITLE_ASKED.match(last):
        return "title", last
    for text in standing:
        if text.startswith("Available Tools:") and "tool" in text[-2_000:]:
            return "tool_calls", text
        if TITLE_ORDERED.match(text) or TITLE_ASKED.match(text):
            return "title", text
    return None, ""


def _open_webui_kind(task: str) -> Kind | None:
    for kind, pattern in OPEN_WEBUI.items():
        if re.match(pattern, task, re.IGNORECASE):
            return kind
    if "<chat_history>" not in task:
        return None
    found = OWN_TEMPLATE.search(task.partition("<chat_history>")[0])
    return found[1] if found else None


def _asked_before(turns: Sequence[tuple[Any, str]], last: str) -> list[str]:
    """List what the person asked for: in the turns before, or in the history that the *last* message quotes."""
    said = [words for _, text in turns if text for words in _quoted(text) or [text]]
    if not said and last:
        history = last.partition("<chat_history>")[2].partition("</chat_history>")[0] or last
        said = _quoted(history) or _appended(last)
    if len(said) > MOST_TURNS:
        said = said[: MOST_TURNS // 2] + said[-MOST_TURNS // 2 :]
    clean = [" ".join(NOISE.sub(" ", turn[:2_000]).split()).strip(" ,;.:，。；：") for turn in said]
    return [turn for turn in clean if turn and not TITLE_PROMPTED.fullmatch(turn)]


def _quoted(history: str) -> list[str]:
    """Find what the user said in a conversation that a text quotes."""
    turns = [str(orjson.loads(found)) for found in QUOTED_TURN.findall(history) if _is_json(found)]
    return turns or SPOKEN.findall(history)


def _appended(order: str) -> list[str]:
    """Find the words that an order is about: behind its last colon that ends a line, or its last quotation."""
    _, found, after = order.rpartition(":\n")
    if found and after.strip():
        return [after.strip().partition("\n")[0]]
    quoted = APPENDED.search(order[-2_000:])
    return [quoted[1]] if quoted else []


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _title(asked: Sequence[str]) -> str:
    if not asked:
        return NOTHING_SAID
    words = asked[0].split()
    title = asked[0][:12] if len(words) < 3 and CJK.search(asked[0]) else " ".join(words[:6])
    return (title[:1].upper() + title[1:])[:60].rstrip(" ,;.:，。；：")


def _tags(asked: Sequence[str]) -> list[str]:
    words = dict.fromkeys(word.strip(",;.:!?()").capitalize() for text in asked for word in text.split())
    return [NOTHING_SAID, *[word for word in words if len(word) > 3 and word.isalpha()][:3]]
