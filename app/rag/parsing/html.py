"""HTML: the main text of a page in reading order, its title, and its tables as rows.

Nothing but the obvious is left out: scripts, styles, forms' controls, what is hidden, and (where there is enough besides) the
navigation, banners and footers that a site repeats on every page. An extractor that guesses loses what people ask about.
"""

import re
from collections.abc import Iterator
from html import unescape
from typing import Any, Final

from lxml import etree, html

from app.core.decoding import EncodingUnknown, marked_encoding
from app.core.text import clean
from app.rag.parsing.answer import Answer, Job
from app.rag.parsing.flow import Flow
from app.rag.parsing.model import FailureCode, ParseFailed
from app.rag.parsing.plain import decode_leniently

_NEVER: Final = frozenset(
    "script style noscript template svg math canvas iframe object embed head link meta input button select option datalist"
    " textarea audio video map area source track dialog progress meter".split()
)
_BOILERPLATE_TAGS: Final = frozenset({"nav", "footer", "aside"})
_BOILERPLATE_ROLES: Final = frozenset(
    {"navigation", "banner", "contentinfo", "complementary", "search", "menu", "menubar"}
)
_BOILERPLATE_NAMES: Final = re.compile(
    r"(?:^|[\s_-])(?:nav|navbar|navigation|menu|breadcrumbs?|sidebar|cookie|cookies|cookie-banner|consent|gdpr|site-footer|"
    r"page-footer|site-header|skip-link|share-buttons|social-links|related-posts|newsletter|advert|advertisement|ads)(?:$|[\s_-])",
    re.IGNORECASE,
)
_HIDDEN_STYLE: Final = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|(?:font-size|opacity)\s*:\s*0+(?:\.0+)?(?:px|pt|r?em|%)?\s*(?:[;!]|$)",
    re.IGNORECASE,
)
_BLOCKS: Final = frozenset(
    "address article blockquote body dd details div dl dt fieldset figcaption figure form header hgroup hr legend li main ol p"
    " pre section summary table tbody thead tfoot tr ul caption center nav footer aside h1 h2 h3 h4 h5 h6 html".split()
)
_PARAGRAPHS: Final = frozenset(
    "p blockquote pre table ul ol dl section article figure h1 h2 h3 h4 h5 h6 header hr".split()
)
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_META_CHARSET: Final = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_NO_TEXT: Final = re.compile(
    r"<(script|style|template|title)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.IGNORECASE | re.DOTALL
)
_TAG: Final = re.compile(r"<[^<>]*>?")
_LONG_TAG: Final = re.compile(r"<[a-zA-Z][^<>]{50000,}")
_BLANKS: Final = re.compile(r"\s+[^\s<>]")
_ATTRIBUTES: Final = 10_000
"""Reading a tag takes the square of their number."""
_XML_ENCODING: Final = re.compile(r"^\s*<\?xml[^>]*\?>")
_LEAST_MAIN_CHARACTERS: Final = 200
_LEAST_MAIN_SHARE: Final = 0.2


def parse(job: Job, answer: Answer) -> None:
    content = job.read()
    try:
        text, encoding = _decode(content, job.content_type, answer)
    except EncodingUnknown:
        raise ParseFailed(FailureCode.ENCODING_UNKNOWN) from None
    answer.add(encoding=encoding)
    read_html(text, answer, label=None)


def read_html(text: str, answer: Answer, *, label: str | None) -> None:
    """The pages of an HTML text, and what its head says about it."""
    root = parse_html(text)
    if root is None:
        raise ParseFailed(FailureCode.EMPTY_DOCUMENT)
    _read_head(root, answer)
    flow = main_text(root)
    if not flow.text:
        # The tree of a page nested deeper than any that a person wrote is empty.
        flow = without_tags(text)
    answer.text(flow.text, headings=flow.headings, label=label)
    if answer.title is None and flow.headings:
        first = flow.headings[0]
        answer.title = flow.text[first.start : first.end]


def html_to_text(text: str) -> str:
    """The text of a piece of HTML, such as the body of an e-mail."""
    root = parse_html(text)
    return main_text(root, whole=True).text if root is not None else ""


def parse_html(text: str) -> Any:
    """The tree of an HTML text, or None where there is none."""
    parser = html.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True, huge_tree=True
    )
    if any(len(_BLANKS.findall(tag[0])) > _ATTRIBUTES for tag in _LONG_TAG.finditer(text)):
        raise ParseFailed(FailureCode.BOMB, "A tag of this page has more attributes than any page needs.")
    content = clean(_XML_ENCODING.sub("", text, count=1)).encode()
    if not content.strip():
        return None
    try:
        return html.document_fromstring(content, parser=parser)
    except etree.ParserError:
        return None
    except etree.XMLSyntaxError:
        raise ParseFailed(FailureCode.CORRUPT) from None


def main_text(root: Any, *, whole: bool = False) -> Flow:
    """The text without what the site repeats, or with it where too little else would be left."""
    body = root.find("body") if root.tag == "html" else root
    if body is None:
        body = root
    everything = _flow(body, boilerplate=True)
    if whole:
        return everything
    main = _flow(body, boilerplate=False)
    left = len(main.text)
    if left < _LEAST_MAIN_CHARACTERS or left < _LEAST_MAIN_SHARE * len(everything.text):
        return everything
    return main


def without_tags(text: str) -> Flow:
    """The words between the tags, for what can't be parsed."""
    flow = Flow()
    for piece in _TAG.split(_NO_TEXT.sub(" ", clean(text))):
        flow.words(unescape(piece))
        flow.line()
    flow.finish()
    return flow


def _decode(content: bytes, content_type: str, answer: Answer) -> tuple[str, str]:
    """By byte order mark, by the header of its transport, by its own word, by its looks; in this order, as browsers do."""
    if (marked := marked_encoding(content)) is not None:
        return content.decode(marked, "replace"), marked
    header = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", content_type, re.IGNORECASE)
    own = _META_CHARSET.search(content[:4096])
    for name in (header[1] if header else None, own[1].decode("ascii") if own else None):
        if name is None:
            continue
        label = (
            "cp1252"
            if name.lower() in ("iso-8859-1", "latin-1", "latin1", "us-ascii", "ascii")
            else name.lower()
        )
        try:
            return content.decode(label), label
        except (LookupError, UnicodeDecodeError):
            continue
    return decode_leniently(content, answer)


def _read_head(root: Any, answer: Answer) -> None:
    metas = {
        (meta.get("property") or meta.get("name") or "").lower(): meta.get("content") or ""
        for meta in root.iter("meta")
    }
    title = root.find(".//title")
    answer.title = metas.get("og:title") or (title.text_content() if title is not None else None) or None
    answer.language = _language(
        root.get("lang") or root.get("{http://www.w3.org/XML/1998/namespace}lang") or ""
    )
    canonical = next(
        (link.get("href") for link in root.iter("link") if (link.get("rel") or "").lower() == "canonical"),
        None,
    )
    answer.add(
        description=metas.get("description") or metas.get("og:description"),
        author=metas.get("author"),
        published=metas.get("article:published_time") or metas.get("date"),
        site=metas.get("og:site_name"),
        canonical_url=canonical,
    )


def _language(tag: str) -> str | None:
    code = tag.replace("_", "-").partition("-")[0].strip().lower()
    return code if 2 <= len(code) <= 3 and code.isalpha() and code.isascii() else None


def _flow(body: Any, *, boilerplate: bool) -> Flow:
    """Walk the tree without recursion: hostile pages are nested a hundred thousand deep."""
    flow = Flow()
    skipped = preformatted = 0
    for event, element in etree.iterwalk(body, events=("start", "end")):
        tag = element.tag
        if not isinstance(tag, str):
            if event == "end" and not skipped:
                flow.words(element.tail or "")
            continue
        if event == "start":
            if skipped or _left_out(element, tag, boilerplate=boilerplate):
                skipped += 1
                continue
            preformatted += tag == "pre"
            _open(flow, element, tag)
            flow.words(element.text or "", preformatted=preformatted > 0)
        else:
            if skipped:
                skipped -= 1
            else:
                _close(flow, tag)
                preformatted -= tag == "pre"
            if not skipped and element is not body:
                flow.words(element.tail or "", preformatted=preformatted > 0)
    flow.finish()
    return flow


def _left_out(element: Any, tag: str, *, boilerplate: bool) -> bool:
    """Whether an element is never text, is hidden, or (unless `boilerplate` is wanted) is what a site repeats."""
    if tag in _NEVER or element.get("hidden") is not None or _HIDDEN_STYLE.search(element.get("style") or ""):
        return True
    if boilerplate:
        return False
    if tag in _BOILERPLATE_TAGS or (element.get("role") or "").lower() in _BOILERPLATE_ROLES:
        return True
    if tag not in ("div", "section", "ul", "ol", "header", "table", "p", "span"):
        return False
    return _BOILERPLATE_NAMES.search(f"{element.get('id') or ''} {element.get('class') or ''}") is not None


def _open(flow: Flow, element: Any, tag: str) -> None:
    if tag in ("td", "th"):
        flow.cell()
    elif tag == "tr":
        flow.row()
    elif tag == "table":
        flow.table(layout=_is_layout(element))
    elif tag == "br":
        flow.line()
    elif tag == "li":
        flow.item(_marker(element))
    elif tag in _HEADINGS:
        flow.heading(_HEADINGS[tag])
    elif tag in _PARAGRAPHS:
        flow.paragraph()
    elif tag in _BLOCKS:
        flow.line()
    elif tag == "img" and (alternative := (element.get("alt") or "").strip()):
        flow.words(f" {alternative} ")


def _is_layout(table: Any) -> bool:
    """Whether a table arranges a page: another table or a heading is in it, or its first row has but one cell."""
    if (table.get("role") or "").lower() in ("presentation", "none"):
        return True
    cells = rows = 0
    for element in table.iter():
        if element is not table and element.tag in ("table", "h1", "h2", "h3", "main", "article"):
            return True
        rows += element.tag == "tr"
        cells += element.tag in ("td", "th")
    return cells <= rows


def _close(flow: Flow, tag: str) -> None:
    if tag == "table":
        flow.end_table()
    elif tag in _HEADINGS:
        flow.end_heading()
    elif tag in _PARAGRAPHS:
        flow.paragraph()
    elif tag in _BLOCKS:
        flow.line()


def _marker(element: Any) -> str:
    parent = element.getparent()
    if parent is None or parent.tag != "ol":
        return "-"
    # Counting siblings for each item is quadratic in long lists, so only the first thousand have their number.
    place = 1
    for _ in zip(range(1_000), _items_before(element), strict=False):
        place += 1
    return f"{place}." if place < 1_000 else "-"


def _items_before(element: Any) -> Iterator[Any]:
    return (sibling for sibling in element.itersiblings(preceding=True) if sibling.tag == "li")
