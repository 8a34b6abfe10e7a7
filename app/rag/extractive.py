"""The extractive answerer: which sentences of the passages answer a question, word for word, or none.

Owns the answer-level check of a system without a language model: which sentences to quote, in which order,
and how sure we must be to quote any. Retrieval and the wording around quotes are not here.

A sentence is *ranked* by what it says about the question; the answer is *refused* when the evidence for its
best sentence is weak. Both are weighted sums of a few features, fitted by (listwise) logistic regression,
cross-validated, on questions of SQuAD 2.0, XQuAD, IDK-MRC and MTRAG, and rounded. The similarities of an
embedding model would add half a point and cost 90 ms. All work is bounded, whatever comes in.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.rag import evidence, questions
from app.rag.evidence import Candidate, Evidence, Passage
from app.rag.questions import Question
from app.rag.sentences import Kind

__all__ = ["DEFAULT_MIN_CONFIDENCE", "ExtractiveAnswer", "Passage", "Quote", "extract"]

# Refuses a tenth of the answerable questions of SQuAD 2.0.
DEFAULT_MIN_CONFIDENCE = 0.4

# What each feature adds to the rank of a sentence, in units of "covers every term of the question".
RANK_COVERAGE = 1.0
RANK_COVERAGE_AROUND = 0.25
RANK_NAMES_ELSEWHERE = 0.4
RANK_ANSWER_TYPE = 0.3
RANK_PASSAGE_POSITION = -0.2
RANK_DEFINITION = 0.15
RANK_OPENING = 0.1
MAX_PENALISED_POSITION = 5
# A further sentence is quoted when it ranks at most this much below the best one, and covers at least this
# share of it.
FURTHER_QUOTE_MARGIN = 0.35
FURTHER_QUOTE_COVERAGE = 0.5

# What each feature adds to the log-odds that the question is answered (at even odds of its being answerable).
CONFIDENCE_BASE = -0.8
CONFIDENCE_COVERAGE = 1.1
# For no coverage at all, and in proportion below LOW_COVERAGE.
CONFIDENCE_LOW_COVERAGE = -0.7
CONFIDENCE_CONTRADICTION = -1.6
CONFIDENCE_MISSING_NAMES = -1.2
# Names of the question that the passage has in other sentences: often it says of them something else.
CONFIDENCE_NAMES_ELSEWHERE = -1.0
MOST_NAMES_ELSEWHERE = 0.4
# For each term: to cover many is less of a coincidence.
CONFIDENCE_TERM = 0.08
COUNTED_TERMS = 4, 10
# For passages that have nothing to do with the question, in proportion where the search is not sure that they have.
CONFIDENCE_DOUBT = -4.0
LOW_COVERAGE = 0.4


@dataclass(frozen=True, slots=True)
class Quote:
    """`text == passage.text[start:end]`, in code points."""

    n: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class ExtractiveAnswer:
    """The quotes in reading order; none means refused. `confidence` is between 0 and 1."""

    quotes: tuple[Quote, ...]
    confidence: float


def extract(
    question: str,
    passages: Sequence[Passage],
    *,
    max_quotes: int = 3,
    min_confidence: float = DEFAULT_MIN_CONFIDENCE,
) -> ExtractiveAnswer:
    """The sentences of the passages (best passage first) that answer the question; no quotes when none does.

    Takes some milliseconds of CPU, up to 0.3 s for the longest passages.
    """
    asked = questions.read(question)
    candidates = evidence.candidates(passages)
    if not asked.terms or not candidates:
        return ExtractiveAnswer((), 0.0)
    found = evidence.weigh(asked, passages, candidates)
    ranked = sorted(found, key=lambda each: _best_first(asked, each))
    # A heading only announces an answer: it is quoted when nothing that is said can be. A question never is.
    said = [each for each in ranked if each.candidate.kind not in (Kind.HEADING, Kind.QUESTION)]
    headings = [each for each in ranked if each.candidate.kind is Kind.HEADING]
    doubt = min(passage.doubt for passage in passages)
    surest = 0.0
    for group in filter(None, (said, headings)):
        confidence = _confidence(asked, group[0], doubt)
        if confidence >= min_confidence:
            return ExtractiveAnswer(
                _quotes(passages, _chosen(asked, group, candidates, max_quotes)), confidence
            )
        surest = max(surest, confidence)
    return ExtractiveAnswer((), surest)


def _best_first(question: Question, found: Evidence) -> tuple[float, int, int]:
    return -_rank(question, found), found.candidate.passage, found.candidate.start


def _rank(question: Question, found: Evidence) -> float:
    return (
        RANK_COVERAGE * found.coverage
        + RANK_COVERAGE_AROUND * found.coverage_around
        + RANK_NAMES_ELSEWHERE * found.names_elsewhere
        + RANK_ANSWER_TYPE * found.offers_answer
        + RANK_PASSAGE_POSITION * min(found.candidate.passage, MAX_PENALISED_POSITION)
        + RANK_DEFINITION * found.coverage * (question.asks_definition and found.defines)
        + RANK_OPENING * found.opening
    )


def _confidence(question: Question, best: Evidence, doubt: float) -> float:
    log_odds = (
        CONFIDENCE_BASE
        + CONFIDENCE_COVERAGE * best.coverage
        + CONFIDENCE_LOW_COVERAGE * max(0.0, 1 - best.coverage / LOW_COVERAGE)
        + CONFIDENCE_CONTRADICTION * evidence.contradicts(question, best.candidate)
        + CONFIDENCE_MISSING_NAMES * best.missing_names
        + CONFIDENCE_NAMES_ELSEWHERE * min(best.names_elsewhere, MOST_NAMES_ELSEWHERE)
        + CONFIDENCE_TERM * min(max(len(question.terms), COUNTED_TERMS[0]), COUNTED_TERMS[1])
        + CONFIDENCE_DOUBT * doubt
    )
    return 1 / (1 + math.exp(-log_odds))


def _chosen(
    question: Question, ranked: Sequence[Evidence], candidates: Sequence[Candidate], max_quotes: int
) -> list[Candidate]:
    """The best sentence, what it refers back to, then those nearly as good that say something else."""
    best = ranked[0]
    least_rank = _rank(question, best) - FURTHER_QUOTE_MARGIN
    near = itertools.takewhile(lambda each: _rank(question, each) >= least_rank, ranked[1:])
    further = (
        each.candidate for each in near if each.coverage_said >= best.coverage * FURTHER_QUOTE_COVERAGE
    )
    position = best.candidate.antecedent
    antecedent = () if position is None else (candidates[position],)
    chosen: list[Candidate] = []
    for candidate in itertools.chain((best.candidate,), antecedent, further):
        if len(chosen) >= max_quotes:
            break
        # Overlapping chunks bring the same sentence, or a part of it, twice.
        if not any(candidate.text in other.text or other.text in candidate.text for other in chosen):
            chosen.append(candidate)
    return chosen


def _quotes(passages: Sequence[Passage], chosen: Sequence[Candidate]) -> tuple[Quote, ...]:
    """Best passage first, each in text order; neighbouring sentences of a paragraph make one quote."""
    quotes: list[Quote] = []
    for index in dict.fromkeys(candidate.passage for candidate in chosen):
        n, text = passages[index].n, passages[index].text
        of_passage = sorted((each for each in chosen if each.passage == index), key=lambda each: each.start)
        joined: list[tuple[int, int]] = []
        for before, each in zip([None, *of_passage], of_passage, strict=False):
            start, end = each.start, each.end
            if before and _is_continued(text[joined[-1][1] : start], before, each):
                start, until = joined.pop()
                end = max(end, until)
            joined.append((start, end))
        quotes.extend(Quote(n, start, end, text[start:end]) for start, end in joined)
    return tuple(quotes)


def _is_continued(gap: str, before: Candidate, after: Candidate) -> bool:
    """Whether two quotes overlap (no gap) or are read on as one."""
    is_prose = before.kind is after.kind is Kind.PROSE
    return not gap or (is_prose and gap.isspace() and gap.count("\n") < 2)
