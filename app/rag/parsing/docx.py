"""Word documents: paragraphs, lists with their numbers, tables, text boxes, notes, comments, headers and footers."""

import re
from typing import Any, Final

from app.rag.parsing.answer import Answer, Job
from app.rag.parsing.flow import Cell, Flow
from app.rag.parsing.numbering import Numbering
from app.rag.parsing.office import DGM, MC, C, Package, R, Relation, W, chart_rows, chosen, diagram_words

_SKIPPED: Final = frozenset(
    f"{W}{name}"
    for name in "del moveFrom instrText delText delInstrText pPr rPr sectPr tblPr tblGrid trPr tcPr sdtPr sdtEndPr".split()
)
_TRANSPARENT_BLOCKS: Final = frozenset(
    f"{W}{name}" for name in "sdt sdtContent ins moveTo customXml smartTag".split()
)
_STYLE_DEPTH: Final = 11
"""How many styles may be based on each other: no more in Word either."""
_HEADING_NAME: Final = re.compile(r"heading ([1-9])$", re.IGNORECASE)
_DOC_PROPERTIES: Final = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}docPr"
_NOTES: Final = (("footnotes", "footnote"), ("endnotes", "endnote"))


def parse(job: Job, answer: Answer) -> None:
    package = Package(job)
    package.add_properties(answer)
    document = _Document(package, package.main_part("word/document.xml"))
    flow = document.read()
    answer.text(flow.text, headings=flow.headings)
    if answer.title is None and document.title:
        answer.title = document.title
    elif answer.title is None and flow.headings:
        first = flow.headings[0]
        answer.title = flow.text[first.start : first.end]


class _Document:
    """One document while it is read."""

    def __init__(self, package: Package, part: str) -> None:
        self.title = ""
        self._package = package
        self._part = part
        self._relations = package.relations(part)
        self._flow = Flow()
        self._numbering = Numbering(package.optional_xml(self._target("numbering")))
        self._levels: dict[str, int] = {}
        """The level of the heading that each style is; 0 for the title."""
        self._style_numbers: dict[str, tuple[str, int]] = {}
        self._read_styles()

    def read(self) -> Flow:
        root = self._package.xml(self._part)
        body = root.find(f"{W}body")
        self._repeated("header")
        self._blocks(root if body is None else body, self._relations)
        for part, element in _NOTES:
            self._notes(part, element)
        self._comments()
        self._repeated("footer")
        self._flow.finish()
        return self._flow

    def _target(self, kind: str) -> str | None:
        return next((relation.target for relation in self._relations.values() if relation.kind == kind), None)

    def _read_styles(self) -> None:
        root = self._package.optional_xml(self._target("styles"))
        styles = (
            {style.get(f"{W}styleId"): style for style in root.iter(f"{W}style")} if root is not None else {}
        )
        for name in styles:
            place: str | None = name
            for _ in range(_STYLE_DEPTH):
                if place not in styles:
                    break
                self._read_style(str(name), styles[place])
                place = _value(styles[place], "basedOn")

    def _read_style(self, name: str, style: Any) -> None:
        shown = _value(style, "name") or ""
        if found := _HEADING_NAME.match(shown):
            self._levels.setdefault(name, int(found[1]))
        elif shown.lower() == "title":
            self._levels.setdefault(name, 0)
        properties = style.find(f"{W}pPr")
        if properties is None:
            return
        outline = _value(properties, "outlineLvl") or ""
        if outline.isdigit() and int(outline) < 9:
            self._levels.setdefault(name, int(outline) + 1)
        numbering = properties.find(f"{W}numPr")
        if numbering is not None and (number := _value(numbering, "numId")):
            level = _value(numbering, "ilvl") or "0"
            self._style_numbers.setdefault(name, (number, int(level) if level.isdigit() else 0))

    def _blocks(self, parent: Any, relations: dict[str, Relation]) -> None:
        for element in chosen(parent):
            if element.tag == f"{W}p":
                self._paragraph(element, relations)
            elif element.tag == f"{W}tbl":
                self._table(element, relations)
            elif element.tag in _TRANSPARENT_BLOCKS:
                self._blocks(element, relations)

    def _paragraph(self, paragraph: Any, relations: dict[str, Relation]) -> None:
        properties = paragraph.find(f"{W}pPr")
        style = (_value(properties, "pStyle") if properties is not None else None) or ""
        level = self._levels.get(style)
        if (
            properties is not None
            and (outline := _value(properties, "outlineLvl") or "").isdigit()
            and int(outline) < 9
        ):
            level = int(outline) + 1
        marker = self._marker(properties, style)
        boxes: list[Any] = []
        words = self._inline(paragraph, relations, boxes)
        if words.strip():
            if level is not None:
                self._flow.heading(max(level, 1))
                self.title = self.title or (words.strip() if level == 0 else "")
            elif marker:
                self._flow.line()
            else:
                self._flow.paragraph()
            if marker:
                self._flow.words(f"{marker} ")
            for number, line in enumerate(words.split("\n")):
                if number:
                    self._flow.line()
                self._flow.words(line)
            if level is not None:
                self._flow.end_heading()
            elif marker:
                self._flow.line()
            else:
                self._flow.paragraph()
        for box in boxes:
            self._box(box, relations)

    def _marker(self, properties: Any | None, style: str) -> str:
        numbering = properties.find(f"{W}numPr") if properties is not None else None
        number, level = self._style_numbers.get(style, ("", 0))
        if numbering is not None:
            number = _value(numbering, "numId") or number
            given = _value(numbering, "ilvl") or ""
            level = int(given) if given.isdigit() else level
        return self._numbering.marker(number, level) if number else ""

    def _inline(self, parent: Any, relations: dict[str, Relation], boxes: list[Any]) -> str:
        """The words of a paragraph; what floats beside it is left to `boxes`."""
        pieces: list[str] = []
        for element in chosen(parent):
            tag = element.tag
            if tag == f"{W}t":
                pieces.append(element.text or "")
            elif tag in _SKIPPED or (tag == f"{W}r" and _is_hidden(element)):
                continue
            elif tag in (f"{W}tab", f"{W}ptab"):
                pieces.append("\t")
            elif tag in (f"{W}br", f"{W}cr"):
                pieces.append("\n")
            elif tag == f"{W}noBreakHyphen":
                pieces.append("-")
            elif tag == f"{W}sym":
                pieces.append(_symbol(element))
            elif tag in (f"{W}footnoteReference", f"{W}endnoteReference"):
                pieces.append(f"[{element.get(f'{W}id')}]")
            elif tag in (f"{W}drawing", f"{W}pict", f"{W}object"):
                boxes.append(element)
            elif tag == "{http://schemas.openxmlformats.org/officeDocument/2006/math}t":
                pieces.append(element.text or "")
            else:
                pieces.append(self._inline(element, relations, boxes))
        return "".join(pieces)

    def _box(self, drawing: Any, relations: dict[str, Relation]) -> None:
        """A picture's description, the text of a text box, the table of a chart, the words of a diagram."""
        for element in _first_alternatives(drawing):
            if element.tag == _DOC_PROPERTIES and (element.get("descr") or "").strip():
                self._flow.paragraph()
                self._flow.words(element.get("descr"))
                self._flow.paragraph()
            elif element.tag == f"{W}txbxContent":
                self._flow.paragraph()
                self._blocks(element, relations)
            elif element.tag == f"{C}chart":
                write_chart(self._flow, self._package, relations.get(element.get(f"{R}id") or ""))
            elif element.tag == f"{DGM}relIds":
                write_diagram(self._flow, self._package, relations.get(element.get(f"{R}dm") or ""))

    def _table(self, table: Any, relations: dict[str, Relation]) -> None:
        self._flow.table()
        above: dict[int, Cell] = {}
        for row in _within(table, f"{W}tr"):
            self._flow.row()
            column = _number(row.find(f"{W}trPr"), "gridBefore")
            for _ in range(column):
                self._flow.cell()
            for cell in _within(row, f"{W}tc"):
                properties = cell.find(f"{W}tcPr")
                span = max(_number(properties, "gridSpan"), 1)
                merge = properties.find(f"{W}vMerge") if properties is not None else None
                continued = merge is not None and merge.get(f"{W}val") != "restart" and column in above
                current = self._flow.cell(times=span, same=above[column] if continued else None)
                if not continued:
                    self._blocks(cell, relations)
                if current is not None:
                    above |= dict.fromkeys(range(column, column + span), current)
                column += span
        self._flow.end_table()

    def _notes(self, part: str, name: str) -> None:
        target = self._target(part)
        root = self._package.optional_xml(target)
        if root is None or target is None:
            return
        relations = self._package.relations(target)
        for note in root.iter(f"{W}{name}"):
            if note.get(f"{W}type") in (None, "normal"):
                self._flow.paragraph()
                self._flow.words(f"[{note.get(f'{W}id')}] ")
                self._flow.words(self._plain(note, relations))

    def _comments(self) -> None:
        root = self._package.optional_xml(self._target("comments"))
        for comment in root.iter(f"{W}comment") if root is not None else ():
            self._flow.paragraph()
            self._flow.words(f"Comment by {comment.get(f'{W}author') or 'somebody'}: ")
            self._flow.words(self._plain(comment, {}))

    def _repeated(self, kind: str) -> None:
        """The headers or footers, once each: they are on every page, and most sections have the same."""
        seen: set[str] = set()
        for relation in self._relations.values():
            root = self._package.optional_xml(relation.target) if relation.kind == kind else None
            words = self._plain(root, {}).strip() if root is not None else ""
            if words and not words.isdigit() and words not in seen:
                seen.add(words)
                self._flow.paragraph()
                self._flow.words(words)
        self._flow.paragraph()

    def _plain(self, root: Any, relations: dict[str, Relation]) -> str:
        lines = (self._inline(paragraph, relations, []) for paragraph in root.iter(f"{W}p"))
        return " ".join(line for line in lines if line.strip())


def write_chart(flow: Flow, package: Package, relation: Relation | None) -> None:
    root = package.optional_xml(relation.target) if relation is not None else None
    if root is None:
        return
    title, rows = chart_rows(root)
    flow.paragraph()
    for line in title.split("\n"):
        flow.line()
        flow.words(line)
    flow.table()
    for row in rows:
        flow.row()
        for text in row:
            flow.cell()
            flow.words(text)
    flow.end_table()


def write_diagram(flow: Flow, package: Package, relation: Relation | None) -> None:
    root = package.optional_xml(relation.target) if relation is not None else None
    if root is None:
        return
    flow.paragraph()
    for words in diagram_words(root):
        flow.item()
        flow.words(words)
    flow.paragraph()


def _first_alternatives(element: Any) -> list[Any]:
    """All elements within, without the fallbacks for old applications, and not into text boxes, which are read as blocks."""
    found: list[Any] = []
    waiting = [element]
    while waiting:
        current = waiting.pop()
        found.append(current)
        if current.tag != f"{W}txbxContent":
            waiting += [child for child in reversed(list(chosen(current))) if child.tag != f"{MC}Fallback"]
    return found


def _within(parent: Any, tag: str) -> list[Any]:
    """The rows of a table or the cells of a row, also those wrapped in content controls."""
    found: list[Any] = []
    for child in chosen(parent):
        if child.tag == tag:
            found.append(child)
        elif child.tag in _TRANSPARENT_BLOCKS:
            found += _within(child, tag)
    return found


def _is_hidden(run: Any) -> bool:
    """Whether Word shows nothing of a run."""
    hidden = run.find(f"{W}rPr/{W}vanish")
    return hidden is not None and hidden.get(f"{W}val") not in ("0", "false", "off")


def _value(parent: Any, name: str) -> str | None:
    element = parent.find(f"{W}{name}")
    return None if element is None else element.get(f"{W}val")


def _number(parent: Any | None, name: str) -> int:
    value = (_value(parent, name) if parent is not None else None) or ""
    return min(int(value), 1_000) if value.isdigit() else 0


def _symbol(element: Any) -> str:
    try:
        code = int(element.get(f"{W}char") or "", 16)
    except ValueError:
        return ""
    # Symbol fonts put their signs into the private area, where they mean nothing elsewhere.
    return "•" if 0xE000 <= code <= 0xF8FF else chr(code) if 0 < code < 0xD800 else ""
