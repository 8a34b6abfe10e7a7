"""Whatever the format: a chunk is a range of its page, and so are the headings and the lines that have a box."""

from pathlib import Path

import pytest

from app.rag import chunking
from app.rag.parsing.fence import parse_file
from app.rag.parsing.model import ParseLimits
from tests.fixtures.files import (
    docx_paragraph,
    make_docx,
    make_pdf,
    make_pptx,
    make_xlsx,
    pptx_shape,
    xlsx_rows,
)

_LINES = [
    f"Line {number}: the Zähler measures the current, {number} A, of every phase; it's reported at 12:0{number % 10}."
    for number in range(90)
]
_HEADER = ["Phase name", "Current in ampere", "Remark"]
_ROWS: list[list[str | float | None]] = [
    [f"L{number}", number / 2, f"remark, no. {number}"] for number in range(90)
]
_FILES: dict[str, bytes] = {
    "a.txt": "\r\n".join([*_LINES, "😀 e\u0301 \u200f١٢٣", "电能表测量每一相的电流。"]).encode("utf-16"),
    "a.md": ("# Zähler\n\n" + "\n\n".join(_LINES) + "\n\n## End\n\n```\ncode # no heading\n```\n").encode(),
    "a.html": ("<h1>Zähler</h1>" + "".join(f"<p>{line} &amp; <b>more</b></p>" for line in _LINES)).encode(),
    "a.pdf": make_pdf([_LINES[:45], [], _LINES[45:]]),
    "a.docx": make_docx("".join(map(docx_paragraph, _LINES))),
    "a.pptx": make_pptx([pptx_shape("\n".join(_LINES[start : start + 9])) for start in range(0, 90, 9)]),
    "a.xlsx": make_xlsx({"Load": xlsx_rows([list(_HEADER), *_ROWS]), "More": xlsx_rows([["only", "this"]])}),
    "a.csv": "\n".join([";".join(_HEADER), *(";".join(map(str, row)) for row in _ROWS)]).encode("cp1252"),
    "a.tsv": "\n".join(["\t".join(_HEADER), *("\t".join(map(str, row)) for row in _ROWS)]).encode(),
    "a.json": (
        "[" + ",".join(f'{{"text": "{line}", "n": {number}}}' for number, line in enumerate(_LINES)) + "]"
    ).encode(),
    "a.jsonl": "\n".join(f'{{"text": "{line}"}}' for line in _LINES).encode(),
    "a.eml": (
        "From: a@example.com\nTo: b@example.com\nSubject: x\nContent-Type: text/plain; charset=utf-8\n\n"
        + "\n".join(_LINES)
    ).encode(),
}


@pytest.mark.parametrize("name", _FILES)
async def test_chunks_headings_and_lines_are_ranges_of_their_page(tmp_path: Path, name: str) -> None:
    path = tmp_path / "stored"
    path.write_bytes(_FILES[name])
    document = await parse_file(path, filename=name, limits=ParseLimits(tesseract=None))
    pages = {page.number: page for page in document.pages}
    chunks = chunking.split(
        [chunking.Page(page.number, page.text) for page in document.pages], size_tokens=128, overlap_tokens=16
    )
    assert len(chunks) > 10
    covered = {number: bytearray(len(page.text)) for number, page in pages.items()}
    for chunk in chunks:
        assert pages[chunk.page].text[chunk.start : chunk.end] == chunk.text
        covered[chunk.page][chunk.start : chunk.end] = b"\1" * (chunk.end - chunk.start)
    for number, page in pages.items():
        assert "\0" not in page.text
        missed = [
            sign
            for sign, seen in zip(page.text, covered[number], strict=True)
            if not seen and not sign.isspace()
        ]
        assert not missed
        for heading in page.headings:
            words = page.text[heading.start : heading.end]
            assert words == words.strip() != ""
        for start, end, left, top, right, bottom in page.boxes.lines if page.boxes is not None else ():
            assert 0 <= start < end <= len(page.text)
            assert left < right
            assert top < bottom
    text = "".join(page.text for page in document.pages)
    assert text.count("\n".join(_LINES[40:42])) or text.count("L41") or "Line 41" in text


@pytest.mark.parametrize("name", ["a.xlsx", "a.csv", "a.tsv"])
async def test_a_row_in_any_chunk_says_what_its_values_are(tmp_path: Path, name: str) -> None:
    path = tmp_path / "stored"
    path.write_bytes(_FILES[name])
    document = await parse_file(path, filename=name, limits=ParseLimits(tesseract=None))
    chunks = chunking.split(
        [chunking.Page(page.number, page.text) for page in document.pages], size_tokens=128, overlap_tokens=0
    )
    row = next(chunk.text for chunk in chunks if "remark, no. 77" in chunk.text)
    assert "Phase name: L77; Current in ampere: 38.5; Remark: remark, no. 77" in row
