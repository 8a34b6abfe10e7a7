"""Putting passages in order again: what is asked of a language model or of a reranking service, and what they answer.

Whatever comes back is read as an order of the passages that were sent; those that it leaves out follow in the order that they had.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any, Final

from app.rag import prompts
from app.rag.llms import ChatModel, Turn

_MOST_CHARACTERS: Final = 1_200
"""Of a passage: what it is about shows in these."""
_TOKENS_FOR_A_NUMBER: Final = 6
_NUMBER: Final = re.compile(r"\d{1,4}")


class UnusableOrder(ValueError):
    """What came back says nothing about the order of the passages."""


async def by_model(model: ChatModel, question: str, texts: Sequence[str]) -> list[int]:
    """The positions of the texts, best first, as a language model sees it in one call.

    Raises UnusableOrder, and what `ChatModel.complete` raises.
    """
    answered = await model.complete(
        [
            Turn("system", prompts.rerank_instructions([text[:_MOST_CHARACTERS] for text in texts])),
            Turn("user", question),
        ],
        temperature=0.0,
        max_tokens=_TOKENS_FOR_A_NUMBER * len(texts) + 20,
    )
    return read_numbers(answered, count=len(texts))


def read_numbers(answered: str, *, count: int) -> list[int]:
    """Positions from numbers that count from 1, in whatever words and brackets they come. Raises UnusableOrder."""
    listed = answered[answered.rfind("[") :] if "[" in answered and "]" in answered else answered
    named = [int(number) - 1 for number in _NUMBER.findall(listed)]
    known = [position for position in named if 0 <= position < count]
    if not known:
        raise UnusableOrder("no passage is named")
    return _completed(known, count)


def request_body(question: str, texts: Sequence[str], *, model: str | None) -> bytes:
    """What a reranking service is sent: with a model's name in the form of Cohere and Jina, without one in that of TEI."""
    body: dict[str, Any] = {"query": question}
    if model is None:
        body |= {"texts": list(texts), "truncate": True}
    else:
        body |= {"model": model, "documents": list(texts), "top_n": len(texts)}
    return json.dumps(body).encode()


def read_scores(content: bytes, *, count: int) -> list[int]:
    """Positions from `results` (Cohere, Jina), `data` (Voyage) or a plain list (TEI) of scores. Raises UnusableOrder."""
    try:
        answered = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnusableOrder("no JSON") from error
    if isinstance(answered, dict):
        answered = answered.get("results", answered.get("data"))
    if not isinstance(answered, list):
        raise UnusableOrder("no list of results")
    scores: dict[int, float] = {}
    for result in answered:
        index, score = _result(result)
        if 0 <= index < count:
            scores[index] = max(score, scores.get(index, -math.inf))
    if not scores:
        raise UnusableOrder("no passage has a score")
    return _completed(sorted(scores, key=lambda index: (-scores[index], index)), count)


def _result(result: Any) -> tuple[int, float]:
    if not isinstance(result, dict):
        raise UnusableOrder("a result is no object")
    index, score = result.get("index"), result.get("relevance_score", result.get("score"))
    if type(index) is not int or not isinstance(score, int | float):
        raise UnusableOrder("a result has no index or no score")
    try:
        number = float(score)
    except OverflowError as error:
        raise UnusableOrder("a score is no number that can be compared") from error
    if not math.isfinite(number):
        raise UnusableOrder("a score is no number")
    return index, number


def _completed(order: Sequence[int], count: int) -> list[int]:
    return list(dict.fromkeys([*order, *range(count)]))
