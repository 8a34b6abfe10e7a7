"""What rerankers answer, in any shape, is an order of all passages or is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rag.reranking import UnusableOrder, read_numbers, read_scores, request_body


@pytest.mark.parametrize(
    ("answered", "order"),
    [
        ("[3, 1]", [2, 0, 1]),
        ("The best are [2], then [1].", [0, 1, 2]),
        ("2 > 3 > 1", [1, 2, 0]),
        ("```json\n[2, 2, 9, 0]\n```", [1, 0, 2]),
        ("Passage 3", [2, 0, 1]),
    ],
)
def test_numbers_are_read_from_whatever_is_around_them(answered: str, order: list[int]) -> None:
    assert read_numbers(answered, count=3) == order


@pytest.mark.parametrize("answered", ["", "none of them", "[]", "[7, 8]"])
def test_an_answer_without_a_known_number_is_no_order(answered: str) -> None:
    with pytest.raises(UnusableOrder):
        read_numbers(answered, count=3)


@pytest.mark.parametrize(
    "content",
    [
        {"results": [{"index": 2, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.2}]},
        {"results": [{"index": 0, "score": 0.2}, {"index": 2, "score": 0.9}]},
        {"data": [{"index": 2, "relevance_score": 3}, {"index": 0, "relevance_score": -3}]},
        [{"index": 2, "score": 0.99}, {"index": 0, "score": 0.01}, {"index": 7, "score": 1.0}],
    ],
)
def test_services_of_each_kind_are_understood(content: object) -> None:
    assert read_scores(json.dumps(content).encode(), count=3) == [2, 0, 1]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"{}",
        b'{"results": 1}',
        b"[]",
        b"[1]",
        b'[{"index": "0", "score": 1}]',
        b'[{"index": 0, "score": NaN}]',
        b'[{"index": true, "score": 1}]',
        b'[{"index": 0}]',
        b'[{"index": 0, "score": 1' + b"0" * 400 + b"}]",
        b'[{"index": 0, "score": 1' + b"0" * 5_000 + b"}]",
        b"[" * 100_000,
    ],
)
def test_anything_else_is_no_order(content: bytes) -> None:
    with pytest.raises(UnusableOrder):
        read_scores(content, count=3)


def test_with_a_model_the_request_is_of_coheres_form_and_without_one_of_teis() -> None:
    assert json.loads(request_body("q", ["a", "b"], model="m")) == {
        "model": "m",
        "query": "q",
        "documents": ["a", "b"],
        "top_n": 2,
    }
    assert json.loads(request_body("q", ["a"], model=None)) == {
        "query": "q",
        "texts": ["a"],
        "truncate": True,
    }


@given(st.text(max_size=200), st.integers(1, 30))
def test_an_order_has_every_passage_once(answered: str, count: int) -> None:
    try:
        order = read_numbers(answered, count=count)
    except UnusableOrder:
        return
    assert sorted(order) == list(range(count))
