"""How Excel shows a number: as a date, a percentage, or with the sign of a currency."""

import re
from datetime import datetime, timedelta
from typing import Any, Final

from app.rag.parsing.office import S

_DATES: Final = frozenset([*range(14, 18), 22, *range(27, 37), *range(50, 59)])
_TIMES: Final = frozenset([18, 19, 20, 21, 45, 46, 47])
_PERCENT: Final = {9: 0, 10: 2}
_LITERAL: Final = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')
_CURRENCY: Final = re.compile(r"\[\$([^\]\-]{1,4})(?:-[^\]]*)?\]|\"([$€£¥₹]|RM)\s*\"|([$€£¥₹])")
_DAY: Final = re.compile(r"[dy]", re.IGNORECASE)
_CLOCK: Final = re.compile(r"[hs]", re.IGNORECASE)
_LATEST_DAY: Final = 2_958_465


class Formats:
    """The formats of a workbook's cells, by the number of their style."""

    def __init__(self, styles: Any | None, *, from_1904: bool) -> None:
        self._start = datetime(1904, 1, 1) if from_1904 else datetime(1899, 12, 30)
        self._codes: dict[str, tuple[int, str]] = {}
        if styles is None:
            return
        own = {fmt.get("numFmtId"): fmt.get("formatCode") or "" for fmt in styles.iter(f"{S}numFmt")}
        cells = styles.find(f"{S}cellXfs")
        for place, style in enumerate(cells if cells is not None else ()):
            number = style.get("numFmtId") or "0"
            self._codes[str(place)] = (int(number) if number.isdigit() else 0, own.get(number, ""))

    def shown(self, written: str, *, style: str) -> str | None:
        """A number as this style shows it; None where it shows the number."""
        number, code = self._codes.get(style, (0, ""))
        try:
            value = float(written)
        except ValueError:
            return None
        plain = _LITERAL.sub("", code.split(";")[0])
        if number in _PERCENT or "%" in plain:
            places = _PERCENT.get(number, len(plain.partition(".")[2].rstrip("% ")))
            return f"{value * 100:.{min(places, 6)}f}%"
        if number in _DATES or _DAY.search(plain):
            return self._date(value, clock=number == 22 or _CLOCK.search(plain) is not None)
        if number in _TIMES or (_CLOCK.search(plain) and "general" not in plain.lower()):
            return _time(value)
        sign = _CURRENCY.search(code)
        return None if sign is None else f"{sign[1] or sign[2] or sign[3]}{value:,.2f}".removesuffix(".00")

    def _date(self, value: float, *, clock: bool) -> str | None:
        if not 0 <= value <= _LATEST_DAY:
            return None
        moment = self._start + timedelta(seconds=round(value * 86_400))
        if value < 1:
            return moment.strftime("%H:%M")
        return moment.strftime("%Y-%m-%d %H:%M") if clock and value % 1 else moment.strftime("%Y-%m-%d")


def _time(value: float) -> str | None:
    if not 0 <= value <= _LATEST_DAY:
        return None
    seconds = round(value * 86_400)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}" + (f":{seconds % 60:02}" if seconds % 60 else "")
