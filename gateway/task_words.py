"""The words in which chat clients ask for a title, a summary, tags or the like of a conversation, in ten languages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Kind = str
"""``title``, ``summary``, ``tags``, ``follow_ups``, ``queries``, ``emoji``, ``tool_calls``, ``text`` or ``prompt``."""


def words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


def parts(pattern: str) -> re.Pattern[str]:
    """Match within words, for languages that write none apart."""
    return re.compile(pattern, re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Tongue:
    """A language: a sentence that begins with *order* (or holds it, if *anywhere*), names one of *things* and a *talk*
    is a task, unless it speaks of a *picture*."""

    order: re.Pattern[str]
    things: Mapping[Kind, re.Pattern[str]]
    talk: re.Pattern[str]
    picture: re.Pattern[str]
    anywhere: bool = False


# English, where most such prompts come from, is read by its grammar: what is made *of* which talk.

LEAD = re.compile(
    r"(?:(?:(?:please|now|then|also|next|kindly|just|first|finally)\b[,:]?"
    r"|your (?:task|job|goal|role) is to|i(?: want| need|['’]d like| would like) you to"
    r"|(?:can|could|would|will) you|you (?:should|must|will|need to|have to)|help me(?: to)?|you are tasked with"
    r"|you(?= (?:generate|create|produce|write|name|summari[sz]e|suggest|output)\b)"
    r"|(?:task|instructions?):(?: to)?|and) )*"
    r"(?:(?:based on|given|using|from|considering|for|in|with|after)\b[^,:]{1,120}, (?:please )?)?",
    re.IGNORECASE,
)
ORDER = re.compile(
    r"(?:generat|creat|writ|giv|provid|suggest|return|repl|respond|answer|output|com(?:e|ing) up|mak|produc"
    r"|propos|choos"
    r"|pick|compos|craft|devis|nam(?:e|ing)|titl(?:e|ing)|label|summari[sz]|condens|recap|compress|describ"
    r"|extract|analy[sz]"
    r"|list|determin|assess|reflect|categori[sz]|classif|detect|tell|find|what would be|what is)\w*\b",
    re.IGNORECASE,
)
HOLDER = (
    r"(?:(?:this|the|our|these|that|those|my|an?|following|above|previous|preceding|given|provided|entire|whole|current"
    r"|below|users?['’]?s?|human['’]?s?|short|brief|first|latest|last|ongoing|new|chat|ai|speaker['’]s) )+"
)
TALKS = (
    r"(?:conversation|chat|discussion|dialog(?:ue)?|message|thread|session|exchange|interaction|transcript|quer(?:y|ie)"
    r"|request|question|history|input)s?\b"
    r"(?! (?:apps?|applications?|shows?|bubbles?|rooms?|icons?|box|boxes|clubs?|windows?|bots?|interfaces?|groups?"
    r"|bottles?|boards?|pieces?|marks?)\b)"
)
TALK = rf"\b{HOLDER}{TALKS}"
NO_THING = r"(?! (?:cards?|screens?|pages?|sequences?|slides?|tags?|plates?|badges?|signs?|blocks?|bars?|cloud)\b)"
NOT_QUOTED = r"(?!:? ?[\"'“‘«])"
OF = (
    r"\b(?:for|of|to|from|about|given|as|that|which|(?:summari[sz]|captur|describ|reflect|represent|categori[sz]"
    r"|classif)\w+)\b"
)
NAME = rf"\b(?:titles?|headlines?|subject lines?|topics?|names?|headings?)\b{NO_THING}{NOT_QUOTED}"
COUNT = r"(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten)"
FEW = rf"\b{COUNT}(?: ?(?:-|–|to|or) ?{COUNT})?[- ]words?\b"

ENGLISH: Mapping[Kind, re.Pattern[str]] = {
    kind: re.compile(pattern, re.IGNORECASE)
    for kind, pattern in {
        "queries": r"\bsearch quer(?:y|ies)\b|\b(?:need for|necessity of) (?:a |generating )?(?:web )?search",
        "follow_ups": r"\bfollow[- ]?ups?\b.{0,40}\b(?:questions?|prompts?|repl(?:y|ies)|messages?|suggestions?)\b"
        r"|\bquestions?\b.{0,40}\b(?:user|i|they) (?:might|may|could|can|would)\b.{0,20}\bask\b",
        "emoji": rf"\bemojis?\b.{{0,80}}{TALK}|\bspeaker['’]s\b.{{0,60}}\bemojis?\b|{TALK}.{{0,80}}\bemojis?\b",
        "tags": rf"\b(?:tags|keywords|labels|topics|categories"
        rf"|hashtags)\b{NO_THING}{NOT_QUOTED}.{{0,80}}?{OF}.{{0,40}}?{TALK}",
        "title": rf"{NAME}.{{0,120}}?{OF}.{{0,60}}?{TALK}"
        rf"|\b(?:conversation|chat|thread|session|discussion|dialog(?:ue)?) (?:titles?|names?"
        rf"|topics?)\b{NO_THING}{NOT_QUOTED}"
        rf"|^(?:giv\w+|nam\w+|titl\w+|label\w*|call) {HOLDER}{TALKS}(?: (?:an?|the) .{{0,40}}?{NAME}| *$)"
        rf"|\b(?:summari[sz]|describ|condens)\w+\b.{{0,80}}{TALK}.{{0,60}}(?:{NAME}|{FEW})",
        "summary": rf"^(?:summari[sz]|recap|condens|compress)\w*\b.{{0,160}}(?:{TALK}|\bso far\b|\brole ?play\b)"
        rf"|\b(?:summary|recap|synopsis|overview)\b.{{0,60}}?\b(?:of|for|about|that)\b.{{0,60}}?(?:{TALK}"
        rf"|\bso far\b)",
    }.items()
}
ROLES = re.compile(
    r"\b(?:conversations?|chats?|chatbot|messages?|discussions?|dialog(?:ue)?s?|threads?|sessions?)\b.{0,40}"
    r"\b(titles?|naming|summar\w+)\b"
    r"|\b(titles?|naming|summar\w+)\b.{0,40}"
    r"\b(?:conversations?|chats?|chatbot|messages?|discussions?|dialog(?:ue)?s?|threads?|sessions?)\b"
    r"|\b(title|summari[sz]ation|summary) (?:generator|generation|assistant|writer|creator|ai|bot)\b",
    re.IGNORECASE,
)
ROLE = re.compile(
    r"you(?:['’]re an?| are (?:an?|the|my)| help| speciali[sz]e| generate| create| produce| write| name"
    r"| suggest| summari[sz]e)\b",
    re.IGNORECASE,
)
TITLED = re.compile(NAME, re.IGNORECASE)
BARE = re.compile(
    r"\b(?:only (?:return |output |respond with |reply with )?(?:with )?(?:the|a) |title only|nothing else"
    r"|no (?:quotes|quotation"
    r"|punctuation|explanation|extra|additional|preamble|prefix|more than \d)|without (?:any )?(?:quot|punctuation"
    r"|explanation|preamble|additional|lead-in)|do not (?:use|include|add) (?:quot|punctuation)"
    r"|(?:max(?:imum)?|at most|under|up to|less than|within) \d+ (?:words|char)|same language)",
    re.IGNORECASE,
)
"""How an answer shall look that is words and nothing else."""
PICTURE = words(
    r"draw\w*|paint\w*|pictures?|images?|illustrat\w*|photos?|photograph\w*|posters?|covers?|logos?|icons?"
    r"|banners?|comics?"
    r"|cartoons?|stickers?|wallpapers?|sketch\w*|render\w*|artworks?|art|murals?|collages?|infographics?|cards?"
    r"|screens?"
    r"|scenes?|portraits?|letters|lettering|typograph\w*|fonts?|neon|calligraph\w*|graffiti|tattoos?|t-?shirts?|mugs?"
    r"|books?|movies?|films?|games?|albums?|magazines?|newspapers?|signs?|billboards?|canvas|backgrounds?|anime|manga"
    r"|watercolou?r|3d|4k|8k|depict\w*|visuali[sz]\w*|stained|embroider\w*|engrav\w*|carved|storyboards?|memes?"
    r"|thumbnails?|slides?|diagrams?|clouds?|whiteboards?|maps?|charts?|graphs?|timelines?|frames?|postcards?"
    r"|sculptures?|statues?|walls?|chalkboards?|blackboards?|stamps?|flags?|style"
)
ONCE = re.compile(
    r"\b(?:when|whenever|if|unless|every|each|always|after|before|at the end|at the start|asked|afterwards)\b", re.I
)
"""A system message that says what to do now and then is no order for this answer."""

OTHERS: tuple[Tongue, ...] = (
    Tongue(  # Spanish, Portuguese, Italian
        words(
            r"(?:por favor|si prega di|per favore)?,? ?(?:gener\w*|ger[ae]\w*|cre[ae]\w*|cri[ea]\w*|escrib\w*"
            r"|escrev\w*|scriv\w*"
            r"|proporcion\w*|forne\w*|forni\w*|d[aá](?:me)?|d[eê]|dai|sugier\w*|sugir\w*|sugger\w*|resum\w*|riassum\w*"
            r"|propo\w*|devuelv\w*|respond\w*)"
        ),
        {"title": words(r"t[ií]tulo|titolo|nombre|nome"), "summary": words(r"res[uú]m\w*|riassum\w*|riassunt\w*")},
        words(
            r"conversaci[oó]n(?:es)?|conversas?|conversazion[ei]|chat|discusi[oó]n|discuss[aã]o|discussione"
            r"|di[aá]logo|charla"
        ),
        words(
            r"im[aá]gen\w*|imagem|immagin\w*|dibuj\w*|desenh\w*|disegn\w*|cartel|cartaz|p[oó]ster|portada|capa"
            r"|copertina|foto\w*"
            r"|ilustra\w*|illustra\w*|logo\w*|c[oó]mic|pint\w*|dipint\w*|pantalla|letras|letr[ae]\w*|libro"
            r"|livro|juego|jogo"
        ),
    ),
    Tongue(  # French, where a chat is a cat
        words(
            r"(?:veuillez|merci de|s['’]il (?:te|vous) pla[iî]t)?,? ?(?:g[eé]n[eé]r\w*|cr[eé][eé]\w*|[eé]cri\w*"
            r"|donn\w*|propos\w*"
            r"|sugg[eèé]r\w*|r[eé]sum\w*|fourni\w*|trouv\w*|renvo\w*|r[eé]pond\w*)"
        ),
        {"title": words(r"titre|nom|intitul[eé]"), "summary": words(r"r[eé]sum\w*")},
        words(r"conversations?|discussions?|dialogues?|[eé]changes?"),
        words(
            r"images?|dessin\w*|affiche|couverture|photo\w*|illustr\w*|logo\w*|pein\w*|[eé]cran"
            r"|bande dessin[eé]e|bd|lettres|livre"
            r"|film|jeu|tableau|poster"
        ),
    ),
    Tongue(  # German
        words(
            r"(?:bitte )?(?:erstell\w*|generier\w*|schreib\w*|gib|geben|nenn\w*|fass\w*|formulier\w*|schlag\w*"
            r"|vergib|finde\w*"
            r"|antworte\w*|liefer\w*|benenn\w*)"
        ),
        {
            "title": words(r"\w*titel|überschrift|namen?|betreff"),
            "summary": words(r"fass\w*\b.{1,120}\bzusammen|zusammenfass\w*"),
        },
        words(r"gespräch\w*|unterhaltung\w*|konversation\w*|chat\w*|diskussion\w*|dialogs?|nachricht\w*"),
        words(
            r"\w*bild\w*|zeichn\w*|plakat\w*|poster\w*|cover|foto\w*|illustr\w*|logo\w*|gemälde|mal(?:e|en)"
            r"|comic\w*|buchstaben"
            r"|\w*buch\w*|film\w*|spiel\w*|schild\w*"
        ),
    ),
    Tongue(  # Russian
        words(
            r"(?:пожалуйста,? )?(?:созда\w+|сгенериру\w+|напиш\w+|придума\w+|предлож\w+|дай\w*|кратко"
            r"|суммиру\w+|резюмиру\w+"
            r"|состав\w+|сформулиру\w+|обобщ\w+|подведи\w*|назов\w+|опиш\w+|излож\w+|используя)"
        ),
        {
            "title": words(r"заголов\w+|названи\w+"),
            "summary": words(r"резюм\w+|кратк\w+|суммир\w+|обобщ\w+|итог\w*|сводк\w+|излож\w+"),
        },
        words(r"бесед\w+|разговор\w*|чат\w{0,2}|диалог\w*|обсуждени\w+|дискусси\w+|переписк\w+|сообщени\w+"),
        words(
            r"картин\w*|рисун\w*|нарису\w*|плакат\w*|постер\w*|обложк\w*|фото\w*|иллюстраци\w*|логотип\w*"
            r"|изображени\w*|комикс\w*"
            r"|экран\w*|букв\w*|книг\w*|фильм\w*|игр\w*"
        ),
    ),
    Tongue(  # Chinese
        parts(
            r"生成|返回|总结|總結|概括|给出|給出|起[一个個]|取[一个個]|提供|写|寫|创建|創建|建立|拟|擬|命名|归纳|歸納|提炼|提煉"
        ),
        {
            "title": parts(r"标题|標題|主题|主題|题目|題目|名称|名稱|起名|命名"),
            "summary": parts(r"总结|總結|摘要|概括|归纳|歸納"),
            "tags": parts(r"标签|標籤|关键词|關鍵詞"),
        },
        parts(r"对话|對話|会话|會話|聊天|讨论|討論|这句话|這句話|以上内容|以上內容|上述内容|上述內容|消息记录"),
        parts(
            r"画|畫|图|圖|海报|海報|封面|照片|插|漫|logo|壁纸|壁紙|场景|場景|风格|風格|应用|應用|界面|介面|软件|軟體|书|書|游戏|遊戲|室|气泡|泡泡"
        ),
        anywhere=True,
    ),
    Tongue(  # Japanese
        parts(r"返し|生成|作成|付け|つけ|考え|提案|まとめ|要約|ください|下さい"),
        {"title": parts(r"タイトル|題名|主題|件名"), "summary": parts(r"要約|まとめ"), "tags": parts(r"タグ")},
        parts(r"会話|対話|チャット|やり取り|やりとり|議論|メッセージ"),
        parts(r"絵|画|ポスター|イラスト|写真|漫|マンガ|描|ロゴ|表紙|アプリ|本の|ゲーム|吹き出し"),
        anywhere=True,
    ),
    Tongue(  # Korean
        parts(r"생성|작성|만들|요약|반환|주세요|하세요|지어"),
        {"title": parts(r"제목"), "summary": parts(r"요약"), "tags": parts(r"태그")},
        parts(r"대화|채팅|토론|메시지"),
        parts(r"그림|포스터|이미지|사진|그려|표지|로고|화면|앱|책|게임|말풍선"),
        anywhere=True,
    ),
)
HINT_WORDS = """
titl headline subject name naming topic summar recap condens compress synopsis overview tags keywords labels
categories emoji quer search follow question describ títul nombre nome resum résum resúm riass titre nom intitul
überschrift betreff fass zusammen заголов назван резюм кратк суммир обобщ итог сводк излож
标题 標題 主题 主題 题目 題目 名称 名稱 命名 起名 总结 總結 摘要 概括 归纳 歸納 标签 標籤 关键词 關鍵詞
タイトル 題名 件名 要約 まとめ タグ 제목 요약 태그
"""
HINTS = tuple(HINT_WORDS.split())
"""One of these, in small letters, is in every such prompt; most prompts of people are known by having none."""
