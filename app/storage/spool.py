"""Files that are still arriving. Each is locked by the process that writes it, so what a dead one left is recognised."""

import contextlib
import hashlib
import os
import secrets
import sys
from pathlib import Path
from typing import Final

if sys.platform != "win32":
    import fcntl

HEAD_BYTES: Final = 8192


class Spool:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> "SpooledFile":
        """A new, empty file. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return SpooledFile(self.folder / f"{secrets.token_hex(16)}.part")

    def sweep(self) -> int:
        """Remove what processes left that died while they wrote; returns how many files."""
        removed = 0
        if sys.platform == "win32" or not self.folder.is_dir():
            return removed
        for path in self.folder.glob("*.part"):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDWR)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                    removed += 1
                finally:
                    os.close(descriptor)
        return removed


class SpooledFile:
    """A file that is being written: its size, its hash and its first bytes are known without reading it again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self.head = b""
        self._hash = hashlib.sha256()
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if sys.platform != "win32":
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, piece: bytes) -> None:
        """Raises OSError, for example when the disk is full."""
        assert self._descriptor is not None
        self._hash.update(piece)
        if len(self.head) < HEAD_BYTES:
            self.head += piece[: HEAD_BYTES - len(self.head)]
        self.size_bytes += len(piece)
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        """Have it on the disk, whatever happens to the machine."""
        assert self._descriptor is not None
        os.fsync(self._descriptor)

    def discard(self) -> None:
        """Remove the file, unless it was moved away; may be called twice."""
        if self._descriptor is None:
            return
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        os.close(self._descriptor)
        self._descriptor = None
