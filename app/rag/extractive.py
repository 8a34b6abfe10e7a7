"""The extractive answerer: which sentences of the retrieved passages answer a question, word for word, or none.

Owns the answer-level check of a system without a language model: what kind of answer a question asks for, how much of it
a sentence covers, what contradicts it, and how sure that makes us. Retrieval and the wording around quotes are not here.

A sentence is *ranked* by what it says about the question; the answer is *refused* when the evidence for its best sentence
is weak. Both are weighted sums of a few features, fitted by (listwise) logistic regression, cross-validated, on questions
of SQuAD 2.0, XQuAD, IDK-MRC and MTRAG, and rounded. All work is bounded, whatever comes in.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from app.rag import sentences
from app.rag.sentences import Word

Embed = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]

# Refuses a tenth of the answerable questions of SQuAD 2.0.
DEFAULT_MIN_CONFIDENCE = 0.4

# Bounds on the work for one answer.
MAX_QUESTION_CHARS = 1_000
MAX_TERMS = 48
MAX_PASSAGES = 20
MAX_PASSAGE_CHARS = 12_000
MAX_TOTAL_CHARS = 40_000
MAX_QUOTE_CHARS = 600
MAX_LIST_ITEMS = 12
MAX_EMBEDDED_SENTENCES = 6

# What each feature adds to the rank of a sentence, in units of "covers every term of the question".
RANK_COVERAGE = 1.0
RANK_COVERAGE_BY_NEIGHBOURS = 0.25
RANK_NAMES_ELSEWHERE_IN_PASSAGE = 0.4
RANK_SENTENCE_SIMILARITY = 0.4
RANK_ANSWER_TYPE = 0.3
RANK_PASSAGE_SIMILARITY = 0.2
RANK_PASSAGE_POSITION = -0.2
RANK_DEFINITION = 0.15
RANK_STARTS_WITH_TERM = 0.1
# A further sentence is quoted when it ranks at most this much below the best one, and covers at least this share of it.
FURTHER_QUOTE_MARGIN = 0.25
FURTHER_QUOTE_COVERAGE = 0.5

# What each feature adds to the log-odds that the question is answered (at even odds of its being answerable).
CONFIDENCE_BASE = -1.75
CONFIDENCE_SENTENCE_SIMILARITY = 1.0
CONFIDENCE_PASSAGE_SIMILARITY = 1.0
CONFIDENCE_COVERAGE = 1.6
# For no coverage at all, and in proportion below LOW_COVERAGE: an embedding model that was not trained on a language finds
# everything in it similar, so similarity alone must not answer.
CONFIDENCE_LOW_COVERAGE = -1.5
CONFIDENCE_CONTRADICTION = -1.5
CONFIDENCE_MISSING_NAMES = -1.1
LOW_COVERAGE = 0.4
# What similarities usually are where they are not known: the passage's given the coverage, the sentence's given the passage's.
USUAL_PASSAGE_SIMILARITY, USUAL_PASSAGE_SIMILARITY_SLOPE = 0.45, 0.15
USUAL_SENTENCE_ADVANTAGE = 0.08

# A long question is never covered whole: past this many terms, further ones do not ask for more.
FULL_COVERAGE_TERMS = 6
# Names and numbers weigh more than other terms, and must match more exactly.
NAME_WEIGHT = 1.5
NAME_MATCH = 0.7
MAX_DEFINED_TERMS = 4
MAX_PENALISED_POSITION = 5
MAX_HEADING_CHARS = 80


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved passage: its source's number, its text, its cosine similarity with the question and its document's title.

    What a title names counts as named in the passage; it is never quoted.
    """

    n: int
    text: str
    similarity: float | None
    title: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """`text == passage.text[start:end]`, in code points."""

    n: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class ExtractiveAnswer:
    """The quotes in reading order; none means refused. `confidence` is between 0 and 1."""

    quotes: tuple[Quote, ...]
    confidence: float


class AnswerType(Enum):
    """What a question word asks for, where a sentence can be seen to offer it."""

    TIME = "time"
    NUMBER = "number"
    PERSON = "person"
    PLACE = "place"
    REASON = "reason"


# Over folded text. English, Malay/Indonesian, Spanish, Portuguese, French, German, Italian, Russian, Chinese, Japanese,
# Korean, Arabic. The first that matches counts ("when" before "how many": "tahun berapa").
_QUESTION_TYPES = (
    (
        AnswerType.TIME,
        r"\b(?:when|(?:what|which) (?:year|date|day|month|decade|century|time|era|period)|bila(?:kah)?|kapan(?:kah)?"
        r"|(?:tahun|tanggal|tarikh|bulan|abad|hari) (?:berapa|apa)|cuando|que (?:ano|fecha|dia|mes|siglo)|quand|wann"
        r"|quando|когда)\b|何时|什么时[候间]|几时|哪一?[年天]|几年|いつ|何年|언제|متى",
    ),
    (
        AnswerType.NUMBER,
        r"\b(?:how (?:many|much|old|long|far|tall|high|large|big|wide|deep|fast|often|few)|berapa(?:kah)?|cuant[oa]s?"
        r"|(?:what|which|que) (?:percentage|percent|number|amount|proportion|porcentaje)|combien|quant[oiae]s?|wie ?viele?"
        r"|сколько)\b|多少|几[个次人位种]|いくつ|何人|몇|كم",
    ),
    (
        AnswerType.PERSON,
        r"\b(?:who|whom|whose|siapa(?:kah)?|quien(?:es)?|qui|quem|wer|wen|wem|chi|кто)\b|谁|誰|哪位|누구",
    ),
    (
        AnswerType.PLACE,
        r"\b(?:where|(?:what|which) (?:city|country|state|place|county|town|region|continent|province)|wo|dove|onde"
        r"|(?:di|ke) ?mana(?:kah)?|donde|где|que (?:ciudad|pais|lugar))\b|哪里|哪儿|何处|哪个(?:国家|城市)|どこ|어디|أين",
    ),
    (
        AnswerType.REASON,
        r"\b(?:why|mengapa|kenapa|por que|pourquoi|warum|perche|почему)\b|为什么|为何|なぜ|왜|لماذا",
    ),
)
_QUESTION_TYPE_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _QUESTION_TYPES)
_DEFINITION = re.compile(
    r"\W*(?:(?:what|who) (?:is|are|was|were|does)|apa(?:kah)?(?: yang)? (?:itu|dimaksud|maksud|erti|arti)|apa(?:kah)?|siapa(?:kah)?"
    r"|define|que (?:es|son|significa)|quien (?:es|fue)|qu'est|was (?:ist|sind)|o que e|che cos)\b|.*(?:什么是|是什么|是谁)"
)
_DEFINES = frozenset(
    "is are was were means refers adalah ialah merupakan yaitu iaitu es son era fue est sont ist sind e sono".split()
)
_DENSE_DEFINES = re.compile("[是指]")
# Question words and particles of Chinese and Japanese, which no space sets off.
_DENSE_FUNCTION = re.compile(
    "什么|甚么|哪里|哪儿|哪些|哪个|哪一|哪|谁|誰|多少|几|何时|何|为什么|怎么|怎样|如何|请问|吗|呢|的|是|了|在|和|与|有|被"
    "|どこ|いつ|なぜ|です|ます|でした|した|する|[はがをにのとでもへ]"
)
_FUNCTION_WORDS = frozenset(
    """a an the of in on at to for from by with and or but as is are was were be been being am it its this that these those
    he she his her him they them their we our us you your i my me do does did done has have had will would can could may
    might must shall should not no there here then than so such if when while which who whom whose what where why how many
    much any some all into about over after before between during through under out up also more most other another each
    name names named type types kind kinds called term mean means meaning according
    yang di ke dari dan atau dengan untuk pada adalah ialah merupakan ini itu dalam oleh akan telah sudah juga tidak bukan
    sebagai para ada adanya dia ia mereka kami kita saya anda apa apakah siapa siapakah bila bilakah kapan kapankah berapa
    berapakah mana manakah mengapa kenapa bagaimana bagaimanakah dimana dimanakah nya tersebut dapat bisa boleh lebih agar
    karena kerana seorang sebuah suatu antara secara disebut dimaksud dimaksudkan maksud pengertian arti nama bernama jenis
    jumlah
    el la los las un una unos unas de del al y o en con por para que se su sus es son fue fueron era eran ha han lo le les
    como mas cual cuales quien quienes cuando donde cuanto cuanta cuantos cuantas sobre entre este esta estos estas llama
    nombre tipo des du et est sont dans qui quoi quel quelle quels quelles au aux ce cette ces il elle ils sur avec pour par
    pas ne une ou quand combien comment pourquoi
    der die das den dem ein eine einen einem einer und oder ist sind war waren im von zu mit auf fur wie wer wo wann warum
    nicht auch sich wurde wurden welche welcher welches
    os uma uns umas da dos das em nos na nas e foi foram com qual quais quem onde quanto quantos
    gli i che di chi cosa sono nel nella della dei delle come dove quando""".split()
)
_NEGATION = re.compile(
    r"\b(?:not|never|none?|without|except|besides|neither|nor|cannot|\w{2,8}n['’]t|tidak|tak|bukan(?:lah)?|tanpa|belum|selain"
    r"|kecuali|nunca|sin|excepto|pas|jamais|sans|nicht|keine?[nrms]?|nie|ohne|nao|sem|не|без)\b"
    r"|(?<![能是可])不(?![同仅断过久])|(?<!有)没|沒|ない|なかった|않|없"
)
_NUMBER_WORDS = frozenset(
    """one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty hundred thousand million
    billion half twice dozen single both pair several satu dua tiga empat lima enam tujuh delapan lapan sembilan sepuluh
    sebelas belas puluh seratus ratus seribu ribu juta miliar setengah uno dos tres cuatro cinco seis siete ocho nueve diez cien
    mil millon millones deux trois quatre cinq sept huit neuf dix cent mille zwei drei vier funf sechs sieben acht neun zehn
    hundert tausend""".split()
)
_TIME_WORDS = frozenset(
    """january february march april may june july august september october november december monday tuesday wednesday thursday
    friday saturday sunday spring summer autumn winter century decade januari februari maret mac mei juni jun juli julai agustus
    ogos oktober desember disember isnin senin selasa rabu kamis khamis jumat sabtu minggu ahad abad enero febrero marzo abril
    mayo junio julio agosto septiembre octubre noviembre diciembre siglo""".split()
)
_REASON_WORDS = frozenset(
    "because since due therefore so to karena kerana sebab akibat supaya agar porque debido para weil denn car parce".split()
)
_DENSE_NUMERAL = re.compile("[0-9０-９一二三四五六七八九十百千万亿两]")
_ANAPHORA = frozenset(
    "he she it they this these his her its their such dia ia beliau mereka ini itu ella ellos esto elle ils".split()
)
_NEVER_NAMES = _FUNCTION_WORDS | _TIME_WORDS
# Opposites, by language: a question about one side is not answered by a sentence about the other.
_OPPOSITES = """
first original earliest initial/last final latest second third fourth; second/third fourth; before prior earlier/after later
most more greater larger bigger increase increased increasing rising grew highest largest biggest maximum/least less fewer
smaller decrease decreased decreasing falling declining fell lowest smallest minimum; north northern/south southern
east eastern easterly eastward/west western westerly westward; strong stronger strongest severe/weak weaker weakest mild
different/same similar identical; good best better positive success victory win won/bad worst worse negative failure failed
defeat lose lost; rich/poor; old oldest older ancient/new newest newer young youngest modern; fast faster quickly rapidly/slow
slower slowly; high long longest/low short shortest; simple simplest easy/complex complicated difficult; allow allowed accepted
included permitted/forbidden prohibited banned rejected refused excluded; begin began started opened founded/ended finished
closed abolished; internal inside inner/external outside outer; often usually always common/rarely seldom never rare
public/private; daily/weekly/monthly/annual annually yearly; major/minor; import/export; summer/winter; hot/cold; male men/female
women; awal pertama/akhir terakhir; terbaik baik/terburuk buruk; terbesar besar/terkecil kecil; tertinggi tinggi/terendah rendah
terpanjang panjang/terpendek pendek; sebelum/sesudah setelah selepas; utara/selatan; timur/barat; lahir dilahirkan/meninggal
wafat; naik meningkat/turun menurun; menang/kalah; kuat/lemah; tua tertua/muda termuda; baru baharu/lama; panas/dingin sejuk
diterima/ditolak; dibuka/ditutup; cepat/lambat; sama/berbeda berbeza; primero primera/ultimo ultima; mayor/menor; mejor/peor
antes/despues; norte/sur; este/oeste; alto/bajo"""
_NEGATIVE_PREFIXES = ("un", "in", "im", "ir", "non", "dis", "anti", "nir", "tak", "des")


def _opposites() -> dict[str, frozenset[str]]:
    opposite: dict[str, frozenset[str]] = defaultdict(frozenset)
    for line in _OPPOSITES.replace(";", "\n").strip().splitlines():
        sides = [frozenset(side.split()) for side in line.split("/")]
        for side in sides:
            for word in side:
                opposite[word] |= frozenset().union(*sides) - side
    return dict(opposite)


_OPPOSITE_OF = _opposites()


@dataclass(frozen=True, slots=True)
class _Question:
    text: str
    keys: frozenset[str]
    terms: tuple[str, ...]
    names: frozenset[str]
    answer_type: AnswerType | None
    asks_definition: bool
    negated: bool


@dataclass(slots=True)
class _Candidate:
    """A sentence (a heading or lead-in with what it introduces), and how well each term of the question matches in it."""

    passage: int
    start: int
    end: int
    text: str
    words: list[Word]
    matches: dict[str, float] = field(default_factory=dict)
    coverage: float = 0.0
    missing_names: float = 0.0
    rank: float = 0.0
    similarity: float | None = None


async def extract(
    question: str,
    passages: Sequence[Passage],
    *,
    embed: Embed | None,
    max_quotes: int = 3,
    min_confidence: float = DEFAULT_MIN_CONFIDENCE,
) -> ExtractiveAnswer:
    """The sentences of the passages (best passage first) that answer the question; no quotes when none does.

    `embed` is called at most once, with the question and at most MAX_EMBEDDED_SENTENCES sentences; its errors propagate.
    Similarities are taken to be cosines on a scale where unrelated texts are near 0.
    """
    asked = _read_question(question)
    passages = passages[:MAX_PASSAGES]
    candidates = _candidates(passages)
    if not asked.terms or not candidates:
        return ExtractiveAnswer((), 0.0)
    _score(asked, passages, candidates)
    candidates.sort(key=_best_first)
    if embed is not None:
        await _add_similarities(asked, candidates[:MAX_EMBEDDED_SENTENCES], embed)
        candidates.sort(key=_best_first)
    confidence = _confidence(asked, passages, candidates)
    if confidence < min_confidence:
        return ExtractiveAnswer((), confidence)
    return ExtractiveAnswer(_quotes(passages, _chosen(candidates, max_quotes)), confidence)


def _read_question(text: str) -> _Question:
    if len(text) > MAX_QUESTION_CHARS:
        # What is asked stands at the beginning or at the end of a long message.
        half = MAX_QUESTION_CHARS // 2
        end = text[-half:]
        text = f"{sentences.cut(text, half)} {end[end.find(' ') + 1 :]}"
    folded = sentences.fold(text)
    words = sentences.words(_DENSE_FUNCTION.sub(" ", text))
    content = [word for word in words if _is_content(word.key)]
    terms = tuple(dict.fromkeys(word.key for word in content or words))[:MAX_TERMS]
    kind = next((kind for kind, pattern in _QUESTION_TYPE_PATTERNS if pattern.search(folded)), None)
    may_define = kind in (None, AnswerType.PERSON) and len(terms) <= MAX_DEFINED_TERMS
    return _Question(
        text=text,
        keys=frozenset(word.key for word in sentences.words(text)),
        terms=terms,
        names=_names(words) & frozenset(terms),
        answer_type=kind,
        asks_definition=may_define and _DEFINITION.match(folded) is not None,
        negated=_NEGATION.search(folded) is not None,
    )


def _is_content(key: str) -> bool:
    return key not in _FUNCTION_WORDS and (len(key) > 1 or key.isdigit() or sentences.is_dense(key))


def _names(words: Sequence[Word]) -> frozenset[str]:
    """Numbers, and words written with a capital that neither their place nor the writer's habit explains."""
    numbers = frozenset(word.key for word in words if word.key[0].isdigit())
    later = [word for word in words[1:] if word.key not in _FUNCTION_WORDS | numbers]
    capitalised = frozenset(word.key for word in later if word.capitalised)
    is_habit = len(later) > 3 and all(word.capitalised for word in later)
    return numbers if is_habit else numbers | capitalised


def _candidates(passages: Sequence[Passage]) -> list[_Candidate]:
    found: list[_Candidate] = []
    budget = MAX_TOTAL_CHARS
    for index, passage in enumerate(passages):
        text = sentences.cut(passage.text, min(MAX_PASSAGE_CHARS, budget))
        budget -= len(text)
        spans = sentences.split(text, max_chars=MAX_QUOTE_CHARS)
        for position, (start, _) in enumerate(spans):
            quoted = text[start : _end_of_quote(text, spans[position : position + MAX_LIST_ITEMS])]
            found.append(_Candidate(index, start, start + len(quoted), quoted, sentences.words(quoted)))
    return found


def _end_of_quote(text: str, spans: Sequence[sentences.Span]) -> int:
    """Where a quote of the first span ends: a lead-in takes its list along, a heading the sentence under it."""
    (start, end), following = spans[0], spans[1:]
    if text[end - 1] in ":：":
        for item in following:
            is_after_list = end != spans[0].end and text.count("\n", end, item.start) > 1
            if is_after_list or item.end - start > MAX_QUOTE_CHARS:
                break
            end = item.end
    elif following and text[end - 1].isalnum() and end - start <= MAX_HEADING_CHARS:
        below = following[0]
        is_heading = "\n" in text[end : below.start] and below.end - below.start > end - start
        if is_heading and below.end - start <= MAX_QUOTE_CHARS:
            end = below.end
    return end


def _score(question: _Question, passages: Sequence[Passage], candidates: Sequence[_Candidate]) -> None:
    """Fill in the candidates' matches, coverage, missing names and rank (without their similarity)."""
    titles = [sentences.words(passage.title[:MAX_QUESTION_CHARS]) for passage in passages]
    vocabulary = {word.key for words in (*titles, *(each.words for each in candidates)) for word in words}
    similar = sentences.similar_words(question.terms, vocabulary)
    in_passage = [_matches(words, similar) for words in titles]
    for candidate in candidates:
        candidate.matches = _matches(candidate.words, similar)
        _merge(in_passage[candidate.passage], candidate.matches)
    weights = _weights(question, candidates)
    names = {name: weights[name] for name in question.names}
    full = sum(weights.values()) * min(1.0, FULL_COVERAGE_TERMS / len(weights))
    for position, candidate in enumerate(candidates):
        throughout = in_passage[candidate.passage]
        around = dict(candidate.matches)
        for neighbour in candidates[max(0, position - 1) : position + 2]:
            if neighbour.passage == candidate.passage:
                _merge(around, neighbour.matches)
        elsewhere = _covered(names, throughout) - _covered(names, candidate.matches)
        candidate.coverage = min(1.0, _covered(weights, candidate.matches) / full)
        candidate.missing_names = _missing_names(question, throughout)
        candidate.rank = (
            RANK_COVERAGE * candidate.coverage
            + RANK_COVERAGE_BY_NEIGHBOURS * (min(1.0, _covered(weights, around) / full) - candidate.coverage)
            + RANK_NAMES_ELSEWHERE_IN_PASSAGE * elsewhere / full
            + RANK_ANSWER_TYPE * _offers_answer(question, candidate)
            + RANK_PASSAGE_SIMILARITY * (passages[candidate.passage].similarity or 0.0)
            + RANK_PASSAGE_POSITION * min(candidate.passage, MAX_PENALISED_POSITION)
            + _opening(question, candidate)
        )


def _matches(words: Iterable[Word], similar: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """For each term of the question that occurs among the words, how similar its most similar word is."""
    best: dict[str, float] = {}
    for word in words:
        _merge(best, similar.get(word.key, {}))
    return best


def _merge(into: dict[str, float], other: Mapping[str, float]) -> None:
    for term, strength in other.items():
        into[term] = max(strength, into.get(term, 0.0))


def _weights(question: _Question, candidates: Sequence[_Candidate]) -> dict[str, float]:
    """Terms weigh by their rarity among the sentences at hand (no corpus statistics here), names and numbers more."""
    frequency = Counter(term for candidate in candidates for term in candidate.matches)
    total = len(candidates)
    return {
        term: math.log1p(total / (1 + frequency[term])) * (NAME_WEIGHT if term in question.names else 1.0)
        for term in question.terms
    }


def _covered(weights: Mapping[str, float], matches: Mapping[str, float]) -> float:
    return sum(weight * matches.get(term, 0.0) for term, weight in weights.items())


def _missing_names(question: _Question, throughout: Mapping[str, float]) -> float:
    """1 when a third of the question's names and numbers (so one of up to three) are nowhere in the passage."""
    missing = sum(throughout.get(name, 0.0) < NAME_MATCH for name in question.names)
    return min(1.0, 3 * missing / len(question.names)) if missing else 0.0


def _offers_answer(question: _Question, candidate: _Candidate) -> bool:
    """Whether a sentence has something of the type asked for that the question does not already say."""
    new = [word for word in candidate.words if word.key not in question.keys]
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
            return any(
                sentences.is_dense(word.key) or (word.capitalised and word.key not in _NEVER_NAMES)
                for word in new
            )


def _is_number(key: str) -> bool:
    return key[0].isdigit() or (sentences.is_dense(key) and _DENSE_NUMERAL.search(key) is not None)


def _opening(question: _Question, candidate: _Candidate) -> float:
    """What it adds to the rank to begin with a term, most of all in a definition ("<term> is …") when one is asked for."""
    first = next((i for i, word in enumerate(candidate.words[:8]) if word.key in candidate.matches), None)
    if first is None:
        return 0.0
    predicate = candidate.words[first + 1 : first + 10]
    defines = any(word.key in _DEFINES for word in predicate) or _DENSE_DEFINES.search(candidate.text[:40])
    definition = (
        RANK_DEFINITION * candidate.coverage if question.asks_definition and first < 5 and defines else 0.0
    )
    return RANK_STARTS_WITH_TERM / (1 + first) + definition


async def _add_similarities(question: _Question, candidates: Sequence[_Candidate], embed: Embed) -> None:
    vectors = await embed([question.text, *(candidate.text for candidate in candidates)])
    for candidate, vector in zip(candidates, vectors[1:], strict=True):
        candidate.similarity = _cosine(vectors[0], vector)
        candidate.rank += RANK_SENTENCE_SIMILARITY * candidate.similarity


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    norms = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else 0.0


def _best_first(candidate: _Candidate) -> tuple[float, int, int]:
    return -candidate.rank, candidate.passage, candidate.start


def _confidence(question: _Question, passages: Sequence[Passage], ranked: Sequence[_Candidate]) -> float:
    best = ranked[0]
    of_passages = [passage.similarity for passage in passages if passage.similarity is not None]
    of_sentences = [candidate.similarity for candidate in ranked if candidate.similarity is not None]
    usual = USUAL_PASSAGE_SIMILARITY + USUAL_PASSAGE_SIMILARITY_SLOPE * best.coverage
    of_passage = max(of_passages, default=usual)
    of_sentence = max(of_sentences, default=of_passage + USUAL_SENTENCE_ADVANTAGE)
    log_odds = (
        CONFIDENCE_BASE
        + CONFIDENCE_SENTENCE_SIMILARITY * of_sentence
        + CONFIDENCE_PASSAGE_SIMILARITY * of_passage
        + CONFIDENCE_COVERAGE * best.coverage
        + CONFIDENCE_LOW_COVERAGE * max(0.0, 1 - best.coverage / LOW_COVERAGE)
        + CONFIDENCE_CONTRADICTION * _contradictions(question, best)
        + CONFIDENCE_MISSING_NAMES * best.missing_names
    )
    return 1 / (1 + math.exp(-log_odds))


def _contradictions(question: _Question, candidate: _Candidate) -> int:
    """The question negates what the sentence does not; the question says the opposite of a word of the sentence."""
    keys = {word.key for word in candidate.words}
    is_affirmed = question.negated and _NEGATION.search(sentences.fold(candidate.text)) is None
    return is_affirmed + any(_has_opposite(key, keys, question) for key in question.keys - keys)


def _has_opposite(key: str, keys: set[str], question: _Question) -> bool:
    if not keys.isdisjoint(_OPPOSITE_OF.get(key, frozenset()) - question.keys):
        return True
    if len(key) < 4:
        return False
    return any(
        prefix + key in keys or (key.startswith(prefix) and key.removeprefix(prefix) in keys)
        for prefix in _NEGATIVE_PREFIXES
    )


def _chosen(ranked: Sequence[_Candidate], max_quotes: int) -> list[_Candidate]:
    """The best sentence, what it refers back to, then those nearly as good that say something else."""
    best = ranked[0]
    before = [each for each in ranked if each.passage == best.passage and each.end <= best.start]
    refers_back = best.words and best.words[0].key in _ANAPHORA
    antecedent = [max(before, key=lambda each: each.start)] if refers_back and before else []
    near = [
        each
        for each in ranked[1:]
        if each.rank >= best.rank - FURTHER_QUOTE_MARGIN
        and each.coverage >= best.coverage * FURTHER_QUOTE_COVERAGE
    ]
    chosen: list[_Candidate] = []
    for candidate in (best, *antecedent, *near):
        # Overlapping chunks bring the same sentence, or a part of it, twice.
        if not any(candidate.text in other.text or other.text in candidate.text for other in chosen):
            chosen.append(candidate)
    return chosen[:max_quotes]


def _quotes(passages: Sequence[Passage], chosen: Sequence[_Candidate]) -> tuple[Quote, ...]:
    """Passage by passage, the one with the best sentence first, in text order; neighbouring sentences make one quote."""
    quotes: list[Quote] = []
    for index in dict.fromkeys(candidate.passage for candidate in chosen):
        n, text = passages[index].n, passages[index].text
        joined: list[tuple[int, int]] = []
        for start, end in sorted((each.start, each.end) for each in chosen if each.passage == index):
            if joined and (start <= joined[-1][1] or text[joined[-1][1] : start].isspace()):
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        quotes.extend(Quote(n, start, end, text[start:end]) for start, end in joined)
    return tuple(quotes)
