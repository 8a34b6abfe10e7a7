"""Personal data replaced by placeholders (`[EMAIL_1]`) and put back: nothing of it reaches the provider, and the answer reads right.

A vault is made anew for each turn and fed the conversation in its order, so the same value has the same placeholder wherever it
stands, and nothing needs to be stored. Text that looks like a placeholder already gets one of its own: what comes back is what
went in.
"""

import re
from collections import Counter
from collections.abc import Collection
from typing import Final

from app.rag.guardrails import pii
from app.rag.guardrails.kinds import Finding, PiiKind

_TEXT: Final = "TEXT"
_NAMES: Final = "|".join((*(kind.name for kind in PiiKind), _TEXT))
_NAMES_AS_WRITTEN: Final = _NAMES.replace("_", r"\\?_")
# As models write it: in any case, with the escapes of Markdown, in Chinese brackets.
_PLACEHOLDER: Final = re.compile(
    rf"\\?[\[【](?P<name>{_NAMES_AS_WRITTEN})\\?_(?P<number>\d{{1,6}})\\?[\]】]", re.IGNORECASE
)
_UNFINISHED: Final = re.compile(r"\\?(?:[\[【](?:[A-Za-z\\_]{1,16}\d{0,6}\\?)?)?\Z")
_SEPARATORS: Final = re.compile(r"[^\w+]+")
_COMPARED_BY_DIGITS: Final = frozenset({PiiKind.PHONE, PiiKind.CARD, PiiKind.IBAN, PiiKind.NATIONAL_ID})

# What cannot be inside of a number, an address or a key ends what is held back of a stream.
_OPEN_WORD: Final = re.compile(r"[!-~\u00a1-\u1fff]*\Z")
# A number may be written in groups, of which some have letters: "DE89 3704 …", "GB82 WEST …", "AB 12 34 56 C".
_GROUP: Final = r"(?:[+(]?\d[\d()./\-]{0,20}|[A-Z]{1,4}|(?=[A-Za-z]{1,3}\d)[A-Za-z0-9]{2,4})"
_OPEN_NUMBERS: Final = re.compile(rf"(?<![A-Za-z0-9])(?:{_GROUP}[ \u00a0]{{1,2}}){{1,10}}\Z")
_CONTEXT_CHARACTERS: Final = 48
_MOST_HELD: Final = 400
_MOST_HELD_OF_KEY: Final = 16_000
_KEY_BEGINS: Final = "-----BEGIN"
_KEY_HEAD: Final = re.compile(r"-----BEGIN[A-Z0-9 ]{0,40}+(?:\Z|-(?<=PRIVATE KEY-))")
_KEY_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----")


class Vault:
    """The personal data of one conversation, each value with its placeholder.

    `masked` counts by kind what was replaced; a value that occurs twice counts twice.
    """

    def __init__(self, kinds: Collection[PiiKind] = pii.EVERY_KIND) -> None:
        self._kinds = frozenset(kinds)
        self._placeholders: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._own: set[str] = set()
        self._numbers: Counter[str] = Counter()
        self.masked: Counter[PiiKind] = Counter()

    def mask(self, text: str, *, own: bool = False) -> str:
        """The text with placeholders. `own` is what the person who is answered has said: it may always be put back."""
        if _PLACEHOLDER.search(text):
            text = _PLACEHOLDER.sub(lambda match: self._placeholder(_TEXT, match[0], own=True), text)
        pieces: list[str] = []
        position = 0
        for finding in pii.find(text, self._kinds):
            pieces += text[position : finding.start], self.placeholder(text, finding, own=own)
            self.masked[finding.kind] += 1
            position = finding.end
        return "".join((*pieces, text[position:])) if pieces else text

    def placeholder(self, text: str, finding: Finding, *, own: bool = False) -> str:
        """What stands for a finding from now on."""
        return self._placeholder(finding.kind.name, text[finding.start : finding.end], own=own)

    def restore(self, text: str, *, only_own: bool = False) -> str:
        """The values where the placeholders stand, of `own` texts only if it says so; placeholders of nothing stay."""

        def value(match: re.Match[str]) -> str:
            name = f"[{match['name'].replace(chr(92), '').upper()}_{int(match['number'])}]"
            if only_own and name not in self._own:
                return name if name in self._values else match[0]
            return self._values.get(name, match[0])

        return _PLACEHOLDER.sub(value, text) if self._values else text

    def is_own(self, text: str, finding: Finding) -> bool:
        """Whether the person who is answered has said this themselves."""
        key = _key(finding.kind.name, text[finding.start : finding.end])
        return self._placeholders.get(key) in self._own

    @property
    def is_empty(self) -> bool:
        return not self._values

    def _placeholder(self, name: str, value: str, *, own: bool) -> str:
        key = _key(name, value)
        if key not in self._placeholders:
            self._numbers[name] += 1
            self._placeholders[key] = f"[{name}_{self._numbers[name]}]"
            self._values[self._placeholders[key]] = value
        if own:
            self._own.add(self._placeholders[key])
        return self._placeholders[key]


def _key(name: str, value: str) -> tuple[str, str]:
    """Two spellings of one number are one value."""
    if name in PiiKind.__members__ and PiiKind[name] in _COMPARED_BY_DIGITS:
        value = _SEPARATORS.sub("", value)
    return name, value if name in (_TEXT, PiiKind.API_KEY.name) else value.casefold()


class Restorer:
    """Puts values back into an answer while it streams; the beginning of a placeholder is held back."""

    def __init__(self, vault: Vault, *, only_own: bool = False) -> None:
        self._vault = vault
        self._only_own = only_own
        self._held = ""

    def feed(self, delta: str) -> str:
        """The part of the answer that can't change any more."""
        text = self._held + delta
        if self._vault.is_empty:
            return text
        unfinished = _UNFINISHED.search(text, max(0, len(text) - 32))
        cut = unfinished.start() if unfinished else len(text)
        self._held = text[cut:]
        return self._vault.restore(text[:cut], only_own=self._only_own)

    def flush(self) -> str:
        """What was still held back when the answer ended."""
        text, self._held = self._held, ""
        return self._vault.restore(text, only_own=self._only_own)


class Redactor:
    """Masks personal data in an answer while it streams, but for what the reader has said themselves.

    Held back is the word that is being written, and a number with blanks in it; a private key as a whole.
    """

    def __init__(self, vault: Vault, kinds: Collection[PiiKind] = pii.EVERY_KIND) -> None:
        self._vault = vault
        self._kinds = frozenset(kinds)
        self._context = ""
        self._held = ""
        self.masked: Counter[PiiKind] = Counter()

    def feed(self, delta: str) -> str:
        """The part of the answer that can't change any more."""
        text = self._held + delta
        cut = _safe_end(text)
        self._held = text[cut:]
        return self._redact(text[:cut])

    def flush(self) -> str:
        """What was still held back when the answer ended."""
        text, self._held = self._held, ""
        return self._redact(text)

    def _redact(self, text: str) -> str:
        if not text:
            return ""
        whole = self._context + text
        position = len(self._context)
        pieces: list[str] = []
        for finding in pii.find(whole, self._kinds):
            if finding.start < position or self._vault.is_own(whole, finding):
                continue
            pieces += whole[position : finding.start], self._vault.placeholder(whole, finding)
            self.masked[finding.kind] += 1
            position = finding.end
        self._context = whole[-_CONTEXT_CHARACTERS:]
        return "".join((*pieces, whole[position:]))


def _safe_end(text: str) -> int:
    """Up to where no personal data can begin that has not ended yet."""
    key = text.rfind(_KEY_BEGINS)
    ended = 0
    if key >= 0 and len(text) - key < _MOST_HELD_OF_KEY and _KEY_HEAD.match(text, key):
        end = _KEY_END.search(text, key)
        if end is None:
            return key
        ended = end.end()
    word = _OPEN_WORD.search(text, max(0, len(text) - _MOST_HELD))
    cut = word.start() if word else len(text)
    if cut == len(text) - _MOST_HELD:
        return len(text)
    numbers = _OPEN_NUMBERS.search(text, max(0, cut - 80), cut)
    return max(ended, numbers.start() if numbers else cut)
