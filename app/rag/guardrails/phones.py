"""Phone numbers: international ones by their country code, national ones by a telling form or by the words around them."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from app.rag.guardrails.cues import PHONE, Surroundings
from app.rag.guardrails.kinds import Finding, PiiKind

_EXTENSION: Final = r"(?:[ ,;]{0,2}(?:x|ext\.?|extension|samb\.?|Durchwahl|int\.?) ?\d{1,6}(?!\d))?"
# Each step takes at least one digit for good, and there are at most as many as a number has: the search is linear.
_INTERNATIONAL: Final = re.compile(
    r"(?<![A-Za-z0-9_+])(?:\+|00(?=[1-9]))[ (]?+\d{1,4}+(?:[ \u00a0.\-/()]{0,3}+\d{1,12}+){1,7}+"
    + _EXTENSION,
    re.IGNORECASE,
)
_NATIONAL: Final = re.compile(
    r"(?<![A-Za-z0-9_+@#$€£¥/])(?<!\d[.,:\-/])"
    r"(?:\(\d{1,5}\)[ \-]?\d{2,8}(?:[ \u00a0.\-/]\d{2,8}){0,4}"
    r"|\d{1,5}(?:[ \u00a0.\-/]\d{2,8}){1,5}"
    r"|\d{7,12})" + _EXTENSION + r"(?![A-Za-z0-9_@%]|[.,:/]\d)",
    re.IGNORECASE,
)
_DIGITS: Final = re.compile(r"\d+")
_TRUNK_ZERO: Final = re.compile(r"\(0\)")
_DATE: Final = re.compile(
    r"(?:(?:19|20)\d\d[ .\-/](?:0?[1-9]|1[0-2])[ .\-/](?:0?[1-9]|[12]\d|3[01])"
    r"|(?:0?[1-9]|[12]\d|3[01])[ .\-/](?:0?[1-9]|[12]\d|3[01])[ .\-/](?:19|20)?\d\d)(?: \d\d)?\Z"
)
_YEARS: Final = re.compile(r"(?:1[0-9]|20)\d\d[ .\-/](?:1[0-9]|20)\d\d\Z")
# 1.746.986, 12224-0341, Nomor 171/1973: thousands, a postal code, a law of a year.
_OTHERWISE: Final = re.compile(r"\d{1,3}(?:\.\d{3})+\Z|\d{5}-\d{4}\Z|\d+/(?:1[89]|20)\d\d\Z")
_NORTH_AMERICAN: Final = re.compile(r"\(?[2-9]\d\d\)?[ .\-]?\d{3}[.\- ]\d{4}\Z")
_AREA_IN_BRACKETS: Final = re.compile(r"\(0?\d{2,4}\)[ \-]?\d{3,}")
_TRUNK: Final = re.compile(r"0[1-9]\d*[ \u00a0.\-/]\d")
_WITHOUT_EXTENSION: Final = re.compile(r"[\d\s()+.\-/]*\d")

_FEWEST, _MOST = 7, 15
_REGIONS: Final = ("MY", "ID", "SG", "GB", "AU", "IN", "DE", "FR")
"""Where a number written without any space or sign is looked up, if it begins with the zero of a national number."""
_MOST_TRIMS: Final = 4


def find(text: str, surroundings: Surroundings) -> Iterator[Finding]:
    """The phone numbers of a text in two passes, which may overlap."""
    for match in _INTERNATIONAL.finditer(text):
        end = _end_of_international(match[0])
        if end:
            yield Finding(match.start(), match.start() + end, PiiKind.PHONE)
    for match in _NATIONAL.finditer(text):
        if _is_national(match[0]) or _is_said_to_be(match, surroundings):
            yield Finding(match.start(), match.end(), PiiKind.PHONE)


def _end_of_international(written: str) -> int:
    """How far a number reaches that has a country code: what follows after a space may be another number. 0 if it is none."""
    bare = _WITHOUT_EXTENSION.match(written)
    if bare is None:
        return 0
    number, whole = bare[0], len(written)
    for _ in range(_MOST_TRIMS):
        if _is_possible(_TRUNK_ZERO.sub("", number)):
            return whole
        shorter = re.match(r"(?s)(.*\d)[^\d]+\d+\Z", number)
        if shorter is None:
            return 0
        number = shorter[1]
        whole = len(number)
    return 0


@lru_cache(maxsize=2_048)
def _is_possible(written: str) -> bool:
    import phonenumbers  # 5 MB that a service without masking does without

    digits = "".join(_DIGITS.findall(written))
    if written.startswith("00"):
        digits = digits[2:]
    if not _FEWEST <= len(digits) <= _MOST:
        return False
    try:
        number = phonenumbers.parse(f"+{digits}")
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_possible_number(number)


def _is_national(written: str) -> bool:
    """Whether a number says by its form alone that it is one to call."""
    bare = _WITHOUT_EXTENSION.match(written)
    number = bare[0] if bare else written
    count = sum(map(len, _DIGITS.findall(number)))
    if _DATE.match(number):
        return False
    if number.isdigit():
        return number[0] == "0" and number[1] != "0" and 9 <= count <= 11 and _is_valid_somewhere(number)
    if _AREA_IN_BRACKETS.match(number):
        return 8 <= count <= 12
    if _NORTH_AMERICAN.match(number):
        return True
    return _TRUNK.match(number) is not None and 9 <= count <= 11


@lru_cache(maxsize=2_048)
def _is_valid_somewhere(digits: str) -> bool:
    import phonenumbers  # as above

    for region in _REGIONS:
        try:
            number = phonenumbers.parse(digits, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number_for_region(number, region):
            return True
    return False


def _is_said_to_be(match: re.Match[str], surroundings: Surroundings) -> bool:
    """Whether the words around it say that a number is one to call."""
    number = match[0]
    count = sum(map(len, _DIGITS.findall(number)))
    if not _FEWEST <= count <= 13 or any(other.match(number) for other in (_DATE, _YEARS, _OTHERWISE)):
        return False
    return surroundings.say(PHONE, match.start(), match.end())
