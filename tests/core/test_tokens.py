"""Access tokens: every way to forge one that is known to have worked somewhere."""

import base64
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest

from app.core import clock, crypto, security, tokens
from app.core.errors import TokenExpired, Unauthenticated
from app.core.tokens import AccessClaims

KEYRING = crypto.keyring("k" * 40)
KEY = KEYRING.signing_keys[0]
CLAIMS = AccessClaims("user_1", "org_1", "login_1")


def payload(**changes: Any) -> dict[str, Any]:
    """The payload of a good token with changes; a change to None leaves the claim out."""
    good = jwt.decode(
        tokens.issue(KEYRING, CLAIMS, lifetime=timedelta(minutes=5)), options={"verify_signature": False}
    )
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(claims: dict[str, Any], *, key: bytes = KEY, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_a_token_says_who_it_is_of() -> None:
    assert tokens.read(KEYRING, tokens.issue(KEYRING, CLAIMS, lifetime=timedelta(minutes=5))) == CLAIMS
    assert tokens.read(KEYRING, signed(payload())) == CLAIMS


def test_two_tokens_are_never_the_same() -> None:
    made = {tokens.issue(KEYRING, CLAIMS, lifetime=timedelta(minutes=5)) for _ in range(10)}

    assert len(made) == 10


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "HS512", "RS256", ""])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_the_token_does_not_choose_how_it_is_verified(algorithm: str, signature: str) -> None:
    forged = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(payload())}.{signature}"

    with pytest.raises(Unauthenticated):
        tokens.read(KEYRING, forged)


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_the_right_key_with_another_algorithm_is_refused(algorithm: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.read(KEYRING, signed(payload(), algorithm=algorithm))


def test_another_key_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        tokens.read(KEYRING, signed(payload(), key=b"x" * 32))
    with pytest.raises(Unauthenticated):
        tokens.read(KEYRING, signed(payload(), key=b"k" * 40))  # the secret key itself signs nothing


@pytest.mark.parametrize("claim", ["exp", "iat", "sub", "aud", "iss", "jti", "typ", "org", "sid"])
def test_every_claim_is_needed(claim: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.read(KEYRING, signed(payload(**{claim: None})))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another"},
        {"aud": ["ibid-api", "another"]},
        {"iss": "another"},
        {"typ": "refresh"},
        {"typ": ["access"]},
        {"org": 5},
        {"sid": {"a": 1}},
        {"sub": 7},
        {"iat": "yesterday"},
        {"exp": "never"},
        {"nbf": 2**40},
    ],
)
def test_a_claim_of_another_value_or_type_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        tokens.read(KEYRING, signed(payload(**changes)))


def test_an_expired_token_says_so_and_only_when_it_is_ours() -> None:
    past = int(clock.now().timestamp()) - 10

    with pytest.raises(TokenExpired):
        tokens.read(KEYRING, signed(payload(exp=past)))
    with pytest.raises(Unauthenticated) as refused:
        tokens.read(KEYRING, signed(payload(exp=past), key=b"x" * 32))
    assert not isinstance(refused.value, TokenExpired)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_tampered_token_is_refused(place: int) -> None:
    parts = signed(payload()).split(".")
    middle = len(parts[place]) // 2
    changed = "A" if parts[place][middle] != "A" else "B"
    parts[place] = parts[place][:middle] + changed + parts[place][middle + 1 :]

    with pytest.raises(Unauthenticated):
        tokens.read(KEYRING, ".".join(parts))


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "é.é.é", "x" * 100_000, "a" * 500 + "." * 500])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.read(KEYRING, text)


def test_a_header_that_brings_its_own_key_is_refused() -> None:
    header = {"alg": "HS256", "typ": "JWT", "jwk": {"kty": "oct", "k": "eA"}, "kid": "../../dev/null"}
    forged = jwt.encode(payload(), b"x" * 32, algorithm="HS256", headers=header)

    with pytest.raises(Unauthenticated):
        tokens.read(KEYRING, forged)


def test_tokens_of_the_old_key_are_read_until_it_is_dropped() -> None:
    old = tokens.issue(KEYRING, CLAIMS, lifetime=timedelta(minutes=5))
    both = crypto.keyring(f"{'n' * 40},{'k' * 40}")

    assert tokens.read(both, old) == CLAIMS
    assert tokens.read(both, tokens.issue(both, CLAIMS, lifetime=timedelta(minutes=5))) == CLAIMS
    with pytest.raises(Unauthenticated):
        tokens.read(KEYRING, tokens.issue(both, CLAIMS, lifetime=timedelta(minutes=5)))


def test_the_hash_of_nobodys_password_costs_what_every_hash_costs() -> None:
    assert security.NO_PASSWORD.split("$")[:4] == security.hash_password("any").split("$")[:4]
    assert not security.verify_password("any", security.NO_PASSWORD)


@pytest.mark.parametrize("password", ["", "a\0b", "x" * 100_000, "\ud800"])
def test_a_password_that_can_be_none_matches_nothing(password: str) -> None:
    assert not security.verify_password(password, security.NO_PASSWORD)
