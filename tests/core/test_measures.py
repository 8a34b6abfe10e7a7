"""Measures of ranked lists against values worked out by hand."""

import math

import pytest

from app.core import measures


def test_ndcg_of_a_perfect_list_is_one_and_of_a_list_without_anything_relevant_nought() -> None:
    assert measures.ndcg(["a", "b"], {"a": 2, "b": 1}, at=10) == 1
    assert measures.ndcg(["x", "y"], {"a": 1}, at=10) == 0
    assert measures.ndcg([], {"a": 1}, at=10) == 0
    assert measures.ndcg(["a"], {}, at=10) == 0


def test_ndcg_discounts_by_the_logarithm_of_the_rank() -> None:
    assert measures.ndcg(["x", "a"], {"a": 1}, at=10) == pytest.approx(1 / math.log2(3))
    assert measures.ndcg(["b", "a"], {"a": 2, "b": 1}, at=10) == pytest.approx(
        (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3))
    )
    assert measures.ndcg(["x", "a"], {"a": 1}, at=1) == 0


def test_recall_and_reciprocal_rank_look_at_the_first_alone() -> None:
    relevant = {"a": 1, "b": 1, "c": 0}

    assert measures.recall(["a", "x", "b"], relevant, at=2) == 0.5
    assert measures.recall(["c"], relevant, at=10) == 0
    assert measures.reciprocal_rank(["x", "b", "a"], relevant, at=10) == 0.5
    assert measures.reciprocal_rank(["x", "b"], relevant, at=1) == 0


def test_equal_systems_do_not_differ_and_clearly_different_ones_do() -> None:
    first = [0.1 * (n % 7) for n in range(60)]

    assert measures.p_value(first, first) == 1
    assert measures.p_value(first, [value + 0.2 for value in first]) < 0.001
    assert measures.p_value(first, [value + (0.2 if n % 2 else -0.2) for n, value in enumerate(first)]) > 0.5
    assert measures.p_value([], []) == 1


def test_a_threshold_keeps_all_but_the_given_part() -> None:
    values = [n / 100 for n in range(100)]

    assert measures.threshold(values, false_refusals=0.05) == 0.05
    assert measures.threshold([0.5], false_refusals=0.05) == 0.5
    assert measures.threshold([], false_refusals=0.05) == 0
