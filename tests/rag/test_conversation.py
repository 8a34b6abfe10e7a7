"""What a turn takes from the conversation before it."""

import pytest

from app.rag.conversation import leans_on_history, within_budget
from app.rag.llms import Turn


@pytest.mark.parametrize(
    "question",
    [
        "And in months?",
        "Why?",
        "How long does its warranty last in the cold?",
        "Did they also install the gateway in two days?",
        "Berapa lama tempoh jaminannya untuk kilang baharu itu?",
        "Bagaimana beliau memasang sistem itu di kilang?",
        "¿Cuánto tiempo tardan ellos en instalar el sistema?",
        "他们需要多长时间才能安装完这个系统？",
        "???",
        "",
    ],
)
def test_these_need_the_conversation(question: str) -> None:
    assert leans_on_history(question)


@pytest.mark.parametrize(
    "question",
    [
        "What pathway that plays a role in immune response to viruses is present in all eukaryotes?",
        "How long is the warranty of the Eternalgy EMS in months?",
        "Berapa lama tempoh jaminan sistem EMS Eternalgy untuk kilang?",
        "¿Cuánto tiempo es la garantía del sistema EMS en la fábrica?",
        "Wie lange dauert die Garantie für das System in der Fabrik?",
    ],
)
def test_these_stand_alone(question: str) -> None:
    assert not leans_on_history(question)


def test_the_newest_turns_that_fit_are_kept_in_their_order() -> None:
    turns = [Turn("user", "a" * 400), Turn("assistant", "b" * 40), Turn("user", "c" * 40)]

    assert within_budget(turns, 30) == turns[1:]
    assert within_budget(turns, 1000) == turns
    assert within_budget(turns, 0) == []
    assert within_budget([], 100) == []
