"""pgvector's types on a connection: as its own classes, or as bytes that are encoded already, which spares a class for each."""

from collections.abc import Callable
from typing import Any, Final

import asyncpg
from pgvector import HalfVector, SparseVector, Vector

_TYPES: Final[dict[str, Any]] = {"vector": Vector, "halfvec": HalfVector, "sparsevec": SparseVector}


async def register(connection: asyncpg.Connection) -> None:
    """Have vectors go to the server and come from it. Raises ValueError where it does not know them."""
    for name, kind in _TYPES.items():
        await connection.set_type_codec(
            name, schema="public", encoder=_encoder(kind), decoder=kind.from_binary, format="binary"
        )


def _encoder(kind: Any) -> Callable[[Any], bytes]:
    def encoded(value: Any) -> bytes:
        if isinstance(value, bytes):
            return value
        binary: bytes = (value if isinstance(value, kind) else kind(value)).to_binary()
        return binary

    return encoded
