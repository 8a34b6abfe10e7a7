"""Citations of statements that are put together of two sentences of a passage: right where both speak of the same."""

import random
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import pytest

from app.rag import sentences, support
from tests.rag.test_support import gold_sentences

_JOINT: Final = re.compile(
    r"(?:,\s+|\s+)(?=(?:and|but|which|who|that|while|when|where|because|although|so|in|at|by|for|from|with|to|of|as|on|is|was|are|were"
    r"|has|had|dan|yang|di|pada|dengan|untuk|dari|oleh|adalah|ketika|tetapi)\b)"
)
_PRONOUN: Final = re.compile(
    r"(?:It|He|She|They|This) (?=(?:is|was|were|are|has|had|also|[a-z]+ed|[a-z]+s)\b)"
)
_SUBJECT: Final = re.compile(
    r"((?:The )?[A-Z][\w-]+(?: [A-Z][\w-]+)*) (?=(?:is|was|were|are|has|had|also|[a-z]+ed|[a-z]+s)\b)"
)


class Statement(NamedTuple):
    passage: str
    text: str


def _passages(name: str) -> list[tuple[str, list[str]]]:
    """Each with its sentences."""
    texts = dict.fromkeys(text for text, _, _ in gold_sentences(name))
    return [(text, [text[each.start : each.end] for each in sentences.split(text)]) for text in texts]


def _spliced(name: str) -> Iterator[Statement]:
    """The beginning of one sentence and the end of another, from a word on that both have."""
    chance = random.Random(5)
    for passage, found in _passages(name):
        said = [each.rstrip(".") for each in found if 8 <= len(each.split()) <= 35]
        for _ in range(2 if len(said) > 1 else 0):
            one, two = chance.sample(said, 2)
            joints = [
                one[: here.start()] + two[there.start() :]
                for here in _JOINT.finditer(one)
                for there in _JOINT.finditer(two)
                if _word(one, here) == _word(two, there)
                and len(one[: here.start()].split()) >= 3
                and len(two[there.start() :].split()) >= 4
            ]
            statement = chance.choice(joints) if joints else one
            if statement not in (one, two) and len(sentences.split(statement)) == 1:
                yield Statement(passage, statement)


def _word(text: str, joint: re.Match[str]) -> str:
    return text[joint.end() :].split(maxsplit=1)[0]


def _merged(name: str) -> Iterator[Statement]:
    """Two neighbouring sentences as one: with the subject in the place of a pronoun, joined to it, or one after the other."""
    for passage, found in _passages(name):
        for one, two in pairwise(found):
            pronoun, subject = _PRONOUN.match(two), _SUBJECT.match(one)
            if pronoun and subject:
                yield Statement(passage, f"{subject[1]} {two[pronoun.end() :]}")
                yield Statement(passage, f"{one.rstrip('.')} and {two[pronoun.end() :]}")
            if one.endswith(".") and max(len(one.split()), len(two.split())) < 18:
                yield Statement(passage, f"{one.rstrip('.')}, and {two[0].lower()}{two[1:]}")


def _passing(statements: Iterator[Statement]) -> tuple[list[str], int]:
    """Those that are supported, and how many there are."""
    passing, count = [], 0
    for passage, text in statements:
        if len(sentences.split(text)) == 1:  # of several only the last is checked
            count += 1
            if all(each.supported for each in support.check(f"{text} [1]", {1: ("", passage)})):
                passing.append(text)
    return passing, count


@pytest.mark.parametrize(("name", "most_passing"), [("squad2mini", 0.05), ("idkmrc_dev", 0.1)])
def test_halves_of_two_sentences_do_not_pass_and_two_sentences_of_one_thing_do(
    name: str, most_passing: float, capsys: pytest.CaptureFixture[str]
) -> None:
    spliced, of_spliced = _passing(_spliced(name))
    merged, of_merged = _passing(_merged(name))
    with capsys.disabled():
        print(
            f"\n{name}: {len(spliced)} of {of_spliced} spliced pass, {len(merged)} of {of_merged} merged stay"
        )
    assert of_spliced > 100 and of_merged > 100
    # Of those that pass most say what is so: nothing but a pronoun stood before the second half.
    assert len(spliced) <= most_passing * of_spliced, spliced
    assert len(merged) >= 0.97 * of_merged


@pytest.mark.parametrize(
    ("statement", "is_supported"),
    [
        ("The plant was built by Aurora and Borealis in the north of the country", True),
        ("The plant was built by Borealis in the north of the country", True),
        ("The plant of the north was sold by Aurora to Borealis in 2020", False),
    ],
)
def test_names_of_a_list_may_stand_in_another_order_and_others_not(
    statement: str, is_supported: bool
) -> None:
    source = (
        "The plant was built by Borealis and Aurora in the north of the country."
        " The plant of the north was sold by Borealis to Aurora in 2020."
    )
    (citation,) = support.check(f"{statement} [1].", {1: ("", source)})
    assert citation.supported is is_supported


SOURCE: Final = (
    "The Social Charter was adopted in 1989 by eleven member states. The kingdom refused to sign the Social Charter and was exempt"
    " from its laws until 1997. The Brotherhood is led by Hasan. It remained interested in negotiation. Vampire bats dwell in the"
    " forest and can spread rabies. If the valve is open, the pump stops at once."
)


@pytest.mark.parametrize(
    ("statement", "is_supported"),
    [
        ("The Social Charter was exempt from its laws until 1997", False),
        ("The Brotherhood is led by Hasan and can spread rabies", False),
        ("The kingdom was exempt from its laws until 1997", True),
        ("The Brotherhood remained interested in negotiation", True),
        ("The Brotherhood is led by Hasan and remained interested in negotiation", True),
        ("Vampire bats can spread rabies", True),
    ],
)
def test_what_a_half_sentence_is_about_goes_with_it(statement: str, is_supported: bool) -> None:
    (citation,) = support.check(f"{statement} [1].", {1: ("", SOURCE)})
    assert citation.supported is is_supported
