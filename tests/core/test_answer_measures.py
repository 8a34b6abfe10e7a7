"""Whether an answer says what is right, and what is made of many answers."""

import pytest

from app.core.answer_measures import AnswerResult, AnswerSummary, contains
from app.rag.judging import read_verdict


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("The warranty is Ten  Years.", ["ten years"]),
        ("Total sales were $1,496.5 million.", ["$1496.5"]),
        ("Total sales were 1496.5.", ["1,496.5"]),
        ("It is no.", ["yes", "No"]),
        ("保修期为十年。", ["十年"]),
        ("The café “Ａ” is open", ["café a"]),
    ],
)
def test_right_answers_are_found_however_they_are_written(text: str, gold: list[str]) -> None:
    assert contains(text, gold)


@pytest.mark.parametrize(
    ("text", "gold"),
    [("Nothing is known.", ["no"]), ("15 years", ["5 years"]), ("", ["a"]), ("a", [""]), ("a", [])],
)
def test_parts_of_words_and_nothing_are_no_answers(text: str, gold: list[str]) -> None:
    assert not contains(text, gold)


def test_citations_refusals_and_faithfulness_are_counted_over_all_answers() -> None:
    summary = AnswerSummary(
        [
            AnswerResult(True, False, True, cited=2, cited_right=1, given_right=True, faithful=1.0),
            AnswerResult(True, False, False, cited=1, cited_right=0, given_right=True, faithful=0.5),
            AnswerResult(True, False, None, cited=0, cited_right=0, given_right=False),
            AnswerResult(True, True),
            AnswerResult(False, True),
            AnswerResult(False, False, cited=1),
        ]
    ).as_json()

    assert summary["contains_gold"] == 0.5
    assert summary["citation_precision"] == pytest.approx(1 / 3)
    assert summary["citation_recall"] == 0.5
    assert summary["uncited"] == 0.25
    assert (summary["refusal_precision"], summary["refusal_recall"]) == (0.5, 0.5)
    assert summary["false_refusals"] == 0.25
    assert summary["faithfulness"] == 0.75
    assert set(AnswerSummary().as_json().values()) == {0, None}


@pytest.mark.parametrize(
    ("verdict", "part"),
    [
        ("3/4", 0.75),
        ("Supported: 1 of 2.", 0.5),
        ("1. yes 2/2\nIn all 1/3", 1 / 3),
        ("all", None),
        ("5/4", None),
        ("0/0", None),
    ],
)
def test_a_verdict_is_read_or_is_none(verdict: str, part: float | None) -> None:
    assert read_verdict(verdict) == part
