"""Excel workbooks: the tables of each sheet, row by row with the names of their columns; charts and comments after them."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from lxml import etree

from app.rag.parsing import rows
from app.rag.parsing.answer import Answer, Job
from app.rag.parsing.cell_formats import Formats
from app.rag.parsing.docx import write_chart
from app.rag.parsing.flow import Flow
from app.rag.parsing.model import FailureCode, ParseFailed
from app.rag.parsing.office import C, Package, R, S, checked_xml, shown_number

_REFERENCE: Final = re.compile(r"^([A-Z]{1,3})(\d{1,7})$")
_CELLS: Final = 5_000_000
_MERGED_CELLS: Final = 10_000
_SPREADSHEET_DRAWING: Final = "{http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing}"


@dataclass(slots=True)
class _Sheet:
    """The values of a sheet by row and column, from 1, without the empty ones: the range in use may be a million times larger."""

    cells: dict[int, dict[int, str]] = field(default_factory=dict)
    merged: list[tuple[int, int, int, int]] = field(default_factory=list)


def parse(job: Job, answer: Answer) -> None:
    answer.page_kind = "sheet"
    package = Package(job)
    package.add_properties(answer)
    part = package.main_part("xl/workbook.xml")
    relations = package.relations(part)
    workbook = package.xml(part)
    targets = {relation.kind: relation.target for relation in relations.values()}
    strings = _shared_strings(package, targets.get("sharedStrings"))
    formats = Formats(package.optional_xml(targets.get("styles")), from_1904=_is_from_1904(workbook))
    sheets = list(workbook.iter(f"{S}sheet"))
    budget = [_CELLS]
    for number, sheet in enumerate(sheets, start=1):
        relation = relations.get(sheet.get(f"{R}id") or "")
        name = sheet.get("name") or f"Sheet {number}"
        if relation is None or not package.has(relation.target):
            continue
        flow_text = _sheet_text(package, relation.target, strings, formats, budget)
        if flow_text:
            answer.text(f"{name}\n\n{flow_text}", label=name)
        if sheet.get("state") in ("hidden", "veryHidden") and flow_text:
            answer.warn("hidden_sheet", "Some sheets are hidden in Excel; they were read all the same.")
        answer.progress(number, len(sheets))


def _sheet_text(package: Package, part: str, strings: list[str], formats: Formats, budget: list[int]) -> str:
    sheet = _read_sheet(package.read(part), strings, formats, budget)
    _repeat_merged(sheet)
    blocks = ["\n".join(rows.table_lines(table[:50], table[50:])[1]) for table in _tables(sheet)]
    relations = package.relations(part)
    for relation in relations.values():
        if relation.kind == "drawing":
            blocks.append(_drawing_text(package, relation.target))
        elif relation.kind == "comments":
            blocks.append(_comments_text(package, relation.target))
    return "\n\n".join(block for block in blocks if block)


def _is_from_1904(workbook: Any) -> bool:
    properties = workbook.find(f"{S}workbookPr")
    return properties is not None and properties.get("date1904") in ("1", "true")


def _shared_strings(package: Package, part: str | None) -> list[str]:
    if part is None or not package.has(part):
        return []
    found = []
    for item in _elements(package.read(part), "si"):
        found.append(_string(item))
        _forget(item)
    return found


def _string(item: Any) -> str:
    """The text of its runs, without the reading aids of East Asian texts."""
    return "".join(
        text.text or ""
        for text in item.iter(f"{S}t")
        if (parent := text.getparent()) is None or parent.tag != f"{S}rPh"
    )


def _elements(content: bytes, *names: str) -> Iterator[Any]:
    """Elements of a large part, one after the other. Raises ParseFailed when it is damaged."""
    tags = [f"{S}{name}" for name in names]
    try:
        for _, element in etree.iterparse(
            io.BytesIO(checked_xml(content)),
            tag=tags,
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=True,
        ):
            yield element
    except etree.XMLSyntaxError:
        raise ParseFailed(FailureCode.CORRUPT) from None


def _forget(element: Any) -> None:
    element.clear()
    while element.getprevious() is not None:
        del element.getparent()[0]


def _read_sheet(content: bytes, strings: list[str], formats: Formats, budget: list[int]) -> _Sheet:
    sheet = _Sheet()
    row_number = 0
    for element in _elements(content, "row", "mergeCell"):
        if element.tag == f"{S}mergeCell":
            first, _, last = (element.get("ref") or "").partition(":")
            start, end = _place(first), _place(last)
            if start is not None and end is not None:
                sheet.merged.append((*start, *end))
            continue
        given = element.get("r") or ""
        row_number = int(given) if given.isdigit() else row_number + 1
        values: dict[int, str] = {}
        column = 0
        for cell in element.iterfind(f"{S}c"):
            place = _place(cell.get("r") or "")
            column = place[1] if place is not None else column + 1
            if text := _cell_text(cell, strings, formats):
                values[column] = text
        if values:
            sheet.cells[row_number] = values
            budget[0] -= len(values)
            if budget[0] < 0:
                raise ParseFailed(FailureCode.TOO_LARGE)
        _forget(element)
    return sheet


def _place(reference: str) -> tuple[int, int] | None:
    """Row and column of `B12`."""
    match = _REFERENCE.match(reference)
    if match is None:
        return None
    column = 0
    for letter in match[1]:
        column = column * 26 + ord(letter) - ord("A") + 1
    return int(match[2]), column


def _cell_text(cell: Any, strings: list[str], formats: Formats) -> str:
    kind = cell.get("t") or "n"
    if kind == "inlineStr":
        return _string(cell).strip()
    value = cell.findtext(f"{S}v")
    if value is None:
        formula = cell.findtext(f"{S}f")
        return f"={formula}" if formula else ""
    value = str(value)
    if kind == "s":
        return strings[int(value)].strip() if value.isdigit() and int(value) < len(strings) else ""
    if kind == "b":
        return "TRUE" if value == "1" else "FALSE"
    if kind == "n":
        return formats.shown(value, style=cell.get("s") or "") or shown_number(value)
    return value.strip()


def _repeat_merged(sheet: _Sheet) -> None:
    """The value of merged cells belongs to all of them."""
    left = _MERGED_CELLS
    for top, first, bottom, last in sheet.merged:
        text = sheet.cells.get(top, {}).get(first)
        left -= (bottom - top + 1) * (last - first + 1)
        if text is None or left < 0 or bottom < top or last < first:
            continue
        for row in range(top, bottom + 1):
            for column in range(first, last + 1):
                sheet.cells.setdefault(row, {}).setdefault(column, text)


def _tables(sheet: _Sheet) -> Iterator[list[list[str]]]:
    """What blank rows part, and within that what blank columns part: tables side by side are tables of their own."""
    numbers = sorted(sheet.cells)
    starts = [
        0,
        *(place + 1 for place, (above, below) in enumerate(pairwise(numbers)) if below > above + 1),
        len(numbers),
    ]
    for start, end in pairwise(starts):
        band = [sheet.cells[number] for number in numbers[start:end]]
        columns = sorted({column for row in band for column in row})
        for group in _groups(columns):
            table = [[row.get(column, "") for column in group] for row in band]
            yield [row for row in table if any(row)]


def _groups(columns: list[int]) -> list[list[int]]:
    """Runs of columns, unless one would be a single column: those are a table's with a column left free."""
    runs: list[list[int]] = []
    for column in columns:
        if runs and column == runs[-1][-1] + 1:
            runs[-1].append(column)
        else:
            runs.append([column])
    return runs if all(len(run) > 1 for run in runs) else [columns]


def _drawing_text(package: Package, part: str) -> str:
    root = package.optional_xml(part)
    if root is None:
        return ""
    relations = package.relations(part)
    flow = Flow()
    for chart in root.iter(f"{C}chart"):
        write_chart(flow, package, relations.get(chart.get(f"{R}id") or ""))
    for shape in root.iter(f"{_SPREADSHEET_DRAWING}sp"):
        flow.paragraph()
        for text in shape.iter("{http://schemas.openxmlformats.org/drawingml/2006/main}p"):
            flow.words(
                "".join(
                    run.text or ""
                    for run in text.iter("{http://schemas.openxmlformats.org/drawingml/2006/main}t")
                )
            )
            flow.line()
    flow.finish()
    return flow.text


def _comments_text(package: Package, part: str) -> str:
    root = package.optional_xml(part)
    comments = root.iter(f"{S}comment") if root is not None else ()
    texts = ((comment.get("ref") or "a cell", rows.one_line(_string(comment))) for comment in comments)
    return "\n".join(f"Comment on {place}: {text}" for place, text in texts if text)
