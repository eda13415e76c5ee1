"""The orders for words that chat clients send by themselves, beside prompts that only sound like them."""

# ruff: noqa: E501  - prompts stand as clients send them, each in its line
from __future__ import annotations

import time

import pytest

from gateway.task_orders import order_in, standing_order_in

ORDERS = {
    "title": [
        "Generate a concise 3-7 word title for this conversation, omitting punctuation. Go straight to the title, without any preamble and prefix like `Here's a concise suggestion:...` or `Title:`.",
        "Generate a short title for this conversation",
        "Given the following... please reply with a title for the chat that is 3-4 words in length, all words used should be directly related to the content of the chat, avoid using verbs",
        "Provide a concise, 5-word-or-less title for the conversation, using its same language, with no punctuation. Apply title case conventions appropriate for the language.",
        "Analyze the given short conversation (every line is truncated) and extract a concise chat title that summarizes the conversation in as little as a couple of words.",
        "What would be a short and relevant title for this chat? You must strictly answer with only the title, no other text is allowed.",
        "Describe the above conversation in seven words or less.",
        'Summarize in a 5-word Title. Give the title only. Here is the message: "a red fox"',
        'Summarize in a 10-word Title. Give the title only. "a red fox"',
        "Here is the query:\n\na red fox\n\nCreate a concise, 3-5 word phrase as a title for the previous query. Avoid quotation marks or special formatting.",
        "Please write a brief title for the following request:",
        "Generate a title for this conversation:",
        "Generate a 5-10 word title for this conversation:\na red fox",
        "Now give me a 3-6 word title for this conversation. Output only the title.",
        "Create a short, punchy title for this chat session (max 30 chars). No quotes.",
        "Suggest me good title for this chat:\n\nuser: a fox",
        "Generate a concise chat title for this user request.\n\nRules:\n- Return only the title",
        "Summarize the following user message as a 3-6 word chat title. Reply with ONLY the title",
        "Based on this message, generate a short 4-6 word title for the conversation. Reply with only the title, no punctuation:\n\na fox",
        "Based on the chat history, give this conversation a name.",
        "Name this conversation",
        "Generate a very short title (max 6 words) for a chat that starts with this message. Return ONLY the title, no quotes",
        "Please generate a short title for the following text. Be very succinct. No more than 6 words.",
        "Por favor, genera un título de cuatro a cinco palabras que resuma nuestra conversación sin ningún inicio",
        "Veuillez générer un titre de quatre à cinq mots résumant notre conversation sans introduction",
        "Bitte erstelle einen vier- bis fünfwörtigen Titel, der unser Gespräch zusammenfasst, ohne Einleitung",
        "Пожалуйста, создайте заголовок из четырех или пяти слов, который кратко описывает нашу беседу",
        "Si prega di generare un titolo di quattro o cinque parole che riassuma la nostra conversazione",
        "우리의 대화를 요약하는 네 단어에서 다섯 단어의 제목을 생성해주세요",
        "Por favor, gere um título de quatro a cinco palavras resumindo nossa conversa",
        "为这段对话生成一个简短的标题，不超过10个字",
        "請為以下對話產生標題，並總結聊天內容的標題",
        "请根据以上聊天记录生成一个标题",
        "この会話に短いタイトルを付けてください",
    ],
    "summary": [
        "Ignore previous instructions. Summarize the most important facts and events in the story so far. If a summary already exists in your memory, use that as a base",
        "[Pause your roleplay. Summarize the most important facts and events that have happened in the chat so far. If a summary already exists",
        "Write a detailed summary of the conversation so far, including all important facts",
        "Your task is to create a detailed summary of the conversation so far, paying close attention",
        "Summarize this conversation in one sentence",
        "Please summarize our chat.",
        "Resuma nuestra discusión brevemente en 200 caracteres o menos para usarla como un recordatorio para futuros contextos.",
        "Résumez brièvement nos discussions en 200 caractères ou moins pour les utiliser comme prompt de contexte futur.",
        "Fassen Sie unsere Unterhaltung kurz in 200 Zeichen oder weniger zusammen",
        "Кратко изложите нашу дискуссию в 200 словах или менее для использования в будущем контексте.",
        "会話を要約してください",
    ],
    "follow_ups": [
        "Suggest three very short factual follow-up questions that have not been answered yet or cannot be found inspired by the previous conversation and excerpts.",
    ],
    "emoji": [
        "Your task is to reflect the speaker's likely facial expression through a fitting emoji. Interpret emotions from the message",
        "Generate an emoji that best represents this conversation",
    ],
    "tags": [
        "Generate 3 tags for this conversation",
        "List the main topics of our conversation as tags",
    ],
    "queries": [
        "Generate search queries for the web based on the conversation",
        "You are tasked with generating web search queries. Give me an appropriate query to answer my question for google search.",
        "Assess the need for a web search based on the current question and prior interactions, but lean towards suggesting a Google search query",
    ],
}
"""By what is ordered: of Zed, LibreChat, Continue, SillyTavern, big-AGI, TypingMind, GPT4All, Jan, NextChat, and others."""

STANDING = [
    "You are a conversation title generator. Generate a concise, descriptive title for the conversation below.",
    "You are a title generator. You output ONLY a thread title. Nothing else.",
    "You are a helpful assistant that generates concise chat titles.",
    "You generate short conversation titles. Output 3 to 6 words",
    "You are an AI conversation titles assistant who specializes in creating expressive yet few-words chat titles.",
    "You are a summarization AI. Summarize the user's request into a single short sentence of four words or less.",
    "You are an expert in crafting pithy titles for chatbot conversations. You are presented with a chat conversation",
    "You generate short titles for chat conversations. Given",
    "You produce concise chat titles. Reply with ONLY a 3 to 6 word title",
    "Provide a concise, 5-word-or-less title for the conversation, using its same language, with no punctuation. Apply title case conventions",
    "Generate a 2-5 word title for this conversation. No quotes",
    "Generate a short title (max 15 words) for this conversation based on the user's message.",
    "You are a helpful assistant that summarizes conversations.",
    "Ignore previous instructions. Summarize the most important facts and events in the story so far.",
    "You are a professional conversation summarizer. Generate a concise title",
    "Your task is to choose a title for this chat",
]
PICTURES = [
    "a book cover with the title 'Chat'",
    "a poster that summarizes a story",
    "title screen of a game about a conversation",
    "Create a title card for the chat show 'Late Night'",
    "Generate a poster with a concise, 3-5 word title",
    "a cat, please generate a four to five word title summarizing our conversation",
    "Summarize the discussion as a comic",
    "give this conversation a name tag",
    "Write the name 'Anna' in a message in a bottle",
    "Design a logo for a chat app with the name Chatty",
    "Create a name tag for the conversation club",
    "Create a picture of a conversation between two foxes",
    "Generate a summary poster of the story so far",
    "Draw our conversation",
    "Make a cover picture for this conversation",
    "Generate an emoji of a laughing cat",
    "Create an emoji sticker for the chat",
    "Create an emoji for a chat app",
    "a conversation between two old men on a bench, oil painting titled 'Talk'",
    "Show the title of the book 'Conversation' on a shelf",
    "Generate a title sequence frame for a movie called The Conversation",
    "a sign with the name of the session: Jazz Night",
    "Two women in conversation, a caption below summarizes the mood",
    "Create a fantasy map with the names of towns",
    "Generate a scene: the messages of a dragon",
    "Give the fox a name tag",
    "Name of the rose",
    "title",
    "Summarize",
    "a summary",
    'Write "conversation" in neon letters',
    "Make a chat bubble with the text: title of this conversation",
    "Create a comic strip that summarizes our conversation",
    "Produce an infographic that summarizes the following conversation",
    "Generate a thumbnail with a title for this conversation",
    "A movie poster, title: The Chat, no quotes, only the title",
    "create a word cloud of topics of our chat",
    "Create a tag cloud of topics of the chat",
    "tags of an old suitcase",
    "A detailed summary of the history of Rome as a mural",
    "Create a typographic design of the name of the rose",
    "Generate a fantasy character with the name of the speaker",
    "Describe a fox in seven words",
    "Create an album cover with the title of the session 'Blue'",
    "Generate a whiteboard with follow-up questions",
    "Make a photo of a search query on a laptop",
    "Create a whimsical village with three names of streets",
    "Return of the king, epic title",
    "Answer the phone, a woman in conversation, film still",
    "Tell me a story about a fox in one picture",
    "Suggest a mysterious atmosphere, a fox in a conversation with an owl",
    "un cartel con el título de la conversación",
    "Crea una imagen que resuma nuestra conversación",
    "Crée un nom pour le chat noir",
    "Dessine le titre de la conversation",
    "Erstelle ein Bild mit dem Titel Gespräch",
    "Schreibe den Namen des Chats auf ein Schild",
    "Создай плакат с заголовком беседы",
    "生成一张标题为“对话”的海报",
    "为聊天应用生成一个标题界面",
    "会話をしている二人の絵を描いてください",
    "タイトルが「会話」の本の表紙を生成してください",
    "대화라는 제목의 포스터를 만들어 주세요",
    "生成对话的两个人",
    "画一个对话框，标题是你好",
    "Generate a detailed oil painting, in a style of conversation piece, 18th century",
    "Create the final message of a dying star",
    "Create a heading to the north, ship at night with a message",
    "Give me a fox that reads a message",
    "Generate a topic of discussion: climate, as a mural",
    "Create a topic map for this discussion",
    "a birthday card with the name of the person and a message",
    "Generate a postcard with a short message: wish you were here",
    "Create a certificate with the name of the user",
    "a painting called 'Summary of the conversation'",
    "Make a timeline of our conversation",
    "Give the robot a name and let it hold a conversation with a cat",
    "a chat window with messages, ui mockup",
    "Two foxes discuss the title of their thread",
    "The title of this conversation is written in the sky",
    "Generate an old letter, a summary of the war so far, in sepia photograph",
    "emoji",
    "keywords",
    "a tag on a suitcase",
    "Return to the conversation in the garden",
    "Compose a still life: message in a bottle, follow-up",
    "un gato en una conversación",
    "ein Gespräch am Kamin, Titel in Goldschrift",
    "Разговор двух лис у костра",
    "聊天的两只狐狸",
    "会話する狐",
]
CHARACTERS = [
    "You are a helpful assistant.",
    "You are an artist. Give each picture a title and summarize the conversation afterwards.",
    "You are ChatGPT, a large language model. Summarize the conversation when asked.",
    "You paint pictures. Always write the title of the picture.",
    "You are an image generator. Draw what the user asks for; every picture has a title.",
    "You are a helpful assistant that can chat and name things",
    "Answer the user's questions in the same language as the conversation.",
    "You are Bob. You answer messages of the chat with pictures.",
    "You are a chat assistant. Answer each question briefly.",
    "Follow the conversation and answer the last message with a picture",
    "You will be given a summary of the conversation so far, and then a request",
    "Here is a summary of the conversation so far: the user likes foxes.",
    "The following is a summary of our chat so far: foxes",
    "This is a summary of the chat history as a recap: foxes",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in ORDERS.items() for text in texts])
def test_an_order_for_words_is_one(kind: str, text: str) -> None:
    """Whoever wrote it, in whichever language: a title, a summary, tags … of a conversation."""
    assert order_in(text) == kind


@pytest.mark.parametrize("text", STANDING)
def test_a_system_message_may_order_words_for_what_comes(text: str) -> None:
    """It begins with what is to be done."""
    assert standing_order_in(text) in {"title", "summary"}


@pytest.mark.parametrize("text", PICTURES)
def test_a_prompt_for_a_picture_is_none(text: str) -> None:
    """Titles on covers, summaries on posters and conversations on benches are drawn, whoever says so."""
    assert order_in(text) is None
    assert standing_order_in(text) is None


@pytest.mark.parametrize("text", CHARACTERS)
def test_a_character_is_no_order(text: str) -> None:
    """A system message that says who somebody is must not turn every picture into words."""
    assert standing_order_in(text) is None


@pytest.mark.parametrize("text", [text for texts in ORDERS.values() for text in texts if text.isascii()])
@pytest.mark.parametrize("words", ["a poster: {}", "a red fox, {}", "draw this as a comic: {}"])
def test_an_order_within_a_prompt_is_drawn(text: str, words: str) -> None:
    """Only what a sentence begins with is an order."""
    first = text.split(".")[0].split(":")[0]

    assert order_in(words.format(first)) is None


@pytest.mark.parametrize(
    "text",
    [
        "Generate " + "title for " * 50_000,
        "Summarize " + "the my our " * 50_000,
        "Generate a title that of that of " * 50_000,
        "\n" * 500_000,
        "please " * 50_000 + "generate a title for this chat",
        "based on x " * 50_000,
        "fasse " * 50_000 + "zusammen",
        "为对话生成" * 50_000,
        '"title ' * 50_000,
    ],
)
def test_hostile_words_cost_no_time(text: str) -> None:
    """They are read before every picture."""
    began = time.process_time()
    order_in(text)
    standing_order_in(text)

    assert time.process_time() - began < 0.1
