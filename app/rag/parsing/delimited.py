"""CSV and its relatives: whatever the delimiter and the encoding, with the names of the columns at every row."""

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from app.rag.parsing import rows
from app.rag.parsing.answer import Answer, Job
from app.rag.parsing.model import Kind
from app.rag.parsing.plain import read_text

_DELIMITERS: Final = ",;\t|"
_SAMPLE_ROWS: Final = 50
_SAMPLE_CHARACTERS: Final = 100_000
_FIELD_CHARACTERS: Final = 50_000_000


def parse(job: Job, answer: Answer) -> None:
    text, encoding = read_text(job, answer)
    csv.field_size_limit(_FIELD_CHARACTERS)
    delimiter, text = _delimiter(text, preferred="\t" if job.kind is Kind.TSV else ",")
    table = _rows(text, delimiter)
    names, lines = rows.table_lines(list(islice(table, _SAMPLE_ROWS)), table)
    answer.add(encoding=encoding, columns=names[:100])
    answer.text("\n".join(lines))


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    """The rows; a quote that is never closed is a sign like any other."""
    strict = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    if text.count('"') % 2:
        strict = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=csv.QUOTE_NONE)
    return (row for row in strict if any(cell.strip() for cell in row))


def _delimiter(text: str, *, preferred: str) -> tuple[str, str]:
    """The delimiter that cuts most rows of the beginning into the same number of fields, and the text without Excel's word on it."""
    if text[:4].lower() == "sep=" and len(text) > 5:
        return text[4], text[5:].lstrip("\r\n")
    sample = text[:_SAMPLE_CHARACTERS]
    best, most = preferred, 0.0
    for delimiter in preferred + _DELIMITERS.replace(preferred, ""):
        found = list(islice(csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter), _SAMPLE_ROWS))
        if (score := _agreement([row for row in found if row])) > most:
            best, most = delimiter, score
    return best, text


def _agreement(table: Sequence[Sequence[str]]) -> float:
    widths = [len(row) for row in table]
    usual = max(set(widths), key=widths.count, default=1)
    return widths.count(usual) / len(widths) * (1 + min(usual, 20) / 100) if usual > 1 else 0.0
