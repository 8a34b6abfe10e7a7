"""Page cursors: an opaque text that says after which row, in the list's order, the next page begins."""

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Final

from app.core.errors import InvalidCursor

_LARGEST: Final = 2**63 - 1


def encode_position(position: int) -> str:
    """For a list in the order of a number."""
    return base64.urlsafe_b64encode(str(position).encode()).decode().rstrip("=")


def decode_position(cursor: str) -> int:
    """The number in a cursor of `encode_position`. Raises InvalidCursor for anything else."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        if not text.isdecimal() or int(text) > _LARGEST:
            raise InvalidCursor
        return int(text)
    except (ValueError, binascii.Error) as error:
        raise InvalidCursor from error


def encode(moment: datetime, row_id: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([moment.isoformat(), row_id]).encode()).decode().rstrip("=")


def decode(cursor: str) -> tuple[datetime, str]:
    """The position in a cursor of `encode`. Raises InvalidCursor for anything else."""
    try:
        moment, row_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        position = datetime.fromisoformat(moment), str(row_id)
        if position[0].tzinfo is None or "\0" in position[1]:
            raise InvalidCursor
        return position[0].astimezone(UTC), position[1]  # which the edges of the calendar may not survive
    except (ValueError, TypeError, OverflowError, binascii.Error, RecursionError) as error:
        raise InvalidCursor from error
