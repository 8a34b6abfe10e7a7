"""Files made to kill their reader: each ends in time, within its memory, with a reason, and the next file is read as ever."""

import io
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from app.rag.parsing.fence import parse_file
from app.rag.parsing.model import MEBIBYTE, FailureCode, ParsedDocument, ParseFailed, ParseLimits
from tests.fixtures.files import (
    assemble_pdf,
    docx_paragraph,
    make_docx,
    make_pdf,
    make_pptx,
    make_xlsx,
    make_zip,
    pptx_shape,
    relations,
    xlsx_rows,
)

_LIMITS: Final = ParseLimits(tesseract=None)
_MOST_SECONDS: Final = 30
_LAUGHS: Final = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a0 "lol">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    + "]>"
)
_THEFT: Final = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'


def _docx(document: str | bytes, **parts: str | bytes) -> bytes:
    return make_zip(
        {"_rels/.rels": relations(officeDocument="word/document.xml"), "word/document.xml": document, **parts}
    )


def zip_bomb() -> bytes:
    """A document of 3 GB of blanks in 3 MB."""
    body = b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>'
    return _docx(body + b" " * (300 * MEBIBYTE) + b"</w:t></w:r></w:p></w:body></w:document>")


def lying_zip_bomb() -> bytes:
    """The same, whose table says that it unpacks to 1,000 bytes."""
    content = bytearray(zip_bomb())
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        entry = archive.getinfo("word/document.xml")
    size = struct.pack("<I", entry.file_size)
    return bytes(content.replace(size, struct.pack("<I", 1_000)))


def many_entries() -> bytes:
    return make_zip({"word/document.xml": "<x/>"} | {f"word/{number}": "" for number in range(60_000)})


def overlapping_zip() -> bytes:
    """Entries that all unpack the same megabytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b" " * 50_000_000)
        for number in range(500):
            entry = zipfile.ZipInfo(f"word/{number}")
            first = archive.filelist[0]
            entry.header_offset, entry.compress_size = first.header_offset, first.compress_size
            entry.file_size, entry.CRC, entry.compress_type = first.file_size, first.CRC, first.compress_type
            archive.filelist.append(entry)
            archive.NameToInfo[entry.filename] = entry
    return buffer.getvalue()


def shared_strings_laughs() -> bytes:
    parts = {
        "_rels/.rels": relations(officeDocument="xl/workbook.xml"),
        "xl/workbook.xml": "<workbook/>",
        "xl/_rels/workbook.xml.rels": relations(sharedStrings="sharedStrings.xml"),
        "xl/sharedStrings.xml": f"{_LAUGHS}<sst>&a9;</sst>",
    }
    return make_zip(parts)


def entity_theft() -> bytes:
    body = '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>'
    return _docx(f"{_THEFT}{body}&secret;</w:t></w:r></w:p></w:body></w:document>")


def wide_theft() -> bytes:
    return _docx(f"{_THEFT}<x>&secret;</x>".encode("utf-16"))


def deep_docx() -> bytes:
    return make_docx(
        "<w:sdt><w:sdtContent>" * 50_000 + docx_paragraph("deep") + "</w:sdtContent></w:sdt>" * 50_000
    )


def huge_merge() -> bytes:
    sheet = (
        xlsx_rows([["x", "y"], ["1", "2"]]) + '<mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells>' * 50
    )
    return make_xlsx({"S": sheet})


def huge_span() -> bytes:
    cell = f'<w:tc><w:tcPr><w:gridSpan w:val="999999999"/></w:tcPr>{docx_paragraph("x")}</w:tc>'
    return make_docx(f"<w:tbl>{f'<w:tr>{cell * 20}</w:tr>' * 50}</w:tbl>")


def slide_that_is_itself() -> bytes:
    return make_pptx([pptx_shape("loop")], slideLayout="slide0.xml", notesSlide="slide0.xml")


def style_loop() -> bytes:
    styles = "".join(
        f'<w:style w:styleId="S{n}"><w:basedOn w:val="S{(n + 1) % 3000}"/></w:style>' for n in range(3000)
    )
    return make_docx(
        docx_paragraph("x"),
        parts={"word/styles.xml": f"<w:styles NAMES>{styles}</w:styles>"},
        styles="styles.xml",
    )


def many_attributes() -> bytes:
    return b"<p " + b" ".join(b"a%d=1" % number for number in range(200_000)) + b">text"


def hidden_attributes() -> bytes:
    """The same, behind what looks like the end of the tag."""
    return b"<p " + b" ".join(b'a%d="><"' % number for number in range(200_000)) + b">text"


def many_tags() -> bytes:
    return b"<b><i><u><table><tr><td>" * 200_000


def unclosed_comments() -> bytes:
    return b"<!--" * 500_000 + b"<script" * 200_000


def html_laughs() -> bytes:
    return f"{_LAUGHS}<html><body>&a9;</body></html>".encode()


def pdf_page_loop() -> bytes:
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [2 0 R 2 0 R 2 0 R] /Count 1000000 >>",
    ]
    return assemble_pdf(objects, trailer="/Root 1 0 R")


def pdf_form_loop() -> bytes:
    """Forms that show two others each, thirty deep: a thousand million times the same text."""
    depth = 30
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents 4 0 R /Resources << /XObject << /X 5 0 R >> >> >>",
        b"<< /Length 6 >>\nstream\n/X Do \nendstream",
    ]
    objects += [
        b"<< /Type /XObject /Subtype /Form /BBox [0 0 99 99] /Resources << /XObject << /X %d 0 R >> >> /Length 12 >>"
        b"\nstream\n/X Do /X Do \nendstream" % (number + 6 if number < depth - 1 else 5)
        for number in range(depth)
    ]
    return assemble_pdf(objects, trailer="/Root 1 0 R")


def pdf_flate_bomb() -> bytes:
    """A page whose content unpacks to a gigabyte, four times over."""
    content = b" " * 200_000_000
    for _ in range(2):
        content = zlib.compress(content, 9)
    stream = b"<< /Length %d /Filter [/FlateDecode /FlateDecode] >>\nstream\n%s\nendstream" % (
        len(content),
        content,
    )
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents [" + b"4 0 R " * 20 + b"] >>",
        stream,
    ]
    return assemble_pdf(objects, trailer="/Root 1 0 R")


def pdf_endless_reference() -> bytes:
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"2 0 R", b"3 0 R"]
    return assemble_pdf(objects, trailer="/Root 1 0 R /Prev 9 /Info 3 0 R")


def pdf_huge_page() -> bytes:
    return make_pdf([["x"]]).replace(b"[0 0 612 792]", b"[0 0 9e9 9e9]")


def csv_of_one_field() -> bytes:
    return b'a,b\n"' + b"x," * 10_000_000


def json_of_brackets() -> bytes:
    return b"[" * 5_000_000


def json_of_digits() -> bytes:
    return b'{"n": ' + b"9" * 5_000_000 + b"}"


def mail_of_parts() -> bytes:
    """Parts within parts, a thousand deep."""
    found = b""
    for number in range(1_000):
        found += b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (number, number)
    return b"From: a@b\nTo: b@c\nSubject: deep\n" + found + b"\n\ntext"


def mail_of_headers() -> bytes:
    return b"From: a@b\nTo: " + b"(" * 100_000 + b"\nSubject: " + b"=?utf-8?q?x?= " * 50_000 + b"\n\ntext"


def text_without_lines() -> bytes:
    return b"a" * 30_000_000


HOSTILE: Final[dict[str, tuple[Callable[[], bytes], set[FailureCode | None]]]] = {
    "zip_bomb.docx": (zip_bomb, {FailureCode.BOMB}),
    "lying_zip_bomb.docx": (lying_zip_bomb, {FailureCode.BOMB, FailureCode.CORRUPT}),
    "many_entries.docx": (many_entries, {FailureCode.BOMB}),
    "overlapping.docx": (overlapping_zip, {FailureCode.BOMB, FailureCode.CORRUPT}),
    "laughs.docx": (lambda: _docx(f"{_LAUGHS}<x>&a9;</x>"), {FailureCode.BOMB}),
    "laughs.xlsx": (shared_strings_laughs, {FailureCode.BOMB}),
    "theft.docx": (entity_theft, {FailureCode.BOMB}),
    "wide_theft.docx": (wide_theft, {FailureCode.BOMB}),
    "deep.docx": (deep_docx, {FailureCode.CORRUPT, FailureCode.EMPTY_DOCUMENT}),
    "merge.xlsx": (huge_merge, {None}),
    "span.docx": (huge_span, {None}),
    "itself.pptx": (slide_that_is_itself, {None}),
    "styles.docx": (style_loop, {None}),
    "attributes.html": (many_attributes, {FailureCode.BOMB}),
    "hidden_attributes.html": (hidden_attributes, {None, FailureCode.PARSER_TIMEOUT}),
    "tags.html": (many_tags, {None, FailureCode.EMPTY_DOCUMENT, FailureCode.PARSER_TIMEOUT}),
    "comments.html": (unclosed_comments, {None, FailureCode.EMPTY_DOCUMENT, FailureCode.PARSER_TIMEOUT}),
    "laughs.html": (html_laughs, {None, FailureCode.EMPTY_DOCUMENT}),
    "page_loop.pdf": (
        pdf_page_loop,
        {FailureCode.CORRUPT, FailureCode.TOO_LARGE, FailureCode.EMPTY_DOCUMENT},
    ),
    "form_loop.pdf": (
        pdf_form_loop,
        {FailureCode.EMPTY_DOCUMENT, FailureCode.NEEDS_OCR, FailureCode.CORRUPT, FailureCode.PARSER_TIMEOUT},
    ),
    "flate_bomb.pdf": (
        pdf_flate_bomb,
        {
            FailureCode.EMPTY_DOCUMENT,
            FailureCode.CORRUPT,
            FailureCode.PARSER_CRASHED,
            FailureCode.MEMORY_LIMIT,
            FailureCode.PARSER_TIMEOUT,
        },
    ),
    "reference.pdf": (pdf_endless_reference, {FailureCode.CORRUPT}),
    "huge_page.pdf": (pdf_huge_page, {None}),
    "field.csv": (csv_of_one_field, {None}),
    "brackets.json": (json_of_brackets, {None}),
    "digits.json": (json_of_digits, {None}),
    "parts.eml": (mail_of_parts, {None, FailureCode.CORRUPT}),
    "headers.eml": (
        mail_of_headers,
        {None, FailureCode.CORRUPT, FailureCode.MEMORY_LIMIT, FailureCode.PARSER_TIMEOUT},
    ),
    "lines.txt": (text_without_lines, {None}),
}
_QUICK: Final = tuple(
    name
    for name in HOSTILE
    if name not in ("form_loop.pdf", "flate_bomb.pdf", "headers.eml", "hidden_attributes.html")
)


async def end_of(path: Path, name: str) -> tuple[FailureCode | None, ParsedDocument | None, float]:
    started = time.monotonic()
    try:
        document = await parse_file(path, filename=name, limits=_LIMITS)
    except ParseFailed as failure:
        assert failure.message
        return failure.code, None, time.monotonic() - started
    return None, document, time.monotonic() - started


async def check(tmp_path: Path, name: str) -> None:
    make, ends = HOSTILE[name]
    path = tmp_path / name
    path.write_bytes(make())
    code, document, seconds = await end_of(path, name)
    print(f"{name:22} {path.stat().st_size / 1e6:6.1f} MB  {code or 'read':18} {seconds:5.1f} s")
    assert code in ends
    # A file of many megabytes has some seconds more for its size.
    assert (
        seconds <= _MOST_SECONDS + max(0, path.stat().st_size / MEBIBYTE - 2) * _LIMITS.seconds_per_megabyte
    )
    if document is not None:
        assert document.peak_memory_bytes <= _LIMITS.memory_bytes
        assert "root:" not in "".join(page.text for page in document.pages)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no limit on memory")
@pytest.mark.parametrize("name", _QUICK)
async def test_a_hostile_file_costs_nothing_but_itself(tmp_path: Path, name: str) -> None:
    await check(tmp_path, name)
    (tmp_path / "next.txt").write_text("the next file")
    assert (await end_of(tmp_path / "next.txt", "next.txt"))[0] is None


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no limit on memory")
@pytest.mark.parametrize("name", HOSTILE)
async def test_every_hostile_file_ends_within_30_seconds(tmp_path: Path, name: str) -> None:
    await check(tmp_path, name)


def whole_files() -> dict[str, bytes]:
    """One good file of each format."""
    lines = [f"Line {number} of a text that is long enough to be cut." for number in range(40)]
    mail = "From: a@example.com\nTo: b@example.com\nSubject: x\n\n" + "\n".join(lines)
    table: list[list[str | float | None]] = [[line, number] for number, line in enumerate(lines)]
    rows = xlsx_rows([["name", "value"], *table])
    return {
        "a.txt": "\n".join(lines).encode(),
        "a.md": ("# Title\n\n" + "\n\n".join(lines)).encode(),
        "a.html": ("<html><body>" + "".join(f"<p>{line}</p>" for line in lines) + "</body></html>").encode(),
        "a.pdf": make_pdf([lines, lines, lines], title="Three pages"),
        "a.docx": make_docx("".join(map(docx_paragraph, lines))),
        "a.pptx": make_pptx([pptx_shape(line) for line in lines[:5]]),
        "a.xlsx": make_xlsx({"S": rows}),
        "a.csv": ("name,value\n" + "\n".join(f'"{line}",1' for line in lines)).encode(),
        "a.json": ("[" + ",".join(f'{{"text": "{line}"}}' for line in lines) + "]").encode(),
        "a.eml": mail.encode(),
    }


async def check_truncated(tmp_path: Path, percents: range) -> None:
    allowed = {
        None,
        FailureCode.CORRUPT,
        FailureCode.EMPTY_DOCUMENT,
        FailureCode.TYPE_MISMATCH,
        FailureCode.UNSUPPORTED_TYPE,
    }
    path = tmp_path / "truncated"
    for name, content in whole_files().items():
        for percent in percents:
            path.write_bytes(content[: len(content) * percent // 100])
            code, _, seconds = await end_of(path, name)
            assert code in allowed, f"{name} cut at {percent} %: {code}"
            assert seconds <= _MOST_SECONDS
        path.write_bytes(content)
        assert (await end_of(path, name))[0] is None


@pytest.mark.timeout(300)
async def test_files_cut_anywhere_end_with_a_reason(tmp_path: Path) -> None:
    await check_truncated(tmp_path, range(0, 100, 20))


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_files_cut_at_every_percent_end_with_a_reason(tmp_path: Path) -> None:
    await check_truncated(tmp_path, range(100))
