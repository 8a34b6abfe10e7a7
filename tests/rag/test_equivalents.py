"""Words that say the same: each in one group only, and never with its opposite."""

from collections import Counter

import pytest

from app.rag import equivalents, languages, questions


@pytest.mark.parametrize("language", ["en", "ms"])
def test_no_word_is_in_two_groups(language: str) -> None:
    listed = {"en": equivalents.ENGLISH, "ms": equivalents.MALAY}[language]
    groups = [{languages.stem(word, language) for word in group.split()} for group in listed.split(";")]
    found = Counter(stem for group in groups for stem in group)
    assert [stem for stem, count in found.items() if count > 1] == []
    assert all(len(group) > 1 for group in groups)


def test_no_group_has_opposites() -> None:
    for group in (*equivalents.ENGLISH.split(";"), *equivalents.MALAY.split(";")):
        words = group.split()
        for word in words:
            assert not questions.is_opposed({word}, set(words) - {word}), word


def test_the_forms_of_a_word_and_its_equivalents_are_one() -> None:
    forms = {
        equivalents.canonical(word, "en") for word in ("create", "created", "developing", "built", "makes")
    }
    assert len(forms) == 1
    assert equivalents.canonical("increase", "en") != equivalents.canonical("decrease", "en")
    assert equivalents.canonical("create", "de") == languages.stem("create", "de")
