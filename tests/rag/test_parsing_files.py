"""Real files from elsewhere: each ends as it should, and where its text is known, the words are there in their order."""

import csv
import re
from pathlib import Path
from typing import Final

import pytest

from app.rag.parsing.fence import parse_file
from app.rag.parsing.model import FailureCode, ParsedDocument, ParseFailed, ParseLimits
from tests.fixtures.words import share_in_order

_FOLDER: Final = Path(__file__).parents[2].parent / "shared" / "files"
_LIMITS: Final = ParseLimits(tesseract=None)
_LEAST_IN_ORDER: Final = 0.95
_QUICK: Final = (
    "pypdf__habibi.pdf",
    "pypdf__multicolumn.pdf",
    "docling__right_to_left_01.pdf",
    "docling__invisible_text_layer.pdf",
    "docling__2206.01062_pg3.pdf",
    "unstr__loremipsum-flat.pdf",
    "unstr__handbook-1p.docx",
    "docling__word_tables.docx",
    "docling__powerpoint_sample.pptx",
    "docling__xlsx_04_inflated.xlsx",
    "unstr__password_protected.xlsx",
    "unstr__stanley-cups-utf-16.csv",
    "unstr__example-with-scripts.html",
    "unstr__fake-email-attachment.eml",
    "unstr__fake-incomplete-json.txt",
    "unstr__winter-sports.epub",
    "derived__docx_named.pdf",
)

pytestmark = pytest.mark.skipif(not _FOLDER.is_dir(), reason="the real files are not part of the repository")

_CLEAN_ERRORS: Final = frozenset({FailureCode.CORRUPT, FailureCode.NEEDS_OCR, FailureCode.EMPTY_DOCUMENT})
_ENDS: Final[dict[str, frozenset[FailureCode | None]]] = {
    "ok": frozenset({None}),
    "ok, flag": frozenset({None}),
    "ok, bounded time": frozenset({None}),
    "ok, no script text": frozenset({None}),
    "ok as text": frozenset({None}),
    "ok or clean error": _CLEAN_ERRORS | {None},
    "clean error": frozenset({FailureCode.CORRUPT}),
    "no text": frozenset({FailureCode.NEEDS_OCR}),
    "no text without OCR": frozenset({FailureCode.NEEDS_OCR}),
    "reject: password": frozenset({FailureCode.ENCRYPTED}),
    "reject: empty": frozenset({FailureCode.EMPTY_DOCUMENT}),
    "reject: type": frozenset({FailureCode.UNSUPPORTED_TYPE}),
    "reject: type or ok": frozenset({FailureCode.UNSUPPORTED_TYPE, None}),
    "reject: mismatch": frozenset({FailureCode.TYPE_MISMATCH}),
}


def manifest() -> dict[str, dict[str, str]]:
    if not _FOLDER.is_dir():
        return {}
    with (_FOLDER / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def expected_text(path: Path) -> str:
    """The words of a truth, without the marks of the format that it is written in."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        return re.sub(r"<title>.*?</title>|<[^>]+>", " ", text, flags=re.DOTALL)
    if path.suffix == ".tex":
        body = re.split(r"\\begin\{document\}|\\end\{document\}", text)[1]
        body = re.sub(r"(?<!\\)%.*", "", body)
        body = re.sub(r"\\(?:begin|end)\{[^}]*\}(?:\[[^]]*\])?(?:\{[lcr]*\})?|\\lipsum\[[^]]*\]", " ", body)
        return re.sub(r"\\(?:author|title|date|caption|textbf|textsuperscript|\w+)", " ", body)
    text = re.sub(r"<!--.*?-->", " ", text, flags=re.DOTALL)
    return without_overlap(re.sub(r"\\([_*#|&])", r"\1", text))


def without_overlap(text: str) -> str:
    """Some truths are chunks, each of which begins with the end of the one before."""
    lines: list[str] = []
    for line in text.split("\n"):
        before = lines[-1] if lines else ""
        repeated = next(
            (size for size in range(min(len(line), len(before)), 9, -1) if before.endswith(line[:size])), 0
        )
        lines.append(line[repeated:] if repeated < len(line) else line)
    return "\n".join(lines)


async def check(row: dict[str, str]) -> str:
    """What is to be said of the file."""
    path = _FOLDER / "files" / row["file"]
    code: FailureCode | None = None
    document: ParsedDocument | None = None
    try:
        document = await parse_file(path, filename=row["file"], limits=_LIMITS)
    except ParseFailed as failure:
        code = failure.code
    assert code in _ENDS[row["expected"]], f"{row['file']} ended {code or 'read'}, not {row['expected']}"
    if document is None:
        return f"{row['file']:60} {code}"
    text = "\n".join(page.text for page in document.pages)
    if row["expected"] == "ok, flag":
        assert "hidden_text" in [warning.code for warning in document.warnings]
    if row["expected"] == "ok, no script text":
        assert not re.search(r"function ?\(|var \w+ ?=|\{[^}]*:[^}]*;\s*\}", text)
    if not row["truth"]:
        return f"{row['file']:60} {len(document.pages)} pages, {len(text):,} characters"
    share = share_in_order(expected_text(_FOLDER / "truth" / row["truth"]), text)
    assert share >= _LEAST_IN_ORDER, f"{row['file']}: {share:.3f} of the words in order"
    return f"{row['file']:60} {share:.3f} of the words in order"


@pytest.mark.parametrize("name", _QUICK)
async def test_a_real_file_ends_as_it_should(name: str) -> None:
    print(await check(manifest()[name]))


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_real_file_ends_as_it_should() -> None:
    for row in manifest().values():
        print(await check(row), flush=True)


def test_every_expectation_is_known() -> None:
    assert {row["expected"] for row in manifest().values()} <= _ENDS.keys()
