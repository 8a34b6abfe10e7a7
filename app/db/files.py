"""Original files in PostgreSQL, for where there is neither a disk that stays nor a bucket.

A file is a row for each megabyte, written in one transaction: it is there as a whole or not at all. Nothing holds more of it than
one row. It is what `app.storage.originals.Originals` asks for.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import text

from app.core.errors import OriginalMissing
from app.core.principal import SYSTEM
from app.db.engine import Database

_BLOCK_BYTES: Final = 1024 * 1024

_ADD: Final = text(
    "INSERT INTO stored_files (storage_key, number, content) VALUES (:storage_key, :number, :content)"
)
_BLOCK: Final = text("SELECT content FROM stored_files WHERE storage_key = :storage_key AND number = :number")
_REMOVE: Final = text("DELETE FROM stored_files WHERE storage_key = :storage_key")
_KEYS: Final = text("SELECT DISTINCT storage_key FROM stored_files")


class DatabaseFiles:
    """Files that are part of the database and of its backup."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, path: Path, key: str) -> None:
        """Take a copy of a finished file. Raises StorageFull and DatabaseUnavailable."""
        async with self._database.unit_of_work(SYSTEM) as session:
            await session.execute(_REMOVE, {"storage_key": key})
            number = 0
            with await asyncio.to_thread(path.open, "rb") as file:
                # An empty file has a row too: it is there.
                while (block := await asyncio.to_thread(file.read, _BLOCK_BYTES)) or number == 0:
                    await session.execute(_ADD, {"storage_key": key, "number": number, "content": block})
                    number += 1
                    if not block:
                        break

    async def read(self, key: str) -> AsyncGenerator[bytes, None]:
        """The content in blocks, no transaction held between them. Raises OriginalMissing and DatabaseUnavailable."""
        number = 0
        while True:
            async with self._database.unit_of_work(SYSTEM) as session:
                block = await session.scalar(_BLOCK, {"storage_key": key, "number": number})
            if block is None:
                if number == 0:
                    raise OriginalMissing
                return
            number += 1
            if block:
                yield bytes(block)

    @asynccontextmanager
    async def local_copy(self, key: str) -> AsyncIterator[Path]:
        """The file on this machine, for as long as the block lasts. Raises as `read` does."""
        folder = await asyncio.to_thread(lambda: tempfile.TemporaryDirectory(prefix="ibid-"))
        try:
            path = Path(folder.name) / "original"
            with await asyncio.to_thread(path.open, "wb") as file:
                async for block in self.read(key):
                    await asyncio.to_thread(file.write, block)
            yield path
        finally:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(folder.cleanup)

    async def delete(self, key: str) -> None:
        """Remove a file; one that is gone is no error. Raises DatabaseUnavailable."""
        async with self._database.unit_of_work(SYSTEM) as session:
            await session.execute(_REMOVE, {"storage_key": key})

    async def keys(self) -> set[str]:
        """All that are stored. For tests and repairs: it may be a long list. Raises DatabaseUnavailable."""
        async with self._database.unit_of_work(SYSTEM) as session:
            return set((await session.scalars(_KEYS)).all())
