"""PDF: the text of each page with the place of each line on the paper; pictures of text by OCR where there is a program for it.

pdfium reads ten times as fast as pypdf and knows the boxes; pypdf reads some files that pdfium refuses, or that kill it.
"""

import ctypes
import io
import re
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pypdfium2 as pdfium
from pypdfium2 import raw

from app.rag.parsing import confinement
from app.rag.parsing.answer import Answer, Job
from app.rag.parsing.model import FailureCode, PageBoxes, ParseFailed
from app.rag.parsing.pdf_text import PageText, Words, read_page

if TYPE_CHECKING:
    from pypdf import PdfReader

_PROGRESS_PAGES: Final = 10
_SCAN_CHARACTERS: Final = 12
"""A page with fewer letters and digits, and a picture, is a scan: the rest is a stamp or a page number."""
_OBJECTS: Final = 2_000
_DECORATION: Final = 20
_RECOGNISED: Final = "The text of some pages was recognised from pictures; it may have mistakes."
_USELESS_TITLE: Final = re.compile(
    r"^(?:untitled|document\d*|.*\.(?:docx?|pptx?|xlsx?|indd|qxd|tex|dvi|pdf|jpe?g|png|tiff?)|\W*)$",
    re.IGNORECASE,
)
_DATE: Final = re.compile(r"D:(\d{4})(\d{2})(\d{2})")
_VISIBLE: Final = re.compile(r"\w")


def parse(job: Job, answer: Answer) -> None:
    answer.page_kind = "page"
    if job.engine != "pypdf":
        try:
            document = pdfium.PdfDocument(job.path if job.content is None else job.content)
        except pdfium.PdfiumError as error:
            if error.err_code == raw.FPDF_ERR_PASSWORD:
                raise ParseFailed(FailureCode.ENCRYPTED) from None
        else:
            with closing(document):
                _read_with_pdfium(document, job, answer)
            return
    _read_with_pypdf(job, answer)


def _read_with_pdfium(document: Any, job: Job, answer: Answer) -> None:
    count = len(document)
    if count > job.limits.pages:
        raise ParseFailed(FailureCode.TOO_LARGE)
    _add_properties(answer, document.get_metadata_dict())
    words = Words()
    scans: list[int] = []
    texts: list[PageText] = []
    unreadable = 0
    for index in range(count):
        try:
            page = document[index]
        except pdfium.PdfiumError:
            unreadable += 1
            answer.warn("page_unreadable", "Some pages are damaged and have no text here.", page=index + 1)
            texts.append(PageText("", ()))
            continue
        with closing(page):
            text = read_page(page, words)
            letters = _letters(text.text)
            if text.has_hidden:
                _warn_of_hidden(answer, page, index + 1)
            if letters < _SCAN_CHARACTERS and _has_picture(page, letters=letters):
                scans.append(index)
            texts.append(text)
        if index % _PROGRESS_PAGES == 0:
            answer.progress(index, count)
    if unreadable == count:
        raise ParseFailed(FailureCode.CORRUPT)
    if scans:
        _read_scans(document, scans, texts, job, answer)
    for text in texts:
        answer.page(text.text, boxes=PageBoxes(text.width, text.height, text.lines) if text.lines else None)


def _warn_of_hidden(answer: Answer, page: Any, number: int) -> None:
    if _is_scan(page):
        answer.warn("ocr", _RECOGNISED, page=number)
    else:
        answer.warn(
            "hidden_text", "Some text is invisible on the page; it was read all the same.", page=number
        )


def _read_scans(document: Any, scans: list[int], texts: list[PageText], job: Job, answer: Answer) -> None:
    """Replace the texts of scanned pages by what OCR finds; without OCR say which pages they are."""
    seen = sum(_letters(text.text) for index, text in enumerate(texts) if index not in set(scans))
    if job.limits.tesseract is None:
        if not seen:
            raise ParseFailed(FailureCode.NEEDS_OCR)
        for index in scans:
            answer.warn(
                "needs_ocr", "Some pages are pictures of text; reading those needs OCR.", page=index + 1
            )
        return
    # Loaded where there is a scan: most files have none.
    from app.rag.parsing import ocr

    answer.needs_longer()
    confinement.use_all_cpu_seconds()
    found = 0
    for place, index in enumerate(scans):
        with closing(document[index]) as page:
            recognised = ocr.read_pdf_page(page, job.limits)
        found += _letters(recognised.text)
        if recognised.text:
            texts[index] = recognised
            answer.warn("ocr", _RECOGNISED, page=index + 1)
        answer.progress(place, len(scans))
    if not seen and not found:
        raise ParseFailed(FailureCode.OCR_FAILED)


def _letters(text: str) -> int:
    return sum(1 for _ in _VISIBLE.finditer(text[:10_000]))


def _has_picture(page: Any, *, letters: int) -> bool:
    """Whether what is to be read on the page may be drawn; a few lines are decoration."""
    kinds = [raw.FPDFPageObj_GetType(drawn) for drawn in _drawn(page)]
    if any(kind in (raw.FPDF_PAGEOBJ_IMAGE, raw.FPDF_PAGEOBJ_FORM) for kind in kinds):
        return True
    return not letters and kinds.count(raw.FPDF_PAGEOBJ_PATH) > _DECORATION


def _is_scan(page: Any) -> bool:
    """Whether a picture covers most of the page: invisible text on it is what a scanner recognised."""
    width, height = page.get_size()
    for drawn in _drawn(page):
        if raw.FPDFPageObj_GetType(drawn) == raw.FPDF_PAGEOBJ_IMAGE:
            left, bottom, right, top = (ctypes.c_float() for _ in range(4))
            raw.FPDFPageObj_GetBounds(drawn, *map(ctypes.byref, (left, bottom, right, top)))
            if (right.value - left.value) * (top.value - bottom.value) > width * height / 2:
                return True
    return False


def _drawn(page: Any) -> Iterator[Any]:
    """The first objects of a page."""
    for number in range(min(raw.FPDFPage_CountObjects(page.raw), _OBJECTS)):
        yield raw.FPDFPage_GetObject(page.raw, number)


def _add_properties(answer: Answer, properties: dict[str, str]) -> None:
    title = " ".join((properties.get("Title") or "").replace("Microsoft Word - ", "").split())
    if not _USELESS_TITLE.match(title):
        answer.title = title
    answer.add(
        author=properties.get("Author"),
        subject=properties.get("Subject"),
        keywords=properties.get("Keywords"),
        created=_date(properties.get("CreationDate") or ""),
    )


def _date(written: str) -> str | None:
    """`D:20171211093519-06'00'` as `2017-12-11`: the day is what people ask for."""
    found = _DATE.match(written)
    return "-".join(found.groups()) if found is not None else None


def _read_with_pypdf(job: Job, answer: Answer) -> None:
    """Page by page, without boxes. Raises ParseFailed where nothing of the file can be read."""
    # Loaded where pdfium gave up: few files come here.
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        reader = PdfReader(job.path if job.content is None else io.BytesIO(job.content), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise ParseFailed(FailureCode.ENCRYPTED)
        count = len(reader.pages)
        texts = list(_texts(reader, answer))
    except (
        PyPdfError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        NotImplementedError,
        OSError,
    ):
        raise ParseFailed(FailureCode.CORRUPT) from None
    if not count or (not any(text.strip() for text in texts) and answer.has_warned("page_unreadable")):
        raise ParseFailed(FailureCode.CORRUPT)
    if sum(map(_letters, texts)) == 0:
        raise ParseFailed(FailureCode.NEEDS_OCR if _has_pictures(reader) else FailureCode.EMPTY_DOCUMENT)
    answer.warn("repaired", "The file is damaged; what could be read of it was read.")
    for text in texts:
        answer.page(text)


def _texts(reader: "PdfReader", answer: Answer) -> Iterator[str]:
    for number, page in enumerate(reader.pages, start=1):
        try:
            yield page.extract_text()
        except Exception:  # pypdf raises anything for a damaged page; the gap is told
            answer.warn("page_unreadable", "Some pages are damaged and have no text here.", page=number)
            yield ""


def _has_pictures(reader: "PdfReader") -> bool:
    try:
        return any("/XObject" in (page.get("/Resources") or {}) for page in reader.pages)
    except Exception:  # of a damaged file pypdf raises anything; then nobody can say that it has pictures
        return False
