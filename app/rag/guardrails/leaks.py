"""The system prompt does not leave: an answer that begins to repeat it ends there.

What is compared are letters and digits alone, so blanks, hyphens or emphasis between them change nothing; the prompt is also
looked for backwards, in ROT13, without its vowels, and inside of Base64 and hexadecimal. Held back is only what matches, from
sixteen letters in a row until it is clear (`LEAK_LETTERS`) or the match has broken off.
"""

import base64
import binascii
import codecs
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from app.rag.guardrails.links import LOOK_ALIKES

LEAK_LETTERS: Final = 64
"""So many letters of the prompt in a row are no coincidence: some twelve words."""
_CODE: Final = re.compile(r"(?=[A-Za-z_\-]*\d)(?=[\d_\-]*[A-Za-z])[A-Za-z0-9][A-Za-z0-9_\-]{6,60}[A-Za-z0-9]")
_LEAST_OF_CODE: Final = 8
_MOST_CODES: Final = 20
_LEAST_OF_SECRET: Final = 6
_GRAM: Final = 16
_STRIDE: Final = 4
_MOST_IN_PIECES: Final = 3
"""A prompt told in small pieces has leaked when these add up to so many times that."""
_MOST_HELD: Final = 2_000
_QUOTED: Final = re.compile(r"\"[^\"\n]{8,400}\"|“[^”\n]{8,400}”|«[^»\n]{8,400}»|「[^」\n]{4,400}」")
"""What a prompt quotes it may have asked to be said word for word."""
_VOWELS: Final = re.compile("[aeiou]+")
_HEXADECIMAL: Final = re.compile(r"[0-9A-Fa-f]+")
_LEAST_ENCODED: Final = 24
_MOST_ENCODED: Final = 400
_NO_ENCODED: Final = re.compile(r"[^A-Za-z0-9+/_=\-\r\n]")
_NO_LETTER: Final = re.compile(r"[\W_]+")


@lru_cache(maxsize=256)
def _grams(prompt: str) -> frozenset[str]:
    """The runs of sixteen letters of a prompt, in each of its disguises; of one that was shown before at no cost."""
    letters = _letters(_QUOTED.sub(" ", prompt))
    forms = (*_forms(letters), _VOWELS.sub("", letters))
    return frozenset(form[place : place + _GRAM] for form in forms for place in range(len(form) - _GRAM + 1))


def _forms(letters: str) -> tuple[str, str, str]:
    return letters, letters[::-1], codecs.encode(letters, "rot13")


@lru_cache(maxsize=256)
def _codes(prompt: str) -> tuple[str, ...]:
    """The words of a prompt that are passwords, keys and the like: long, with letters and digits."""
    words = (_letters(word) for word in _CODE.findall(_QUOTED.sub(" ", prompt)))
    return tuple(word for word in dict.fromkeys(words) if len(word) >= _LEAST_OF_CODE)[:_MOST_CODES]


@lru_cache(maxsize=256)
def _limit(prompt: str) -> int:
    """The letters in a row that make a leak: fewer of a prompt that has few."""
    length = len(_letters(_QUOTED.sub(" ", prompt)))
    return max(_GRAM + 8, min(LEAK_LETTERS, length * 4 // 5))


def _letters(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(LOOK_ALIKES)
    return _NO_LETTER.sub("", text.casefold())


class LeakGuard:
    """Lets an answer through until it repeats what must not be said; then `leaked` is true and nothing follows.

    `secret` is a word of this prompt alone, such as its fence; `prompts` are texts whose wording is not to be repeated, nor
    any code in them that none of the `known` texts has.
    """

    def __init__(self, secret: str, *prompts: str, known: Sequence[str] = ()) -> None:
        codes = [code for prompt in prompts for code in _codes(prompt)]
        if codes:
            said = " ".join(map(_letters, known))
            codes = [code for code in codes if code not in said]
        words = [_letters(secret), *codes]
        self._secrets = tuple({form for word in words if word for form in _forms(word)})
        self._prompts = [(_grams(prompt), _limit(prompt)) for prompt in prompts if prompt]
        self._held = ""
        self._letters = ""
        self._read = 0
        """How many letters of `_letters` were compared already."""
        self._runs = [0] * len(self._prompts)
        self._totals = [0] * len(self._prompts)
        self._repeats = False
        self._encoded = ""
        self.leaked = False

    def feed(self, delta: str) -> str:
        """The part of the answer that may be shown; nothing more once it has leaked."""
        if self.leaked:
            return ""
        self._letters += _letters(delta)
        self._held += delta
        matches = self._compare()
        self.leaked = self._repeats or self._says_secret() or self._is_encoded(delta)
        if self.leaked:
            self._held = ""
            return ""
        self._forget()
        if (matches or self._may_say_secret()) and len(self._held) < _MOST_HELD:
            return ""
        shown, self._held = self._held, ""
        return shown

    def flush(self) -> str:
        """What was still held back when the answer ended."""
        shown, self._held = self._held, ""
        return shown

    def _compare(self) -> bool:
        """Count how far the answer follows each prompt; whether it does so right now."""
        last = len(self._letters) - _GRAM
        while self._read <= last:
            gram = self._letters[self._read : self._read + _GRAM]
            for place, (grams, limit) in enumerate(self._prompts):
                if gram in grams:
                    self._runs[place] += _STRIDE
                    self._totals[place] += _STRIDE
                    in_a_row = self._runs[place] + _GRAM - _STRIDE
                    self._repeats |= in_a_row >= limit or self._totals[place] >= _MOST_IN_PIECES * limit
                else:
                    self._runs[place] = 0
            self._read += _STRIDE
        return any(self._runs)

    def _says_secret(self) -> bool:
        return any(secret in self._letters for secret in self._secrets)

    def _may_say_secret(self) -> bool:
        end = self._letters[-_LEAST_OF_SECRET:]
        return len(end) == _LEAST_OF_SECRET and any(end in secret for secret in self._secrets)

    def _is_encoded(self, delta: str) -> bool:
        """Whether the answer is spelling out the prompt in Base64 or hexadecimal."""
        runs = _NO_ENCODED.split(self._encoded + delta)
        self._encoded = runs[-1][-_MOST_ENCODED:]
        return any(len(run) >= _LEAST_ENCODED and self._is_encoded_run(run) for run in runs)

    def _is_encoded_run(self, written: str) -> bool:
        run = "".join(written.split())
        if len(run) < _LEAST_ENCODED:
            return False
        return any(self._tells(text) for text in _decoded(run))

    def _tells(self, text: str) -> bool:
        letters = _letters(text)
        if any(secret in letters for secret in self._secrets):
            return True
        places = range(len(letters) - _GRAM + 1)
        return any(letters[place : place + _GRAM] in grams for grams, _ in self._prompts for place in places)

    def _forget(self) -> None:
        """Keep what a match may still need: the letters not compared yet, and those a secret may have begun with."""
        keep = max(_GRAM, *(len(secret) for secret in self._secrets), 0) if self._secrets else _GRAM
        gone = min(self._read, max(0, len(self._letters) - keep))
        self._letters = self._letters[gone:]
        self._read -= gone


def _decoded(run: str) -> list[str]:
    """The texts that a run of letters may stand for."""
    found: list[bytes] = []
    if _HEXADECIMAL.fullmatch(run):
        found += (bytes.fromhex(run[start : start + (len(run) - start) // 2 * 2]) for start in (0, 1))
    plain = run.replace("-", "+").replace("_", "/").rstrip("=")
    for start in range(4):
        piece = plain[start : start + (len(plain) - start) // 4 * 4]
        try:
            found.append(base64.b64decode(piece, validate=True))
        except (binascii.Error, ValueError):
            continue
    return [each.decode("utf-8", "ignore") for each in found]
