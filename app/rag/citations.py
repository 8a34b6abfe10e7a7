"""Citations: the markers `[n]` in an answer and the sources they point at.

A marker whose number is no source is removed, with the blank before it, while the answer is still streaming: what the
client has received is always what is stored. So is one whose source does not say it, where that is wished.
"""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Final

_MARKER: Final = re.compile(r"[ \t]*[\[【]\s*\d{1,4}(?:\s*[,;、]\s*\d{1,4})*\s*[\]】]")
_UNFINISHED: Final = re.compile(r"(?:[ \t]+|[ \t]*[\[【][\d\s,;、]{0,60})\Z")
_NUMBER: Final = re.compile(r"\d+")
_REMEMBERED_CHARACTERS: Final = 1_500

Check = Callable[[str, Sequence[int]], Collection[int]]
"""Of the answer before a group of markers and its numbers: those that may stay."""


class CitationFilter:
    """Lets an answer through piece by piece, with its citations verified; remembers which sources were cited."""

    def __init__(self, source_numbers: Collection[int], check: Check | None = None) -> None:
        self._known = frozenset(source_numbers)
        self._check = check
        self._held = ""
        self._said = ""
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
        pieces: list[str] = []
        position = 0
        for marker in _MARKER.finditer(text):
            self._say(pieces, text[position : marker.start()])
            self._say(pieces, self._verified(marker))
            position = marker.end()
        self._say(pieces, text[position:])
        return "".join(pieces)

    def _say(self, pieces: list[str], piece: str) -> None:
        pieces.append(piece)
        if self._check is not None:
            self._said = (self._said + piece)[-_REMEMBERED_CHARACTERS:]

    def _verified(self, marker: re.Match[str]) -> str:
        numbers = [int(number) for number in _NUMBER.findall(marker[0])]
        known = [number for number in dict.fromkeys(numbers) if number in self._known]
        if known and self._check is not None:
            kept = self._check(self._said, known)
            known = [number for number in known if number in kept]
        self.cited.update(known)
        if not known:
            return ""
        blank = marker[0][: len(marker[0]) - len(marker[0].lstrip(" \t"))]
        return blank + "".join(f"[{number}]" for number in known)
