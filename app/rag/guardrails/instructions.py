"""Text in documents that speaks to the model instead of the reader: recognised, marked and counted, never obeyed.

Documents are data to the prompt whatever they say (`rag/prompts.py`); this is for the eyes of operators, and so that the
addresses of such a passage are not among those that an answer may link. It looks for what such text has to say in some way: that
what was told before does not count, who the reader is now, how the answer is to be written, what it should give away.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final

_MOST_CHARACTERS: Final = 20_000

# Without one of these nothing below can match; looking for them costs a tenth of it.
_TELLING: Final = tuple(
    """ignore|disregard|forget|overrid|bypass|instruction|prompt|assistant|chatbot| ai |ai:|language model| llm|pretend|act as|you are now
from now on|roleplay|jailbreak|developer mode|your answer|your response|your reply|your message|your output|the user|to users|users to
im_start|im_end|endoftext|[inst|<system|system:|### |end of |respond |reply |encode
abaikan|lupakan|endahkan|hiraukan|ketepikan|arahan|instruksi|perintah|petunjuk|mulai sekarang|mulai saat ini|jawapan|jawaban|pengguna|pembantu|asisten
ignora|olvida|omite|instruccion|respuesta|ignore|ignorez|oubli|consigne|reponse|ignorier|vergiss|anweisung|antwort|esqueca|desconsidere
instruco|instrucao|resposta|dimentica|istruzion|risposta|negeer|vergeet|instructie|antwoord|zignoruj|polecen|yoksay|unut|talimat|yanit
bo qua|huong dan|cau tra loi|игнорир|забуд|инструкц|ответ|ігнору|تجاهل|تعليمات|اجابت|إجابت|अनदेखा|निर्देश|उत्तर
忽略|无视|無視|忘记|忘記|指令|指示|提示词|提示詞|回答|回复|命令|무시|지시|명령|답변|เพิกเฉย|ละเว้น|คำสั่ง|คำตอบ""".replace(
        "\n", "|"
    ).split("|")
)

_BEFORE: Final = r"(?:previous|prior|preceding|above|earlier|former|foregoing|all|any|every|your|these|those|the|system|original|initial|past|other)"
_ORDERS: Final = r"(?:instructions?|prompts?|rules?|directions?|directives?|guidelines?|commands?|orders?|constraints?|polic(?:y|ies)|programming|training|context|said|told)"
_ANSWER: Final = r"(?:answer|response|reply|message|output|summary|text)"
_PRIVATE: Final = (
    r"(?:system (?:prompt|message|instructions?)|(?:initial|original|hidden|secret|starting|internal|full|above|your) (?:prompt|instructions?|rules|guidelines)"
    r"|api keys?|passwords?|credentials|secrets|canary|conversation history|chat history|previous conversation|environment variables)"
)
_PATTERNS: Final = (
    # English: what was told before does not count
    rf"\b(?:ignor(?:e|ing)|disregard|forget|overrid(?:e|ing)|bypass|neglect|discard|skip|(?:do not|don't|never) (?:follow|obey|apply|use)|stop following)\b[^.!?\n]{{0,40}}\b{_BEFORE}\b[^.!?\n]{{0,40}}\b{_ORDERS}\b",
    r"\b(?:new|updated|real|actual|additional|special|important) (?:system )?instructions?\b[^.\n]{0,30}(?::|\bfor (?:you|the (?:ai|assistant|model)))",
    # who you are now
    r"\byou are (?:now|no longer|going to be|an? (?:unrestricted|uncensored|evil|helpful (?:ai|assistant)))\b|\bfrom now on,? (?:you|your|always|only|respond|answer)\b",
    r"\b(?:pretend|act|behave|role-?play|respond|answer|speak)(?: to be| as if| as though|ing)? (?:as|like|you(?:'re| are)|that you)\b[^.\n]{0,30}\b(?:an? |the )?(?:ai|dan|assistant|hacker|developer|model|unrestricted|evil|no (?:rules|restrictions|filters?))\b",
    r"\b(?:developer|debug|god|admin|jailbreak|unrestricted|maintenance|dan) mode\b",
    # how the answer is to be written
    r"\b(?:in|to|with|into|within|of|use|end|begin|start|finish|conclude|preface|render|encode|provide|translate|express|modify|enhance|augment|reverse|write|write|give|convert|encrypt|deliver|present|format|rewrite|shift|invert|replace|substitute|apply|add)\b[^.!?\n]{0,60}\b(?:your|the final) (?:entire |whole |final |next )?(?:answer|response|reply|message|output)(?:'s)?\b",
    r"\b(?:reply|respond|answer)(?: only| just| back)? (?:in|with|using|by) (?:reverse|base ?\d+|rot ?13|emoji|only|the (?:word|phrase|following)|exactly|nothing|\")",
    r"\b(?:tell|ask|instruct|convince|urge|direct|advise) the (?:user|customer|reader)s? (?:to|that)\b|\b(?:do not|don't|never) (?:tell|inform|mention|reveal|disclose|alert)\b[^.\n]{0,40}\b(?:user|anyone|anybody|this)\b",
    # what is to be given away
    rf"\b(?:reveal|show|print|repeat|output|tell|display|leak|send|disclose|expose|give|include|append|quote|recite|dump|return|write|share)\b[^.!?\n]{{0,40}}\b{_PRIVATE}\b",
    # who is spoken to
    r"\b(?:note|message|attention|instructions?|reminder|warning|notice|hint)s? (?:to|for) (?:the |any |all |an? )?(?:ai|a\.i\.|assistants?|chatbots?|llms?|language models?|models?|agents?|bots?|summari[sz]ers?)\b",
    r"\b(?:ai|assistants?|chatbots?|llms?|language models?)\b[,:]? (?:must|should|shall|has to|have to|please|are (?:required|instructed|ordered))\b|\bif you are (?:an? |the )?(?:ai|assistant|chatbot|llm|(?:large )?language model)\b",
    r"<\|?(?:im_start|im_end|system|endoftext|user|assistant|begin_of_text|start_header_id)\b|\[/?inst\]|<<sys>>|^\s*#{2,6} ?(?:system|instructions?|assistant|human|user)\b\s*:?|^\s*(?:system|assistant) ?: ?\S|\bend of (?:context|documents?|sources|user input)\b",
    # Malay and Indonesian
    r"\b(?:abaikan|lupakan|ketepikan|langgar|kesampingkan|batalkan|jangan (?:ikut(?:i)?|patuhi|hiraukan|endahkan|turuti)|tidak perlu (?:ikut(?:i)?|patuhi))\b[^.!?\n]{0,50}\b(?:arahan|instruksi|perintah|petunjuk|peraturan|aturan|panduan|prompt|konteks|ketentuan|pesan|mesej|sebelum(?:nya| ini)?|di ?atas)",
    r"\b(?:anda|kamu|awak|engkau) (?:sekarang|kini) (?:ialah|adalah|menjadi|seorang|bukan|boleh|bebas)\b|\b(?:mulai|bermula) (?:sekarang|saat ini|dari sekarang|kini)\b[^.\n]{0,40}\b(?:anda|kamu|awak|jawab|balas)|\b(?:berpura-pura|berlakon|bertindak|berperan)(?:lah)? (?:jadi|menjadi|sebagai|seolah)",
    r"\b(?:dedahkan|ungkap(?:kan)?|tunjuk(?:kan)?|ulangi?|bocorkan|paparkan|tampilkan|cetak|hantar(?:kan)?|kirim(?:kan)?|berikan|beritahu|sebutkan|salin|nyatakan)\b[^.!?\n]{0,50}\b(?:(?:arahan|instruksi|perintah|prompt|pesan|mesej|petunjuk) (?:sistem|awal|asal|tersembunyi|rahsia|rahasia|anda|kamu)|prompt|system prompt|kata (?:laluan|sandi)|kunci api|rahsia|rahasia)",
    r"\b(?:tambah(?:kan)?|masukkan|sertakan|selitkan|sisipkan|akhiri|mulakan|mulai|tulis(?:kan)?|terjemahkan|ubah|kodkan|enkode|jawab|balas|berikan)\b[^.!?\n]{0,60}\b(?:jawapan|jawaban|balasan|respons?|tanggapan) (?:anda|kamu|awak|akhir|ini)\b|\b(?:dalam|pada|setiap) (?:jawapan|jawaban|balasan|respons?)(?:mu| anda| kamu)\b",
    r"\bjangan (?:beritahu|beri tahu|maklumkan|sebut(?:kan)?|dedahkan|katakan)\b[^.\n]{0,40}\b(?:pengguna|sesiapa|siapa ?pun)|\b(?:kepada|wahai|untuk|nota kepada|catatan untuk) (?:pembantu|asisten|model|ai|chatbot|bot)\b",
    # Spanish, Portuguese, French, Italian, German, Dutch (folded: no accents)
    r"\b(?:ignor[ae]d?|olvid[ae]|omit[ae]|desobedece|haz caso omiso|no (?:sigas|obedezcas)|esquec[ae]|desconsider[ae]|nao sig[ao]|dimentica|non seguire)\b[^.!?\n]{0,50}\b(?:instruccion(?:es)?|ordenes|reglas|indicaciones|instrucoes|ordens|regras|istruzioni|regole|prompt|anterior(?:es)?|precedenti|comandos)",
    r"\b(?:ignore[zr]?|oublie[zr]?|ne (?:tiens|tenez) pas compte|ne sui(?:s|vez) pas)\b[^.!?\n]{0,50}\b(?:instructions|consignes|regles|ordres|directives|precedente?s)|\b(?:ignorier(?:e|en|t)|vergiss|vergesst|missachte|befolge nicht)\b[^.!?\n]{0,50}\b(?:anweisung(?:en)?|befehle|regeln|vorgaben|bisherigen?|vorherigen?|obigen?)|\b(?:negeer|vergeet)\b[^.!?\n]{0,50}\b(?:instructies|regels|opdrachten|vorige|eerdere)",
    r"\b(?:revela|muestra|repite|imprime|mostre|repita|affiche[zr]?|revele[zr]?|repete[zr]?|montre[zr]?|zeige|verrate|wiederhole|mostra|rivela|ripeti|toon|herhaal)\b[^.!?\n]{0,50}\b(?:prompt|instruccion(?:es)?|instrucoes|instructions|systemprompt|system ?anweisung(?:en)?|anweisungen|istruzioni|contrasena|senha|mot de passe|passwort|instructies)",
    r"\b(?:a partir de ahora|a partir de agora|desormais|ab (?:jetzt|sofort)|d'ora in poi|vanaf nu)\b[^.\n]{0,30}\b(?:eres|responde|voce|tu es|vous etes|reponds|bist du|antworte|sei|rispondi|ben je|antwoord)|\b(?:en tu respuesta|na sua resposta|dans (?:ta|votre) reponse|in deiner antwort|nella tua risposta|in je antwoord)\b",
    # Russian, Ukrainian, Polish, Turkish, Vietnamese
    r"\b(?:игнорируй(?:те)?|забудь(?:те)?|не (?:следуй|обращай)|ігноруй(?:те)?)[^.!?\n]{0,50}(?:инструкци|указани|правил|команд|предыдущ|інструкці|вказівк)|(?:покажи|раскрой|повтори|выведи)[^.!?\n]{0,40}(?:системн|промпт|инструкци)|\b(?:zignoruj|zapomnij)\b[^.!?\n]{0,50}(?:instrukcj|polecen|zasad|poprzedni)",
    r"(?:talimat|komut|kural)[^.!?\n]{0,40}(?:yoksay|gormezden gel|unut|dikkate alma)|(?:onceki|yukaridaki)[^.!?\n]{0,30}(?:yoksay|unut)|\b(?:bo qua|quen|phot lo)\b[^.!?\n]{0,50}(?:huong dan|chi dan|lenh|quy tac|truoc do)",
    # Arabic, Persian, Hindi, Thai, Chinese, Japanese, Korean
    r"(?:تجاهل|انس|لا تتبع)[^.!?؟\n]{0,50}(?:تعليمات|التعليمات|الأوامر|اوامر|القواعد|السابقة)|(?:نادیده بگیر|فراموش کن)|(?:दस्तावेज़|पिछले|सभी|उपरोक्त)[^।\n]{0,40}(?:निर्देश)[^।\n]{0,30}(?:अनदेखा|भूल|ध्यान न)",
    r"(?:เพิกเฉย|ละเว้น|ไม่ต้องสนใจ|ลืม)[^\n]{0,40}(?:คำสั่ง|คำแนะนำ|ข้อความ)|(?:忽略|无视|無視|忘记|忘記|不要理会|不要遵守|别管)[^。！？\n]{0,24}(?:指令|指示|命令|规则|規則|提示|说明|內容|内容|要求)|(?:你现在是|你現在是|从现在起|從現在起|从现在开始|假装你|扮演)[^。\n]{0,20}",
    r"(?:显示|顯示|输出|輸出|泄露|透露|重复|重複|告诉我)[^。！？\n]{0,16}(?:系统提示|系統提示|提示词|提示詞|系统指令|你的指令)|(?:以前|これまで|上記|前|すべて)[^。\n]{0,16}(?:指示|命令|ルール|プロンプト)[^。\n]{0,12}(?:無視|忘れ|従わない)|(?:システムプロンプト|指示)を(?:表示|教え|出力)|(?:이전|위의|모든|앞의)[^.\n]{0,16}(?:지시|명령|규칙|프롬프트)[^.\n]{0,14}(?:무시|잊)|(?:시스템 프롬프트|지시사항)[^.\n]{0,12}(?:보여|출력|알려)",
)
_MARKS: Final = re.compile("[\u0300-\u036f\u064b-\u0652\u0670\u0640\u200b-\u200f\u2060\ufeff\u00ad]")


def _without_marks(text: str) -> str:
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", text)))


_ANY: Final = tuple(re.compile(_without_marks(pattern), re.MULTILINE) for pattern in _PATTERNS)
_WORDS: Final = tuple(map(_without_marks, _TELLING))
_ASCII_WORDS: Final = tuple(filter(str.isascii, _WORDS))
_BLANKS: Final = re.compile(r"[ \t\u00a0]{2,}|[\t\u00a0]")


@lru_cache(maxsize=16)
def counts(texts: tuple[str, ...]) -> tuple[int, ...]:
    """`count` of each text: one look at all of them is enough for what almost none has."""
    if not _may_give_orders(_folded("\n".join([text[:_MOST_CHARACTERS] for text in texts]))):
        return (0,) * len(texts)
    return tuple(map(count, texts))


@lru_cache(maxsize=512)
def count(text: str) -> int:
    """How many ways of giving orders to a model a text has, 0 for almost every text; the same passage is read once."""
    folded = _folded(text[:_MOST_CHARACTERS])
    if not _may_give_orders(folded):
        return 0
    return sum(pattern.search(folded) is not None for pattern in _ANY)


def _may_give_orders(folded: str) -> bool:
    return any(word in folded for word in (_ASCII_WORDS if folded.isascii() else _WORDS))


def _folded(text: str) -> str:
    """Lower case without accents and invisible characters, each run of blanks one."""
    folded = _without_marks(text).casefold().replace("’", "'")
    return _BLANKS.sub(" ", folded) if any(blank in folded for blank in ("  ", "\t", "\xa0")) else folded
