"""PowerPoint presentations: a page for each slide, with its tables, charts, diagrams and notes."""

from typing import Any, Final

from app.rag.parsing.answer import Answer, Job
from app.rag.parsing.docx import write_chart, write_diagram
from app.rag.parsing.flow import Cell, Flow
from app.rag.parsing.model import FailureCode, ParseFailed
from app.rag.parsing.office import DGM, A, C, P, Package, R, Relation, chosen

_TITLES: Final = frozenset({"title", "ctrTitle"})
_ONLY_ON_PAPER: Final = frozenset({"sldNum", "dt", "ftr", "hdr"})


def parse(job: Job, answer: Answer) -> None:
    answer.page_kind = "slide"
    package = Package(job)
    package.add_properties(answer)
    part = package.main_part("ppt/presentation.xml")
    relations = package.relations(part)
    slides = [relations.get(slide.get(f"{R}id") or "") for slide in package.xml(part).iter(f"{P}sldId")]
    unreadable = 0
    for number, slide in enumerate(slides, start=1):
        root = package.optional_xml(slide.target) if slide is not None else None
        if root is None or slide is None:
            unreadable += 1
            answer.warn("page_unreadable", "Some slides are damaged and have no text here.", page=number)
            answer.page("")
            continue
        title, flow = _read_slide(package, slide.target, root)
        answer.page(flow.text, headings=flow.headings, label=title or None)
        answer.title = answer.title or title or None
        answer.progress(number, len(slides))
    if slides and unreadable == len(slides):
        raise ParseFailed(FailureCode.CORRUPT)


def _read_slide(package: Package, part: str, root: Any) -> tuple[str, Flow]:
    relations = package.relations(part)
    flow = Flow()
    tree = root.find(f"{P}cSld/{P}spTree")
    shapes = list(_shapes(tree)) if tree is not None else []
    title = ""
    layout = next(
        (relation.target for relation in relations.values() if relation.kind == "slideLayout"), None
    )
    given = _given_places(package.optional_xml(layout))
    # The title is often the last shape of the file, and always the first that people read.
    for shape in sorted(
        shapes, key=lambda shape: (_placeholder(shape) not in _TITLES, *_place(shape, given))
    ):
        if _placeholder(shape) in _ONLY_ON_PAPER:
            continue
        is_title = not title and _placeholder(shape) in _TITLES
        _shape(flow, package, shape, relations, is_title=is_title)
        if is_title:
            title = " ".join("".join(text.text or "" for text in shape.iter(f"{A}t")).split())
    notes = next((relation.target for relation in relations.values() if relation.kind == "notesSlide"), None)
    _notes(flow, package.optional_xml(notes))
    flow.finish()
    return title, flow


def _shapes(tree: Any) -> list[Any]:
    """The shapes of a slide, those in groups too, in the order of the file."""
    found: list[Any] = []
    for element in chosen(tree):
        if element.tag == f"{P}grpSp":
            found += _shapes(element)
        elif element.tag in (f"{P}sp", f"{P}graphicFrame", f"{P}pic", f"{P}cxnSp"):
            found.append(element)
    return found


def _place(shape: Any, given: dict[tuple[str, str], tuple[int, int]]) -> tuple[int, int]:
    """Distance from the top and from the left, its own or that of its placeholder in the layout."""
    offset = next(shape.iter(f"{A}off"), None)
    if offset is not None:
        return _int(offset.get("y")), _int(offset.get("x"))
    element = next(shape.iter(f"{P}ph"), None)
    if element is None:
        return 0, 0
    kind, number = element.get("type") or "body", element.get("idx") or "0"
    return given.get(("", number)) or given.get((kind, "")) or (0, 0)


def _given_places(layout: Any | None) -> dict[tuple[str, str], tuple[int, int]]:
    """Where a layout puts its placeholders, by their kind and by their number."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for shape in layout.iter(f"{P}sp") if layout is not None else ():
        element, offset = next(shape.iter(f"{P}ph"), None), next(shape.iter(f"{A}off"), None)
        if element is not None and offset is not None:
            place = (_int(offset.get("y")), _int(offset.get("x")))
            found.setdefault((element.get("type") or "body", ""), place)
            found.setdefault(("", element.get("idx") or "0"), place)
    return found


def _int(text: str | None) -> int:
    return int(text) if text is not None and text.lstrip("-").isdigit() else 0


def _placeholder(shape: Any) -> str:
    element = next(shape.iter(f"{P}ph"), None)
    return "" if element is None else element.get("type") or "body"


def _shape(
    flow: Flow, package: Package, shape: Any, relations: dict[str, Relation], *, is_title: bool
) -> None:
    body = shape.find(f"{P}txBody")
    if body is not None:
        if is_title:
            flow.heading(1)
            flow.words(" ".join(_words(paragraph).replace("\n", " ") for paragraph in body.iter(f"{A}p")))
            flow.end_heading()
            return
        flow.paragraph()
        _paragraphs(flow, body)
        flow.paragraph()
    for table in shape.iter(f"{A}tbl"):
        _table(flow, table)
    for chart in shape.iter(f"{C}chart"):
        write_chart(flow, package, relations.get(chart.get(f"{R}id") or ""))
    for diagram in shape.iter(f"{DGM}relIds"):
        write_diagram(flow, package, relations.get(diagram.get(f"{R}dm") or ""))
    if shape.tag == f"{P}pic":
        properties = next(shape.iter(f"{P}cNvPr"), None)
        if properties is not None and (description := (properties.get("descr") or "").strip()):
            flow.paragraph()
            flow.words(description)
            flow.paragraph()


def _paragraphs(flow: Flow, body: Any) -> None:
    numbers: dict[int, int] = {}
    for paragraph in body.iter(f"{A}p"):
        words = _words(paragraph)
        if not words.strip():
            continue
        properties = paragraph.find(f"{A}pPr")
        level = (
            int(properties.get("lvl") or 0)
            if properties is not None and (properties.get("lvl") or "0").isdigit()
            else 0
        )
        numbered = properties is not None and properties.find(f"{A}buAutoNum") is not None
        numbers = {place: count for place, count in numbers.items() if place <= level}
        flow.line()
        if numbered:
            numbers[level] = numbers.get(level, 0) + 1
            flow.item(f"{numbers[level]}.")
        else:
            numbers.pop(level, None)
            if properties is not None and (level or properties.find(f"{A}buChar") is not None):
                flow.item()
        for number, line in enumerate(words.split("\n")):
            if number:
                flow.line()
            flow.words(line)


def _words(paragraph: Any) -> str:
    """The words of a paragraph; a line break within it is one."""
    pieces = (
        "\n" if element.tag == f"{A}br" else element.text or ""
        for element in paragraph.iter(f"{A}t", f"{A}br")
    )
    return "".join(pieces).replace("\v", "\n")


def _table(flow: Flow, table: Any) -> None:
    flow.table()
    above: dict[int, Cell] = {}
    for row in table.iterfind(f"{A}tr"):
        flow.row()
        left: Cell | None = None
        for column, cell in enumerate(row.iterfind(f"{A}tc")):
            same = left if cell.get("hMerge") in ("1", "true") else None
            if cell.get("vMerge") in ("1", "true"):
                same = above.get(column)
            current = flow.cell(same=same)
            if same is None:
                for paragraph in cell.iter(f"{A}p"):
                    flow.words(f" {_words(paragraph)} ")
            if current is not None:
                above[column] = left = current
    flow.end_table()


def _notes(flow: Flow, root: Any | None) -> None:
    """What the speaker wants to say; not the picture of the slide and the number of the page that stand beside it."""
    if root is None:
        return
    for shape in root.iter(f"{P}sp"):
        body = shape.find(f"{P}txBody")
        if (
            body is not None
            and _placeholder(shape) == "body"
            and any((text.text or "").strip() for text in body.iter(f"{A}t"))
        ):
            flow.paragraph()
            flow.words("Notes:")
            _paragraphs(flow, body)
