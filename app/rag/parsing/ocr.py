"""Pictures of text to text, by the program Tesseract where it is installed."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from app.rag.parsing import confinement
from app.rag.parsing.answer import Answer, Job
from app.rag.parsing.model import Box, FailureCode, PageBoxes, ParseFailed, ParseLimits
from app.rag.parsing.pdf_text import PageText

_POINTS_PER_INCH: Final = 72
_DOTS_PER_INCH: Final = 300
_MOST_PIXELS: Final = 40_000_000
_LEAST_CONFIDENCE: Final = 30
_PAGE_SECONDS: Final = 120
_LANGUAGES: Final = 4
_COLUMNS: Final = 12


@dataclass(frozen=True, slots=True)
class _Word:
    page: int
    block: int
    paragraph: int
    line: int
    box: tuple[int, int, int, int]
    text: str


def parse(job: Job, answer: Answer) -> None:
    """A picture, or the pages of a TIFF."""
    if job.limits.tesseract is None:
        raise ParseFailed(FailureCode.NEEDS_OCR)
    answer.page_kind = "page"
    answer.needs_longer()
    confinement.use_all_cpu_seconds()
    found = False
    for text in _recognise(job.read(), job.limits, dots_per_inch=_POINTS_PER_INCH):
        found = found or bool(text.text)
        answer.page(text.text, boxes=PageBoxes(text.width, text.height, text.lines))
    if not found:
        raise ParseFailed(FailureCode.OCR_FAILED)
    answer.warn("ocr", "The text was recognised from pictures; it may have mistakes.")


def read_pdf_page(page: Any, limits: ParseLimits) -> PageText:
    """What is written on the picture of a page of pdfium."""
    width, height = page.get_size()
    scale = _DOTS_PER_INCH / _POINTS_PER_INCH
    if width * height * scale * scale > _MOST_PIXELS:
        scale = (_MOST_PIXELS / (width * height)) ** 0.5
    bitmap = page.render(scale=scale, grayscale=True)
    rows = bytes(bitmap.buffer)
    if bitmap.stride != bitmap.width:
        rows = b"".join(
            rows[at : at + bitmap.width] for at in range(0, bitmap.stride * bitmap.height, bitmap.stride)
        )
    picture = b"P5 %d %d 255\n" % (bitmap.width, bitmap.height) + rows[: bitmap.width * bitmap.height]
    bitmap.close()
    pages = list(_recognise(picture, limits, dots_per_inch=scale * _POINTS_PER_INCH))
    return pages[0] if pages else PageText("", ())


def _recognise(picture: bytes, limits: ParseLimits, *, dots_per_inch: float) -> Iterator[PageText]:
    program = str(limits.tesseract)
    languages = limits.ocr_languages or _installed_languages(program)
    settings = ["-l", languages, "--dpi", str(round(max(dots_per_inch, 70))), "-c", "tessedit_create_tsv=1"]
    try:
        done = subprocess.run(  # noqa: S603 (the operator's program; nothing of the file is in its arguments)
            [program, "stdin", "stdout", *settings],
            input=picture,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PAGE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ParseFailed(FailureCode.PARSER_TIMEOUT, "OCR of a page of this file takes too long.") from None
    except OSError:
        raise ParseFailed(FailureCode.NEEDS_OCR, retryable=True) from None
    if done.returncode != 0:
        raise ParseFailed(FailureCode.CORRUPT, "OCR can't read this picture: it is damaged, or too large.")
    yield from _pages(done.stdout.decode("utf-8", "replace"), scale=_POINTS_PER_INCH / dots_per_inch)


def _installed_languages(program: str) -> str:
    """The languages that Tesseract has, English first; every one makes it slower, so only a few."""
    listed = subprocess.run([program, "--list-langs"], capture_output=True, timeout=20, check=False)  # noqa: S603
    names = [name for name in listed.stdout.decode("utf-8", "replace").split("\n")[1:] if name.strip()]
    useful = sorted(
        (name for name in names if name not in ("osd", "equ")), key=lambda name: (name != "eng", name)
    )
    return "+".join(useful[:_LANGUAGES]) or "eng"


def _pages(table: str, *, scale: float) -> Iterator[PageText]:
    """The pages of Tesseract's table: level, page, block, paragraph, line, word, left, top, width, height, confidence, text."""
    sizes: dict[int, tuple[int, int]] = {}
    words: dict[int, list[_Word]] = {}
    for row in table.split("\n")[1:]:
        cells = row.split("\t", _COLUMNS - 1)
        if len(cells) < _COLUMNS:
            continue
        level, page, block, paragraph, line, _, left, top, width, height = map(int, cells[:10])
        if level == 1:
            sizes[page] = (width, height)
        elif cells[11].strip() and float(cells[10]) >= _LEAST_CONFIDENCE:
            box = (left, top, left + width, top + height)
            words.setdefault(page, []).append(_Word(page, block, paragraph, line, box, cells[11].strip()))
    for page, (width, height) in sorted(sizes.items()):
        text, boxes = _put_together(words.get(page, []), scale)
        yield PageText(text, boxes, round(width * scale, 1), round(height * scale, 1))


def _put_together(words: list[_Word], scale: float) -> tuple[str, tuple[Box, ...]]:
    pieces: list[str] = []
    boxes: list[Box] = []
    length = 0
    before: _Word | None = None
    for word in words:
        same_paragraph = before is not None and (word.block, word.paragraph) == (
            before.block,
            before.paragraph,
        )
        same_line = same_paragraph and before is not None and word.line == before.line
        gap = "" if before is None else " " if same_line else "\n" if same_paragraph else "\n\n"
        start = length + len(gap)
        length = start + len(word.text)
        pieces += [gap, word.text]
        sides = tuple(round(side * scale, 1) for side in word.box)
        if same_line:
            first, _, x0, y0, x1, y1 = boxes[-1]
            box = (first, length, min(x0, sides[0]), min(y0, sides[1]), max(x1, sides[2]), max(y1, sides[3]))
            boxes[-1] = box
        else:
            boxes.append((start, length, sides[0], sides[1], sides[2], sides[3]))
        before = word
    return "".join(pieces), tuple(boxes)
