"""Text and Markdown in any encoding: the text as it is, and for Markdown where its headings are."""

import re
from typing import Final

from app.core.decoding import EncodingUnknown, decode
from app.core.text import clean
from app.rag.parsing.answer import Answer, Job
from app.rag.parsing.model import FailureCode, Heading, Kind, ParseFailed

_FENCE: Final = re.compile(r"^ {0,3}(```+|~~~+)")
_HEADING: Final = re.compile(r"^ {0,3}(#{1,6})[ \t]+(\S.*?)(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE: Final = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
_FRONT_MATTER: Final = re.compile(r"\A---[ \t]*\r?\n(.{0,10000}?)\r?\n(?:---|\.\.\.)[ \t]*\r?\n", re.DOTALL)
_FRONT_TITLE: Final = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_WRONG_BYTES_SHARE: Final = 1 / 1000


def parse(job: Job, answer: Answer) -> None:
    text, encoding = read_text(job, answer)
    answer.add(encoding=encoding)
    headings: list[Heading] = []
    if job.kind is Kind.MARKDOWN:
        headings = find_headings(text)
        answer.title = _front_title(text) or (text[headings[0].start : headings[0].end] if headings else None)
    answer.text(text, headings=headings, is_clean=True)


def tell(text: str, answer: Answer) -> None:
    """What `parse` says of a text that was in UTF-8 and has no NUL."""
    answer.add(encoding="utf-8")
    answer.text(text.removeprefix("\ufeff"), is_clean=True)


def read_text(job: Job, answer: Answer) -> tuple[str, str]:
    """The clean text of the whole file, and its encoding. Raises ParseFailed."""
    content = job.read()
    try:
        text, encoding = decode_leniently(content, answer)
    except EncodingUnknown:
        raise ParseFailed(FailureCode.ENCODING_UNKNOWN) from None
    return clean(text), encoding


def decode_leniently(content: bytes, answer: Answer) -> tuple[str, str]:
    """UTF-8 with a few wrong bytes, such as a cut character at the end, stays UTF-8. Raises EncodingUnknown."""
    if content.count(0) * 100 > len(content):
        return decode(content)
    try:
        return content.decode("utf-8-sig" if content.startswith(b"\xef\xbb\xbf") else "utf-8"), "utf-8"
    except UnicodeDecodeError:
        pass
    if not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-8", "replace")
        beyond_ascii = sum(1 for character in text if character > "\x7f") if len(text) < len(content) else 0
        wrong = text.count("\ufffd")
        if beyond_ascii > 20 * wrong and wrong <= max(1, len(content) * _WRONG_BYTES_SHARE):
            answer.warn("wrong_bytes", "Some bytes of the file are no UTF-8; they are shown as \ufffd.")
            return text, "utf-8"
    return decode(content)


def find_headings(markdown: str) -> list[Heading]:
    """The headings outside of code, `# such` and underlined ones."""
    headings: list[Heading] = []
    fence: str | None = None
    position, before = 0, (0, 0, "")
    matter = _FRONT_MATTER.match(markdown)
    if matter is not None:
        position = matter.end()
    for line in markdown[position:].splitlines(keepends=True):
        words = line.rstrip("\r\n")
        marker = _FENCE.match(words)
        if marker is not None and (
            fence is None or (words.strip().startswith(fence) and set(words.strip()) == {fence[0]})
        ):
            fence = marker[1] if fence is None else None
        elif fence is None:
            if found := _HEADING.match(words):
                headings.append(Heading(position + found.start(2), position + found.end(2), len(found[1])))
            elif (
                (under := _UNDERLINE.match(words))
                and before[2].strip()
                and not before[2].lstrip().startswith(("-", "|", ">", "#"))
            ):
                level = 1 if under[1][0] == "=" else 2
                start = before[0] + len(before[2]) - len(before[2].lstrip())
                headings.append(Heading(start, before[0] + len(before[2].rstrip()), level))
        before = (position, position + len(line), words if fence is None else "")
        position += len(line)
    return headings


def _front_title(markdown: str) -> str | None:
    matter = _FRONT_MATTER.match(markdown)
    title = _FRONT_TITLE.search(matter[1]) if matter is not None else None
    return title[1].strip("\"'") if title is not None else None
