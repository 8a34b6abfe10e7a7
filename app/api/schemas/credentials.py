"""Fields that the requests of accounts share. Passwords and tokens are secrets: no `repr` and no error shows them."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr

from app.api.schemas.base import CleanText

_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]+\.[^@\s\x00-\x1f]+")


def _address(value: str) -> str:
    address = value.strip().lower()
    if not _EMAIL.fullmatch(address):
        raise ValueError("not an e-mail address")
    return address


def _possible_password(value: SecretStr) -> SecretStr:
    if "\0" in value.get_secret_value():
        raise ValueError("a password can't contain the NUL character")
    return value


Email = Annotated[str, Field(max_length=320, examples=["aisyah@example.com"]), AfterValidator(_address)]
NewPassword = Annotated[SecretStr, Field(min_length=10, max_length=256), AfterValidator(_possible_password)]
Password = Annotated[SecretStr, Field(min_length=1, max_length=256)]
Name = Annotated[CleanText, Field(max_length=200)]
Code = Annotated[
    str, Field(min_length=1, max_length=40, description="The app's six digits, or a recovery code.")
]
OneTimeTokenText = Annotated[SecretStr, Field(min_length=1, max_length=200)]
