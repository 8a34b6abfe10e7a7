"""Citations: the markers `[n]` in an answer and the sources they point at.

A marker whose number is no source is removed, with the blank before it, while the answer is still streaming: what the
client has received is always what is stored.
"""

import re
from collections.abc import Collection
from typing import Final

_MARKER: Final = re.compile(r"[ \t]*[\[【]\s*\d{1,4}(?:\s*[,;、]\s*\d{1,4})*\s*[\]】]")
_UNFINISHED: Final = re.compile(r"(?:[ \t]+|[ \t]*[\[【][\d\s,;、]{0,60})\Z")
_NUMBER: Final = re.compile(r"\d+")


class CitationFilter:
    """Lets an answer through piece by piece, with its citations verified; remembers which sources were cited."""

    def __init__(self, source_numbers: Collection[int]) -> None:
        self._known = frozenset(source_numbers)
        self._held = ""
        self.cited: set[int] = set()

    def feed(self, delta: str) -> str:
        """The part of the answer that can't change any more; the beginning of a marker is held back."""
        text = self._held + delta
        unfinished = _UNFINISHED.search(text)
        cut = unfinished.start() if unfinished else len(text)
        self._held = text[cut:]
        return self._verify(text[:cut])

    def flush(self) -> str:
        """What was still held back when the answer ended."""
        text, self._held = self._held, ""
        return self._verify(text).rstrip()

    def _verify(self, text: str) -> str:
        return _MARKER.sub(self._replace, text)

    def _replace(self, marker: re.Match[str]) -> str:
        numbers = [int(number) for number in _NUMBER.findall(marker[0])]
        known = [number for number in dict.fromkeys(numbers) if number in self._known]
        self.cited.update(known)
        if not known:
            return ""
        blank = marker[0][: len(marker[0]) - len(marker[0].lstrip(" \t"))]
        return blank + "".join(f"[{number}]" for number in known)
