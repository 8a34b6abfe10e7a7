"""What a sentence states that no paraphrase may change: numbers with their units, and names."""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from app.rag import sentences

_NUMBER: Final = re.compile(r"\d++(?:[.,'’\u00a0\u202f]\d++)*+")
_DECIMAL: Final = str.maketrans({",": ".", "'": "", "’": "", "\u00a0": "", "\u202f": ""})
_GROUPED: Final = re.compile(r"\d{1,3}(?:([,.'’\u00a0\u202f])\d{3})(?:\1\d{3})*(?:[.,]\d+)?\Z")
_UNIT_AFTER: Final = re.compile(r"[ \u00a0\-]?(%|٪|°[CF]?|[^\W\d_]{1,12})")
_UNIT_BEFORE: Final = re.compile(r"([$€£¥₹₽₩฿]|\b[A-Z]{2,3})[ \u00a0]?\Z")

# Words for the same unit, folded; a number said of one is not the same said of another.
_UNITS: Final = """% percent percentage peratus persen porciento prozent pourcent процентов 百分
$ usd dollar dollars dolar dolares|€ eur euro euros|£ gbp pound pounds|rm myr ringgit|rp idr rupiah|¥ jpy cny yen yuan rmb|₹ inr rupee rupees|sgd
year years tahun ano anos años jahr jahre jahren an ans annees anni лет год|month months bulan mes meses monat monate monaten mois mesi
week weeks minggu semana semanas woche wochen semaine semaines|day days hari dia dias tag tage tagen jour jours giorni
hour hours jam hora horas stunde stunden heure heures h hrs|minute minutes minit menit minuto minutos minuten min mins|second seconds saat detik segundo segundos sekunden
km kilometre kilometres kilometer kilometers|m metre metres meter meters|cm|mm|mile miles mi|ft feet foot|kg kilogram kilograms kilo|g gram grams|mg|tonne tonnes ton tons tan
w watt watts|kw kilowatt kilowatts|mw megawatt megawatts|gw|kwh|mwh|gwh|v volt volts|a amp amps|gb|mb|tb|kb|litre litres liter liters l|ml
thousand ribu mil tausend mille|million millions juta millones millionen|billion billions bilion miliar milliarden milliards|trillion trilion triliun"""
_UNIT_OF: Final = {
    word: number
    for number, words in enumerate(_UNITS.replace("\n", "|").split("|"))
    for word in words.split()
}
_SPELLED: Final = """|two dua dos deux zwei dois duas|three tiga tres trois drei|four empat cuatro quatre vier quatro
five lima cinco cinq funf|enam seis sechs|seven tujuh siete sept sieben sete|eight lapan delapan ocho huit acht oito
nine sembilan nueve neuf neun nove|ten sepuluh diez zehn dez|eleven sebelas once onze elf|twelve doce douze zwolf doze
thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty veinte vingt zwanzig"""
# Not those that are as often an article or another word: one, satu, un, six of French, dix.
_VALUES: Final = {
    word: str(value)
    for value, words in enumerate(_SPELLED.replace("\n", "|").split("|"), start=1)
    for word in words.split()
} | {
    "thirty": "30",
    "forty": "40",
    "fifty": "50",
    "sixty": "60",
    "seventy": "70",
    "eighty": "80",
    "ninety": "90",
}
_IDEOGRAPHS: Final = re.compile(
    "[一二三四五六七八九十百千万亿两零〇萬億兩]{2,12}|[二三四五六七八九十两兩](?=[个個名人年月日次种種倍天小])"
)
_IDEOGRAPH_VALUES: Final = dict(
    zip("二三四五六七八九十两兩", ("2", "3", "4", "5", "6", "7", "8", "9", "10", "2", "2"), strict=True)
)


class Number(NamedTuple):
    """A number as it compares, and which of the known units it is of (None: of none of them)."""

    value: str
    unit: int | None = None


def numbers(text: str, keys: Iterable[str]) -> Iterator[Number]:
    """The numbers of a text with these words, those in digits first in their order, then those in words."""
    for match in _NUMBER.finditer(text):
        yield Number(_plain(match[0]), _unit(text, match.start(), match.end()))
    for key in keys:
        if key in _VALUES:
            yield Number(_VALUES[key])
    if not text.isascii():
        for match in _IDEOGRAPHS.finditer(text):
            yield Number(_IDEOGRAPH_VALUES.get(match[0], match[0]))


def is_number(key: str) -> bool:
    """Whether a folded word is a number, in digits or spelled."""
    return key[:1].isdigit() or key in _VALUES


def value(key: str) -> str:
    """A folded word, with a number as its digits."""
    return _plain(key) if key[:1].isdigit() else _VALUES.get(key, key)


def _plain(written: str) -> str:
    """1,496.50 and 1.496,5 as 1496.5."""
    grouped = _GROUPED.match(written)
    if grouped:
        written = written.replace(grouped[1], "")
    text = written.translate(_DECIMAL)
    if text.count(".") == 1:
        text = text.rstrip("0").rstrip(".")
    return text.lstrip("0") or "0"


def _unit(text: str, start: int, end: int) -> int | None:
    before = _UNIT_BEFORE.search(text[max(0, start - 4) : start])
    if before and (unit := _UNIT_OF.get(before[1].lower())) is not None:
        return unit
    after = _UNIT_AFTER.match(text, end)
    return _UNIT_OF.get(sentences.fold(after[1])) if after else None
