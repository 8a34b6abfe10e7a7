"""Ids sort by the moment that they were made in, and no two are the same."""

import re

from app.core import ids


def test_several_ids_are_of_one_moment_and_all_different() -> None:
    made = ids.several(ids.Prefix.CHUNK, 1000)

    assert len(set(made)) == 1000
    assert len({one[: len("chk_") + 10] for one in made}) == 1
    assert all(re.fullmatch(r"chk_[0-9a-hjkmnp-tv-z]{26}", one) for one in made)


def test_ids_made_later_sort_after_those_made_before() -> None:
    moments = [one[: len("doc_") + 10] for one in (ids.new(ids.Prefix.DOCUMENT) for _ in range(5000))]

    assert moments == sorted(moments)
