"""The extractive answerer quotes word for word, in an order that reads well, refuses, and is bounded."""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.rag import evidence, extractive, sentences
from app.rag.extractive import ExtractiveAnswer, Passage

BROCHURE = """Eternalgy EMS

EMS Eternalgy is an energy management system for factories. It watches every machine and cuts demand by 18 %.

Key features:
- Real-time monitoring of every feeder
- Peak shaving with battery storage
- Automatic monthly reports

Warranty
The controller comes with a five-year warranty. Batteries are covered for 10 years or 6,000 cycles.

Founded in 2016 by Dr. Tan Wei Ming in Penang, Malaysia, the company employs 140 people."""
CANTEEN = "The canteen opens at 8 a.m. and serves nasi lemak. Parking is free for visitors."
SOURCES = [Passage(1, BROCHURE), Passage(2, CANTEEN)]


def ask(question: str, passages: Sequence[Passage] = SOURCES, *, max_quotes: int = 3) -> ExtractiveAnswer:
    return extractive.extract(question, passages, max_quotes=max_quotes)


def answer(question: str, passages: Sequence[Passage] = SOURCES) -> str:
    return " | ".join(quote.text for quote in ask(question, passages).quotes)


def texts(text: str, max_chars: int = sentences.MAX_SENTENCE_CHARS) -> list[str]:
    return [text[found.start : found.end] for found in sentences.split(text, max_chars=max_chars)]


def kinds(text: str) -> list[tuple[str, str]]:
    return [(found.kind.value, text[found.start : found.end]) for found in sentences.split(text)]


# Sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. Smith paid $3.5 million. He left!", ["Dr. Smith paid $3.5 million.", "He left!"]),
        (
            '"Why?" she asked. In the U.S. Senate, J. K. Row spoke.',
            ['"Why?" she asked.', "In the U.S. Senate, J. K. Row spoke."],
        ),
        ("See Fig. 3 on p. 12. It helps, e.g. here.", ["See Fig. 3 on p. 12.", "It helps, e.g. here."]),
        ("今天天气好。我去吃饭！你呢？好", ["今天天气好。", "我去吃饭！", "你呢？", "好"]),
        ("هل هذا صحيح؟ نعم. شكرا", ["هل هذا صحيح؟", "نعم.", "شكرا"]),
        ("यह एक है। वह दो है॥ ठीक", ["यह एक है।", "वह दो है॥", "ठीक"]),
        (
            "Ia lahir di Jakarta.[1] Ia pindah.[2][3]Lalu pulang.",
            ["Ia lahir di Jakarta.[1]", "Ia pindah.[2][3]", "Lalu pulang."],
        ),
        ("Harga Rp. 5 dll. murah.", ["Harga Rp. 5 dll. murah."]),
        (
            "- One\n- Two\n• Three\n\n# Head\n1. Go home. Then rest.\n2. Stop",
            ["One", "Two", "Three", "Head", "1. Go home.", "Then rest.", "2. Stop"],
        ),
        ("Price: 500\nPower: 20 kW", ["Price: 500", "Power: 20 kW"]),
        ("a line that was\nonly wrapped. Next.", ["a line that was\nonly wrapped.", "Next."]),
        ("", []),
        (" \n\t\n ", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


def test_markdown_is_read_by_its_blocks() -> None:
    text = (
        "# Pump\nquiet and small\n\n| Model | Price |\n|:------|------:|\n| X1 | 5 EUR. Net. |\n| X2 | 9 EUR |\n"
        "It has no tank.\n- steel\n* oil\n1. Plug in. Wait.\n\nService\n-------\nCall us. **Why?** We help."
    )
    assert kinds(text) == [
        ("heading", "Pump"),
        ("prose", "quiet and small"),
        ("heading", "Model | Price"),
        ("row", "X1 | 5 EUR. Net."),
        ("row", "X2 | 9 EUR"),
        ("prose", "It has no tank."),
        ("item", "steel"),
        ("item", "oil"),
        ("item", "1. Plug in."),
        ("item", "Wait."),
        ("heading", "Service"),
        ("prose", "Call us."),
        ("prose", "**Why?** We help."),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Warranty\nThe pump is covered for two years.", "heading"),
        ("Price: 500\nPower: 20 kW", "prose"),
        ("Is it loud?\nNo.", "question"),
        ("## Is it loud?\nNo.", "question"),
        ("Features\n- quiet", "heading"),
        ("Features:\n- quiet", "prose"),
    ],
)
def test_a_line_heads_what_is_below_it_by_mark_or_by_form(text: str, expected: str) -> None:
    assert kinds(text)[0][0] == expected


def test_an_ellipsis_between_spaces_omits_words_and_ends_nothing() -> None:
    assert texts("Run INSERT … SELECT now. Wait… Done.") == ["Run INSERT … SELECT now.", "Wait…", "Done."]


def test_a_line_as_wide_as_its_paragraph_is_wrapped_and_a_shorter_one_ended() -> None:
    paragraph = (
        "This line is as wide as the paragraph in which it\nStands, being wrapped. Short\n"
        "Another line stands by itself here"
    )
    assert texts(paragraph) == [
        "This line is as wide as the paragraph in which it\nStands, being wrapped.",
        "Short",
        "Another line stands by itself here",
    ]


@given(st.text(max_size=400), st.integers(min_value=1, max_value=60))
def test_sentences_are_ordered_disjoint_trimmed_bounded_and_lose_no_word(text: str, max_chars: int) -> None:
    spans = sentences.split(text, max_chars=max_chars)
    position = 0
    for start, end, *_ in spans:
        assert position <= start < end <= len(text)
        assert end - start <= max_chars
        assert text[start:end] == text[start:end].strip()
        position = end
    kept = [char for start, end, *_ in spans for char in text[start:end] if char.isalpha()]
    assert kept == [char for char in text if char.isalpha()]


def test_a_sentence_without_end_is_cut_at_word_boundaries() -> None:
    pieces = texts("word " * 1_000, max_chars=103)
    assert max(map(len, pieces)) <= 103
    assert {word for piece in pieces for word in piece.split()} == {"word"}


@pytest.mark.parametrize(
    "text", ["." * 1_000_000 + "x", " " * 1_000_000 + ".", "a." * 500_000, "\n-" * 100_000, "x" * 1_000_000]
)
def test_splitting_takes_time_linear_in_a_hostile_text(text: str) -> None:
    started = time.process_time()
    sentences.split(text)
    assert time.process_time() - started < 5


def test_words_fold_case_accents_and_possessives_and_pair_the_characters_of_dense_scripts() -> None:
    assert [word.key for word in sentences.words("Según Tesla’s 3.5 ÉTATS")] == [
        "segun",
        "tesla",
        "3.5",
        "etats",
    ]
    assert [word.key for word in sentences.words("能源管理 EMS")] == ["能源", "源管", "管理", "ems"]


@pytest.mark.parametrize(
    ("term", "word"), [("founded", "founder"), ("menemukan", "ditemukan"), ("garantía", "garantías")]
)
def test_a_word_is_similar_to_its_inflections(term: str, word: str) -> None:
    term, word = sentences.fold(term), sentences.fold(word)
    assert term in evidence.similar_words([term], {word})[word]


@pytest.mark.parametrize(("term", "word"), [("1993", "1994"), ("organism", "mechanism"), ("cat", "car")])
def test_a_word_is_not_similar_to_another_that_shares_some_letters(term: str, word: str) -> None:
    assert evidence.similar_words([term], {word}) == {}


# Quotes


@settings(max_examples=60, deadline=None)
@given(
    st.text(max_size=60), st.lists(st.text(max_size=300), max_size=4), st.integers(min_value=1, max_value=4)
)
def test_quotes_are_verbatim_for_any_unicode(
    question: str, passage_texts: list[str], max_quotes: int
) -> None:
    passages = [Passage(n, text) for n, text in enumerate(passage_texts, start=1)]
    found = extractive.extract(question, passages, max_quotes=max_quotes, min_confidence=0.0)
    assert len(found.quotes) <= max_quotes
    assert 0.0 <= found.confidence <= 1.0
    for quote in found.quotes:
        assert quote.text == passage_texts[quote.n - 1][quote.start : quote.end]
        assert quote.text.strip() == quote.text != ""


def test_offsets_count_code_points() -> None:
    text = "🙂🙂 Façade naïve. Der Vertrag mit Örsted endet 2031. 🙂"
    (quote,) = ask("Wann endet der Vertrag mit Örsted?", [Passage(7, text)]).quotes
    assert (quote.n, quote.text) == (7, "Der Vertrag mit Örsted endet 2031.")
    assert text[quote.start : quote.end] == quote.text


def test_the_best_passage_comes_first_and_its_quotes_in_text_order() -> None:
    early = "The pump was repaired in March. Lunch is at noon. The pump in hall 4 was repaired by Ana Ruiz."
    passages = [Passage(1, "Hall 4 has a pump."), Passage(2, early)]
    quotes = ask("Who repaired the pump in hall 4?", passages).quotes
    assert quotes[0].n == 2
    assert "Ana Ruiz" in " ".join(quote.text for quote in quotes if quote.n == 2)
    for n in (1, 2):
        starts = [quote.start for quote in quotes if quote.n == n]
        assert starts == sorted(starts)


def test_neighbouring_sentences_are_one_quote() -> None:
    text = "The valve opens at 5 bar. The valve closes at 3 bar. Lunch is at noon."
    (quote,) = ask("At how many bar does the valve open and close?", [Passage(1, text)]).quotes
    assert quote.text == "The valve opens at 5 bar. The valve closes at 3 bar."


def test_a_sentence_that_refers_back_is_quoted_with_the_one_before() -> None:
    text = "Marie Curie was a physicist. She discovered polonium in Paris in 1898. Lunch is at noon."
    assert answer("When was polonium discovered?", [Passage(1, text)]).startswith("Marie Curie")


def test_the_same_sentence_in_overlapping_chunks_is_quoted_once() -> None:
    text = "The warranty of the pump is two years."
    passages = [Passage(1, f"Intro here. {text}"), Passage(2, f"{text} Outro here.")]
    assert [quote.text for quote in ask("How long is the warranty of the pump?", passages).quotes] == [text]


def test_a_lead_in_or_heading_is_quoted_with_its_list() -> None:
    assert answer("What are the key features?").endswith("- Automatic monthly reports")
    listed = "## Features\n\n- quiet motor\n- steel housing\n\nCall us any time."
    assert answer("What are the features?", [Passage(1, listed)]) == (
        "Features\n\n- quiet motor\n- steel housing"
    )


def test_a_heading_counts_for_what_is_below_it_but_is_not_quoted_with_it() -> None:
    assert answer("How long is the warranty?") == "The controller comes with a five-year warranty."
    text = "# Pumps\n\n## Warranty\n\nTwo years from purchase.\n\n## Weight\n\nTen kilograms."
    assert answer("How long is the warranty?", [Passage(1, text)]) == "Two years from purchase."


def test_a_heading_is_quoted_when_nothing_better_answers() -> None:
    text = "We thank everybody for the good work. See you soon.\n\n## Hotline of Acme Tools 0800 1234"
    assert answer("What is the hotline of Acme Tools?", [Passage(1, text)]) == (
        "Hotline of Acme Tools 0800 1234"
    )


def test_a_question_in_the_text_is_answered_by_what_follows_it() -> None:
    text = "How do I clean the filter?\nRinse it under water.\n\nCan I return the pump?\nYes, within a month."
    assert answer("Can I return the pump?", [Passage(1, text)]) == "Yes, within a month."


def test_a_row_of_a_table_is_quoted_as_a_row() -> None:
    text = "Prices are net.\n\n| Model | Price |\n|---|---|\n| X1 small | 500 EUR |\n| X1 large | 900 EUR |\n"
    assert answer("What is the price of the X1 large?", [Passage(1, text)]) == "X1 large | 900 EUR"


def test_no_more_than_the_quotes_asked_for() -> None:
    text = "\n".join(f"The pump in hall {n} was made in 19{n}." for n in range(10, 40))
    assert len(ask("When was the pump made?", [Passage(1, text)], max_quotes=2).quotes) <= 2


# Answers

README = (
    "Eternalgy EMS is an energy management system for factories. It measures every machine each second."
    " The warranty is five years."
)


@pytest.mark.parametrize("title", ["Eternalgy EMS Brochure", ""])
def test_a_sentence_that_refers_back_is_about_what_was_named_before(title: str) -> None:
    found = answer("What does the Eternalgy EMS measure?", [Passage(1, README, title)])
    assert found.endswith("It measures every machine each second.")


def test_what_the_title_says_is_said_of_every_sentence() -> None:
    question = "How long is the warranty of the EMS?"
    titled = [Passage(1, README, "Eternalgy EMS Brochure")]
    assert answer(question, titled) == answer(question.lower(), titled) == "The warranty is five years."


def test_the_subject_of_a_decision_is_found_below_its_heading() -> None:
    decision = Path(__file__).parents[2] / "docs/decisions/0002-roles-behind-every-transaction.md"
    found = answer("Which two roles stand behind every transaction?", [Passage(1, decision.read_text())])
    assert "`ibid_app` sees" in found
    assert "`ibid_system` sees all" in found
    assert "Context" not in found


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is EMS Eternalgy?", "energy management system"),
        ("Apa itu EMS Eternalgy?", "energy management system"),
        ("¿Qué es EMS Eternalgy?", "energy management system"),
        ("什么是 EMS Eternalgy？", "energy management system"),
        ("Who founded the company?", "Tan Wei Ming"),
        ("How many people does the company employ?", "140 people"),
        ("When was Eternalgy founded?", "2016"),
        ("What time does the canteen open?", "8 a.m."),
        ("WHO FOUNDED THE COMPANY?", "Tan Wei Ming"),
    ],
)
def test_a_question_is_answered_in_its_own_language_or_through_names(question: str, expected: str) -> None:
    assert expected in answer(question)


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        (
            "Berapa lama garansi pompa?",
            "Pompa ini dibuat di Bandung. Garansi pompa berlaku dua tahun.",
            "dua tahun",
        ),
        (
            "Siapa penemu mesin uap?",
            "Mesin uap itu besar. Mesin uap ditemukan oleh James Watt.",
            "James Watt",
        ),
        ("Bila kilang itu dibuka?", "Kilang itu besar. Kilang itu dibuka pada 3 Mei 2019.", "2019"),
        (
            "¿Cuándo se inauguró la fábrica?",
            "La fábrica es grande. La fábrica se inauguró en mayo de 2019.",
            "2019",
        ),
        ("工厂有多少员工？", "工厂位于槟城。工厂共有一百四十名员工。", "一百四十名员工"),
        ("ポンプの保証期間は何年ですか？", "ポンプは青いです。ポンプの保証期間は二年です。", "二年"),
        ("كم عدد موظفي المصنع؟", "المصنع كبير. عدد موظفي المصنع 140 موظفا.", "140"),
        ("Когда открылся завод?", "Завод большой. Завод открылся в 2019 году.", "2019"),
    ],
)
def test_the_sentence_with_the_type_of_answer_asked_for_is_found_in_many_languages(
    question: str, text: str, expected: str
) -> None:
    found = ask(question, [Passage(1, text)], max_quotes=1)
    assert expected in found.quotes[0].text


# Refusals


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "What is the best pizza in Naples?",
        "Who is the CEO?",
        "How do I reset my password?",
        "Bagaimana cara memasak rendang?",
        "¿Cuál es la capital de Francia?",
        "法国的首都是哪里？",
        "hello",
        "?",
        "",
        "...",
    ],
)
def test_what_is_off_topic_is_refused(question: str) -> None:
    assert ask(question).quotes == ()


@pytest.mark.parametrize(
    ("question", "near_miss"),
    [
        ("Who founded the company in Penang?", "Who did not found the company in Penang?"),
        ("Who founded the company in Penang?", "Who founded the company in Singapore?"),
        ("What does the system cost in 2016?", "What does the system cost in 2017?"),
    ],
)
def test_a_negated_or_renamed_question_is_trusted_less(question: str, near_miss: str) -> None:
    assert ask(near_miss).confidence < ask(question).confidence - 0.1


def test_a_question_about_the_opposite_is_trusted_less() -> None:
    passages = [Passage(1, "The largest tank holds 900 litres of unleaded fuel.")]
    assert ask("How much does the smallest tank hold?", passages).confidence < 0.4
    assert ask("How much does the largest tank hold?", passages).confidence > 0.5
    assert (
        ask("How much leaded fuel?", passages).confidence
        < ask("How much unleaded fuel?", passages).confidence
    )


def test_nothing_to_quote_from_is_refused() -> None:
    for passages in ([], [Passage(1, "")], [Passage(1, " \n ")]):
        assert ask("What is EMS Eternalgy?", passages) == ExtractiveAnswer((), 0.0)


def test_what_the_title_names_counts_as_named() -> None:
    text = "The controller comes with a five-year warranty."
    question = "How long is the warranty of the Zephyr controller?"
    untitled, titled = Passage(1, text), Passage(1, text, title="Zephyr manual")
    assert ask(question, [titled]).confidence > ask(question, [untitled]).confidence


def test_confidence_is_compared_with_the_callers_bound() -> None:
    found = ask("What is EMS Eternalgy?")
    refused = extractive.extract("What is EMS Eternalgy?", SOURCES, min_confidence=found.confidence + 0.01)
    assert refused == ExtractiveAnswer((), found.confidence)


# Bounds


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("What is EMS Eternalgy? " * 348, BROCHURE),
        ("What is the pump? ", "The pump is here. " * 6_000),
        ("What is the pump? ", "pump " * 200_000),
        ("是什么" * 2_600, "能源管理系统" * 17_000),
        ("a" * 8_000, "a" * 1_000_000),
        (" ".join(f"word{n}" for n in range(900)), " ".join(f"word{n}s" for n in range(15_000))),
        ("n't " * 2_000, "...!!!???" * 11_000),
        ("(" * 8_000, "\n- :" * 25_000),
    ],
    ids=[
        "long question",
        "many sentences",
        "one sentence",
        "dense",
        "one word",
        "many words",
        "stops",
        "lists",
    ],
)
def test_work_is_bounded_for_hostile_input(question: str, text: str) -> None:
    passages = [Passage(n, text) for n in range(1, 51)]
    started = time.process_time()
    found = extractive.extract(question[:8_000], passages, min_confidence=0.0)
    assert time.process_time() - started < 2
    assert sum(len(quote.text) for quote in found.quotes) <= 3 * evidence.MAX_QUOTE_CHARS + 10


def test_the_same_input_gives_the_same_answer_whatever_the_hash_seed() -> None:
    program = (
        "import sys; from app.rag.extractive import Passage, extract;"
        "print(extract('Who repaired the old pumps in the halls?',"
        "[Passage(1, sys.argv[1]), Passage(2, sys.argv[1] + ' More pump repairs.')]))"
    )
    text = "Ana repairs pumps. Ben repaired halls. The old pump in a hall was repaired by Cy. Halls pump."

    async def run(seed: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, text, env={"PYTHONHASHSEED": seed}, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        return output

    outputs = {asyncio.run(run(seed)) for seed in ("1", "2", "3")}
    assert len(outputs) == 1
    assert b"ExtractiveAnswer" in outputs.pop()
