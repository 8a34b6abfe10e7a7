"""Office files whose archives name files elsewhere: nothing of theirs is ever written, and nothing from there is read."""

import io
import zipfile
from pathlib import Path

import pytest

from app.rag.parsing.fence import parse_file
from app.rag.parsing.model import ParseFailed, ParseLimits
from tests.fixtures.files import (
    docx_paragraph,
    make_docx,
    make_pptx,
    make_xlsx,
    pptx_shape,
    relations,
    xlsx_rows,
)

WORDS = "What the file itself says."
FILES = {
    "a.docx": make_docx(docx_paragraph(WORDS)),
    "a.pptx": make_pptx([pptx_shape(WORDS)]),
    "a.xlsx": make_xlsx({"S": xlsx_rows([[WORDS]])}),
}
MAIN = {"a.docx": "word/document.xml", "a.pptx": "ppt/presentation.xml", "a.xlsx": "xl/workbook.xml"}


def with_entries(content: bytes, entries: dict[str, str]) -> bytes:
    """The archive with further entries, whatever they are called, or with others in the place of its own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as original, zipfile.ZipFile(buffer, "w") as archive:
        for entry in original.infolist():
            if entry.filename not in entries:
                archive.writestr(entry, original.read(entry))
        for name, text in entries.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()


def everything_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("name", FILES)
async def test_entries_that_lead_out_of_the_archive_are_written_nowhere(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep" / "deeper"
    folder.mkdir(parents=True)
    slips = (
        "../slipped.txt",
        "../../slipped.txt",
        f"{Path(MAIN[name]).parts[0]}/../../../slipped.txt",
        "..\\..\\slipped.txt",
        f"{tmp_path}/slipped.txt",
        "C:\\slipped.txt",
        "../../../../../../../../etc/cron.d/slipped",
    )
    path = folder / name
    path.write_bytes(with_entries(FILES[name], dict.fromkeys(slips, "* * * * * root true")))
    before = everything_below(tmp_path)

    document = await parse_file(path, filename=name, limits=ParseLimits(tesseract=None))

    assert WORDS in document.pages[0].text
    assert "root true" not in "".join(page.text for page in document.pages)
    assert everything_below(tmp_path) == before
    assert not Path("/etc/cron.d/slipped").exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("absolute", [False, True])
async def test_a_part_that_lies_outside_of_the_archive_is_not_read(
    tmp_path: Path, name: str, absolute: bool
) -> None:
    secret = tmp_path / "secret.xml"
    secret.write_text(f"<x>{docx_paragraph('The secret of the server.')}</x>")
    way = str(secret) if absolute else f"../../../../../../../../..{secret}"
    path = tmp_path / name
    main = {"_rels/.rels": relations(officeDocument=way)}
    others = {
        f"{Path(MAIN[name]).parent}/_rels/{Path(MAIN[name]).name}.rels": relations(
            worksheet_1=way, slide_0=way
        )
    }
    path.write_bytes(with_entries(FILES[name], {**main, **others}))

    try:
        document = await parse_file(path, filename=name, limits=ParseLimits(tesseract=None))
    except ParseFailed:
        return  # a file without its parts
    assert "secret" not in "".join(page.text for page in document.pages)
