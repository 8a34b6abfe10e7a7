"""Secrets that give access: API keys by their prefixes, tokens, private keys, passwords in addresses and assignments."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from app.rag.guardrails.kinds import Finding, PiiKind

# Prefixes that providers give their keys so that they can be found, each with the least length of what follows.
_PREFIXED: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"sk-(?:ant-|proj-|or-v1-|svcacct-|lf-)?[A-Za-z0-9_\-]{16,300}+"
    r"|[spr]k_(?:live|test)_[A-Za-z0-9]{16,200}+"
    r"|ibid_[A-Za-z0-9]{6,20}_[A-Za-z0-9]{16,100}+"
    r"|gh[pousr]_[A-Za-z0-9]{20,255}+|github_pat_[A-Za-z0-9_]{20,255}+|glpat-[A-Za-z0-9_\-]{16,100}+"
    r"|(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}(?![A-Za-z0-9])"
    r"|xox[abeprs]-[A-Za-z0-9\-]{10,250}+|xapp-\d-[A-Za-z0-9\-]{10,250}+"
    r"|AIza[A-Za-z0-9_\-]{30,60}+|ya29\.[A-Za-z0-9_\-]{20,300}+|GOCSPX-[A-Za-z0-9_\-]{20,60}+"
    r"|SG\.[A-Za-z0-9_\-]{16,64}+\.[A-Za-z0-9_\-]{16,64}+"
    r"|(?:hf|npm|dop_v1|shpat|shpss|pul|sbp|nvapi|gsk|xai|pplx|r8|tvly|rnd|whsec|sntrys|lin_api)[_\-][A-Za-z0-9_\-]{20,200}+"
    r"|pypi-[A-Za-z0-9_\-]{40,400}+|key-[0-9a-f]{32}(?![0-9a-z])"
    r"|\d{8,10}:AA[A-Za-z0-9_\-]{30,40}+"
    r"|eyJ[A-Za-z0-9_\-]{8,4000}+\.eyJ[A-Za-z0-9_\-]{4,8000}+(?:\.[A-Za-z0-9_\-]{0,2000}+)?"
    r")"
)
_PRIVATE_KEY: Final = re.compile(r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_END_OF_KEY: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_MATERIAL: Final = re.compile(r"[A-Za-z0-9+/=\s:,\-]{0,12000}+")
_MOST_KEY_CHARACTERS: Final = 16_000
_IN_ADDRESS: Final = re.compile(r"://[^\s/:@\"'<>]{0,64}+:([^\s/@\"'<>]{3,128}+)@")
_ASSIGNED: Final = re.compile(
    r"(?:api[_\- ]?key|apikey|secret(?:[_\- ]?(?:access[_\- ]?)?key)?|access[_\- ]?token|auth[_\- ]?token|bearer|token"
    r"|passw(?:or)?d|passphrase|pwd|kata[ _]laluan|kata[ _]sandi|contraseña|mot de passe|passwort|kennwort|密码|密碼|口令)"
    r"(?P<joint>[\"'`]?\s{0,3}(?:[:=：]|is|ialah|adalah|es|est|ist|是)\s{0,3}|\s)[\"'`]?(?P<secret>[^\s\"'`<>,;，。]{8,200}+)",
    re.IGNORECASE,
)
_MAYBE_ASSIGNED: Final = re.compile(
    r"api|secret|token|bearer|pass|pwd|kata|contras|mot de|kennwort|密|口令", re.IGNORECASE
)
_LEAST_BITS: Final = 2.6
_LONG_RUN: Final = re.compile(r"[A-Za-z0-9]{20}")
_WORDS: Final = re.compile(r"[A-Za-z]+[.!?]?")


def find(text: str) -> Iterator[Finding]:
    """The secrets of a text, which may overlap."""
    for match in _PREFIXED.finditer(text):
        if _has_variety(match[0]):
            yield _finding(*match.span())
    if "PRIVATE KEY" in text:
        yield from _private_keys(text)
    if "://" in text:
        for match in _IN_ADDRESS.finditer(text):
            yield _finding(*match.span(1))
    if _MAYBE_ASSIGNED.search(text):
        for match in _ASSIGNED.finditer(text):
            if _is_secret(match["secret"], named=match["joint"].strip(" \"'`") in (":", "=", "：")):
                yield _finding(*match.span("secret"))


def _private_keys(text: str) -> Iterator[Finding]:
    position = 0
    while begin := _PRIVATE_KEY.search(text, position):
        limit = begin.end() + _MOST_KEY_CHARACTERS
        end = _END_OF_KEY.search(text, begin.end(), limit)
        if end:
            position = end.end()
        else:  # cut off: what looks like a key goes with it
            material = _KEY_MATERIAL.match(text, begin.end())
            position = material.end() if material else begin.end()
        yield _finding(begin.start(), position)


def _has_variety(written: str) -> bool:
    """Whether a key is not a name written with hyphens ("sk-learn-pipeline-example") or a row of x."""
    is_random = sum(map(str.isdigit, written)) > 1 or _LONG_RUN.search(written) is not None
    return is_random and _bits(written[-40:]) >= _LEAST_BITS


def _is_secret(written: str, *, named: bool) -> bool:
    """Whether what follows the word "password" or the like is one, and not the next word of a sentence."""
    if _WORDS.fullmatch(written) or written[0] in "{[$<(*":
        return False
    has_digit = any(map(str.isdigit, written))
    has_letter = any(map(str.isalpha, written))
    least_length = 8 if named else 10
    return has_digit and has_letter and len(written) >= least_length and _bits(written) >= _LEAST_BITS


def _bits(written: str) -> float:
    """The entropy of its characters, in bits each."""
    total = len(written)
    return -sum(count / total * math.log2(count / total) for count in Counter(written).values())


def _finding(start: int, end: int) -> Finding:
    return Finding(start, end, PiiKind.API_KEY)
