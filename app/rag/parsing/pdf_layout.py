"""The order in which the lines of a page are read, which is not always the order in which they are written to the file.

Lines that follow each other down the page are a block; blocks are read from top to bottom, and columns one after the other
(after T. Breuel, "High performance document layout analysis", 2003).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

Sides = tuple[float, float, float, float]
"""Left, top, right and bottom, from the top left of the page."""

_MOST_BLOCKS: Final = 120
_BLOCK_PITCH: Final = 2.0
"""Of the usual distance of lines: one that is larger begins a block."""


@dataclass(slots=True)
class _Block:
    first: int
    last: int
    left: float
    top: float
    right: float
    bottom: float


def usual_pitch(boxes: Sequence[Sides | None]) -> float:
    """The median distance of a line from the one above it, in points; 0 where there is none."""
    bottoms = [box[3] for box in boxes if box is not None]
    steps = sorted(below - above for above, below in pairwise(bottoms) if below - above > 1)
    return steps[len(steps) // 2] if steps else 0.0


def reading_order(boxes: Sequence[Sides | None], glued: Sequence[bool], *, right_to_left: bool) -> list[int]:
    """The numbers of the lines in the order of reading; a line that is `glued` stays before the next one."""
    blocks = _blocks(boxes, glued)
    if not 1 < len(blocks) <= _MOST_BLOCKS or _is_in_order(blocks):
        return list(range(len(boxes)))
    if right_to_left:
        for block in blocks:
            block.left, block.right = -block.right, -block.left
    return [line for block in _sorted(blocks) for line in range(block.first, block.last + 1)]


def _blocks(boxes: Sequence[Sides | None], glued: Sequence[bool]) -> list[_Block]:
    pitch = usual_pitch(boxes)
    blocks: list[_Block] = []
    before: Sides | None = None
    for number, box in enumerate(boxes):
        if not blocks or not (
            box is None or before is None or glued[number - 1] or _continues(blocks[-1], before, box, pitch)
        ):
            left, top, right, bottom = box or (0.0, 0.0, 0.0, 0.0)
            blocks.append(_Block(number, number, left, top, right, bottom))
        elif box is not None:
            block = blocks[-1]
            block.left, block.top = min(block.left, box[0]), min(block.top, box[1])
            block.right, block.bottom = max(block.right, box[2]), max(block.bottom, box[3])
        blocks[-1].last = number
        before = box or before
    return blocks


def _continues(block: _Block, before: Sides, box: Sides, pitch: float) -> bool:
    """Whether a line is the next one of its block: beside the one before, or below it and not far."""
    height = max(min(before[3] - before[1], box[3] - box[1]), 1.0)
    if min(before[3], box[3]) - max(before[1], box[1]) > height / 2:
        return box[0] >= before[2] - height
    overlap = min(block.right, box[2]) - max(block.left, box[0])
    return (
        box[3] > before[3] and overlap > 0 and box[3] - before[3] <= max(_BLOCK_PITCH * pitch, 2.5 * height)
    )


def _is_in_order(blocks: Sequence[_Block]) -> bool:
    """Whether each block is below all of the one before: there is nothing to sort."""
    return all(below.top >= above.bottom - 1 for above, below in pairwise(blocks))


def _sorted(blocks: Sequence[_Block]) -> list[_Block]:
    """Every block after those that must be read before it; where nothing says so, in the order of the file."""
    waiting = {number: _read_before(number, blocks) for number in range(len(blocks))}
    order: list[_Block] = []
    while waiting:
        free = next((number for number, needed in waiting.items() if not needed & waiting.keys()), None)
        number = min(waiting) if free is None else free
        del waiting[number]
        order.append(blocks[number])
    return order


def _read_before(number: int, blocks: Sequence[_Block]) -> set[int]:
    block = blocks[number]
    found = set()
    for other_number, other in enumerate(blocks):
        if other_number == number:
            continue
        if _share_columns(other, block):
            if other.top + other.bottom < block.top + block.bottom:
                found.add(other_number)
        elif other.right <= block.left + 1 and not any(
            _is_between(third, other, block) for third in blocks if third is not other and third is not block
        ):
            found.add(other_number)
    return found


def _share_columns(one: _Block, two: _Block) -> bool:
    return min(one.right, two.right) - max(one.left, two.left) > 1


def _is_between(third: _Block, left: _Block, right: _Block) -> bool:
    """Whether a block spans both columns and parts what is above it from what is below."""
    if not (_share_columns(third, left) and _share_columns(third, right)):
        return False
    middle = (third.top + third.bottom) / 2
    centres = sorted(((left.top + left.bottom) / 2, (right.top + right.bottom) / 2))
    return centres[0] < middle < centres[1]
