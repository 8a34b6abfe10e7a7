"""Bytes to text, in whatever encoding they are."""

import re
from typing import TYPE_CHECKING, Final

from app.core.errors import Invalid

if TYPE_CHECKING:
    from charset_normalizer import CharsetMatch

_BYTE_ORDER_MARKS: Final = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_LEGACY_ENCODINGS: Final = (
    "cp1252 cp1250 cp1251 cp1253 cp1254 cp1255 cp1256 gb18030 big5 cp932 euc_jp cp949 koi8_r".split()
)
"""Those that files are found in; with all that exist, a short text is taken for the strangest of them."""

_CENTRAL_EUROPEAN: Final = frozenset("Polish Czech Slovak Hungarian Slovene Croatian Romanian".split())
_SIGN_WITHIN_A_WORD: Final = re.compile(r"[^\W\d_][^\w\s’\x00-\x7f][^\W\d_]")
_OTHER_SCRIPT: Final = re.compile("[\u0370-\u06ff]{3}|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")


class EncodingUnknown(Invalid):
    """The file is no text in an encoding that is recognised: save it as UTF-8, or leave it out."""


def decode(content: bytes) -> tuple[str, str]:
    """The text without a byte order mark, and the encoding that it was in.

    Unicode is recognised with certainty, older encodings from how the text would read. Raises EncodingUnknown.
    """
    encoding = marked_encoding(content)
    if encoding is None and b"\0" in content:
        encoding = _unmarked_utf16(content)
    try:
        return content.decode(encoding or "utf-8"), encoding or "utf-8"
    except UnicodeDecodeError:
        if encoding is not None:
            raise EncodingUnknown from None
    # Loaded where it is needed: it takes longer than most files to read.
    from charset_normalizer import from_bytes

    match = from_bytes(content, cp_isolation=_LEGACY_ENCODINGS).best()
    if _reads_as_western(content, match):
        return content.decode("cp1252"), "cp1252"
    if match is None:
        raise EncodingUnknown
    return str(match), match.encoding


def marked_encoding(content: bytes) -> str | None:
    """The encoding that a byte order mark names."""
    return next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), None)


def _unmarked_utf16(content: bytes) -> str:
    """Which byte of a pair is zero in blanks, digits and Latin letters. Raises EncodingUnknown for binary files."""
    even, odd = content[0::2].count(0), content[1::2].count(0)
    if len(content) % 2 or min(even, odd) * 20 > max(even, odd):
        raise EncodingUnknown
    return "utf-16-le" if odd > even else "utf-16-be"


def _reads_as_western(content: bytes, match: "CharsetMatch | None") -> bool:
    """With few letters to go by, Western European text is mistaken for another alphabet, or for nothing at all."""
    if match is not None and _is_convincing(match):
        return False
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return not _SIGN_WITHIN_A_WORD.search(text) and not _CONTROL.search(text)


def _is_convincing(match: "CharsetMatch") -> bool:
    if match.encoding in ("cp1252", "cp1254"):
        return True
    if match.encoding == "cp1250":
        return not _CENTRAL_EUROPEAN.isdisjoint(match.languages[:2])
    return _OTHER_SCRIPT.search(str(match)) is not None
