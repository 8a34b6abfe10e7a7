"""Writes docs/prompts.md from the prompts, so that it shows what models are told: python tools/write_prompts_page.py"""

from pathlib import Path
from typing import Final

from app.rag import prompts
from app.rag.prompts import PromptSource

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "prompts.md"
_FENCE: Final = "0123456789abcdef"
_HEAD: Final = """\
# Prompts

What models are told, word for word, from `app/rag/prompts.py`, where nothing else than prompts is. Documents and
conversations reach a prompt only between fences of random characters, new for each call, as data. `{…}` is filled in.

This page is written by `tools/write_prompts_page.py`; a test compares the two.
"""


def render() -> str:
    """The page."""
    sections = [
        (f"An answer ({prompts.VERSION})", "With one source and a persona; the question follows.", _answer()),
        (
            "What a program asks for beneath it",
            "The system message of a compatible client.",
            prompts.PREFERENCES,
        ),
        (
            "A follow-up made standalone",
            "Where the question leans on the conversation.",
            prompts.STANDALONE_QUESTION,
        ),
        (
            "Whether a question is within a bot's topics",
            "Where vectors leave a doubt.",
            prompts.WITHIN_TOPICS,
        ),
        (
            f"Other wordings of a question ({prompts.MULTI_QUERY_VERSION})",
            "For bots with `multi_query`.",
            prompts.MULTI_QUERY,
        ),
        (
            f"A hypothetical answer ({prompts.HYPOTHETICAL_ANSWER_VERSION})",
            "For bots with `hypothetical_answer`.",
            prompts.HYPOTHETICAL_ANSWER,
        ),
        (
            f"Passages in order ({prompts.RERANK_VERSION})",
            "For bots with the reranker `llm`.",
            prompts.RERANK,
        ),
        ("The title of a conversation", "After its first answer, in the background.", prompts.TITLE),
        ("The summary of older turns", "For bots with `summarise_history`.", prompts.SUMMARY),
        ("How a summary is given", "Before the newest turns.", prompts.EARLIER),
        (f"The judge of an evaluation ({prompts.JUDGE_VERSION})", "How faithful answers are.", prompts.JUDGE),
    ]
    parts = [f"## {title}\n\n{when}\n\n````text\n{text.strip()}\n````\n" for title, when, text in sections]
    return "\n".join([_HEAD, *parts])


def _answer() -> str:
    source = PromptSource(1, "Eternalgy EMS Brochure, page 3", "The warranty is five years.")
    prompt = prompts.answer_prompt([source], persona="You are friendly and brief.")
    return prompt.text.replace(prompt.secret, _FENCE)


if __name__ == "__main__":
    PAGE.write_text(render())
