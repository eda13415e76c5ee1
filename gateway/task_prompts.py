"""How the prompts begin that chat clients send by themselves, word for word: whatever else is said is a picture."""

from __future__ import annotations

import re

OPEN_WEBUI = {
    "title": r"(?:Generate|Create) a concise, 3-5 word title",
    "tags": r"Generate 1-3 broad tags categorizing",
    "follow_ups": r"Suggest 3-5 relevant follow-up",
    "queries": r"Analyze the chat history to determine the necessity|Based on the chat history, determine",
    "text": r"You are an autocompletion system",
    "prompt": r"Generate a detailed prompt for an? ?m? image generation task",
}
OWN_TEMPLATE = re.compile(r"""["'](title|tags|follow_ups|queries)["']\s*:""")

DESCRIBING = (
    r"(?:very|extremely|really|short|concise|brief|succinct|descriptive|clear|simple|catchy|creative|relevant|suitable"
    r"|appropriate|meaningful|informative|specific|good|fitting|new|single|one|two|three|four|five|six|to|or|less|fewer"
    r"|max|maximum|[0-9]+|words?|lines?|characters?|conversation|chat|topic|and|but|yet|engaging|memorable|unique"
    r"|accurate|helpful|plain|text|summary|title|case)"
)
"""What may be said of a title; with any other word it is a poster with a title, or its like."""
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
    # NextChat in other languages
    r"この文の簡潔なテーマを四から五文字で返してください",
    r"네 글자에서 다섯 글자로 이 문장의 간략한 주제를 반환",
    r"Укажите краткую тему этого сообщения в четырех-пяти словах",
    r"Devuelve un tema breve de esta frase en cuatro a cinco palabras",
    r"Geben Sie ein kurzes Thema in vier bis fünf Wörtern zurück",
    r"Utilisez quatre à cinq mots pour retourner le sujet succinct de cette phrase",
    r"Veuillez générer un titre de quatre à cinq mots résumant notre conversation",
    r"Riporta il tema di questa frase in modo conciso con quattro o cinque parole",
    r"Por favor,? gere um título de quatro a cinco palavras resumindo nossa conversa",
    r"Bu cümlenin dört ila beş kelimelik kısa başlığını doğrudan verin",
    r"Sử dụng bốn đến năm từ để trả lại chủ đề tóm tắt của câu này",
    r"Gunakan empat hingga lima kata untuk langsung memberikan ringkasan topik kalimat ini",
    r"Použijte čtyři až pět slov pro stručné téma této věty",
    r"Prosím, vygenerujte štvor- až päťslovný titul, ktorý zhrnie našu konverzáciu",
    r"Bruk fire til fem ord for å returnere en kort oppsummering av temaet",
    r"استخدم أربع إلى خمس كلمات لإرجاع ملخص مختصر لهذه الجملة",
    r"চার থেকে পাঁচটি শব্দ ব্যবহার করে এই বাক্যের সংক্ষিপ্ত থিম দিন",
    # Continue
    r".{0,300}please reply with a title for the chat that is",
    # Zed, and what many smaller clients say in much the same words
    (
        r"(?:please )?(?:generate|create|write|provide|suggest|give me|come up with) an? "
        rf"(?:{DESCRIBING}[ ,'’–-]+){{0,10}}(?:title|name|headline) "
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
    r"|対話の内容を簡潔に要約し、後続のコンテキストプロンプト"
    r"|대화 내용을 간략히 요약하여 후속 컨텍스트 프롬프트로"
    r"|Кратко подведите итоги содержимого беседы для использования в качестве"
    r"|Resume brevemente el contenido de la conversación para usar como un prompt de contexto"
    r"|Fassen Sie den Gesprächsinhalt zusammen, um als Kontextaufforderung"
    r"|Faites un résumé succinct de la discussion"
    r"|Riassumi brevemente il contenuto della conversazione come prompt di contesto"
    r"|Resuma a discussão brevemente em 200 palavras ou menos para usar como"
    r"|Resuma toda a discussão em no máximo 200 palavras"
    r"|Sohbet içeriğini kısaca özetleyin, bu özet sonraki bağlam ipucu"
    r"|Tóm tắt nội dung cuộc trò chuyện một cách ngắn gọn, dùng làm gợi ý ngữ cảnh"
    r"|Berikan ringkasan singkat tentang konten obrolan, untuk digunakan sebagai prompt konteks"
    r"|Stručně shrňte obsah konverzace jako kontextový prompt"
    r"|Stručne zhrňte diskusiu na menej ako 200 slov"
    r"|Oppsummer samtalen kort som en kontekstuell prompt"
    r"|قم بتلخيص محتوى الدردشة باختصار، لاستخدامه كإشارة سياقية"
    r"|আলোচনার বিষয়বস্তু সংক্ষিপ্তভাবে সারাংশ করুন, পরবর্তী কনটেক্সট প্রম্পট"
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
    r"|Summarize the (?:given )?(?:session|conversation) (?:as|into) a .{0,30}title"
    # big-AGI, HuggingChat
    r"|You are an AI conversation titles assistant"
    r"|You are a (?:chat thread titling|summarization) (?:assistant|AI)\b.{0,80}(?:title|conversation|summari)"
    r"|你是一名擅长会话的助理，你需要将用户的会话总结为"
    r"|总结给出的会话，将其总结为语言为.{1,20}字内标题",
    re.IGNORECASE,
)

FOLLOW_UPS_ASKED = re.compile(r"Suggest three very short factual follow-up questions", re.IGNORECASE)
EMOJI_ASKED = re.compile(r"Your task is to reflect the speaker['’]s likely facial expression", re.IGNORECASE)
# LobeChat
SUMMARY_ORDERED = re.compile(
    r"You're an assistant who's good at extracting key takeaways .{0,60}from conversations and summari", re.IGNORECASE
)
