"""Office files: a ZIP archive of XML parts that point at each other, opened with suspicion."""

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from lxml import etree

from app.rag.parsing.answer import Answer, Job
from app.rag.parsing.model import FailureCode, ParseFailed

_ENTRIES: Final = 50_000
_RATIO: Final = 150
_RATIO_COUNTS_FROM_BYTES: Final = 50_000_000
_ENCRYPTED_FLAG: Final = 1
_ENTITIES: Final = (b"<!DOCTYPE", b"<!ENTITY")

W: Final = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
A: Final = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
P: Final = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
S: Final = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
C: Final = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
R: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
MC: Final = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
DGM: Final = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
_STRICT: Final = (
    (
        b"http://purl.oclc.org/ooxml/officeDocument/",
        b"http://schemas.openxmlformats.org/officeDocument/2006/",
    ),
    (
        b"http://purl.oclc.org/ooxml/wordprocessingml/",
        b"http://schemas.openxmlformats.org/wordprocessingml/2006/",
    ),
    (
        b"http://purl.oclc.org/ooxml/presentationml/",
        b"http://schemas.openxmlformats.org/presentationml/2006/",
    ),
    (b"http://purl.oclc.org/ooxml/spreadsheetml/", b"http://schemas.openxmlformats.org/spreadsheetml/2006/"),
    (b"http://purl.oclc.org/ooxml/drawingml/", b"http://schemas.openxmlformats.org/drawingml/2006/"),
)
"""The namespaces of files saved as "Strict Open XML", and those that everybody else writes."""


@dataclass(frozen=True, slots=True)
class Relation:
    """What a part points at: the last word of the relation's type, and the name of the other part."""

    kind: str
    target: str


class Package:
    """The parts of an office file. Raises ParseFailed for archives that are damaged, locked, or unpack to too much."""

    def __init__(self, job: Job) -> None:
        source: Any = job.path if job.content is None else io.BytesIO(job.content)
        try:
            self._archive = zipfile.ZipFile(source)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
            # zipfile's NotImplementedError: the archive claims a version or a method that no office program writes.
            raise ParseFailed(FailureCode.CORRUPT) from None
        entries = self._archive.infolist()
        self._sizes = {entry.filename: entry.file_size for entry in entries}
        self._left_bytes = job.limits.unpacked_bytes
        packed = sum(entry.compress_size for entry in entries)
        unpacked = sum(self._sizes.values())
        if len(entries) > _ENTRIES or (unpacked > _RATIO_COUNTS_FROM_BYTES and unpacked > _RATIO * packed):
            raise ParseFailed(FailureCode.BOMB)
        if any(entry.flag_bits & _ENCRYPTED_FLAG for entry in entries):
            raise ParseFailed(FailureCode.ENCRYPTED)

    def has(self, part: str) -> bool:
        return part in self._sizes

    def read(self, part: str) -> bytes:
        """The bytes of a part. Raises ParseFailed when it is missing, damaged, or the parts together are too large."""
        if self._sizes.get(part, 0) > self._left_bytes:
            raise ParseFailed(FailureCode.BOMB)
        try:
            with self._archive.open(part) as opened:
                content = opened.read(self._left_bytes + 1)
        except (
            KeyError,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
            OSError,
            ValueError,
        ):
            raise ParseFailed(FailureCode.CORRUPT) from None
        self._left_bytes -= len(content)
        if self._left_bytes < 0:
            raise ParseFailed(FailureCode.BOMB)
        return content

    def xml(self, part: str) -> Any:
        """The root element of a part."""
        return parse_xml(self.read(part))

    def optional_xml(self, part: str | None) -> Any | None:
        """The root element of a part that a file can do without, or None where it is missing or damaged."""
        if part is None or not self.has(part):
            return None
        try:
            return self.xml(part)
        except ParseFailed as failure:
            if failure.code is FailureCode.CORRUPT:
                return None
            raise

    def relations(self, part: str) -> dict[str, Relation]:
        """What a part points at, by id; nothing outside of the file."""
        folder, name = posixpath.split(part)
        root = self.optional_xml(posixpath.join(folder, "_rels", f"{name}.rels"))
        found: dict[str, Relation] = {}
        for relation in root if root is not None else ():
            target, kind = relation.get("Target") or "", relation.get("Type") or ""
            if relation.get("TargetMode") == "External" or not target:
                continue
            path = (
                target.lstrip("/")
                if target.startswith("/")
                else posixpath.normpath(posixpath.join(folder, target))
            )
            found[relation.get("Id") or ""] = Relation(kind.rpartition("/")[2], path)
        return found

    def main_part(self, fallback: str) -> str:
        """The part that the package is about."""
        targets = [
            relation.target for relation in self.relations("").values() if relation.kind == "officeDocument"
        ]
        part = next((target for target in targets if self.has(target)), fallback)
        if not self.has(part):
            raise ParseFailed(FailureCode.CORRUPT)
        return part

    def add_properties(self, answer: Answer) -> None:
        """Title, author and dates, as the application wrote them."""
        root = self.optional_xml("docProps/core.xml")
        if root is None:
            return
        found = {
            etree.QName(element).localname: element.text or ""
            for element in root
            if isinstance(element.tag, str)
        }
        answer.title = found.get("title", "").strip() or None
        answer.add(
            author=found.get("creator"),
            subject=found.get("subject"),
            keywords=found.get("keywords"),
            created=found.get("created", "")[:10],
            modified=found.get("modified", "")[:10],
        )


def checked_xml(content: bytes) -> bytes:
    """An XML text without a document type (entities are what bombs and thefts are made of), in the usual namespaces."""
    plain = content.replace(b"\0", b"") if content[:4].count(0) else content
    if any(mark in plain for mark in _ENTITIES):
        raise ParseFailed(
            FailureCode.BOMB, "This file defines entities of XML, which documents have no use for."
        )
    if b"http://purl.oclc.org/ooxml/" in content:
        for strict, usual in _STRICT:
            content = content.replace(strict, usual)
    return content


def parse_xml(content: bytes) -> Any:
    """The root of an XML text. Raises ParseFailed."""
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
        huge_tree=True,
    )
    try:
        return etree.fromstring(checked_xml(content), parser)
    except (etree.XMLSyntaxError, ValueError):
        raise ParseFailed(FailureCode.CORRUPT) from None


def chosen(element: Any) -> Iterator[Any]:
    """The children of an element; of alternatives for old and new applications the first that has any."""
    for child in element:
        if child.tag == f"{MC}AlternateContent":
            for alternative in child:
                if len(alternative):
                    yield from chosen(alternative)
                    break
        else:
            yield child


def chart_rows(root: Any) -> tuple[str, list[list[str]]]:
    """The title of a chart, with its kind, and the table that it was drawn from."""
    title = " ".join(text for element in root.iter(f"{C}title") for text in _words(element))
    kinds = [etree.QName(element).localname for element in root.iter() if isinstance(element.tag, str)]
    kind = next((name[:-5] for name in kinds if name.endswith("Chart") and name != "Chart"), "")
    columns: list[tuple[str, dict[int, str]]] = []
    labels: dict[int, str] = {}
    for series in root.iter(f"{C}ser"):
        name = " ".join(value.text or "" for value in series.iterfind(f"{C}tx//{C}v"))
        labels |= _points(series, "cat") or _points(series, "xVal")
        columns.append((name, _points(series, "val") or _points(series, "yVal")))
    places = sorted({place for _, values in columns for place in values} | set(labels))
    rows = [["", *(name for name, _ in columns)]]
    rows += [[labels.get(place, ""), *(values.get(place, "") for _, values in columns)] for place in places]
    kind_words = f"{kind.capitalize()} chart" if kind else "Chart"
    return (f"{title}\n{kind_words}" if title else kind_words), rows if columns else []


def _points(series: Any, name: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for point in series.iterfind(f"{C}{name}//{C}pt"):
        value = point.findtext(f"{C}v")
        if value is not None and (point.get("idx") or "").isdigit():
            found[int(point.get("idx"))] = shown_number(value)
    return found


def shown_number(written: str) -> str:
    """`0.10000000000000001` as `0.1`, `5.0` as `5`; whatever is no number as it is."""
    if not written[-1:].isdigit() or not set(written) <= set("0123456789.-+eE"):
        return written
    try:
        number = float(written)
    except ValueError:
        return written
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return repr(float(f"{number:.15g}")) if abs(number) < 1e308 else written


def _words(element: Any) -> Iterator[str]:
    for text in element.iter(f"{A}t", f"{C}v"):
        yield text.text or ""


def diagram_words(root: Any) -> list[str]:
    """The texts of a SmartArt diagram, one for each of its points."""
    found = ["".join(text.text or "" for text in point.iter(f"{A}t")) for point in root.iter(f"{DGM}pt")]
    return [text for text in found if text.strip()]
