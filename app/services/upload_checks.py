"""Whether a file that has arrived can be taken, as far as its size, name and beginning tell."""

from app.core.errors import EmptyFile, FileTooLarge, Invalid, UnsupportedFile
from app.rag.parsing import sniffing
from app.rag.parsing.model import FailureCode, ParseFailed
from app.storage.spool import SpooledFile


class FileRefused(Invalid):
    """This file can't be taken."""


def check_file(file: SpooledFile, *, filename: str | None, declared: str | None, limit_bytes: int) -> str:
    """The MIME type of a file. Raises what `check` raises."""
    return check(
        file.head,
        size_bytes=file.size_bytes,
        filename=filename,
        declared=declared,
        limit_bytes=limit_bytes,
    )


def check(
    head: bytes, *, size_bytes: int, filename: str | None, declared: str | None, limit_bytes: int
) -> str:
    """The MIME type of a file that can be read as far as its beginning tells.

    Raises EmptyFile, FileTooLarge, UnsupportedFile and FileRefused.
    """
    if size_bytes == 0:
        raise EmptyFile
    if size_bytes > limit_bytes:
        raise FileTooLarge(
            f"The file is larger than {limit_bytes:,} bytes.", details={"limit_bytes": limit_bytes}
        )
    try:
        return str(sniffing.detect_type(head, filename=filename or "", declared=declared))
    except ParseFailed as error:
        details = {"reason": error.code.value}
        if error.code is FailureCode.UNSUPPORTED_TYPE:
            raise UnsupportedFile(error.message, details=details) from error
        raise FileRefused(error.message, details=details) from error
