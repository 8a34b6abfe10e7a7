"""The original files, under names of our own: in a local folder, or in S3, Google Cloud Storage or Azure by URL."""

import asyncio
import contextlib
import errno
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import MemoryStore, ObjectStore, from_url

from app.core.errors import OriginalMissing, OriginalsUnavailable, StorageFull

_OBJECT_STORES: Final = ("s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss")
_BLOCK_BYTES: Final = 1024 * 1024


class InvalidStorageUrl(ValueError):
    """It must be file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://account/container/prefix."""


class Originals(Protocol):
    """Stores, gives and removes files. One is there as a whole or not at all."""

    async def put(self, path: Path, key: str) -> None:
        """Take over a finished file, which may be gone from `path` then. Raises StorageFull and OriginalsUnavailable."""

    def read(self, key: str) -> AsyncGenerator[bytes, None]:
        """The content in blocks. Raises OriginalMissing and OriginalsUnavailable."""

    def local_copy(self, key: str) -> contextlib.AbstractAsyncContextManager[Path]:
        """The file on this machine, for as long as the block lasts. Raises OriginalMissing and OriginalsUnavailable."""

    async def delete(self, key: str) -> None:
        """Remove a file; one that is gone is no error. Raises OriginalsUnavailable."""

    async def keys(self) -> set[str]:
        """All that are stored. For tests and repairs: it may be a long list. Raises OriginalsUnavailable."""


class LocalFolder:
    """Files in a folder: moved in, not copied, and read where they lie. The folder is made with the first of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def put(self, path: Path, key: str) -> None:
        try:
            await asyncio.to_thread(self._move_in, path, key)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise StorageFull from error
            raise OriginalsUnavailable from error

    async def read(self, key: str) -> AsyncGenerator[bytes, None]:
        try:
            with await asyncio.to_thread(self._path(key).open, "rb") as file:
                while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
                    yield block
        except FileNotFoundError as error:
            raise OriginalMissing from error
        except OSError as error:
            raise OriginalsUnavailable from error

    @asynccontextmanager
    async def local_copy(self, key: str) -> AsyncIterator[Path]:
        path = self._path(key)
        if not await asyncio.to_thread(path.is_file):
            raise OriginalMissing
        yield path

    async def delete(self, key: str) -> None:
        try:
            await asyncio.to_thread(self._path(key).unlink, missing_ok=True)
        except OSError as error:
            raise OriginalsUnavailable from error

    async def keys(self) -> set[str]:
        return await asyncio.to_thread(lambda: {path.name for path in self.folder.glob("??/*")})

    def _path(self, key: str) -> Path:
        return self.folder / _name_of(key)

    def _move_in(self, path: Path, key: str) -> None:
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.replace(target)
        with contextlib.suppress(PermissionError):  # not every file system can
            descriptor = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


class ObjectStorage:
    """Objects in a bucket, or in memory."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, path: Path, key: str) -> None:
        with _translated():
            await obstore.put_async(self._store, _name_of(key), path)

    async def read(self, key: str) -> AsyncGenerator[bytes, None]:
        with _translated():
            found = await obstore.get_async(self._store, _name_of(key))
            async for block in found.stream(min_chunk_size=_BLOCK_BYTES):
                yield bytes(block)

    @asynccontextmanager
    async def local_copy(self, key: str) -> AsyncIterator[Path]:
        with tempfile.TemporaryDirectory(prefix="ibid-") as folder:
            path = Path(folder) / "original"
            with path.open("wb") as file:
                async for block in self.read(key):
                    await asyncio.to_thread(file.write, block)
            yield path

    async def delete(self, key: str) -> None:
        with contextlib.suppress(OriginalMissing), _translated():
            await obstore.delete_async(self._store, _name_of(key))

    async def keys(self) -> set[str]:
        stored: set[str] = set()
        with _translated():
            async for batch in obstore.list(self._store, chunk_size=1000):
                stored |= {meta["path"].rpartition("/")[2] for meta in batch}
        return stored


def open_originals(url: str | None, *, folder: Path) -> Originals:
    """The store that the URL names; without one the local folder. Nothing connects yet. Raises InvalidStorageUrl."""
    if url is None:
        return LocalFolder(folder)
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return ObjectStorage(MemoryStore())
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return LocalFolder(Path(parts.path))
    if parts.scheme not in _OBJECT_STORES or not parts.netloc:
        raise InvalidStorageUrl((InvalidStorageUrl.__doc__ or "").strip())
    try:
        return ObjectStorage(from_url(url))
    except (BaseError, ValueError) as error:
        raise InvalidStorageUrl(str(error).split("\n", maxsplit=1)[0]) from error


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise OriginalMissing from error
    except (BaseError, OSError) as error:
        raise OriginalsUnavailable from error


def _name_of(key: str) -> str:
    """In folders by the first characters, as file systems like it. Keys are ours: hexadecimal digits."""
    assert key.isalnum()
    return f"{key[:2]}/{key}"
