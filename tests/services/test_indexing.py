"""What a question is asked in, as the settings have it."""

import pytest

from app.core.config import Settings
from app.core.retrieval import Scope
from app.services import indexing

SCOPE = Scope(chunks=10, languages={"en": 1.0}, rows=10)


@pytest.mark.parametrize(
    ("setting", "question", "spoken"),
    [
        ("english", "Berapa lama tempoh jaminan pintu masuk rangkaian itu?", "en"),
        ("simple", "How long is the warranty of the gateway at the main entrance?", "en"),
        ("simple", "¿Cuánto dura la garantía de la puerta de enlace principal?", "es"),
        ("auto", "How long is the warranty of the gateway at the main entrance?", "en"),
    ],
)
def test_a_question_has_a_language_also_where_words_are_compared_as_they_are(
    setting: str, question: str, spoken: str
) -> None:
    settings = Settings(text_search_language=setting)
    assert indexing.analyse_question(settings, question, SCOPE).spoken == spoken


def test_words_that_are_compared_as_they_are_are_not_stemmed() -> None:
    simple, english = (
        indexing.analyse_question(Settings(text_search_language=setting), "warranties", SCOPE).terms
        for setting in ("simple", "english")
    )
    assert {term.languages for term in simple} == {("und",)}
    assert {term.term for term in simple} != {term.term for term in english}
