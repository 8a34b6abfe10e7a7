"""API keys, passwords, one-time tokens and recovery codes: how they are made, hashed and compared.

A key is `ibid_<public part>_<secret>`: the public part finds the row, the secret (256 bits) proves it. A secret
of that entropy needs no slow hash, so SHA-256 is stored; passwords get argon2id.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

from passlib.hash import argon2

_KEY: Final = re.compile(r"ibid_(?P<public>[0-9a-f]{12})_(?P<secret>[A-Za-z0-9]{43})")
_ALPHANUMERIC: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_argon2id: Final = argon2.using(type="ID", time_cost=2, memory_cost=19456, parallelism=1)
NO_PASSWORD: Final = (
    "$argon2id$v=19$m=19456,t=2,p=1$yFkrhdB6T6mVsrbW2luL0Q$VYIoiMoF9O23tNQg8SCkIICSDhjdy5XCDIhpzvldmUw"  # noqa: S105 a hash, of nothing
)
"""A hash that nothing is known to match: for accounts without a password, and to spend the same time on no account."""

_RECOVERY_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_RECOVERY_GROUPS: Final = 4


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key in the clear; exists only while it is made or checked."""

    public: str
    secret: str = field(repr=False)

    def __str__(self) -> str:
        return f"ibid_{self.public}_{self.secret}"

    @property
    def secret_hash(self) -> str:
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def matches(self, stored_hash: str) -> bool:
        return hmac.compare_digest(self.secret_hash, stored_hash)


def new_api_key() -> ApiKey:
    """43 alphanumeric characters carry 256 bits; no separator within, so a double click selects the secret."""
    return ApiKey(secrets.token_hex(6), "".join(secrets.choice(_ALPHANUMERIC) for _ in range(43)))


def parse_api_key(text: str) -> ApiKey | None:
    """The key in a header's value, or None when it has not the shape of one."""
    match = _KEY.fullmatch(text.strip())
    return ApiKey(match["public"], match["secret"]) if match else None


def new_password() -> str:
    return secrets.token_urlsafe(15)


def hash_password(password: str) -> str:
    """argon2id with t=2, m=19 MiB, p=1: about 20 ms of CPU; call it in a thread."""
    return str(_argon2id.hash(password))


def verify_password(password: str, stored_hash: str) -> bool:
    """As slow as `hash_password`; call it in a thread. A password that can't be one matches nothing."""
    try:
        return bool(_argon2id.verify(password, stored_hash))
    except ValueError:  # a NUL, a lone surrogate, or longer than the library takes
        return False


def new_token() -> str:
    """A one-time or refresh token: 256 bits, URL-safe."""
    return secrets.token_urlsafe(32)


def new_recovery_code() -> str:
    """80 bits in four groups that a person can copy from paper: `k3m9-x0ra-77qd-z2hc`."""
    return "-".join(
        "".join(secrets.choice(_RECOVERY_ALPHABET) for _ in range(4)) for _ in range(_RECOVERY_GROUPS)
    )


def token_hash(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def recovery_code_hash(code: str) -> str:
    """What is stored of a recovery code: however it was spaced or capitalised."""
    return token_hash("".join(character for character in code.lower() if character.isalnum()))
