"""A model that says it cannot answer: by the marker that its prompt asks for, or by what people say then, in any language."""

import re
import unicodedata
from typing import Final

from app.rag import refusals

# As models write it: with other brackets, an underscore, emphasis around it.
_MARKER: Final = re.compile(
    r"[*_`\"“]{0,3}[\[【]{1,2}\s?no[ _\-]?answers?\s?[\]】]{1,2}[*_`\"”]{0,3}[.:]?\s*", re.IGNORECASE
)
_MAYBE_MARKER: Final = re.compile(
    r"\s{0,8}[*_`\"“]{0,3}(?:[\[【]{1,2}\s?(?:n(?:o(?:[ _\-]?[a-z]{0,7})?)?)?\s?[\]】]{0,2}[*_`\"”]{0,3}[.:]?)?\Z",
    re.IGNORECASE,
)
_MARKER_CHARACTERS: Final = 28

_LONGEST_REFUSAL: Final = 500
_SENTENCE_CHARACTERS: Final = 320
_CITATION: Final = re.compile(r"\[\d{1,4}\]")
_MARKS: Final = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u0652\u0670\u0640\u200b-\u200f]")
_PLAIN: Final = str.maketrans({"ı": "i", "đ": "d", "ø": "o", "ł": "l", "’": "'"})
_PUNCTUATION: Final = re.compile(r"[^\w\s']+")

# What people say, folded (no case, accents, punctuation), by language; a line says that what is looked for is not there.
_SAID: Final = (
    # English
    r"\b(?:could|can|did|do|does|was|were|am|is|are)(?: not|n't|not) (?:able to )?(?:find|locate|see|answer|determine|have|know)\b",
    r"\b(?:cannot|unable to|not able to) (?:find|locate|answer|provide|determine|say|tell|help)\b|\b(?:no|not enough|insufficient|without) (?:relevant |specific |sufficient |such |further )?(?:information|answer|mention|details?|data|evidence)\b|\bi (?:do not|don't) know\b",
    r"\b(?:sources?|documents?|passages?|context|texts?|materials?)\b[^.]{0,40}\b(?:do|does|did)(?: not|n't) (?:\w+ )?(?:answer|provide|tell|contain|mention|include|address|specify|state|say|offer|cover|give|discuss)\b|\b(?:is|are|was|were)(?: not|n't) (?:\w+ )?(?:mentioned|specified|stated|found|addressed|answered|discussed|(?:provided|given|included|covered|available|contained|described) in the (?:provided |given |available )?(?:sources?|documents?|passages?|context|texts?))\b",
    # Malay, Indonesian
    r"\b(?:tidak|tak|tiada|belum|gagal) (?:dapat |bisa |boleh |ada |mempunyai |memiliki |pernah |ditemukan |terdapat )*(?:menemukan|menemui|menjumpai|ditemukan|ditemui|dijumpai|ketemu|menjawab|dijawab|jawapan|jawaban|maklumat|informasi|disebut\w*|dinyatakan|disediakan|mengandungi|mengandung|memuat|menyebut\w*|menyatakan|mencantumkan|tercantum|tersedia|diketahui|tahu|pasti|memberi\w*|menyediakan)\b",
    # Spanish, Portuguese, Galician, Catalan
    r"\bno (?:he |se |ha |hay |pude |puedo |pudo |es posible |contienen? |encuentro |tengo |aparece |sé |se )+\s?(?:encontrad[oa]|encuentra|encontrar|respuesta|informacion|menciona\w*|indica\w*|responde\w*|responder|respondida?|dato|datos|suficiente|aparece|especifica\w*|contestar)?|\bno (?:menciona|contienen?|indican?|especifican?|responden?|incluyen?|dicen?|proporcionan?|encontre|encuentro)\b",
    r"\bnao (?:foi |foram |ha |consegui |consigo |posso |pude |tenho |e |se |esta |sei )*(?:encontr\w+|responder|resposta|informac\w+|mencion\w+|possivel|indic\w+|cont[eé]m|especific\w+|dispon\w+|sei)\b",
    r"\bno (?:he|s'ha|hi ha|puc|conte|consta|trobo)\b[^.]{0,30}\b(?:trobat|resposta|informacio|documents)\b",
    # French, Italian, Romanian
    r"\b(?:n'ai|n'a|n'est|ne (?:peux|peut|sais|contien\w+|mention\w+|precis\w+|repond\w+|figur\w+|trouve|permet\w+|donne\w*|fourni\w+|comport\w+|traite\w*|dit|disent)|n'indique\w*|n'y a)(?: pas)?\b[^.]{0,40}\b(?:pas|aucune?|trouve|reponse|information)\b|\baucune (?:information|reponse|mention)\b",
    r"\bnon (?:ho|e|sono|posso|riesco|c'e|ci sono|contengono|contiene|menzion\w+|viene|vengono|specific\w+|fornisc\w+|risult\w+|so)\b[^.]{0,40}\b(?:trovat\w+|rispost\w+|rispondere|informazion\w+|documenti|menzionat\w+|possibile|specificat\w+|fonti)\b",
    r"\bnu (?:am|s-a|pot|exista|este|se|contin|mentioneaza|stiu)\b[^.]{0,40}\b(?:gasit|raspuns|raspund|informati\w+|documente|mentionat|documentele)\b",
    # German, Dutch, Scandinavian
    r"\b(?:keine|kein|nicht|leider)\b[^.]{0,60}\b(?:gefunden|finden|antwort|beantworten|beantwortet|informationen|angaben|hervor|erwahnt|enthalten|genannt|angegeben|bekannt)\b",
    r"\b(?:geen|niet)\b[^.]{0,60}\b(?:gevonden|vinden|antwoord|beantwoorden|informatie|vermeld|genoemd|bekend|staat|bevatten)\b",
    r"\b(?:inget|inga|inte|ikke|ikkje|intet|ingen|ingenting)\b[^.]{0,60}\b(?:svar|hitta\w*|finn\w*|fann|fant|fandt|find\w*|information\w*|informasjon\w*|oplysninger|opplysninger|namn\w*|nevn\w*|naevn\w*|besvara\w*|besvare|framgar|fremgar)\b",
    # Finnish, Estonian, Hungarian
    r"\b(?:en|ei|eivat|eika)\b[^.]{0,50}\b(?:loyda\w*|loyty\w*|loytan\w*|vastausta|vastata|mainit\w*|tietoa|kerro\w*|leidnud|vastust|leia)\b",
    r"\b(?:nem|nincs|sem)\b[^.]{0,50}\b(?:talal\w*|valasz\w*|informacio\w*|szerepel\w*|tartalmaz\w*|tudo[mk]|emlit\w*)\b",
    # Polish, Czech, Slovak, South Slavic
    r"\bnie\b[^.]{0,50}\b(?:znala\w*|znalez\w*|odpowied\w*|informacj\w*|zawiera\w*|wspom\w*|podan\w*|moge|wiem|udalo)\b|\bbrak (?:informacji|odpowiedzi)\b",
    r"\b(?:ne|ni|nisam|nije|nema|nelze|neni|nie je|nepodarilo|nenasel|nenasla|nenas\w+|neobsahuj\w+|neuvad\w+|nemohu|nevim|nenach\w+)\b[^.]{0,60}\b(?:najit|odpoved\w*|informac\w*|dokument\w*|nasel|pronas\w*|odgovor\w*|na[sš]\w*|uveden\w*)\b",
    # Turkish, Azerbaijani
    r"\b(?:bulamad\w+|bulunamad\w+|bulunm\w+|yer alm\w+|icermi\w+|belirtilm\w+|cevap yok|yanit yok|bilgi yok|bilmiyorum|yanitlayam\w+|cevaplayam\w+|tapilmad\w+)\b",
    # Vietnamese, Tagalog, Swahili
    r"\bkhong (?:tim thay|the tim|co thong tin|co cau tra loi|the tra loi|de cap|duoc de cap|cung cap|chua|biet|neu|noi)\b",
    r"\b(?:wala|hindi|walang)\b[^.]{0,40}\b(?:nakita\w*|mahanap|sagot|masagot|impormasyon|nabanggit|alam)\b|\b(?:sikupata|hakuna|siwezi|sijui|haijata\w*|hazina|haina|sikuweza)\b[^.]{0,40}",
    # Russian, Ukrainian, Bulgarian, Greek
    r"\b(?:не|нет|немає|няма)\b[^.]{0,60}(?:наш[леё]\w*|наид\w*|найд\w*|знаид\w*|знайд\w*|знаиш\w*|знайш\w*|ответ\w*|відповід\w*|видповид\w*|отговор\w*|информац\w*|інформац\w*|упомина\w*|указан\w*|содерж\w*|могу|знаю|міст\w*|намер\w*|открих)|\bнет (?:ответа|информации)|\bответа нет\b",
    r"\b(?:δεν|δε)\b[^.]{0,60}(?:βρηκα|βρεθηκ\w*|απαντ\w*|πληροφορ\w*|αναφερ\w*|περιεχ\w*|γνωριζω|υπαρχ\w*|μπορω)",
    # Arabic, Persian, Urdu, Hebrew
    r"(?:لم|لا|لن|ليس|لايوجد|ما)\s[^.]{0,40}(?:اجد|أجد|يرد|ترد|توجد|يوجد|استطيع|أستطيع|تذكر|يذكر|تحتوي|يحتوي|اعثر|أعثر|العثور|تتضمن|اعرف|أعرف|اجابه|إجابة)",
    r"(?:پیدا نکردم|پیدا نشد|یافت نشد|ذکر نشده|نیافتم|وجود ندارد|نمیدانم|نمی دانم|جواب نہیں|نہیں ملا|موجود نہیں|معلومات نہیں|نہیں مل)",
    r"(?:לא|אין)\s[^.]{0,40}(?:מצאתי|נמצא\w*|תשובה|מידע|מוזכר\w*|מופיע\w*|ניתן|יודע\w*|מצוין|כולל\w*)",
    # Indic
    r"(?:नहीं मिल|नही मिल|नहीं है|उत्तर नहीं|जानकारी नहीं|उल्लेख नहीं|नहीं दिया|नहीं बता|नहीं पता|पाओয়া|পাওয়া যায়নি|পাইনি|উল্লেখ নেই|তথ্য নেই|উত্তর নেই|কোনো উত্তর|கிடைக்கவில்லை|இல்லை|காணப்படவில்லை|கண்டுபிடிக்க முடியவில்லை|కనబడలేదు|కనుగొనబడలేదు|లేదు|దొరకలేదు|સાપડ\w*|મળ્યો નથી|മറുപടി ഇല്ല|കണ്ടെത്തിയില്ല|सापडले नाही|भेटिएन|ਨਹੀਂ ਮਿਲ|හමු නොවීය)",
    # Thai, Lao, Khmer, Burmese
    r"(?:ไม่พบ|ไม่มีข้อมูล|ไม่มีคำตอบ|ไม่ได้ระบุ|ไม่ได้กล่าว|ไม่สามารถตอบ|หาไม่พบ|ไม่ทราบ|ไม่ปรากฏ|ບໍ່ພົບ|ບໍ່ມີຂໍ້ມູນ|ບໍ່ມີຄຳຕອບ|រកមិនឃើញ|មិនមាន|មិនបាន|မတွေ့|မပါ|မရှိ|မဖော်ပြ)",
    # Chinese, Japanese, Korean
    r"(?:没有|沒有|未能|无法|無法|并未|並未|未|找不到|不能|查不到)[^。]{0,24}(?:找到|答案|提到|提及|回答|信息|資訊|资讯|相关|相關|说明|說明|内容|記載|记载|提供|查到|包含|涉及|確定|确定)|找不到|我不知道|不清楚|没有答案",
    r"(?:見つかりません|見つけられません|見つからな|記載(?:が|は|されて)?(?:い|あ)?(?:ません|りません|ない)|載っていません|書かれていません|情報(?:が|は)(?:あり|含まれて)(?:い)?(?:ません|ない)|回答できません|答えられません|お答えできません|わかりません|分かりません|含まれていません|言及されていません|ありません)",
    r"(?:찾지 못|찾을 수 없|나와 있지 않|언급되지 않|언급되어 있지|포함되어 있지 않|답변할 수 없|답할 수 없|알 수 없|정보가 없|답이 없|답변이 없|없습니다|확인할 수 없|모르겠)",
)


def _folded(text: str) -> str:
    plain = _MARKS.sub("", unicodedata.normalize("NFKD", text.casefold().translate(_PLAIN)))
    return unicodedata.normalize("NFC", plain)


_ANY: Final = tuple(re.compile(_MARKS.sub("", unicodedata.normalize("NFKD", pattern))) for pattern in _SAID)
_ANY_PLAIN: Final = tuple(pattern for pattern in _ANY if re.search("[a-z]{2}", pattern.pattern))
"""Those that a text without any other letters can be."""
_OWN: Final = frozenset(
    _PUNCTUATION.sub(" ", _folded(sentence)).strip() for sentence in refusals.SENTENCES.values()
)


def says_no_answer(answer: str) -> bool:
    """Whether an answer, as it stands without a marker, says that it has none: short, without a citation, in these words."""
    text = answer.strip()
    if not text or len(text) > _LONGEST_REFUSAL or _CITATION.search(text):
        return False
    folded = unicodedata.normalize("NFKD", _folded(text[:_SENTENCE_CHARACTERS]))
    if _PUNCTUATION.sub(" ", _folded(text)).strip() in _OWN:
        return True
    return any(pattern.search(folded) for pattern in (_ANY_PLAIN if folded.isascii() else _ANY))


class NoAnswerFilter:
    """Takes the marker out of an answer while it streams; `declared` is whether the answer began with it."""

    def __init__(self) -> None:
        self._held: str | None = ""
        self.declared = False

    def feed(self, delta: str) -> str:
        """The part of the answer that can't change any more: held back is a beginning that may be the marker's."""
        if self._held is None:
            return delta
        text = self._held + delta
        if len(text) < _MARKER_CHARACTERS and _MAYBE_MARKER.match(text):
            self._held = text
            return ""
        return self._decided(text)

    def flush(self) -> str:
        """What was still held back when the answer ended."""
        return "" if self._held is None else self._decided(self._held)

    def _decided(self, text: str) -> str:
        self._held = None
        begun = text.lstrip()
        marker = _MARKER.match(begun)
        self.declared = marker is not None
        return begun[marker.end() :] if marker else text
