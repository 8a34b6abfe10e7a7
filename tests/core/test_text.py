"""What is done to texts and to names of files that people send."""

import pytest

from app.core.text import clean, file_name

RTL = chr(0x202E)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("leave.md", "leave.md"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\Windows\\system.ini", "system.ini"),
        ("/absolute/way.txt", "way.txt"),
        ("C:\\boot.ini", "boot.ini"),
        ("..", None),
        (".", None),
        ("a/..", None),
        ("folder/", None),
        ("", None),
        (None, None),
        ("nul\0in.txt", "nulin.txt"),
        ("line\r\nSet-Cookie: x.txt", "lineSet-Cookie: x.txt"),
        (f"annual{RTL}fdp.exe", "annualfdp.exe"),
        ("CON", "_CON"),
        ("com1.txt", "_com1.txt"),
        ("LPT9.tar.gz", "_LPT9.tar.gz"),
        ("console.txt", "console.txt"),
        ("trailing. . ", "trailing"),
        ("x" * 10_000 + ".pdf", "x" * 251 + ".pdf"),
        ("Jahresbericht (endgültig).pdf", "Jahresbericht (endgültig).pdf"),
        ("報告書.docx", "報告書.docx"),
        (".gitignore", ".gitignore"),
        ("lone \ud800.txt", "lone \ufffd.txt"),
    ],
)
def test_a_name_is_the_end_of_a_path_without_tricks(given: str | None, kept: str | None) -> None:
    assert file_name(given) == kept


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        ("Plain.\r\n", "Plain.\r\n"),
        ("a\0b\0", "ab"),
        ("é 漢 \U0001f600 e\u0301", "é 漢 \U0001f600 e\u0301"),
        ("\ud800", "\ufffd"),
        ("a\0\udfff漢", "a\ufffd漢"),
    ],
)
def test_a_text_loses_only_what_can_not_be_stored(given: str, kept: str) -> None:
    assert clean(given) == kept
