"""The kinds of personal data that are recognised, and where in a text one was found."""

from enum import StrEnum
from typing import NamedTuple


class PiiKind(StrEnum):
    """What a piece of personal data is; the value is its name in settings, counts and placeholders."""

    EMAIL = "email"
    PHONE = "phone"
    CARD = "card"
    IBAN = "iban"
    NATIONAL_ID = "national_id"
    API_KEY = "api_key"
    IP_ADDRESS = "ip_address"


class Finding(NamedTuple):
    """Personal data at a half-open range of code points."""

    start: int
    end: int
    kind: PiiKind
