"""Word, PowerPoint and Excel: what a reader of the file sees, in the order of reading."""

from pathlib import Path

import pytest

from app.rag.parsing.fence import parse_file
from app.rag.parsing.model import FailureCode, ParsedDocument, ParseFailed, ParseLimits
from tests.fixtures.files import (
    docx_paragraph,
    make_docx,
    make_pptx,
    make_xlsx,
    make_zip,
    pptx_shape,
    relations,
    xlsx_rows,
)

_STYLES = """<w:styles NAMES>
<w:style w:styleId="H1"><w:name w:val="heading 1"/></w:style>
<w:style w:styleId="H2"><w:name w:val="Section"/><w:basedOn w:val="Base"/></w:style>
<w:style w:styleId="Base"><w:name w:val="Base"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style>
</w:styles>"""
_NUMBERING = """<w:numbering NAMES><w:abstractNum w:abstractNumId="7">
<w:lvl w:ilvl="0"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:lvlText w:val="%1."/></w:lvl>
<w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="lowerLetter"/><w:lvlText w:val="%1.%2)"/></w:lvl>
</w:abstractNum><w:num w:numId="3"><w:abstractNumId w:val="7"/></w:num></w:numbering>"""


async def parse(tmp_path: Path, name: str, content: bytes) -> ParsedDocument:
    path = tmp_path / "stored"
    path.write_bytes(content)
    return await parse_file(path, filename=name, limits=ParseLimits(tesseract=None))


async def text_of(tmp_path: Path, name: str, content: bytes) -> str:
    return (await parse(tmp_path, name, content)).pages[0].text


async def test_word_headings_are_known_by_style_and_level(tmp_path: Path) -> None:
    body = docx_paragraph("Meters", '<w:pStyle w:val="H1"/>') + docx_paragraph("They count.")
    body += docx_paragraph("Phases", '<w:pStyle w:val="H2"/>') + docx_paragraph("Three.")
    content = make_docx(body, parts={"word/styles.xml": _STYLES}, styles="styles.xml")
    document = await parse(tmp_path, "a.docx", content)
    page = document.pages[0]
    assert page.text == "Meters\n\nThey count.\n\nPhases\n\nThree."
    assert [(page.text[h.start : h.end], h.level) for h in page.headings] == [("Meters", 1), ("Phases", 2)]
    assert document.title == "Meters"


async def test_word_lists_have_the_numbers_that_word_shows(tmp_path: Path) -> None:
    def item(text: str, level: int) -> str:
        return docx_paragraph(text, f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="3"/></w:numPr>')

    body = item("one", 0) + item("sub", 1) + item("more", 1) + item("two", 0) + item("again", 1)
    content = make_docx(body, parts={"word/numbering.xml": _NUMBERING}, numbering="numbering.xml")
    assert await text_of(tmp_path, "a.docx", content) == "1. one\n1.a) sub\n1.b) more\n2. two\n2.a) again"


async def test_word_tables_repeat_merged_cells_so_that_every_row_is_whole(tmp_path: Path) -> None:
    def cell(text: str, properties: str = "") -> str:
        return f"<w:tc><w:tcPr>{properties}</w:tcPr>{docx_paragraph(text)}</w:tc>"

    span, start, more = '<w:gridSpan w:val="2"/>', '<w:vMerge w:val="restart"/>', "<w:vMerge/>"
    rows = [
        cell("Phase") + cell("Current", span),
        cell("L1", start) + cell("5 A") + cell("6 A"),
        cell("", more) + cell("7 A") + cell("8 A"),
    ]
    table = "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in rows) + "</w:tbl>"
    text = await text_of(
        tmp_path, "a.docx", make_docx(docx_paragraph("Before") + table + docx_paragraph("After"))
    )
    assert text == "Before\n\nPhase | Current | Current\nL1 | 5 A | 6 A\nL1 | 7 A | 8 A\n\nAfter"


async def test_word_keeps_insertions_and_drops_deletions_and_field_codes(tmp_path: Path) -> None:
    body = (
        "<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>Say it is free. </w:t></w:r><w:r><w:t>It costs </w:t></w:r><w:del><w:r><w:delText>nine</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t>ten</w:t></w:r></w:ins><w:r><w:instrText>PAGE</w:instrText><w:tab/><w:t>euros</w:t></w:r>"
        '<w:hyperlink r:id="none"><w:r><w:t> each</w:t></w:r></w:hyperlink></w:p>'
        "<w:sdt><w:sdtContent>" + docx_paragraph("In a content control.") + "</w:sdtContent></w:sdt>"
    )
    assert (
        await text_of(tmp_path, "a.docx", make_docx(body))
        == "It costs ten euros each\n\nIn a content control."
    )


async def test_word_notes_comments_headers_and_text_boxes_are_read(tmp_path: Path) -> None:
    body = (
        '<w:p><w:r><w:t>Claim</w:t><w:footnoteReference w:id="2"/></w:r><w:r><w:pict><w:txbxContent>'
        + docx_paragraph("In a box")
        + "</w:txbxContent></w:pict></w:r></w:p>"
    )
    parts = {
        "word/footnotes.xml": '<w:footnotes NAMES><w:footnote w:type="separator" w:id="0"/><w:footnote w:id="2">'
        + docx_paragraph("Proof")
        + "</w:footnote></w:footnotes>",
        "word/comments.xml": '<w:comments NAMES><w:comment w:author="Ann">'
        + docx_paragraph("Really?")
        + "</w:comment></w:comments>",
        "word/header1.xml": f"<w:hdr NAMES>{docx_paragraph('Secret of the house')}</w:hdr>",
        "word/header2.xml": f"<w:hdr NAMES>{docx_paragraph('Secret of the house')}</w:hdr>",
        "word/footer1.xml": f"<w:ftr NAMES>{docx_paragraph('12')}</w:ftr>",
    }
    targets = {
        "footnotes": "footnotes.xml",
        "comments": "comments.xml",
        "header_1": "header1.xml",
        "header_2": "header2.xml",
        "footer_1": "footer1.xml",
    }
    text = await text_of(tmp_path, "a.docx", make_docx(body, parts=parts, **targets))
    assert text == "Secret of the house\n\nClaim[2]\n\nIn a box\n\n[2] Proof\n\nComment by Ann: Really?"


async def test_slides_are_pages_with_their_title_first_and_notes_last(tmp_path: Path) -> None:
    first = (
        pptx_shape("below", top=900)
        + pptx_shape("above\non two lines", top=100)
        + pptx_shape("7", kind="sldNum")
    )
    first += pptx_shape("The title", kind="title", top=500)
    notes = f"<p:notes NAMES><p:cSld><p:spTree>{pptx_shape('Say this', kind='body')}</p:spTree></p:cSld></p:notes>"
    content = make_pptx(
        [first, "", pptx_shape("third")],
        parts={"ppt/notesSlides/notes1.xml": notes},
        notesSlide="../notesSlides/notes1.xml",
    )
    document = await parse(tmp_path, "a.pptx", content)
    assert [page.text for page in document.pages] == [
        "The title\n\nabove\non two lines\n\nbelow\n\nNotes:\nSay this",
        "",
        "third",
    ]
    assert (document.title, document.page_kind, document.pages[0].label) == (
        "The title",
        "slide",
        "The title",
    )


async def test_slide_tables_and_charts_are_rows(tmp_path: Path) -> None:
    def cell(text: str, more: str = "") -> str:
        return f"<a:tc {more}><a:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></a:txBody></a:tc>"

    table = (
        "<p:graphicFrame><a:tbl><a:tr>"
        + cell("Both", 'gridSpan="2"')
        + cell("", 'hMerge="1"')
        + "</a:tr><a:tr>"
    )
    table += cell("1") + cell("2") + "</a:tr></a:tbl></p:graphicFrame>"
    frame = '<p:graphicFrame><a:graphic><c:chart r:id="chart"/></a:graphic></p:graphicFrame>'
    chart = """<c:chartSpace NAMES><c:chart><c:title><a:t>Load</a:t></c:title><c:plotArea><c:barChart><c:ser>
    <c:tx><c:v>kW</c:v></c:tx><c:cat><c:pt idx="0"><c:v>May</c:v></c:pt><c:pt idx="1"><c:v>June</c:v></c:pt></c:cat>
    <c:val><c:pt idx="0"><c:v>1.5</c:v></c:pt><c:pt idx="1"><c:v>0.10000000000000001</c:v></c:pt></c:val>
    </c:ser></c:barChart></c:plotArea></c:chart></c:chartSpace>"""
    content = make_pptx([table + frame], parts={"ppt/charts/chart1.xml": chart}, chart="../charts/chart1.xml")
    text = await text_of(tmp_path, "a.pptx", content)
    assert text == "Both | Both\n1 | 2\n\nLoad\nBar chart\n\n| kW\nMay | 1.5\nJune | 0.1"


async def test_every_row_of_a_sheet_says_what_its_values_are(tmp_path: Path) -> None:
    rows = xlsx_rows([["Load of 2026"], ["Phase", "Current", "Note"], ["L1", 5, None], ["L2", 6.5, "high"]])
    document = await parse(tmp_path, "a.xlsx", make_xlsx({"Meters": rows, "Empty": "<sheetData/>"}))
    assert [(page.label, page.text) for page in document.pages] == [
        (
            "Meters",
            "Meters\n\nLoad of 2026\nPhase | Current | Note\nPhase: L1; Current: 5\nPhase: L2; Current: 6.5; Note: high",
        )
    ]
    assert document.page_kind == "sheet"


async def test_numbers_are_shown_as_excel_shows_them(tmp_path: Path) -> None:
    styles = (
        '<numFmts><numFmt numFmtId="164" formatCode="[$€-407] #,##0.00"/><numFmt numFmtId="165" formatCode="yyyy\\-mm\\-dd"/>'
        '<numFmt numFmtId="166" formatCode="0.0%"/></numFmts><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/>'
        '<xf numFmtId="164"/><xf numFmtId="165"/><xf numFmtId="166"/><xf numFmtId="20"/></cellXfs>'
    )
    cells = "".join(
        f'<c r="{column}1" s="{style}"><v>{value}</v></c>'
        for column, style, value in (
            ("A", 0, "0.30000000000000004"),
            ("B", 1, "46000"),
            ("C", 2, "1234.5"),
            ("D", 3, "46000"),
            ("E", 4, "0.125"),
            ("F", 5, "0.5"),
        )
    )
    sheet = f'<sheetData><row r="1">{cells}<c r="G1" t="b"><v>1</v></c><c r="H1" t="s"><v>0</v></c></row></sheetData>'
    content = make_xlsx({"S": sheet}, strings=["shared"], styles=styles)
    text = await text_of(tmp_path, "a.xlsx", content)
    assert text == "S\n\n0.3 | 2025-12-09 | €1,234.50 | 2025-12-09 | 12.5% | 12:00 | TRUE | shared"


async def test_a_sheet_whose_range_is_far_larger_than_its_data_is_read_at_once(tmp_path: Path) -> None:
    far = '<row r="1048576"><c r="XFD1048576" t="inlineStr"><is><t>the end</t></is></c></row>'
    rows = xlsx_rows([["a", "b"], ["c", "d"]]).replace("</sheetData>", f"{far}</sheetData>")
    document = await parse(tmp_path, "a.xlsx", make_xlsx({"S": f'<dimension ref="A1:XFD1048576"/>{rows}'}))
    assert document.pages[0].text == "S\n\na | b\na: c; b: d\n\nthe end"


async def test_merged_cells_and_tables_side_by_side(tmp_path: Path) -> None:
    rows: list[list[str | float | None]] = [
        ["Site", None, None, "Tariff", "Price"],
        ["north", "n1", None, "day", 2],
        ["", "n2", None, "night", 1],
    ]
    sheet = xlsx_rows(rows) + '<mergeCells><mergeCell ref="A2:A3"/><mergeCell ref="A1:B1"/></mergeCells>'
    text = await text_of(tmp_path, "a.xlsx", make_xlsx({"S": sheet}))
    assert text == (
        "S\n\nSite | Site\nnorth | n1\nnorth | n2\n\nTariff | Price\nTariff: day; Price: 2\nTariff: night; Price: 1"
    )


@pytest.mark.parametrize(
    ("name", "parts", "code"),
    [
        ("a.docx", {"word/document.xml": "<w:document"}, FailureCode.CORRUPT),
        ("a.docx", {"word/other.xml": "<x/>"}, FailureCode.CORRUPT),
        ("a.docx", {"xl/workbook.xml": "<x/>"}, FailureCode.TYPE_MISMATCH),
        ("a.docx", {"readme.txt": "hello"}, FailureCode.UNSUPPORTED_TYPE),
        ("a.pptx", {"ppt/presentation.xml": "<x/>"}, FailureCode.EMPTY_DOCUMENT),
        ("a.xlsx", {"xl/workbook.xml": "<x/>"}, FailureCode.EMPTY_DOCUMENT),
    ],
)
async def test_an_office_file_that_is_none_is_refused(
    tmp_path: Path, name: str, parts: dict[str, str], code: FailureCode
) -> None:
    with pytest.raises(ParseFailed) as failed:
        await parse(tmp_path, name, make_zip({"_rels/.rels": relations(), **parts}))
    assert failed.value.code is code
