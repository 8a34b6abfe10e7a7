"""What a question is searched with besides itself: the same asked otherwise, or an answer as it might stand in a document."""

import re
from typing import Final

from app.rag import prompts
from app.rag.llms import ChatModel, Turn

_MOST_VARIANTS: Final = 3
_MOST_CHARACTERS: Final = 1_000
_LIST_MARK: Final = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.):])\s*")


async def variants(model: ChatModel, question: str) -> list[str]:
    """Up to three other wordings. Raises what `ChatModel.complete` raises."""
    answered = await model.complete(
        [Turn("system", prompts.MULTI_QUERY), Turn("user", question)], temperature=0.3, max_tokens=200
    )
    lines = (_LIST_MARK.sub("", line).strip(" \t\"'") for line in answered.splitlines())
    other = dict.fromkeys(line[:_MOST_CHARACTERS] for line in lines if line)
    return [line for line in other if line.casefold() != question.casefold()][:_MOST_VARIANTS]


async def hypothetical_answer(model: ChatModel, question: str) -> list[str]:
    """A passage that would answer the question; none if the model says nothing. Raises as `variants` does."""
    answered = await model.complete(
        [Turn("system", prompts.HYPOTHETICAL_ANSWER), Turn("user", question)], temperature=0.3, max_tokens=200
    )
    text = " ".join(answered.split())[:_MOST_CHARACTERS]
    return [text] if text else []
