"""JSON for what every request writes, and for every piece of a stream: Pydantic's writer takes a fifth of the time of the standard library's."""

from typing import Any, Final

from pydantic import TypeAdapter

_ANYTHING: Final = TypeAdapter(Any)


def to_json(value: Any) -> bytes:
    """UTF-8, without spaces. Raises ValueError for what has no JSON, as a lone surrogate."""
    return _ANYTHING.dump_json(value)


def from_json(data: bytes) -> Any:
    """The value. Raises ValueError."""
    return _ANYTHING.validate_json(data)
