"""Opaque ids: a type prefix and 26 URL-safe characters that sort by creation time (ULID layout).

48 bits of milliseconds followed by 80 random bits, in Crockford's base 32, lower case: `doc_01jd3v7q2m…`.
"""

import re
import secrets
import time
from enum import StrEnum
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_MOMENT_SHIFTS: Final = range(40, -1, -10)
_RANDOM_DIGITS: Final = 16
_DIGIT_OF_BYTE: Final = bytes(ord(_ALPHABET[byte & 31]) for byte in range(256))
"""Five random bits of each byte: to look for them in eights takes six times as long."""

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Prefix(StrEnum):
    ORGANIZATION = "org"
    USER = "user"
    API_KEY = "key"
    INVITATION = "inv"
    LOGIN = "login"
    COLLECTION = "col"
    SESSION_FILES = "sfc"
    """A collection of the files of one session."""
    DOCUMENT = "doc"
    CHUNK = "chk"
    SESSION = "sess"
    MESSAGE = "msg"
    REBUILD = "rbd"
    EVALUATION_SET = "eset"
    EVALUATION = "eval"
    BOT = "bot"
    BOT_VERSION = "botv"
    SHARE = "shr"
    BUDGET = "budget"


def new(prefix: Prefix) -> str:
    """A fresh id of one type, for example `doc_01jd3v7q2mzt5w0c9h6k8n4r3x`."""
    return several(prefix, 1)[0]


def several(prefix: Prefix, count: int) -> list[str]:
    """So many of one moment; to ask for their random bits at once takes a fourth of the time."""
    milliseconds = time.time_ns() // 1_000_000
    moment = f"{prefix}_{''.join([_PAIRS[milliseconds >> shift & 1023] for shift in _MOMENT_SHIFTS])}"
    digits = secrets.token_bytes(_RANDOM_DIGITS * count).translate(_DIGIT_OF_BYTE).decode("ascii")
    return [
        moment + digits[start : start + _RANDOM_DIGITS] for start in range(0, len(digits), _RANDOM_DIGITS)
    ]


FIRST_OF_SESSIONS: Final = f"{Prefix.SESSION_FILES}_"
"""The ids of the collections of sessions' files, and of no others, are not less than this; the database sees to it."""


def is_of_session(collection_id: str) -> bool:
    """Whether a collection is that of a session's files."""
    return collection_id >= FIRST_OF_SESSIONS


def new_storage_key() -> str:
    """The name of a stored file: 128 random bits, and nothing of what its sender called it."""
    return secrets.token_hex(16)


def new_request_id() -> str:
    return secrets.token_hex(12)


def is_request_id(value: str) -> bool:
    """Whether a client's own request id may be taken over into answers and logs."""
    return _REQUEST_ID.fullmatch(value) is not None
