"""Where a passage stands on the picture of its page."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, from the top left."""

_MOST: Final = 400


def within(boxes: Mapping[str, Any], start: int, end: int) -> tuple[Box, ...]:
    """Where the characters from `start` to `end` of a page stand, in points: whole lines, the first and the last one in part."""
    lines: Sequence[Sequence[float]] = boxes.get("lines", ())
    found: list[Box] = []
    for first, last, left, top, right, bottom in lines:
        if first >= end or last <= start or last <= first:
            continue
        # Letters of a line are about as wide as each other: the part of its letters is the part of its width.
        share = (right - left) / (last - first)
        begins = left + share * max(0.0, start - first)
        ends = right - share * max(0.0, last - end)
        found.append((begins, top, ends, bottom))
    return tuple(found[:_MOST])


def shares_within(boxes: Mapping[str, Any], start: int, end: int) -> tuple[Box, ...]:
    """The same as shares of the page's width and height, so that they fit its picture in any size."""
    width, height = boxes.get("width") or 0.0, boxes.get("height") or 0.0
    if width <= 0 or height <= 0:
        return ()
    return tuple(
        (_share(left, width), _share(top, height), _share(right, width), _share(bottom, height))
        for left, top, right, bottom in within(boxes, start, end)
    )


def _share(place: float, size: float) -> float:
    return round(min(1.0, max(0.0, place / size)), 4)
