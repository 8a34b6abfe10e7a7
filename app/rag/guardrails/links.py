"""No image and no foreign link leaves an answer: what a poisoned document can make a model write is shown as plain text.

A link may point only at an address that stands in a source that was given. Everything that a renderer of Markdown or HTML
would fetch or make clickable is found as it will be read: without invisible characters, with look-alike letters as those that
they look like, relative and escaped addresses too. The filter works on a stream and holds back an unfinished construct alone.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Final

REMOVED: Final = "⟨link⟩"
_CUT_PATH: Final = "/…"

# Zero-width space and joiner, soft hyphen, directions, variation selectors of tags: nobody sees them.
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\U000e0000-\U000e0fff]"
    # Joiners that Persian, Indic scripts and emoji need have no business beside ASCII.
    "|[\u200c\u200d](?=[!-~])|(?<=[!-~])[\u200c\u200d]"
)
LOOK_ALIKES: Final = {
    **{0xFF01 + offset: 0x21 + offset for offset in range(94)},
    **dict(
        zip(map(ord, "аеорсухіјѕһԁԛԝАВЕКМНОРСТХЅІЈ"), map(ord, "aeopcyxijshdqwABEKMHOPCTXSIJ"), strict=True)
    ),
    **dict(zip(map(ord, "οΟΑΒΕΗΙΚΜΝΡΤΧνρ"), map(ord, "oOABEHIKMNPTXvp"), strict=True)),
    **dict(zip(map(ord, "ⅼⅽⅾⅿ։︓：∶⁄∕／․．。｡"), map(ord, "lcdm::::///...."), strict=True)),
}
"""Letter for letter, so that places stay."""
_FULL_STOPS: Final = re.compile("[。｡]")

_URL_END: Final = r"[^\s<>\"'`|{}，。；！？、）】》」』…]"
_SCHEMES: Final = r"(?:https?|ftps?|wss?|file|blob|intent|sftp|ssh|smb|git|chrome|about|view-source)"
_COLON: Final = r"(?::|&colon;|&#0{0,5}58;|&#x0{0,5}3a;)"
_URL: Final = re.compile(
    rf"(?:{_SCHEMES}{_COLON}(?:\\?[/\\]|&sol;|&#47;)+|(?<![A-Za-z0-9])www\d?\.(?=[A-Za-z0-9])"
    rf"|(?<![A-Za-z0-9:/.\\])//(?=[A-Za-z0-9\-]+\.[A-Za-z]))" + _URL_END + "{1,2000}+"
    rf"|(?<![A-Za-z])(?:(?:javascript|vbscript|livescript){_COLON}|data{_COLON}(?=[a-z]+/|[;,]|base64))"
    + _URL_END
    + "{0,2000}+",
    re.IGNORECASE,
)
_FOREIGN_SCHEME: Final = re.compile(r"(?!https?://)[a-z\-]+:|//", re.IGNORECASE)
_AFTER_URL: Final = ".,;:!?*_~)]}'\""
# A host alone is a name ("Booking.com"); with a path or a question it is an address, of which the name may stay.
_HOST: Final = r"(?<![A-Za-z0-9@\-/])(?:[A-Za-z0-9\-]{1,63}\.){1,5}[A-Za-z]{2,18}(?::\d{2,5})?"
_PATH: Final = re.compile(rf"{_HOST}([/?#](?=[A-Za-z0-9%?_=\-]){_URL_END}{{0,2000}}+)", re.IGNORECASE)
_IMAGE: Final = re.compile(r"!(?=\[(?!\d{1,4}\](?![(\[])))")
_DESTINATION: Final = re.compile(
    r"\]\((?:((?:[^()\\]|\\.|\((?:[^()\\]|\\.){0,500}\)){0,2000}+)\))?", re.DOTALL
)
_DEFINITION: Final = re.compile(r"^([ \t>*+\-\d.)!]{0,24}\[[^\]]{1,999}\]):", re.MULTILINE)
_LINE_MARKS: Final = re.compile(r"[ \t>*+\-\d.)!]{0,24}")
_TAG: Final = re.compile(r"<(?:[A-Za-z/!?][^<>]{0,2000}+|[^\s<>@]{1,64}+@[^\s<>@]{1,255}+)>")
_MAIL: Final = re.compile(r"[^\s<>@/:]{1,64}@[^\s<>@/:]{1,255}")
_HARMLESS_TAG: Final = re.compile(r"</?([A-Za-z][A-Za-z0-9_.]{0,30})>")
_LINE_BREAK: Final = re.compile(r"\r\n|\r(?!\Z)")
"""That are none of ours; what ends a piece may be half of one."""
_RISKY_BEFORE: Final = frozenset("<![]().:/\\&#;")
"""What might become one with what stands behind a tag that is taken out."""
_OPEN_TAG: Final = re.compile(r"<(?=[A-Za-z/!?])")
_ELEMENTS: Final = frozenset(
    "a abbr address area article aside audio b base bdi bdo big blink blockquote body br button canvas caption center cite code"
    " col data datalist dd del details dfn dialog dir div dl dt em embed fieldset figcaption figure font footer form frame"
    " frameset h1 h2 h3 h4 h5 h6 head header hr html i iframe image img input ins kbd keygen label legend li link main map mark"
    " marquee math menu menuitem meta meter nav noembed noframes noscript object ol optgroup option output p param picture"
    " plaintext portal pre progress q rb rp rt ruby s samp script search section select slot small source span strike strong"
    " style sub summary sup svg table tbody td template textarea tfoot th thead time title tr track tt u ul var video wbr xmp"
    " foreignobject use animate set".split()
)
_INLINE: Final = frozenset(
    "a abbr acronym b bdi bdo big cite code del dfn em font i ins kbd label mark q s samp small span strike strong sub sup tt u"
    " var wbr".split()
)
"""Elements within words and lines; the others end them."""
_NAME: Final = re.compile(r"</?([A-Za-z][A-Za-z0-9]*)")

_MOST_HELD: Final = 2_100
_STARTS: Final = (
    *(
        "https://",
        "http://",
        "ftp://",
        "ftps://",
        "wss://",
        "ws://",
        "file://",
        "blob:http",
        "sftp://",
        "ssh://",
        "smb://",
    ),
    *(
        "git://",
        "chrome://",
        "intent://",
        "about:",
        "view-source:",
        "www.",
        "javascript:",
        "vbscript:",
        "livescript:",
        "data:",
    ),
)
_PREFIXES: Final = frozenset(start[:length] for start in _STARTS for length in range(1, len(start))) | {"/"}
_LAST_WORD: Final = re.compile(r"(?:[A-Za-z][A-Za-z\-]{0,12}(?:[:&][/\\]{0,2})?|//?)\Z")
_UNFINISHED: Final = re.compile(
    r"\](?:\((?:[^()\\]|\\.|\((?:[^()\\]|\\.)*\)?)*\\?)?\Z"  # a link's destination
    r"|<(?:[A-Za-z/!?][^<>]*|[^\s<>]*)\Z"  # a tag, or an address within its brackets
    r"|!(?:\[\d{0,4}\]?)?\Z"  # an image
    r"|^[ \t>*+\-\d.)!]{0,24}\[[^\]]{0,999}\]?\Z"  # a definition
    rf"|(?:{_SCHEMES}(?::|&)|www\d?\.|//|(?<![A-Za-z])(?:javascript|vbscript|livescript|data)(?::|&)){_URL_END}*\Z"
    "|[\u200c\u200d\r]\\Z",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
_UNFINISHED_PATH: Final = re.compile(rf"{_HOST}([/?#]{_URL_END}*)\Z", re.IGNORECASE)
_MAY_BE_URL: Final = re.compile(r"[:/?#&]|[wW]{3}")
_CONTEXT_CHARACTERS: Final = 80
_TELLING: Final = re.compile(r"[\[\]<!:/?#&\r]|[wW]{3}|[^\x00-\x7f]")


class LinkGuard:
    """Lets an answer through with its images and foreign links made harmless; counts what it removed by kind."""

    def __init__(self, source_texts: Sequence[str] = ()) -> None:
        """`source_texts` are those whose addresses may be linked: of passages, and where documents came from."""
        self._source_texts = source_texts
        self._held = ""
        self._context = "\n"
        self.removed: Counter[str] = Counter()

    def feed(self, delta: str) -> str:
        """The part of the answer that can't change any more."""
        text = self._held + delta
        if not self._held and self._context[-1] != "]" and not _TELLING.search(text):
            word = _LAST_WORD.search(text)
            if word is None or word[0].lower() not in _PREFIXES:
                return self._shown(text)
        text = self._without_tags(_LINE_BREAK.sub("\n", _INVISIBLE.sub("", text)))
        cut = _safe_end(self._context, text)
        text, self._held = text[:cut], text[cut:]
        return self._shown(self._cleaned(text))

    def flush(self) -> str:
        """What was still held back when the answer ended."""
        text, self._held = _INVISIBLE.sub("", self._held).replace("\r", "\n"), ""
        return self._shown(self._cleaned(self._without_tags(text)))

    def _shown(self, text: str) -> str:
        if text:
            self._context = (self._context + text)[-_CONTEXT_CHARACTERS:]
        return text

    def _cleaned(self, text: str) -> str:
        if not text:
            return text
        text, images = _IMAGE.subn("", text)
        self._count("image", images)
        if self._context.endswith("]") and text.startswith(("(", ":")):
            text = f" {text}"  # what it once belonged to was taken out
        text = _DESTINATION.sub(self._destination, text)
        text = self._without_definitions(text)
        text = _OPEN_TAG.sub("&lt;", text) if _OPEN_TAG.search(_HARMLESS_TAG.sub("", text)) else text
        return self._without_urls(text)

    def _destination(self, match: re.Match[str]) -> str:
        if match[1] is None:
            return "] ("
        written = match[1].strip()
        address = (
            written[1:].partition(">")[0]
            if written.startswith("<")
            else (written.split(maxsplit=1) or [""])[0]
        )
        if self._is_allowed(address):
            return match[0]
        self._count("link")
        return "] " if match.string.startswith(("(", ":"), match.end()) else "]"

    def _without_definitions(self, text: str) -> str:
        if "]:" not in text:
            return text
        # What stands in the middle of a line, after what was let through, begins none.
        line = self._context.rpartition("\n")[2]
        start = 0 if _LINE_MARKS.fullmatch(line) else text.find("\n") + 1 or len(text)
        return text[:start] + _DEFINITION.sub(r"\1 :", text[start:])

    def _without_tags(self, text: str) -> str:
        """First of all, since what stands on both sides of a tag may become one."""
        return _TAG.sub(self._tag, text) if "<" in text else text

    def _tag(self, match: re.Match[str]) -> str:
        address = match[0][1:-1]
        if _URL.match(address) and self._is_allowed(address):
            return address
        before = match.string[match.start() - 1] if match.start() else self._context[-1]
        if _MAIL.fullmatch(address):
            return f" {address}" if before in _RISKY_BEFORE else address
        harmless = _HARMLESS_TAG.fullmatch(match[0])
        if harmless and harmless[1].lower() not in _ELEMENTS:
            return match[0]
        if _URL.match(address):
            self._count("link")
            return REMOVED
        self._count("tag")
        name = _NAME.match(match[0])
        is_within_words = name is not None and name[1].lower() in _INLINE
        # A tag before it has been seen to already.
        is_apart = before.isspace() or before == ">"
        return "" if is_apart or (is_within_words and before not in _RISKY_BEFORE) else " "

    def _without_urls(self, text: str) -> str:
        if text.isascii() and not _MAY_BE_URL.search(text):
            return text
        text = self._replaced(_URL, text, 0, REMOVED)
        return self._replaced(_PATH, text, 1, _CUT_PATH)

    def _replaced(self, pattern: re.Pattern[str], text: str, group: int, by: str) -> str:
        """With addresses replaced, also those that begin in what was let through already."""
        before = len(self._context)
        whole = self._context + text
        pieces: list[str] = []
        position = before
        for match in pattern.finditer(_as_read(whole)):
            start, end = match.span(group)
            address = whole[match.start() : end]
            bare = address.rstrip(_AFTER_URL)
            end = match.start() + len(bare)
            if end <= position or start >= end or self._is_allowed(bare) or self._is_allowed(address):
                continue
            self._count("link")
            pieces += whole[position : max(position, start)], by
            position = end
        return "".join((*pieces, whole[position:]))

    def _is_allowed(self, address: str) -> bool:
        return bool(address) and _normalized(address) in self._allowed

    @cached_property
    def _allowed(self) -> frozenset[str]:
        found: set[str] = set()
        for text in self._source_texts:
            for match in (*_URL.finditer(text), *_PATH.finditer(text)):
                found.update((_normalized(match[0]), _normalized(match[0].rstrip(_AFTER_URL))))
        return frozenset(address for address in found if not _FOREIGN_SCHEME.match(address))

    def _count(self, kind: str, times: int = 1) -> None:
        if times:
            self.removed[kind] += times


def _as_read(text: str) -> str:
    """Look-alikes as what they look like, each in its place; a full stop of Chinese prose stays one."""
    if text.isascii():
        return text
    prose = {
        match.start()
        for match in _FULL_STOPS.finditer(text)
        if not text[match.end() : match.end() + 1].isascii()
    }
    read = text.translate(LOOK_ALIKES)
    read = "".join(text[place] if place in prose else character for place, character in enumerate(read))
    return read if read.isascii() else "".join(map(_plain, read))


def _plain(character: str) -> str:
    """Mathematical and other letters that are ASCII underneath."""
    if character.isascii():
        return character
    folded = unicodedata.normalize("NFKC", character)
    return folded if len(folded) == 1 and folded.isascii() else character


def _normalized(address: str) -> str:
    """As addresses are compared: scheme and host in lower case, no slash at the end."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}{separator}{host.lower()}{slash}{path}".rstrip("/")


def _safe_end(context: str, text: str) -> int:
    """Up to where no construct begins that has not ended yet."""
    start = max(0, len(text) - _MOST_HELD)
    read = _as_read(text[start:])
    cut = len(read)
    ended = max((match.end() for match in _DESTINATION.finditer(read) if match[1] is not None), default=0)
    if unfinished := _UNFINISHED.search(read, ended):
        cut = unfinished.start()
    word = _LAST_WORD.search(read)
    if word and word[0].lower() in _PREFIXES:
        cut = min(cut, word.start())
    path = _UNFINISHED_PATH.search(context + read) if _MAY_BE_URL.search(read) else None
    if path and path.start(1) - len(context) >= ended:
        cut = min(cut, max(0, path.start(1) - len(context)))
    return len(text) if len(read) - cut >= _MOST_HELD else start + cut
