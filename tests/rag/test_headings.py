"""Headings: those of Markdown, and the path over each chunk."""

from hypothesis import given
from hypothesis import strategies as st

from app.rag import headings
from app.rag.chunking import Chunk, Page, split

MANUAL = """# Manual

Welcome.

## Warranty ##

Five years.

### Batteries

Two years.

```
# no heading but a comment
```

## Service

By appointment.
"""


def path_at(
    pages: list[Page], given: dict[int, list[headings.Span]], *places: tuple[int, str]
) -> list[str | None]:
    texts = {page.number: page.text for page in pages}
    chunks = [
        Chunk(n, page, texts[page].index(words), texts[page].index(words) + len(words), words)
        for n, (page, words) in enumerate(places)
    ]
    return headings.paths(pages, chunks, given)


def test_markdown_headings_are_found_outside_of_code() -> None:
    found = [(MANUAL[start:end], level) for start, end, level in headings.of_markdown(MANUAL)]

    assert found == [("Manual", 1), ("Warranty", 2), ("Batteries", 3), ("Service", 2)]
    assert headings.of_markdown("#hashtag\nC# is a language\n    # code") == []


def test_a_chunk_stands_under_the_headings_before_it_and_the_one_it_begins_with() -> None:
    pages = [Page(1, MANUAL)]

    assert path_at(pages, {}, (1, "Welcome."), (1, "## Warranty"), (1, "Two years."), (1, "By app")) == [
        "Manual",
        "Manual › Warranty",
        "Manual › Warranty › Batteries",
        "Manual › Service",
    ]


def test_a_section_goes_on_over_pages_and_its_parsers_headings_count_before_marks() -> None:
    pages = [Page(1, "Intro\nText one.\n# not one"), Page(2, "Text two."), Page(3, "End\nText three.")]

    assert path_at(
        pages,
        {1: [(0, 5, 1)], 3: [(0, 3, 1)]},
        (1, "Intro"),
        (1, "# not one"),
        (2, "Text two."),
        (3, "Text three."),
    ) == ["Intro", "Intro", "Intro", "End"]


def test_a_text_without_headings_has_no_path() -> None:
    assert path_at([Page(1, "Only text.")], {}, (1, "Only")) == [None]


def test_the_place_of_a_passage_repeats_nothing() -> None:
    assert headings.place("Manual", "Manual › Warranty") == "Manual › Warranty"
    assert headings.place("Manual", None, page=3) == "Manual, page 3"
    assert headings.place("", "A › B") == "A › B"


@given(st.text(alphabet="# \n`~ab.é漢", max_size=300))
def test_any_text_has_a_path_for_each_of_its_chunks(text: str) -> None:
    pages = [Page(1, text)]
    chunks = split(pages, size_tokens=12, overlap_tokens=2)

    assert len(headings.paths(pages, chunks, {})) == len(chunks)
