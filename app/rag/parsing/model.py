"""What both sides of the fence know: the parsed document, the limits, and the reasons why there is none."""

import shutil
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

MEBIBYTE: Final = 1024 * 1024


class Kind(StrEnum):
    """The formats; the value of a kind is its MIME type."""

    TEXT = "text/plain"
    MARKDOWN = "text/markdown"
    HTML = "text/html"
    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
    XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    CSV = "text/csv"
    TSV = "text/tab-separated-values"
    JSON = "application/json"
    JSONL = "application/jsonl"
    EMAIL = "message/rfc822"
    PNG = "image/png"
    JPEG = "image/jpeg"
    TIFF = "image/tiff"
    WEBP = "image/webp"
    GIF = "image/gif"
    BMP = "image/bmp"

    @property
    def is_image(self) -> bool:
        return self.value.startswith("image/")


class FailureCode(StrEnum):
    """Why a file has no text. Each has a sentence for the person who sent the file."""

    EMPTY_DOCUMENT = "empty_document"
    UNSUPPORTED_TYPE = "unsupported_type"
    TYPE_MISMATCH = "type_mismatch"
    ENCRYPTED = "encrypted"
    CORRUPT = "corrupt"
    ENCODING_UNKNOWN = "encoding_unknown"
    TOO_LARGE = "too_large"
    BOMB = "bomb"
    NEEDS_OCR = "needs_ocr"
    OCR_FAILED = "ocr_failed"
    FILE_MISSING = "file_missing"
    MEMORY_LIMIT = "memory_limit"
    PARSER_TIMEOUT = "parser_timeout"
    PARSER_CRASHED = "parser_crashed"


SENTENCES: Final = {
    FailureCode.EMPTY_DOCUMENT: "There is no text in this file.",
    FailureCode.UNSUPPORTED_TYPE: "This type of file can't be read.",
    FailureCode.TYPE_MISMATCH: "The content of this file is not what its name says.",
    FailureCode.ENCRYPTED: "This file is protected with a password: remove the password and send it again.",
    FailureCode.CORRUPT: "This file is damaged or incomplete: open it in its application, save it again and send that.",
    FailureCode.ENCODING_UNKNOWN: "The encoding of this text is not recognised: save it as UTF-8 and send it again.",
    FailureCode.TOO_LARGE: "There is more text in this file than one document may have: split it.",
    FailureCode.BOMB: "This file unpacks to far more than a document needs, so it was not opened.",
    FailureCode.NEEDS_OCR: "This file has pictures of text but no text, and reading those needs OCR: install Tesseract on the"
    " server, or send a file with text.",
    FailureCode.OCR_FAILED: "This file has pictures of text but no text, and OCR found none in them.",
    FailureCode.FILE_MISSING: "The file is not where it was stored.",
    FailureCode.MEMORY_LIMIT: "Reading this file takes more memory than one file may have.",
    FailureCode.PARSER_TIMEOUT: "Reading this file takes longer than one file may take.",
    FailureCode.PARSER_CRASHED: "This file made its reader crash; it may be damaged.",
}


class ParseFailed(Exception):
    """There is no text, for one of the reasons of `FailureCode`; `retryable` when the next time may be different."""

    def __init__(self, code: FailureCode, message: str = "", *, retryable: bool = False) -> None:
        self.code = code
        self.message = message or SENTENCES[code]
        self.retryable = retryable
        super().__init__(self.message)


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """What one file may take. Seconds are for a small file; every megabyte of its size adds some."""

    memory_bytes: int = 1536 * MEBIBYTE
    cpu_seconds: float = 18
    cpu_seconds_per_megabyte: float = 2
    seconds: float = 24
    seconds_per_megabyte: float = 2
    ocr_seconds: float = 900
    pages: int = 20_000
    characters: int = 100_000_000
    output_bytes: int = 512 * MEBIBYTE
    unpacked_bytes: int = 200 * MEBIBYTE
    """What the parts of an office file that are read may unpack to."""
    tesseract: str | None = field(default_factory=lambda: shutil.which("tesseract"))
    """Path of the program; OCR is off without it."""
    ocr_languages: str = ""
    """As Tesseract names them (`eng+msa`); empty for those that are installed, if they are few."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of a page: `text[start:end]` of the page are its words, level 1 is the highest."""

    start: int
    end: int
    level: int


Box = tuple[int, int, float, float, float, float]
"""start and end in the page's text, then left, top, right, bottom in points from the top left of the page."""


@dataclass(frozen=True, slots=True)
class PageBoxes:
    """Where the lines of a page's text stand on its paper; sizes in points."""

    width: float
    height: float
    lines: tuple[Box, ...]

    def as_json(self) -> dict[str, Any]:
        return {"width": self.width, "height": self.height, "lines": [list(line) for line in self.lines]}


@dataclass(frozen=True, slots=True)
class ParsedPage:
    """A page of text, numbered from 1. `label` names it where the format does: a sheet, a slide, an attachment."""

    number: int
    text: str
    boxes: PageBoxes | None = None
    headings: tuple[Heading, ...] = ()
    label: str | None = None


@dataclass(frozen=True, slots=True)
class ParseWarning:
    """Something about the file that its reader should know; `pages` where it is about some."""

    code: str
    message: str
    pages: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """The text of a file. `page_kind` says what a page is: `page`, `slide`, `sheet`, or `part` where the format has none."""

    pages: tuple[ParsedPage, ...]
    title: str | None
    content_type: str
    language: str | None
    metadata: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[ParseWarning, ...] = ()
    page_kind: str = "part"
    peak_memory_bytes: int = 0
    """Of the child that read the file."""
