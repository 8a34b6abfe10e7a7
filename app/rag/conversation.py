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
_POINTING_BACK: Final = frozenset(
    # English; not `that`, which mostly begins a clause of the same question
    "it its they them their theirs he him his she her hers this these those"
    # Malay and Indonesian; not `itu`, as in "Apa itu X?"
    " ia dia beliau mereka tersebut begitu tadi"
    # Spanish, Portuguese, French, German, Dutch, Italian: only words that are no article or verb in another of them
    " él ella ellos ellas eso esto aquello ele ela eles elas isso isto elle ils elles cela ça ceci celui celle er sie ihn"
    " ihm ihr ihnen hij zij ze hun esso essi".split()
)
_GOING_ON: Final = frozenset(
    "and but so or also then dan tapi tetapi lalu y pero et mais und aber e ma en maar".split()
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
    return len(words) < _SELF_CONTAINED_WORDS or points_back(question)


def points_back(question: str) -> bool:
    """Whether a question says that it goes on with what was said before: by its first word, or by a word for it."""
    words = _WORD.findall(question.lower())
    return bool(words) and (
        words[0] in _GOING_ON or any(word in _POINTING_BACK or word.endswith("nya") for word in words)
    )


def asked_before(history: Sequence[Turn]) -> str | None:
    """What the user asked last, behind the last question that stands on its own where it does not; None without any."""
    asked = [turn.content[:_MAX_REWRITTEN_CHARACTERS] for turn in history if turn.role == "user"]
    if not asked:
        return None
    *earlier, last = asked
    if not leans_on_history(last):
        return last
    before = next((each for each in reversed(earlier) if not leans_on_history(each)), None)
    return last if before is None else f"{before} {last}"


async def standalone_question(model: ChatModel, history: Sequence[Turn], question: str) -> str:
    """The question with what it leaves to the conversation filled in; the question itself if the model says nothing."""
    transcript = "\n".join(f"{turn.role}: {turn.content}" for turn in [*history, Turn("user", question)])
    rewritten = await model.complete(
        [Turn("system", prompts.STANDALONE_QUESTION), Turn("user", transcript)],
        temperature=0.0,
        max_tokens=200,
    )
    return rewritten.strip()[:_MAX_REWRITTEN_CHARACTERS] or question


async def is_within_topics(
    model: ChatModel, question: str, *, inside: Sequence[str], outside: Sequence[str]
) -> bool:
    """Whether the model finds a question to be about these topics; anything but a no is a yes."""
    said = await model.complete(
        [Turn("system", prompts.within_topics(inside, outside)), Turn("user", question)],
        temperature=0.0,
        max_tokens=5,
    )
    return not said.strip(" *\"'.").lower().startswith("no")


def answer_turns(prompt: prompts.AnswerPrompt, history: Sequence[Turn], question: str) -> list[Turn]:
    """System instructions with the fenced sources, the history, the question as it was asked."""
    return [Turn("system", prompt.text), *history, Turn("user", question)]
