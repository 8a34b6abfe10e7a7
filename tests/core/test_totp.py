"""One-time passwords by the RFC's own examples."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from app.core import totp

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # the 20 bytes of RFC 6238, appendix B


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_the_codes_are_those_of_the_rfc(seconds: int, code: str) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)

    assert totp.matching_step(SECRET, code, now=moment) == seconds // 30
    assert totp.matching_step(SECRET, f"{code[:3]} {code[3:]}", now=moment) == seconds // 30


def test_a_clock_may_be_one_step_off_and_not_two() -> None:
    moment = datetime.fromtimestamp(1111111109, UTC)

    for steps, accepted in ((-2, False), (-1, True), (1, True), (2, False)):
        now = moment + timedelta(seconds=30 * steps)
        assert (totp.matching_step(SECRET, "081804", now=now) is not None) is accepted


@pytest.mark.parametrize(
    "code", ["", "28708", "2870822", "28708a", "٢٨٧٠٨٢", "-28708", "28708\n", "287082\n"]
)
def test_what_is_no_code_matches_nothing(code: str) -> None:
    assert totp.matching_step(SECRET, code, now=datetime.fromtimestamp(59, UTC)) is None


def test_a_secret_has_160_bits_and_is_never_the_same() -> None:
    assert len(totp.new_secret()) == 32
    assert totp.new_secret() != totp.new_secret()


def test_the_address_and_its_picture_are_for_an_app() -> None:
    uri = totp.provisioning_uri(SECRET, account="a@example.com")

    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc, unquote(parts.path)) == ("otpauth", "totp", "/Ibid:a@example.com")
    assert parse_qs(parts.query) == {"secret": [SECRET], "issuer": ["Ibid"]}
    assert totp.qr_code(uri).startswith("data:image/svg+xml")
