"""A cursor that is none of ours is refused, whatever it looks like; one of ours comes back as it was."""

import base64
import json
from datetime import UTC, datetime

import pytest

from app.core import cursor
from app.core.errors import InvalidCursor


def test_a_position_comes_back() -> None:
    moment = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)

    assert cursor.decode(cursor.encode(moment, "doc_1")) == (moment, "doc_1")


@pytest.mark.parametrize(
    "content",
    [
        ["9999-12-31T23:59:59-14:00", "x"],
        ["0001-01-01T00:00:00+14:00", "x"],
        ["2026-01-01T00:00:00", "x"],
        ["2026-01-01T00:00:00+00:00", "x\0"],
        ["yesterday", "x"],
        [1, 2],
        {},
        "text",
        [[]] * 2,
    ],
)
def test_another_is_refused(content: object) -> None:
    made = base64.urlsafe_b64encode(json.dumps(content).encode()).decode()

    with pytest.raises(InvalidCursor):
        cursor.decode(made)
