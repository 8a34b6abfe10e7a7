"""Reading a question: its terms and names, the type of answer it asks for, what contradicts it.

Owns the word lists about questions and their answers, of folded words (`sentences.fold`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from enum import Enum

from app.rag import sentences
from app.rag.sentences import Word

MAX_QUESTION_CHARS = 1_000
MAX_TERMS = 48
# A question with more terms asks about something, not what something is.
MAX_DEFINED_TERMS = 4


class AnswerType(Enum):
    """What a question word asks for, where a sentence can be seen to offer it."""

    TIME = "time"
    NUMBER = "number"
    PERSON = "person"
    PLACE = "place"
    REASON = "reason"


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it is compared with sentences: `keys` of all its words, `terms` that carry its meaning."""

    keys: frozenset[str]
    terms: tuple[str, ...]
    names: frozenset[str]
    """Those of the terms that are names or numbers."""
    answer_type: AnswerType | None
    asks_definition: bool
    negated: bool


# The first that matches counts ("when" before "how many": "tahun berapa"). A line each for English, Malay and
# Indonesian, Spanish, other European languages, and scripts without word boundaries.
_QUESTION_TYPES = (
    (
        AnswerType.TIME,
        r"\b(?:when|(?:what|which) (?:year|date|day|month|decade|century|time|era|period)"
        r"|bila(?:kah)?|kapan(?:kah)?|(?:tahun|tanggal|tarikh|bulan|abad|hari) (?:berapa|apa)"
        r"|cuando|que (?:ano|fecha|dia|mes|siglo)"
        r"|quand|wann|quando|когда)\b"
        r"|何时|什么时[候间]|几时|哪一?[年天]|几年|いつ|何年|언제|متى",
    ),
    (
        AnswerType.NUMBER,
        r"\b(?:how (?:many|much|old|long|far|tall|high|large|big|wide|deep|fast|often|few)"
        r"|(?:what|which) (?:percentage|percent|number|amount|proportion)"
        r"|berapa(?:kah)?"
        r"|cuant[oa]s?|que porcentaje"
        r"|combien|quant[oiae]s?|wie ?viele?|сколько)\b"
        r"|多少|几[个次人位种]|いくつ|何人|몇|كم",
    ),
    (
        AnswerType.PERSON,
        r"\b(?:who|whom|whose"
        r"|siapa(?:kah)?"
        r"|quien(?:es)?"
        r"|qui|quem|wer|wen|wem|chi|кто)\b"
        r"|谁|誰|哪位|누구",
    ),
    (
        AnswerType.PLACE,
        r"\b(?:where|(?:what|which) (?:city|country|state|place|county|town|region|continent|province)"
        r"|(?:di|ke) ?mana(?:kah)?"
        r"|donde|que (?:ciudad|pais|lugar)"
        r"|wo|dove|onde|где)\b"
        r"|哪里|哪儿|何处|哪个(?:国家|城市)|どこ|어디|أين",
    ),
    (
        AnswerType.REASON,
        r"\b(?:why"
        r"|mengapa|kenapa"
        r"|por que"
        r"|pourquoi|warum|perche|почему)\b"
        r"|为什么|为何|なぜ|왜|لماذا",
    ),
)
_QUESTION_TYPE_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _QUESTION_TYPES)

# "What does X do" asks for no definition, "what does X mean" does.
_DEFINITION = re.compile(
    r"\W*(?:(?:what|who) (?:is|are|was|were)|define|what do(?:es)? .{1,80} mean"
    r"|apa(?:kah)?(?: yang)? (?:itu|dimaksud|maksud|erti|arti)|apa(?:kah)?|siapa(?:kah)?"
    r"|que (?:es|son|significa)|quien (?:es|fue)"
    r"|qu'est|was (?:ist|sind)|o que e|che cos)\b"
    r"|.*(?:什么是|是什么|是谁)"
)

# An adjective that only asks for a number: no answer repeats the "long" of "how long".
_MEASURE = re.compile(r"\b(how) (?:old|long|far|tall|high|large|big|wide|deep|fast|often)\b", re.IGNORECASE)

# Question words and particles of Chinese and Japanese, which no space sets off.
_DENSE_FUNCTION = re.compile(
    "什么|甚么|哪里|哪儿|哪些|哪个|哪一|哪|谁|誰|多少|几|何时|何|为什么|怎么|怎样|如何|请问|吗|呢|的|是|了|在|和|与|有|被"
    "|どこ|いつ|なぜ|です|ます|でした|した|する|[はがをにのとでもへ]"
)

# Words that carry no meaning of their own, and those that only frame a question ("name", "type", "called").
FUNCTION_WORDS = frozenset(
    # English
    """a an the of in on at to for from by with and or but as is are was were be been being am it its this
    that these those he she his her him they them their we our us you your i my me do does did done has
    have had will would can could may might must shall should not no there here then than so such if when
    while which who whom whose what where why how many much any some all into about over after before
    between during through under out up also more most other another each name names named type types kind
    kinds called term mean means meaning according """
    # Malay, Indonesian
    """yang di ke dari dan atau dengan untuk pada adalah ialah merupakan ini itu dalam oleh akan telah sudah
    juga tidak bukan sebagai para ada adanya dia ia mereka kami kita saya anda apa apakah siapa siapakah
    bila bilakah kapan kapankah berapa berapakah mana manakah mengapa kenapa bagaimana bagaimanakah dimana
    dimanakah nya tersebut dapat bisa boleh lebih agar karena kerana seorang sebuah suatu antara secara
    disebut dimaksud dimaksudkan maksud pengertian arti nama bernama jenis jumlah """
    # Spanish
    """el la los las un una unos unas de del al y o en con por para que se su sus es son fue fueron era eran
    ha han lo le les como mas cual cuales quien quienes cuando donde cuanto cuanta cuantos cuantas sobre
    entre este esta estos estas llama nombre tipo """
    # French
    """des du et est sont dans qui quoi quel quelle quels quelles au aux ce cette ces il elle ils sur avec
    pour par pas ne une ou quand combien comment pourquoi """
    # German
    """der die das den dem ein eine einen einem einer und oder ist sind war waren im von zu mit auf fur wie
    wer wo wann warum nicht auch sich wurde wurden welche welcher welches """
    # Portuguese, Italian
    """os uma uns umas da dos em nos na nas e foi foram com qual quais quem onde quanto quantos
    gli i che chi cosa sono nel nella della dei delle come dove quando""".split()
)

_NEGATION = re.compile(
    r"\b(?:not|never|none?|without|except|besides|neither|nor|cannot|\w{2,8}n['’]t"
    r"|tidak|tak|bukan(?:lah)?|tanpa|belum|selain|kecuali"
    r"|nunca|sin|excepto"
    r"|pas|jamais|sans|nicht|keine?[nrms]?|nie|ohne|nao|sem|не|без)\b"
    r"|(?<![能是可])不(?![同仅断过久])|(?<!有)没|沒|ない|なかった|않|없"
)

# English, Malay/Indonesian, Spanish, French, German.
_NUMBER_WORDS = frozenset(
    """one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty hundred
    thousand million billion half twice dozen single both pair several """
    """satu dua tiga empat lima enam tujuh delapan lapan sembilan sepuluh sebelas belas puluh seratus ratus
    seribu ribu juta miliar setengah """
    """uno dos tres cuatro cinco seis siete ocho nueve diez cien mil millon millones """
    """deux trois quatre cinq sept huit neuf dix cent mille """
    """zwei drei vier funf sechs sieben acht neun zehn hundert tausend""".split()
)
# English, Malay/Indonesian, Spanish.
_TIME_WORDS = frozenset(
    """january february march april may june july august september october november december monday tuesday
    wednesday thursday friday saturday sunday spring summer autumn winter century decade """
    """januari februari maret mac mei juni jun juli julai agustus ogos oktober desember disember isnin senin
    selasa rabu kamis khamis jumat sabtu minggu ahad abad """
    """enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre siglo""".split()
)
_REASON_WORDS = frozenset(
    "because since due therefore so to karena kerana sebab akibat supaya agar porque debido para weil denn"
    " car parce".split()
)
_DENSE_NUMERAL = re.compile("[0-9０-９一二三四五六七八九十百千万亿两]")
_NEVER_NAMES = FUNCTION_WORDS | _TIME_WORDS

# Sides that exclude each other: a question about one is not answered by a sentence about another.
_OPPOSITES = (
    # English
    """first original earliest initial / last final latest second third fourth; second / third fourth;
    before prior earlier / after later; most more greater larger bigger increase increased increasing rising
    grew highest largest biggest maximum / least less fewer smaller decrease decreased decreasing falling
    declining fell lowest smallest minimum; north northern / south southern; east eastern easterly eastward /
    west western westerly westward; strong stronger strongest severe / weak weaker weakest mild; different /
    same similar identical; good best better positive success victory win won / bad worst worse negative
    failure failed defeat lose lost; rich / poor; old oldest older ancient / new newest newer young youngest
    modern; fast faster quickly rapidly / slow slower slowly; high long longest / low short shortest; simple
    simplest easy / complex complicated difficult; allowed accepted included permitted / forbidden prohibited
    banned rejected refused excluded; begin began started opened founded / ended finished closed abolished;
    internal inside inner / external outside outer; often usually always common / rarely seldom never rare;
    public / private; daily / weekly / monthly / annual annually yearly; major / minor; import / export;
    summer / winter; hot / cold; male men / female women; """
    # Malay, Indonesian
    """awal pertama / akhir terakhir; terbaik baik / terburuk buruk; terbesar besar / terkecil kecil;
    tertinggi tinggi / terendah rendah; terpanjang panjang / terpendek pendek; sebelum / sesudah setelah
    selepas; utara / selatan; timur / barat; lahir dilahirkan / meninggal wafat; naik meningkat / turun
    menurun; menang / kalah; kuat / lemah; tua tertua / muda termuda; baru baharu / lama; panas / dingin
    sejuk; diterima / ditolak; dibuka / ditutup; cepat / lambat; sama / berbeda berbeza; """
    # Spanish
    """primero primera / ultimo ultima; mayor / menor; mejor / peor; antes / despues; norte / sur; este /
    oeste; alto / bajo"""
)
_NEGATIVE_PREFIXES = ("un", "in", "im", "ir", "non", "dis", "anti", "nir", "tak", "des")
_LEAST_PREFIXED_CHARS = 4


def _opposites() -> dict[str, frozenset[str]]:
    opposite: dict[str, frozenset[str]] = defaultdict(frozenset)
    for group in _OPPOSITES.split(";"):
        sides = [frozenset(side.split()) for side in group.split("/")]
        for side in sides:
            for word in side:
                opposite[word] |= frozenset().union(*sides) - side
    return dict(opposite)


_OPPOSITE_OF = _opposites()


def read(text: str) -> Question:
    """What a question asks. Of one longer than MAX_QUESTION_CHARS the middle is not read."""
    text = _shortened(text)
    folded = sentences.fold(text)
    words = sentences.words(_MEASURE.sub(r"\1", _DENSE_FUNCTION.sub(" ", text)))
    content = [word for word in words if _is_content(word.key)]
    terms = tuple(dict.fromkeys(word.key for word in content or words))[:MAX_TERMS]
    kind = next((kind for kind, pattern in _QUESTION_TYPE_PATTERNS if pattern.search(folded)), None)
    may_define = kind in (None, AnswerType.PERSON) and len(terms) <= MAX_DEFINED_TERMS
    return Question(
        keys=frozenset(word.key for word in sentences.words(text)),
        terms=terms,
        names=_names(words) & frozenset(terms),
        answer_type=kind,
        asks_definition=may_define and _DEFINITION.match(folded) is not None,
        negated=negates(text),
    )


def offers(question: Question, words: Iterable[Word]) -> bool:
    """Whether a sentence has something of the type asked for that the question does not already say."""
    new = [word for word in words if word.key not in question.keys]
    match question.answer_type:
        case None:
            return False
        case AnswerType.REASON:
            return any(word.key in _REASON_WORDS for word in new)
        case AnswerType.TIME:
            return any(_is_number(word.key) or word.key in _TIME_WORDS for word in new)
        case AnswerType.NUMBER:
            return any(_is_number(word.key) or word.key in _NUMBER_WORDS for word in new)
        case AnswerType.PERSON | AnswerType.PLACE:
            names = (word.key for word in new if word.capitalised or sentences.is_dense(word.key))
            return any(key not in _NEVER_NAMES for key in names)


def negates(text: str) -> bool:
    """Whether a text says that something is not so."""
    return _NEGATION.search(sentences.fold(text)) is not None


def is_opposed(said: Set[str], keys: Set[str]) -> bool:
    """Whether words of a sentence (`keys`) say the opposite of a word that was said and that they lack."""
    return any(_has_opposite(key, keys, said) for key in said - keys)


def _has_opposite(key: str, keys: Set[str], said: Set[str]) -> bool:
    if not keys.isdisjoint(_OPPOSITE_OF.get(key, frozenset()) - said):
        return True
    if len(key) < _LEAST_PREFIXED_CHARS:
        return False
    return any(
        prefix + key in keys or (key.startswith(prefix) and key.removeprefix(prefix) in keys)
        for prefix in _NEGATIVE_PREFIXES
    )


def _is_number(key: str) -> bool:
    return key[0].isdigit() or (sentences.is_dense(key) and _DENSE_NUMERAL.search(key) is not None)


def _shortened(text: str) -> str:
    """What is asked stands at the beginning or at the end of a long message."""
    if len(text) <= MAX_QUESTION_CHARS:
        return text
    half = MAX_QUESTION_CHARS // 2
    end = text[-half:]
    return f"{sentences.cut(text, half)} {end[end.find(' ') + 1 :]}"


def _is_content(key: str) -> bool:
    return key not in FUNCTION_WORDS and (len(key) > 1 or key.isdigit() or sentences.is_dense(key))


def _names(words: Sequence[Word]) -> frozenset[str]:
    """Numbers, and words written with a capital that neither their place nor the writer's habit explains."""
    numbers = frozenset(word.key for word in words if word.key[0].isdigit())
    later = [word for word in words[1:] if word.key not in FUNCTION_WORDS | numbers]
    capitalised = frozenset(word.key for word in later if word.capitalised)
    is_habit = len(later) > 3 and all(word.capitalised for word in later)
    return numbers if is_habit else numbers | capitalised
