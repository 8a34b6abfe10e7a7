"""Reading files in the fenced child: pages and megabytes a second, chunks included, and what memory the child takes."""

import asyncio
import io
import random
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.rag import chunking
from app.rag.parsing.fence import parse_file
from app.rag.parsing.model import MEBIBYTE, ParsedDocument, ParseLimits
from benchmarks.processes import workspace
from benchmarks.report import Details, Figure, Report, percentile

_PAGES: Final = 100
_LINES: Final = 46
_WORDS: Final = "meter phase current load energy factory tariff reading interval report voltage panel sensor alarm threshold".split()


@dataclass(frozen=True, slots=True)
class Sample:
    """The best of some rounds: other work on the machine only ever adds."""

    name: str
    megabytes: float
    parse_seconds: float
    whole_seconds: float
    pages: int
    memory_mb: float


def run(*, quick: bool) -> Report:
    rounds = 2 if quick else 5
    report = Report("parsing")
    table = Details(
        "Each file in a child of its own; parse alone, and with its chunks",
        ("file", "MB", "pages", "parse s", "with chunks s", "MB/s", "child MB"),
    )
    report.details.append(table)
    with workspace() as folder:
        samples = {
            name: asyncio.run(_measure(folder, name, make(), rounds))
            for name, make in _files(quick=quick).items()
        }
        tiny = asyncio.run(_many(folder, 20 if quick else 60))
    for sample in samples.values():
        table.rows.append(
            (
                sample.name,
                sample.megabytes,
                sample.pages,
                sample.parse_seconds,
                sample.whole_seconds,
                sample.megabytes / sample.whole_seconds,
                sample.memory_mb,
            )
        )
    paper = samples["paper.pdf"]
    report.figures.extend(
        [
            Figure(f"{_PAGES}-page PDF, parsed", paper.pages / paper.parse_seconds, "pages/s"),
            Figure(
                f"{_PAGES}-page PDF, parsed and chunked",
                paper.pages / paper.whole_seconds,
                "pages/s",
                at_least=60,
            ),
            Figure(
                "text, parsed",
                samples["long.txt"].megabytes / samples["long.txt"].parse_seconds,
                "MB/s",
                at_least=4,
            ),
            Figure(
                "most memory of a child",
                max(sample.memory_mb for sample in samples.values()),
                "MB",
                at_most=1536,
            ),
            Figure("a file of one line, p50", percentile(tiny, 50) * 1000, "ms"),
        ]
    )
    return report


async def _measure(folder: Path, name: str, content: bytes, rounds: int) -> Sample:
    path = folder / name
    path.write_bytes(content)
    parse_seconds = whole_seconds = float("inf")
    document: ParsedDocument | None = None
    for _ in range(rounds):
        started = time.perf_counter()
        document = await parse_file(path, filename=name, limits=ParseLimits(tesseract=None))
        parsed = time.perf_counter()
        pages = [chunking.Page(page.number, page.text) for page in document.pages]
        await asyncio.to_thread(chunking.split, pages, size_tokens=256, overlap_tokens=32)
        parse_seconds = min(parse_seconds, parsed - started)
        whole_seconds = min(whole_seconds, time.perf_counter() - started)
    assert document is not None
    return Sample(
        name=name,
        megabytes=len(content) / 1e6,
        parse_seconds=parse_seconds,
        whole_seconds=whole_seconds,
        pages=len(document.pages),
        memory_mb=document.peak_memory_bytes / MEBIBYTE,
    )


async def _many(folder: Path, count: int) -> list[float]:
    path = folder / "tiny.txt"
    path.write_text("One line of text.")
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        await parse_file(path, filename="tiny.txt", limits=ParseLimits(tesseract=None))
        seconds.append(time.perf_counter() - started)
    return seconds


def _files(*, quick: bool) -> dict[str, Callable[[], bytes]]:
    megabytes = 2 if quick else 20
    return {
        "paper.pdf": _pdf,
        "long.txt": lambda: _prose(megabytes * 1_000_000).encode(),
        "page.html": _html,
        "report.docx": _docx,
        "table.csv": lambda: _table(megabytes * 100_000).encode(),
    }


def _prose(size: int) -> str:
    chance = random.Random(7)
    sentences = []
    length = 0
    while length < size:
        words = " ".join(chance.choices(_WORDS, k=chance.randint(6, 16)))
        sentence = f"{words.capitalize()}.{chr(10) * 2 if chance.random() < 0.2 else ' '}"
        sentences.append(sentence)
        length += len(sentence)
    return "".join(sentences)


def _table(size: int) -> str:
    chance = random.Random(7)
    rows = ["Meter;Phase;Current;Remark"]
    rows += [
        f"M{number};L{number % 3};{chance.random() * 9:.2f};{chance.choice(_WORDS)}"
        for number in range(size // 20)
    ]
    return "\n".join(rows)


def _pdf() -> bytes:
    """Dense pages of text, each with its content compressed by nothing, as the slowest to find characters in."""
    chance = random.Random(7)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>"
        % (_PAGES, b" ".join(b"%d 0 R" % (4 + 2 * number) for number in range(_PAGES))),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number in range(_PAGES):
        lines = (" ".join(chance.choices(_WORDS, k=11)) for _ in range(_LINES))
        content = "BT /F 11 Tf 60 740 Td " + "".join(f"({line}) Tj 0 -15 Td " for line in lines) + "ET"
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R /Resources << /Font << /F 3 0 R >> >> >>"
            % (5 + 2 * number)
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content.encode()))
    found = bytearray(b"%PDF-1.7\n")
    places = []
    for place, body in enumerate(objects, start=1):
        places.append(len(found))
        found += b"%d 0 obj\n%s\nendobj\n" % (place, body)
    table = len(found)
    found += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    found += b"".join(b"%010d 00000 n \n" % place for place in places)
    found += b"trailer\n<< /Root 1 0 R /Size %d >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(found)


def _html() -> bytes:
    paragraphs = "".join(f"<p>{text}</p>" for text in _prose(1_000_000).split("\n\n"))
    return f"<html><body>{paragraphs}</body></html>".encode()


def _docx() -> bytes:
    main = "http://schemas.openxmlformats.org"
    paragraphs = "".join(
        f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in _prose(1_000_000).split("\n\n")
    )
    document = (
        f'<w:document xmlns:w="{main}/wordprocessingml/2006/main"><w:body>{paragraphs}</w:body></w:document>'
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{main}/package/2006/relationships"><Relationship Id="a" Target="word/document.xml"'
            f' Type="{main}/officeDocument/2006/relationships/officeDocument"/></Relationships>',
        )
        archive.writestr("word/document.xml", document)
    return buffer.getvalue()
