"""Citations are verified while the answer streams, wherever the pieces are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rag.citations import CitationFilter


def run(pieces: list[str], known: set[int]) -> tuple[str, set[int]]:
    citations = CitationFilter(known)
    text = "".join(citations.feed(piece) for piece in pieces) + citations.flush()
    return text, citations.cited


@pytest.mark.parametrize(
    ("answer", "expected", "cited"),
    [
        ("Five years [1].", "Five years [1].", {1}),
        ("Five [1][2].", "Five [1][2].", {1, 2}),
        ("Five [1, 2].", "Five [1][2].", {1, 2}),
        ("Five [1; 9].", "Five [1].", {1}),
        ("Five [9].", "Five.", set()),
        ("Five [7] years [8]", "Five years", set()),
        ("五年【2】。", "五年[2]。", {2}),
        ("See [the manual](x) [2].", "See [the manual](x) [2].", {2}),
        ("Left open [1", "Left open [1", set()),
        ("[ ] a list [x]", "[ ] a list [x]", set()),
        ("[1]", "[1]", {1}),
        ("", "", set()),
    ],
)
def test_markers_without_a_source_are_removed(answer: str, expected: str, cited: set[int]) -> None:
    assert run([answer], {1, 2}) == (expected, cited)
    assert run(list(answer), {1, 2}) == (expected, cited)


@given(st.lists(st.text(alphabet="ab [],;123【】\n", max_size=8), max_size=12))
def test_the_text_does_not_depend_on_where_it_is_cut(pieces: list[str]) -> None:
    assert run(pieces, {1, 2}) == run(["".join(pieces)], {1, 2})


@given(st.text(alphabet="ab [],;0123456789【】", max_size=60))
def test_no_unknown_number_is_left_as_a_marker(answer: str) -> None:
    text, cited = run([answer], {1, 2})

    assert cited <= {1, 2}
    assert "[3]" not in text
    assert "[9]" not in text


def test_what_is_held_back_is_bounded() -> None:
    citations = CitationFilter({1})

    passed = sum(len(citations.feed("[1, ")) for _ in range(1000))

    assert passed > 3000
