"""Payment cards, bank accounts, and the numbers that states give to persons, each with the check that it carries.

A number whose check a random one passes too often (one digit in ten) counts only in its usual punctuation or beside a word
that names it. The checks are python-stdnum's, whose modules are loaded when the first number of their form turns up.
"""

import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Final

from app.rag.guardrails.cues import CARD, IBAN, Cues, Surroundings
from app.rag.guardrails.kinds import Finding, PiiKind

_CARD: Final = re.compile(
    r"(?<![A-Za-z0-9_.])(?:\d{12,19}|\d{4}([ \u00a0\-])\d{4}\1\d{4}\1\d{1,4}(?:\1\d{1,3})?|\d{4}([ \-])\d{6}\2\d{4,5})(?![A-Za-z0-9_]|\.\d)"
)
# Visa, Mastercard, American Express, Diners, Discover, JCB (old and new), UnionPay, Maestro, Mir, Troy.
_ISSUER: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})\Z|5[1-5]\d{14}\Z|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}\Z|3[47]\d{13}\Z"
    r"|3(?:0[0-5]|[689]\d)\d{11,16}\Z|6(?:011|4[4-9]\d|5\d\d)\d{12,15}\Z|35\d{14,17}\Z|(?:1800|2131)\d{11}\Z"
    r"|(?:62|81)\d{14,17}\Z|(?:50|5[6-8]|6)\d{10,17}\Z|220[0-4]\d{12,15}\Z"
)
_IBAN: Final = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ \-]?[A-Za-z0-9]{4}){2,7}(?:[ \-]?[A-Za-z0-9]{1,3})?(?![A-Za-z0-9])"
)
_LONG_NUMBER: Final = re.compile(
    r"(?<![A-Za-z0-9_])[+(]?(?:[A-Z]{1,2}\d\d(?:[ \-]?[A-Z0-9]{4}+){2,7}+|\d(?:[ .\-/()]{0,2}+\d){6,30}+)[A-Z]?"
)
_SEPARATORS: Final = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True, slots=True)
class _Form:
    """How a number is written, what checks it, and the words that must stand by it (None: its check is enough)."""

    pattern: str
    check: str | Callable[[str], bool] | None
    cues: Cues | None = None


def find(text: str, surroundings: Surroundings) -> Iterator[Finding]:
    """The numbers of a text, which may overlap: cards before accounts before those of persons."""
    if not _has_digit(text):
        return
    yield from _cards(text, surroundings)
    for match in _IBAN.finditer(text):
        yield from _iban(match, surroundings)
    for match in _ANY_FORM.finditer(text):
        end = _end_of_number(text, match.start(), surroundings)
        if end:
            yield Finding(match.start(), end, PiiKind.NATIONAL_ID)
    for match in _CALLED.finditer(text):
        if any(map(str.isdigit, match["number"])):
            yield Finding(*match.span("number"), PiiKind.NATIONAL_ID)


def long_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Where long numbers stand, unchecked: for texts of so many that checking each would take seconds."""
    for match in _LONG_NUMBER.finditer(text):
        yield match.span()


def _has_digit(text: str) -> bool:
    return re.search(r"\d", text) is not None


def _cards(text: str, surroundings: Surroundings) -> Iterator[Finding]:
    for match in _CARD.finditer(text):
        written = match[0]
        digits = _SEPARATORS.sub("", written)
        if _ISSUER.match(digits) and _luhn(digits):
            yield Finding(*match.span(), PiiKind.CARD)
        elif match[1] and len(digits) > 16 and _ISSUER.match(digits[:16]) and _luhn(digits[:16]):
            # "4111 1111 1111 1111 123": with the number on its back
            yield Finding(match.start(), match.end(), PiiKind.CARD)
        elif 14 <= len(digits) <= 16 and (match[1] or match[2]) and surroundings.say(CARD, *match.span()):
            yield Finding(*match.span(), PiiKind.CARD)  # mistyped


def _luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def _iban(match: re.Match[str], surroundings: Surroundings) -> Iterator[Finding]:
    from stdnum import iban  # loads the register of accounts

    written = match[0]
    while len(written) >= 15:
        if iban.is_valid(written):
            yield Finding(match.start(), match.start() + len(written), PiiKind.IBAN)
            return
        shorter = written.rpartition(" ")[0]  # the next words of a sentence
        if not shorter:
            break
        written = shorter
    first, rest = match[0][:4], match[0][4:]
    mistyped = first[:2].isupper() and sum(map(str.isdigit, rest)) >= 10
    if mistyped and surroundings.say(IBAN, *match.span()):
        yield Finding(*match.span(), PiiKind.IBAN)


def _end_of_number(text: str, start: int, surroundings: Surroundings) -> int:
    """Where the number ends that begins there, by the first form that it has and whose check it passes; 0 if none."""
    for form, pattern in _PATTERNS:
        match = pattern.match(text, start)
        if (
            match
            and not (form.cues and not surroundings.say(form.cues, *match.span()))
            and _passes(form, match[0])
        ):
            return match.end()
    return 0


def _passes(form: _Form, written: str) -> bool:
    if form.check is None:
        return True
    check = form.check if callable(form.check) else _stdnum(form.check)
    return check(written)


@cache
def _stdnum(name: str) -> Callable[[str], bool]:
    valid: Callable[[str], bool] = importlib.import_module(f"stdnum.{name}").is_valid
    return valid


def _is_mykad(written: str) -> bool:
    """A birth date, and a code of a state or country that stands for a place of birth."""
    digits = _SEPARATORS.sub("", written)
    return _is_date(digits[:6]) and _stdnum("my.nric")(digits)


def _is_date(digits: str) -> bool:
    """Whether six digits are a year, a month and a day."""
    year, month, day = int(digits[:2]), int(digits[2:4]), int(digits[4:6])
    try:
        date(
            2000 + year, month, day
        )  # 2000 had a 29th of February, like every year that a two-digit 00 means
    except ValueError:
        return False
    return True


def _is_swedish(written: str) -> bool:
    digits = _SEPARATORS.sub("", written)[-10:]
    return _is_date(digits[:6]) and _luhn(digits)


def _is_nric(written: str) -> bool:
    """Singapore: the last letter is a weighed sum of the digits."""
    letter, digits, last = written[0], written[1:8], written[8]
    total = sum(weight * int(digit) for weight, digit in zip((2, 7, 6, 5, 4, 3, 2), digits, strict=True))
    if letter in "TG":
        total += 4
    elif letter == "M":
        return "KLJNPQRTUWX"[10 - (total + 3) % 11] == last
    return ("JZIHGFEDCBA" if letter in "ST" else "XWUTRQPNMLK")[total % 11] == last


def _is_taiwanese(written: str) -> bool:
    place = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(written[0]) + 10
    total = place // 10 + 9 * (place % 10)
    total += sum(
        weight * int(digit) for weight, digit in zip((8, 7, 6, 5, 4, 3, 2, 1, 1), written[1:], strict=True)
    )
    return total % 10 == 0


def _is_ahv(written: str) -> bool:
    return _stdnum("ean")(_SEPARATORS.sub("", written))


def _is_south_african(written: str) -> bool:
    return _is_date(written[:6]) and _luhn(written)


def _is_danish(written: str) -> bool:
    digits = _SEPARATORS.sub("", written)
    return _is_date(digits[4:6] + digits[2:4] + digits[:2])


_SSN: Final = Cues("ssn social security ss")
_IC: Final = Cues("ic nric mykad kad pengenalan mykas mypr identity card kp")
_KTP: Final = Cues("nik ktp kependudukan penduduk")

_FORMS: Final = (
    # Malaysia: with hyphens or blanks, or twelve digits that begin with a date
    _Form(r"\d{6}([ \-]?)\d{2}\1\d{4}", _is_mykad),
    _Form(r"(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}", None),  # United States
    _Form(r"(?!000|666|9)\d{3} ?(?!00)\d\d ?(?!0000)\d{4}", None, _SSN),
    _Form(r"9\d\d-[5-9]\d-\d{4}", "us.itin"),
    _Form(r"\d{16}", "id.nik"),
    _Form(r"\d{6}[ .]?\d{6}[ .]?\d{4}", "id.nik", _KTP),
    _Form(r"[STFGM]\d{7}[A-Z]", _is_nric),  # Singapore
    _Form(r"\d-\d{4}-\d{5}-\d\d-\d", "th.pin"),
    _Form(r"\d{13}", "th.pin", Cues("thai id pin", unspaced="บัตรประชาชน ประจำตัว")),
    _Form(r"[2-9]\d{3} \d{4} \d{4}", "in_.aadhaar"),
    _Form(r"[2-9]\d{11}", "in_.aadhaar", Cues("aadhaar aadhar uidai uid आधार")),
    _Form(r"[A-Z]{3}[PCHABGJLFT][A-Z]\d{4}[A-Z]", None),  # India's PAN
    _Form(r"[1-9]\d{16}[\dXx]", "cn.ric"),
    _Form(r"\d{6}-[1-8]\d{6}", "kr.rrn"),
    _Form(r"[A-Z][12]\d{8}", _is_taiwanese),
    _Form(r"[A-Z]{1,2}\d{6}\([\dA]\)", None),  # Hong Kong
    _Form(r"\d{4} ?\d{4} ?\d{4}", "jp.in_", Cues("mynumber individual", unspaced="個人番号 マイナンバー")),
    _Form(r"(?:[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]) ?\d\d ?\d\d ?\d\d ?[A-D]", None),  # United Kingdom
    _Form(r"\d{3}[ \-]?\d{3}[ \-]?\d{4}", "gb.nhs", Cues("nhs")),
    _Form(r"\d{3}[ \-]?\d{3}[ \-]?\d{3}", "ca.sin", Cues("sin social insurance nas")),
    _Form(r"\d{3} ?\d{3} ?\d{2,3}", "au.tfn", Cues("tfn tax file")),
    _Form(r"\d{8}-?[A-HJ-NP-TV-Z]", "es.dni"),
    _Form(r"[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z]", "es.nie"),
    _Form(r"[A-Z]{6}\d\d[A-EHLMPRST][0-7]\d[A-Z]\d{3}[A-Z]", "it.codicefiscale"),
    _Form(r"[12] ?\d\d ?(?:[02-9]\d|1[0-2]) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d", "fr.nir"),
    _Form(
        r"\d{2} ?\d{3} ?\d{3} ?\d{3}",
        "de.idnr",
        Cues("steuer idnr steueridentifikationsnummer identifikationsnummer steuernummer tin"),
    ),
    _Form(r"\d{9}", "nl.bsn", Cues("bsn burgerservicenummer sofinummer")),
    _Form(r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d", "be.nn"),
    _Form(r"756\.\d{4}\.\d{4}\.\d\d", _is_ahv),  # Switzerland
    _Form(r"\d{11}", "pl.pesel", Cues("pesel")),
    _Form(r"\d{6}/\d{3,4}", "cz.rc", Cues("rč rodné rodne číslo cislo")),
    _Form(r"\d{11}", "no.fodselsnummer", Cues("fødselsnummer fodselsnummer personnummer")),
    _Form(r"(?:19|20)?\d{6}[\-+]\d{4}", _is_swedish),
    _Form(r"\d{6}[\-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y]", "fi.hetu"),
    _Form(r"\d{6}-?\d{4}", _is_danish, Cues("cpr personnummer")),
    _Form(r"[1-8]\d{12}", "ro.cnp", Cues("cnp")),
    _Form(r"\d{11}", "tr.tckimlik", Cues("tc kimlik tckn")),
    _Form(r"\d{9}", "il.idnr", Cues("id teudat zehut", unspaced="תעודת ת.ז")),
    _Form(r"\d{13}", _is_south_african),
    _Form(r"\d{3}\.\d{3}\.\d{3}-\d\d", "br.cpf"),
    _Form(r"\d{11}", "br.cpf", Cues("cpf")),
    _Form(r"[A-Z][AEIOUX][A-Z]{2}\d{6}[HM][A-Z]{5}[A-Z0-9]\d", "mx.curp"),
    _Form(r"\d{1,2}\.\d{3}\.\d{3}-[\dKk]", "cl.rut"),
    _Form(r"\d{2}-?\d{8}-?\d", "ar.cuit", Cues("cuit cuil")),
)
_AFTER_NUMBER: Final = r"(?![A-Za-z0-9]|[.,\-]\d)"
_PATTERNS: Final = tuple((form, re.compile(form.pattern + _AFTER_NUMBER)) for form in _FORMS)
# Only to find where any of them may begin: what repeats a separator is repeated as any separator.
_ANY_FORM: Final = re.compile(
    r"(?<![A-Za-z0-9])(?<!\d[.,])(?:"
    + "|".join(
        f"(?:{form.pattern})".replace("([ \\-]?)", "[ \\-]?").replace("\\1", "[ \\-]?") for form in _FORMS
    )
    + ")"
    + _AFTER_NUMBER
)
# What has no check, but is introduced by its name.
_CALLED: Final = re.compile(
    r"(?:driver'?s?’?s? licen[cs]e|driving licen[cs]e|licen[cs]e|passport|pasport|paspor|lesen memandu|passeport|pasaporte"
    r"|reisepass(?:nummer)?|护照|護照)(?: (?:number|no\.?|num|nombor|nomor|nummer|número|numéro)|号码?|號碼?)?"
    r"(?: (?:is|ialah|adalah|es|est|ist))? ?[:#：]? ?(?P<number>(?=[A-Za-z\-]{0,4}\d)[A-Za-z0-9][A-Za-z0-9\-]{5,15})(?![A-Za-z0-9])",
    re.IGNORECASE,
)
