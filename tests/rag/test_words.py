"""Words that are found by numbers are found as by themselves."""

import random
from collections import Counter

import numpy as np

from app.rag.atoms import codes_of
from app.rag.words import KnownWords

ALPHABETS = ("ab", "abcdefghijklmnopqrstuvwxyz0123456789'", "a\0é漢\U0001f600\U00020000", "\0\x01\x02")


class Learned:
    """What was learned of each word: a number of its own, once."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.asked: Counter[str] = Counter()
        self.known = KnownWords(self.learn)

    def learn(self, word: str) -> int:
        self.asked[word] += 1
        return self.numbers.setdefault(word, 7 * len(self.numbers) - 3)

    def find(self, words: list[str], between: str = " ") -> list[int]:
        text = between.join(words)
        ends = np.cumsum([len(word) + len(between) for word in words], dtype=np.int64) - len(between)
        starts = ends - np.array([len(word) for word in words], np.int64)
        found: list[int] = self.known.find(text, codes_of(text), starts, ends).tolist()
        return found


def test_each_word_is_learned_once_and_found_as_itself_however_many_there_are() -> None:
    chance, learned = random.Random(3), Learned()
    for size in (0, 1, 3, 40, 20_000, 300, 40_000):
        alphabet = chance.choice(ALPHABETS)
        words = ["".join(chance.choices(alphabet, k=chance.randrange(1, 48))) for _ in range(size)]
        assert learned.find(words) == [learned.numbers[word] for word in words]
    assert len(learned.known) == len(learned.numbers) > 30_000
    assert set(learned.asked.values()) == {1}


def test_words_that_differ_little_are_different() -> None:
    learned = Learned()
    words = [f"{'a' * n}{letter}{'a' * m}" for n in range(40) for m in range(8) for letter in "ab\0\x01é漢"]
    assert learned.find(words) == [learned.numbers[word] for word in words]
    assert len(learned.numbers) == len(set(words))


def test_a_word_is_the_same_wherever_it_stands_and_whatever_is_around_it() -> None:
    learned = Learned()
    (number,) = learned.find(["word"])
    assert learned.find(["", "other", "word", "word"], between=" 漢 ")[2:] == [number, number]
    assert learned.find(["x" * 200_000, "word"])[1] == number
    assert learned.asked["word"] == 1


def test_what_is_forgotten_is_learned_again() -> None:
    learned = Learned()
    words = [str(n) for n in range(5_000)]
    before = learned.find(words)
    learned.known.clear()
    assert len(learned.known) == 0
    assert learned.find(words) == before
    assert set(learned.asked.values()) == {2}


def test_words_that_are_made_to_have_one_number_in_any_base_have_two() -> None:
    """Their difference is a product of x - 1, x² - 1 and x⁴ - 1, each of which is divisible by a power of two for any odd x."""
    difference = [1]
    for distance, times in ((1, 12), (2, 8), (4, 4)):
        for _ in range(times):
            longer = [0] * distance + difference
            difference = [one - other for one, other in zip(longer, difference + [0] * distance, strict=True)]
    assert max(map(abs, difference)) < 0xFFFFF
    one = "".join(chr(0x10000 + max(0, number)) for number in difference)
    other = "".join(chr(0x10000 + max(0, -number)) for number in difference)
    learned = Learned()
    assert len(set(learned.find([one, other]))) == len(learned.numbers) == 2
