"""What is known of words, found for very many at once by NumPy, where a dictionary is asked for one after the other.

A word is a number of 64 bits here: a polynomial of numbers that stand for its characters, in a base. So the numbers of all words of a
text come from one running sum, and no word has to be cut out of it but those that are new. That two of a hundred thousand words
have one number happens once in a thousand million times. Each process draws the base and the characters' numbers by lot: with
those of Unicode, words could be made that have one number in any base.
"""

import secrets
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.signedinteger[Any]]
_Hashes = NDArray[np.uint64]

_BASE: Final = secrets.randbits(64) & ~7 | 5
"""Odd, so that it can be divided by, and one that begins anew as late as can be."""
_SHIFT, _STIRRER, _STIRRER_AGAIN = (np.uint64(secrets.randbits(64) | 1) for _ in range(3))
_TABLED: Final = 1 << 16
"""The characters whose numbers are kept; of the others there are few in a text."""
_MIXER: Final = np.uint64(secrets.randbits(64) | 1)
_HALF: Final = np.uint64(32)
_TAKEN: Final = np.uint64(1)
"""No number is 0, which stands for none."""
_SMALLEST_BITS: Final = 10
_KEPT_POWERS: Final = 1 << 17


class KnownWords:
    """What `learn` says of each word that was met, by its number. For one thread at a time."""

    def __init__(self, learn: Callable[[str], int]) -> None:
        self._learn = learn
        self._count = 0
        self._forget(_SMALLEST_BITS)

    def __len__(self) -> int:
        return self._count

    def clear(self) -> None:
        self._forget(_SMALLEST_BITS)

    def find(self, text: str, codes: NDArray[Any], starts: Numbers, ends: Numbers) -> Numbers:
        """What is known of the words of a text from these starts to these ends; `codes` are its characters by number."""
        hashes = _hashes(codes, starts, ends)
        found, unknown = self._look_up(hashes)
        if len(unknown):
            _, firsts = np.unique(hashes[unknown], return_index=True)
            new = unknown[firsts]
            places = zip(starts[new].tolist(), ends[new].tolist(), strict=True)
            self._add(hashes[new], [self._learn(text[start:end]) for start, end in places])
            found[unknown], _ = self._look_up(hashes[unknown])
        return found

    def _look_up(self, hashes: _Hashes) -> tuple[Numbers, Numbers]:
        """What is known of each, and the places of those of which nothing is."""
        places = (hashes >> self._shift).astype(np.int64)
        found = self._values[places]
        left = np.flatnonzero(self._keys[places] != hashes)
        places = places[left]
        unknown: list[Numbers] = []
        while len(left):
            is_free = self._keys[places] == 0
            unknown.append(left[is_free])
            left, places = left[~is_free], places[~is_free] + 1 & self._last
            is_it = self._keys[places] == hashes[left]
            found[left[is_it]] = self._values[places[is_it]]
            left, places = left[~is_it], places[~is_it]
        return found, np.concatenate(unknown) if unknown else left

    def _add(self, hashes: _Hashes, values: Sequence[int]) -> None:
        """Different ones, of which none is known."""
        total = self._count + len(hashes)
        if 2 * total > len(self._keys):
            is_taken = self._keys != 0
            known, of_known = self._keys[is_taken], self._values[is_taken]
            self._forget(max(_SMALLEST_BITS, (4 * total - 1).bit_length()))
            self._put(known, of_known)
        self._put(hashes, np.array(values, np.int64))
        self._count = total

    def _put(self, hashes: _Hashes, values: NDArray[np.int64]) -> None:
        places = (hashes >> self._shift).astype(np.int64)
        while len(hashes):
            is_free = self._keys[places] == 0
            self._keys[places[is_free]] = hashes[is_free]
            is_put = self._keys[places] == hashes  # of several for one place, one is
            self._values[places[is_put]] = values[is_put]
            hashes, values, places = hashes[~is_put], values[~is_put], places[~is_put] + 1 & self._last

    def _forget(self, bits: int) -> None:
        self._keys: _Hashes = np.zeros(1 << bits, np.uint64)
        self._values: NDArray[np.int64] = np.zeros(1 << bits, np.int64)
        self._shift = np.uint64(64 - bits)
        self._last = (1 << bits) - 1
        self._count = 0


def _hashes(codes: NDArray[Any], starts: Numbers, ends: Numbers) -> _Hashes:
    powers, inverse = _powers(len(codes))
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(_drawn(codes) * powers[: len(codes)], out=sums[1:])
    hashes: _Hashes = (sums[ends] - sums[starts]) * inverse[starts]
    hashes ^= hashes >> _HALF
    hashes *= _MIXER
    hashes |= _TAKEN
    return hashes


def _drawn(codes: NDArray[Any]) -> _Hashes:
    """The number of each character; none is that of another."""
    if codes.dtype == np.uint8:
        return _table().take(codes)
    numbers: _Hashes = _table().take(np.minimum(codes, _TABLED - 1))
    far = np.flatnonzero(codes >= _TABLED)
    if len(far):
        numbers[far] = _stirred(codes[far])
    return numbers


@cache
def _table() -> _Hashes:
    return _stirred(np.arange(_TABLED))


def _stirred(codes: NDArray[Any]) -> _Hashes:
    numbers: _Hashes = (codes.astype(np.uint64) + _SHIFT) * _STIRRER
    numbers ^= numbers >> _HALF
    numbers *= _STIRRER_AGAIN
    numbers ^= numbers >> _HALF
    return numbers


_known_powers: list[tuple[_Hashes, _Hashes]] = []


def _powers(count: int) -> tuple[_Hashes, _Hashes]:
    """The powers of the base from 0 to `count` at least, and what undoes each."""
    for known in _known_powers:
        if len(known[0]) > count:
            return known
    size = max(count, 1 << 12) + 1
    made = _powers_of(_BASE, size), _powers_of(pow(_BASE, -1, 1 << 64), size)
    if count <= _KEPT_POWERS:
        _known_powers[:] = [made]
    return made


def _powers_of(base: int, count: int) -> _Hashes:
    factors: _Hashes = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)
