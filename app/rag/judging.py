"""How faithful an answer is to its sources, as a language model judges it."""

import re
from collections.abc import Sequence
from typing import Final

from app.rag import prompts
from app.rag.llms import ChatModel, Turn

_VERDICT: Final = re.compile(r"(\d{1,3})\s*(?:/|of|out of)\s*(\d{1,3})")


async def faithfulness(model: ChatModel, answer: str, sources: Sequence[tuple[int, str]]) -> float | None:
    """The part of the answer's statements that the cited sources bear out; None when the model's verdict can't be read.

    Raises what `ChatModel.complete` raises.
    """
    verdict = await model.complete(
        [Turn("system", prompts.judge_instructions(sources)), Turn("user", answer)],
        temperature=0.0,
        max_tokens=300,
    )
    return read_verdict(verdict)


def read_verdict(verdict: str) -> float | None:
    """The last `supported/all` in a text."""
    found = _VERDICT.findall(verdict)
    if not found:
        return None
    supported, total = map(int, found[-1])
    return supported / total if total and supported <= total else None
