"""A refusal is in the language of the question."""

import pytest

from app.rag import refusals

QUESTIONS = [
    ("en", "How long is the warranty of the EMS?"),
    ("en", "warranty EMS Eternalgy"),
    ("en", "What is 能源?"),
    ("en", "WHO WON THE WORLD CUP IN 1998?"),
    ("en", ""),
    ("en", "???"),
    ("en", "12345"),
    ("ms", "Apa itu EMS Eternalgy?"),
    ("ms", "Berapakah tempoh jaminan bagi sistem ini?"),
    ("ms", "Bolehkah saya membawa cuti ke tahun hadapan kerana sakit?"),
    ("id", "Kapan garansi produk ini berakhir?"),
    ("id", "Bisakah saya mendapatkan cuti tahunan karena sakit?"),
    ("zh", "保修期是多长时间？"),
    ("zh", "EMS Eternalgy是什么?"),
    ("zh-Hant", "這個產品的保固期有多久？"),
    ("ja", "保証期間はどのくらいですか？"),
    ("ja", "EMSとは何ですか"),
    ("ko", "보증 기간은 얼마나 되나요?"),
    ("ar", "ما هي مدة الضمان؟"),
    ("fa", "مدت گارانتی چقدر است؟"),
    ("ur", "وارنٹی کی مدت کتنی ہے؟"),
    ("he", "מה תקופת האחריות?"),
    ("hi", "वारंटी की अवधि कितनी है?"),
    ("bn", "ওয়ারেন্টির মেয়াদ কত?"),
    ("ta", "உத்தரவாதக் காலம் எவ்வளவு?"),
    ("th", "ระยะเวลารับประกันนานเท่าไร"),
    ("ru", "Какой срок гарантии?"),
    ("uk", "Який термін гарантії?"),
    ("el", "Πόσο διαρκεί η εγγύηση;"),
    ("vi", "Thời hạn bảo hành là bao lâu?"),
    ("vi", "EMS la gi và dùng để làm gì?"),
    ("es", "¿Cuánto dura la garantía?"),
    ("es", "cuanto tiempo dura la garantia de los equipos"),
    ("pt", "Quanto tempo dura a garantia?"),
    ("pt", "Qual é o prazo de garantia do equipamento?"),
    ("fr", "Quelle est la durée de la garantie ?"),
    ("fr", "Combien de jours de congé ai-je ?"),
    ("de", "Wie lange gilt die Garantie?"),
    ("de", "Was kostet das Gerät?"),
    ("it", "Quanto dura la garanzia?"),
    ("it", "Qual è la durata della garanzia?"),
    ("nl", "Hoe lang is de garantie?"),
    ("sv", "Hur lång är garantin?"),
    ("da", "Hvor længe gælder garantien, og hvad koster det?"),
    ("nb", "Hva er garantitiden, og hvor lenge varer den?"),
    ("fi", "Kuinka kauan takuu on voimassa?"),
    ("pl", "Jak długo trwa gwarancja?"),
    ("cs", "Jak dlouho trvá záruka? Může se prodloužit?"),
    ("hu", "Meddig tart a garancia?"),
    ("ro", "Cât durează garanția?"),
    ("tr", "Garanti süresi ne kadar?"),
    ("tl", "Gaano katagal ang warranty ng produkto at magkano ito?"),
    ("sw", "Je, muda wa dhamana ni upi?"),
]


@pytest.mark.parametrize(("language", "question"), QUESTIONS)
def test_the_refusal_is_in_the_language_of_the_question(language: str, question: str) -> None:
    assert refusals.language_of(question) == language
    assert refusals.sentence(question) == refusals.SENTENCES[language]


def test_every_language_that_can_be_recognised_has_its_own_sentence() -> None:
    recognised = set(refusals._SMALL_WORDS) | {language for language, _ in refusals._SCRIPTS}
    recognised |= {neighbour for found in refusals._NEIGHBOURS.values() for neighbour, _ in found}

    assert recognised == set(refusals.SENTENCES)
    assert len(set(refusals.SENTENCES.values())) == len(refusals.SENTENCES)


@pytest.mark.parametrize("text", ["\ud800", "a" * 100_000, "İıſK", "\u202e\u0000", "'’", "é" * 5000])
def test_any_text_gets_a_sentence(text: str) -> None:
    assert refusals.sentence(text) in refusals.SENTENCES.values()
