"""A question about something else than a bot's topics is told from one about them."""

from functools import cache

import numpy as np
import pytest

from app.core.bots import Topic
from app.rag import local_model
from app.rag.guardrails import scope
from app.rag.guardrails.scope import Judge, Verdict

LEAVE = Topic(
    "Annual leave, sick leave, public holidays and other absences of employees",
    ("How many days of annual leave do I get?", "Do I need a medical certificate when I am sick?"),
)
SOLAR = Topic(
    "Solar panels, inverters, batteries and their warranty, installation and maintenance",
    ("What happens at night, or when the power grid fails?",),
)
BANKING = Topic(
    "Bank accounts, cards, transfers, fees and interest rates of our bank",
    (
        "How do I block my card?",
        "What does a transfer abroad cost?",
        "Which interest does the savings account have?",
    ),
)
INVESTMENT_ADVICE = Topic(
    "Advice on which shares, funds or cryptocurrencies to buy or sell",
    ("Should I buy Bitcoin?", "Which stocks will go up?"),
)
ABOUT = {
    "leave": (
        LEAVE,
        ["Can I carry unused vacation over to next year?", "Who approves my leave?", "How long is maternity leave?",
         "Is the day after Hari Raya a holiday?", "May I take unpaid leave to care for my mother?"],
    ),
    "solar": (
        SOLAR,
        ["How long is the warranty of the inverter?", "How do I clean the solar panels?", "What size of battery do I need?",
         "Does the system work during a power cut?", "Who installs the panels on my roof?"],
    ),
    "banking": (
        BANKING,
        ["How can I open an account?", "My credit card was stolen, what now?", "What is the limit of cash withdrawals?",
         "How high is the fee for a current account?", "When does a transfer to another bank arrive?"],
    ),
}  # fmt: skip
ABOUT_OTHER_THINGS = [
    "What is the best recipe for chocolate cake?",
    "Who painted the Mona Lisa?",
    "Write a Python function that reverses a list.",
    "How tall is Mount Everest?",
    "Which dinosaur was the largest?",
    "How do I get chewing gum out of hair?",
    "What are the rules of cricket?",
    "Translate good morning into French.",
    "Who is the president of Brazil?",
    "How do I grow tomatoes on a balcony?",
]


@cache
def _probes() -> scope.Vectors:
    return np.asarray(local_model.load().encode(list(scope.PROBES)))


def judge(inside: list[Topic], outside: list[Topic]) -> Judge:
    encode = local_model.load().encode
    vectors = [
        [np.asarray(encode(scope.texts_of(topic))) for topic in topics] for topics in (inside, outside)
    ]
    return Judge(vectors[0], vectors[1], _probes())


def verdict(judge: Judge, question: str, *, understood: bool = True) -> Verdict:
    return judge.judge(local_model.load().encode([question])[0], understood=understood)


@pytest.mark.parametrize("name", list(ABOUT))
def test_questions_of_a_topic_are_let_in_and_others_are_not(name: str) -> None:
    topic, questions = ABOUT[name]
    judged = judge([topic], [])
    assert [q for q in questions if verdict(judged, q) is Verdict.OUTSIDE] == []
    inside = [q for q in ABOUT_OTHER_THINGS if verdict(judged, q) is Verdict.INSIDE]
    assert inside == []
    outside = [q for q in ABOUT_OTHER_THINGS if verdict(judged, q) is Verdict.OUTSIDE]
    assert len(outside) >= 0.8 * len(ABOUT_OTHER_THINGS)


def test_a_topic_out_of_scope_is_refused_within_one_that_is_in_scope() -> None:
    judged = judge([BANKING], [INVESTMENT_ADVICE])
    for question in ("Should I invest in Ethereum now?", "Which shares do you recommend to buy?"):
        assert verdict(judged, question) is not Verdict.INSIDE
    for question in ABOUT["banking"][1]:
        assert verdict(judged, question) is not Verdict.OUTSIDE


def test_without_topics_in_scope_all_but_those_out_of_scope_are_let_in() -> None:
    judged = judge([], [INVESTMENT_ADVICE])
    assert verdict(judged, "Should I buy Bitcoin or sell it?") is Verdict.OUTSIDE
    for question in (*ABOUT_OTHER_THINGS, *ABOUT["leave"][1]):
        assert verdict(judged, question) is Verdict.INSIDE


def test_a_question_in_a_language_that_the_model_does_not_know_is_doubtful_at_most() -> None:
    judged = judge([LEAVE], [])
    assert verdict(judged, "Berapakah tinggi Gunung Kinabalu?", understood=False) is not Verdict.OUTSIDE


def test_judges_are_kept_for_the_versions_asked_last() -> None:
    judges = scope.Judges()
    made = judge([LEAVE], [])
    for number in range(300):
        judges.add(number, made)
    assert judges.get(0) is None
    assert judges.get(299) is made
