"""How far a vector is trusted, and how much of a search is the question that was asked before."""

import pytest

from app.rag import fusion

MINILM = "sentence-transformers/all-MiniLM-L6-v2@1110a243/384/f32/256/none"


@pytest.mark.parametrize(
    ("question", "weight"),
    [
        ("What was the revenue in 2019?", 0.4),
        ("Which of the 2019 and 1998 reports tells it?", 0.4),
        ("What does ERR-2019-7 mean?", 0.4),
        ("What is part 120195 for?", 0.6),
        ("How long is the warranty?", 0.6),
        ("What was the revenue in 3019?", 0.6),
    ],
)
def test_a_year_in_the_question_takes_trust_from_a_small_models_vector(question: str, weight: float) -> None:
    assert fusion.trust(MINILM, question, spoken="en", written=True).weight == weight


def test_the_year_matters_only_where_the_vector_was_trusted_more() -> None:
    asked = "Berapa pendapatan pada 2019?"

    assert fusion.trust(MINILM, asked, spoken="id", written=True).weight == 0.3
    assert fusion.trust("text-embedding-3-small", asked, spoken="id", written=True).weight == 0.5


@pytest.mark.parametrize(
    ("model", "cosine", "spoken", "points_back", "share"),
    [
        (MINILM, 0.0, "en", True, 0.7),
        (MINILM, 0.3, "en", False, 0.8),
        (MINILM, 0.1, "en", False, 1.0),
        (
            MINILM,
            0.9,
            "zh",
            False,
            1.0,
        ),  # unrelated questions are as near in a language that it does not know
        ("text-embedding-3-small", 0.9, "en", False, 1.0),
        ("text-embedding-3-small", 0.1, "zh", True, 0.7),
    ],
)
def test_the_question_before_counts_where_this_one_is_of_its_subject(
    model: str, cosine: float, spoken: str, points_back: bool, share: float
) -> None:
    assert fusion.share_of_question(model, cosine, spoken=spoken, points_back=points_back) == share
