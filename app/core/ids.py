"""Opaque ids: a type prefix and 26 URL-safe characters that sort by creation time (ULID layout).

48 bits of milliseconds followed by 80 random bits, in Crockford's base 32, lower case: `doc_01jd3v7q2m…`.
"""

import re
import secrets
import time
from enum import StrEnum
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH: Final = 26

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Prefix(StrEnum):
    ORGANIZATION = "org"
    USER = "user"
    API_KEY = "key"
    INVITATION = "inv"
    LOGIN = "login"
    COLLECTION = "col"
    DOCUMENT = "doc"
    CHUNK = "chk"
    SESSION = "sess"
    MESSAGE = "msg"
    BUDGET = "budget"


def new(prefix: Prefix) -> str:
    """A fresh id of one type, for example `doc_01jd3v7q2mzt5w0c9h6k8n4r3x`."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    characters = [""] * _LENGTH
    for position in range(_LENGTH - 1, -1, -1):
        characters[position] = _ALPHABET[value & 31]
        value >>= 5
    return f"{prefix}_{''.join(characters)}"


def new_storage_key() -> str:
    """The name of a stored file: 128 random bits, and nothing of what its sender called it."""
    return secrets.token_hex(16)


def new_request_id() -> str:
    return secrets.token_hex(12)


def is_request_id(value: str) -> bool:
    """Whether a client's own request id may be taken over into answers and logs."""
    return _REQUEST_ID.fullmatch(value) is not None
