"""Under which headings a chunk stands: the path from the highest to the nearest, as it is indexed and shown.

Headings are what the parser of a file found, or Markdown's own where it found none; a section goes on over pages.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from app.rag.chunking import Chunk, Page

Span = tuple[int, int, int]
"""Start and end of a heading's words in the text of its page, and its level, of which 1 is the highest."""

SEPARATOR: Final = " › "
_INDENTED: Final = 4
"""So many spaces before them make hashes code."""
_MOST_LEVELS: Final = 4
_MOST_CHARACTERS: Final = 100
_MARKDOWN: Final = re.compile(
    r"^ {0,3}(?:(?P<fence>`{3,}|~{3,})|(?P<marks>#{1,6})[ \t]+(?P<words>\S.*?)[ \t]*#*[ \t]*$)", re.MULTILINE
)


def of_markdown(text: str) -> list[Span]:
    """The headings that begin with hashes, outside of fenced code."""
    found: list[Span] = []
    if not _may_have_headings(text):
        return found
    fence = ""
    for match in _MARKDOWN.finditer(text):
        mark = match["fence"]
        if mark:
            if not fence:
                fence = mark
            elif mark[0] == fence[0] and len(mark) >= len(fence):
                fence = ""
        elif not fence:
            found.append((*match.span("words"), len(match["marks"])))
    return found


def _may_have_headings(text: str) -> bool:
    """Whether a line begins with a hash: to look for hashes takes a fiftieth of the time that the pattern takes."""
    place = text.find("#")
    while place >= 0:
        before = text[max(0, place - _INDENTED) : place].rstrip(" ")
        if before[-1:] == "\n" or (not before and place < _INDENTED):
            return True
        place = text.find("#", place + 1)
    return False


def paths(
    pages: Sequence[Page], chunks: Sequence[Chunk], headings: Mapping[int, Sequence[Span]]
) -> list[str | None]:
    """The path of headings over the beginning of each chunk, None where there are none; both in the order of the text."""
    coming = _in_order(pages, headings)
    following = next(coming, None)
    above: list[tuple[int, str]] = []
    found: list[str | None] = []
    places = {page.number: place for place, page in enumerate(pages)}
    for chunk in chunks:
        # A heading that the chunk begins with is over what follows it.
        while following is not None and following[:2] <= (places[chunk.page], chunk.start):
            _, _, level, words = following
            above = [*(each for each in above if each[0] < level), (level, words)]
            following = next(coming, None)
        found.append(SEPARATOR.join(words for _, words in above[-_MOST_LEVELS:]) or None)
    return found


def _in_order(
    pages: Sequence[Page], headings: Mapping[int, Sequence[Span]]
) -> Iterator[tuple[int, int, int, str]]:
    """Place of the page, start of the line, level and words of each heading."""
    for place, page in enumerate(pages):
        for start, end, level in headings.get(page.number) or of_markdown(page.text):
            words = " ".join(page.text[start:end].split())[:_MOST_CHARACTERS].strip()
            if words:
                # The marks before the words are part of the heading, and of a chunk that begins with it.
                yield place, page.text.rfind("\n", 0, start) + 1, level, words


def place(title: str, heading: str | None, *, page: int | None = None) -> str:
    """Where a passage stands, for a reader: title, headings but such that only repeat it, page."""
    parts = [title, *(part for part in (heading or "").split(SEPARATOR) if part)]
    distinct = [part for above, part in zip(["", *parts], parts, strict=False) if part and part != above]
    return SEPARATOR.join(distinct) + ("" if page is None else f", page {page}")
