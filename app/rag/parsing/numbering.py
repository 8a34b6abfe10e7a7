"""The numbers and bullets of Word's lists, which the file describes but does not write."""

from typing import Any, Final

from app.rag.parsing.office import W

_LEVELS: Final = 9
_ROMAN: Final = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))  # fmt: skip


class Numbering:
    """Counts the items of every list of a document."""

    def __init__(self, root: Any | None) -> None:
        self._formats: dict[str, dict[int, tuple[str, str, int]]] = {}
        """Of each abstract list and level: format, text with places for numbers, first number."""
        self._abstract: dict[str, str] = {}
        self._counts: dict[str, list[int]] = {}
        if root is None:
            return
        for abstract in root.iter(f"{W}abstractNum"):
            levels = {_int(level.get(f"{W}ilvl")): _level(level) for level in abstract.iter(f"{W}lvl")}
            self._formats[abstract.get(f"{W}abstractNumId") or ""] = levels
        for number in root.iter(f"{W}num"):
            reference = number.find(f"{W}abstractNumId")
            if reference is not None:
                self._abstract[number.get(f"{W}numId") or ""] = reference.get(f"{W}val") or ""

    def marker(self, number: str, level: int) -> str:
        """The bullet or number of the next item of a list, or nothing where the list has none."""
        if number == "0" or number not in self._abstract:
            return ""
        level = min(max(level, 0), _LEVELS - 1)
        formats = self._formats.get(self._abstract[number], {})
        kind, text, _ = formats.get(level, ("bullet", "", 1))
        if kind == "none":
            return ""
        if kind == "bullet":
            return "-"
        counts = self._counts.setdefault(
            self._abstract[number], [formats.get(place, ("", "", 1))[2] - 1 for place in range(_LEVELS)]
        )
        counts[level] += 1
        for deeper in range(level + 1, _LEVELS):
            counts[deeper] = formats.get(deeper, ("", "", 1))[2] - 1
        for place in range(level + 1):
            shown = formats.get(place, ("decimal", "", 1))[0]
            count = max(counts[place], formats.get(place, ("", "", 1))[2])
            text = text.replace(f"%{place + 1}", _written(count, shown))
        return text.strip()


def _level(level: Any) -> tuple[str, str, int]:
    values = {name: level.find(f"{W}{name}") for name in ("numFmt", "lvlText", "start")}
    found = {name: element.get(f"{W}val") or "" for name, element in values.items() if element is not None}
    return found.get("numFmt", "decimal"), found.get("lvlText", ""), _int(found.get("start") or "1")


def _written(count: int, shown: str) -> str:
    if shown in ("lowerLetter", "upperLetter") and 0 < count <= 26:
        letter = chr(ord("a") + count - 1)
        return letter if shown == "lowerLetter" else letter.upper()
    if shown in ("lowerRoman", "upperRoman") and 0 < count < 4000:
        roman = ""
        for value, sign in _ROMAN:
            roman += sign * (count // value)
            count %= value
        return roman if shown == "lowerRoman" else roman.upper()
    return str(count)


def _int(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() and len(text) < 7 else 0
