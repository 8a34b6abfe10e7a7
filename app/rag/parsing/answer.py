"""What a parser says while it reads, as lines of JSON on the pipe to the server."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

from app.core.text import clean
from app.rag.parsing import confinement
from app.rag.parsing.model import (
    Box,
    FailureCode,
    Heading,
    Kind,
    PageBoxes,
    ParsedPage,
    ParseFailed,
    ParseLimits,
)

_PART_CHARACTERS: Final = 200_000
_TITLE_CHARACTERS: Final = 500
_METADATA_CHARACTERS: Final = 2_000
_WARNINGS: Final = 50


@dataclass(frozen=True, slots=True)
class Job:
    """One file to read and what may be used for it; `content` where the file is a part of another one."""

    path: Path
    filename: str
    kind: Kind
    content_type: str
    limits: ParseLimits
    engine: str = ""
    content: bytes | None = None

    def read(self) -> bytes:
        return self.path.read_bytes() if self.content is None else self.content


class Answer:
    """Pages go out as they come; title, metadata and warnings with the end."""

    def __init__(self, pipe: BinaryIO, limits: ParseLimits) -> None:
        self.title: str | None = None
        self.language: str | None = None
        self.page_kind = "part"
        self.pages = 0
        self.visible = False
        self._pipe = pipe
        self._limits = limits
        self._characters = 0
        self._metadata: dict[str, Any] = {}
        self._warnings: dict[str, tuple[str, list[int]]] = {}

    def page(
        self,
        text: str,
        *,
        boxes: PageBoxes | None = None,
        headings: Sequence[Heading] = (),
        label: str | None = None,
    ) -> None:
        """One page, numbered in the order of calls. Raises ParseFailed past the limits."""
        cleaned = clean(text)
        if len(cleaned) != len(text):
            boxes, headings = None, ()  # a parser that gives positions has cleaned its text
        self.pages += 1
        self._characters += len(cleaned)
        self.visible = self.visible or (not cleaned.isspace() and bool(cleaned))
        if self.pages > self._limits.pages or self._characters > self._limits.characters:
            raise ParseFailed(FailureCode.TOO_LARGE)
        line: dict[str, Any] = {"text": cleaned}
        if boxes is not None:
            line["boxes"] = [boxes.width, boxes.height, boxes.lines]
        if headings:
            line["headings"] = [(heading.start, heading.end, heading.level) for heading in headings]
        if label is not None:
            line["label"] = clean(label)[:_TITLE_CHARACTERS]
        self._write({"page": line})

    def text(
        self,
        text: str,
        *,
        headings: Sequence[Heading] = (),
        label: str | None = None,
        is_clean: bool = False,
    ) -> None:
        """A text without pages of its own: long ones are cut into parts, where a paragraph or line or word ends."""
        text = text if headings or is_clean else clean(text)
        start = 0
        while start < len(text) or start == 0:
            end = _part_end(text, start)
            within = [
                Heading(heading.start - start, min(heading.end, end) - start, heading.level)
                for heading in headings
                if start <= heading.start < end
            ]
            self.page(text[start:end], headings=within, label=label)
            if end >= len(text):
                return
            start = end

    def add(self, **metadata: str | int | float | bool | list[int] | list[str] | None) -> None:
        """Metadata of the document; empty values are left out, long ones cut."""
        for key, value in metadata.items():
            if isinstance(value, str):
                value = clean(" ".join(value.split()))[:_METADATA_CHARACTERS]  # noqa: PLW2901
            if value not in (None, "", []):
                self._metadata[key] = value

    def warn(self, code: str, message: str, *, page: int | None = None) -> None:
        """Something that the reader of the document should know, once, with the pages that it is about."""
        if code not in self._warnings and len(self._warnings) >= _WARNINGS:
            return
        pages = self._warnings.setdefault(code, (message, []))[1]
        if page is not None and page not in pages[-1:]:
            pages.append(page)

    def has_warned(self, code: str) -> bool:
        return code in self._warnings

    def attached(self, name: str) -> "Answer":
        """For what is attached to the document: its pages follow, labelled with its name."""
        return _Attachment(self, name)

    def progress(self, done: int, of: int) -> None:
        self._write({"progress": done / max(of, 1)}, flush=True)

    def needs_longer(self) -> None:
        """OCR begins: from here the time for it counts."""
        self._write({"longer": True}, flush=True)

    def done(self) -> None:
        if not self.visible:
            raise ParseFailed(FailureCode.EMPTY_DOCUMENT)
        title = clean(" ".join((self.title or "").split()))[:_TITLE_CHARACTERS]
        warnings = [[code, message, pages] for code, (message, pages) in self._warnings.items()]
        self._write(
            {
                "done": {
                    "title": title or None,
                    "language": self.language,
                    "page_kind": self.page_kind,
                    "metadata": self._metadata,
                    "warnings": warnings,
                    "peak_memory_bytes": confinement.peak_memory_bytes(),
                }
            },
            flush=True,
        )

    def picture(self, packed: str) -> None:
        """The whole answer where a page was to be drawn: the picture in Base64."""
        self._write({"picture": packed}, flush=True)

    def failed(self, failure: ParseFailed, *, cause: str = "") -> None:
        line = {
            "code": failure.code,
            "message": failure.message,
            "retryable": failure.retryable,
            "cause": cause,
        }
        self._write({"failed": line}, flush=True)

    def _write(self, line: dict[str, Any], *, flush: bool = False) -> None:
        self._pipe.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        if flush:
            self._pipe.flush()


class Told(Answer):
    """An answer within one process: its lines as they are, for nobody has to write or read them."""

    def __init__(self, limits: ParseLimits) -> None:
        super().__init__(BytesIO(), limits)
        self.lines: list[dict[str, Any]] = []

    def _write(self, line: dict[str, Any], *, flush: bool = False) -> None:
        self.lines.append(line)


class _Attachment(Answer):
    """The pages and warnings of an attachment go into the whole; its title and metadata are its own."""

    def __init__(self, whole: Answer, name: str) -> None:
        super().__init__(whole._pipe, whole._limits)
        self._whole = whole
        self._name = name

    def page(
        self,
        text: str,
        *,
        boxes: PageBoxes | None = None,
        headings: Sequence[Heading] = (),
        label: str | None = None,
    ) -> None:
        self._whole.page(text, headings=headings, label=f"{self._name}: {label}" if label else self._name)

    def warn(self, code: str, message: str, *, page: int | None = None) -> None:
        super().warn(code, message)
        self._whole.warn(code, message)

    def progress(self, done: int, of: int) -> None:
        """The whole has its own."""

    def needs_longer(self) -> None:
        self._whole.needs_longer()


def read_page(number: int, line: dict[str, Any]) -> ParsedPage:
    """The page of a line that `Answer.page` wrote. Raises KeyError, TypeError or ValueError when it did not."""
    boxes = None
    if given := line.get("boxes"):
        width, height, lines = given
        boxes = PageBoxes(float(width), float(height), tuple(_box(item) for item in lines))
    headings = tuple(Heading(*map(int, item)) for item in line.get("headings", ()))
    return ParsedPage(number, clean(str(line["text"])), boxes, headings, line.get("label"))


def _box(item: Sequence[float]) -> Box:
    start, end, left, top, right, bottom = item
    return int(start), int(end), float(left), float(top), float(right), float(bottom)


def _part_end(text: str, start: int) -> int:
    most = start + _PART_CHARACTERS
    if most >= len(text):
        return len(text)
    least = start + _PART_CHARACTERS // 2
    for separator in ("\n\n", "\n", " "):
        cut = text.rfind(separator, least, most)
        if cut >= 0:
            return cut + len(separator)
    return most
