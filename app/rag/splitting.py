"""Pages to chunks by a collection's settings: where no chunk may pass, the packer of `chunking` gets the parts one by one."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from app.core.chunking import ChunkingPlan, Splitter
from app.rag import chunking
from app.rag.chunking import Chunk, Page

_MARKDOWN_HEADING: Final = re.compile(r"^ {0,3}#{1,6}[ \t]+\S.*$", re.MULTILINE)
_LINE_START: Final = re.compile(r"(?<=\n)(?=[^\n])")


def split(
    pages: Sequence[Page], plan: ChunkingPlan, *, headings: Mapping[int, Sequence[int]] | None = None
) -> list[Chunk]:
    """The chunks of all pages in order: `page.text[start:end] == chunk.text`. Work for a thread.

    `headings` are where the headings of a page begin, by its number; Markdown's are found where there are none.
    """
    if plan.splitter is Splitter.SENTENCES:
        return chunking.split(pages, size_tokens=plan.size_tokens, overlap_tokens=plan.overlap_tokens)
    parts: list[Page] = []
    places: list[tuple[int, int]] = []
    for page in pages:
        for start, end in _parts(page, plan.splitter, (headings or {}).get(page.number)):
            parts.append(Page(len(places), page.text[start:end]))
            places.append((page.number, start))
    found = chunking.split(parts, size_tokens=plan.size_tokens, overlap_tokens=plan.overlap_tokens)
    return [
        Chunk(chunk.ordinal, number, start + chunk.start, start + chunk.end, chunk.text)
        for chunk in found
        for number, start in (places[chunk.page],)
    ]


def _parts(page: Page, splitter: Splitter, headings: Sequence[int] | None) -> Iterator[tuple[int, int]]:
    text = page.text
    if splitter is Splitter.LINES:
        starts = [match.start() for match in _LINE_START.finditer(text)]
    else:
        starts = list(headings or (match.start() for match in _MARKDOWN_HEADING.finditer(text)))
        starts = [start for start in starts if not _is_directly_below(text, start, starts)]
    borders = [0, *(start for start in starts if 0 < start < len(text)), len(text)]
    for start, end in pairwise(borders):
        if not text[start:end].isspace():
            yield start, end


def _is_directly_below(text: str, start: int, starts: Sequence[int]) -> bool:
    """Whether there is nothing but another heading before this one: the two belong together."""
    above = text.rfind("\n", 0, max(0, len(text[:start].rstrip())))
    line_start = above + 1
    before = text[:start].rstrip()
    return bool(before) and any(other == line_start for other in starts)
