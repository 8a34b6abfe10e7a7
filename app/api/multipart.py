"""A multipart body as it arrives: files go to the disk piece by piece, so memory does not depend on their size."""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from app.core.errors import NotAnUpload, StorageFull, TooManyFiles, UploadInterrupted
from app.core.text import clean
from app.storage.spool import Spool, SpooledFile

UPLOADS_AT_ONCE: Final = 4
"""A request may be as large as so many files of the largest size."""

_MAX_FILES: Final = 100
_MAX_FIELDS: Final = 20
_MAX_FIELD_BYTES: Final = 200_000
_WRITTEN_AT_ONCE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has arrived. Past the limit it is counted but not kept, and `truncated`."""

    file: SpooledFile
    filename: str | None
    declared_type: str | None
    truncated: bool


@dataclass(slots=True)
class UploadForm:
    """The fields, each with its values in order, and the files."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: list[Upload] = field(default_factory=list)


@dataclass(slots=True)
class _Part:
    """The part that is arriving: a file or a field."""

    name: str
    filename: str | None
    content_type: str | None
    file: SpooledFile | None
    value: bytearray = field(default_factory=bytearray)
    truncated: bool = False


@asynccontextmanager
async def received(request: Request, spool: Spool, *, max_file_bytes: int) -> AsyncIterator[UploadForm]:
    """The form, once all of it has arrived; its files are gone after the block unless they were moved away.

    Raises NotAnUpload, TooManyFiles, UploadInterrupted and StorageFull.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 200:
        raise NotAnUpload
    reader = _Reader(spool, boundary, max_file_bytes=max_file_bytes)
    try:
        await _read(request, reader)
        yield reader.form
    finally:
        await asyncio.to_thread(reader.discard)


async def _read(request: Request, reader: "_Reader") -> None:
    """In a thread, some pieces at a time: hashing and writing must not hold up other requests."""
    waiting = bytearray()
    try:
        async for piece in request.stream():
            waiting += piece
            if len(waiting) >= _WRITTEN_AT_ONCE:
                await asyncio.to_thread(reader.feed, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(reader.feed, bytes(waiting))
        await asyncio.to_thread(reader.finish)
    except ClientDisconnect as error:
        raise UploadInterrupted from error
    except FormParserError as error:
        raise NotAnUpload("The body is no valid multipart/form-data.") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull from error
        raise


class _Reader:
    """The callbacks of the parser. Used by one thread at a time."""

    def __init__(self, spool: Spool, boundary: bytes, *, max_file_bytes: int) -> None:
        self.form = UploadForm()
        self._spool = spool
        self._max_file_bytes = max_file_bytes
        self._part: _Part | None = None
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = bytearray(), bytearray()
        self._fields = 0
        self._ended = False
        self._opened: list[SpooledFile] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_part,
                "on_part_data": self._add,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, piece: bytes) -> None:
        if piece:
            self._parser.write(piece)

    def finish(self) -> None:
        self._parser.finalize()
        if not self._ended:
            raise UploadInterrupted
        for upload in self.form.files:
            if not upload.truncated:
                upload.file.sync()

    def discard(self) -> None:
        for file in self._opened:
            file.discard()

    def _end_header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _begin_part(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name, filename = options.get(b"name"), options.get(b"filename")
        if name is None:
            raise NotAnUpload("A part of the body has no name.")
        declared = self._headers.get(b"content-type")
        self._part = _Part(
            _text(name),
            None if filename is None else _text(filename).replace("%22", '"'),  # as forms escape it
            None if declared is None else _text(declared),
            None,
        )
        if filename is None:
            self._fields += 1
            if self._fields > _MAX_FIELDS:
                raise NotAnUpload("There are too many fields in this form.")
            return
        if len(self._opened) >= _MAX_FILES:
            raise TooManyFiles(details={"limit": _MAX_FILES})
        self._part.file = self._spool.create()
        self._opened.append(self._part.file)

    def _add(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        assert part is not None
        if part.file is None:
            part.value += data[start:end]
            if len(part.value) > _MAX_FIELD_BYTES:
                raise NotAnUpload("A field of this form is too long.")
        elif not part.truncated:
            if part.file.size_bytes + end - start > self._max_file_bytes:
                part.truncated = True
                part.file.discard()
            else:
                part.file.write(data[start:end])

    def _end_part(self) -> None:
        part = self._part
        assert part is not None
        if part.file is not None:
            self.form.files.append(
                Upload(part.file, part.filename or None, part.content_type, part.truncated)
            )
        else:
            self.form.fields.setdefault(part.name, []).append(_text(bytes(part.value)))
        self._part = None

    def _end(self) -> None:
        self._ended = True


def _text(value: bytes) -> str:
    """Browsers send names in UTF-8."""
    with contextlib.suppress(UnicodeDecodeError):
        return clean(value.decode())
    return clean(value.decode("latin-1"))
