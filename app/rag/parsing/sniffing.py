"""What a file is, from its first bytes, its name and what its sender said, in that order of trust."""

import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import Final

from app.rag.parsing.model import FailureCode, Kind, ParseFailed

HEAD_BYTES: Final = 8192
"""How many first bytes of a file `detect_type` wants to see."""

_BY_SUFFIX: Final = {
    ".txt": Kind.TEXT,
    ".text": Kind.TEXT,
    ".log": Kind.TEXT,
    ".md": Kind.MARKDOWN,
    ".markdown": Kind.MARKDOWN,
    ".mdown": Kind.MARKDOWN,
    ".html": Kind.HTML,
    ".htm": Kind.HTML,
    ".xhtml": Kind.HTML,
    ".pdf": Kind.PDF,
    ".docx": Kind.DOCX,
    ".docm": Kind.DOCX,
    ".dotx": Kind.DOCX,
    ".pptx": Kind.PPTX,
    ".pptm": Kind.PPTX,
    ".ppsx": Kind.PPTX,
    ".potx": Kind.PPTX,
    ".xlsx": Kind.XLSX,
    ".xlsm": Kind.XLSX,
    ".xltx": Kind.XLSX,
    ".csv": Kind.CSV,
    ".tsv": Kind.TSV,
    ".tab": Kind.TSV,
    ".json": Kind.JSON,
    ".jsonl": Kind.JSONL,
    ".ndjson": Kind.JSONL,
    ".eml": Kind.EMAIL,
    ".png": Kind.PNG,
    ".jpg": Kind.JPEG,
    ".jpeg": Kind.JPEG,
    ".tif": Kind.TIFF,
    ".tiff": Kind.TIFF,
    ".webp": Kind.WEBP,
    ".gif": Kind.GIF,
    ".bmp": Kind.BMP,
}
_BY_MIME_TYPE: Final = {str(kind): kind for kind in Kind} | {
    "text/x-markdown": Kind.MARKDOWN,
    "application/xhtml+xml": Kind.HTML,
    "application/csv": Kind.CSV,
    "application/x-ndjson": Kind.JSONL,
    "application/jsonlines": Kind.JSONL,
    "image/jpg": Kind.JPEG,
    "image/x-ms-bmp": Kind.BMP,
}
_OFFICE: Final = frozenset({Kind.DOCX, Kind.PPTX, Kind.XLSX})
_TEXTUAL: Final = frozenset(
    {Kind.TEXT, Kind.MARKDOWN, Kind.HTML, Kind.CSV, Kind.TSV, Kind.JSON, Kind.JSONL, Kind.EMAIL}
)
_OTHER_SUFFIXES: Final = {
    ".doc": "save it as .docx",
    ".dot": "save it as .docx",
    ".rtf": "save it as .docx",
    ".odt": "save it as .docx or .pdf",
    ".pages": "save it as .docx or .pdf",
    ".ppt": "save it as .pptx",
    ".odp": "save it as .pptx or .pdf",
    ".key": "save it as .pptx or .pdf",
    ".xls": "save it as .xlsx",
    ".xlsb": "save it as .xlsx",
    ".ods": "save it as .xlsx or .csv",
    ".numbers": "save it as .xlsx or .csv",
    ".msg": "save it as .eml",
    ".epub": "save it as .html or .pdf",
    ".mobi": "save it as .html or .pdf",
    ".zip": "unpack it and send the files in it",
    ".7z": "unpack it and send the files in it",
    ".rar": "unpack it and send the files in it",
    ".gz": "unpack it and send the files in it",
    ".tar": "unpack it and send the files in it",
}
"""Types that can't be read, and what to do; they are refused by their name, before anything of them is stored."""

_SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", Kind.PNG),
    (b"\xff\xd8\xff", Kind.JPEG),
    (b"II*\0", Kind.TIFF),
    (b"MM\0*", Kind.TIFF),
    (b"GIF87a", Kind.GIF),
    (b"GIF89a", Kind.GIF),
)
_FOREIGN: Final = (
    (b"{\\rtf", "an RTF document; save it as .docx"),
    (b"\x1f\x8b", "a gzip archive; unpack it and send the files in it"),
    (b"BZh", "a bzip2 archive; unpack it and send the files in it"),
    (b"\xfd7zXZ\0", "an xz archive; unpack it and send the files in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it and send the files in it"),
    (b"Rar!\x1a\x07", "a RAR archive; unpack it and send the files in it"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive; unpack it and send the files in it"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90\0", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"OggS", "a sound or video file"),
    (b"ID3", "a sound file"),
    (b"fLaC", "a sound file"),
    (b"\x1aE\xdf\xa3", "a video file"),
    (b"SQLite format 3\0", "a database"),
    (b"%!PS", "a PostScript file; save it as .pdf"),
    (b"8BPS", "a Photoshop file"),
    (b"wOF2", "a font"),
    (b"wOFF", "a font"),
)
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_OFFICE: Final = "EncryptedPackage".encode("utf-16-le")
_PARTS: Final = ((b"word/", Kind.DOCX), (b"ppt/", Kind.PPTX), (b"xl/", Kind.XLSX))
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_HTML_START: Final = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_MAIL_START: Final = re.compile(
    rb"(?:From [^\n]*\n)?(?:(?:Received|Return-Path|Delivered-To|MIME-Version|Message-ID|From|To|Date|Subject|Content-Type|X-[\w-]+):"
    rb"[^\n]*\n(?:[ \t][^\n]*\n)*){3}",
    re.IGNORECASE,
)


def is_known(filename: str) -> bool:
    """Whether the name alone says that it is one of the formats."""
    return PurePosixPath(filename).suffix.lower() in _BY_SUFFIX


def detect_type(head: bytes, *, filename: str, declared: str | None = None) -> Kind:
    """The format of a file from its first `HEAD_BYTES`; `declared` is the Content-Type that its sender gave.

    The content decides among the formats that have a signature, the name among the texts. Raises ParseFailed: empty,
    unsupported, protected with a password, or another format than the name (or, without a suffix, the sender) says.
    """
    suffix = PurePosixPath(filename.replace("\\", "/")).suffix.lower()
    if not head:
        raise ParseFailed(FailureCode.EMPTY_DOCUMENT, "The file is empty.")
    named = _BY_SUFFIX.get(suffix)
    if named is None and suffix not in _OTHER_SUFFIXES:
        named = _BY_MIME_TYPE.get((declared or "").partition(";")[0].strip().lower())
    found = _by_signature(head, suffix=suffix, named=named)
    if found is None:
        return _textual(head, named=named, suffix=suffix)
    if named is not None and named is not found and not (named.is_image and found.is_image):
        raise _mismatch(found, named)
    return found


def inspect_type(path: Path, *, filename: str, declared: str | None = None) -> Kind:
    """The same with the whole file at hand: in an office file its list of parts counts. Raises ParseFailed, OSError."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        kind = detect_type(head, filename=filename, declared=declared)
        if kind in _OFFICE:
            _check_parts(path, kind)
    return kind


def _check_parts(path: Path, kind: Kind) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
        raise ParseFailed(FailureCode.CORRUPT) from None
    folders = {name.partition("/")[0] for name in names}
    for folder, other in _PARTS:
        if folder[:-1].decode() in folders:
            if other is kind:
                return
            raise _mismatch(other, kind)
    raise _no_office()


def _by_signature(head: bytes, *, suffix: str, named: Kind | None) -> Kind | None:
    if b"%PDF-" in head[:1024] and not (named in _TEXTUAL and not head.lstrip().startswith(b"%PDF-")):
        return Kind.PDF
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(head, named=named, suffix=suffix)
    if head.startswith(_OLE):
        raise _ole(head, suffix=suffix, named=named)
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return Kind.WEBP
    if head.startswith(b"BM") and len(head) > 14 and head[6:10] == b"\0\0\0\0":
        return Kind.BMP
    for signature, what in _FOREIGN:
        if head.startswith(signature):
            raise _foreign(what, named)
    if head[4:8] == b"ftyp" or (head.startswith(b"RIFF") and head[8:12] in (b"WAVE", b"AVI ")):
        raise _foreign("a sound, picture or video file", named)
    return None


def _zip(head: bytes, *, named: Kind | None, suffix: str) -> Kind:
    if advice := _OTHER_SUFFIXES.get(suffix):
        raise _unsupported(suffix, advice)
    for folder, kind in _PARTS:
        # The name of a part stands behind 30 bytes of its local header.
        if re.search(rb"PK\x03\x04.{26}" + re.escape(folder), head, re.DOTALL):
            return kind
    if named in _OFFICE:
        return named  # its first part may be a long one; the parser looks at all of them
    if b"mimetypeapplication/epub" in head[:100]:
        raise _foreign("an EPUB book; save it as .html or .pdf", named)
    if b"mimetypeapplication/vnd.oasis" in head[:100]:
        raise _foreign("an OpenDocument file; save it as .docx, .xlsx or .pdf", named)
    raise _foreign("a ZIP archive; unpack it and send the files in it", named)


def _ole(head: bytes, *, suffix: str, named: Kind | None) -> ParseFailed:
    """Old Office files, Outlook messages, and the wrapping of new Office files that have a password."""
    if named in _OFFICE or _ENCRYPTED_OFFICE in head:
        return ParseFailed(FailureCode.ENCRYPTED)
    if named is not None:
        return _foreign("a file of an old Office version", named)
    return _unsupported(suffix, _OTHER_SUFFIXES.get(suffix, "save it in a format of today"))


def _textual(head: bytes, *, named: Kind | None, suffix: str) -> Kind:
    if advice := _OTHER_SUFFIXES.get(suffix):
        raise _unsupported(suffix, advice)
    looks_like_text = _is_text(head)
    if named is not None and named not in _TEXTUAL:
        if looks_like_text:
            raise _mismatch(Kind.TEXT, named)
        raise ParseFailed(
            FailureCode.CORRUPT,
            f"This is not {_shown(named)}, or its beginning is damaged: send the file again.",
        )
    if not looks_like_text:
        if named is not None:
            raise ParseFailed(
                FailureCode.TYPE_MISMATCH,
                f"The name says that this is {_shown(named)}, but there is no text in it.",
            )
        raise _unsupported(
            suffix, "send text, Markdown, HTML, PDF, an Office file, CSV, JSON, an e-mail or a picture"
        )
    if named is not None:
        return named
    if _HTML_START.match(head):
        return Kind.HTML
    if _MAIL_START.match(head.replace(b"\r\n", b"\n")):
        return Kind.EMAIL
    return Kind.TEXT


def _is_text(head: bytes) -> bool:
    """Whether the bytes can be text: of UTF-16 and UTF-32 by their mark or their zeros, of the rest by control characters."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
        return True
    if head.count(0) * 100 <= len(head):
        return len(_CONTROL.findall(head)) * 100 <= len(head)
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if min(even, odd) * 20 > max(even, odd) or max(even, odd) * 4 < len(head) // 2:
        return False
    wide = head[: len(head) // 2 * 2].decode("utf-16-le" if odd > even else "utf-16-be", "replace")
    return len(_CONTROL.findall(wide.encode())) * 100 <= len(wide)


def _mismatch(found: Kind, named: Kind) -> ParseFailed:
    message = (
        f"The name says that this is {_shown(named)}, but the content is {_shown(found)}: correct the name."
    )
    return ParseFailed(FailureCode.TYPE_MISMATCH, message)


def _foreign(what: str, named: Kind | None) -> ParseFailed:
    kind, _, advice = what.partition("; ")
    if named is not None:
        return ParseFailed(
            FailureCode.TYPE_MISMATCH,
            f"The name says that this is {_shown(named)}, but the content is {kind}.",
        )
    return ParseFailed(
        FailureCode.UNSUPPORTED_TYPE,
        f"This is {kind}, which can't be read" + (f": {advice}." if advice else "."),
    )


def _no_office() -> ParseFailed:
    return ParseFailed(
        FailureCode.UNSUPPORTED_TYPE,
        "This is a ZIP archive, which can't be read: unpack it and send the files in it.",
    )


def _unsupported(suffix: str, advice: str) -> ParseFailed:
    what = f"Files of the type {suffix}" if suffix and len(suffix) <= 12 else "Files of this type"
    return ParseFailed(FailureCode.UNSUPPORTED_TYPE, f"{what} can't be read: {advice}.")


def _shown(kind: Kind) -> str:
    names = {
        Kind.TEXT: "text",
        Kind.MARKDOWN: "Markdown",
        Kind.HTML: "HTML",
        Kind.PDF: "a PDF",
        Kind.DOCX: "a Word document",
        Kind.PPTX: "a PowerPoint presentation",
        Kind.XLSX: "an Excel workbook",
        Kind.CSV: "CSV",
        Kind.TSV: "tab-separated text",
        Kind.JSON: "JSON",
        Kind.JSONL: "JSON Lines",
        Kind.EMAIL: "an e-mail",
    }
    return names.get(kind, "a picture")
