"""From the chunks that a search found to passages that read well: merged, without repetitions, of several documents, within
a budget of tokens.

A passage is a `Hit` like those it is made of: `text` is the range from `start` to `end` of its page, and everything else is
that of the best of its chunks.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from app.core.retrieval import Hit
from app.core.text import estimate_tokens
from app.rag import sentences

_SPARE_AT_LEAST: Final = 3
_WIDEST_GAP: Final = 64
_LARGEST_SHARE: Final = 0.5
"""Of the budget, that one merged passage may take."""
_NEARLY_AS_GOOD: Final = 0.9
_LEAST_ROOM_TOKENS: Final = 32

_SHINGLE_WORDS: Final = 4
_NEW_SHARE: Final = 0.1
_DIGIT: Final = re.compile(r"\d")
_SOME: Final = 12
_SHARE_OF_SOME: Final = 0.6
_SHARE_OF_ALL: Final = 0.75
"""Of what is between spaces: of a copy it is nearly all, but where one has marks that the other lacks."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What is between two neighbouring chunks of a page and in neither: most likely space."""

    document_id: str
    page: int
    start: int
    end: int


def candidates(limit: int) -> int:
    """How many chunks to search for, so that so many passages are left of them."""
    return limit + max(_SPARE_AT_LEAST, limit // 2)


def gaps(hits: Sequence[Hit]) -> list[Gap]:
    """The ranges whose text has to be read before neighbours can be merged; none where chunks overlap."""
    return [
        Gap(before.document_id, before.page, before.end, after.start)
        for before, after in pairwise(_in_text_order(hits))
        if _same_page(before, after) and 0 < after.start - before.end <= _WIDEST_GAP
    ]


def compose(
    hits: Sequence[Hit], *, limit: int, context_tokens: int, between: Mapping[Gap, str] | None = None
) -> list[Hit]:
    """At most `limit` passages of the hits, best first, that have at most `context_tokens` together.

    `between` is the text of `gaps(hits)`; neighbours with anything but space between them stay apart.
    """
    merged = _merged(
        _without_repetitions(hits), between or {}, most_tokens=int(_LARGEST_SHARE * context_tokens)
    )
    return within_budget(_diverse(merged, limit), context_tokens)


def within_budget(passages: Iterable[Hit], context_tokens: int) -> list[Hit]:
    """The first passages that fit; the one that does not is cut at a sentence, and it is the last."""
    kept: list[Hit] = []
    room = context_tokens
    for passage in passages:
        tokens = estimate_tokens(passage.text)
        if tokens <= room:
            kept.append(passage)
            room -= tokens
            continue
        if not kept or room >= _LEAST_ROOM_TOKENS:
            cut = _cut(passage, room, anyhow=not kept)
            if cut is not None:
                kept.append(cut)
        break
    return kept


def _cut(passage: Hit, tokens: int, *, anyhow: bool) -> Hit | None:
    """The sentences at its beginning that fit; with `anyhow` what fits of the first one, if none does."""
    end = 0
    for sentence in sentences.split(passage.text):
        if estimate_tokens(passage.text[: sentence.end]) > tokens:
            break
        end = sentence.end
    if not end and anyhow:
        fitting = passage.text.encode()[: max(4, 4 * (tokens - 1))].decode(errors="ignore")
        end = len(sentences.cut(passage.text, max(1, len(fitting) - 1)).rstrip()) or 1
    if not end:
        return None
    return replace(passage, text=passage.text[:end], end=passage.start + end)


def _in_text_order(hits: Iterable[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: (hit.document_id, hit.page, hit.start, hit.end))


def _same_page(first: Hit, second: Hit) -> bool:
    return first.document_id == second.document_id and first.page == second.page


def _merged(hits: Sequence[Hit], between: Mapping[Gap, str], *, most_tokens: int) -> list[Hit]:
    """Neighbours as one, in the place of the best of them."""
    place = {hit.chunk_id: number for number, hit in enumerate(hits)}
    runs: list[Hit] = []
    for hit in _in_text_order(hits):
        joined = _joined(runs[-1], hit, between, place) if runs else None
        if joined is not None and estimate_tokens(joined.text) <= most_tokens:
            runs[-1] = joined
        else:
            runs.append(hit)
    return sorted(runs, key=lambda run: place[run.chunk_id])


def _joined(before: Hit, after: Hit, between: Mapping[Gap, str], place: Mapping[str, int]) -> Hit | None:
    if not _same_page(before, after):
        return None
    if after.start <= before.end:
        text = before.text + after.text[before.end - after.start :]
    else:
        gap = between.get(Gap(before.document_id, before.page, before.end, after.start))
        if gap is None or gap.strip():
            return None
        text = before.text + gap + after.text
    best = min(before, after, key=lambda hit: place[hit.chunk_id])
    return replace(
        best,
        start=before.start,
        end=max(before.end, after.end),
        text=text,
        heading=before.heading,
        relevance=max(before.relevance, after.relevance),
    )


def _diverse(passages: Sequence[Hit], limit: int) -> list[Hit]:
    """The best passages, of which one document has more than half only where no other's are nearly as good."""
    most = max(2, (limit + 1) // 2)
    taken: Counter[str] = Counter()
    left = list(range(len(passages)))
    chosen: list[int] = []
    while left and len(chosen) < limit:
        best = passages[left[0]]
        picked = left[0]
        if taken[best.document_id] >= most:
            others = (each for each in left if taken[passages[each].document_id] < most)
            picked = next(
                (each for each in others if passages[each].score >= _NEARLY_AS_GOOD * best.score), picked
            )
        left.remove(picked)
        taken[passages[picked].document_id] += 1
        chosen.append(picked)
    return [passages[number] for number in sorted(chosen)]


def _without_repetitions(hits: Sequence[Hit]) -> list[Hit]:
    """Without those that say again what a better one says; of two alike, the one from a document that is there already."""
    kept: list[Hit] = []
    known: set[str] = set()
    for hit in hits:
        parts = _parts(hit.text)
        twin = None
        if _has_most(known, parts.some, _SHARE_OF_SOME):
            twin = next((place for place, better in enumerate(kept) if _repeats(hit, better)), None)
        known |= parts.all
        if twin is None:
            kept.append(hit)
            continue
        documents = [each.document_id for each in kept]
        if (
            hit.document_id in documents
            and documents.count(documents[twin]) == 1
            and _repeats(kept[twin], hit)
        ):
            kept[twin] = hit
    return kept


def _repeats(hit: Hit, better: Hit) -> bool:
    """Whether nearly all that a passage says, with all of its names and numbers, stands in another one.

    Contracts and price lists may differ in nothing but a name or a number: then both are worth reading.
    """
    if _same_page(hit, better) and hit.start <= better.end and better.start <= hit.end:
        return False
    if not _may_repeat(hit.text, better.text):
        return False
    said, known = _said(hit.text), _said(better.text)
    if any(count > known.words[key] for key, count in said.telling.items()):
        return False
    new = _shingles(hit.text)
    return bool(new) and len(new - _shingles(better.text)) <= _NEW_SHARE * len(new)


@dataclass(frozen=True, slots=True)
class _Said:
    """The words of a passage in order, how often it says each, and how often each of its names and numbers."""

    keys: list[str]
    words: Counter[str]
    telling: Counter[str]


@lru_cache(maxsize=64)
def _said(text: str) -> _Said:
    """Read once, however many others a passage is compared with."""
    words = sentences.words(text)
    keys = [word.key for word in words]
    return _Said(
        keys,
        Counter(keys),
        Counter([word.key for word in words if word.capitalised or _has_digit(word.key)]),
    )


def _may_repeat(text: str, other: str) -> bool:
    """Whether most of all that is between spaces stands in the other text too, first of a few of it.

    Of a copy it is nearly all, however it is wrapped. Reading the words of two passages costs many times as much, and
    passages on one subject often share a sentence.
    """
    parts, known = _parts(text), _parts(other).all
    return _has_most(known, parts.some, _SHARE_OF_SOME) and _has_most(known, parts.all, _SHARE_OF_ALL)


def _has_most(known: Set[str], parts: frozenset[str], share: float) -> bool:
    return len(parts & known) >= share * len(parts)


class _Parts(NamedTuple):
    """All that is between spaces, and a few of it from all over the text."""

    all: frozenset[str]
    some: frozenset[str]


@lru_cache(maxsize=64)
def _parts(text: str) -> _Parts:
    parts = text.casefold().split()
    return _Parts(frozenset(parts), frozenset(parts[:: len(parts) // _SOME + 1]))


def _has_digit(key: str) -> bool:
    return not key.isalpha() and _DIGIT.search(key) is not None


@lru_cache(maxsize=64)
def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    """Each run of so many words that follow each other."""
    words = _said(text).keys
    return frozenset(zip(*(words[start:] for start in range(_SHINGLE_WORDS)), strict=False))
