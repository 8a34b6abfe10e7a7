"""What words of any language become: the same terms on both sides, and none that blow up."""

import random
import time
from collections.abc import Sequence

import pytest

from app.core.retrieval import TERM_DIMENSION, WeighedTerms
from app.rag import terms, weighing
from app.rag.analysis import analyse
from app.rag.languages import CODES, STEMMERS, UNKNOWN, detect, detect_all, stem, stop_words
from app.rag.terms import of_chunk, of_question


def found(question: str, text: str, language: str = "en") -> bool:
    """Whether any word of the question is a term of the text."""
    stored = of_chunk(text, language=language)
    return any(term.term in stored for term in of_question(question, languages=[language], spoken=language))


@pytest.mark.parametrize(
    ("language", "asked", "written"),
    [
        ("en", "refunding", "We refunded him"),
        ("de", "Häuser", "das Haus"),
        ("fr", "continuation", "il continue"),
        ("es", "informaciones", "la información"),
        ("id", "pembayaran", "membayar uang"),
        ("ms", "pembayaran", "membayar wang"),
        ("ru", "домами", "большие дома"),
        ("ar", "الكتب", "كتب كثيرة"),
        ("hi", "किताबों", "एक किताबें"),
        ("tr", "evlerde", "büyük evler"),
        ("fi", "talossa", "iso talo"),
        ("el", "σπίτια", "το σπίτι"),
        ("sv", "bilarna", "en bil"),
        ("pt", "nacionalidades", "a nacionalidade"),
        ("nl", "huizen", "grote huis huizen"),
        ("hu", "házakban", "a házak"),
    ],
)
def test_inflected_words_meet_in_their_stem(language: str, asked: str, written: str) -> None:
    assert found(asked, written, language)


@pytest.mark.parametrize(
    ("language", "asked", "written"),
    [
        ("zh", "首都", "东京是日本的首都。"),
        ("zh", "猫", "黑猫警长"),
        ("ja", "人口", "東京の人口は千四百万人です"),
        ("th", "ภาษาไทย", "นี่คือข้อความภาษาไทยที่ไม่มีช่องว่าง"),
        ("lo", "ພາສາລາວ", "ນີ້ແມ່ນພາສາລາວທີ່ບໍ່ມີຊ່ອງຫວ່າງ"),
        ("km", "ភាសាខ្មែរ", "នេះជាភាសាខ្មែរដែលគ្មានដកឃ្លា"),
        ("my", "မြန်မာ", "ဤသည်မှာမြန်မာဘာသာဖြစ်သည်"),
        ("ko", "서울", "서울 은 수도"),
    ],
)
def test_scripts_without_spaces_are_found_by_parts_of_a_sentence(
    language: str, asked: str, written: str
) -> None:
    assert found(asked, written, language)


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ("ERR-4021", "the log says ERR-4021 twice"),
        ("err4021", "the log says ERR-4021 twice"),
        ("AB12-34/5", "part AB12-34/5 is out of stock"),
        ("DE89370400440532013000", "pay to DE89 3704 0044 0532 0130 00 today"),
        ("DE89 3704 0044 0532 0130 00", "pay to DE89370400440532013000 today"),
        ("+60 12-345 6789", "call 60123456789"),
        ("Call +60 12-345 6789.", "60123456789"),
        ("1,496.5", "sales of 1496.5 million"),
        ("1.496,5", "sales of 1,496.5 million"),
        ("64GB", "64 GB of memory"),
        ("ｆｕｌｌ", "a full width word"),
        ("STRASSE", "die Straße"),
        ("cafe", "the café"),
        ("cafe\u0301", "the caf\u00e9"),
        ("email", "send an e-mail"),
        ("max_connections", "set MAX_CONNECTIONS to 9"),
        ("v2.3.1", "released as v2.3.1"),
        ("Ha Noi", "Hà Nội"),
        ("Łódź", "lodz"),
        ("kitab", "كتاب kitab"),
    ],
)
def test_codes_numbers_and_accents_are_found_however_they_are_written(asked: str, written: str) -> None:
    assert found(asked, written)


def test_a_code_is_worth_more_whole_than_in_parts() -> None:
    right, wrong = of_chunk("error ERR-4021", language="en"), of_chunk("err 77, page 4021", language="en")
    asked = of_question("ERR-4021", languages=["en"], spoken="en")

    assert sum(term.term in right for term in asked) == len(asked)
    assert sum(term.term in wrong for term in asked) == len(asked) - 1


def test_points_of_arabic_and_hebrew_do_not_matter() -> None:
    assert found("كِتَاب", "كتاب", "ar")
    assert found("שָׁלוֹם", "שלום", UNKNOWN)


def test_stop_words_are_no_terms_but_are_words_elsewhere() -> None:
    assert of_chunk("the of and", language="en") == {}
    assert of_question("What is the?", languages=["en"], spoken="en") == []
    assert of_chunk("die", language="en") != {}
    assert of_chunk("die", language="de") == {}


def test_a_word_with_accents_is_worth_as_much_as_one_without() -> None:
    plain = of_question("cafe", languages=["en"], spoken="en")
    accented = of_question("café", languages=["en"], spoken="en")

    assert sum(term.share for term in plain) == pytest.approx(sum(term.share for term in accented))


def test_words_of_several_languages_are_alternatives_of_one_word() -> None:
    asked = of_question("nationalities", languages=["en", "fr"], spoken="en")

    assert {term.word for term in asked} == {0}
    assert {language for term in asked for language in term.languages} == {"en", "fr"}


def test_a_longer_chunk_is_worth_less_for_the_same_word() -> None:
    short, long = of_chunk("heron", language="en"), of_chunk("heron " + "x " * 500, language="en")
    (term,) = short

    assert short[term] > long[term] > 0


def test_words_of_the_title_count_once() -> None:
    without = of_chunk("a heron", language="en")
    with_title = of_chunk("a heron", language="en", context="The heron's atlas: heron, heron")
    (heron,) = without

    assert with_title[heron] == pytest.approx(of_chunk("heron heron", language="en")[heron], rel=0.02)
    assert len(with_title) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\x00",
        "🦜" * 500,
        "-" * 5000,
        "a-" * 5000,
        "1 " * 5000,
        "+1" * 5000,
        "'" * 5000,
        "\u0301" * 5000,
        "a" * 100_000,
        "漢" * 50_000,
        "A1" * 20_000,
        "\ud800",
        "DE89" + " AAAA" * 5000,
        "(ab|cd)&!*:<->",
        "'; DROP TABLE",
    ],
)
def test_no_text_is_slow_or_out_of_range(text: str) -> None:
    started = time.process_time()
    stored = of_chunk(text, language="en")
    asked = of_question(text, languages=["en", "zh"], spoken="en")

    assert time.process_time() - started < 5
    assert len(stored) <= 15_000
    assert len({term.word for term in asked}) <= terms.MOST_WORDS
    assert all(1 <= term <= TERM_DIMENSION for term in [*stored, *(term.term for term in asked)])
    assert all(weight > 0 for weight in stored.values())


@pytest.mark.parametrize("language", sorted(STEMMERS))
def test_every_stemmer_works(language: str) -> None:
    assert stem("a", language)
    assert language in CODES


@pytest.mark.parametrize(
    "language",
    [
        "da",
        "nl",
        "en",
        "fi",
        "fr",
        "de",
        "hu",
        "it",
        "ne",
        "no",
        "pt",
        "ru",
        "es",
        "sv",
        "tr",
        "id",
        "ms",
        "ar",
        "hi",
        "vi",
    ],
)
def test_stop_words_are_folded_words(language: str) -> None:
    words = stop_words(language)

    assert len(words) > 30
    assert all(word == word.casefold() for word in words)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the refund policy of this company?", "en"),
        ("Berapakah bayaran yang perlu dijelaskan oleh pelanggan kepada syarikat?", "ms"),
        ("Bagaimana cara mendapatkan uang kembali karena barang rusak?", "id"),
        ("ما هي سياسة استرداد الأموال في هذه الشركة؟", "ar"),
        ("इस कंपनी की धन वापसी नीति क्या है?", "hi"),
        ("นโยบายการคืนเงินของบริษัทนี้คืออะไร", "th"),
        ("Chính sách hoàn tiền của công ty này là gì?", "vi"),
        ("这家公司的退款政策是什么?", "zh"),
        ("この会社の返金ポリシーは何ですか?", "ja"),
        ("Wie lautet die Rückerstattungsrichtlinie dieses Unternehmens?", "de"),
        ("Quelle est la politique de remboursement de cette entreprise ?", "fr"),
        ("Hva er selskapets retningslinjer for tilbakebetaling av penger?", "no"),
    ],
)
def test_languages_are_told_apart(text: str, language: str) -> None:
    assert detect(text)[0] == language


@pytest.mark.parametrize("text", ["", "123 456", "?!", "🦜"])
def test_what_has_no_letters_has_no_language(text: str) -> None:
    assert detect(text) == (UNKNOWN, 0.0)


SAMPLES = (
    "Unused annual leave lapses on 31 March of the following year, unless the employee was ill.",
    "Der nicht genommene Jahresurlaub verfällt am 31. März des Folgejahres, außer bei Krankheit.",
    "CUTI TAHUNAN YANG TIDAK DIAMBIL AKAN HANGUS PADA TANGGAL 31 MARET TAHUN BERIKUTNYA.",
    "未使用的年假将于次年三月三十一日失效。",
    "Неиспользованный отпуск сгорает 31 марта следующего года. " * 40,
    "ok",
    "4711 + 0815",
    "",
    "e\u0301te\u0301 \ud800",
)


def test_many_texts_are_detected_as_each_of_them_is() -> None:
    texts = [text[:length] for text in SAMPLES for length in (2, 31, 32, 33, 10_000)] * 9
    assert len(texts) > 256
    alone, together = [detect(text) for text in texts], detect_all(texts)
    assert [language for language, _ in together] == [language for language, _ in alone]
    assert [sure for _, sure in together] == pytest.approx([sure for _, sure in alone], abs=1e-4)
    assert detect_all([]) == []


def test_a_chunk_in_another_language_than_its_document_is_known_as_such() -> None:
    english, german = SAMPLES[0] * 4, SAMPLES[1] * 2
    analysed = analyse([english, english, german, "4711", english], title="Leave")
    assert [language for language, _ in analysed] == ["en", "en", "de", "en", "en"]
    assert set(of_chunk("Krankheiten", language="de")) <= set(analysed[2][1].numbers.tolist())


def test_terms_come_sorted_and_each_but_once() -> None:
    text = "a heron, a Heron, two-heron"
    (first,) = at_once([text], "en", context="heron")
    (second,) = at_once([""], "en")
    assert first.numbers.tolist() == sorted(set(first.numbers.tolist()))
    assert first.as_mapping() == of_chunk(text, language="en", context="heron")
    assert second.numbers.tolist() == []


def at_once(texts: Sequence[str], language: str, *, context: str = "") -> list[WeighedTerms]:
    with weighing.vocabulary() as vocabulary:
        return vocabulary.weigh(
            vocabulary.read(texts),
            sizes=list(map(len, texts)),
            spoken=[language] * len(texts),
            contexts=[context] * len(texts),
        )


WRITTEN = (
    *(
        "Unused annual leave, per §7",
        "an e-mail's",
        "don’t",
        "1,496.5",
        "x_y.z",
        "…",
        "a…b",
        "co\u00adoperate",
    ),
    *("DE89 3704 0044 0532 0130 00", "+60 12-345 6789", "2024-01-15", "in 1984 The", "12\u00a034 56", "⑫ ⑫"),
    *(
        "漢字文化圏2020年の",
        "พนักงานABC",
        "теперь\u0eb3",
        "ｶﾞｷﾞ",
        "कंपनी",
        "e\u0301te\u0301",
        "\u0301a",
        "a\u200d-b",
    ),
    *(
        "ﬁn İstanbul STRASSE",
        "½ ™ ㎏",
        "한국어\u1100\u1161",
        "<\u0338",
        "\0",
        "-" * 90,
        "a-" * 90,
        "👨\u200d👩\u200d👧",
        "𐍨ett𝐀",
    ),
    *("\n", " ", "", "\ufeff", "\U000103de…", "¨a", "a\u3099", "か\u3099", "1\ufe0f\u20e3"),
)


@pytest.mark.parametrize("language", ["en", "th", UNKNOWN])
def test_many_chunks_at_once_have_the_terms_that_each_has_by_itself(language: str) -> None:
    chance = random.Random(language)
    for _ in range(60):
        texts = ["".join(chance.choices(WRITTEN, k=chance.randrange(1, 12))) for _ in range(9)]
        texts.append(chr(chance.randrange(0xD800)).join(chance.choices(WRITTEN, k=9)))
        found = [chunk.as_mapping() for chunk in at_once(texts, language)]
        assert found == [of_chunk(text, language=language) for text in texts]


def test_the_usual_pattern_of_words_finds_what_the_whole_one_finds() -> None:
    words = [
        "naïve",
        "co-operate's",
        "Straße",
        "64GB",
        "l'eau",
        "1.496,5",
        "Ёлка",
        "x_y",
        "foo@bar.baz",
        "€7",
        "ﬁn",
    ]
    for text in (" ".join(words), "-".join(words), " ".join(words).upper()):
        folded = text.casefold()
        whole = [match[0] for match in terms._TOKEN.finditer(folded)]
        assert terms._PLAIN_TOKEN.findall(folded) == whole
        assert [match[0] for match in terms._USUAL_TOKEN.finditer(folded)] == whole


def test_a_vocabulary_is_given_up_when_it_is_full_and_what_it_knew_is_found_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weighing, "_vocabularies", [])
    before = at_once(["herons"], "en")[0].as_mapping()
    (kept,) = weighing._vocabularies
    at_once(["herons again"], "en")
    assert weighing._vocabularies == [kept]
    at_once([" ".join(f"w{number}" for number in range(weighing._MOST_TOKENS))], "en")
    assert kept.is_full
    assert weighing._vocabularies == []
    assert at_once(["herons"], "en")[0].as_mapping() == before


def test_threads_never_share_a_vocabulary() -> None:
    with weighing.vocabulary() as first, weighing.vocabulary() as second:
        assert first is not second
