"""A citation is supported when its source says the very thing: facts exact, words near."""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from app.rag import sentences, support

EVALUATION: Final = Path(__file__).parents[3] / "shared" / "eval"
SOURCE: Final = (
    "EMS Eternalgy is an energy management system for factories. It watches every machine and cuts demand by 18 %.\n\n"
    "The controller comes with a five-year warranty, which does not cover water damage. Batteries are covered for 10 years or"
    " 6,000 cycles. Founded in 2016 by Dr. Tan Wei Ming in Penang, the company was sold by Borealis to Aurora in 2020."
)
MALAY: Final = "Kelulusan dibuat oleh Pengurus Jabatan. Cuti tahunan ialah 14 hari bagi pekerja baharu dan tidak boleh ditukar kepada wang."
CHINESE: Final = "保修期为五年，不包括水损坏。公司由陈伟明于2016年在槟城创立，有140名员工。"


def supported(answer: str, *texts: str) -> list[bool | None]:
    sources = {n: ("Brochure", text) for n, text in enumerate(texts or (SOURCE,), start=1)}
    return [citation.supported for citation in support.check(answer, sources)]


@pytest.mark.parametrize(
    "answer",
    [
        "It watches every machine and cuts demand by 18 % [1].",
        "The controller has a warranty of 5 years [1].",
        "The warranty does not cover water damage [1]",
        "Batteries are covered for ten years or 6000 cycles. [1]",
        "The company was founded by Tan Wei Ming in Penang in 2016 [1].",
    ],
)
def test_what_the_source_says_is_supported_also_in_other_words(answer: str) -> None:
    assert supported(answer) == [True]


@pytest.mark.parametrize(
    "answer",
    [
        "It watches every machine and cuts demand by 19 % [1].",
        "It watches every machine and cuts demand by 18 MW [1].",
        "The controller comes with a six-year warranty [1].",
        "The controller comes with a five-month warranty [1].",
        "The warranty does cover water damage [1].",
        "The controller does not come with a five-year warranty [1].",
        "The company was founded by Dr. Lim Wei Ming in Penang in 2016 [1].",
        "The company was sold by Aurora to Borealis in 2020 [1].",
        "Batteries are covered for 6,000 years or 10 cycles [1].",
        "The canteen opens at eight and serves nasi lemak [1].",
        "EMS Eternalgy is an accounting system for factories [1].",
    ],
)
def test_another_number_name_sense_or_passage_is_not_supported(answer: str) -> None:
    assert supported(answer) == [False]


def test_each_source_of_a_statement_is_judged_by_itself_and_together() -> None:
    first, second = "The warranty of the controller is five years.", "Batteries have a warranty of ten years."
    answer = "The controller has five years of warranty, batteries have ten years of warranty [1][2]. Both are blue [1]."
    assert supported(answer, first, second) == [True, True, False]


LEAVE: Final = (
    "Employees are entitled to 14 days of annual leave per year. Unused leave of up to 5 days may be carried forward to the next"
    " year until 31 March. Sick leave requires a medical certificate from the first day."
)
BENEFITS: Final = "The company pays RM 2,000 for dental care each year. Outpatient treatment is covered at panel clinics only."


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("You get 14 days of annual leave each year [1].", [True]),
        ("You may carry forward up to five unused days until 31 March of the following year [1].", [True]),
        ("A medical certificate is needed from day one of sick leave [1].", [True]),
        ("Dental care is covered up to RM2,000 per year [2].", [True]),
        ("- **Leave**: 14 days per year [1]\n- **Dental**: RM 2,000 [2]", [True, True]),
        (
            "You are entitled to 14 days of leave, and dental care of RM 2,000 is paid each year [1][2].",
            [True, True],
        ),
        ("Dental care is covered up to RM3,000 per year [2].", [False]),
        ("The company pays RM 2,000 for optical care each year [2].", [False]),
        ("Contractors are entitled to 14 days of annual leave per year [1].", [False]),
        ("Employees are entitled to 14 weeks of annual leave per year [1].", [False]),
        ("Outpatient treatment isn't covered at panel clinics [2].", [False]),
        ("Anda berhak mendapat 14 hari cuti tahunan setiap tahun [1].", [True]),
        ("Anda berhak mendapat 16 hari cuti tahunan setiap tahun [1].", [False]),
    ],
)
def test_answers_as_models_write_them(answer: str, expected: list[bool]) -> None:
    assert supported(answer, LEAVE, BENEFITS) == expected


def test_other_languages_are_judged_in_their_own_words() -> None:
    assert supported("Cuti tahunan bagi pekerja baharu ialah 14 hari [1].", MALAY) == [True]
    assert supported("Cuti tahunan bagi pekerja baharu ialah 16 hari [1].", MALAY) == [False]
    assert supported("Cuti tahunan boleh ditukar kepada wang [1].", MALAY) == [False]
    assert supported("保修期是五年[1]。公司由陈伟明创立[1]。", CHINESE) == [True, True]
    assert supported("保修期为六年[1]。公司由林国强于2016年在槟城创立[1]。", CHINESE) == [False, False]


def test_across_languages_the_facts_are_compared_and_without_any_nothing_is_said() -> None:
    assert supported("Jaminan bateri ialah 10 tahun atau 6,000 kitaran [1].") == [True]
    assert supported("Jaminan bateri ialah 12 tahun [1].") == [False]
    assert supported("电池的保修期更长[1]。") == [None]


def test_the_span_is_where_the_source_says_it() -> None:
    (citation,) = support.check("Kenyataan lain. Batteries are covered for 10 years [1].", {1: ("", SOURCE)})
    assert citation.span is not None
    assert "Batteries are covered for 10 years" in SOURCE[citation.span.start : citation.span.end]
    answer = "Kenyataan lain. Batteries are covered for 10 years [1]."
    assert answer[citation.start : citation.end] == "Batteries are covered for 10 years"


def test_markers_of_no_source_and_answers_without_statements_give_nothing() -> None:
    assert supported("It cuts demand [7].") == []
    assert supported("[1] [1][2] ...") == []
    assert supported("") == []
    assert len(support.check("a b c [1]. " * 5_000, {1: ("", SOURCE)})) <= 60


def gold_sentences(name: str) -> Iterator[tuple[str, str, str]]:
    """The text of a passage, its sentence that has the gold answer, and that."""
    folder = EVALUATION / name
    if not folder.exists():
        pytest.skip(f"the question set {name} is not here")
    rows = [
        json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").split("\n") if line
    ]
    texts = {row["_id"]: row["text"] for row in rows}
    lines = (folder / "qrels.tsv").read_text(encoding="utf-8").split("\n")[1:]
    passages = dict(reversed([line.split("\t")[:2] for line in lines if line]))
    for line in (folder / "queries.jsonl").read_text(encoding="utf-8").split("\n"):
        query = json.loads(line) if line else {}
        text = re.sub(r"\[\d+\]", "", texts.get(passages.get(str(query.get("_id")), ""), ""))
        golds: list[str] = query.get("answers", [])
        gold = next((gold for gold in golds if gold in text), "")
        place = text.find(gold)
        for sentence in sentences.split(text) if gold else ():
            if sentence.start <= place < sentence.end:
                yield text, text[sentence.start : sentence.end], gold


@pytest.mark.parametrize("name", ["squad2mini", "xquad_es", "xquad_zh", "idkmrc_dev"])
def test_gold_sentences_are_supported_and_wrong_ones_are_not(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(7)
    gold = [(text, said) for text, said, _ in gold_sentences(name)][:300]
    right = [support.check(f"{said} [1]", {1: ("", text)}) for text, said in gold]
    wrong_passages, wrong_numbers = [], []
    for text, said in gold:
        other = chance.choice(gold)[0]
        if said not in other:
            wrong_passages += support.check(f"{said} [1]", {1: ("", other)})
        number = re.search(r"\d+", said)
        changed = (
            said if number is None else f"{said[: number.start()]}{int(number[0]) + 3}{said[number.end() :]}"
        )
        if number and not re.search(rf"(?<!\d){int(number[0]) + 3}(?!\d)", text):
            wrong_numbers += support.check(f"{changed} [1]", {1: ("", text)})
    passing = [citation for citation in wrong_passages + wrong_numbers if citation.supported]
    share = sum(all(each.supported for each in found) for found in right) / len(right)
    with capsys.disabled():
        print(
            f"\n{name}: {share:.1%} right supported, {len(passing)} of {len(wrong_passages) + len(wrong_numbers)} wrong pass"
        )
    assert share >= 0.95
    assert not passing
