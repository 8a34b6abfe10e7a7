"""A conversation in fewer words: a title for it, and a summary that stands in for its older turns."""

import re
from collections.abc import Sequence
from typing import Final

from app.core.text import clean
from app.rag import prompts
from app.rag.llms import ChatModel, Turn

_QUESTION_CHARACTERS: Final = 2_000
_ANSWER_CHARACTERS: Final = 1_000
_TITLE_CHARACTERS: Final = 80
_TITLE_TOKENS: Final = 40
_TURN_CHARACTERS: Final = 2_000
_TRANSCRIPT_CHARACTERS: Final = 40_000
_SUMMARY_TOKENS: Final = 500
_SUMMARY_CHARACTERS: Final = 4_000
_AROUND_A_TITLE: Final = "\"'`*_#«»„“”‘’.: \t"
_NAME_OF_A_TITLE: Final = re.compile(
    r"^(title|titel|tajuk|judul|título|titre|titolo|标题)\s*[::]\s*", re.IGNORECASE
)


async def title(model: ChatModel, question: str, answer: str) -> str | None:
    """A title for a conversation that began so; None when the model has none.

    Raises what `ChatModel.complete` raises.
    """
    began = f"user: {question[:_QUESTION_CHARACTERS]}\nassistant: {answer[:_ANSWER_CHARACTERS]}"
    said = await model.complete(
        [Turn("user", prompts.fenced(prompts.TITLE, conversation=began))],
        temperature=0.0,
        max_tokens=_TITLE_TOKENS,
    )
    return _as_title(said)


def _as_title(said: str) -> str | None:
    line = next((line for line in clean(said).splitlines() if line.strip()), "")
    line = _NAME_OF_A_TITLE.sub("", line.strip(_AROUND_A_TITLE))
    line = " ".join(line.strip(_AROUND_A_TITLE).split())
    if len(line) > _TITLE_CHARACTERS:
        line = line[:_TITLE_CHARACTERS].rsplit(" ", 1)[0] + "…"
    return line or None


async def summary(model: ChatModel, earlier: str | None, turns: Sequence[Turn]) -> str | None:
    """What was said in these turns and, by the summary of it, before them; None when the model says nothing.

    Raises what `ChatModel.complete` raises.
    """
    lines = [f"summary of what was said before: {earlier}"] if earlier else []
    lines += [f"{turn.role}: {turn.content[:_TURN_CHARACTERS]}" for turn in turns]
    transcript = "\n".join(lines)[:_TRANSCRIPT_CHARACTERS]
    said = await model.complete(
        [Turn("user", prompts.fenced(prompts.SUMMARY, conversation=transcript))],
        temperature=0.0,
        max_tokens=_SUMMARY_TOKENS,
    )
    return clean(said).strip()[:_SUMMARY_CHARACTERS] or None


def as_turn(summary: str) -> Turn:
    """How a model is told of what was said before: as data, in the place of the turns that it stands for."""
    return Turn("user", prompts.fenced(prompts.EARLIER, summary=summary))
