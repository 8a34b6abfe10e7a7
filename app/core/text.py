"""What is done to every text that comes from outside before anything else sees it."""

import re
from typing import Final

_TITLE_CHARACTERS: Final = 80
_NUL: Final = re.compile("\0")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Without NUL characters, which PostgreSQL can't store, and with lone surrogates, which have no UTF-8, replaced.

    Line ends, combining marks and everything else stay as they are.
    """
    return _SURROGATE.sub("\ufffd", _NUL.sub("", text))


def title_of(text: str) -> str:
    """The first line with something in it, without Markdown's hashes, cut at a word."""
    line = (
        next((line for line in text.splitlines() if line.strip()), "").strip().lstrip("#").strip()
        or "Untitled"
    )
    if len(line) <= _TITLE_CHARACTERS:
        return line
    return line[:_TITLE_CHARACTERS].rsplit(" ", 1)[0] + "…"


def estimate_tokens(text: str) -> int:
    """About how many tokens a chat model counts: a quarter of the UTF-8 bytes, right on average for most scripts."""
    return len(text.encode()) // 4 + 1
