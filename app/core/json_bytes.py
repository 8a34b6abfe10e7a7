"""JSON for what every request writes: Pydantic's writer takes a fifth of the time of the standard library's."""

from typing import Any, Final

from pydantic import TypeAdapter

_ANYTHING: Final = TypeAdapter(Any)


def to_json(value: Any) -> bytes:
    """UTF-8, without spaces. Raises ValueError for what has no JSON, as a lone surrogate."""
    return _ANYTHING.dump_json(value)
