"""Personal data in a text: where it stands and what it is.

Every pattern is bounded, so that the work grows with the text alone. What two detectors claim goes to the one whose form says
more: a key before an account before a card before a mail address before a person's number before a phone.
"""

import ipaddress
import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from app.rag.guardrails import credentials, identifiers, phones
from app.rag.guardrails.cues import Surroundings
from app.rag.guardrails.kinds import Finding, PiiKind

EVERY_KIND: Final = frozenset(PiiKind)

_MOST_DIGITS: Final = 40_000
"""More than any prompt has: of a text with more, no number is checked, and every long one is taken."""
_NUMBERS: Final = frozenset({PiiKind.CARD, PiiKind.IBAN, PiiKind.NATIONAL_ID, PiiKind.PHONE})

# No space need stand between an address and Chinese or Thai, so one in Latin letters ends with them.
_AFTER_AT: Final = re.compile(
    r"[@＠](?:(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,6}[A-Za-z]{2,24}(?![A-Za-z0-9\-])"
    r"|(?:[^\W_](?:[\w\-]{0,61}[^\W_])?\.){1,6}[^\W\d_]{2,24}(?![\w\-]))"
)
_MAILBOX: Final = re.compile(r"[a-zA-Z0-9_\u00c0-\u024f\u0370-\u04ff.+%'’\-]{1,64}")
_INTERNATIONAL_MAILBOX: Final = re.compile(r"[\w.+%'’\-]{1,64}")
_IPV4: Final = re.compile(
    r"(?<![A-Za-z0-9_.\-])(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?![A-Za-z0-9_\-]|\.\d)"
)
_IPV6: Final = re.compile(r"(?<![A-Za-z0-9_:.])[0-9A-Fa-f:]{4,39}+(?![A-Za-z0-9_:])")
# Of a program, a chapter: a dotted number that is no address.
_NUMBERED: Final = re.compile(
    r"(?:\b(?:v|ver|version|versi|release|section|clause|seksyen|chapter|bab|pasal|figure|table)|§)\.? ?\Z",
    re.IGNORECASE,
)


def find(text: str, kinds: Collection[PiiKind] = EVERY_KIND) -> list[Finding]:
    """The personal data of these kinds in a text, in order and without overlap."""
    taken: list[Finding] = []
    for findings in _detectors(text, kinds):
        _add(taken, (finding for finding in findings if finding.kind in kinds))
    return taken


def _detectors(text: str, kinds: Collection[PiiKind]) -> Iterator[Iterable[Finding]]:
    """The more telling detectors first. What is not asked for is not looked for."""
    surroundings = Surroundings(text)
    if PiiKind.API_KEY in kinds:
        yield credentials.find(text)
    if PiiKind.EMAIL in kinds:
        yield _emails(text)
    numbers = _NUMBERS & frozenset(kinds)
    if numbers and sum(map(text.count, "0123456789")) > _MOST_DIGITS:
        kind = next(kind for kind in PiiKind if kind in numbers)
        yield (Finding(start, end, kind) for start, end in identifiers.long_numbers(text))
        numbers = frozenset()
    if numbers - {PiiKind.PHONE}:
        yield identifiers.find(text, surroundings)
    if PiiKind.IP_ADDRESS in kinds:
        yield _addresses(text)
    if PiiKind.PHONE in numbers:
        yield phones.find(text, surroundings)


def _add(taken: list[Finding], findings: Iterable[Finding]) -> None:
    """Put in order what does not overlap with anything taken before."""
    fresh = sorted(findings)
    if not fresh:
        return
    starts = [finding.start for finding in taken]
    added: list[Finding] = []
    end = 0
    for finding in fresh:
        place = bisect_left(starts, finding.end)
        free = not place or taken[place - 1].end <= finding.start
        if free and finding.start >= end:
            added.append(finding)
            end = finding.end
    taken.extend(added)
    taken.sort()


def _emails(text: str) -> Iterator[Finding]:
    for match in _AFTER_AT.finditer(text):
        before = text[max(0, match.start() - 64) : match.start()]
        pattern = _MAILBOX if match[0][1:].isascii() else _INTERNATIONAL_MAILBOX
        mailbox = pattern.match(before[::-1])
        if mailbox is None:
            continue
        name = mailbox[0][::-1].lstrip(".-'’%")
        if name:
            yield Finding(match.start() - len(name), match.end(), PiiKind.EMAIL)


def _addresses(text: str) -> Iterator[Finding]:
    for match in _IPV4.finditer(text):
        numbers_a_part = len(match[0]) == 7 or _NUMBERED.search(
            text[max(0, match.start() - 12) : match.start()]
        )
        if not numbers_a_part and match[0] != "127.0.0.1":
            yield Finding(*match.span(), PiiKind.IP_ADDRESS)
    if text.count(":") < 2:
        return
    for match in _IPV6.finditer(text):
        colons = match[0].count(":")
        if (
            colons >= 2
            and ("::" in match[0] or colons == 7)
            and match[0].strip(":")
            and _is_address(match[0])
        ):
            yield Finding(*match.span(), PiiKind.IP_ADDRESS)


def _is_address(written: str) -> bool:
    try:
        return not ipaddress.IPv6Address(written).is_loopback
    except ValueError:
        return False
