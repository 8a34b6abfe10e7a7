"""What the model is given for one turn: the history within its budget, the question made standalone, the sources."""

import re
from collections.abc import Sequence
from typing import Final

from app.core.text import estimate_tokens
from app.rag import prompts
from app.rag.llms import ChatModel, Turn

_MAX_REWRITTEN_CHARACTERS: Final = 1000
_SELF_CONTAINED_WORDS: Final = 6
_WORD: Final = re.compile(r"\w+")
_LATIN: Final = re.compile(r"[A-Za-z\u00c0-\u024f]")
_FOLLOW_UP_WORDS: Final = frozenset(
    # English
    "it its they them their he him his she her this that these those there then one ones same other others also and but"
    " so else both former latter above previous again more another such"
    # Malay and Indonesian
    " ia dia beliau mereka itu ini tersebut nya situ sana sini begitu tadi juga dan tapi tetapi lagi pula lain lagi"
    # Spanish, Portuguese, French, German, Dutch, Italian
    " él ella ellos ellas eso esa ese esto esta este estos estas y pero también ele ela eles elas isso isto esse essa e"
    " il elle ils elles ce cet cette ces ça cela celui celle et mais aussi y en er es sie ihr ihm ihn dies diese dieser"
    " dieses und aber auch davon dazu hij zij ze hun dit deze die en maar ook esso essa essi questo questa quello".split()
)


def within_budget(history: Sequence[Turn], max_tokens: int) -> list[Turn]:
    """The newest turns that fit, oldest first."""
    kept: list[Turn] = []
    for turn in reversed(history):
        max_tokens -= estimate_tokens(turn.content)
        if max_tokens < 0:
            break
        kept.append(turn)
    return kept[::-1]


def leans_on_history(question: str) -> bool:
    """Whether a question may need the conversation to be understood.

    A long question without a word that points back is taken as it is: rewriting would cost a model call and the time
    of it before the first token. In doubt, and in every script these words do not cover, the answer is yes.
    """
    letters = [character for character in question if character.isalpha()]
    if not letters or sum(1 for letter in letters if _LATIN.match(letter)) < 0.9 * len(letters):
        return True
    words = _WORD.findall(question.lower())
    return len(words) < _SELF_CONTAINED_WORDS or any(
        word in _FOLLOW_UP_WORDS or word.endswith("nya") for word in words
    )


async def standalone_question(model: ChatModel, history: Sequence[Turn], question: str) -> str:
    """The question with what it leaves to the conversation filled in; the question itself if the model says nothing."""
    transcript = "\n".join(f"{turn.role}: {turn.content}" for turn in [*history, Turn("user", question)])
    rewritten = await model.complete(
        [Turn("system", prompts.STANDALONE_QUESTION), Turn("user", transcript)],
        temperature=0.0,
        max_tokens=200,
    )
    return rewritten.strip()[:_MAX_REWRITTEN_CHARACTERS] or question


def answer_turns(
    *, sources: Sequence[prompts.PromptSource], history: Sequence[Turn], question: str
) -> list[Turn]:
    """System instructions with the fenced sources, the history, the question as it was asked."""
    return [Turn("system", prompts.answer_instructions(sources)), *history, Turn("user", question)]
