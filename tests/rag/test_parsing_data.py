"""CSV, JSON and e-mails: rows, records and messages that say what they are."""

import json
from email.message import EmailMessage
from pathlib import Path

import pytest

from app.rag.parsing.fence import parse_file
from app.rag.parsing.model import ParsedDocument, ParseLimits
from tests.fixtures.files import make_pdf


async def parse(tmp_path: Path, name: str, content: str | bytes) -> ParsedDocument:
    path = tmp_path / "stored"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return await parse_file(path, filename=name, limits=ParseLimits(tesseract=None))


async def text_of(tmp_path: Path, name: str, content: str | bytes) -> str:
    return (await parse(tmp_path, name, content)).pages[0].text


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
async def test_every_row_names_its_columns_whatever_parts_them(tmp_path: Path, delimiter: str) -> None:
    rows = [
        ["Phase", "Current, max", "Note"],
        ["L1", "5 A", "first; the best"],
        ["L2", "", 'said "no"\nand left'],
    ]
    quoted = "\n".join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)
    assert await text_of(tmp_path, "a.csv", quoted) == (
        "Phase | Current, max | Note\nPhase: L1; Current, max: 5 A; Note: first; the best\n"
        'Phase: L2; Note: said "no" and left'
    )


async def test_a_table_without_names_has_plain_rows(tmp_path: Path) -> None:
    assert await text_of(tmp_path, "a.csv", "1,2,3\n4,5,6\n") == "1 | 2 | 3\n4 | 5 | 6"
    assert await text_of(tmp_path, "a.csv", "one row, and no other\n") == "one row | and no other"


async def test_a_title_above_the_names_is_no_name(tmp_path: Path) -> None:
    text = await text_of(
        tmp_path, "a.csv", "Cups,,\nTeam,City,Cups\nBlues,STL,1\nLeafs,TOR,13\n".encode("utf-16")
    )
    assert (
        text == "Cups\nTeam | City | Cups\nTeam: Blues; City: STL; Cups: 1\nTeam: Leafs; City: TOR; Cups: 13"
    )


async def test_a_quote_that_is_never_closed_eats_nothing(tmp_path: Path) -> None:
    text = await text_of(tmp_path, "a.csv", 'size,name\n5",short\n6,long\n7,longer\n')
    assert text.split("\n")[1:] == ['size: 5"; name: short', "size: 6; name: long", "size: 7; name: longer"]


async def test_excels_word_on_the_delimiter_is_obeyed(tmp_path: Path) -> None:
    assert await text_of(tmp_path, "a.csv", "sep=;\na,b;c\n1,5;2\n") == "a,b | c\na,b: 1,5; c: 2"


async def test_values_of_json_have_the_path_to_them(tmp_path: Path) -> None:
    value = [
        {
            "name": "L1",
            "load": {"max": 5.5, "ok": True, "none": None},
            "tags": ["a", "b"],
            "rows": [{"x": 1}, {"x": 2}],
        },
        "plain",
    ]
    document = await parse(tmp_path, "a.json", json.dumps(value))
    assert document.pages[0].text == (
        "name: L1\nload.max: 5.5\nload.ok: true\ntags: a, b\nrows[0].x: 1\nrows[1].x: 2\n\nplain"
    )


async def test_long_texts_in_json_stay_as_they_are(tmp_path: Path) -> None:
    assert await text_of(tmp_path, "a.json", json.dumps({"text": "one\ntwo"})) == "text:\none\ntwo"


async def test_lines_of_json_are_records_and_broken_ones_stay(tmp_path: Path) -> None:
    document = await parse(tmp_path, "a.jsonl", '{"a": 1}\n\n{"a": \n{"b": "ü"}\n')
    assert document.pages[0].text == 'a: 1\n\n{"a":\n\nb: ü'
    assert [warning.code for warning in document.warnings] == ["broken_json"]


async def test_broken_json_is_read_as_text(tmp_path: Path) -> None:
    document = await parse(tmp_path, "a.json", '{"a": 1,')
    assert document.pages[0].text == '{"a": 1,'
    assert [warning.code for warning in document.warnings] == ["broken_json"]
    assert (await parse(tmp_path, "a.json", "[" * 100_000)).pages[0].text.startswith("[[[")


def message(**changes: str) -> EmailMessage:
    made = EmailMessage()
    made["Subject"] = "Zähler der Phase L1"
    made["From"] = "Ann <ann@example.com>"
    made["To"] = "bob@example.com"
    for name, value in changes.items():
        made[name] = value
    made.set_content("Hello Bob,\nit counts.\n")
    return made


async def test_an_email_says_who_wrote_to_whom(tmp_path: Path) -> None:
    document = await parse(tmp_path, "a.eml", message().as_bytes())
    assert document.pages[0].text == (
        "Subject: Zähler der Phase L1\nFrom: Ann <ann@example.com>\nTo: bob@example.com\n\nHello Bob,\nit counts."
    )
    assert document.title == "Zähler der Phase L1"
    assert document.metadata["sender"] == "Ann <ann@example.com>"


async def test_attachments_are_listed_and_those_that_can_be_are_read(tmp_path: Path) -> None:
    made = message()
    made.add_attachment("Phase,Current\nL1,5\nL2,6\n", subtype="csv", filename="load.csv")
    made.add_attachment(
        make_pdf([["page of the PDF"]]), maintype="application", subtype="pdf", filename="paper.pdf"
    )
    made.add_attachment(
        b"\x00\x01" * 99, maintype="application", subtype="octet-stream", filename="thing.bin"
    )
    inner = message(Date="Sat, 21 Nov 2026 10:00:00 +0000")
    made.add_attachment(inner)
    document = await parse(tmp_path, "a.eml", made.as_bytes())
    assert "Attachments: load.csv, paper.pdf, thing.bin, attachment 4" in document.pages[0].text
    assert [(page.label, page.text.split("\n")[-1]) for page in document.pages[1:]] == [
        ("load.csv", "Phase: L2; Current: 6"),
        ("paper.pdf", "page of the PDF"),
        ("attachment 4", "it counts."),
    ]
    assert [warning.code for warning in document.warnings] == ["attachment_unreadable"]
    assert document.title == "Zähler der Phase L1"


async def test_the_richer_body_of_an_email_is_read_and_only_once(tmp_path: Path) -> None:
    made = message()
    made.add_alternative("<p>Hello <b>Bob</b>,<br>it counts.</p>", subtype="html")
    assert (await text_of(tmp_path, "a.eml", made.as_bytes())).count("it counts.") == 1
    made = message()
    made.set_content("See the HTML.")
    made.add_alternative(f"<p>{'All that was said. ' * 9}</p><script>x()</script>", subtype="html")
    text = await text_of(tmp_path, "a.eml", made.as_bytes())
    assert text.count("All that was said.") == 9
    assert "x()" not in text


async def test_an_email_of_nonsense_is_an_email_all_the_same(tmp_path: Path) -> None:
    content = b"From: \xff\xfe <\nTo: ,,;\nSubject: =?utf-8?B?%%%?=\nContent-Type: text/plain; charset=none\n\nbody \xe4\n"
    document = await parse(tmp_path, "a.eml", content)
    assert "body" in document.pages[0].text
