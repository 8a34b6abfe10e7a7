"""PDF: pages, lines with their boxes, words made whole, and what is said of the rest."""

import shutil
from pathlib import Path

import pytest

from app.rag.parsing.fence import parse_file
from app.rag.parsing.model import FailureCode, ParsedDocument, ParseFailed, ParseLimits
from tests.fixtures.files import assemble_pdf, make_pdf

_LIMITS = ParseLimits(tesseract=None)


async def parse(tmp_path: Path, content: bytes, limits: ParseLimits = _LIMITS) -> ParsedDocument:
    path = tmp_path / "stored.pdf"
    path.write_bytes(content)
    return await parse_file(path, filename="file.pdf", limits=limits)


async def test_pages_keep_their_numbers_and_blank_ones_count(tmp_path: Path) -> None:
    document = await parse(tmp_path, make_pdf([["first page"], [], ["third page"]], title="Three pages"))
    assert [(page.number, page.text) for page in document.pages] == [
        (1, "first page"),
        (2, ""),
        (3, "third page"),
    ]
    assert document.title == "Three pages"
    assert document.page_kind == "page"


async def test_every_line_has_the_box_where_it_stands(tmp_path: Path) -> None:
    lines = ["The first line", "a second, longer line of text", "and the third"]
    document = await parse(tmp_path, make_pdf([lines]))
    page = document.pages[0]
    assert page.text == "\n".join(lines)
    assert page.boxes is not None
    assert (page.boxes.width, page.boxes.height) == (612, 792)
    assert [page.text[start:end] for start, end, *_ in page.boxes.lines] == lines
    for number, (_, _, left, top, right, bottom) in enumerate(page.boxes.lines):
        baseline = 792 - 708 + 14 * number
        assert 71 <= left < right < 400
        assert baseline - 11 <= top < baseline <= bottom + 1 <= baseline + 5
    widths = [right - left for _, _, left, _, right, _ in page.boxes.lines]
    assert widths[1] > widths[0] > widths[2] * 0.9


async def test_invisible_text_is_read_and_reported(tmp_path: Path) -> None:
    document = await parse(tmp_path, make_pdf([["visible"], ["nobody sees this"]]))
    assert not document.warnings
    document = await parse(tmp_path, make_pdf([["nobody sees this"]], render_mode=3))
    assert [(warning.code, warning.pages) for warning in document.warnings] == [("hidden_text", (1,))]


async def test_invisible_text_on_a_scan_is_what_a_scanner_recognised(tmp_path: Path) -> None:
    picture = "q 600 0 0 780 0 0 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \x80 EI Q"
    document = await parse(tmp_path, make_pdf([["words that a scanner found"]], render_mode=3, extra=picture))
    assert [(warning.code, warning.pages) for warning in document.warnings] == [("ocr", (1,))]


async def test_a_page_with_a_title_and_lines_is_no_scan(tmp_path: Path) -> None:
    lines = "".join(f"0 {height} m 600 {height} l S " for height in range(0, 700, 10))
    document = await parse(tmp_path, make_pdf([["Part 1"], ["a page with more text on it"]], extra=lines))
    assert not document.warnings


async def test_a_page_without_text_or_picture_is_empty_and_one_with_a_picture_needs_ocr(
    tmp_path: Path,
) -> None:
    with pytest.raises(ParseFailed) as failed:
        await parse(tmp_path, make_pdf([[], []]))
    assert failed.value.code is FailureCode.EMPTY_DOCUMENT
    picture = "BI /W 1 /H 1 /CS /G /BPC 8 ID \x80 EI"
    with pytest.raises(ParseFailed) as failed:
        await parse(tmp_path, make_pdf([[], []], extra=f"q 500 0 0 500 50 50 cm {picture} Q"))
    assert failed.value.code is FailureCode.NEEDS_OCR


async def test_a_scanned_page_among_others_is_reported_and_costs_nothing_else(tmp_path: Path) -> None:
    picture = "q 500 0 0 500 50 50 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \x80 EI Q"
    document = await parse(tmp_path, make_pdf([["a page with a good deal of text"], []], extra=picture))
    assert document.pages[0].text == "a page with a good deal of text"
    assert [(warning.code, warning.pages) for warning in document.warnings] == [("needs_ocr", (2,))]


async def test_a_damaged_table_of_objects_is_repaired(tmp_path: Path) -> None:
    content = make_pdf([["still there"]]).replace(b"startxref\n", b"startxref\n9")
    document = await parse(tmp_path, content)
    assert document.pages[0].text == "still there"


@pytest.mark.parametrize("where", ["pages", "page", "contents", "resources"])
async def test_objects_that_point_at_themselves_end(tmp_path: Path, where: str) -> None:
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2 /Parent 2 0 R >>"
        if where == "pages"
        else b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 3 0 R /Contents 4 0 R /MediaBox [0 0 9 9] >>"
        if where == "page"
        else b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources 5 0 R /MediaBox [0 0 9 9] >>",
        b"[4 0 R 4 0 R]" if where == "contents" else b"<< /Length 8 >>\nstream\n/X0 Do  \nendstream",
        b"<< /XObject << /X0 6 0 R >> >>",
        b"<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources 5 0 R /Length 14 >>\nstream\n/X0 Do /X0 Do \nendstream",
    ]
    with pytest.raises(ParseFailed) as failed:
        await parse(
            tmp_path, assemble_pdf(objects, trailer="/Root 1 0 R"), ParseLimits(tesseract=None, cpu_seconds=2)
        )
    ends = (
        FailureCode.CORRUPT,
        FailureCode.EMPTY_DOCUMENT,
        FailureCode.NEEDS_OCR,
        FailureCode.PARSER_TIMEOUT,
    )
    assert failed.value.code in ends


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="Tesseract is not installed")
async def test_ocr_reads_a_picture_of_text_within_the_fence(tmp_path: Path) -> None:
    # A page drawn as outlines only: text in a clip of no text, so that there is a picture of it and no characters.
    import pypdfium2

    made = pypdfium2.PdfDocument(make_pdf([["RECOGNISED LETTERS", "on the second line"]]))
    bitmap = made[0].render(scale=300 / 72)
    picture = bitmap.to_numpy()[:, :, 0]
    height, width = picture.shape
    path = tmp_path / "scan.bmp"
    rows = b"".join(row.tobytes().ljust((width + 3) // 4 * 4, b"\0") for row in picture[::-1])
    palette = b"".join(bytes((shade, shade, shade, 0)) for shade in range(256))
    header = (
        b"BM" + (54 + 1024 + len(rows)).to_bytes(4, "little") + bytes(4) + (54 + 1024).to_bytes(4, "little")
    )
    details = (40, width, height, 1 | 8 << 16, 0, len(rows), 11811, 11811, 256, 0)
    path.write_bytes(header + b"".join(number.to_bytes(4, "little") for number in details) + palette + rows)
    document = await parse_file(path, filename="scan.bmp", limits=ParseLimits())
    page = document.pages[0]
    assert page.text.split() == ["RECOGNISED", "LETTERS", "on", "the", "second", "line"]
    assert page.boxes is not None
    assert [page.text[start:end] for start, end, *_ in page.boxes.lines] == [
        "RECOGNISED LETTERS",
        "on the second line",
    ]
    assert [warning.code for warning in document.warnings] == ["ocr"]
