"""Documents on disk: which files of a folder are documents, and how they become text in whatever encoding they are."""

import json
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from app.core.decoding import EncodingUnknown, decode
from app.core.errors import AppError, Invalid, TextTooLarge
from app.core.text import clean
from app.rag.parsing import sniffing
from app.rag.parsing.model import FailureCode, ParseFailed

_CONTENT_TYPES: Final = {".txt": "text/plain", ".md": "text/markdown", ".markdown": "text/markdown"}
_CORPUS: Final = ".jsonl"
_TITLE_CHARACTERS: Final = 500
_SOURCE_CHARACTERS: Final = 2_000
_FIRST_LINE_BYTES: Final = 1_000_000
_JSON_EXPANSION: Final = 6
"""A character takes at most six times its bytes when JSON escapes it as \\uXXXX."""
_FENCE: Final = re.compile(r"^ {0,3}(```|~~~).*?^ {0,3}\1", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^ {0,3}#{1,6}[ \t]+(\S.*)$", re.MULTILINE)


class FileNotReadable(Invalid):
    """The file can't be opened: let this user read it, or leave it out."""


class LineNotReadable(Invalid):
    """The line is not a JSON object with a `text`: correct it, or leave it out."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to ingest; `source` is its path relative to the folder that was named."""

    path: Path
    source: str
    size_bytes: int
    changed_ns: int = 0
    """When it last changed, or what may be done with it did, as the file system counts."""

    @property
    def origin(self) -> str:
        """What stays the same when the file changes."""
        return f"file:{clean(str(self.path.resolve()))}"


@dataclass(frozen=True, slots=True)
class Readable:
    """A document read from disk; `size_bytes` is what was read for it."""

    source: str
    size_bytes: int
    text: str
    title: str | None
    encoding: str
    content_type: str = "text/plain"
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Uploadable:
    """A file that is no plain text: it is read where all uploads are."""

    source: str
    size_bytes: int
    path: Path
    origin: str


@dataclass(frozen=True, slots=True)
class WebPage:
    """An address to fetch."""

    source: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A document that can't be read, and why."""

    source: str
    size_bytes: int
    error: AppError


Entry = Readable | Uploadable | WebPage | Unreadable


@dataclass(frozen=True, slots=True)
class Found:
    """What is under some paths: documents, other files each with why it is skipped, and what can't be opened."""

    files: list[FoundFile] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)


def find(
    paths: Sequence[Path],
    *,
    recursive: bool = True,
    strict: bool = True,
    known: Mapping[Path, FoundFile] | None = None,
) -> Found:
    """The documents under these files and folders, in the order of their names; each file once.

    Without `recursive` only the files right in the folders. Hidden files and folders within a folder are left out. Symbolic links are followed, but no folder is entered twice.
    Those `known` to be documents are not opened again unless they have changed.
    Raises OSError, with the path, when one of them does not exist; not `strict`, that one is unreadable.
    """
    found = Found()
    seen: set[tuple[int, int]] = set()
    for path in paths:
        if strict:
            path.stat()
        _find_in(path, found, seen, recursive=recursive, known=known or {})
    return found


def _find_in(
    root: Path,
    found: Found,
    seen: set[tuple[int, int]],
    *,
    recursive: bool,
    known: Mapping[Path, FoundFile],
) -> None:
    waiting = [root]
    while waiting:
        path = waiting.pop()
        source = shown((root.name or str(root)) if path == root else path.relative_to(root).as_posix())
        try:
            status = path.stat()
            identity = (status.st_dev, status.st_ino)
            if identity in seen:
                continue
            seen.add(identity)
            if stat.S_ISDIR(status.st_mode):
                if path != root and not recursive:
                    continue
                children = [child for child in path.iterdir() if not child.name.startswith(".")]
                waiting += sorted(children, reverse=True)
                continue
            file = FoundFile(path, source, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns))
            if file == known.get(path) or not (
                reason := _why_skipped(path, status.st_mode, named=path == root)
            ):
                found.files.append(file)
            else:
                found.skipped.append((source, reason))
        except OSError as error:
            found.unreadable.append(Unreadable(source, 0, _not_readable(error)))


def _why_skipped(path: Path, mode: int, *, named: bool) -> str | None:
    """The reason, for what is no document by its type and its first bytes. Raises OSError.

    In a folder there is much that could be read as text; whoever wants that names it.
    """
    if not stat.S_ISREG(mode):
        return "not a regular file"
    if not named and not sniffing.is_known(path.name):
        return "not of a type that documents have; name it to have it read"
    if path.suffix.lower() in _CONTENT_TYPES:
        return None
    with path.open("rb") as file:
        head = file.read(sniffing.HEAD_BYTES)
    try:
        sniffing.detect_type(head, filename=path.name)
    except ParseFailed as failure:
        if failure.code in (FailureCode.UNSUPPORTED_TYPE, FailureCode.EMPTY_DOCUMENT):
            return failure.message.rstrip(".")
    return None


def _is_corpus(path: Path) -> bool:
    """Whether the first line is a document; of a very long one only the beginning is looked at. Raises OSError."""
    with path.open("rb") as file:
        lines = iter(lambda: file.readline(_FIRST_LINE_BYTES), b"")
        first = next((line for line in lines if line.strip()), b"")
    if len(first) == _FIRST_LINE_BYTES:
        return first.startswith(b"{")
    return _fields(first) is not None


def read(files: Sequence[FoundFile], *, max_bytes: int) -> Iterator[Entry]:
    """The documents of the files, one after the other; `max_bytes` is the most that one of them may have."""
    for file in files:
        try:
            suffix = file.path.suffix.lower()
            if suffix in _CONTENT_TYPES:
                yield _read_text(file, max_bytes)
            elif suffix == _CORPUS and _is_corpus(file.path):
                yield from _read_corpus(file, max_bytes)
            else:
                yield Uploadable(file.source, file.size_bytes, file.path, file.origin)
        except OSError as error:
            yield Unreadable(file.source, file.size_bytes, _not_readable(error))


def _read_text(file: FoundFile, max_bytes: int) -> Entry:
    with file.path.open("rb") as opened:
        content = opened.read(max_bytes + 1)
    if len(content) > max_bytes:
        return Unreadable(file.source, file.size_bytes, TextTooLarge())
    try:
        text, encoding = decode(content)
    except EncodingUnknown as error:
        return Unreadable(file.source, file.size_bytes, error)
    content_type = _CONTENT_TYPES[file.path.suffix.lower()]
    heading = first_heading(text) if content_type == "text/markdown" else None
    title = clean(heading or file.path.stem)[:_TITLE_CHARACTERS]
    return Readable(file.source, file.size_bytes, text, title, encoding, content_type, file.origin)


def _read_corpus(file: FoundFile, max_bytes: int) -> Iterator[Entry]:
    """A document a line, as BEIR writes them: `_id`, `title`, `text`."""
    longest = _JSON_EXPANSION * max_bytes + 100_000
    with file.path.open("rb") as opened:
        number = 0
        while line := opened.readline(longest):
            number += 1
            size_bytes, rest = len(line), line
            while len(rest) == longest and not rest.endswith(b"\n"):
                rest = opened.readline(longest)
                size_bytes += len(rest)
            if size_bytes > len(line):
                yield Unreadable(f"{file.source}#{number}", size_bytes, TextTooLarge())
            elif line.strip():
                yield _read_line(file, number, line)


def _read_line(file: FoundFile, number: int, line: bytes) -> Entry:
    source = file.source
    fields = _fields(line)
    if fields is None:
        error = LineNotReadable(
            f"Line {number} is not a JSON object with a `text`: correct it, or leave it out."
        )
        return Unreadable(f"{source}#{number}", len(line), error)
    name, title = fields.get("_id"), fields.get("title")
    place = number if name is None else name
    return Readable(
        source=clean(f"{source}#{place}")[:_SOURCE_CHARACTERS],
        size_bytes=len(line),
        text=fields["text"],
        title=(clean(title).strip()[:_TITLE_CHARACTERS] if isinstance(title, str) else None) or None,
        encoding="utf-8",
        origin=clean(f"{file.origin}#{place}"),
    )


def _fields(line: bytes) -> dict[str, Any] | None:
    try:
        fields = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) and isinstance(fields.get("text"), str) else None


def first_heading(markdown: str) -> str | None:
    """The first heading outside of code blocks."""
    heading = _HEADING.search(_FENCE.sub("", markdown))
    if heading is None:
        return None
    words = heading[1].rstrip()
    without_hashes = words.rstrip(
        "#"
    )  # a heading may be closed by hashes, but only after a blank: "# C#" is not
    return (words if without_hashes.rstrip() == without_hashes else without_hashes.rstrip()) or None


def shown(path: str) -> str:
    """A path as text: bytes of a name that are no UTF-8 are replaced."""
    return clean(path)[-_SOURCE_CHARACTERS:]


def _not_readable(error: OSError) -> FileNotReadable:
    return FileNotReadable(
        f"It can't be opened ({error.strerror or error}): let this user read it, or leave it out."
    )
