"""What a question asks for is read from its words, in many languages."""

import pytest

from app.rag import questions, sentences
from app.rag.questions import AnswerType


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("When was it founded?", AnswerType.TIME),
        ("Tahun berapa pabrik dibuka?", AnswerType.TIME),
        ("¿En qué año se fundó?", AnswerType.TIME),
        ("Когда открылся завод?", AnswerType.TIME),
        ("什么时候开放？", AnswerType.TIME),
        ("How long is the warranty?", AnswerType.NUMBER),
        ("Berapa lama garansi?", AnswerType.NUMBER),
        ("Wie viele Räume gibt es?", AnswerType.NUMBER),
        ("有多少员工？", AnswerType.NUMBER),
        ("Who founded it?", AnswerType.PERSON),
        ("Siapakah penemunya?", AnswerType.PERSON),
        ("¿Quién la fundó?", AnswerType.PERSON),
        ("Where is it?", AnswerType.PLACE),
        ("Di mana kantornya?", AnswerType.PLACE),
        ("どこにありますか？", AnswerType.PLACE),
        ("Why does it stop?", AnswerType.REASON),
        ("Perché si ferma?", AnswerType.REASON),
        ("What is it made of?", None),
    ],
)
def test_the_question_word_says_what_type_of_answer_is_asked_for(
    text: str, expected: AnswerType | None
) -> None:
    assert questions.read(text).answer_type is expected


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("What does the Eternalgy EMS measure?", ("eternalgy", "ems", "measure")),
        ("How long is the warranty?", ("warranty",)),
        ("Bagaimana cara memasak rendang?", ("cara", "memasak", "rendang")),
        ("什么是能源？", ("能源",)),
        ("Who is it?", ("who", "is", "it")),
        ("?", ()),
    ],
)
def test_terms_are_the_words_that_carry_meaning_or_else_all(text: str, terms: tuple[str, ...]) -> None:
    assert questions.read(text).terms == terms


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Does Tesla sell the model 3?", {"tesla", "3"}),
        ("Which pump was sold in 1998?", {"1998"}),
        ("Pumps were sold when?", set()),
        ("Which Pump Has The Best Motor Today?", set()),
        ("WHO FOUNDED THE FIRST LARGE COMPANY?", set()),
    ],
)
def test_names_are_capitalised_by_neither_place_nor_habit(text: str, names: set[str]) -> None:
    assert questions.read(text).names == names


@pytest.mark.parametrize(
    "text", ["What is an EMS?", "What does EMS mean?", "Apa itu EMS?", "¿Qué es EMS?", "什么是 EMS？"]
)
def test_a_definition_is_asked_for(text: str) -> None:
    assert questions.read(text).asks_definition


@pytest.mark.parametrize(
    "text", ["What does the EMS measure?", "When is it?", "What is the price of the large red pump in Bonn?"]
)
def test_a_fact_is_no_definition(text: str) -> None:
    assert not questions.read(text).asks_definition


@pytest.mark.parametrize(
    ("question", "sentence", "expected"),
    [
        ("Who is it?", "It is Ana.", True),
        ("Who is Ana?", "This is Ana.", False),
        ("When was it?", "In March.", True),
        ("When was it?", "Long ago.", False),
        ("How many are there?", "There are three.", True),
        ("How many of the 3?", "Of the 3.", False),
        ("Why?", "Because it rained.", True),
        ("工厂有多少员工？", "一百四十名", True),
        ("What is it?", "It is 3.", False),
    ],
)
def test_a_sentence_offers_what_the_question_does_not_say_itself(
    question: str, sentence: str, expected: bool
) -> None:
    assert questions.offers(questions.read(question), sentences.words(sentence)) is expected


@pytest.mark.parametrize(
    ("question", "sentence", "expected"),
    [
        ("What is the smallest tank?", "The largest tank is red.", True),
        ("What is the largest tank?", "The largest tank is red.", False),
        ("What about the smallest and the largest tank?", "The largest tank is red.", False),
        ("Where is leaded fuel?", "The unleaded fuel is here.", True),
        ("Siapa yang menang?", "Mereka kalah.", True),
    ],
)
def test_a_sentence_may_say_the_opposite_of_what_is_asked(
    question: str, sentence: str, expected: bool
) -> None:
    keys = {word.key for word in sentences.words(sentence)}
    assert questions.is_opposed(questions.read(question).keys, keys) is expected


@pytest.mark.parametrize("text", ["It isn't so.", "Tidak ada.", "Sin luz.", "Kein Licht.", "他不来。"])
def test_negations_are_seen(text: str) -> None:
    assert questions.negates(text)


def test_a_long_question_is_read_at_its_ends() -> None:
    read = questions.read(f"Alpha {'filler ' * 1_000} omega?")
    assert read.terms == ("alpha", "filler", "omega")
