"""Which files of a folder are documents, and how they become text."""

import os
from pathlib import Path

import pytest

from app.core.decoding import EncodingUnknown
from app.core.errors import TextTooLarge
from app.services import folders
from app.services.folders import Entry, Readable, Unreadable


def read(*paths: Path, max_bytes: int = 10_000) -> list[Entry]:
    return list(folders.read(folders.find(paths).files, max_bytes=max_bytes))


def read_one(path: Path, content: bytes) -> Entry:
    path.write_bytes(content)
    (entry,) = read(path)
    return entry


def test_sources_are_paths_relative_to_the_folder_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.md", "a/B.MARKDOWN", "c.TXT"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")

    assert [file.source for file in folders.find([tmp_path]).files] == [
        "a/B.MARKDOWN",
        "a/z.md",
        "b.txt",
        "c.TXT",
    ]


def test_a_file_named_twice_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")

    assert len(folders.find([tmp_path, tmp_path / "a.txt"]).files) == 1


def test_hidden_files_other_types_and_links_in_circles_are_left_out(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config.txt").write_text("hidden")
    (tmp_path / ".hidden.md").write_text("hidden")
    (tmp_path / "circle").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "report.pdf").write_bytes(b"%PDF")
    (tmp_path / "LICENSE").write_text("text")
    (tmp_path / "queries.jsonl").write_text('{"question": "no text"}\n')
    os.mkfifo(tmp_path / "pipe.txt")

    found = folders.find([tmp_path])

    assert [file.source for file in found.files] == ["queries.jsonl", "report.pdf"]
    assert [source for source, _ in found.skipped] == ["LICENSE", "pipe.txt"]
    assert [file.source for file in folders.find([tmp_path / "LICENSE"]).files] == ["LICENSE"]
    assert [file.source for file in found.unreadable] == ["gone.txt"]


def test_a_path_that_is_not_there_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        folders.find([tmp_path / "nowhere"])


TEXTS = {
    "cp1252": "L’employé a droit à 24 jours – où est-ce écrit ?",
    "cp1250": "Zaměstnanec má dvacet čtyři dny placené dovolené ročně. Nevyčerpané dny propadají.",
    "cp1251": "Гарантия на устройство составляет пять лет.",
    "gb18030": "员工每年有二十四天年假。",
    "cp932": "従業員には年に二十四日の休暇があります。",
    "utf-8": "Günther’s naïve café: 24 € 🙂",
    "utf-8-sig": "Günther’s naïve café: 24 € 🙂",
    "utf-16": "Günther’s naïve café: 24 € 🙂",
    "utf-16-le": "Plain words, no mark",
    "utf-16-be": "Plain words, no mark",
    "utf-32": "Günther",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_texts_of_any_encoding_are_read(tmp_path: Path, encoding: str) -> None:
    entry = read_one(tmp_path / "a.txt", TEXTS[encoding].encode(encoding))

    assert isinstance(entry, Readable)
    assert entry.text == TEXTS[encoding]


@pytest.mark.parametrize("word", ["Café", "naïve", "ação", "5 £", "“Hi”"])
def test_a_western_word_is_not_mistaken_for_another_alphabet(tmp_path: Path, word: str) -> None:
    entry = read_one(tmp_path / "a.txt", f"The {word} is open.".encode("cp1252"))

    assert isinstance(entry, Readable)
    assert entry.text == f"The {word} is open."


def test_a_binary_file_is_not_taken_for_text(tmp_path: Path) -> None:
    entry = read_one(tmp_path / "a.txt", b"\x7fELF\x02\x01\x01\x00\x00\x90\xff" * 100)

    assert isinstance(entry, Unreadable)
    assert isinstance(entry.error, EncodingUnknown)


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        ("guide.md", "Intro\n\n## The   guide ##\n\ntext", "The   guide"),
        ("guide.md", "```\n# a comment\n```\n# C#\n", "C#"),
        ("guide.md", "#hashtag\n\ntext", "guide"),
        ("guide.v2.txt", "# not Markdown", "guide.v2"),
    ],
)
def test_the_title_is_the_first_heading_or_the_name(tmp_path: Path, name: str, text: str, title: str) -> None:
    entry = read_one(tmp_path / name, text.encode())

    assert isinstance(entry, Readable)
    assert entry.title == title


def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a" * 1001)
    (tmp_path / "b.txt").write_bytes(b"b" * 1000)

    large, small = read(tmp_path, max_bytes=1000)

    assert isinstance(large, Unreadable)
    assert isinstance(large.error, TextTooLarge)
    assert isinstance(small, Readable)


def test_each_line_of_a_corpus_is_a_document(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(
        '{"_id": "s0", "title": "First", "text": "One."}\n\n{"text": "Two."}\n{"_id": 3}\nnonsense\n'
    )

    first, second, third, fourth = read(tmp_path)

    origin = f"file:{tmp_path / 'corpus.jsonl'}"
    assert first == Readable("corpus.jsonl#s0", 48, "One.", "First", "utf-8", origin=f"{origin}#s0")
    assert second == Readable("corpus.jsonl#3", 17, "Two.", None, "utf-8", origin=f"{origin}#3")
    assert isinstance(third, Unreadable)
    assert isinstance(fourth, Unreadable)
    assert "Line 5 is not a JSON object with a `text`" in fourth.error.message


def test_a_line_without_end_is_not_held_in_memory(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"text": "' + "a" * 1_000_000 + '"}\n{"text": "Two."}\n')

    large, small = read(tmp_path, max_bytes=1000)

    assert isinstance(large, Unreadable)
    assert isinstance(large.error, TextTooLarge)
    assert isinstance(small, Readable)
