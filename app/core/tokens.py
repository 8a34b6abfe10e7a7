"""Access tokens: short-lived JWTs that name a user and the login they belong to.

A token proves who asks, not what they may do: role and state are read from the database on every request.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

import jwt

from app.core import clock
from app.core.crypto import Keyring
from app.core.errors import TokenExpired, Unauthenticated

_ALGORITHM: Final = "HS256"
_ISSUER: Final = "ibid"
_AUDIENCE: Final = "ibid-api"
_REQUIRED: Final = ("exp", "iat", "sub", "aud", "iss", "jti", "typ", "org", "sid")
_MAX_CHARACTERS: Final = 2000
_LEEWAY_SECONDS: Final = 5
"""How far the clocks of two replicas may differ."""


class Purpose(StrEnum):
    """What a token is for: the API, or the cookie of the admin tables. One never serves as the other."""

    API = "access"
    TABLES = "tables"


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What a valid access token says."""

    user_id: str
    organization_id: str
    login_id: str


def issue(
    keyring: Keyring, claims: AccessClaims, *, lifetime: timedelta, purpose: Purpose = Purpose.API
) -> str:
    """An access token, signed with the newest key."""
    now = clock.now()
    payload = {
        "sub": claims.user_id,
        "org": claims.organization_id,
        "sid": claims.login_id,
        "typ": purpose,
        "iss": _ISSUER,
        "aud": _AUDIENCE,
        "jti": secrets.token_urlsafe(12),
        "iat": now,
        "exp": now + lifetime,
    }
    return jwt.encode(payload, keyring.signing_keys[0], algorithm=_ALGORITHM)


def read(keyring: Keyring, token: str, *, purpose: Purpose = Purpose.API) -> AccessClaims:
    """The claims of a token. Raises TokenExpired, or Unauthenticated for anything that is not a token of ours."""
    if len(token) > _MAX_CHARACTERS:
        raise Unauthenticated
    for key in keyring.signing_keys:
        try:
            return _claims(_decode(token, key), purpose)
        except jwt.InvalidSignatureError:
            continue
        except jwt.ExpiredSignatureError as error:
            raise TokenExpired from error
        except jwt.InvalidTokenError as error:
            raise Unauthenticated from error
    raise Unauthenticated


def _decode(token: str, key: bytes) -> Mapping[str, Any]:
    return jwt.decode(
        token,
        key,
        algorithms=[_ALGORITHM],
        audience=_AUDIENCE,
        issuer=_ISSUER,
        leeway=_LEEWAY_SECONDS,
        options={"require": list(_REQUIRED), "strict_aud": True},
    )


def _claims(payload: Mapping[str, Any], purpose: Purpose) -> AccessClaims:
    user_id, organization_id, login_id = payload["sub"], payload["org"], payload["sid"]
    texts = isinstance(organization_id, str) and isinstance(login_id, str)
    if payload["typ"] != purpose or not texts:
        raise Unauthenticated
    return AccessClaims(user_id, organization_id, login_id)
