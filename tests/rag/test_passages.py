"""Passages that read well: merged with exact offsets, without repetitions, of several documents, within a budget."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.retrieval import Hit
from app.core.text import estimate_tokens
from app.rag import passages
from app.rag.chunking import Page, split

PAGE = (
    "The gateway reads the meters of a factory every fifteen minutes. It stores the values for thirty days. "
    "When the connection is lost, it sends them later. The display shows the consumption of each machine. "
    "An alarm is raised above a threshold that the operator sets. The alarm is sent by e-mail to three people. "
    "The warranty covers parts and labour. A technician comes within two working days, wherever the plant may be. "
    "Spare parts are kept for ten years. Old devices are taken back and recycled without a fee. "
    "Training takes half a day and is held where the operators work. Further sessions can be booked on the portal. "
)


def hit(
    start: int, end: int, *, document: str = "doc_1", score: float = 0.5, page: int = 1, text: str = PAGE
) -> Hit:
    return Hit(
        chunk_id=f"chk_{document}_{page}_{start}",
        document_id=document,
        collection_id="col_1",
        title="T",
        source=None,
        page=page,
        start=start,
        end=end,
        text=text[start:end],
        score=score,
        similarity=score,
        coverage=score,
    )


def of_one_text(text: str, document: str, score: float) -> Hit:
    return hit(0, len(text), document=document, score=score, text=text)


def composed(hits: list[Hit], *, limit: int = 5, context_tokens: int = 6000) -> list[Hit]:
    between = {gap: PAGE[gap.start : gap.end] for gap in passages.gaps(hits)}
    return passages.compose(hits, limit=limit, context_tokens=context_tokens, between=between)


def test_overlapping_neighbours_become_one_passage_in_the_place_of_the_better() -> None:
    found = composed([hit(400, 500, score=0.9), hit(60, 160, score=0.8), hit(150, 300, score=0.7)])

    assert [(each.start, each.end, each.score) for each in found] == [(400, 500, 0.9), (60, 300, 0.8)]
    assert all(PAGE[each.start : each.end] == each.text for each in found)
    assert found[1].chunk_id == "chk_doc_1_1_60"


def test_neighbours_with_a_space_between_are_merged_by_the_text_of_their_page_and_others_are_not() -> None:
    end = PAGE.index(" It stores")
    hits = [hit(0, end), hit(end + 1, 120), hit(140, 200), hit(205, 260)]

    assert [(gap.start, gap.end) for gap in passages.gaps(hits)] == [(end, end + 1), (120, 140), (200, 205)]
    found = composed(hits)
    assert [(each.start, each.end) for each in found] == [(0, 120), (140, 200), (205, 260)]
    assert found[0].text == PAGE[:120]


def test_pages_and_documents_are_not_merged() -> None:
    hits = [hit(0, 100), hit(90, 200, page=2), hit(190, 300, document="doc_2")]

    assert passages.gaps(hits) == []
    assert len(composed(hits)) == 3


@given(st.data())
def test_merged_passages_are_ranges_of_their_page(data: st.DataObject) -> None:
    text = data.draw(st.text(min_size=1, max_size=600))
    chunks = split([Page(1, text)], size_tokens=data.draw(st.integers(12, 40)), overlap_tokens=4)
    chosen = data.draw(st.lists(st.sampled_from(chunks), unique=True)) if chunks else []
    hits = [hit(chunk.start, chunk.end, score=1 - n / 1000, text=text) for n, chunk in enumerate(chosen)]
    between = {gap: text[gap.start : gap.end] for gap in passages.gaps(hits)}

    found = passages.compose(hits, limit=50, context_tokens=data.draw(st.integers(1, 200)), between=between)

    assert all(text[each.start : each.end] == each.text for each in found)
    assert bool(found) == bool(hits)
    taken = sorted((each.start, each.end) for each in found)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(taken))


@given(st.text(min_size=1, max_size=400), st.integers(1, 120))
def test_a_passage_that_is_too_long_is_cut_within_the_budget(text: str, tokens: int) -> None:
    (found,) = passages.within_budget([of_one_text(text, "doc_1", 0.5)], tokens)

    assert text.startswith(found.text)
    assert found.end == len(found.text) > 0
    assert estimate_tokens(found.text) <= max(tokens, 2)


def test_the_last_passage_ends_with_a_sentence_and_nothing_follows_it() -> None:
    first, second, third = hit(0, 100), hit(200, 500), hit(600, 620, score=0.1)

    found = passages.within_budget([first, second, third], estimate_tokens(first.text) + 40)

    assert found[0] == first
    assert PAGE[200 : found[1].end] == found[1].text
    assert found[1].text.endswith(".")
    assert len(found) == 2
    assert passages.within_budget([first, second], estimate_tokens(first.text) + 5) == [first]


def test_the_same_text_of_another_document_is_left_out() -> None:
    original, copy = of_one_text(PAGE, "doc_1", 0.9), of_one_text(PAGE, "doc_2", 0.9)
    reflowed = of_one_text(PAGE.replace(". ", ".\n"), "doc_3", 0.8)

    assert composed([original, copy, reflowed]) == [original]


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("thirty days", "30 days"),
        ("thirty days. When", "90 days. When"),
        ("operator sets", "Operator Chen sets"),
    ],
)
def test_texts_that_differ_in_a_name_or_a_number_are_both_kept(there: str, here: str) -> None:
    texts = PAGE, PAGE.replace(there, here)

    assert len(composed([of_one_text(texts[0], "doc_1", 0.9), of_one_text(texts[1], "doc_2", 0.8)])) == 2


def test_of_two_alike_the_one_of_a_document_that_is_there_already_is_kept() -> None:
    other = of_one_text("The manual has forty pages in four languages.", "doc_2", 0.9)
    first, second = of_one_text(PAGE, "doc_1", 0.8), of_one_text(PAGE, "doc_2", 0.7)
    second = replace(second, page=2)

    assert [each.document_id for each in composed([other, first, second])] == ["doc_2", "doc_2"]


def test_one_document_does_not_fill_the_list_where_others_are_nearly_as_good() -> None:
    of_first = [hit(60 * n, 60 * n + 30, score=0.9 - n / 100) for n in range(6)]
    nearly, far = hit(0, 70, document="doc_2", score=0.84), hit(100, 170, document="doc_3", score=0.4)

    found = composed([*of_first, nearly, far])

    assert [each.document_id for each in found] == ["doc_1"] * 4 + ["doc_2"]
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert [each.document_id for each in composed([*of_first, far])] == ["doc_1"] * 5


def test_nothing_makes_no_passages() -> None:
    assert passages.gaps([]) == []
    assert composed([]) == []
