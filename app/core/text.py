"""What is done to every text that comes from outside before anything else sees it."""

import re
from typing import Final

_TITLE_CHARACTERS: Final = 80
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NAME_CHARACTERS: Final = 255
# Controls, marks of direction, separators of lines, and characters without a shape.
_UNSEEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
_DEVICE: Final = re.compile(r"con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$", re.IGNORECASE)


def clean(text: str) -> str:
    """Without NUL characters, which PostgreSQL can't store, and with lone surrogates, which have no UTF-8, replaced.

    Line ends, combining marks and everything else stay as they are.
    """
    text = text.replace("\0", "")
    try:
        text.encode()  # finds a surrogate ten times as fast as looking for one does
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


def file_name(given: str | None) -> str | None:
    """The name of a file as people may see it and save it under: the end of a path, and nothing that plays tricks.

    Control characters and those that turn the direction of writing around (an exe that reads like a pdf) go, names of devices get
    a mark before them, and of a long one its end stays. None when nothing is left. Files are stored under names of our own.
    """
    name = clean(given or "").replace("\\", "/").rpartition("/")[2]
    name = _UNSEEN.sub("", name).strip(" ").rstrip(". ")[-_NAME_CHARACTERS:].strip()
    if _DEVICE.fullmatch(name.partition(".")[0].strip()):
        name = f"_{name}"
    return name or None


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
